/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include "backend/history/codec_internal.h"
#include "tests/support/specimen.h"

/* Large, so not on the stack. */
static struct vault *specimen_make(void)
{
    struct vault *v = calloc(1, sizeof *v);
    assert_non_null(v);
    memcpy(v->vm, specimen_vm, VM_ID_BYTES);
    strcpy(v->name, "web-1");
    v->encrypted = true;
    v->created_ms = 1795377903000;
    v->disk_count = 2;
    v->disks[0] = (struct epoch_disk){.name = "root", .size_bytes = 10ull << 30};
    v->disks[1] = (struct epoch_disk){.name = "data", .disk = 1, .store = 1, .size_bytes = 512};
    v->store_count = 2;
    strcpy(v->stores[0].cache, "file:///srv/cache");
    strcpy(v->stores[0].target, "azure://account/container/prefix");
    strcpy(v->stores[1].cache, "s3://bucket/cache?region=eu-1");
    strcpy(v->stores[1].target, "s3://bucket/target");
    return v;
}

static void encode(const struct vault *v, struct buf *out)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x50);
    check_ok(vault_encode(v, keys, &salt, out, &err), err);
}

static void check_comes_back(const struct vault *v)
{
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct vault *d AUTO_FREE = calloc(1, sizeof *d);
    encode(v, &stored);
    check_ok(vault_decode(buf_span(&stored), keys, d, &err), err);
    assert_memory_equal(d->vm, v->vm, VM_ID_BYTES);
    assert_string_equal(d->name, v->name);
    assert_int_equal(d->encrypted, v->encrypted);
    assert_int_equal(d->created_ms, v->created_ms);
    assert_int_equal(d->disk_count, v->disk_count);
    for (size_t i = 0; i < v->disk_count; i++) {
        assert_string_equal(d->disks[i].name, v->disks[i].name);
        assert_int_equal(d->disks[i].disk, v->disks[i].disk);
        assert_int_equal(d->disks[i].store, v->disks[i].store);
        assert_int_equal(d->disks[i].size_bytes, v->disks[i].size_bytes);
    }
    assert_int_equal(d->store_count, v->store_count);
    assert_memory_equal(d->stores, v->stores, sizeof d->stores);
}

static void a_vault_comes_back(void **state)
{
    (void)state;
    struct vault *v AUTO_FREE = specimen_make();
    check_comes_back(v);
    v->encrypted = false;
    check_comes_back(v);
}

static void as_many_stores_as_may_be_fit(void **state)
{
    (void)state;
    struct vault *v AUTO_FREE = specimen_make();
    v->store_count = VM_DISKS_MAX + 1;
    for (size_t i = 0; i < v->store_count; i++) {
        memset(v->stores[i].cache, 'c', STORE_URL_MAX - 1);
        memset(v->stores[i].target, 't', STORE_URL_MAX - 1);
    }
    check_comes_back(v);
}

typedef void change_fn(struct vault *v);

static void bad_name(struct vault *v)
{
    strcpy(v->name, "Web");
}
static void bad_disk(struct vault *v)
{
    strcpy(v->disks[0].name, "..");
}
static void no_store(struct vault *v)
{
    v->store_count = 0;
}
static void store_that_is_not_there(struct vault *v)
{
    v->disks[1].store = 2;
}
static void empty_url(struct vault *v)
{
    v->stores[1].target[0] = '\0';
}
static void line_break_in_url(struct vault *v)
{
    v->stores[0].cache[4] = '\n';
}

static void vaults_that_contradict_themselves_cannot_be_written(void **state)
{
    (void)state;
    static change_fn *const changes[] = {
        bad_name, bad_disk, no_store, store_that_is_not_there, empty_url, line_break_in_url};
    struct err err;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x50);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        struct vault *v AUTO_FREE = specimen_make();
        struct buf out AUTO_BUF = BUF_NONE;
        changes[i](v);
        check_fails(vault_encode(v, keys, &salt, &out, &err), err, ERR_INVALID);
    }
}

static bool refused(void *context, struct span damaged)
{
    struct err err = ERR_NONE;
    struct vault *d AUTO_FREE = malloc(sizeof *d);
    return !vault_decode(damaged, context, d, &err) &&
           (err.kind == ERR_CORRUPT || err.kind == ERR_WRONG_KEY);
}

static void a_cut_or_flipped_vault_is_refused_at_every_position(void **state)
{
    (void)state;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct vault *v AUTO_FREE = specimen_make();
    encode(v, &stored);
    specimen_damage(buf_span(&stored), refused, keys);
}

static void the_wrong_key_is_told_from_damage(void **state)
{
    (void)state;
    struct err err;
    struct keys *other AUTO_KEYS = specimen_keys(1);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct vault *v AUTO_FREE = specimen_make();
    encode(v, &stored);
    check_fails(vault_decode(buf_span(&stored), other, v, &err), err, ERR_WRONG_KEY);
}

static void a_record_is_no_vault_though_the_key_is_right(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct keys *keys AUTO_KEYS = specimen_keys(0);
    struct seal_salt salt = specimen_salt(0x30);
    struct buf stored AUTO_BUF = BUF_NONE;
    struct vault *v AUTO_FREE = specimen_make();
    struct record r = {.kind = RECORD_OPEN};
    check_ok(record_encode(&r, keys, &salt, &stored, &err), err);
    check_fails(vault_decode(buf_span(&stored), keys, v, &err), err, ERR_CORRUPT);
    memcpy(stored.data, "FSVAULT", 8); /* the magic is bound too */
    check_fails(vault_decode(buf_span(&stored), keys, v, &err), err, ERR_CORRUPT);
}

static void the_golden_vault_is_as_it_was(void **state)
{
    (void)state;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct vault *v AUTO_FREE = specimen_make();
    encode(v, &stored);
    specimen_golden(TEST_SOURCE_DIR, "vault", buf_span(&stored),
                    "43c77b10fef22de549c378e374491793c9c1b58364580089a5cbceb25d8822f4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_vault_comes_back),
        cmocka_unit_test(as_many_stores_as_may_be_fit),
        cmocka_unit_test(vaults_that_contradict_themselves_cannot_be_written),
        cmocka_unit_test(a_cut_or_flipped_vault_is_refused_at_every_position),
        cmocka_unit_test(the_wrong_key_is_told_from_damage),
        cmocka_unit_test(a_record_is_no_vault_though_the_key_is_right),
        cmocka_unit_test(the_golden_vault_is_as_it_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
