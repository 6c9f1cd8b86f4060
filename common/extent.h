/* SPDX-License-Identifier: MIT
 * Blocks and extents. A block is 4 KiB, the unit of tracking and of history; an extent is a run of
 * blocks of one disk. Byte ranges from the outside are clipped and widened here, nowhere else. */
#ifndef COMMON_EXTENT_H
#define COMMON_EXTENT_H

#include <stdbool.h>
#include <stdint.h>

#define BLOCK_BYTES      4096u /* linux/fs.h and sys/mount.h define a BLOCK_SIZE of their own */
#define BLOCK_SHIFT      12
#define FRAME_BLOCKS_MAX 16u          /* 64 KiB: what one frame may hold */
#define REGION_BLOCKS    256u         /* 1 MiB: what one intent mark and one dirty leaf cover */
#define REGION_SHIFT     20           /* bytes to region */
#define DISK_BYTES_MAX   (1ull << 50) /* 1 PiB: every sum stays far from 2^64 */
#define VM_DISKS_MAX     64u

struct extent {
    uint64_t first; /* block index */
    uint64_t count; /* blocks; 0 = empty */
};

/* How many blocks a disk of `bytes` has; a last partial block counts. */
static inline uint64_t blocks_of_bytes(uint64_t bytes)
{
    return (bytes + BLOCK_BYTES - 1) >> BLOCK_SHIFT;
}

/* The blocks that a byte range touches. */
static inline struct extent extent_of_bytes(uint64_t offset, uint64_t length)
{
    if (length == 0)
        return (struct extent){.first = offset >> BLOCK_SHIFT, .count = 0};
    uint64_t first = offset >> BLOCK_SHIFT;
    return (struct extent){.first = first,
                           .count = ((offset + length - 1) >> BLOCK_SHIFT) - first + 1};
}

static inline uint64_t extent_end(struct extent e)
{
    return e.first + e.count;
}

static inline bool extents_overlap(struct extent a, struct extent b)
{
    return a.first < extent_end(b) && b.first < extent_end(a);
}

#endif
