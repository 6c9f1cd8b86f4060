/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim.h"

#include "backend/history/processor.h"
#include "fs/disk/ship.h"
#include "fs/view/view.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#include "common/file.h"

#include <fcntl.h>

#include <stdio.h>
#include <stdlib.h>

#define DISKS         2u
#define SNAPSHOTS_MAX 512u
#define VM            "sim"
#define FOLDER        "/state"

static const uint64_t disk_bytes[DISKS] = {(1u << 20) + 3072, 768u << 10};
static const char *const disk_paths[DISKS] = {"/disks/a.raw", "/disks/b.raw"};
static const char *const disk_names[DISKS] = {"a", "b"};

struct snapshot {
    uint64_t point_ms;
    uint8_t *content[DISKS];
};

struct sim {
    uint64_t seed, random;
    const char *doing;
    struct sim_result result;
    struct world *world;
    struct memory_bucket *cache, *target;
    struct store *source_cache, *processor_cache, *processor_target, *view_target;
    unsigned fault_percent; /* of store calls, 0 while all is well */
    struct keys *keys;
    uint8_t vm_id[VM_ID_BYTES];
    struct generation generation;
    void *memory;
    size_t memory_bytes;
    bool fresh;
    struct source *source;
    struct shipper *shipper;
    uint8_t *model[DISKS];
    bool unsynced[DISKS][512]; /* blocks written since the last good flush */
    struct snapshot snapshots[SNAPSHOTS_MAX];
    size_t snapshot_count;
};

static uint64_t next(struct sim *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}

static uint64_t below(struct sim *s, uint64_t n)
{
    return next(s) % n;
}

static bool broken(const struct sim *s, const char *what, const char *detail)
{
    fprintf(stderr, "sim: seed %llu broke while %s: %s%s%s\n", (unsigned long long)s->seed,
            s->doing, what, detail[0] ? ": " : "", detail);
    return false;
}

/* --- the world around --- */

static enum memory_fault before_call(void *context, const struct memory_call *call)
{
    struct sim *s = context;
    if (s->fault_percent == 0 || below(s, 100) >= s->fault_percent)
        return MEMORY_PASS;
    s->result.faults++;
    return call->op == MEMORY_PUT && below(s, 2) == 0 ? MEMORY_LOSE_REPLY : MEMORY_FAIL;
}

static struct store *open_store(struct sim *s, struct memory_bucket *bucket)
{
    struct store *store = memory_store_open(bucket);
    memory_store_hook(store, before_call, NULL, s);
    return store;
}

static void advance_ms(struct sim *s, uint64_t ms)
{
    fake_world_advance(s->world, ms * 1000000);
}

static bool make_disks(struct sim *s, struct err *err)
{
    struct world_file *f;
    if (!dir_make(s->world, "/disks", 0700, err) || !dir_make(s->world, FOLDER, 0700, err))
        return false;
    for (size_t i = 0; i < DISKS; i++) {
        s->model[i] = calloc(1, disk_bytes[i]);
        if (!file_open(s->world, disk_paths[i], O_RDWR | O_CREAT, 0600, &f, err))
            return false;
        s->world->ops->truncate(f, disk_bytes[i]);
        bool ok = file_sync(f, err);
        file_close(&f);
        if (!ok)
            return false;
    }
    return s->world->ops->sync_dir(s->world, "/disks") == 0;
}

static bool begin(struct sim *s, struct err *err)
{
    uint8_t key[VM_KEY_BYTES];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)next(s);
    for (size_t i = 0; i < sizeof s->vm_id; i++)
        s->vm_id[i] = (uint8_t)next(s);
    s->generation = (struct generation){.number = 1, .id = next(s) | 1};
    struct vault vault = {.encrypted = true, .disk_count = DISKS, .store_count = 1};
    memcpy(vault.vm, s->vm_id, sizeof vault.vm);
    snprintf(vault.name, sizeof vault.name, VM);
    snprintf(vault.stores[0].cache, STORE_URL_MAX, "memory:cache");
    snprintf(vault.stores[0].target, STORE_URL_MAX, "memory:target");
    for (uint16_t i = 0; i < DISKS; i++) {
        vault.disks[i] = (struct epoch_disk){.disk = i, .size_bytes = disk_bytes[i]};
        snprintf(vault.disks[i].name, sizeof vault.disks[i].name, "%s", disk_names[i]);
    }
    return keys_from_vm_key(key, &s->keys, err) &&
           history_begin(s->world, s->processor_target, s->processor_cache, &vault, s->generation,
                         s->keys, err);
}

static bool mount_source(struct sim *s, struct err *err)
{
    struct source_disk_config disks[DISKS];
    for (uint16_t i = 0; i < DISKS; i++)
        disks[i] = (struct source_disk_config){
            .name = disk_names[i], .path = disk_paths[i], .number = i, .size_bytes = disk_bytes[i]};
    struct source_config source = {.world = s->world,
                                   .state_folder = FOLDER,
                                   .disks = disks,
                                   .disk_count = DISKS,
                                   .undo_memory_bytes = 64u << 10,
                                   .undo_file_bytes = 192u << 10,
                                   .key_id = keys_id(s->keys),
                                   .memory = s->memory,
                                   .memory_bytes = s->memory_bytes,
                                   .memory_fresh = s->fresh};
    if (!source_open(&source, &s->source, err))
        return false;
    s->fresh = false;
    struct shipper_config shipper = {.source = s->source,
                                     .world = s->world,
                                     .vm = VM,
                                     .generation = s->generation,
                                     .keys = s->keys,
                                     .encrypt = true,
                                     .caches = &s->source_cache,
                                     .cache_count = 1,
                                     .state_folder = FOLDER,
                                     .cut_interval_ms = 1000,
                                     .pass_above_bytes = 256u << 10};
    memcpy(shipper.vm_id, s->vm_id, sizeof shipper.vm_id);
    return shipper_open(&shipper, &s->shipper, err);
}

/* The worker's memory goes; the keeper's stays. */
static void kill_worker(struct sim *s)
{
    shipper_close(&s->shipper);
    source_close(&s->source);
}

/* --- what the guest does --- */

static void pick_range(struct sim *s, size_t *disk, uint64_t *offset, uint64_t *length)
{
    *disk = below(s, DISKS);
    *length = 1 + below(s, below(s, 4) == 0 ? 100000 : 9000);
    *offset = below(s, disk_bytes[*disk]);
    if (below(s, 3) == 0) { /* a hot corner, and whole blocks */
        *offset = below(s, 16) * BLOCK_BYTES;
        *length = BLOCK_BYTES * (1 + below(s, 4));
    }
    if (*length > disk_bytes[*disk] - *offset)
        *length = disk_bytes[*disk] - *offset;
}

static void note_unsynced(struct sim *s, size_t disk, uint64_t offset, uint64_t length)
{
    struct extent e = extent_of_bytes(offset, length);
    for (uint64_t b = e.first; b < extent_end(e); b++)
        s->unsynced[disk][b] = true;
}

static bool guest_write(struct sim *s)
{
    struct err err = ERR_NONE;
    size_t disk;
    uint64_t offset, length;
    s->doing = "writing";
    pick_range(s, &disk, &offset, &length);
    uint8_t *to = s->model[disk] + offset;
    bool zero = below(s, 5) == 0;
    uint64_t word = next(s);
    for (uint64_t i = 0; i < length && !zero; i++)
        to[i] = (uint8_t)(word >> (8 * (i % 7)));
    note_unsynced(s, disk, offset, length);
    if (zero) {
        memset(to, 0, length);
        return source_zero(s->source, disk, offset, length, &err) || broken(s, "zero", err.text);
    }
    return source_write(s->source, disk, offset, span_of(to, length), &err) ||
           broken(s, "write", err.text);
}

static bool guest_read(struct sim *s)
{
    static uint8_t got[1u << 21];
    struct err err = ERR_NONE;
    size_t disk;
    uint64_t offset, length;
    s->doing = "reading";
    pick_range(s, &disk, &offset, &length);
    if (!source_read(s->source, disk, offset, mspan_of(got, length), &err))
        return broken(s, "read", err.text);
    return memcmp(got, s->model[disk] + offset, length) == 0 || broken(s, "wrong data", "");
}

static bool guest_flush(struct sim *s)
{
    struct err err = ERR_NONE;
    size_t disk = below(s, DISKS);
    s->doing = "flushing";
    if (!source_flush(s->source, disk, &err))
        return broken(s, "flush", err.text);
    memset(s->unsynced[disk], 0, sizeof s->unsynced[disk]);
    return true;
}

/* --- replication --- */

static bool take_snapshot(struct sim *s)
{
    if (s->snapshot_count == SNAPSHOTS_MAX)
        return broken(s, "too many cuts", "");
    struct snapshot *shot = &s->snapshots[s->snapshot_count++];
    shot->point_ms = s->shipper->cut_point_ms;
    for (size_t i = 0; i < DISKS; i++) {
        shot->content[i] = malloc(disk_bytes[i]);
        memcpy(shot->content[i], s->model[i], disk_bytes[i]);
    }
    return true;
}

static bool step_shipper(struct sim *s)
{
    s->doing = "shipping";
    enum ship_phase before = s->shipper->phase;
    shipper_step(s->shipper);
    if (s->shipper->phase == SHIP_FENCED)
        return broken(s, "fenced though it is alone", s->shipper->state.fenced);
    if (before == SHIP_IDLE && s->shipper->phase == SHIP_DRAIN) {
        s->result.passes += s->shipper->pass;
        return s->shipper->pass || take_snapshot(s);
    }
    return true;
}

/* The processor is stateless: each of its steps may be by a new one. */
static bool step_processor(struct sim *s, enum processor_result *result)
{
    struct err err = ERR_NONE;
    struct processor *p = NULL;
    struct processor_config config = {.world = s->world,
                                      .vm = VM,
                                      .keys = s->keys,
                                      .targets = &s->processor_target,
                                      .caches = &s->processor_cache,
                                      .store_count = 1};
    s->doing = "processing";
    if (!processor_open(&config, &p, &err)) {
        *result = PROCESSOR_FAILED;
        return s->fault_percent > 0 || broken(s, "processor_open", err.text);
    }
    *result = processor_step(p, &err);
    processor_close(&p);
    if (*result == PROCESSOR_FAILED && s->fault_percent == 0)
        return broken(s, "processor_step", err.text);
    return true;
}

/* --- what goes wrong --- */

static bool remount(struct sim *s)
{
    struct err err = ERR_NONE;
    return mount_source(s, &err) || broken(s, "mount", err.text);
}

static bool adopt(struct sim *s)
{
    s->doing = "killing the worker";
    s->result.kills++;
    kill_worker(s);
    return remount(s);
}

/* Reads what the disks hold now; blocks that were flushed must be what they were. */
static bool take_stock(struct sim *s, bool flushed_only)
{
    struct err err = ERR_NONE;
    for (size_t i = 0; i < DISKS; i++) {
        struct world_file *f;
        uint8_t *now = malloc(disk_bytes[i]);
        if (!file_open(s->world, disk_paths[i], O_RDONLY, 0, &f, &err) ||
            !file_read(f, mspan_of(now, disk_bytes[i]), 0, &err))
            return broken(s, "reading the raw disk", err.text);
        file_close(&f);
        for (uint64_t b = 0; b < blocks_of_bytes(disk_bytes[i]); b++) {
            uint64_t at = b * BLOCK_BYTES;
            uint64_t n = disk_bytes[i] - at < BLOCK_BYTES ? disk_bytes[i] - at : BLOCK_BYTES;
            if (flushed_only && s->unsynced[i][b])
                continue;
            if (memcmp(now + at, s->model[i] + at, n) != 0)
                return broken(s, "a flushed write is gone", disk_names[i]);
        }
        memcpy(s->model[i], now, disk_bytes[i]);
        memset(s->unsynced[i], 0, sizeof s->unsynced[i]);
        free(now);
    }
    return true;
}

static bool power_cut(struct sim *s)
{
    s->doing = "cutting the power";
    s->result.power_cuts++;
    kill_worker(s);
    fake_world_power_cut(s->world, next(s));
    memset(s->memory, 0, s->memory_bytes);
    s->fresh = true;
    return take_stock(s, true) && remount(s);
}

static bool write_behind(struct sim *s)
{
    struct err err = ERR_NONE;
    struct world_file *f;
    size_t disk;
    uint64_t offset, length;
    pick_range(s, &disk, &offset, &length);
    if (!file_open(s->world, disk_paths[disk], O_RDWR, 0, &f, &err))
        return broken(s, "opening the raw disk", err.text);
    memset(s->model[disk] + offset, (int)below(s, 256), length);
    bool ok =
        file_write(f, span_of(s->model[disk] + offset, length), offset, &err) && file_sync(f, &err);
    file_close(&f);
    return ok || broken(s, "writing the raw disk", err.text);
}

static bool clean_stop(struct sim *s)
{
    struct err err = ERR_NONE;
    s->doing = "stopping cleanly";
    if (!shipper_stop(s->shipper, false, 0, &err))
        return broken(s, "shipper_stop", err.text);
    kill_worker(s);
    memset(s->memory, 0, s->memory_bytes);
    s->fresh = true;
    for (size_t i = 0; i < DISKS; i++)
        memset(s->unsynced[i], 0, sizeof s->unsynced[i]);
    advance_ms(s, 5);
    return (below(s, 2) == 0 || write_behind(s)) && remount(s);
}

/* --- the oracle --- */

static const struct snapshot *find_snapshot(const struct sim *s, uint64_t point_ms)
{
    for (size_t i = s->snapshot_count; i-- > 0;)
        if (s->snapshots[i].point_ms == point_ms)
            return &s->snapshots[i];
    return NULL;
}

static bool check_point(struct sim *s, const struct view_config *config,
                        const struct history_point *point)
{
    struct err err = ERR_NONE;
    struct view *view = NULL;
    const struct snapshot *shot = find_snapshot(s, point->ms);
    if (shot == NULL)
        return broken(s, "a point without a cut", "");
    if (!view_open(config, point, &view, &err))
        return broken(s, "view_open", err.text);
    bool ok = true;
    for (size_t i = 0; ok && i < DISKS; i++) {
        uint8_t *got = malloc(disk_bytes[i]);
        ok = view_read(view, i, 0, mspan_of(got, disk_bytes[i]), &err) ||
             broken(s, "view_read", err.text);
        uint64_t at = 0;
        while (ok && at < disk_bytes[i] && got[at] == shot->content[i][at])
            at++;
        if (ok && at < disk_bytes[i]) {
            char where[96];
            snprintf(where, sizeof where, "epoch %llu disk %s byte %llu",
                     (unsigned long long)point->epoch, disk_names[i], (unsigned long long)at);
            ok = broken(s, "a point differs from its cut", where);
        }
        free(got);
    }
    view_close(&view);
    return ok;
}

static bool check_points(struct sim *s)
{
    struct err err = ERR_NONE;
    struct history *history = NULL;
    struct view_cache *cache = NULL;
    s->doing = "checking points";
    if (!history_open(s->world, s->view_target, VM, s->keys, &history, &err))
        return broken(s, "history_open", err.text);
    if (!view_cache_make(1u << 20, &cache, &err))
        return broken(s, "view_cache_make", err.text);
    struct view_config config = {.history = history,
                                 .keys = s->keys,
                                 .targets = &s->view_target,
                                 .target_count = 1,
                                 .cache = cache};
    bool ok = true;
    uint64_t last = 0;
    s->result.points = (unsigned)history_points(history);
    for (size_t i = 0; ok && i < history_points(history); i++) {
        struct history_point point = history_point(history, i);
        ok = point.ms > last || broken(s, "points do not rise", "");
        ok = ok && check_point(s, &config, &point);
        last = point.ms;
    }
    view_cache_release(&cache);
    history_close(&history);
    return ok;
}

/* With all well again everything must arrive: what the disks hold is the newest point. */
static bool settle_down(struct sim *s)
{
    enum processor_result result;
    struct err err = ERR_NONE;
    uint64_t ticket, point_ms, epoch;
    s->fault_percent = 0;
    s->doing = "settling down";
    if (!shipper_request_point(s->shipper, POINT_CRASH, "end", &ticket, &err))
        return broken(s, "request", err.text);
    for (unsigned i = 0; i < 10000; i++) {
        if (!step_shipper(s))
            return false;
        if (shipper_wait_point(s->shipper, ticket, 0, &point_ms, &epoch, &err))
            break;
        if (i == 9999)
            return broken(s, "the last point never came", err.text);
        advance_ms(s, 100);
        if (s->shipper->phase == SHIP_IDLE && s->shipper->answered_ticket >= ticket &&
            !shipper_request_point(s->shipper, POINT_CRASH, "end", &ticket, &err))
            return broken(s, "request", err.text);
    }
    do {
        if (!step_processor(s, &result))
            return false;
    } while (result != PROCESSOR_IDLE);
    const struct snapshot *shot = find_snapshot(s, point_ms);
    for (size_t i = 0; shot != NULL && i < DISKS; i++)
        if (memcmp(shot->content[i], s->model[i], disk_bytes[i]) != 0)
            return broken(s, "the last point is not what the disks hold", disk_names[i]);
    return shot != NULL || broken(s, "the last point has no cut", "");
}

static bool act(struct sim *s)
{
    enum processor_result result;
    uint64_t dice = below(s, 1000);
    if (dice < 350)
        return guest_write(s);
    if (dice < 380)
        return guest_read(s);
    if (dice < 420)
        return guest_flush(s);
    if (dice < 780)
        return step_shipper(s);
    if (dice < 850)
        return step_processor(s, &result);
    if (dice < 960) {
        advance_ms(s, below(s, 1500));
        return true;
    }
    if (dice < 975) {
        s->fault_percent = below(s, 2) == 0 ? 0 : (unsigned)below(s, 40);
        return true;
    }
    if (dice < 988)
        return adopt(s);
    if (dice < 995)
        return power_cut(s);
    return clean_stop(s);
}

static void release(struct sim *s)
{
    kill_worker(s);
    keys_release(&s->keys);
    store_close(&s->source_cache);
    store_close(&s->processor_cache);
    store_close(&s->processor_target);
    store_close(&s->view_target);
    memory_bucket_release(&s->cache);
    memory_bucket_release(&s->target);
    for (size_t i = 0; i < s->snapshot_count; i++)
        for (size_t d = 0; d < DISKS; d++)
            free(s->snapshots[i].content[d]);
    for (size_t d = 0; d < DISKS; d++)
        free(s->model[d]);
    free(s->memory);
    fake_world_release(&s->world);
}

bool sim_run(uint64_t seed, unsigned steps, struct sim_result *out)
{
    struct err err = ERR_NONE;
    struct sim *s = calloc(1, sizeof *s);
    s->seed = seed;
    s->random = seed * 0x9e3779b97f4a7c15u | 1;
    s->doing = "beginning";
    s->world = fake_world_make(seed);
    s->cache = memory_bucket_make();
    s->target = memory_bucket_make();
    s->source_cache = open_store(s, s->cache);
    s->processor_cache = open_store(s, s->cache);
    s->processor_target = open_store(s, s->target);
    s->view_target = memory_store_open(s->target);
    s->memory_bytes = source_memory_bytes(disk_bytes, DISKS);
    s->memory = calloc(1, s->memory_bytes);
    s->fresh = true;
    bool ok = (make_disks(s, &err) && begin(s, &err) && mount_source(s, &err)) ||
              broken(s, "beginning", err.text);
    for (unsigned i = 0; ok && i < steps; i++)
        ok = act(s);
    ok = ok && settle_down(s) && check_points(s);
    s->result.abandoned = s->shipper ? (unsigned)s->shipper->seen.abandoned_cuts : 0;
    if (out != NULL)
        *out = s->result;
    release(s);
    free(s);
    return ok;
}
