/* SPDX-License-Identifier: MIT
 * Two hosts and one VM that goes back and forth between them, in one thread, from a seed: guests
 * write on both (an old one does not know that it was left), each ships what it has, processors
 * come and go, claims are made from any point while stores fail, and are repeated. Whatever
 * happens: each point, of the line and of every branch, shows what the disks of its own generation
 * held at its cut; a fenced writer adds nothing; the newest writer is never fenced. */
#include "backend/history/claim.h"
#include "backend/history/processor.h"
#include "common/file.h"
#include "fs/disk/seed.h"
#include "fs/disk/ship.h"
#include "fs/view/view.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define DISKS     2u
#define HOSTS     2u
#define SHOTS_MAX 1024u
#define ENDED_MAX 64u
#define VM        "sim"
#define STEPS     700u
#define SEEDS     24u
#define SCRATCH   "/scratch"

static const uint64_t disk_bytes[DISKS] = {(300u << 10) + 3072, 128u << 10};
static const char *const disk_names[DISKS] = {"a", "b"};

struct shot {
    uint64_t generation, point_ms;
    uint8_t *content[DISKS];
};

struct host {
    char folder[16];
    char paths[DISKS][24];
    struct store *cache;
    void *memory;
    bool fresh, running;
    struct generation generation;
    struct source *source;
    struct shipper *shipper;
    uint8_t *model[DISKS];
};

/* A generation that was ended, and the newest epoch that its log had when the fence was put. */
struct ended {
    struct generation generation;
    bool fenced;
    uint64_t last;
};

struct sim {
    uint64_t seed, random;
    struct world *world;
    struct memory_bucket *cache, *target, *staging;
    struct store *claim_cache, *claim_target, *staging_store, *clean_cache, *clean_target;
    unsigned fault_percent;
    struct keys *keys;
    uint8_t vm_id[VM_ID_BYTES];
    size_t memory_bytes;
    struct host hosts[HOSTS];
    size_t owner; /* index of the host that the newest generation belongs to */
    struct shot shots[SHOTS_MAX];
    size_t shot_count;
    struct ended ended[ENDED_MAX];
    size_t ended_count;
    unsigned claims, repeats, tails, seeds, fenced, pending;
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

#define must(condition)                                                                            \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("seed %llu, line %d: %s", (unsigned long long)s->seed, __LINE__, #condition); \
    } while (0)
#define must_ok(call)                                                                              \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("seed %llu, line %d: %s: %s", (unsigned long long)s->seed, __LINE__, #call,   \
                     err.text);                                                                    \
    } while (0)

static enum memory_fault before_call(void *context, const struct memory_call *call)
{
    struct sim *s = context;
    if (s->fault_percent == 0 || below(s, 100) >= s->fault_percent)
        return MEMORY_PASS;
    return call->op == MEMORY_PUT && below(s, 2) == 0 ? MEMORY_LOSE_REPLY : MEMORY_FAIL;
}

static struct store *open_store(struct sim *s, struct memory_bucket *bucket, bool faulty)
{
    struct store *store = memory_store_open(bucket);
    if (faulty)
        memory_store_hook(store, before_call, NULL, s);
    return store;
}

/* --- a host --- */

static void write_disks(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    for (size_t i = 0; i < DISKS; i++) {
        struct world_file *f AUTO_FILE = NULL;
        must_ok(file_open(s->world, h->paths[i], O_RDWR | O_CREAT, 0600, &f, &err));
        must(s->world->ops->truncate(f, disk_bytes[i]) == 0);
        must_ok(file_write(f, span_of(h->model[i], disk_bytes[i]), 0, &err) && file_sync(f, &err));
    }
}

static void make_host(struct sim *s, struct host *h, char name)
{
    struct err err = ERR_NONE;
    snprintf(h->folder, sizeof h->folder, "/state-%c", name);
    must_ok(dir_make(s->world, h->folder, 0700, &err));
    h->cache = open_store(s, s->cache, true);
    h->memory = calloc(1, s->memory_bytes);
    h->fresh = true;
    for (size_t i = 0; i < DISKS; i++) {
        snprintf(h->paths[i], sizeof h->paths[i], "/disk-%c-%s", name, disk_names[i]);
        h->model[i] = calloc(1, disk_bytes[i]);
    }
    write_disks(s, h);
}

static void mount_host(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    struct source_disk_config disks[DISKS];
    for (uint16_t i = 0; i < DISKS; i++)
        disks[i] = (struct source_disk_config){
            .name = disk_names[i], .path = h->paths[i], .number = i, .size_bytes = disk_bytes[i]};
    struct source_config source = {.world = s->world,
                                   .state_folder = h->folder,
                                   .disks = disks,
                                   .disk_count = DISKS,
                                   .undo_memory_bytes = 64u << 10,
                                   .undo_file_bytes = 192u << 10,
                                   .key_id = keys_id(s->keys),
                                   .memory = h->memory,
                                   .memory_bytes = s->memory_bytes,
                                   .memory_fresh = h->fresh};
    must_ok(source_open(&source, &h->source, &err));
    h->fresh = false;
    struct shipper_config shipper = {.source = h->source,
                                     .world = s->world,
                                     .vm = VM,
                                     .generation = h->generation,
                                     .keys = s->keys,
                                     .encrypt = true,
                                     .caches = &h->cache,
                                     .cache_count = 1,
                                     .state_folder = h->folder,
                                     .cut_interval_ms = 1000,
                                     .pass_above_bytes = 128u << 10};
    memcpy(shipper.vm_id, s->vm_id, sizeof shipper.vm_id);
    must_ok(shipper_open(&shipper, &h->shipper, &err));
    h->running = true;
}

static void kill_host(struct host *h)
{
    shipper_close(&h->shipper);
    source_close(&h->source);
    h->running = false;
}

static void guest_write(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    size_t disk = below(s, DISKS);
    uint64_t length = BLOCK_BYTES * (1 + below(s, 6)), offset = below(s, disk_bytes[disk]);
    if (below(s, 2) == 0)
        offset = below(s, 8) * BLOCK_BYTES;
    if (length > disk_bytes[disk] - offset)
        length = disk_bytes[disk] - offset;
    uint64_t word = below(s, 4) == 0 ? 0 : next(s);
    for (uint64_t i = 0; i < length; i++)
        h->model[disk][offset + i] = (uint8_t)(word >> (8 * (i % 7)));
    if (word == 0)
        must_ok(source_zero(h->source, disk, offset, length, &err));
    else
        must_ok(
            source_write(h->source, disk, offset, span_of(h->model[disk] + offset, length), &err));
}

static void take_shot(struct sim *s, const struct host *h)
{
    must(s->shot_count < SHOTS_MAX);
    struct shot *shot = &s->shots[s->shot_count++];
    shot->generation = h->generation.id;
    shot->point_ms = h->shipper->cut_point_ms;
    for (size_t i = 0; i < DISKS; i++) {
        shot->content[i] = malloc(disk_bytes[i]);
        memcpy(shot->content[i], h->model[i], disk_bytes[i]);
    }
}

static void step_host(struct sim *s, struct host *h)
{
    enum ship_phase before = h->shipper->phase;
    shipper_step(h->shipper);
    if (h->shipper->phase == SHIP_FENCED) {
        must(h != &s->hosts[s->owner]); /* the newest writer is never fenced */
        s->fenced += before != SHIP_FENCED;
    }
    if (before == SHIP_IDLE && h->shipper->phase == SHIP_DRAIN && !h->shipper->pass)
        take_shot(s, h);
}

/* --- processors --- */

static enum processor_result step_processor(struct sim *s, struct generation branch)
{
    struct err err = ERR_NONE;
    struct processor *p = NULL;
    struct processor_config config = {.world = s->world,
                                      .vm = VM,
                                      .keys = s->keys,
                                      .targets = &s->claim_target,
                                      .caches = &s->claim_cache,
                                      .store_count = 1,
                                      .branch = branch,
                                      .fences = below(s, 2) == 0};
    if (!processor_open(&config, &p, &err)) {
        must(s->fault_percent > 0);
        return PROCESSOR_FAILED;
    }
    enum processor_result result = processor_step(p, &err);
    processor_close(&p);
    if (result == PROCESSOR_FAILED && s->fault_percent == 0)
        fail_msg("seed %llu: processor: %s", (unsigned long long)s->seed, err.text);
    return result;
}

static void apply_all(struct sim *s, struct generation branch)
{
    enum processor_result result;
    do {
        result = step_processor(s, branch);
    } while (result != PROCESSOR_IDLE);
}

/* --- the oracle --- */

static struct history *clean_history(struct sim *s)
{
    struct err err = ERR_NONE;
    struct history *h = NULL;
    must_ok(history_open(s->world, s->clean_target, VM, s->keys, &h, &err));
    return h;
}

static const struct shot *shot_of(const struct sim *s, const struct history_point *p)
{
    for (size_t i = s->shot_count; i-- > 0;)
        if (s->shots[i].generation == p->generation.id && s->shots[i].point_ms == p->ms)
            return &s->shots[i];
    fail_msg("seed %llu: a point without a cut", (unsigned long long)s->seed);
    return NULL;
}

/* Reads the point whole, compares it with its cut, and gives it to `out` when there is one. */
static void check_point(struct sim *s, struct history *h, const struct history_point *p,
                        struct host *out)
{
    struct err err = ERR_NONE;
    struct view_cache *cache = NULL;
    struct view *view = NULL;
    const struct shot *shot = shot_of(s, p);
    must_ok(view_cache_make(1u << 20, &cache, &err));
    struct view_config config = {.history = h,
                                 .keys = s->keys,
                                 .targets = &s->clean_target,
                                 .target_count = 1,
                                 .cache = cache};
    must_ok(view_open(&config, p, &view, &err));
    for (size_t i = 0; i < DISKS; i++) {
        uint8_t *got = malloc(disk_bytes[i]);
        must_ok(view_read(view, i, 0, mspan_of(got, disk_bytes[i]), &err));
        must(memcmp(got, shot->content[i], disk_bytes[i]) == 0);
        if (out != NULL)
            memcpy(out->model[i], got, disk_bytes[i]);
        free(got);
    }
    view_close(&view);
    view_cache_release(&cache);
}

/* --- failing over --- */

static struct claim_config claim_config_of(struct sim *s)
{
    return (struct claim_config){.world = s->world,
                                 .target = s->claim_target,
                                 .cache = below(s, 4) == 0 ? NULL : s->claim_cache,
                                 .vm = VM,
                                 .keys = s->keys,
                                 .label = "failed over"};
}

/* The newest point, or any, also one that lies on a branch. False: there is none. */
static bool pick_point(struct sim *s, struct history *h, struct history_point *out)
{
    struct err err = ERR_NONE;
    struct history_point *left AUTO_FREE = NULL;
    size_t count, points = history_points(h);
    must_ok(history_branches(h, &left, &count, &err));
    if (points == 0)
        return false;
    *out = history_point(h, points - 1);
    if (count > 0 && below(s, 5) == 0)
        *out = left[below(s, count)];
    else if (below(s, 3) == 0)
        *out = history_point(h, below(s, points));
    return true;
}

/* Life goes on between two tries of a claim. */
static void meanwhile(struct sim *s)
{
    for (size_t i = 0; i < HOSTS; i++)
        if (s->hosts[i].running) {
            guest_write(s, &s->hosts[i]);
            for (unsigned k = 0; k < 4; k++)
                step_host(s, &s->hosts[i]);
        }
    step_processor(s, (struct generation){.id = 0});
    fake_world_advance(s->world, below(s, 1500) * 1000000);
    if (below(s, 4) == 0)
        s->fault_percent = 0;
}

/* What the ended generation's log holds from now on for ever. */
static void note_ended(struct sim *s, struct generation g)
{
    struct err err = ERR_NONE;
    struct history_tail tail;
    struct history_head head;
    struct history *h = clean_history(s);
    struct claim_config config = {.world = s->world,
                                  .target = s->clean_target,
                                  .cache = s->clean_cache,
                                  .vm = VM,
                                  .keys = s->keys};
    must(s->ended_count < ENDED_MAX);
    must_ok(history_tail_in(&config, h, g, &tail, &err));
    must(tail.fenced && !tail.lost);
    must(history_line(h, g, &head));
    s->tails += tail.epochs > 0;
    s->ended[s->ended_count++] =
        (struct ended){.generation = g, .fenced = true, .last = head.epoch + tail.epochs};
    history_close(&h);
}

static void write_seed(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    struct seed_config config = {.world = s->world,
                                 .vm = VM,
                                 .keys = s->keys,
                                 .encrypt = true,
                                 .targets = &s->claim_target,
                                 .store_count = 1,
                                 .cache = s->claim_cache};
    struct seed_copy copies[DISKS];
    for (uint16_t i = 0; i < DISKS; i++) {
        copies[i].disk = i;
        must_ok(file_open(s->world, h->paths[i], O_RDONLY, 0, &copies[i].file, &err));
    }
    while (!seed_write(&config, copies, DISKS, s->staging_store, SCRATCH, NULL, NULL, &err)) {
        must(s->fault_percent > 0);
        meanwhile(s);
    }
    for (size_t i = 0; i < DISKS; i++)
        file_close(&copies[i].file);
    s->seeds++;
}

static void begin_generation(struct sim *s, const struct claim *claim)
{
    struct err err = ERR_NONE;
    struct claim_result result;
    for (;;) {
        struct claim_config config = claim_config_of(s);
        if (history_begin_generation(&config, claim, &result, &err))
            break;
        must(s->fault_percent > 0);
        s->repeats++;
        meanwhile(s);
    }
    while (result.fence_pending) {
        struct claim_config config = claim_config_of(s);
        s->pending++;
        meanwhile(s);
        if (!history_fence(&config, &result, &err)) {
            must(s->fault_percent > 0);
            result.fence_pending = true;
        }
    }
}

static void fail_over(struct sim *s)
{
    struct err err = ERR_NONE;
    size_t to = 1 - s->owner;
    struct host *h = &s->hosts[to];
    struct history *history = clean_history(s);
    struct history_point p;
    struct claim claim = {.ends = history_head(history).generation};
    if (!pick_point(s, history, &p)) {
        history_close(&history);
        return;
    }
    must_ok(claim_generation(history, &claim.generation, &err));
    claim.parent = p.generation;
    claim.parent_epoch = p.epoch;
    if (h->running)
        kill_host(h);
    s->owner = HOSTS; /* nobody, while it is not known */
    begin_generation(s, &claim);
    s->claims++;
    note_ended(s, claim.ends);
    bool seeded = below(s, 3) == 0;
    bool point = below(s, 3) > 0; /* else it goes on with its old disk, as after a cancel */
    if (seeded)
        write_seed(s, h); /* its old disk */
    if (point) {
        check_point(s, history, &p, h);
        write_disks(s, h);
    }
    struct seed_config config = {.world = s->world,
                                 .vm = VM,
                                 .keys = s->keys,
                                 .targets = &s->claim_target,
                                 .store_count = 1,
                                 .cache = s->claim_cache,
                                 .equal = point && !seeded && below(s, 2) == 0};
    while (!seed_adopt(&config, h->folder, &err)) {
        must(s->fault_percent > 0);
        meanwhile(s);
    }
    if (below(s, 3) == 0)
        fake_world_jump(s->world, -20ll * 1000000000);
    h->generation = claim.generation;
    memset(h->memory, 0, s->memory_bytes);
    h->fresh = true;
    mount_host(s, h);
    s->owner = to;
    history_close(&history);
}

/* --- a run --- */

static void begin(struct sim *s)
{
    struct err err = ERR_NONE;
    uint8_t key[VM_KEY_BYTES];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)next(s);
    memset(s->vm_id, 0x5a, sizeof s->vm_id);
    s->world = fake_world_make(s->seed);
    s->cache = memory_bucket_make();
    s->target = memory_bucket_make();
    s->staging = memory_bucket_make();
    s->claim_cache = open_store(s, s->cache, true);
    s->claim_target = open_store(s, s->target, true);
    s->staging_store = open_store(s, s->staging, true);
    s->clean_cache = open_store(s, s->cache, false);
    s->clean_target = open_store(s, s->target, false);
    s->memory_bytes = source_memory_bytes(disk_bytes, DISKS);
    must_ok(keys_from_vm_key(key, &s->keys, &err));
    must_ok(dir_make(s->world, SCRATCH, 0700, &err));
    make_host(s, &s->hosts[0], 'a');
    make_host(s, &s->hosts[1], 'b');
    struct vault vault = {.encrypted = true, .disk_count = DISKS, .store_count = 1};
    memcpy(vault.vm, s->vm_id, sizeof vault.vm);
    snprintf(vault.name, sizeof vault.name, VM);
    snprintf(vault.stores[0].cache, STORE_URL_MAX, "memory:cache");
    snprintf(vault.stores[0].target, STORE_URL_MAX, "memory:target");
    for (uint16_t i = 0; i < DISKS; i++) {
        vault.disks[i] = (struct epoch_disk){.disk = i, .size_bytes = disk_bytes[i]};
        snprintf(vault.disks[i].name, sizeof vault.disks[i].name, "%s", disk_names[i]);
    }
    struct generation first = {.number = 1, .id = next(s) | 1};
    s->hosts[0].generation = first;
    must_ok(history_begin(s->world, s->clean_target, s->clean_cache, &vault, first, s->keys, &err));
    mount_host(s, &s->hosts[0]);
}

static void act(struct sim *s)
{
    struct host *h = &s->hosts[below(s, HOSTS)];
    uint64_t dice = below(s, 1000);
    if (!h->running)
        h = &s->hosts[1 - (h - s->hosts)];
    if (dice < 250)
        guest_write(s, h);
    else if (dice < 700)
        step_host(s, h);
    else if (dice < 800)
        step_processor(s, (struct generation){.id = 0});
    else if (dice < 930)
        fake_world_advance(s->world, below(s, 1500) * 1000000);
    else if (dice < 945)
        s->fault_percent = below(s, 2) == 0 ? 0 : (unsigned)below(s, 30);
    else if (dice < 975) {
        kill_host(h);
        mount_host(s, h);
    } else if (dice < 985 && s->ended_count > 0)
        step_processor(s, s->ended[below(s, s->ended_count)].generation); /* a branch */
    else if (dice >= 992)
        fail_over(s);
}

/* All is well again: the newest writer's last writes become a point, the others are fenced. */
static void settle_down(struct sim *s)
{
    struct err err = ERR_NONE;
    struct host *owner = &s->hosts[s->owner], *other = &s->hosts[1 - s->owner];
    uint64_t ticket, point_ms, epoch;
    s->fault_percent = 0;
    must_ok(shipper_request_point(owner->shipper, POINT_CRASH, "end", &ticket, &err));
    for (unsigned i = 0;; i++) {
        must(i < 5000);
        step_host(s, owner);
        if (shipper_wait_point(owner->shipper, ticket, 0, &point_ms, &epoch, &err))
            break;
        fake_world_advance(s->world, 100 * 1000000);
        if (owner->shipper->phase == SHIP_IDLE && owner->shipper->answered_ticket >= ticket)
            must_ok(shipper_request_point(owner->shipper, POINT_CRASH, "end", &ticket, &err));
    }
    for (unsigned i = 0; other->running && other->shipper->phase != SHIP_FENCED; i++) {
        must(i < 5000);
        step_host(s, other);
        fake_world_advance(s->world, 1000ull * 1000000);
    }
    apply_all(s, (struct generation){.id = 0});
    for (size_t i = 0; i < s->ended_count; i++)
        apply_all(s, s->ended[i].generation);
}

static void check_all(struct sim *s)
{
    struct err err = ERR_NONE;
    struct history *h = clean_history(s);
    struct history_point *left AUTO_FREE = NULL;
    struct host *owner = &s->hosts[s->owner];
    uint64_t last = 0;
    size_t count;
    for (size_t i = 0; i < history_points(h); i++) {
        struct history_point p = history_point(h, i);
        must(p.ms > last);
        last = p.ms;
        check_point(s, h, &p, NULL);
    }
    must_ok(history_branches(h, &left, &count, &err));
    for (size_t i = 0; i < count; i++)
        check_point(s, h, &left[i], NULL);
    struct history_point newest = history_point(h, history_points(h) - 1);
    must(newest.generation.id == owner->generation.id);
    for (size_t i = 0; i < DISKS; i++)
        must(memcmp(shot_of(s, &newest)->content[i], owner->model[i], disk_bytes[i]) == 0);
    for (size_t i = 0; i < s->ended_count; i++) {
        struct history_head head;
        must(history_line(h, s->ended[i].generation, &head));
        must(head.epoch == s->ended[i].last); /* nothing more, nothing lost */
    }
    must(history_generations(h) == s->ended_count + 1);
    history_close(&h);
}

static void release(struct sim *s)
{
    for (size_t i = 0; i < HOSTS; i++) {
        struct host *h = &s->hosts[i];
        if (h->running)
            kill_host(h);
        store_close(&h->cache);
        free(h->memory);
        for (size_t d = 0; d < DISKS; d++)
            free(h->model[d]);
    }
    for (size_t i = 0; i < s->shot_count; i++)
        for (size_t d = 0; d < DISKS; d++)
            free(s->shots[i].content[d]);
    keys_release(&s->keys);
    store_close(&s->claim_cache);
    store_close(&s->claim_target);
    store_close(&s->staging_store);
    store_close(&s->clean_cache);
    store_close(&s->clean_target);
    memory_bucket_release(&s->cache);
    memory_bucket_release(&s->target);
    memory_bucket_release(&s->staging);
    fake_world_release(&s->world);
}

static void run(uint64_t seed, struct sim *sum)
{
    struct sim *s = calloc(1, sizeof *s);
    s->seed = seed;
    s->random = seed * 0x9e3779b97f4a7c15u | 1;
    begin(s);
    for (unsigned i = 0; i < STEPS; i++)
        act(s);
    settle_down(s);
    check_all(s);
    sum->claims += s->claims;
    sum->repeats += s->repeats;
    sum->tails += s->tails;
    sum->seeds += s->seeds;
    sum->fenced += s->fenced;
    sum->pending += s->pending;
    sum->shot_count += s->shot_count;
    release(s);
    free(s);
}

static void every_point_is_its_cut_and_no_two_writers_succeed(void **state)
{
    const char *one = getenv("SIM_SEED");
    struct sim *sum = calloc(1, sizeof *sum);
    (void)state;
    if (one != NULL) {
        run(strtoull(one, NULL, 10), sum);
    } else {
        for (uint64_t seed = 1; seed <= SEEDS; seed++)
            run(seed, sum);
        /* A simulation in which nothing happens shows nothing. */
        assert_true(sum->claims > SEEDS && sum->repeats > 0 && sum->tails > 0 && sum->seeds > 0);
        assert_true(sum->fenced > 0 && sum->pending > 0);
    }
    printf("%zu cuts, %u claims, %u repeated, %u pending, %u tails, %u seeds, %u fenced\n",
           sum->shot_count, sum->claims, sum->repeats, sum->pending, sum->tails, sum->seeds,
           sum->fenced);
    free(sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_point_is_its_cut_and_no_two_writers_succeed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
