/* SPDX-License-Identifier: MIT
 * The object store as farshore sees it: immutable byte strings under names.
 * Every store keeps five promises; tests/backend/store/contract.c checks each.
 *   1. put is all or nothing: no reader ever sees a part of an object.
 *   2. put never replaces: a taken key is ERR_EXISTS; of racing puts exactly one succeeds.
 *   3. what put returned true for is durable and is found by every later get.
 *   4. list is in byte order of keys; it may lag, and no decision rests on a fresh one.
 *   5. remove of a missing key succeeds.
 * Any thread may call, several at once. Calls block. Trying again is a wrapper's work, not the
 * store's. The functions below check arguments once, so implementations re-check nothing.
 *
 * A key is 1 to STORE_KEY_MAX bytes of [A-Za-z0-9._-] and `/` between non-empty parts, none of
 * which is `.` or `..`. Errors worth handling: ERR_TRANSIENT (in doubt: a put may have happened),
 * ERR_EXISTS, ERR_NOT_FOUND, ERR_DENIED, ERR_FULL. */
#ifndef BACKEND_STORE_STORE_H
#define BACKEND_STORE_STORE_H

#include "common/buf.h"
#include "common/digest.h"
#include "common/world.h"

#define STORE_KEY_MAX    512u
#define STORE_OBJECT_MAX (64u << 20) /* no object of farshore's is larger */
#define STORE_URL_MAX    1024u

struct store;

/* Where the requests of a store go, as SCHEME://HOST:PORT. */
struct store_endpoint {
    char store[STORE_URL_MAX];    /* "": it needs no network */
    char metadata[STORE_URL_MAX]; /* of the machine's identity; "": credentials are given here */
};

/* Called for each key in order; false stops the list (which is still a success). */
typedef bool store_list_fn(void *context, const char *key, uint64_t bytes);

struct store_ops {
    /* `digest`: of the body, NULL when it is not known. */
    bool (*put)(struct store *s, const char *key, struct span body, const struct sha256 *digest,
                struct err *err);
    /* Fills `out` whole from `offset`, or fails; an object that ends before it is ERR_CORRUPT. */
    bool (*get)(struct store *s, const char *key, uint64_t offset, struct mspan out,
                struct err *err);
    bool (*size)(struct store *s, const char *key, uint64_t *bytes, struct err *err);
    /* Keys that start with `prefix` and are greater than `after` (NULL: all). */
    bool (*list)(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                 void *context, struct err *err);
    bool (*remove)(struct store *s, const char *key, struct err *err);
    void (*close)(struct store *s);
    /* --- NULL where a store has none --- */
    /* The whole object in one request, appended to `out`; longer than `bytes_max` is ERR_CORRUPT.
     */
    bool (*load)(struct store *s, const char *key, size_t bytes_max, struct buf *out,
                 struct err *err);
    void (*cancel)(struct store *s, bool cancelled);
    void (*endpoint)(struct store *s, struct store_endpoint *out);
    /* Of a wrapper: the store within; NULL and err when it cannot be had now. */
    struct store *(*inner)(struct store *s, struct err *err);
    /* See store_can_copy and store_copy; `from` is no wrapper. Both or none; a wrapper has copy
     * alone. */
    bool (*can_copy)(struct store *s, struct store *from);
    bool (*copy)(struct store *s, const char *key, struct store *from, const char *from_key,
                 const struct sha256 *digest, bool *proved, struct err *err);
};

/* An implementation's own state follows this head. `url` is for error texts: no secret in it. */
struct store {
    const struct store_ops *ops;
    char url[STORE_URL_MAX];
};

/* What of its host a store uses. Copied by who keeps it; what it points to outlives the stores. */
struct store_host {
    struct world *world;
    const char *credentials;        /* folder of credential files; NULL: none */
    char *(*env)(const char *name); /* getenv or its like */
};

/* Opens by URL (`file:///dir`, `azure://ACCOUNT/CONTAINER/PREFIX`, `s3://BUCKET/PREFIX`). The
 * folder or container must exist unless `create`; a folder must have been opened with `create`
 * once, so that a mount point whose file system is not mounted is not taken for an empty store.
 * ERR_INVALID: an unknown scheme or option, named. ERR_NOT_FOUND, ERR_DENIED: said what to do.
 * A network store is not asked anything here, but to make its container. */
bool store_open(const struct store_host *host, const char *url, bool create, struct store **out,
                struct err *err) MUST_CHECK;
/* Where a store that is opened by this URL would connect to, without doing so. Errors are those of
 * store_open. */
bool store_endpoint(const struct store_host *host, const char *url, struct store_endpoint *out,
                    struct err *err) MUST_CHECK;
void store_close(struct store **s); /* NULL inside is fine; leaves NULL */
#define AUTO_STORE CLEANUP(store_close)

bool store_put(struct store *s, const char *key, struct span body, struct err *err) MUST_CHECK;
/* The same, where the caller has the body's SHA-256 anyway: a store that sends it need not take it
 * again. A wrong one makes a put that the service refuses. */
bool store_put_digested(struct store *s, const char *key, struct span body,
                        const struct sha256 *digest, struct err *err) MUST_CHECK;
/* An empty `out` asks nothing of the store and succeeds. */
bool store_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
               struct err *err) MUST_CHECK;
bool store_size(struct store *s, const char *key, uint64_t *bytes, struct err *err) MUST_CHECK;
bool store_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                void *context, struct err *err) MUST_CHECK;
bool store_remove(struct store *s, const char *key, struct err *err) MUST_CHECK;

/* The whole object, at most `bytes_max` (larger is ERR_CORRUPT). Replaces what `out` held. */
bool store_load(struct store *s, const char *key, size_t bytes_max, struct buf *out,
                struct err *err) MUST_CHECK;

/* Whether the service behind both stores may copy from the one into the other by itself. A hint:
 * the copy may be refused all the same. May ask the stores who they are. */
bool store_can_copy(struct store *s, struct store *from);
/* Makes `key` of `s` from the whole object `from_key` of `from`, which has that digest, without
 * the bytes coming here: for stores of which store_can_copy is true. Not every service refuses a
 * taken name here, so `key` must contain the digest in hex (else ERR_INVALID): it may replace only
 * its equal. ERR_EXISTS: something is there already, of whatever bytes. True says that the service
 * calls the copy made. *proved: its own checksum of the copy is that digest; else who relies on it
 * reads it first. */
bool store_copy(struct store *s, const char *key, struct store *from, const char *from_key,
                const struct sha256 *digest, bool *proved, struct err *err) MUST_CHECK;

/* Whether its calls wait for a network, so that many at once take little longer than one. False
 * also when the store within cannot be had now. */
bool store_waits(struct store *s);

/* While set, calls that wait (for an answer, for their turn, for another try) end with
 * ERR_CANCELLED, as new ones do. */
void store_cancel(struct store *s, bool cancelled);

bool store_key_valid(const char *key);

#endif
