/* SPDX-License-Identifier: MIT
 * The shipper: cuts the source every few seconds and ships what changed to the cache store, as
 * numbered epochs committed by their end object. A state machine that is stepped: in a running
 * mount one thread steps it (shipper_start); a test or the simulator steps it by hand.
 *
 * shipper_status, shipper_request_point, shipper_wait_cut, shipper_wait_point, shipper_pause,
 * _set_cut_interval, _resync: any thread. Everything else: the owner. */
#ifndef FS_DISK_SHIPPER_H
#define FS_DISK_SHIPPER_H

#include "backend/history/epoch.h"
#include "backend/history/processor.h"
#include "backend/store/store.h"
#include "fs/disk/pace.h"
#include "fs/disk/source.h"

enum replication_state {
    REPLICATION_INITIAL,
    REPLICATION_PROTECTED,
    REPLICATION_BACKLOG,
    REPLICATION_NOT_CONVERGING,
    REPLICATION_PAUSED,
    REPLICATION_RESYNC,
    REPLICATION_STALLED,
    REPLICATION_FENCED,
};

/* "initial-replication", "protected", ... as design 7 spells them. */
const char *replication_state_name(enum replication_state s);

struct shipper_config {
    struct source *source;
    struct world *world;
    const char *vm;
    uint8_t vm_id[VM_ID_BYTES];
    struct generation generation;
    const struct keys *keys;
    bool encrypt;
    struct store **caches; /* index 0: the VM's; others: single disks' own */
    size_t cache_count;
    const char *state_folder;
    uint64_t cut_interval_ms;  /* CUT_INTERVAL_MIN_MS to CUT_INTERVAL_MAX_MS */
    unsigned uploads_max;      /* parts in flight; 0: put within the step (a simulator) */
    uint64_t pass_above_bytes; /* more dirty data than this ships as a pass, without a point: at
                                  most the source's undo memory and file together */
};

#define CUT_INTERVAL_MIN_MS 1000u
#define CUT_INTERVAL_MAX_MS 3600000u
#define CUT_INTERVAL_MS     5000u
#define HEARTBEAT_MS        300000u

struct shipper;

/* Compares the local files with what a clean stop recorded, and voids that record. */
bool shipper_open(const struct shipper_config *config, struct shipper **out,
                  struct err *err) MUST_CHECK;
void shipper_close(struct shipper **s);

/* One bounded piece of work. Returns how many ms may pass until there is more to do; 0: at once. */
uint64_t shipper_step(struct shipper *s);

bool shipper_start(struct shipper *s, struct err *err) MUST_CHECK; /* its thread, until _stop */
/* `final_cut`: ships what is left, as far as the stores answer within `timeout_ms`; then records a
 * clean stop. No guest I/O may be in flight any more. */
bool shipper_stop(struct shipper *s, bool final_cut, uint64_t timeout_ms,
                  struct err *err) MUST_CHECK;

/* Asks for a cut now, also with nothing dirty; *ticket is for shipper_wait_point. */
bool shipper_request_point(struct shipper *s, enum point_kind kind, const char *label,
                           uint64_t *ticket, struct err *err) MUST_CHECK;
/* Waits until the cut for it is made, so that a guest that was made quiet for it can go on.
 * ERR_TRANSIENT after timeout_ms: the point, when it is made, is then of kind crash. */
bool shipper_wait_cut(struct shipper *s, uint64_t ticket, uint64_t timeout_ms,
                      struct err *err) MUST_CHECK;
/* Waits until that point is durable in the cache store. ERR_TRANSIENT after timeout_ms; abandoned
 * cuts fail by name. */
bool shipper_wait_point(struct shipper *s, uint64_t ticket, uint64_t timeout_ms, uint64_t *point_ms,
                        uint64_t *epoch, struct err *err) MUST_CHECK;

/* Both give up an open cut, and survive restarts once shipper_wait_asked has said so. */
bool shipper_pause(struct shipper *s, bool paused, struct err *err) MUST_CHECK;
bool shipper_resync(struct shipper *s, struct err *err) MUST_CHECK;
/* Waits until all that was asked so far is taken. ERR_TRANSIENT after timeout_ms. */
bool shipper_wait_asked(struct shipper *s, uint64_t timeout_ms, struct err *err) MUST_CHECK;
/* From the next cut on, which is never further away than the new interval. */
void shipper_set_cut_interval(struct shipper *s, uint64_t ms);

struct shipper_status {
    enum replication_state state;
    char reason[ERR_TEXT_MAX]; /* of stalled, resync, fenced, backlog, not-converging; else empty */
    struct generation generation;
    uint64_t epoch;             /* newest epoch durable in the cache store */
    uint64_t point_ms;          /* newest point durable there; 0 = none yet */
    uint64_t cache_lag_seconds; /* age of the oldest acknowledged write not yet in it */
    uint64_t rpo_seconds;       /* the same for the target, from the progress objects */
    uint64_t applied_epoch;     /* as the processor last said; 0 = nothing yet */
    uint64_t applied_ms;        /* newest applied point */
    /* "ok", or what the processor says is wrong; empty: it has said nothing yet. */
    char processor[PROCESSOR_HEALTH_MAX];
    uint64_t dirty_bytes;
    uint64_t undo_bytes;
    uint64_t shipped_bytes;                     /* stored bytes put since the mount began */
    uint64_t pass_bytes_total, pass_bytes_done; /* initial replication and resync */
    uint64_t rate_bytes_per_second;             /* of the pass */
    uint64_t abandoned_cuts;
    struct pace_forecast forecast;
};
void shipper_status(struct shipper *s, struct shipper_status *out);

#endif
