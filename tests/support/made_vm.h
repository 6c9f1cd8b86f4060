/* SPDX-License-Identifier: MIT
 * A VM with its stores in memory, a source in miniature, and what tests ask of its history. Aborts
 * (a failed check) where nothing should fail. One thread. */
#ifndef TESTS_SUPPORT_MADE_VM_H
#define TESTS_SUPPORT_MADE_VM_H

#include "tests/support/epoch_maker.h"
#include "tests/support/memory_store.h"

struct made_vm {
    struct world *world;
    struct memory_bucket *cache_bucket, *target_bucket;
    struct store *cache, *target; /* the test's own, without faults */
    struct epoch_maker maker;
};

void made_vm_init(struct made_vm *vm, uint16_t disks, uint64_t blocks);
void made_vm_release(struct made_vm *vm);

/* A processor's end of the stores: handles of its own, which a test may hook. */
struct made_processor {
    struct store *caches[1], *targets[1];
    struct processor *processor;
};
void made_processor_open(struct made_vm *vm, struct made_processor *p);
void made_processor_close(struct made_processor *p);

/* Steps a new processor until it is idle; every step must go well. */
void made_vm_apply(struct made_vm *vm);
/* The history, read anew. */
struct history *made_vm_history(struct made_vm *vm);

/* Opens every frame of the newest epoch, wherever its run says it lies; a digest of blocks and
 * plain bytes. */
struct sha256 made_vm_frames_digest(struct made_vm *vm);

/* One line per object of the bucket whose key starts with MADE_VM, in order: the cache's or the
 * vault's content as names. */
void made_names(struct store *s, const char *prefix, struct buf *out);

#endif
