/* SPDX-License-Identifier: MIT
 * The ship machine, private to fs/disk: what shipper.c drives. One thread steps it.
 *
 *   SETTLE   what the log's next slot holds is not known: look, before anything else
 *   IDLE     nothing pending; a cut is due at some time
 *   DRAIN    the cut was made; writes of its epoch are still in flight
 *   TAKE     reads frozen blocks, fills and uploads parts
 *   PUT      parts are up: journal, end object, digest files
 *   FENCED   another writer owns the log; nothing is cut, cleared or deleted any more
 *
 *   SETTLE -> IDLE | FENCED          IDLE -> DRAIN -> TAKE -> PUT -> IDLE
 *   PUT -> TAKE   (a pass has more)  DRAIN, TAKE, PUT -> SETTLE (abandoned) | FENCED
 */
#ifndef FS_DISK_SHIP_H
#define FS_DISK_SHIP_H

#include "fs/disk/cut.h"
#include "fs/disk/journal.h"
#include "fs/disk/pace.h"
#include "fs/disk/pack.h"
#include "fs/disk/ship_state.h"
#include "fs/disk/shipper.h"

#include "backend/history/numlog.h"

#include <pthread.h>

enum ship_phase { SHIP_SETTLE, SHIP_IDLE, SHIP_DRAIN, SHIP_TAKE, SHIP_PUT, SHIP_FENCED };

#define SHIP_UNAPPLIED_MAX 4096u
#define POINT_RESULTS_MAX  64u
#define PASS_EPOCH_BYTES   (256u << 20) /* a pass commits an epoch about this often */
#define PASS_EPOCH_ENTRIES 65536u
#define SMALL_EPOCH_BYTES  (512u << 10) /* with a chunk more it rides in the end object */

/* A point in the cache store that the target has not applied yet. */
struct unapplied {
    uint64_t epoch;
    uint64_t first_write_ms; /* boot time of its oldest write; 0 = none */
};

/* What became of the requests up to `ticket`. */
struct point_result {
    uint64_t ticket;
    uint64_t point_ms, epoch;
    struct err err; /* ERR_OK: the point is durable */
};

/* What others asked for; guarded by shipper.lock. */
struct ship_requests {
    uint64_t ticket; /* newest request for a point */
    uint64_t asked;  /* requests of any kind so far */
    uint64_t taken;  /* of them: pauses and resyncs up to here are durable */
    enum point_kind kind;
    char label[POINT_LABEL_MAX + 1];
    uint64_t cut_ticket;  /* requests up to here have had their cut */
    uint64_t late_ticket; /* requests up to here may not be application-consistent any more */
    bool pause_changed, paused;
    uint64_t cut_interval_ms; /* 0: as it is */
    bool resync;
};

struct shipper {
    struct shipper_config config;
    struct store *caches[VM_DISKS_MAX + 1];
    char vm[VM_NAME_MAX + 1];
    char folder[4096];

    /* --- the machine's own: only its thread --- */
    enum ship_phase phase;
    struct ship_state state;
    struct journal *journal;
    struct uploads *uploads;
    struct numlog log;
    uint8_t *chunk; /* CUT_TAKE_BLOCKS_MAX blocks */
    struct pack *pack;
    bool pass;           /* the open cut is a pass */
    uint64_t cut_ticket; /* requests up to here are answered by the open cut; 0 = none */
    enum point_kind cut_kind;
    char cut_label[POINT_LABEL_MAX + 1];
    uint64_t cut_clock_ms, cut_point_ms;
    uint64_t cut_first_ms; /* oldest write of the open cut */
    size_t at_disk;        /* how far it was taken */
    uint64_t at_block;
    uint64_t answered_ticket;
    uint64_t next_cut_ms, next_look_ms, next_sweep_ms, last_entry_ms; /* boot time */
    uint64_t slot_seen_ms; /* when the log's next slot was last seen empty, or taken by us */
    unsigned passes;       /* since the last point */
    unsigned lost_cuts;    /* likewise: for want of undo room */
    bool pass_next;        /* the newest cut was lost, or there was no room for it */
    bool little_room;      /* the store, or the state folder, had none for what was put last */
    uint64_t pass_began_ms;
    uint64_t pending_first_ms; /* oldest write that went into passes since the last point */
    uint64_t retry_ms;         /* pause after a failure, doubled each time; 0 = all is well */
    bool final;                /* the last cut before a stop: do not wait for the interval */
    struct unapplied unapplied[SHIP_UNAPPLIED_MAX];
    size_t unapplied_count;
    uint64_t dirty_bytes, counted_ms; /* for the status: counted now and then */
    char resync_reason[200];
    struct shipper_status seen; /* fields that the machine keeps up to date */

    /* --- shared --- */
    pthread_t thread;
    bool running;         /* the owner's */
    pthread_mutex_t lock; /* guards all below; no I/O under it */
    pthread_cond_t change;
    bool stopping;
    struct ship_requests requests;
    struct point_result results[POINT_RESULTS_MAX]; /* ring */
    size_t result_count;
    struct shipper_status status;
    struct pace pace;
    bool busy;               /* a cut is open, or passes are under way */
    bool undo_short;         /* cuts were lost since the last point */
    uint64_t given_up_bytes; /* went up for cuts that were abandoned */
    /* Oldest acknowledged write, beside the source's own, that cache or target lacks; 0 = none. */
    uint64_t cache_lacks_ms, target_lacks_ms;
};

uint64_t ship_now_ms(const struct shipper *s); /* boot time */

/* One piece of work; ms until the next. */
uint64_t ship_step(struct shipper *s);

/* The time of the next entry: the clock's reading, and a point's id that rises whatever it says. */
void ship_set_time(struct shipper *s, uint64_t now_ms);
/* Begins the pack of the log's next entry. */
bool ship_begin_pack(struct shipper *s, struct err *err) MUST_CHECK;
/* A point is in the cache store; the target has it when progress says so. */
void ship_note_unapplied(struct shipper *s, uint64_t epoch, uint64_t first_write_ms);
/* The entry of the cut is settled: all that was written before it is in this point. */
void ship_point_made(struct shipper *s);
/* The earlier of two times; 0 is none. */
uint64_t ship_oldest(uint64_t a_ms, uint64_t b_ms);

/* --- shipper.c: how it keeps up --- */
void ship_pace_cut(struct shipper *s, uint64_t dirty_bytes); /* a cut is about to begin */
void ship_pace_abandon(struct shipper *s); /* nothing that went up for the open cut counts */

/* Something could not be put. For want of room a small epoch goes next, alone in its end object:
 * parts that went up for an epoch are swept when it is applied, whatever attempt became it, so the
 * room that failed attempts took comes back with the first epoch that fits; more large attempts
 * would take what room there is, again and again, and never fit. */
void ship_note_room(struct shipper *s, const struct err *err);

/* Ends the open cut without a point, its blocks dirty again. `why` is for waiting requests. */
void ship_abandon(struct shipper *s, const char *why);

/* --- ship_log.c: the log and what is known of it --- */
uint64_t ship_settle(struct shipper *s);
uint64_t ship_put(struct shipper *s);
/* Nothing was dirty at `clock_ms` or later. */
uint64_t ship_heartbeat(struct shipper *s, uint64_t clock_ms);
/* Ends the work on a failure that may pass: state `stalled`, and how long to wait. */
uint64_t ship_stall(struct shipper *s, const struct err *err);
void ship_fence(struct shipper *s, const char *why);
void ship_fill_disks(const struct shipper *s, struct epoch_entry *entry);
void ship_answer(struct shipper *s, uint64_t ticket, uint64_t point_ms, uint64_t epoch,
                 const struct err *err);
/* Looks at the processor's progress in the cache store. */
void ship_look(struct shipper *s);
/* The target has an epoch of this log that we know nothing of: an attempt in doubt, late, or the
 * epochs of another source. */
bool ship_is_behind(const struct shipper *s);
/* Something waits to be applied: the next look is not later than the pace of the cuts. */
void ship_look_soon(struct shipper *s);
void ship_publish(struct shipper *s);

#endif
