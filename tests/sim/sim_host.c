/* SPDX-License-Identifier: MIT */
#include "tests/sim/sim_internal.h"

#include "common/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

const char *const sim_disk_names[SIM_DISKS] = {"a", "b"};
static const char *const disk_paths[SIM_DISKS] = {"/disks/a.raw", "/disks/b.raw"};

void host_make(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    host_release(h);
    h->world = fake_world_make(sim_next(s));
    h->user = (struct store_user){.s = s, .host = h};
    h->cache = sim_store(s->cache, &h->user);
    h->memory =
        mmap(NULL, s->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(s, h->memory != MAP_FAILED);
    h->memory_bytes = s->memory_bytes;
    h->fresh = true;
    h->identity = s->identities++;
    must(s, s->identities <= 64);
    memcpy(h->bytes, s->disk_bytes, sizeof h->bytes);
    for (size_t i = 0; i < SIM_DISKS; i++)
        h->model[i] = sim_memory(s->most_bytes[i]);
    static const char *const folders[] = {"/disks", SIM_STATE, SIM_SCRATCH};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        must_ok(s, dir_make(h->world, folders[i], 0700, &err), err);
    host_write_disks(s, h);
}

void host_release(struct host *h)
{
    host_kill(h);
    store_close(&h->cache);
    if (h->memory != NULL)
        munmap(h->memory, h->memory_bytes);
    free(h->memory_at_death);
    for (size_t i = 0; i < SIM_DISKS; i++)
        free(h->model[i]);
    fake_world_release(&h->world);
    *h = (struct host){.world = NULL};
}

static void all_synced(struct host *h)
{
    memset(h->unsynced, 0, sizeof h->unsynced);
}

void host_write_disks(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    for (size_t i = 0; i < SIM_DISKS; i++) {
        struct world_file *f AUTO_FILE = NULL;
        must_ok(s, file_open(h->world, disk_paths[i], O_RDWR | O_CREAT, 0600, &f, &err), err);
        must(s, h->world->ops->truncate(f, h->bytes[i]) == 0);
        must_ok(s, file_write(f, span_of(h->model[i], h->bytes[i]), 0, &err), err);
        must_ok(s, file_sync(f, &err), err);
    }
    must(s, h->world->ops->sync_dir(h->world, "/disks") == 0);
    all_synced(h);
}

void host_mount(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    struct source_disk_config disks[SIM_DISKS];
    for (uint16_t i = 0; i < SIM_DISKS; i++)
        disks[i] = (struct source_disk_config){.name = sim_disk_names[i],
                                               .path = disk_paths[i],
                                               .number = i,
                                               .size_bytes = h->bytes[i]};
    struct source_config source = {.world = h->world,
                                   .state_folder = SIM_STATE,
                                   .disks = disks,
                                   .disk_count = SIM_DISKS,
                                   .undo_memory_bytes = s->undo_memory_bytes,
                                   .undo_file_bytes = s->undo_file_bytes,
                                   .key_id = keys_id(s->keys),
                                   .memory = h->memory,
                                   .memory_bytes = s->memory_bytes,
                                   .memory_fresh = h->fresh};
    must_ok(s, source_open(&source, &h->source, &err), err);
    h->fresh = false;
    struct shipper_config shipper = {.source = h->source,
                                     .world = h->world,
                                     .vm = SIM_VM,
                                     .generation = h->generation,
                                     .keys = s->keys,
                                     .encrypt = true,
                                     .caches = &h->cache,
                                     .cache_count = 1,
                                     .state_folder = SIM_STATE,
                                     .cut_interval_ms = 1000,
                                     .pass_above_bytes = s->pass_above_bytes};
    memcpy(shipper.vm_id, s->vm_id, sizeof shipper.vm_id);
    must_ok(s, shipper_open(&shipper, &h->shipper, &err), err);
    h->running = true;
}

/* The worker's memory goes; the keeper's stays. */
void host_kill(struct host *h)
{
    if (h->world != NULL)
        fake_world_stop(h->world, h->user.dead ? 1 : 0);
    shipper_close(&h->shipper);
    source_close(&h->source);
    if (h->world != NULL)
        fake_world_stop(h->world, 0);
    h->running = h->user.dead = false;
}

void host_note_memory(struct host *h)
{
    if (h->memory_at_death == NULL)
        h->memory_at_death = sim_memory(h->memory_bytes);
    memcpy(h->memory_at_death, h->memory, h->memory_bytes);
}

void host_forget_memory(struct sim *s, struct host *h)
{
    must(s, madvise(h->memory, h->memory_bytes, MADV_DONTNEED) == 0); /* zeros, mostly untouched */
    h->fresh = true;
}

/* --- what the guest does --- */

struct range {
    size_t disk;
    uint64_t offset, length;
};

static struct range pick_range(struct sim *s, const struct host *h)
{
    struct range r = {.disk = sim_below(s, SIM_DISKS)};
    uint64_t size = h->bytes[r.disk];
    r.length = 1 + sim_below(s, sim_chance(s, 20) ? 100000 : 9000);
    r.offset = sim_below(s, size);
    if (sim_chance(s, 40)) { /* a hot corner, and whole blocks */
        r.offset = sim_below(s, 8) * BLOCK_BYTES;
        r.length = BLOCK_BYTES * (1 + sim_below(s, 4));
    }
    if (r.offset >= size)
        r.offset = 0;
    if (r.length > size - r.offset)
        r.length = size - r.offset;
    return r;
}

static void note_unsynced(struct host *h, struct range r)
{
    struct extent e = extent_of_bytes(r.offset, r.length);
    for (uint64_t b = e.first; b < extent_end(e); b++)
        h->unsynced[r.disk][b] = true;
}

/* What a guest writes next, also into the model; true: zeros, by a discard. */
static bool fill(struct sim *s, struct host *h, struct range r)
{
    uint8_t *to = h->model[r.disk] + r.offset;
    uint64_t word = sim_next(s) | 1;
    if (sim_chance(s, 20)) {
        memset(to, 0, r.length);
        return true;
    }
    for (uint64_t i = 0; i < r.length; i++)
        to[i] = (uint8_t)(word >> (8 * (i % 7)));
    return false;
}

static bool put_range(struct host *h, struct range r, bool zeros, struct err *err)
{
    if (zeros)
        return source_zero(h->source, r.disk, r.offset, r.length, err);
    return source_write(h->source, r.disk, r.offset, span_of(h->model[r.disk] + r.offset, r.length),
                        err);
}

void host_write(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    struct range r = pick_range(s, h);
    sim_doing(s, "writing");
    note_unsynced(h, r);
    must_ok(s, put_range(h, r, fill(s, h, r), &err), err);
}

static void read_disk(struct sim *s, struct host *h, size_t disk, uint64_t offset, uint8_t *out,
                      uint64_t length)
{
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = NULL;
    must_ok(s, file_open(h->world, disk_paths[disk], O_RDONLY, 0, &f, &err), err);
    must_ok(s, file_read(f, mspan_of(out, length), offset, &err), err);
}

/* The worker dies at some call while it writes: nobody was told, so the range holds anything. */
static void torn_write(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    struct range r = pick_range(s, h);
    sim_doing(s, "dying in a write");
    s->sum->torn++;
    note_unsynced(h, r);
    bool zeros = fill(s, h, r);
    fake_world_stop(h->world, 1 + sim_below(s, 8));
    bool ok = put_range(h, r, zeros, &err);
    h->user.dead = true;
    must(s, ok || fake_world_stopped(h->world));
    host_kill(h);
    if (!ok)
        read_disk(s, h, r.disk, r.offset, h->model[r.disk] + r.offset, r.length);
    host_mount(s, h);
}

static void guest_read(struct sim *s, struct host *h)
{
    static uint8_t got[SIM_BLOCKS_MAX * BLOCK_BYTES];
    struct err err = ERR_NONE;
    struct range r = pick_range(s, h);
    sim_doing(s, "reading");
    must_ok(s, source_read(h->source, r.disk, r.offset, mspan_of(got, r.length), &err), err);
    must(s, memcmp(got, h->model[r.disk] + r.offset, r.length) == 0);
}

static void guest_flush(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    size_t disk = sim_below(s, SIM_DISKS);
    sim_doing(s, "flushing");
    must_ok(s, source_flush(h->source, disk, &err), err);
    memset(h->unsynced[disk], 0, sizeof h->unsynced[disk]);
}

/* --- shipping --- */

void host_step(struct sim *s, struct host *h)
{
    enum ship_phase before = h->shipper->phase;
    sim_doing(s, "shipping");
    h->busy = true;
    /* Now and then it dies in this step: at one of its own calls, or by sim_store's hook. */
    h->doomed = s->depth < SIM_DEPTH_MAX && sim_chance(s, 1);
    if (h->doomed)
        fake_world_stop(h->world, 1 + sim_below(s, 12));
    shipper_step(h->shipper);
    h->busy = h->doomed = false;
    bool seen = h->user.dead; /* by the store's hook, which kept what the memory was then */
    h->user.dead = h->user.dead || fake_world_stopped(h->world);
    if (before == SHIP_IDLE && h->shipper->phase == SHIP_DRAIN) {
        s->sum->passes += h->shipper->pass;
        if (!h->shipper->pass)
            oracle_shoot(s, h);
    }
    if (h->user.dead) {
        s->sum->kills++;
        host_kill(h);
        /* What it did to its keeper's memory since then never happened. */
        if (seen)
            memcpy(h->memory, h->memory_at_death, h->memory_bytes);
        else /* the keeper died, too */
            host_forget_memory(s, h);
        host_mount(s, h);
        return;
    }
    fake_world_stop(h->world, 0);
    if (h->shipper->phase == SHIP_FENCED && before != SHIP_FENCED) {
        s->sum->fenced++;
        must(s, h->generation.id != s->newest.id || s->rivals || s->claiming);
    }
}

static void ask(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    uint64_t ticket;
    sim_doing(s, "asking");
    if (h->shipper->phase == SHIP_FENCED)
        return;
    switch (sim_below(s, 5)) {
    case 0:
        must_ok(s, shipper_resync(h->shipper, &err), err);
        break;
    case 1:
        must_ok(s, shipper_pause(h->shipper, sim_chance(s, 50), &err), err);
        break;
    default: /* refused while it is paused */
        (void)!shipper_request_point(h->shipper, POINT_APPLICATION, "asked", &ticket, &err);
    }
}

/* --- what goes wrong --- */

/* Reads what the disks hold now; what was flushed must be there. */
static void take_stock(struct sim *s, struct host *h)
{
    for (size_t i = 0; i < SIM_DISKS; i++) {
        uint8_t *now = sim_memory(s->most_bytes[i]);
        read_disk(s, h, i, 0, now, h->bytes[i]);
        for (uint64_t b = 0; b < blocks_of_bytes(h->bytes[i]); b++) {
            uint64_t at = b * BLOCK_BYTES, left = h->bytes[i] - at;
            if (!h->unsynced[i][b])
                must(s, memcmp(now + at, h->model[i] + at,
                               left < BLOCK_BYTES ? left : BLOCK_BYTES) == 0);
        }
        free(h->model[i]);
        h->model[i] = now;
    }
    all_synced(h);
}

static void power_cut(struct sim *s, struct host *h)
{
    sim_doing(s, "cutting the power");
    s->sum->power_cuts++;
    if (sim_chance(s, 30)) { /* while it ships */
        h->busy = h->doomed = true;
        fake_world_stop(h->world, 1 + sim_below(s, 20));
        enum ship_phase before = h->shipper->phase;
        shipper_step(h->shipper);
        h->busy = h->doomed = false;
        if (before == SHIP_IDLE && h->shipper->phase == SHIP_DRAIN && !h->shipper->pass)
            oracle_shoot(s, h);
    }
    h->user.dead = true;
    host_kill(h);
    fake_world_power_cut(h->world, sim_next(s));
    host_forget_memory(s, h);
    take_stock(s, h);
    host_mount(s, h);
}

static void write_behind(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = NULL;
    struct range r = pick_range(s, h);
    s->sum->behind++;
    must_ok(s, file_open(h->world, disk_paths[r.disk], O_RDWR, 0, &f, &err), err);
    uint8_t *to = h->model[r.disk] + r.offset;
    memset(to, (int)sim_below(s, 256), r.length);
    must_ok(s, file_write(f, span_of(to, r.length), r.offset, &err) && file_sync(f, &err), err);
}

/* Keeper and worker: nothing is recorded, and no marks are lost. */
static void both_die(struct sim *s, struct host *h)
{
    sim_doing(s, "killing the worker and the keeper");
    s->sum->kills++;
    host_kill(h);
    host_forget_memory(s, h);
    fake_world_advance(h->world, 5000000000ull);
    if (sim_chance(s, 50))
        write_behind(s, h);
    host_mount(s, h);
}

static void clean_stop(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    sim_doing(s, "stopping cleanly");
    must_ok(s, shipper_stop(h->shipper, false, 0, &err), err);
    host_kill(h);
    host_forget_memory(s, h);
    all_synced(h);
    fake_world_advance(h->world, 5000000);
    if (sim_chance(s, 50))
        write_behind(s, h);
    host_mount(s, h);
}

/* As farshore disk grow does it: the file, then the settings; then the next worker takes that up.
 * It may end between the two, and the next one may be the one of a later mount. */
static void grow(struct sim *s, struct host *h)
{
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = NULL;
    size_t disk = sim_below(s, SIM_DISKS);
    uint64_t more = (s->most_bytes[disk] - h->bytes[disk]) / 512;
    if (more == 0)
        return;
    sim_doing(s, "growing a disk");
    s->sum->grown++;
    uint64_t bytes = h->bytes[disk] + 512 * (1 + sim_below(s, more));
    must_ok(s, file_open(h->world, disk_paths[disk], O_RDWR, 0, &f, &err), err);
    must(s, h->world->ops->truncate(f, bytes) == 0);
    must_ok(s, file_sync(f, &err), err);
    if (sim_chance(s, 10))
        power_cut(s, h);
    h->bytes[disk] = bytes;
    switch (sim_below(s, 8)) {
    case 0:
        power_cut(s, h);
        break;
    case 1:
        both_die(s, h);
        break;
    case 2:
        clean_stop(s, h);
        break;
    default:
        host_kill(h);
        host_mount(s, h);
        break;
    }
}

void host_act(struct sim *s, struct host *h)
{
    static const int64_t jumps_s[] = {-3600, 3600, 10ll * 365 * 86400, -10ll * 365 * 86400};
    if (h->busy && (h->doomed || h->user.dead))
        return;
    /* In a step of its own, its guest goes on. */
    uint64_t dice = sim_below(s, h->busy ? 470 : 1000);
    if (dice < 380)
        host_write(s, h);
    else if (dice < 420)
        guest_read(s, h);
    else if (dice < 470)
        guest_flush(s, h);
    else if (dice < 920)
        host_step(s, h);
    else if (dice < 930)
        ask(s, h);
    else if (dice < 945)
        torn_write(s, h);
    else if (dice < 970) {
        sim_doing(s, "killing the worker");
        s->sum->kills++;
        host_kill(h);
        host_mount(s, h);
    } else if (dice < 976)
        both_die(s, h);
    else if (dice < 985)
        power_cut(s, h);
    else if (dice < 990)
        clean_stop(s, h);
    else if (dice < 995)
        grow(s, h);
    else
        fake_world_jump(h->world, jumps_s[sim_below(s, 4)] * 1000000000);
}

/* --- a host is copied --- */

struct copying {
    struct sim *s;
    struct world *from, *to;
};

static bool copy_file(void *context, const char *name, bool directory)
{
    struct copying *c = context;
    struct err err = ERR_NONE;
    struct world_file *in AUTO_FILE = NULL, *out AUTO_FILE = NULL;
    struct world_stat st;
    char path[300];
    must(c->s, !directory);
    snprintf(path, sizeof path, SIM_STATE "/%s", name);
    must_ok(c->s, file_open(c->from, path, O_RDONLY, 0, &in, &err), err);
    must_ok(c->s, file_open(c->to, path, O_RDWR | O_CREAT, 0600, &out, &err), err);
    must(c->s, c->from->ops->stat(in, &st) == 0);
    uint8_t *bytes = sim_memory(st.size + 1);
    must_ok(c->s, file_read(in, mspan_of(bytes, st.size), 0, &err), err);
    must_ok(c->s, file_write(out, span_of(bytes, st.size), 0, &err) && file_sync(out, &err), err);
    free(bytes);
    return true;
}

/* `to` becomes what `from` is, as its disks and state are at this moment; perhaps its memory, too,
 * as a virtual machine's snapshot has it. From now on there are two writers with one state. */
void host_copy(struct sim *s, struct host *from, struct host *to)
{
    sim_doing(s, "copying a host");
    s->sum->copies++;
    s->rivals = s->rivals || from->generation.id == s->newest.id;
    s->lost = s->lost || (to->world != NULL && to->generation.id == s->newest.id);
    host_make(s, to);
    int64_t ahead_ns = (int64_t)(from->world->ops->realtime_ns(from->world) -
                                 to->world->ops->realtime_ns(to->world));
    fake_world_jump(to->world, ahead_ns);
    memcpy(to->bytes, from->bytes, sizeof to->bytes);
    for (size_t i = 0; i < SIM_DISKS; i++)
        memcpy(to->model[i], from->model[i], s->most_bytes[i]);
    host_write_disks(s, to);
    struct copying c = {.s = s, .from = from->world, .to = to->world};
    must(s, from->world->ops->list_dir(from->world, SIM_STATE, copy_file, &c) == 0);
    must(s, to->world->ops->sync_dir(to->world, SIM_STATE) == 0);
    if (sim_chance(s, 50)) {
        memcpy(to->memory, from->memory, s->memory_bytes);
        to->fresh = from->fresh;
        fake_world_copy_random(to->world, from->world);
    }
    to->generation = from->generation;
    for (size_t i = 0; i < s->shot_count; i++)
        if ((s->shots[i].writers >> from->identity & 1) != 0)
            s->shots[i].writers |= 1ull << to->identity;
    host_mount(s, to);
}
