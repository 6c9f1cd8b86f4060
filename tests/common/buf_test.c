/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "common/buf.h"

static void integers_are_little_endian_and_read_back(void **state)
{
    (void)state;
    struct buf b AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    static const uint8_t wanted[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f,
                                     0x0e, 0x0d, 0x0c, 0x0b, 0x0a, 0x09, 0x08};
    buf_put_u8(&b, 0x01);
    buf_put_u16(&b, 0x0203);
    buf_put_u32(&b, 0x04050607);
    buf_put_u64(&b, 0x08090a0b0c0d0e0full);
    check_ok(buf_ok(&b, &err), err);
    assert_int_equal(b.length, sizeof wanted);
    assert_memory_equal(b.data, wanted, sizeof wanted);

    struct reader r = reader_of(buf_span(&b));
    assert_int_equal(read_u8(&r), 0x01);
    assert_int_equal(read_u16(&r), 0x0203);
    assert_int_equal(read_u32(&r), 0x04050607);
    assert_int_equal(read_u64(&r), 0x08090a0b0c0d0e0full);
    assert_int_equal(reader_left(&r), 0);
    assert_false(r.failed);
}

static void a_read_past_the_end_fails_and_yields_zeros_from_then_on(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3, 4, 5};
    struct reader r = reader_of(span_of(bytes, sizeof bytes));
    uint8_t out[2] = {9, 9};
    assert_int_equal(read_u8(&r), 1);
    assert_int_equal(read_u64(&r), 0);
    assert_true(r.failed);
    assert_int_equal(read_u8(&r), 0);
    read_bytes(&r, out, sizeof out);
    assert_int_equal(out[0], 0);
    assert_int_equal(out[1], 0);
    assert_int_equal(read_span(&r, 1).length, 0);
}

static void a_huge_length_from_the_world_cannot_wrap(void **state)
{
    (void)state;
    static const uint8_t bytes[] = {1, 2, 3};
    struct reader r = reader_of(span_of(bytes, sizeof bytes));
    assert_int_equal(read_u8(&r), 1);
    assert_int_equal(read_span(&r, SIZE_MAX).length, 0);
    assert_true(r.failed);
}

static void text_reads_back_and_is_refused_when_too_long_or_with_nul(void **state)
{
    (void)state;
    struct buf b AUTO_BUF = BUF_NONE;
    char out[6];
    buf_put_text(&b, "hello");
    struct reader r = reader_of(buf_span(&b));
    read_text(&r, out, sizeof out);
    assert_false(r.failed);
    assert_string_equal(out, "hello");

    r = reader_of(buf_span(&b));
    read_text(&r, out, 5);
    assert_true(r.failed);
    assert_string_equal(out, "");

    b.data[3] = '\0';
    r = reader_of(buf_span(&b));
    read_text(&r, out, sizeof out);
    assert_true(r.failed);
}

static void growth_keeps_what_was_written(void **state)
{
    (void)state;
    struct buf b AUTO_BUF = BUF_NONE;
    for (uint32_t i = 0; i < 10000; i++)
        buf_put_u32(&b, i);
    assert_false(b.failed);
    for (uint32_t i = 0; i < 10000; i++)
        assert_int_equal(load_u32(b.data + 4 * (size_t)i), i);
}

static void a_length_that_cannot_be_is_full_and_stays_so(void **state)
{
    (void)state;
    struct buf b AUTO_BUF = BUF_NONE;
    struct err err;
    buf_put_u8(&b, 1);
    assert_null(buf_extend(&b, SIZE_MAX - 4));
    buf_put_u8(&b, 2);
    check_fails(buf_ok(&b, &err), err, ERR_FULL);
    buf_clear(&b);
    check_ok(buf_ok(&b, &err), err);
}

static void extending_by_nothing_yields_a_place_and_not_the_sign_of_failure(void **state)
{
    (void)state;
    struct buf b AUTO_BUF = BUF_NONE;
    assert_non_null(buf_extend(&b, 0));
    assert_int_equal(b.length, 0);
    assert_false(b.failed);
}

static void set_u32_overwrites_in_place(void **state)
{
    (void)state;
    struct buf b AUTO_BUF = BUF_NONE;
    buf_put_u64(&b, 0);
    buf_set_u32(&b, 2, 0x11223344);
    assert_int_equal(load_u64(b.data), 0x0000112233440000ull);
}

/* The undefined-behaviour sanitizer is who sees it. */
static void a_wiped_buffer_is_released_and_may_be_used_again(void **state)
{
    (void)state;
    struct buf b AUTO_SECRET_BUF = BUF_NONE;
    buf_wipe(&b);
    buf_put(&b, "secret", 6);
    buf_wipe(&b);
    assert_null(b.data);
    assert_int_equal(b.length, 0);
    buf_put(&b, "x", 1);
    assert_int_equal(b.length, 1);
}

static void a_part_of_an_empty_span_without_data_is_empty(void **state)
{
    (void)state;
    assert_int_equal(span_part(span_of(NULL, 0), 0, 0).length, 0);
    assert_int_equal(mspan_part(mspan_of(NULL, 0), 0, 0).length, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_are_little_endian_and_read_back),
        cmocka_unit_test(a_read_past_the_end_fails_and_yields_zeros_from_then_on),
        cmocka_unit_test(a_huge_length_from_the_world_cannot_wrap),
        cmocka_unit_test(text_reads_back_and_is_refused_when_too_long_or_with_nul),
        cmocka_unit_test(growth_keeps_what_was_written),
        cmocka_unit_test(a_length_that_cannot_be_is_full_and_stays_so),
        cmocka_unit_test(extending_by_nothing_yields_a_place_and_not_the_sign_of_failure),
        cmocka_unit_test(set_u32_overwrites_in_place),
        cmocka_unit_test(a_wiped_buffer_is_released_and_may_be_used_again),
        cmocka_unit_test(a_part_of_an_empty_span_without_data_is_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
