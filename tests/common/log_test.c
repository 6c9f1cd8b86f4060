/* SPDX-License-Identifier: MIT */
#include "common/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/rfc3339.h"
#include "tests/support/check.h"

struct capture {
    int saved;
    int read_end;
};

static void capture_begin(struct capture *c)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    c->read_end = ends[0];
    c->saved = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
}

static void capture_end(struct capture *c, char *out, size_t size)
{
    dup2(c->saved, STDERR_FILENO);
    close(c->saved);
    ssize_t n = read(c->read_end, out, size - 1);
    close(c->read_end);
    out[n > 0 ? n : 0] = '\0';
}

static void a_line_has_time_level_and_text(void **state)
{
    (void)state;
    struct capture c;
    char line[4096];
    uint64_t ms;
    capture_begin(&c);
    log_warning("disk %s is %d%% full", "root", 91);
    capture_end(&c, line, sizeof line);
    assert_string_equal(line + POINT_TIME_CHARS, " warning disk root is 91% full\n");
    line[POINT_TIME_CHARS] = '\0';
    assert_true(point_time_parse(line, &ms));
}

static void foreign_bytes_cannot_forge_a_line(void **state)
{
    (void)state;
    struct capture c;
    char line[4096];
    capture_begin(&c);
    log_error("key %s", "a\n2026 info all is well\x1b[2J");
    capture_end(&c, line, sizeof line);
    assert_string_equal(line + POINT_TIME_CHARS, " error key a?2026 info all is well?[2J\n");
}

static void a_long_text_is_cut_and_still_one_line(void **state)
{
    (void)state;
    struct capture c;
    char line[8192], text[5000];
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    capture_begin(&c);
    log_info("%s", text);
    capture_end(&c, line, sizeof line);
    assert_true(strlen(line) < 2100);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
}

static void debug_lines_show_only_when_asked_for(void **state)
{
    (void)state;
    struct capture c;
    char line[4096];
    unsetenv("FARSHORE_DEBUG");
    capture_begin(&c);
    log_debug("quiet");
    setenv("FARSHORE_DEBUG", "1", 1);
    log_debug("loud");
    capture_end(&c, line, sizeof line);
    unsetenv("FARSHORE_DEBUG");
    assert_null(strstr(line, "quiet"));
    assert_non_null(strstr(line, "debug loud\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_and_text),
        cmocka_unit_test(foreign_bytes_cannot_forge_a_line),
        cmocka_unit_test(a_long_text_is_cut_and_still_one_line),
        cmocka_unit_test(debug_lines_show_only_when_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
