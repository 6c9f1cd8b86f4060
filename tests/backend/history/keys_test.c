/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <sys/stat.h>

#include "backend/history/keys.h"
#include "common/file.h"
#include "tests/support/specimen.h"
#include "tests/support/tmp_dir.h"

#define KEY_TEXT "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"

static int set_up(void **state)
{
    static struct tmp_dir dir;
    tmp_dir_make(&dir);
    *state = &dir;
    return 0;
}

static int tear_down(void **state)
{
    tmp_dir_remove(*state);
    return 0;
}

/* HKDF-SHA256 of RFC 5869 for one block of output, written out. */
static struct sha256 hkdf_by_hand(struct span key, struct span salt, const char *label)
{
    uint8_t zeros[SHA256_BYTES] = {0};
    char info[64];
    size_t length = strlen(label);
    struct sha256 prk = hmac_sha256(salt.length > 0 ? salt : span_of(zeros, sizeof zeros), key);
    memcpy(info, label, length);
    info[length] = 1;
    return hmac_sha256(span_of(prk.bytes, sizeof prk.bytes), span_of(info, length + 1));
}

static struct sha256 history_key_by_hand(uint8_t first)
{
    uint8_t vm_key[VM_KEY_BYTES];
    for (size_t i = 0; i < sizeof vm_key; i++)
        vm_key[i] = (uint8_t)(first + i);
    return hkdf_by_hand(span_of(vm_key, sizeof vm_key), span_of(NULL, 0),
                        "farshore history key v1");
}

static struct span sha_span(const struct sha256 *s)
{
    return span_of(s->bytes, sizeof s->bytes);
}

static void the_key_id_comes_of_the_history_key(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct keys *other AUTO_KEYS = specimen_keys(1);
    struct sha256 history = history_key_by_hand(0);
    struct sha256 id = hkdf_by_hand(sha_span(&history), span_of(NULL, 0), "farshore key id v1");
    assert_int_equal(keys_id(keys), load_u64(id.bytes));
    assert_int_not_equal(keys_id(keys), keys_id(other));
}

static void block_and_frame_digests_are_truncated_hmacs_under_two_keys(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct sha256 history = history_key_by_hand(0);
    uint8_t block[4096];
    specimen_noise(block, sizeof block, 7);
    struct sha256 key =
        hkdf_by_hand(sha_span(&history), span_of(NULL, 0), "farshore block digest v1");
    struct sha256 mac = hmac_sha256(sha_span(&key), span_of(block, sizeof block));
    struct block_digest d = keys_block_digest(keys, block);
    assert_memory_equal(d.bytes, mac.bytes, sizeof d.bytes);

    key = hkdf_by_hand(sha_span(&history), span_of(NULL, 0), "farshore frame digest v1");
    mac = hmac_sha256(sha_span(&key), span_of(block, 100));
    d = keys_frame_digest(keys, span_of(block, 100));
    assert_memory_equal(d.bytes, mac.bytes, sizeof d.bytes);
}

static void what_is_sealed_opens_again_with_the_same_key_salt_counter_and_aad(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(9);
    struct sealer *s AUTO_SEALER = NULL;
    uint8_t sealed[5 + SEAL_TAG_BYTES];
    uint8_t again[sizeof sealed];
    uint8_t plain[5];
    check_ok(sealer_make(keys, SEAL_DATA, &salt, &s, &err), err);
    check_ok(seal(s, 3, span_of_text("aad"), span_of_text("hello"), mspan_of(sealed, sizeof sealed),
                  &err),
             err);
    check_ok(
        seal(s, 3, span_of_text("aad"), span_of_text("hello"), mspan_of(again, sizeof again), &err),
        err);
    assert_memory_equal(sealed, again, sizeof sealed);
    check_ok(unseal(s, 3, span_of_text("aad"), span_of(sealed, sizeof sealed),
                    mspan_of(plain, sizeof plain), &err),
             err);
    assert_memory_equal(plain, "hello", 5);
}

static void
a_seal_refuses_another_counter_aad_salt_key_or_purpose_and_zeroes_the_output(void **state)
{
    (void)state;
    static const struct {
        uint8_t key, salt;
        enum seal_key which;
        uint32_t counter;
        const char *aad;
    } wrong[] = {
        {1, 9, SEAL_DATA, 3, "aad"}, {0, 8, SEAL_DATA, 3, "aad"}, {0, 9, SEAL_HISTORY, 3, "aad"},
        {0, 9, SEAL_DATA, 4, "aad"}, {0, 9, SEAL_DATA, 3, "axd"}, {0, 9, SEAL_DATA, 3, ""},
    };
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(9);
    struct sealer *s AUTO_SEALER = NULL;
    uint8_t sealed[5 + SEAL_TAG_BYTES];
    check_ok(sealer_make(keys, SEAL_DATA, &salt, &s, &err), err);
    check_ok(seal(s, 3, span_of_text("aad"), span_of_text("hello"), mspan_of(sealed, sizeof sealed),
                  &err),
             err);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct keys *k AUTO_KEYS = specimen_keys(wrong[i].key);
        struct seal_salt other = specimen_salt(wrong[i].salt);
        struct sealer *t AUTO_SEALER = NULL;
        uint8_t plain[5] = "xxxxx";
        check_ok(sealer_make(k, wrong[i].which, &other, &t, &err), err);
        check_fails(unseal(t, wrong[i].counter, span_of_text(wrong[i].aad),
                           span_of(sealed, sizeof sealed), mspan_of(plain, sizeof plain), &err),
                    err, ERR_CORRUPT);
        assert_memory_equal(plain, "\0\0\0\0\0", 5);
    }
    uint8_t nothing[1];
    check_fails(unseal(s, 3, span_of_text("aad"), span_of(sealed, SEAL_TAG_BYTES - 1),
                       mspan_of(nothing, 0), &err),
                err, ERR_CORRUPT);
}

static void a_sealer_opens_again_after_a_refusal(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(9);
    struct sealer *s AUTO_SEALER = NULL;
    uint8_t sealed[5 + SEAL_TAG_BYTES];
    uint8_t plain[5];
    check_ok(sealer_make(keys, SEAL_DATA, &salt, &s, &err), err);
    check_ok(
        seal(s, 1, span_of(NULL, 0), span_of_text("hello"), mspan_of(sealed, sizeof sealed), &err),
        err);
    for (uint32_t counter = 0; counter < 4; counter++)
        assert_int_equal(unseal(s, counter, span_of(NULL, 0), span_of(sealed, sizeof sealed),
                                mspan_of(plain, sizeof plain), &err),
                         counter == 1);
}

static void the_history_key_alone_seals_records_but_no_blocks(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct keys *history AUTO_KEYS = NULL;
    struct seal_salt salt = specimen_salt(9);
    struct sealer *s AUTO_SEALER = NULL;
    struct sha256 content = {{0}};
    check_ok(keys_without_data(keys, &history, &err), err);
    assert_int_equal(keys_id(keys), keys_id(history));
    check_fails(sealer_make(history, SEAL_DATA, &salt, &s, &err), err, ERR_WRONG_KEY);
    check_fails(salt_make(history, SEAL_DATA, world_real(), 1, 2, 3, &content, &salt, &err), err,
                ERR_WRONG_KEY);
    check_ok(sealer_make(history, SEAL_HISTORY, &salt, &s, &err), err);
}

/* A world whose random bytes are always the same. */
static int same_random(struct world *w, void *out, size_t length)
{
    (void)w;
    memset(out, 0x5a, length);
    return 0;
}

static void a_salt_differs_with_everything_that_it_is_made_of(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct world_ops ops = {.random = same_random};
    struct world same = {.ops = &ops};
    struct sha256 content = {{0}};
    struct sha256 other = {{1}};
    struct seal_salt salts[7];
    struct seal_salt again;
    check_ok(salt_make(keys, SEAL_DATA, &same, 1, 2, 3, &content, &salts[0], &err), err);
    check_ok(salt_make(keys, SEAL_DATA, &same, 4, 2, 3, &content, &salts[1], &err), err);
    check_ok(salt_make(keys, SEAL_DATA, &same, 1, 4, 3, &content, &salts[2], &err), err);
    check_ok(salt_make(keys, SEAL_DATA, &same, 1, 2, 4, &content, &salts[3], &err), err);
    check_ok(salt_make(keys, SEAL_DATA, &same, 1, 2, 3, &other, &salts[4], &err), err);
    check_ok(salt_make(keys, SEAL_HISTORY, &same, 1, 2, 3, &content, &salts[5], &err), err);
    check_ok(salt_make(keys, SEAL_DATA, world_real(), 1, 2, 3, &content, &salts[6], &err), err);
    for (size_t i = 0; i < 7; i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(&salts[i], &salts[j], sizeof salts[0]);
    check_ok(salt_make(keys, SEAL_DATA, &same, 1, 2, 3, &content, &again, &err), err);
    assert_memory_equal(&again, &salts[0], sizeof again);
}

static void a_key_file_is_made_private_and_gives_the_same_key_each_time(void **state)
{
    struct err err = ERR_NONE;
    const char *path = tmp_dir_path(*state, "vm.key");
    struct keys *a AUTO_KEYS = NULL;
    struct keys *b AUTO_KEYS = NULL;
    struct stat st;
    check_ok(keys_file_make(world_real(), path, &err), err);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 65);
    check_ok(keys_file_load(world_real(), path, &a, &err), err);
    check_ok(keys_file_load(world_real(), path, &b, &err), err);
    assert_int_equal(keys_id(a), keys_id(b));
}

static void making_a_key_file_never_replaces_one(void **state)
{
    struct err err = ERR_NONE;
    const char *path = tmp_dir_path(*state, "vm.key");
    struct buf before AUTO_BUF = BUF_NONE;
    struct buf after AUTO_BUF = BUF_NONE;
    check_ok(keys_file_make(world_real(), path, &err), err);
    check_ok(file_load(world_real(), path, 100, &before, &err), err);
    check_fails(keys_file_make(world_real(), path, &err), err, ERR_EXISTS);
    check_ok(file_load(world_real(), path, 100, &after, &err), err);
    assert_true(span_equal(buf_span(&before), buf_span(&after)));
}

static void write_key(const char *path, const char *text, mode_t mode)
{
    struct err err = ERR_NONE;
    check_ok(file_replace(world_real(), path, 0600, span_of_text(text), &err), err);
    assert_int_equal(chmod(path, mode), 0);
}

static void a_key_file_that_others_can_open_is_refused_with_the_remedy(void **state)
{
    static const mode_t wide[] = {0640, 0604, 0660, 0601, 0644};
    struct err err = ERR_NONE;
    const char *path = tmp_dir_path(*state, "vm.key");
    struct keys *keys AUTO_KEYS = NULL;
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        write_key(path, KEY_TEXT, wide[i]);
        check_fails(keys_file_load(world_real(), path, &keys, &err), err, ERR_DENIED);
        check_says(err, "chmod 600");
    }
    write_key(path, KEY_TEXT, 0400);
    check_ok(keys_file_load(world_real(), path, &keys, &err), err);
    struct keys *expected AUTO_KEYS = specimen_keys(0);
    assert_int_equal(keys_id(keys), keys_id(expected));
}

static void a_file_that_is_no_key_is_refused_without_quoting_it(void **state)
{
    static const char *const wrong[] = {
        "",
        "\n",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n\n",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1g\n",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e\n",
    };
    struct err err = ERR_NONE;
    const char *path = tmp_dir_path(*state, "vm.key");
    struct keys *keys AUTO_KEYS = NULL;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        write_key(path, wrong[i], 0600);
        check_fails(keys_file_load(world_real(), path, &keys, &err), err, ERR_INVALID);
        assert_null(strstr(err.text, "0c0d0e"));
    }
    check_fails(keys_file_load(world_real(), tmp_dir_path(*state, "gone"), &keys, &err), err,
                ERR_NOT_FOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_key_id_comes_of_the_history_key),
        cmocka_unit_test(block_and_frame_digests_are_truncated_hmacs_under_two_keys),
        cmocka_unit_test(what_is_sealed_opens_again_with_the_same_key_salt_counter_and_aad),
        cmocka_unit_test(
            a_seal_refuses_another_counter_aad_salt_key_or_purpose_and_zeroes_the_output),
        cmocka_unit_test(a_sealer_opens_again_after_a_refusal),
        cmocka_unit_test(the_history_key_alone_seals_records_but_no_blocks),
        cmocka_unit_test(a_salt_differs_with_everything_that_it_is_made_of),
        cmocka_unit_test_setup_teardown(a_key_file_is_made_private_and_gives_the_same_key_each_time,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(making_a_key_file_never_replaces_one, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_file_that_others_can_open_is_refused_with_the_remedy,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_that_is_no_key_is_refused_without_quoting_it, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
