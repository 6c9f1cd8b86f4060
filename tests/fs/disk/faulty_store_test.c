/* SPDX-License-Identifier: MIT
 * The whole way of the data over HTTP stores that fail: a source ships, a processor applies, a view
 * shows; replies are lost, requests refused, answers cut and spoiled. What every point shows must
 * be what the disks held at its cut, nobody may be fenced, and in the end all must be there. */
#include "fs/disk/shipper.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/history/processor.h"
#include "common/file.h"
#include "fs/disk/ship.h"
#include "fs/view/view.h"
#include "tests/support/check.h"
#include "tests/support/cloud_rig.h"
#include "tests/support/fake_world.h"
#include "tests/support/specimen.h"

#define VM        "vm"
#define FOLDER    "/state"
#define DISKS     2u
#define CUTS_MAX  400u
#define ROUNDS    100u
#define STEPS_MAX 4000u
#define MS        1000000ull

static const char *const names[DISKS] = {"a", "b"};
static const char *const paths[DISKS] = {"/a.raw", "/b.raw"};
static const uint64_t disk_bytes[DISKS] = {256u << 10, (64u << 10) + 3072};
#define LARGEST_DISK (256u << 10)

/* What the disks held at a cut. */
struct cut {
    uint64_t point_ms;
    uint8_t *content[DISKS];
};

struct line {
    uint64_t random;
    struct world *world;
    struct cloud_rig cache_rig, target_rig;
    struct store *source_cache, *cache, *target;
    struct keys *keys;
    struct generation generation;
    void *memory;
    struct source *source;
    struct shipper *shipper;
    uint8_t *model[DISKS];
    struct cut cuts[CUTS_MAX];
    size_t cut_count;
};

/* Who waits lets the time of the source pass. */
static bool pause_calls(void *world, uint32_t ms)
{
    fake_world_advance(world, ms * MS);
    return true;
}

static struct store *open_store(struct line *l, struct cloud_rig *rig)
{
    struct retry_policy policy = RETRY_POLICY_DEFAULT;
    policy.pause = pause_calls;
    policy.context = l->world;
    return cloud_rig_open_retry(rig, &policy);
}

static void make_disks(struct line *l)
{
    struct err err = ERR_NONE;
    check_ok(dir_make(l->world, FOLDER, 0700, &err), err);
    for (size_t i = 0; i < DISKS; i++) {
        struct world_file *f AUTO_FILE = NULL;
        check_ok(file_open(l->world, paths[i], O_RDWR | O_CREAT, 0600, &f, &err), err);
        assert_int_equal(l->world->ops->truncate(f, disk_bytes[i]), 0);
        check_ok(file_sync(f, &err), err);
        l->model[i] = calloc(1, disk_bytes[i]);
        assert_non_null(l->model[i]);
    }
    assert_int_equal(l->world->ops->sync_dir(l->world, "/"), 0);
}

static void begin(struct line *l)
{
    struct vault vault = {.encrypted = true, .disk_count = DISKS, .store_count = 1};
    struct err err = ERR_NONE;
    memcpy(vault.vm, specimen_vm, sizeof vault.vm);
    snprintf(vault.name, sizeof vault.name, VM);
    snprintf(vault.stores[0].cache, STORE_URL_MAX, "%s", l->cache_rig.url);
    snprintf(vault.stores[0].target, STORE_URL_MAX, "%s", l->target_rig.url);
    for (uint16_t i = 0; i < DISKS; i++) {
        vault.disks[i] = (struct epoch_disk){.disk = i, .size_bytes = disk_bytes[i]};
        snprintf(vault.disks[i].name, sizeof vault.disks[i].name, "%s", names[i]);
    }
    check_ok(history_begin(l->world, l->target, l->cache, &vault, l->generation, l->keys, &err),
             err);
}

static void open_source(struct line *l)
{
    struct source_disk_config disks[DISKS];
    struct err err = ERR_NONE;
    size_t memory_bytes = source_memory_bytes(disk_bytes, DISKS);
    l->memory = calloc(1, memory_bytes);
    assert_non_null(l->memory);
    for (uint16_t i = 0; i < DISKS; i++)
        disks[i] = (struct source_disk_config){
            .name = names[i], .path = paths[i], .number = i, .size_bytes = disk_bytes[i]};
    struct source_config config = {.world = l->world,
                                   .state_folder = FOLDER,
                                   .disks = disks,
                                   .disk_count = DISKS,
                                   .undo_memory_bytes = 64u << 10,
                                   .undo_file_bytes = 192u << 10,
                                   .key_id = keys_id(l->keys),
                                   .memory = l->memory,
                                   .memory_bytes = memory_bytes,
                                   .memory_fresh = true};
    check_ok(source_open(&config, &l->source, &err), err);
}

static void open_shipper(struct line *l)
{
    struct err err = ERR_NONE;
    struct shipper_config config = {.source = l->source,
                                    .world = l->world,
                                    .vm = VM,
                                    .generation = l->generation,
                                    .keys = l->keys,
                                    .encrypt = true,
                                    .caches = &l->source_cache,
                                    .cache_count = 1,
                                    .state_folder = FOLDER,
                                    .cut_interval_ms = CUT_INTERVAL_MIN_MS,
                                    .pass_above_bytes = 256u << 10};
    memcpy(config.vm_id, specimen_vm, sizeof config.vm_id);
    check_ok(shipper_open(&config, &l->shipper, &err), err);
}

static void rig_init(struct line *l, struct cloud_rig *rig, enum http_dialect dialect)
{
    cloud_rig_init(rig, dialect, 5);
    rig->host.world = l->world;
}

static int set_up(void **state)
{
    enum http_dialect cache = *(enum http_dialect *)*state;
    struct line *l = calloc(1, sizeof *l);
    assert_non_null(l);
    l->random = 20261126;
    l->world = fake_world_make(1);
    l->keys = specimen_keys(1);
    l->generation = (struct generation){.number = 1, .id = 0x1234567890abcdefu};
    rig_init(l, &l->cache_rig, cache);
    rig_init(l, &l->target_rig, cache == HTTP_S3 ? HTTP_AZURE : HTTP_S3);
    l->source_cache = open_store(l, &l->cache_rig);
    l->cache = open_store(l, &l->cache_rig);
    l->target = open_store(l, &l->target_rig);
    make_disks(l);
    begin(l);
    open_source(l);
    open_shipper(l);
    *state = l;
    return 0;
}

static int tear_down(void **state)
{
    struct line *l = *state;
    shipper_close(&l->shipper);
    source_close(&l->source);
    store_close(&l->source_cache);
    store_close(&l->cache);
    store_close(&l->target);
    cloud_rig_release(&l->cache_rig);
    cloud_rig_release(&l->target_rig);
    keys_release(&l->keys);
    fake_world_release(&l->world);
    for (size_t i = 0; i < l->cut_count; i++)
        for (size_t d = 0; d < DISKS; d++)
            free(l->cuts[i].content[d]);
    for (size_t d = 0; d < DISKS; d++)
        free(l->model[d]);
    free(l->memory);
    free(l);
    return 0;
}

/* --- what happens --- */

static void write_some(struct line *l)
{
    struct err err = ERR_NONE;
    size_t disk = (size_t)specimen_below(&l->random, DISKS);
    uint64_t length = 1 + specimen_below(&l->random, 20000);
    uint64_t offset = specimen_below(&l->random, disk_bytes[disk]);
    if (length > disk_bytes[disk] - offset)
        length = disk_bytes[disk] - offset;
    specimen_noise(l->model[disk] + offset, (size_t)length, specimen_random(&l->random));
    check_ok(source_write(l->source, disk, offset, span_of(l->model[disk] + offset, length), &err),
             err);
}

static void note_cut(struct line *l)
{
    struct cut *cut = &l->cuts[l->cut_count++];
    assert_true(l->cut_count <= CUTS_MAX);
    cut->point_ms = l->shipper->cut_point_ms;
    for (size_t d = 0; d < DISKS; d++) {
        cut->content[d] = malloc(disk_bytes[d]);
        assert_non_null(cut->content[d]);
        memcpy(cut->content[d], l->model[d], disk_bytes[d]);
    }
}

static void step_shipper(struct line *l)
{
    enum ship_phase before = l->shipper->phase;
    shipper_step(l->shipper);
    if (l->shipper->phase == SHIP_FENCED)
        fail_msg("fenced, though there is no other writer: %s", l->shipper->state.fenced);
    if (before == SHIP_IDLE && l->shipper->phase == SHIP_DRAIN && !l->shipper->pass)
        note_cut(l);
}

/* A processor keeps no state: each step is a new one's. */
static enum processor_result step_processor(struct line *l, struct err *err)
{
    struct processor *p = NULL;
    struct processor_config config = {.world = l->world,
                                      .vm = VM,
                                      .keys = l->keys,
                                      .targets = &l->target,
                                      .caches = &l->cache,
                                      .store_count = 1};
    if (!processor_open(&config, &p, err))
        return PROCESSOR_FAILED;
    enum processor_result result = processor_step(p, err);
    processor_close(&p);
    return result;
}

/* A store that is out of reach is all that may go wrong. */
static void process(struct line *l)
{
    struct err err = ERR_NONE;
    if (step_processor(l, &err) == PROCESSOR_FAILED && err.kind != ERR_TRANSIENT &&
        err.kind != ERR_CORRUPT)
        fail_msg("processor: %s: %s", err_kind_name(err.kind), err.text);
}

static void work(struct line *l, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        write_some(l);
        for (unsigned steps = 0; steps < 4; steps++)
            step_shipper(l);
        if (i % 3 == 0)
            process(l);
        fake_world_advance(l->world, (200 + specimen_below(&l->random, 1500)) * MS);
    }
}

/* --- what must be --- */

static bool point_came(struct line *l, uint64_t *ticket, uint64_t *point_ms)
{
    uint64_t epoch;
    struct err err = ERR_NONE;
    step_shipper(l);
    if (shipper_wait_point(l->shipper, *ticket, 0, point_ms, &epoch, &err))
        return true;
    fake_world_advance(l->world, 100 * MS);
    if (l->shipper->phase == SHIP_IDLE && l->shipper->answered_ticket >= *ticket)
        check_ok(shipper_request_point(l->shipper, POINT_CRASH, "end", ticket, &err), err);
    return false;
}

static uint64_t last_point(struct line *l)
{
    uint64_t ticket, point_ms = 0;
    struct err err = ERR_NONE;
    check_ok(shipper_request_point(l->shipper, POINT_CRASH, "end", &ticket, &err), err);
    for (unsigned i = 0; !point_came(l, &ticket, &point_ms); i++)
        assert_true(i < STEPS_MAX);
    enum processor_result result;
    for (unsigned i = 0; (result = step_processor(l, &err)) != PROCESSOR_IDLE; i++) {
        if (result == PROCESSOR_FAILED)
            fail_msg("processor: %s: %s", err_kind_name(err.kind), err.text);
        assert_true(i < STEPS_MAX);
    }
    return point_ms;
}

static const struct cut *cut_of(const struct line *l, uint64_t point_ms)
{
    for (size_t i = l->cut_count; i-- > 0;)
        if (l->cuts[i].point_ms == point_ms)
            return &l->cuts[i];
    fail_msg("a point at %llu without a cut", (unsigned long long)point_ms);
    return NULL;
}

static void check_point(struct line *l, const struct view_config *config,
                        const struct history_point *point)
{
    const struct cut *cut = cut_of(l, point->ms);
    struct view *view CLEANUP(view_close) = NULL;
    struct err err = ERR_NONE;
    uint8_t *got AUTO_FREE = malloc(LARGEST_DISK);
    check_ok(view_open(config, point, &view, &err), err);
    for (size_t d = 0; d < DISKS; d++) {
        check_ok(view_read(view, d, 0, mspan_of(got, disk_bytes[d]), &err), err);
        assert_memory_equal(got, cut->content[d], disk_bytes[d]);
    }
}

/* How many there are. */
static size_t check_points(struct line *l)
{
    struct history *history CLEANUP(history_close) = NULL;
    struct view_cache *cache CLEANUP(view_cache_release) = NULL;
    struct err err = ERR_NONE;
    check_ok(history_open(l->world, l->target, VM, l->keys, &history, &err), err);
    check_ok(view_cache_make(1u << 20, &cache, &err), err);
    struct view_config config = {.history = history,
                                 .keys = l->keys,
                                 .targets = &l->target,
                                 .target_count = 1,
                                 .cache = cache};
    for (size_t i = 0; i < history_points(history); i++) {
        struct history_point point = history_point(history, i);
        check_point(l, &config, &point);
    }
    return history_points(history);
}

static void check_end(struct line *l)
{
    const struct cut *cut = cut_of(l, last_point(l));
    for (size_t d = 0; d < DISKS; d++)
        assert_memory_equal(cut->content[d], l->model[d], disk_bytes[d]);
    assert_true(check_points(l) > 1);
}

static void calm(struct line *l)
{
    for (enum http_fault f = 0; f < HTTP_FAULTS; f++) {
        http_store_fault(l->cache_rig.server, f, NULL);
        http_store_fault(l->target_rig.server, f, NULL);
    }
}

static void trouble(struct line *l, enum http_fault fault, const char *method, uint32_t per_mille)
{
    struct http_rule rule = {.method = method,
                             .per_mille = per_mille,
                             .status = 503,
                             .retry_after = "1",
                             .at = HTTP_ANYWHERE};
    http_store_fault(l->cache_rig.server, fault, &rule);
    http_store_fault(l->target_rig.server, fault, &rule);
}

static void check_happened(struct line *l, enum http_fault fault)
{
    assert_true(http_store_faulted(l->cache_rig.server, fault) > 10);
    assert_true(http_store_faulted(l->target_rig.server, fault) > 10);
}

static void lost_replies_fence_nobody_and_lose_nothing(void **state)
{
    struct line *l = *state;
    trouble(l, HTTP_LOSE_REPLY, "PUT", 300);
    work(l, ROUNDS);
    check_happened(l, HTTP_LOSE_REPLY);
    calm(l);
    check_end(l);
}

static void storms_delay_and_lose_nothing(void **state)
{
    struct line *l = *state;
    trouble(l, HTTP_REFUSE, NULL, 500);
    work(l, ROUNDS);
    check_happened(l, HTTP_REFUSE);
    calm(l);
    check_end(l);
}

static void all_kinds_of_trouble_at_once_lose_nothing(void **state)
{
    struct line *l = *state;
    trouble(l, HTTP_LOSE_REPLY, NULL, 150);
    trouble(l, HTTP_REFUSE, NULL, 150);
    trouble(l, HTTP_CUT_UP, "PUT", 100);
    trouble(l, HTTP_CUT_DOWN, "GET", 100);
    trouble(l, HTTP_FLIP_UP, "PUT", 50);
    trouble(l, HTTP_FLIP_DOWN, "GET", 50);
    http_store_lag_lists(l->cache_rig.server, 7);
    http_store_lag_lists(l->target_rig.server, 7);
    work(l, ROUNDS);
    check_happened(l, HTTP_LOSE_REPLY);
    check_happened(l, HTTP_CUT_DOWN);
    calm(l);
    check_end(l);
}

int main(void)
{
    static enum http_dialect s3 = HTTP_S3, azure = HTTP_AZURE;
#define BOTH(test)                                                                                 \
    cmocka_unit_test_prestate_setup_teardown(test, set_up, tear_down, &s3),                        \
        cmocka_unit_test_prestate_setup_teardown(test, set_up, tear_down, &azure)
    const struct CMUnitTest tests[] = {
        BOTH(lost_replies_fence_nobody_and_lose_nothing),
        BOTH(storms_delay_and_lose_nothing),
        BOTH(all_kinds_of_trouble_at_once_lose_nothing),
    };
#undef BOTH
    return cmocka_run_group_tests(tests, NULL, NULL);
}
