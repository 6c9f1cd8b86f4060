/* SPDX-License-Identifier: MIT
 * What views of a process share: decoded frames and open runs, each bounded in bytes, the least
 * recently used going first. A frame is loaded by one thread at a time: who claims it publishes it
 * or gives it up, others wait. What is in use stays, beyond the bound if it must. Any thread. */
#ifndef FS_VIEW_VIEW_CACHE_H
#define FS_VIEW_VIEW_CACHE_H

#include "backend/history/stored_run.h"
#include "fs/view/view.h"

/* --- frames --- */

/* Which bytes: an object is named by its digest, so this never means something else later. */
struct frame_key {
    uint8_t vm[VM_ID_BYTES];
    struct sha256 segment;
    struct block_digest sealed;
    uint32_t offset;
    uint16_t store;
};

struct view_frame {
    struct frame_key key;
    uint8_t *plain; /* NULL until it was published; constant from then on */
    size_t bytes;
    unsigned users; /* this and the rest: view_cache.lock */
    bool loading;
    struct view_frame *chain;         /* in its hash bucket */
    struct view_frame *newer, *older; /* in the order of use; only when ready */
};

enum frame_claim {
    FRAME_READY,   /* *out is held: view_cache_put */
    FRAME_CLAIMED, /* *out is the caller's to publish or to give up */
    FRAME_BUSY,    /* another loads it: view_cache_wait */
    FRAME_NONE,    /* out of memory */
};
enum frame_claim view_cache_claim(struct view_cache *c, const struct frame_key *key,
                                  struct view_frame **out);
/* `plain` is malloc'ed and taken; the frame stays held by the caller. */
void view_cache_publish(struct view_cache *c, struct view_frame *f, uint8_t *plain, size_t bytes);
void view_cache_give_up(struct view_cache *c, struct view_frame **f);
void view_cache_put(struct view_cache *c, struct view_frame **f); /* NULL inside is fine */
/* Until nobody loads it any more; it may have failed. */
void view_cache_wait(struct view_cache *c, const struct frame_key *key);

/* --- open runs, of one history each --- */

struct open_run {
    struct history *history;
    struct run_place place;
    struct stored_run stored;
    size_t cost;
    unsigned users;
    struct open_run *chain;
    struct open_run *newer, *older;
};

/* The run held, or NULL. */
struct open_run *view_cache_run_get(struct view_cache *c, struct history *h,
                                    const struct run_place *place);
/* Adds a run that the caller holds (users 1). When another thread was first, that one is held and
 * returned instead. */
struct open_run *view_cache_run_add(struct view_cache *c, struct open_run *r);
void view_cache_run_put(struct view_cache *c, struct open_run **r); /* NULL inside is fine */
/* Views of one history, counted: when the last one ends its runs are closed, for what they borrow
 * may go then. */
bool view_cache_view_add(struct view_cache *c, struct history *h);
void view_cache_view_remove(struct view_cache *c, struct history *h);

#endif
