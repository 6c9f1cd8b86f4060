/* SPDX-License-Identifier: MIT
 * What the files of the simulator share. Everything is in one thread; a promise that is broken ends
 * the run at once, by longjmp. */
#ifndef TESTS_SIM_SIM_INTERNAL_H
#define TESTS_SIM_SIM_INTERNAL_H

#include "tests/sim/sim.h"

#include "backend/history/claim.h"
#include "backend/history/processor.h"
#include "fs/disk/ship.h"
#include "fs/view/view.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#include <setjmp.h>

#define SIM_DISKS      2u
#define SIM_HOSTS      3u
#define SIM_BLOCKS_MAX 1024u /* of a disk */
#define SIM_ENDED_MAX  64u
#define SIM_DEPTH_MAX  2u /* of steps inside each other's store calls; then no kills either */
#define SIM_VM         "sim"
#define SIM_STATE      "/state"
#define SIM_SCRATCH    "/scratch"

extern const char *const sim_disk_names[SIM_DISKS];

/* Who uses a store, to be killed at one of its calls. */
struct store_user {
    struct sim *s;
    struct host *host; /* NULL: another one */
    bool dead;         /* nothing more reaches the store */
};

/* What the disks held at a cut. Here, in models and whatever is compared with them, what lies
 * behind a disk's end is zeros, up to the size that it may grow to. */
struct shot {
    uint64_t generation, point_ms;
    uint64_t writers; /* bit i: identity i made it, or was copied from one that had */
    uint64_t bytes[SIM_DISKS];
    uint8_t *content[SIM_DISKS];
};

/* A host, with power, clock and files of its own. `identity` is new with each copy and claim. */
struct host {
    struct world *world; /* NULL: never used */
    struct store *cache;
    struct store_user user;
    void *memory;          /* what its keeper holds */
    void *memory_at_death; /* of its worker, at a store call */
    size_t memory_bytes;
    bool fresh, running;
    bool busy;   /* in a step of its own */
    bool doomed; /* it dies at some call of this step */
    unsigned identity;
    struct generation generation;
    struct source *source;
    struct shipper *shipper;
    uint64_t bytes[SIM_DISKS]; /* as its settings say */
    uint8_t *model[SIM_DISKS];
    bool unsynced[SIM_DISKS][SIM_BLOCKS_MAX]; /* written since the last good flush */
};

/* A generation that was ended, and the newest epoch that its log had when the fence was put. */
struct ended {
    struct generation generation;
    uint64_t last;
};

struct sim {
    uint64_t seed, random;
    jmp_buf broken;
    bool trace;
    const char *doing;
    struct sim_result *sum;

    /* from the seed */
    uint64_t disk_bytes[SIM_DISKS]; /* when it is enabled */
    uint64_t most_bytes[SIM_DISKS]; /* to which disks grow */
    unsigned steps;
    bool copies, claims; /* hosts are copied; the VM is claimed */
    uint64_t undo_memory_bytes, undo_file_bytes, pass_above_bytes;

    struct world *region; /* of processors, claims and views */
    struct memory_bucket *cache, *target, *staging;
    struct store *faulty_cache, *faulty_target, *staging_store; /* a claimer's */
    struct store_user user;
    struct store *clean_cache, *clean_target; /* the oracle's */
    unsigned fault_percent;                   /* of store calls */
    unsigned depth;                           /* of steps inside store calls */
    struct keys *keys;
    uint8_t vm_id[VM_ID_BYTES];
    size_t memory_bytes;

    struct host hosts[SIM_HOSTS];
    unsigned identities;
    struct generation newest;
    bool rivals; /* the newest generation had more than one writer */
    bool lost;   /* one of them went, which may have been the one that goes on */
    bool claiming;
    unsigned tries; /* of that claim */
    struct shot *shots;
    size_t shot_count;
    struct ended ended[SIM_ENDED_MAX];
    size_t ended_count;
    struct history *watch;     /* the oracle's, refreshed */
    struct thinning *thinning; /* or NULL: all points stay */
    bool thins;                /* in a step of it */
    struct drill *drill;       /* a view with an overlay, or NULL */
    bool drilling;             /* in a call of it */
};

uint64_t sim_next(struct sim *s);
uint64_t sim_below(struct sim *s, uint64_t n);
static inline bool sim_chance(struct sim *s, unsigned percent)
{
    return sim_below(s, 100) < percent;
}
/* For the message of a broken promise; with SIM_TRACE in the environment each is printed. */
void sim_doing(struct sim *s, const char *what);
_Noreturn void sim_broken(struct sim *s, int line, const char *what, const char *detail);
#define must(s, condition)    ((condition) ? (void)0 : sim_broken(s, __LINE__, #condition, ""))
#define must_ok(s, call, err) ((call) ? (void)0 : sim_broken(s, __LINE__, #call, (err).text))
void *sim_memory(size_t bytes); /* zeros */
/* Anything of the VM may happen now: one step of somebody who is not in a step already. */
void sim_life(struct sim *s);
struct store *sim_store(struct memory_bucket *bucket, struct store_user *user);

/* --- sim_host.c --- */
void host_make(struct sim *s, struct host *h);
void host_release(struct host *h);
void host_mount(struct sim *s, struct host *h);
void host_kill(struct host *h);
void host_write_disks(struct sim *s, struct host *h); /* the model, while it is not mounted */
void host_write(struct sim *s, struct host *h);       /* a guest's */
void host_step(struct sim *s, struct host *h);        /* the shipper's */
void host_act(struct sim *s, struct host *h);         /* guest, shipper, whatever goes wrong */
void host_copy(struct sim *s, struct host *from, struct host *to);
void host_note_memory(struct host *h); /* its worker dies now */
void host_forget_memory(struct sim *s, struct host *h);

/* --- sim_claim.c --- */
void sim_claim(struct sim *s);

/* --- sim_oracle.c --- */
void oracle_shoot(struct sim *s, const struct host *h); /* its shipper has just cut */
struct history *oracle_history(struct sim *s);
void oracle_sizes(struct history *h, const struct history_point *p, uint64_t out[SIM_DISKS]);
/* Reads the point whole, compares it with the cuts that it may be, and gives it to `out` (of
 * SIM_DISKS models) unless that is NULL. Returns the writers that may have made it. */
uint64_t oracle_check(struct sim *s, struct history *h, const struct history_point *p,
                      uint8_t *const *out);
void oracle_check_newest(struct sim *s);
void oracle_check_all(struct sim *s, const struct host *winner);
const struct shot *oracle_shot(const struct sim *s, const struct history_point *p);

/* Keeps the point as whoever uses it must. False: it is about to go. */
bool oracle_hold(struct sim *s, const char *name, struct history *h, const struct history_point *p);
void oracle_let_go(struct sim *s, const char *name);

/* --- sim_thin.c --- */
void thinning_begin(struct sim *s);
void thinning_act(struct sim *s);
void thinning_settle(struct sim *s);
void thinning_end(struct sim *s);

/* --- sim_drill.c --- */
void drill_act(struct sim *s);
void drill_end(struct sim *s);

#endif
