/* SPDX-License-Identifier: MIT
 * Private to the HTTP store: http_store.c takes requests and says what was asked, http_faults.c
 * sends answers and spoils them, http_s3.c, http_azure.c and http_metadata.c make them. */
#ifndef TESTS_SUPPORT_HTTP_STORE_INTERNAL_H
#define TESTS_SUPPORT_HTTP_STORE_INTERNAL_H

#include "tests/support/http_objects.h"
#include "tests/support/http_store.h"

#include <microhttpd.h>
#include <pthread.h>

#define HTTP_CONTAINER_MAX 256u

/* One request on its way; its connection's thread has it. */
struct exchange {
    struct http_store *store;
    struct MHD_Connection *connection;
    char method[8];
    char *path; /* unescaped */
    struct buf body;
    enum http_fault fault; /* HTTP_FAULTS: none */
    struct http_rule rule; /* the fault's */
    uint64_t chance;
    char *target; /* path and query */
    size_t record;
    bool ended; /* guarded by store.lock */
    /* --- where the dialect found it --- */
    char container[HTTP_CONTAINER_MAX];
    const char *name; /* "CONTAINER/KEY", within path; NULL: the container itself */
    /* --- the answer --- */
    unsigned status;
    struct buf headers; /* "name\0value\0" ... */
    struct buf text;
    struct http_object *object; /* instead of `text`; a use of ours */
    uint64_t offset, length;    /* of it */
    const char *last;           /* key shown by a list */
};

struct http_fault_row {
    bool on;
    struct http_rule rule;
    uint64_t happened;
};

struct http_store {
    struct http_store_config config;
    struct MHD_Daemon *daemon;
    uint16_t port;
    pthread_mutex_t lock; /* guards all below; nobody sends or sleeps under it */
    pthread_cond_t change;
    bool ending;
    uint32_t delay_ms;
    uint64_t list_lag, list_lag_ms;
    int64_t skew_s;
    bool conditions_ignored, complete_replaces;
    unsigned copy_polls;
    const char *copy_status;
    unsigned gather, gathered, round;
    struct http_fault_row faults[HTTP_FAULTS];
    uint64_t random;
    struct http_objects objects;
    struct http_record *records;
    size_t record_count;
    uint64_t requests[8]; /* by method, and of all */
    uint64_t connections;
    unsigned at_once, most_at_once;
    const char *token_text; /* NULL: as ever */
    uint32_t token_lifetime_s;
    unsigned tokens, tokens_revoked;
};

/* --- http_store.c --- */
uint64_t http_random_locked(struct http_store *s);
int64_t http_clock(struct http_store *s); /* seconds since 1970, by the store's clock */
/* Waits that long, or until the server ends (false). 0: for ever. */
bool http_wait(struct http_store *s, uint32_t ms);

/* --- what dialects use; `name` of a header or parameter in any case; NULL when there is none ---
 */
const char *exchange_header(const struct exchange *x, const char *name);
const char *exchange_parameter(const struct exchange *x, const char *name);
bool exchange_asks(const struct exchange *x, const char *name); /* a parameter, valued or not */
bool exchange_is(const struct exchange *x, const char *method);
/* "CONTAINER[/KEY]" taken apart. */
void exchange_locate(struct exchange *x, const char *where);
/* Headers of the request that start so, in the form that objects keep them. */
void exchange_keep_headers(const struct exchange *x, const char *prefix, struct buf *out);

void answer_header(struct exchange *x, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void answer_add(struct exchange *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The object or the part of it that is asked for; false: it ends before that. */
bool answer_object(struct exchange *x, struct http_object *object, const char *range);
/* Whether its Content-MD5, where it has one, is the body's. */
bool exchange_md5_fits(const struct exchange *x);
#define HTTP_MARKER_MAX 1024u
typedef void http_each_fn(struct exchange *x, const char *key, const struct http_object *object);
/* A page of names in the container; where the next begins, "" when this was the last. */
void http_list_locked(struct exchange *x, const char *prefix, const char *after, const char *marker,
                      unsigned page, http_each_fn *each, char next[HTTP_MARKER_MAX]);

/* Whether a token that this server gave out still holds. Locked. */
bool http_token_holds_locked(const struct http_store *s, const char *token);
bool metadata_answer(struct exchange *x); /* false: the request is not for it */
void s3_answer(struct exchange *x);
void azure_answer(struct exchange *x);

/* --- http_faults.c --- */
/* Which fault the request meets; under no lock. */
void fault_choose(struct exchange *x);
/* Replaces the answer where the fault gives one of its own. */
void fault_prepare(struct exchange *x);
enum MHD_Result fault_send(struct exchange *x);

#endif
