/* SPDX-License-Identifier: MIT
 * Shared by the parts of a view: what a window of blocks maps to, and the frames behind it.
 * Nothing else includes this header. */
#ifndef FS_VIEW_VIEW_INTERNAL_H
#define FS_VIEW_VIEW_INTERNAL_H

#include "fs/view/view_cache.h"

/* How many blocks are looked up at once; also how far a sequential reader is read ahead. */
#define VIEW_WINDOW_BLOCKS 512u
/* Frames of a segment that are this near to each other come in one get of at most so much. */
#define VIEW_GAP_BYTES   (32u << 10)
#define VIEW_FETCH_BYTES (4u << 20)
#define VIEW_CODECS_MAX  16u
#define RUN_COST_MAX     (4u << 20) /* pages that an open run keeps, decoded */

/* The runs that make the point, newest first, as the history once said: a snapshot of objects that
 * is right for as long as all of them are there. */
struct view_runs {
    struct run_place *places;
    size_t count;
    unsigned users; /* view.lock; the view itself is one */
};

struct view {
    struct view_config config;
    struct history_point point;
    struct epoch_disk disks[VM_DISKS_MAX];
    size_t disk_count;

    pthread_mutex_t lock; /* guards what follows */
    struct view_runs *runs;
    uint64_t next_block[VM_DISKS_MAX]; /* where the last read ended: the next one is sequential */
    struct frame_codec *codecs[VIEW_CODECS_MAX]; /* idle ones */
    size_t codec_count;
};

/* A frame that holds blocks of the window. */
struct piece {
    struct run_entry entry;
    struct frame_key key;
    struct view_frame *frame; /* held once it was got */
    bool needed;              /* by the reader, not only ahead of it */
    bool claimed;             /* `frame` is ours to load */
};

#define MAP_HOLE       UINT16_MAX
#define MAP_UNREADABLE (UINT16_MAX - 1)
#define MAP_OPEN       (UINT16_MAX - 2) /* no run looked at so far says anything of it */

struct map {
    uint16_t disk;
    uint64_t first;
    size_t count;
    size_t open; /* blocks that are MAP_OPEN */
    uint16_t of[VIEW_WINDOW_BLOCKS];
    struct piece *pieces; /* at most one a block */
    size_t piece_count, piece_room;
    struct view_cache *cache;
};

void map_release(struct map *m);
#define AUTO_MAP CLEANUP(map_release)

/* The runs as they are now, held until the end of the scope. */
struct view_runs *view_runs_hold(struct view *v);
struct held_runs {
    struct view *view;
    struct view_runs *runs;
};
void view_runs_put(struct held_runs *h);

/* What the blocks [first, first + count) of disk number `disk` are at the point. */
bool map_make(struct view *v, uint16_t disk, uint64_t first, size_t count, struct map *m,
              struct err *err) MUST_CHECK;
/* The first block at or after `from` that some run says is not a hole (a newer one may say that it
 * is one): a bound below which there is no data. */
bool map_next_candidate(struct view *v, uint16_t disk, uint64_t from, uint64_t *block, bool *found,
                        struct err *err) MUST_CHECK;

/* Gets the frames of all needed pieces, and of those that come along in the same gets. */
bool map_fetch(struct view *v, struct map *m, struct err *err) MUST_CHECK;

/* Puts "disk NAME, block N" in front; returns false. */
bool view_err_at(const struct view *v, uint16_t disk, uint64_t block, struct err *err);

#endif
