/* SPDX-License-Identifier: MIT */
#include "common/base64.h"

#include "tests/support/check.h"

/* RFC 4648, section 10. */
static const struct {
    const char *plain, *text;
} vectors[] = {{"f", "Zg=="},        {"fo", "Zm8="},        {"foo", "Zm9v"},
               {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};

static void the_vectors_of_the_rfc_are_written_and_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        char text[BASE64_CHARS(6) + 1];
        struct buf plain AUTO_BUF = BUF_NONE;
        base64_write(span_of_text(vectors[i].plain), text);
        assert_string_equal(text, vectors[i].text);
        assert_true(base64_parse(vectors[i].text, &plain));
        assert_true(span_equal(buf_span(&plain), span_of_text(vectors[i].plain)));
    }
}

static void nothing_is_written_as_nothing(void **state)
{
    (void)state;
    char text[1] = {'x'};
    base64_write(span_of(NULL, 0), text);
    assert_string_equal(text, "");
}

static void every_byte_survives(void **state)
{
    (void)state;
    uint8_t bytes[256];
    char text[BASE64_CHARS(sizeof bytes) + 1];
    struct buf back AUTO_BUF = BUF_NONE;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)i;
    base64_write(span_of(bytes, sizeof bytes), text);
    assert_int_equal(strlen(text), BASE64_CHARS(sizeof bytes));
    assert_true(base64_parse(text, &back));
    assert_true(span_equal(buf_span(&back), span_of(bytes, sizeof bytes)));
}

static void what_is_no_base64_is_refused_and_leaves_what_was_there(void **state)
{
    (void)state;
    static const char *const texts[] = {"",     "Zg",   "Zg=",   "Zg==Zg==",  "Z===",
                                        "====", "=Zg=", "Zm9v ", " Zm9",      "Zm9\n",
                                        "Zm-v", "Zm_v", "Zm9*",  "Z\xc3\xa4v"};
    struct buf out AUTO_BUF = BUF_NONE;
    buf_put(&out, "kept", 4);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (base64_parse(texts[i], &out))
            fail_msg("\"%s\" was taken", texts[i]);
        assert_true(span_equal(buf_span(&out), span_of_text("kept")));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_rfc_are_written_and_read),
        cmocka_unit_test(nothing_is_written_as_nothing),
        cmocka_unit_test(every_byte_survives),
        cmocka_unit_test(what_is_no_base64_is_refused_and_leaves_what_was_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
