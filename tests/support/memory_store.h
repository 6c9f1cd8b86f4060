/* SPDX-License-Identifier: MIT
 * A store in memory that keeps the contract, and breaks it as told. A bucket holds the objects and
 * outlives its stores; every actor of a test may open a store of its own on it, with hooks of its
 * own. Any thread may call. */
#ifndef TESTS_SUPPORT_MEMORY_STORE_H
#define TESTS_SUPPORT_MEMORY_STORE_H

#include "backend/store/store.h"

struct memory_bucket;

struct memory_bucket *memory_bucket_make(void); /* aborts when memory is short, like all here */
void memory_bucket_release(struct memory_bucket **b);
/* The bucket itself, past all hooks. */
size_t memory_bucket_objects(struct memory_bucket *b);
uint64_t memory_bucket_bytes(struct memory_bucket *b);
bool memory_bucket_has(struct memory_bucket *b, const char *key);
/* Replaces or makes an object, which no store may: what an attacker or a broken disk does. */
void memory_bucket_set(struct memory_bucket *b, const char *key, struct span body);
/* Flips bits of one stored byte; false when there is no such object or byte. */
bool memory_bucket_damage(struct memory_bucket *b, const char *key, uint64_t offset, uint8_t mask);
void memory_bucket_drop(struct memory_bucket *b, const char *key);
/* Lists do not show the newest `puts` objects put. */
void memory_bucket_lag_lists(struct memory_bucket *b, uint64_t puts);

enum memory_op { MEMORY_PUT, MEMORY_GET, MEMORY_SIZE, MEMORY_LIST, MEMORY_REMOVE, MEMORY_COPY };

enum memory_fault {
    MEMORY_PASS,
    MEMORY_FAIL,       /* nothing happens; ERR_TRANSIENT */
    MEMORY_LOSE_REPLY, /* it happens; ERR_TRANSIENT all the same */
    MEMORY_DROP,       /* nothing happens; success (put and remove; else like FAIL) */
    MEMORY_REPLACE,    /* put, copy: replaces what is there, success */
    MEMORY_DAMAGE, /* get: a byte, another in each call, has one bit flipped; copy: the first byte
                    */
    MEMORY_CUT,    /* put, copy: the last byte is lost, success */
    MEMORY_DENY,   /* nothing happens; ERR_DENIED */
    MEMORY_FILL,   /* nothing happens; ERR_FULL */
    MEMORY_SWELL,  /* size: a number that no object has */
};

struct memory_call {
    enum memory_op op;
    const char *key; /* of a list: the prefix */
    uint64_t number; /* of calls to this store so far, from 1 */
};

/* Run before and after each call, under no lock: they may sleep and may call stores. `before` says
 * how the call goes; `after` sees the result. Set while no call runs. */
typedef enum memory_fault memory_before_fn(void *context, const struct memory_call *call);
typedef void memory_after_fn(void *context, const struct memory_call *call, bool ok);

struct store *memory_store_open(struct memory_bucket *b);
void memory_store_hook(struct store *s, memory_before_fn *before, memory_after_fn *after,
                       void *context);
uint64_t memory_store_calls(struct store *s);

/* A store that dies at its call `at` (0: never), before that is done or, `lose`, behind it. The
 * context of memory_store_die, which is to be run before each call. */
struct memory_death {
    uint64_t calls, at;
    bool lose, dead;
};
enum memory_fault memory_store_die(void *context, const struct memory_call *call);

/* Copies between stores of memory; set on the one that is copied into. */
enum memory_copies {
    MEMORY_COPIES_NOT,
    MEMORY_COPIES,        /* and says nothing of what it made */
    MEMORY_COPIES_PROVED, /* and compares its digest */
};
void memory_store_copies(struct store *s, enum memory_copies how);

#endif
