/* SPDX-License-Identifier: MIT
 * An object store over HTTP that keeps its objects in memory, and fails as told: enough of S3 (path
 * style) and of Azure Blob for farshore, on a port of loopback that the kernel chooses, a thread
 * per connection. It checks digests and the time of requests, not their signatures, and notes what
 * was asked. It is a machine's metadata endpoint too (Azure's tokens, AWS's IMDSv2).
 * Any thread may call. Aborts when memory is short, like all here. */
#ifndef TESTS_SUPPORT_HTTP_STORE_H
#define TESTS_SUPPORT_HTTP_STORE_H

#include "common/buf.h"

#define HTTP_STORE_SKEW_MAX_S 900 /* a request signed further off is refused */

enum http_dialect { HTTP_S3, HTTP_AZURE };

struct http_store;

struct http_store_config {
    enum http_dialect dialect;
    uint16_t port;                         /* 0: the kernel's choice */
    unsigned page;                         /* names in one page of a list at most; 0: 1000 */
    uint64_t seed;                         /* of all that is left to chance */
    const char *tls_key, *tls_certificate; /* PEM; NULL: plain http */
    bool record;                           /* keep what was asked, without bodies */
    bool unchecked;                        /* no digest is computed: for measuring clients */
    bool tell; /* on stderr of each fault that happened, when it has: "fault METHOD TARGET" */
};

/* NULL: this libmicrohttpd cannot do what was asked (TLS). */
struct http_store *http_store_start(const struct http_store_config *config);
void http_store_stop(struct http_store **s); /* also in the middle of answers */
uint16_t http_store_port(const struct http_store *s);

/* --- what is always so until it is changed --- */
void http_store_delay(struct http_store *s, uint32_t ms);         /* before each answer */
void http_store_lag_lists(struct http_store *s, uint64_t puts);   /* the newest are not shown */
void http_store_lag_lists_ms(struct http_store *s, uint64_t ms);  /* nor what is younger */
void http_store_skew_date(struct http_store *s, int64_t seconds); /* its clock, ahead of ours */
void http_store_ignore_conditions(struct http_store *s, bool on); /* If-None-Match does nothing */
void http_store_complete_replaces(struct http_store *s, bool on); /* on S3, as radosgw 16 */
/* A copy on Azure is pending until it was asked for so often, then has the status, which outlives
 * the server; NULL: none is told. 0 and "success" at the start. */
void http_store_copies_end(struct http_store *s, unsigned polls, const char *status);
/* No request is answered before `count` of them wait at once; 0 or 1: no waiting. */
void http_store_gather(struct http_store *s, unsigned count);

/* --- single requests that go wrong --- */
enum http_fault {
    HTTP_LOSE_REPLY,      /* carried out; the connection closes without an answer */
    HTTP_REFUSE,          /* not carried out; answered with `status`, `retry_after` and `text` */
    HTTP_CUT_UP,          /* the connection closes while the request's body comes */
    HTTP_CUT_DOWN,        /* it closes within the answer's body, or instead of an empty one */
    HTTP_FLIP_UP,         /* bit `at` of the request's body arrives flipped */
    HTTP_FLIP_DOWN,       /* bit `at` of the answer's body is sent flipped */
    HTTP_REDIRECT,        /* not carried out; `status` and a Location on `port` */
    HTTP_STALL,           /* carried out; no answer, the connection stays */
    HTTP_STALL_DOWN,      /* half of the answer's body, then no more */
    HTTP_TRICKLE,         /* the answer's body byte by byte, `ms` between them */
    HTTP_ENDLESS_HEADERS, /* more of them than anyone wants */
    HTTP_ENDLESS_BODY,
    HTTP_FAULTS
};

#define HTTP_ANYWHERE UINT64_MAX /* `at`: by chance */

struct http_rule {
    const char *method;      /* one or more with commas between them; NULL: all */
    const char *path;        /* in the request's path or query; NULL: all. Outlives the rule */
    uint32_t skip;           /* the next so many that match go well; after them */
    uint32_t next;           /* the next so many that match */
    uint32_t per_mille;      /* and of the others so many in a thousand */
    unsigned status;         /* 0, of HTTP_REFUSE: 503, 429 or 500 by chance */
    const char *retry_after; /* NULL: no such header. Outlives the rule */
    const char *text;        /* of HTTP_REFUSE; NULL: an error without a code. Outlives the rule */
    uint16_t port;
    uint32_t ms;
    uint64_t at;
};

/* Replaces the fault's rule; NULL: it no longer happens. Of several that match the first in the
 * list above happens. */
void http_store_fault(struct http_store *s, enum http_fault which, const struct http_rule *rule);
uint64_t http_store_faulted(struct http_store *s, enum http_fault which); /* how often so far */

/* --- what was asked --- */
uint64_t http_store_requests(struct http_store *s, const char *method); /* NULL: all of them */
uint64_t http_store_connections(struct http_store *s);                  /* accepted so far */
unsigned http_store_most_at_once(struct http_store *s);

struct http_record {
    char method[8];
    char *target;      /* path, unescaped, and query: "/b/k?a=1&b=2" */
    char *headers;     /* "name: value\n" ..., names in lower case */
    unsigned status;   /* 0: no answer */
    uint64_t begun_ms; /* boot time */
    bool ended;
};
/* Whether there is a request of that number, from 0, that has ended; `out` is freed by the
 * caller. */
bool http_store_record(struct http_store *s, size_t number, struct http_record *out);
void http_record_release(struct http_record *r);
#define AUTO_HTTP_RECORD CLEANUP(http_record_release)
/* How many requests of that method so far had the text in their target or headers. NULL: any. */
size_t http_store_asked(struct http_store *s, const char *method, const char *text);
bool http_store_was_told(struct http_store *s, const char *text);

/* --- its objects, past all faults --- */
size_t http_store_objects(struct http_store *s);
size_t http_store_uploads(struct http_store *s); /* on S3: begun, neither completed nor aborted */
/* `name` is "BUCKET/KEY" or "CONTAINER/KEY"; a fork and a rotten disk do this. */
bool http_store_damage(struct http_store *s, const char *name, uint64_t bit);
bool http_store_object(struct http_store *s, const char *name, struct buf *out);

/* --- the metadata endpoint --- */
/* How long what it gives out holds; 3600 at the start. Each answer is a new "secret-token-N". */
/* Instead of a token: Azure's access_token, AWS's of a session. Outlives the server. */
void http_store_token_text(struct http_store *s, const char *text);
void http_store_token_lifetime(struct http_store *s, uint32_t seconds);
unsigned http_store_tokens(struct http_store *s); /* given out so far */
/* The store refuses all tokens given out so far. */
void http_store_revoke_tokens(struct http_store *s);

#endif
