/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define IDENTITIES_MAX 56u /* the rest of 64 is for the end */

uint64_t sim_next(struct sim *s)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random;
}

uint64_t sim_below(struct sim *s, uint64_t n)
{
    return sim_next(s) % n;
}

void sim_doing(struct sim *s, const char *what)
{
    s->doing = what;
    if (s->trace)
        printf("%*s%s\n", (int)s->depth * 4, "", what);
}

void sim_broken(struct sim *s, int line, const char *what, const char *detail)
{
    printf("sim: seed %" PRIu64 " broke while %s, line %d: %s%s%s\n", s->seed, s->doing, line, what,
           detail[0] ? ": " : "", detail);
    longjmp(s->broken, 1);
}

void *sim_memory(size_t bytes)
{
    void *memory = calloc(1, bytes);
    if (memory == NULL)
        abort();
    return memory;
}

/* --- stores: what goes wrong there, and who else runs meanwhile --- */

static enum memory_fault before_call(void *context, const struct memory_call *call)
{
    struct store_user *u = context;
    struct sim *s = u->s;
    if (u->dead)
        return MEMORY_FAIL;
    if (s->depth < SIM_DEPTH_MAX && sim_chance(s, 3)) {
        const char *doing = s->doing;
        s->depth++;
        s->sum->nested++;
        sim_life(s);
        s->depth--;
        s->doing = doing;
    }
    unsigned percent = s->fault_percent;
    if (s->depth < SIM_DEPTH_MAX && sim_below(s, 200) == 0) { /* killed here */
        u->dead = true;
        if (u->host != NULL) {
            host_note_memory(u->host);
            fake_world_stop(u->host->world, 1);
        }
        percent = 100;
    }
    if (percent == 0 || !sim_chance(s, percent))
        return MEMORY_PASS;
    s->sum->faults++;
    if (u->dead || sim_chance(s, 50))
        return MEMORY_FAIL;
    return call->op == MEMORY_GET ? MEMORY_DAMAGE : MEMORY_LOSE_REPLY;
}

struct store *sim_store(struct memory_bucket *bucket, struct store_user *user)
{
    struct store *store = memory_store_open(bucket);
    memory_store_hook(store, before_call, NULL, user);
    return store;
}

/* --- processors: each step may be by a new one, which may die in it --- */

static enum processor_result process(struct sim *s, struct generation branch)
{
    struct err err = ERR_NONE;
    struct processor *p = NULL;
    struct store_user user = {.s = s};
    struct store *cache = sim_store(s->cache, &user), *target = sim_store(s->target, &user);
    struct processor_config config = {.world = s->region,
                                      .vm = SIM_VM,
                                      .keys = s->keys,
                                      .targets = &target,
                                      .caches = &cache,
                                      .store_count = 1,
                                      .branch = branch,
                                      .fences = sim_chance(s, 50)};
    enum processor_result result = PROCESSOR_FAILED;
    uint64_t faults = s->sum->faults;
    sim_doing(s, "processing");
    if (processor_open(&config, &p, &err))
        result = processor_step(p, &err);
    sim_doing(s, "processing");
    if (result == PROCESSOR_FAILED)
        must_ok(s, s->sum->faults > faults, err);
    processor_close(&p);
    store_close(&cache);
    store_close(&target);
    if (result == PROCESSOR_APPLIED && branch.id == 0)
        oracle_check_newest(s);
    return result;
}

static void process_all(struct sim *s, struct generation branch)
{
    for (unsigned i = 0; process(s, branch) != PROCESSOR_IDLE; i++)
        must(s, i < 1000);
}

/* --- life --- */

static void pass_time(struct sim *s, uint64_t ms)
{
    fake_world_advance(s->region, ms * 1000000);
    for (size_t i = 0; i < SIM_HOSTS; i++)
        if (s->hosts[i].world != NULL)
            fake_world_advance(s->hosts[i].world, ms * 1000000);
}

static void change_stores(struct sim *s)
{
    s->fault_percent = sim_chance(s, 50) ? 0 : (unsigned)sim_below(s, 40);
    memory_bucket_lag_lists(s->cache, sim_chance(s, 80) ? 0 : sim_below(s, 20));
    memory_bucket_lag_lists(s->target, sim_chance(s, 80) ? 0 : sim_below(s, 20));
}

static void copy_some_host(struct sim *s)
{
    struct host *from = &s->hosts[sim_below(s, SIM_HOSTS)];
    struct host *to = &s->hosts[sim_below(s, SIM_HOSTS)];
    if (from != to && from->running && !from->doomed && !from->user.dead && !to->busy &&
        s->identities < IDENTITIES_MAX)
        host_copy(s, from, to);
}

void sim_life(struct sim *s)
{
    static const struct generation head = {.id = 0};
    struct host *h = &s->hosts[sim_below(s, SIM_HOSTS)];
    uint64_t dice = sim_below(s, 1000);
    if (dice < 808) {
        while (h->world == NULL)
            h = &s->hosts[sim_below(s, SIM_HOSTS)];
        if (h->running)
            host_act(s, h);
    } else if (dice < 888) {
        process(s, head);
    } else if (dice < 938) {
        pass_time(s, sim_below(s, 1500));
    } else if (dice < 948) {
        change_stores(s);
    } else if (dice < 958) {
        thinning_act(s);
    } else if (dice < 968) {
        drill_act(s);
    } else if (dice < 974) {
        if (s->ended_count > 0)
            process(s, s->ended[sim_below(s, s->ended_count)].generation);
    } else if (dice < 986) {
        if (s->copies)
            copy_some_host(s);
    } else if (s->claims && s->identities < IDENTITIES_MAX) {
        sim_claim(s);
    }
}

/* --- a run --- */

static void choose(struct sim *s)
{
    bool large = sim_below(s, 32) == 0; /* several regions of intent marks */
    s->disk_bytes[0] =
        large ? (1u << 20) + 3072 : BLOCK_BYTES * (1 + sim_below(s, 40)) + 512 * sim_below(s, 8);
    s->disk_bytes[1] = large ? 2u << 20 : BLOCK_BYTES * (1 + sim_below(s, 20));
    bool grows = sim_chance(s, 40);
    for (size_t i = 0; i < SIM_DISKS; i++)
        s->most_bytes[i] = s->disk_bytes[i] + (grows ? 512 * sim_below(s, large ? 2048 : 320) : 0);
    s->steps = 40 + (unsigned)sim_below(s, sim_chance(s, 10) ? 600 : 110);
    s->copies = sim_chance(s, 40);
    s->claims = sim_chance(s, 40);
    s->undo_memory_bytes = (1 + sim_below(s, 16)) * BLOCK_BYTES;
    s->undo_file_bytes = sim_below(s, 48) * BLOCK_BYTES;
    s->pass_above_bytes = s->undo_memory_bytes + s->undo_file_bytes;
    if (sim_chance(s, 30)) /* all is well for now */
        s->fault_percent = (unsigned)sim_below(s, 40);
}

static void begin(struct sim *s)
{
    struct err err = ERR_NONE;
    uint8_t key[VM_KEY_BYTES];
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)sim_next(s);
    for (size_t i = 0; i < sizeof s->vm_id; i++)
        s->vm_id[i] = (uint8_t)sim_next(s);
    choose(s);
    s->region = fake_world_make(s->seed);
    s->cache = memory_bucket_make();
    s->target = memory_bucket_make();
    s->staging = memory_bucket_make();
    s->user = (struct store_user){.s = s};
    s->faulty_cache = sim_store(s->cache, &s->user);
    s->faulty_target = sim_store(s->target, &s->user);
    s->staging_store = sim_store(s->staging, &s->user);
    s->clean_cache = memory_store_open(s->cache);
    s->clean_target = memory_store_open(s->target);
    s->memory_bytes = source_memory_bytes(s->most_bytes, SIM_DISKS);
    must_ok(s, keys_from_vm_key(key, &s->keys, &err), err);
    struct vault vault = {.encrypted = true, .disk_count = SIM_DISKS, .store_count = 1};
    memcpy(vault.vm, s->vm_id, sizeof vault.vm);
    snprintf(vault.name, sizeof vault.name, SIM_VM);
    snprintf(vault.stores[0].cache, STORE_URL_MAX, "memory:cache");
    snprintf(vault.stores[0].target, STORE_URL_MAX, "memory:target");
    for (uint16_t i = 0; i < SIM_DISKS; i++) {
        vault.disks[i] = (struct epoch_disk){.disk = i, .size_bytes = s->disk_bytes[i]};
        snprintf(vault.disks[i].name, sizeof vault.disks[i].name, "%s", sim_disk_names[i]);
    }
    s->newest = (struct generation){.number = 1, .id = sim_next(s) | 1};
    must_ok(
        s,
        history_begin(s->region, s->clean_target, s->clean_cache, &vault, s->newest, s->keys, &err),
        err);
    s->watch = oracle_history(s);
    if (sim_chance(s, 40))
        thinning_begin(s);
    host_make(s, &s->hosts[0]);
    s->hosts[0].generation = s->newest;
    host_mount(s, &s->hosts[0]);
}

/* --- the end: with all well again everything must arrive --- */

static bool goes_on(const struct sim *s, const struct host *h)
{
    return h->running && h->generation.id == s->newest.id && h->shipper->phase != SHIP_FENCED;
}

/* Each writer tries to make a point, so that all but one find out that they are not alone. */
static void find_out(struct sim *s)
{
    struct err err = ERR_NONE;
    uint64_t tickets[SIM_HOSTS] = {0}, point_ms, epoch;
    for (size_t i = 0; i < SIM_HOSTS; i++)
        if (s->hosts[i].running) {
            /* Copies that differ in nothing would put the same entries, and that does no harm. */
            host_write(s, &s->hosts[i]);
            (void)!shipper_pause(s->hosts[i].shipper, false, &err); /* fenced: known already */
        }
    for (unsigned round = 0;; round++) {
        unsigned open = 0;
        must(s, round < 5000);
        for (size_t i = 0; i < SIM_HOSTS; i++) {
            struct host *h = &s->hosts[i];
            if (!h->running || h->shipper->phase == SHIP_FENCED)
                continue;
            if (tickets[i] == 0 && goes_on(s, h) &&
                !shipper_request_point(h->shipper, POINT_CRASH, "end", &tickets[i], &err))
                tickets[i] = 0; /* it still takes itself for paused */
            host_step(s, h);
            bool made = tickets[i] != 0 &&
                        shipper_wait_point(h->shipper, tickets[i], 0, &point_ms, &epoch, &err);
            if (!made && h->shipper->phase == SHIP_IDLE &&
                h->shipper->answered_ticket >= tickets[i])
                tickets[i] = 0; /* given up: once more */
            open += h->shipper->phase != SHIP_FENCED && !made;
        }
        if (open == 0)
            return;
        pass_time(s, 1000);
    }
}

static bool any_points(struct sim *s)
{
    struct history *h = oracle_history(s);
    bool any = history_points(h) > 0;
    history_close(&h);
    return any;
}

/* The host that goes on; NULL: it was lost before the first point, so nothing can be. */
static struct host *settle_down(struct sim *s)
{
    s->fault_percent = 0;
    s->depth = SIM_DEPTH_MAX;
    s->user.dead = false;
    memory_bucket_lag_lists(s->cache, 0);
    memory_bucket_lag_lists(s->target, 0);
    drill_end(s);
    struct host *winner = NULL;
    for (unsigned i = 0; i < SIM_HOSTS && winner == NULL; i++) {
        /* Twice: a point of one may be what tells another. */
        for (unsigned k = 0; k < 2; k++) {
            sim_doing(s, "settling down");
            find_out(s);
        }
        for (size_t k = 0; k < SIM_HOSTS; k++) {
            must(s, winner == NULL || !goes_on(s, &s->hosts[k]));
            if (goes_on(s, &s->hosts[k]))
                winner = &s->hosts[k];
        }
        must(s, winner != NULL || s->lost);
        process_all(s, (struct generation){.id = 0});
        if (winner == NULL && !any_points(s))
            return NULL;
        if (winner == NULL)
            sim_claim(s);
    }
    drill_end(s); /* a claim that waits for its fence goes on with life */
    must(s, winner != NULL);
    process_all(s, (struct generation){.id = 0});
    for (size_t i = 0; i < s->ended_count; i++)
        process_all(s, s->ended[i].generation);
    return winner;
}

static void release(struct sim *s)
{
    for (size_t i = 0; i < SIM_HOSTS; i++)
        host_release(&s->hosts[i]);
    for (size_t i = 0; i < s->shot_count; i++)
        for (size_t d = 0; d < SIM_DISKS; d++)
            free(s->shots[i].content[d]);
    free(s->shots);
    thinning_end(s);
    history_close(&s->watch);
    keys_release(&s->keys);
    struct store **stores[] = {&s->faulty_cache, &s->faulty_target, &s->staging_store,
                               &s->clean_cache, &s->clean_target};
    for (size_t i = 0; i < sizeof stores / sizeof *stores; i++)
        store_close(stores[i]);
    memory_bucket_release(&s->cache);
    memory_bucket_release(&s->target);
    memory_bucket_release(&s->staging);
    fake_world_release(&s->region);
    free(s);
}

bool sim_run(uint64_t seed, struct sim_result *sum)
{
    struct sim *s = sim_memory(sizeof *s);
    s->seed = seed;
    s->random = seed * 0x9e3779b97f4a7c15u | 1;
    s->trace = getenv("SIM_TRACE") != NULL;
    sim_doing(s, "beginning");
    s->sum = sum;
    if (setjmp(s->broken) != 0)
        return false;
    begin(s);
    for (unsigned i = 0; i < s->steps; i++)
        sim_life(s);
    const struct host *winner = settle_down(s);
    thinning_settle(s);
    if (winner != NULL)
        oracle_check_all(s, winner);
    sum->histories++;
    sum->steps += s->steps;
    release(s);
    return true;
}
