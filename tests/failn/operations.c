/* SPDX-License-Identifier: MIT */
#include "tests/failn/operations.h"

#include "tests/failn/failn.h"
#include "tests/failn/vault_operations.h"

#include <stdio.h>
#include <stdlib.h>

#define STOP_MS 30000u

static struct place_mount mounted; /* between prepare, run and end */

void operations_must(bool good, const struct err *err)
{
    if (good)
        return;
    fprintf(stderr, "prepare: %s\n", err->text);
    abort();
}

bool operations_said(bool good, const char *what, struct err *err)
{
    return good || err_set(err, ERR_IO, "%s fails: its output says why", what);
}

static void nothing(struct place *p)
{
    (void)p;
}

static bool check_nothing(struct place *p, struct err *err)
{
    (void)p, (void)err;
    return true;
}

/* --- steps of several operations --- */

static bool write_some(struct place_mount *m, struct err *err)
{
    return place_write(m, 0, 0, 64, err) && place_write(m, 0, 2048, 20, err) &&
           place_write(m, 1, 2040, 14, err) && place_zero(m, 0, 16, 16, err);
}

static bool read_all(struct place_mount *m, struct err *err)
{
    for (size_t disk = 0; disk < PLACE_DISKS; disk++)
        if (!place_read(m, disk, 0, place_disk_bytes[disk] / PLACE_SECTOR, err))
            return false;
    return true;
}

static bool stop(struct place_mount *m, struct err *err)
{
    return shipper_stop(m->shipper, true, STOP_MS, err);
}

/* More than rides in an entry. */
#define PART_SECTORS (EPOCH_INLINE_BYTES / PLACE_SECTOR + 64)

bool operations_prepare(struct place *p, struct err *err)
{
    struct place_mount m;
    if (!operations_said(place_enable(p), "enable", err) || !place_mount_open(p, true, &m, err))
        return false;
    bool good = write_some(&m, err) && place_ship(&m, err) &&
                operations_said(place_process(), "process", err) &&
                place_write(&m, 0, 1024, PART_SECTORS, err) && place_write(&m, 1, 8, 24, err) &&
                place_ship(&m, err) && stop(&m, err);
    place_mount_close(&m);
    return good;
}

static void prepare_before(struct place *p)
{
    struct err err = ERR_NONE;
    operations_must(operations_prepare(p, &err), &err);
}

/* --- enable --- */

static bool run_enable(struct place *p, struct err *err)
{
    return operations_said(place_enable(p), "enable", err);
}

static bool check_enable(struct place *p, struct err *err)
{
    (void)p;
    return place_enabled() || err_set(err, ERR_IO, "not enabled");
}

/* --- mount: a second one, after a clean stop; a write, and its end with a final cut --- */

static bool run_mount(struct place *p, struct err *err)
{
    struct place_mount m;
    if (!place_mount_open(p, true, &m, err))
        return false;
    bool good = place_write(&m, 0, 40, 8, err) && stop(&m, err);
    place_mount_close(&m);
    return good;
}

/* --- write: while a cut is open that still needs the blocks --- */

static bool open_cut(struct place_mount *m, struct err *err)
{
    uint64_t ticket;
    if (!write_some(m, err) || !shipper_request_point(m->shipper, POINT_CRASH, "", &ticket, err))
        return false;
    for (unsigned i = 0; i < PLACE_STEPS; i++) {
        if (m->shipper->phase == SHIP_DRAIN || m->shipper->phase == SHIP_TAKE)
            return true;
        failn_pass_ms(shipper_step(m->shipper));
    }
    return err_set(err, ERR_IO, "no cut opens");
}

static void prepare_write(struct place *p)
{
    struct err err = ERR_NONE;
    prepare_before(p);
    operations_must(place_mount_open(p, true, &mounted, &err) && open_cut(&mounted, &err), &err);
}

/* A guest goes on after an error. */
static bool run_write(struct place *p, struct err *err)
{
    struct place_mount *m = &mounted;
    struct err last = ERR_NONE;
    uint64_t start, end;
    bool found;
    bool all = place_write(m, 0, 8, 40, err); /* the cut needs these */
    all &= place_write(m, 0, 2051, 3, &last); /* part of a block */
    all &= place_write(m, 0, 6144, 8, &last); /* a region that is not marked */
    all &= place_zero(m, 0, 2049, 30, &last);
    all &= place_zero(m, 0, 6200, 64, &last);
    all &= place_write(m, 1, 2044, 10, &last); /* the last, partial block */
    for (size_t disk = 0; disk < PLACE_DISKS; disk++)
        all &= source_flush(m->source, disk, &last);
    all &= source_next_data(m->source, 0, 0, &start, &end, &found, &last);
    all &= read_all(m, &last);
    if (last.kind != ERR_OK)
        *err = last;
    (void)p;
    return all;
}

static void end_mounted(struct place *p)
{
    (void)p;
    place_mount_close(&mounted);
}

/* --- ship: a point with a part, and one within its entry --- */

static void prepare_ship(struct place *p)
{
    struct err err = ERR_NONE;
    prepare_before(p);
    operations_must(place_mount_open(p, true, &mounted, &err) && write_some(&mounted, &err) &&
                        place_write(&mounted, 0, 4096, PART_SECTORS, &err),
                    &err);
}

static bool run_ship(struct place *p, struct err *err)
{
    (void)p;
    return place_ship(&mounted, err) &&
           (place_write(&mounted, 1, 16, 8, err) || place_write(&mounted, 1, 16, 8, err)) &&
           place_ship(&mounted, err);
}

static bool check_ship(struct place *p, struct err *err)
{
    return operations_said(place_process(), "process", err) && place_point_is_files(p, err);
}

/* --- process --- */

static bool run_process(struct place *p, struct err *err)
{
    (void)p;
    return operations_said(place_process(), "process", err);
}

/* --- recover: the newest point is found, read, and written over --- */

static void prepare_recover(struct place *p)
{
    struct err err = ERR_NONE;
    prepare_before(p);
    operations_must(operations_said(place_process(), "process", &err), &err);
    memcpy(p->truth->answered[PLACE_OVERLAY], p->truth->answered[0], PLACE_SECTORS);
    memcpy(p->truth->begun[PLACE_OVERLAY], p->truth->begun[0], PLACE_SECTORS);
}

static bool run_recover(struct place *p, struct err *err)
{
    struct place_recovery r;
    if (!place_recovery_open(p, true, &r, err))
        return false;
    bool good = place_recovery_read(&r, 0, 0, err) && place_recovery_read(&r, 1, 1, err) &&
                place_recovery_write(&r, err) && place_recovery_read(&r, 0, PLACE_OVERLAY, err);
    open_points_tend(r.points);
    place_recovery_close(&r);
    return good;
}

/* Also when it failed: an answered write is there, and the others are as they were. */
static bool check_overlay(struct place *p, struct err *err)
{
    struct place_recovery r;
    if (!place_recovery_open(p, true, &r, err))
        return false;
    bool good = place_recovery_read(&r, 0, PLACE_OVERLAY, err);
    place_recovery_close(&r);
    return good;
}

/* --- grow --- */

static bool run_grow(struct place *p, struct err *err)
{
    const char *const words[] = {"disk", PLACE_VM, "grow", "b", PLACE_GROWN, NULL};
    (void)p;
    return operations_said(place_verb(words), "disk grow", err);
}

static bool check_grow(struct place *p, struct err *err)
{
    (void)p;
    return place_disk_size(1) == 2u << 20 || err_set(err, ERR_IO, "it has not grown");
}

/* --- the walk --- */

static bool flush_all(struct place_mount *m, struct err *err)
{
    for (size_t disk = 0; disk < PLACE_DISKS; disk++)
        if (!source_flush(m->source, disk, err))
            return false;
    return true;
}

/* A worker takes over; once an fsync has failed, only the next mount's succeeds. */
static bool adopt(struct place *p, struct err *err)
{
    struct place_mount m;
    struct err sticky = ERR_NONE;
    if (!place_mount_open(p, false, &m, err))
        return err_wrap(err, "adopt");
    bool good = read_all(&m, err) && write_some(&m, err) && place_ship(&m, err);
    if (good && !flush_all(&m, &sticky) && strstr(sticky.text, "unmount and mount again") == NULL)
        good = err_set(err, sticky.kind, "%s", sticky.text);
    place_mount_close(&m);
    return good || err_wrap(err, "adopted");
}

static bool mount_again(struct place *p, struct err *err)
{
    struct place_mount m;
    if (!place_mount_open(p, true, &m, err))
        return err_wrap(err, "mount");
    bool good = read_all(&m, err) && write_some(&m, err) && place_write(&m, 0, 3000, 9, err) &&
                flush_all(&m, err) && read_all(&m, err) && place_ship(&m, err) && stop(&m, err);
    place_mount_close(&m);
    return good || err_wrap(err, "mounted");
}

/* The whole way with what an operation left: enable where it is not enabled, mount, read, write,
 * ship, stop, process, recover. All data is right. */
static bool walk(struct place *p, bool fresh, struct err *err)
{
    return (place_enabled() || operations_said(place_enable(p), "enable", err)) &&
           (fresh || adopt(p, err)) && mount_again(p, err) &&
           operations_said(place_process(), "process", err) &&
           (place_point_is_files(p, err) || err_wrap(err, "recover"));
}

/* --- all --- */

const struct operation operations[OPERATIONS] = {
    {.name = "enable",
     .cold = true,
     .prepare = nothing,
     .run = run_enable,
     .end = nothing,
     .check = check_enable,
     .after = walk},
    {.name = "mount",
     .prepare = prepare_before,
     .run = run_mount,
     .end = nothing,
     .check = check_ship,
     .after = walk},
    {.name = "write",
     .adopts = true,
     .prepare = prepare_write,
     .run = run_write,
     .end = end_mounted,
     .check = check_nothing,
     .after = walk},
    {.name = "ship",
     .goes_on = true,
     .adopts = true,
     .prepare = prepare_ship,
     .run = run_ship,
     .end = end_mounted,
     .check = check_ship,
     .after = walk},
    {.name = "process",
     .prepare = prepare_before,
     .run = run_process,
     .end = nothing,
     .check = place_point_is_files,
     .after = walk},
    {.name = "recover",
     .prepare = prepare_recover,
     .run = run_recover,
     .end = nothing,
     .check = check_overlay,
     .after = walk},
    {.name = "grow",
     .prepare = prepare_before,
     .run = run_grow,
     .end = nothing,
     .check = check_grow,
     .after = walk},
    {.name = "thin",
     .prepare = prepare_thin,
     .run = run_thin,
     .end = nothing,
     .check = check_thin,
     .after = walk},
    {.name = "claim",
     .prepare = prepare_claim,
     .run = run_claim,
     .end = nothing,
     .check = check_claim,
     .after = after_claim},
};
