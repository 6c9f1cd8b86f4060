/* SPDX-License-Identifier: MIT */
#include "tools/output.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void sizes_have_a_unit_that_fits(void **state)
{
    (void)state;
    static const struct {
        uint64_t bytes;
        const char *text;
    } rows[] = {{0, "0 B"},
                {1023, "1023 B"},
                {1024, "1.0 KiB"},
                {1536, "1.5 KiB"},
                {(1 << 20) - 1, "1.0 MiB"},
                {1ull << 30, "1.0 GiB"},
                {UINT64_MAX, "16.0 EiB"}};
    char text[OUTPUT_TEXT_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_format(rows[i].bytes, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void ages_have_a_unit_that_fits(void **state)
{
    (void)state;
    static const struct {
        uint64_t seconds;
        const char *text;
    } rows[] = {{0, "0 s"}, {119, "119 s"}, {120, "2 min"}, {7200, "2 h"}, {172800, "2 d"}};
    char text[OUTPUT_TEXT_MAX];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        age_format(rows[i].seconds, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void a_table_lines_up_and_shows_no_control_characters(void **state)
{
    (void)state;
    static const char *const heads[] = {"NAME", ">SIZE", "LABEL", NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    char out[256] = "";
    FILE *f = fmemopen(out, sizeof out, "w");
    assert_true(table_cell(t, "long-name") && table_cell(t, "%d", 5) && table_cell(t, "x\033[2J"));
    assert_true(table_cell(t, "b") && table_cell(t, "%d", 12345) && table_cell(t, "y"));
    table_print(t, f);
    fclose(f);
    assert_string_equal(out, "NAME        SIZE  LABEL\n"
                             "long-name      5  x?[2J\n"
                             "b          12345  y\n");
}

static void a_table_grows_past_its_first_room(void **state)
{
    (void)state;
    static const char *const heads[] = {"N", NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    char out[4096] = "";
    FILE *f = fmemopen(out, sizeof out, "w");
    for (int i = 0; i < 500; i++)
        assert_true(table_cell(t, "%d", i));
    table_print(t, f);
    fclose(f);
    assert_non_null(strstr(out, "\n499\n"));
}

static void progress_tells_rate_and_time_left(void **state)
{
    (void)state;
    char text[160];
    progress_format("verify", 1 << 20, 4 << 20, 1000000000, text);
    assert_string_equal(text, "verify: 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left");
    progress_format("verify", 0, 4 << 20, 0, text);
    assert_string_equal(text, "verify: 0 B of 4.0 MiB, 0 B/s, ? left");
}

static void progress_says_nothing_to_a_pipe(void **state)
{
    (void)state;
    char out[256] = "";
    FILE *f = tmpfile();
    struct progress p = progress_begin(world_real(), f, "verify");
    progress_show(&p, 1, 2);
    progress_end(&p);
    rewind(f);
    assert_int_equal(fread(out, 1, sizeof out, f), 0);
    fclose(f);
}

static void a_word_is_quoted_for_a_shell_only_where_it_must_be(void **state)
{
    (void)state;
    static const struct {
        const char *word, *quoted;
    } rows[] = {{"file:///srv/far", "file:///srv/far"},
                {"s3://b?region=x&style=path", "'s3://b?region=x&style=path'"},
                {"it's", "'it'\\''s'"},
                {"a b", "'a b'"},
                {"", "''"}};
    char out[64], small[6];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        shell_quote(rows[i].word, out, sizeof out);
        assert_string_equal(out, rows[i].quoted);
    }
    shell_quote("a b c d e f", small, sizeof small);
    assert_int_equal(strlen(small), sizeof small - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_have_a_unit_that_fits),
        cmocka_unit_test(ages_have_a_unit_that_fits),
        cmocka_unit_test(a_table_lines_up_and_shows_no_control_characters),
        cmocka_unit_test(a_table_grows_past_its_first_room),
        cmocka_unit_test(progress_tells_rate_and_time_left),
        cmocka_unit_test(progress_says_nothing_to_a_pipe),
        cmocka_unit_test(a_word_is_quoted_for_a_shell_only_where_it_must_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
