/* SPDX-License-Identifier: MIT */
#include "tests/support/engine_rig.h"

#include "backend/history/processor.h"
#include "common/file.h"
#include "fs/disk/cut.h"
#include "tests/support/check.h"
#include "tests/support/specimen.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static const char *const names[RIG_DISKS] = {"a", "b"};
static const char *const paths[RIG_DISKS] = {"/disks/a.raw", "/disks/b.raw"};

const char *rig_disk_path(size_t disk)
{
    return paths[disk];
}

static void make_disks(struct rig *r)
{
    struct err err = ERR_NONE;
    check_ok(dir_make(r->world, "/disks", 0700, &err), err);
    check_ok(dir_make(r->world, RIG_FOLDER, 0700, &err), err);
    for (size_t i = 0; i < RIG_DISKS; i++) {
        struct world_file *f AUTO_FILE = NULL;
        check_ok(file_open(r->world, paths[i], O_RDWR | O_CREAT, 0600, &f, &err), err);
        assert_int_equal(r->world->ops->truncate(f, r->disk_bytes[i]), 0);
        check_ok(file_sync(f, &err), err);
    }
    assert_int_equal(r->world->ops->sync_dir(r->world, "/disks"), 0);
}

/* Entry 0 of the log, as `enable` puts it. */
static void begin_log(struct rig *r)
{
    struct err err = ERR_NONE;
    struct epoch_entry entry = {.kind = EPOCH_OPEN, .generation = r->generation};
    struct seal_salt salt = specimen_salt(9);
    struct buf body AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    memcpy(entry.vm, r->vm_id, sizeof entry.vm);
    entry.point_kind = POINT_CRASH;
    check_ok(epoch_encode(&entry, r->keys, &salt, &body, &err), err);
    key_epoch(key, RIG_VM, r->generation, 0);
    memory_bucket_set(r->cache, key, buf_span(&body));
}

struct rig *rig_make_in(struct world *w, const uint64_t disk_bytes[RIG_DISKS])
{
    struct rig *r = calloc(1, sizeof *r);
    assert_non_null(r);
    r->world = w;
    r->disk_bytes = disk_bytes;
    r->cache = memory_bucket_make();
    r->store = memory_store_open(r->cache);
    r->keys = specimen_keys(1);
    r->generation = (struct generation){.number = 1, .id = 0x1234567890abcdefu};
    memcpy(r->vm_id, specimen_vm, sizeof r->vm_id);
    r->memory_bytes = source_memory_bytes(disk_bytes, RIG_DISKS) +
                      source_origin_memory_bytes(disk_bytes, RIG_DISKS);
    r->memory =
        mmap(NULL, r->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(r->memory != MAP_FAILED);
    r->fresh = true;
    r->pass_above_bytes = RIG_UNDO_BYTES;
    make_disks(r);
    begin_log(r);
    fake_world_advance(r->world, 1000000000);
    return r;
}

struct rig *rig_make(void)
{
    return rig_make_in(fake_world_make(1), rig_disk_bytes);
}

void rig_let_go(struct rig **rig)
{
    struct rig *r = *rig;
    rig_close(r);
    keys_release(&r->keys);
    store_close(&r->store);
    memory_bucket_release(&r->cache);
    munmap(r->memory, r->memory_bytes);
    free(r);
    *rig = NULL;
}

void rig_release(struct rig **rig)
{
    struct world *w = (*rig)->world;
    rig_let_go(rig);
    fake_world_release(&w);
}

uint16_t rig_disk_number(size_t disk)
{
    return (uint16_t)(disk + 3);
}

static struct presence_head head_of(const struct rig *r, size_t disk)
{
    struct presence_head head = {.generation_id = r->generation.id,
                                 .epoch = 5,
                                 .disk = rig_disk_number(disk),
                                 .disk_bytes = r->disk_bytes[disk]};
    memcpy(head.vm, r->vm_id, sizeof head.vm);
    return head;
}

void rig_lay_over(struct rig *r, const struct origin *origin)
{
    struct err err = ERR_NONE;
    r->origin = origin;
    for (size_t i = 0; i < RIG_DISKS; i++) {
        char path[64];
        struct presence_head head = head_of(r, i);
        snprintf(path, sizeof path, "%s.map", paths[i]);
        check_ok(presence_create(r->world, path, &head, &err), err);
    }
}

static bool open_source(struct rig *r, struct err *err)
{
    struct source_disk_config disks[RIG_DISKS];
    for (uint16_t i = 0; i < RIG_DISKS; i++)
        disks[i] = (struct source_disk_config){.name = names[i],
                                               .path = paths[i],
                                               .number = rig_disk_number(i),
                                               .size_bytes = r->disk_bytes[i],
                                               .origin = r->origin,
                                               .origin_head = head_of(r, i)};
    struct source_config config = {.world = r->world,
                                   .state_folder = RIG_FOLDER,
                                   .disks = disks,
                                   .disk_count = RIG_DISKS,
                                   .undo_memory_bytes = RIG_UNDO_BYTES / 2,
                                   .undo_file_bytes = RIG_UNDO_BYTES / 2,
                                   .key_id = keys_id(r->keys),
                                   .memory = r->memory,
                                   .memory_bytes = r->memory_bytes,
                                   .memory_fresh = r->fresh};
    r->fresh = false;
    return source_open(&config, &r->source, err);
}

bool rig_try_open_source(struct rig *r, struct err *err)
{
    if (!open_source(r, err))
        return false;
    source_checked(r->source);
    return true;
}

void rig_open_source(struct rig *r)
{
    struct err err = ERR_NONE;
    check_ok(rig_try_open_source(r, &err), err);
}

bool rig_try_open(struct rig *r, struct err *err)
{
    if (!open_source(r, err))
        return false;
    struct shipper_config config = {.source = r->source,
                                    .world = r->world,
                                    .vm = RIG_VM,
                                    .generation = r->generation,
                                    .keys = r->keys,
                                    .encrypt = true,
                                    .caches = &r->store,
                                    .cache_count = 1,
                                    .state_folder = RIG_FOLDER,
                                    .cut_interval_ms = CUT_INTERVAL_MIN_MS,
                                    .pass_above_bytes = r->pass_above_bytes};
    memcpy(config.vm_id, r->vm_id, sizeof config.vm_id);
    if (shipper_open(&config, &r->shipper, err))
        return true;
    rig_close(r);
    return false;
}

void rig_open(struct rig *r)
{
    struct err err = ERR_NONE;
    check_ok(rig_try_open(r, &err), err);
}

void rig_close(struct rig *r)
{
    shipper_close(&r->shipper);
    source_close(&r->source);
}

void rig_kill(struct rig *r)
{
    rig_close(r);
}

void rig_reboot(struct rig *r)
{
    rig_close(r);
    assert_int_equal(madvise(r->memory, r->memory_bytes, MADV_DONTNEED), 0); /* all zeros */
    r->fresh = true;
}

void rig_power_cut(struct rig *r, uint64_t seed)
{
    rig_reboot(r);
    fake_world_power_cut(r->world, seed);
}

void rig_write(struct rig *r, size_t disk, uint64_t block, uint64_t count, uint8_t fill)
{
    struct err err = ERR_NONE;
    size_t length = (size_t)count * BLOCK_BYTES;
    uint8_t *data AUTO_FREE = malloc(length);
    if ((block + count) * BLOCK_BYTES > r->disk_bytes[disk])
        length = (size_t)(r->disk_bytes[disk] - block * BLOCK_BYTES);
    memset(data, fill, length);
    check_ok(source_write(r->source, disk, block * BLOCK_BYTES, span_of(data, length), &err), err);
}

void rig_zero(struct rig *r, size_t disk, uint64_t block, uint64_t count)
{
    struct err err = ERR_NONE;
    check_ok(source_zero(r->source, disk, block * BLOCK_BYTES, count * BLOCK_BYTES, &err), err);
}

void rig_write_raw(struct rig *r, size_t disk, uint64_t block, uint8_t fill)
{
    struct err err = ERR_NONE;
    uint8_t data[BLOCK_BYTES];
    struct world_file *f AUTO_FILE = NULL;
    memset(data, fill, sizeof data);
    check_ok(file_open(r->world, paths[disk], O_RDWR, 0, &f, &err), err);
    check_ok(file_write(f, span_of(data, sizeof data), block * BLOCK_BYTES, &err), err);
    check_ok(file_sync(f, &err), err);
}

uint8_t rig_read_raw(struct rig *r, size_t disk, uint64_t block)
{
    struct err err = ERR_NONE;
    uint8_t data[1];
    struct world_file *f AUTO_FILE = NULL;
    check_ok(file_open(r->world, paths[disk], O_RDWR, 0, &f, &err), err);
    check_ok(file_read(f, mspan_of(data, sizeof data), block * BLOCK_BYTES, &err), err);
    return data[0];
}

void rig_forget_dirty(struct rig *r)
{
    source_cut(r->source, false);
    assert_true(source_cut_drained(r->source));
    source_cut_commit(r->source);
    assert_int_equal(source_dirty_blocks(r->source), 0);
}

bool rig_try_ship_all(struct rig *r)
{
    struct shipper *s = r->shipper;
    for (unsigned i = 0; i < 400; i++) {
        uint64_t wait_ms = shipper_step(s);
        if (fake_world_died(r->world))
            return false;
        if (s->phase == SHIP_IDLE && wait_ms > 0 && source_dirty_blocks(r->source) == 0 &&
            s->state.initial_done)
            return true;
        rig_advance_ms(r, wait_ms);
    }
    fail_msg("not shipped after 400 steps: phase %d, %s", (int)s->phase, s->seen.reason);
    return false;
}

void rig_ship_all(struct rig *r)
{
    assert_true(rig_try_ship_all(r));
}

void rig_advance_ms(struct rig *r, uint64_t ms)
{
    fake_world_advance(r->world, ms * 1000000);
}

struct shipper_status rig_status(struct rig *r)
{
    struct shipper_status status;
    shipper_status(r->shipper, &status);
    return status;
}

bool rig_entry(struct rig *r, uint64_t epoch, struct epoch_decoded *out)
{
    struct err err = ERR_NONE;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct store *look AUTO_STORE = memory_store_open(r->cache);
    char key[KEY_MAX];
    key_epoch(key, RIG_VM, r->generation, epoch);
    if (!memory_bucket_has(r->cache, key))
        return false;
    check_ok(store_load(look, key, EPOCH_BYTES_MAX, &stored, &err), err);
    check_ok(epoch_decode(buf_span(&stored), r->keys, r->vm_id, r->generation, epoch, out, &err),
             err);
    return true;
}

static enum rig_replica in_epoch(struct rig *r, const struct epoch_decoded *d, size_t disk,
                                 uint64_t block, uint8_t out[BLOCK_BYTES])
{
    struct err err = ERR_NONE;
    struct span bytes = d->entry.run;
    struct run *run AUTO_RUN = NULL;
    struct run_entry e;
    bool found;
    if (bytes.length == 0)
        return RIG_REPLICA_NOTHING;
    check_ok(run_open(r->keys, r->vm_id, run_in_memory(&bytes), &run, &err), err);
    check_ok(run_find(run, source_disk_number(r->source, disk), block, &e, &found, &err), err);
    if (!found || !run_entry_clip(&e, block, 1))
        return RIG_REPLICA_NOTHING;
    if (e.kind != RUN_DATA)
        return e.kind == RUN_HOLE ? RIG_REPLICA_HOLE : RIG_REPLICA_UNREADABLE;
    struct frame_codec *codec AUTO_FRAME_CODEC = NULL;
    uint8_t plain[FRAME_PLAIN_MAX];
    assert_true(d->entry.has_inline);
    check_ok(frame_codec_make(r->keys, &codec, &err), err);
    check_ok(frame_decode(codec, &e.frame,
                          span_part(d->entry.inline_part, e.offset, e.stored_bytes),
                          mspan_of(plain, (size_t)e.frame.blocks * BLOCK_BYTES), &err),
             err);
    memcpy(out, plain + (block - e.frame.first) * BLOCK_BYTES, BLOCK_BYTES);
    return RIG_REPLICA_DATA;
}

enum rig_replica rig_replica_block(struct rig *r, size_t disk, uint64_t block,
                                   uint8_t out[BLOCK_BYTES])
{
    for (uint64_t epoch = r->shipper->state.epoch; epoch > 0; epoch--) {
        struct epoch_decoded d AUTO_EPOCH = {.memory = BUF_NONE};
        assert_true(rig_entry(r, epoch, &d));
        enum rig_replica found = in_epoch(r, &d, disk, block, out);
        if (found != RIG_REPLICA_NOTHING)
            return found;
    }
    return RIG_REPLICA_NOTHING;
}

enum rig_replica rig_replica(struct rig *r, size_t disk, uint64_t block, uint8_t *fill)
{
    uint8_t bytes[BLOCK_BYTES];
    enum rig_replica found = rig_replica_block(r, disk, block, bytes);
    if (found == RIG_REPLICA_DATA)
        *fill = bytes[0];
    return found;
}

void rig_replica_has(struct rig *r, size_t disk, uint64_t block, uint8_t fill)
{
    uint8_t has = 0;
    assert_int_equal(rig_replica(r, disk, block, &has), RIG_REPLICA_DATA);
    assert_int_equal(has, fill);
}

void rig_replica_is_local(struct rig *r, size_t disk, uint64_t block)
{
    uint8_t fill = 0;
    enum rig_replica has = rig_replica(r, disk, block, &fill);
    assert_int_equal(has == RIG_REPLICA_DATA ? fill : 0, rig_read_raw(r, disk, block));
}
