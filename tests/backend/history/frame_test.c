/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "backend/history/codec_internal.h"
#include "backend/history/frame.h"
#include "tests/support/specimen.h"

static struct frame_id frame_id_of(uint8_t flags, uint8_t blocks)
{
    struct frame_id id = {.disk = 3, .flags = flags, .blocks = blocks, .first = 0x1234};
    memcpy(id.vm, specimen_vm, sizeof id.vm);
    id.seal.salt = specimen_salt(0x40);
    id.seal.counter = 77;
    return id;
}

static struct frame_codec *codec_of(const struct keys *keys)
{
    struct err err = ERR_NONE;
    struct frame_codec *c = NULL;
    check_ok(frame_codec_make(keys, &c, &err), err);
    return c;
}

/* Noise, which no compression shortens, or bytes that repeat. */
static void plain_fill(uint8_t *plain, size_t length, bool noise)
{
    specimen_noise(plain, length, 5);
    if (!noise)
        for (size_t i = 0; i < length; i++)
            plain[i] = (uint8_t)(i >> 10);
}

static void frames_come_back_whole_encrypted_or_not_compressible_or_not(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct frame_codec *c AUTO_FRAME_CODEC = codec_of(keys);
    static uint8_t plain[FRAME_PLAIN_MAX];
    static uint8_t out[FRAME_PLAIN_MAX];
    for (unsigned how = 0; how < 4; how++)
        for (uint8_t blocks = 1; blocks <= FRAME_BLOCKS_MAX; blocks++) {
            struct err err = ERR_NONE;
            struct buf stored AUTO_BUF = BUF_NONE;
            bool noise = how & 1;
            size_t length = blocks * BLOCK_BYTES;
            struct frame_id id = frame_id_of(how & 2 ? FRAME_ENCRYPTED : 0, blocks);
            plain_fill(plain, length, noise);
            check_ok(frame_encode(c, &id, span_of(plain, length), &stored, &err), err);
            assert_int_equal(!(id.flags & FRAME_COMPRESSED), noise);
            assert_true(stored.length <= length + (how & 2 ? SEAL_TAG_BYTES : 0));
            assert_true(noise || stored.length < length / 4);
            memset(out, 0xee, sizeof out);
            check_ok(frame_decode(c, &id, buf_span(&stored), mspan_of(out, length), &err), err);
            assert_memory_equal(out, plain, length);
        }
}

static void a_frame_without_encryption_is_readable_bytes(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct frame_codec *c AUTO_FRAME_CODEC = codec_of(keys);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct frame_id id = frame_id_of(0, 1);
    uint8_t plain[BLOCK_BYTES];
    plain_fill(plain, sizeof plain, true);
    check_ok(frame_encode(c, &id, span_of(plain, sizeof plain), &stored, &err), err);
    assert_int_equal(stored.length, sizeof plain);
    assert_memory_equal(stored.data, plain, sizeof plain);
}

static void everything_that_identifies_a_frame_is_bound_to_it(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct frame_codec *c AUTO_FRAME_CODEC = codec_of(keys);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct frame_id id = frame_id_of(FRAME_ENCRYPTED, 2);
    uint8_t plain[2 * BLOCK_BYTES] = {1};
    uint8_t out[3 * BLOCK_BYTES];
    check_ok(frame_encode(c, &id, span_of(plain, sizeof plain), &stored, &err), err);
    struct frame_id wrong[8];
    for (size_t i = 0; i < 8; i++)
        wrong[i] = id;
    wrong[0].vm[15] ^= 1;
    wrong[1].disk++;
    wrong[2].first++;
    wrong[3].blocks++;
    wrong[4].blocks--;
    wrong[5].flags ^= FRAME_COMPRESSED;
    wrong[6].seal.counter++;
    wrong[7].seal.salt.bytes[31] ^= 1;
    for (size_t i = 0; i < 8; i++) {
        check_fails(frame_decode(c, &wrong[i], buf_span(&stored),
                                 mspan_of(out, wrong[i].blocks * BLOCK_BYTES), &err),
                    err, ERR_CORRUPT);
        check_says(err, "the frame of disk");
    }
    check_ok(frame_decode(c, &id, buf_span(&stored), mspan_of(out, sizeof plain), &err), err);
}

struct damage {
    struct frame_codec *codec;
    struct frame_id id;
};

static bool frame_refused(void *context, struct span damaged)
{
    struct damage *d = context;
    struct err err = ERR_NONE;
    static uint8_t out[FRAME_PLAIN_MAX];
    return !frame_decode(d->codec, &d->id, damaged, mspan_of(out, d->id.blocks * BLOCK_BYTES),
                         &err) &&
           err.kind == ERR_CORRUPT;
}

static void a_cut_or_flipped_frame_is_refused_at_every_position(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct frame_codec *c AUTO_FRAME_CODEC = codec_of(keys);
    struct buf stored AUTO_BUF = BUF_NONE;
    uint8_t plain[BLOCK_BYTES] = "a small frame";
    struct damage d = {.codec = c, .id = frame_id_of(FRAME_ENCRYPTED, 1)};
    check_ok(frame_encode(c, &d.id, span_of(plain, sizeof plain), &stored, &err), err);
    specimen_damage(buf_span(&stored), frame_refused, &d);
}

/* A payload as zstd would make it for `length` zeros: what it says of its length is a lie. */
static void payload_of_zeros(struct frame_codec *c, size_t blocks, struct buf *out)
{
    struct err err = ERR_NONE;
    static const uint8_t zeros[FRAME_PLAIN_MAX];
    struct frame_id id = frame_id_of(0, (uint8_t)blocks);
    check_ok(frame_encode(c, &id, span_of(zeros, blocks * BLOCK_BYTES), out, &err), err);
    assert_true(id.flags & FRAME_COMPRESSED);
}

static void a_payload_that_unpacks_to_another_length_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct frame_codec *c AUTO_FRAME_CODEC = codec_of(keys);
    static uint8_t out[FRAME_PLAIN_MAX];
    struct frame_id id = frame_id_of(FRAME_COMPRESSED, 2);
    for (size_t blocks = 1; blocks <= 3; blocks += 2) {
        struct buf payload AUTO_BUF = BUF_NONE;
        payload_of_zeros(c, blocks, &payload);
        check_fails(frame_decode(c, &id, buf_span(&payload), mspan_of(out, 2 * BLOCK_BYTES), &err),
                    err, ERR_CORRUPT);
    }
    struct buf twice AUTO_BUF = BUF_NONE; /* two zstd frames that are right only together */
    payload_of_zeros(c, 1, &twice);
    payload_of_zeros(c, 1, &twice);
    check_fails(frame_decode(c, &id, buf_span(&twice), mspan_of(out, 2 * BLOCK_BYTES), &err), err,
                ERR_CORRUPT);
    struct buf tail AUTO_BUF = BUF_NONE;
    payload_of_zeros(c, 2, &tail);
    check_ok(frame_decode(c, &id, buf_span(&tail), mspan_of(out, 2 * BLOCK_BYTES), &err), err);
    buf_put_u8(&tail, 0);
    check_fails(frame_decode(c, &id, buf_span(&tail), mspan_of(out, 2 * BLOCK_BYTES), &err), err,
                ERR_CORRUPT);
}

static void an_impossible_identity_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct frame_codec *c AUTO_FRAME_CODEC = codec_of(keys);
    static uint8_t out[FRAME_PLAIN_MAX];
    struct frame_id wrong[4];
    for (size_t i = 0; i < 4; i++)
        wrong[i] = frame_id_of(FRAME_ENCRYPTED, 1);
    wrong[0].flags = 4;
    wrong[1].blocks = 0;
    wrong[2].blocks = FRAME_BLOCKS_MAX + 1;
    wrong[3].first = DISK_BLOCKS_MAX;
    for (size_t i = 0; i < 4; i++)
        check_fails(frame_decode(c, &wrong[i], span_of(out, 100), mspan_of(out, BLOCK_BYTES), &err),
                    err, ERR_CORRUPT);
}

/* What zstd makes of the same blocks may change with its version, so only the reading of a
 * compressed frame is fixed for ever. */
static void the_golden_frames_are_as_they_were(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct frame_codec *c AUTO_FRAME_CODEC = codec_of(keys);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct frame_id id = frame_id_of(FRAME_ENCRYPTED, 1);
    uint8_t plain[BLOCK_BYTES];
    uint8_t out[BLOCK_BYTES];
    plain_fill(plain, sizeof plain, true);
    check_ok(frame_encode(c, &id, span_of(plain, sizeof plain), &stored, &err), err);
    specimen_golden(TEST_SOURCE_DIR, "frame-raw", buf_span(&stored),
                    "ee759650704eb877a333139c38356532517df3833392693fed81ad6dfc5fd18f");

    struct buf fresh AUTO_BUF = BUF_NONE;
    struct buf kept AUTO_BUF = BUF_NONE;
    plain_fill(plain, sizeof plain, false);
    check_ok(frame_encode(c, &id, span_of(plain, sizeof plain), &fresh, &err), err);
    specimen_kept(TEST_SOURCE_DIR, "frame-zstd", buf_span(&fresh),
                  "92451b309bb829d7e4e7a6596a351833208b5288602bbdfd347bb7e05f8e9751", &kept);
    id.flags = FRAME_ENCRYPTED | FRAME_COMPRESSED;
    check_ok(frame_decode(c, &id, buf_span(&kept), mspan_of(out, sizeof out), &err), err);
    assert_memory_equal(out, plain, sizeof plain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frames_come_back_whole_encrypted_or_not_compressible_or_not),
        cmocka_unit_test(a_frame_without_encryption_is_readable_bytes),
        cmocka_unit_test(everything_that_identifies_a_frame_is_bound_to_it),
        cmocka_unit_test(a_cut_or_flipped_frame_is_refused_at_every_position),
        cmocka_unit_test(a_payload_that_unpacks_to_another_length_is_refused),
        cmocka_unit_test(an_impossible_identity_is_refused),
        cmocka_unit_test(the_golden_frames_are_as_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
