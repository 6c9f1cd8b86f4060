/* SPDX-License-Identifier: MIT
 * The recovery points that somebody reads: their views, what pins them in the vault, and, in a
 * writable mount, their overlays. A point is opened by the first use of one of its images, kept for
 * OPEN_POINT_IDLE_MS after the last, and at most OPEN_POINTS_MAX are open at a time.
 *
 * A point that is only read has a lease; a lease that could not be renewed in time has lapsed, and
 * reads fail until it is renewed and the point is seen to be listed still. A point that is written
 * has a hold, placed before its first write is answered; the hold's name lies in the scratch folder
 * beside the overlays, durable before the hold is, so that who discards the overlays can remove it.
 *
 *   SCRATCH/NAME/VM/lock              held: one mount at a time writes under a NAME
 *   SCRATCH/NAME/VM/POINT/hold        the name of the pin
 *   SCRATCH/NAME/VM/POINT/DISK.data, DISK.map
 *
 * Any thread may call; open_points_tend is one thread's. */
#ifndef FS_MOUNT_OPEN_POINTS_H
#define FS_MOUNT_OPEN_POINTS_H

#include "fs/mount/recovery_mount.h"

#define OPEN_POINTS_MAX     256u
#define OPEN_POINT_IDLE_MS  60000u
#define OPEN_POINT_LEASE_MS 900000u /* renewed when half of it is gone */

struct open_points;

/* `config` outlives it. ERR_BUSY: another mount writes under that name. */
bool open_points_make(const struct recovery_mount_config *config, struct open_points **out,
                      struct err *err) MUST_CHECK;
/* Flushes overlays, removes leases. No image is in use. */
void open_points_release(struct open_points **p);
#define AUTO_OPEN_POINTS CLEANUP(open_points_release)

/* Renews leases, closes what nobody uses. Called every few seconds; logs what fails. */
void open_points_tend(struct open_points *p);

/* One use of one disk of one point. */
struct image;

/* `vm`: index in the config; `disk`: in the view. ERR_BUSY: too many points are open. */
bool image_open(struct open_points *p, size_t vm, const struct history_point *at, size_t disk,
                struct image **out, struct err *err) MUST_CHECK;
void image_close(struct image *image);

/* Ranges lie inside the disk (asserted). */
uint64_t image_bytes(const struct image *image);
bool image_read(struct image *image, uint64_t offset, struct mspan out, struct err *err) MUST_CHECK;
bool image_next_data(struct image *image, uint64_t from, struct extent *out, bool *found,
                     struct err *err) MUST_CHECK;
/* Only with a writable_name (asserted). */
bool image_write(struct image *image, uint64_t offset, struct span data,
                 struct err *err) MUST_CHECK;
bool image_zero(struct image *image, uint64_t offset, uint64_t length, struct err *err) MUST_CHECK;
/* What was written is durable; nothing to do when nothing was. */
bool image_flush(struct image *image, struct err *err) MUST_CHECK;

#endif
