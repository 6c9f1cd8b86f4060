/* SPDX-License-Identifier: MIT
 * A processor between two stores of one real service (tests/servers/with.sh): large parts become
 * segments by the service's own copies. */
#include "backend/history/apply.h"

#include <stdio.h>

#include "backend/store/attach.h"
#include "tests/support/check.h"
#include "tests/support/epoch_maker.h"
#include "tests/support/server_url.h"

#define PARTS 6u

struct segments {
    char keys[PARTS + 1][KEY_MAX];
    struct sha256 digests[PARTS + 1];
    struct store *cache;
    size_t count;
};

static bool part_see(void *context, const char *key, uint64_t bytes)
{
    struct segments *s = context;
    struct buf part AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    char hex[2 * SHA256_BYTES + 1];
    if (bytes < APPLY_COPY_BYTES)
        return true;
    assert_true(s->count < PARTS + 1);
    check_ok(store_load(s->cache, key, STORE_OBJECT_MAX, &part, &err), err);
    s->digests[s->count] = sha256_of(buf_span(&part));
    hex_of(s->digests[s->count].bytes, SHA256_BYTES, hex);
    key_segment(s->keys[s->count++], MADE_VM, hex);
    return true;
}

static void ship(struct epoch_maker *m)
{
    m->inline_max = 0;
    m->part_max = 2u << 20;
    epoch_maker_write_noise(m, 0, PARTS * (2u << 20) / BLOCK_BYTES);
    epoch_maker_cut(m);
}

static void large_parts_are_copied_by_the_service_and_proved(void **state)
{
    const char *url = *state;
    char source[STORE_URL_MAX];
    struct epoch_maker maker;
    struct segments segments = {.count = 0};
    struct processor *p = NULL;
    struct err err = ERR_NONE;
    struct retry_policy policy = RETRY_POLICY_DEFAULT;
    struct store *target AUTO_STORE = NULL, *cache AUTO_STORE = NULL;

    assert_true(server_source_url(url, source));
    check_ok(store_retry(world_real(), server_store_open(url), &policy, &target, &err), err);
    check_ok(store_retry(world_real(), server_store_open(source), &policy, &cache, &err), err);
    assert_true(store_can_copy(target, cache));
    epoch_maker_init(&maker, world_real(), target, cache, 1, 8192);
    ship(&maker);
    segments.cache = cache;
    check_ok(store_list(cache, MADE_VM "/g", NULL, part_see, &segments, &err), err);
    assert_true(segments.count >= PARTS - 1);
    struct processor_config config = {.world = world_real(),
                                      .vm = MADE_VM,
                                      .keys = maker.keys,
                                      .targets = &target,
                                      .caches = &cache,
                                      .store_count = 1,
                                      .fetches = PROCESSOR_FETCHES};
    check_ok(processor_open(&config, &p, &err), err);
    if (processor_step(p, &err) != PROCESSOR_APPLIED)
        fail_msg("%s", err.text);
    assert_int_equal(processor_step(p, &err), PROCESSOR_IDLE);
    processor_close(&p);
    for (size_t i = 0; i < segments.count; i++) {
        struct buf there AUTO_BUF = BUF_NONE;
        check_ok(store_load(target, segments.keys[i], STORE_OBJECT_MAX, &there, &err), err);
        struct sha256 digest = sha256_of(buf_span(&there));
        assert_memory_equal(&digest, &segments.digests[i], sizeof digest);
    }
    epoch_maker_release(&maker);
}

int main(void)
{
    char *url = getenv("FARSHORE_TEST_TARGET"), source[STORE_URL_MAX];
    if (url == NULL || !server_source_url(url, source)) {
        puts("SKIP: run by tests/servers/with.sh SERVER, one that copies");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(large_parts_are_copied_by_the_service_and_proved, url),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
