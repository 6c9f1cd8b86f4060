/* SPDX-License-Identifier: MIT
 * HTTP for object stores, by libcurl's multi interface: one thread drives all transfers of a
 * client, so connections are kept and shared, HTTP/2 streams share one, and calls run in parallel.
 * What a caller gives is read, and what it wants is filled, in its own memory.
 *
 * TLS is verified, 1.2 at least; plain http goes to loopback only, or where `plain` says so. A
 * redirect is an answer like any other (3xx): nothing is ever sent to another place than `url`.
 * A proxy is taken from the usual variables (HTTPS_PROXY, NO_PROXY ...) by libcurl, but never on
 * the way to loopback. A PUT or POST is sent once: without an answer it is in doubt. Nothing here
 * logs, and no error text holds a query, a header or a body: they may be secrets.
 *
 * Any thread may call; calls block. A client is made after the last fork of its process. */
#ifndef BACKEND_STORE_HTTP_H
#define BACKEND_STORE_HTTP_H

#include "common/buf.h"
#include "common/world.h"

#define HTTP_CONNECT_MS_DEFAULT    10000u
#define HTTP_FIRST_BYTE_MS_DEFAULT 30000u
#define HTTP_STALL_MS_DEFAULT      20000u
#define HTTP_CONNECTIONS_DEFAULT   32u
/* A call may take so long, and a second more for so many bytes that moved: a byte now and then does
 * not hold it for ever. */
#define HTTP_GRACE_MS          120000u
#define HTTP_BYTES_PER_S_LEAST 1024u
#define HTTP_HEADERS_BYTES_MAX (64u << 10) /* of an answer; more is ERR_CORRUPT */
#define HTTP_REFUSAL_BYTES_MAX (64u << 10) /* of the body that explains a failure */

struct http;

struct http_config {
    struct world *world;
    const char *ca_file; /* PEM; NULL: the system's */
    bool plain;          /* http:// to any host */
    bool direct;         /* past any proxy */
    /* 0: the defaults above. From the call to a connection; from the last byte sent to the first
     * received; and without any progress in either direction. */
    uint32_t connect_ms, first_byte_ms, stall_ms;
    uint32_t connections_max; /* open at once; more calls wait for one */
};

bool http_make(const struct http_config *config, struct http **out, struct err *err) MUST_CHECK;
/* Whether requests may go there at all, without making one; ERR_INVALID as of http_call. */
bool http_check(struct http *h, const char *url, struct err *err) MUST_CHECK;
void http_release(struct http **h); /* no call may be running; NULL inside is fine; leaves NULL */
#define AUTO_HTTP CLEANUP(http_release)

/* While set, running and new calls end with ERR_CANCELLED. */
void http_cancel(struct http *h, bool cancelled);

/* What it points to is borrowed until http_call returns. */
struct http_request {
    const char *method; /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *url;    /* whole, with its query, escaped; may hold a secret */
    struct buf headers; /* "Name: value\0" ..., by http_request_header */
    struct span body;   /* PUT and POST: sent with its Content-Length, an empty one too */
    /* Where the body of a 2xx answer goes: into `into` (longer is ERR_CORRUPT; how much came is
     * in the answer), or, when its data is NULL, into the answer's own body, up to `body_max`. */
    struct mspan into;
    size_t body_max;
};

struct http_answer {
    unsigned status;
    size_t into_length; /* bytes of `into` that were filled */
    struct buf body;    /* all else; of a status other than 2xx cut to HTTP_REFUSAL_BYTES_MAX */
    uint64_t content_length; /* as the header says, UINT64_MAX when it does not; for HEAD too */
    struct buf headers;      /* private: see http_answer_header */
};

#define HTTP_ANSWER_NONE                                                                           \
    (struct http_answer)                                                                           \
    {                                                                                              \
        .body = BUF_NONE                                                                           \
    }
void http_answer_release(struct http_answer *a);
#define AUTO_HTTP_ANSWER CLEANUP(http_answer_release)

void http_request_release(struct http_request *r); /* wipes the headers */
#define AUTO_HTTP_REQUEST CLEANUP(http_request_release)
/* Adds one; a line end in it is asserted against. Memory that ran out shows in http_call. */
void http_request_header(struct http_request *r, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* True: an answer came whole, whatever its status. False: ERR_TRANSIENT (no connection, time-out,
 * a body cut short: in doubt whether the other side acted), ERR_DENIED (its certificate is not
 * trusted, said with what to do), ERR_INVALID (URL, plain http), ERR_CORRUPT (more bytes than there
 * is room for; of a PUT or POST, which may have been carried out, ERR_TRANSIENT), ERR_CANCELLED.
 * `answer` was made empty. */
bool http_call(struct http *h, const struct http_request *request, struct http_answer *answer,
               struct err *err) MUST_CHECK;

/* The value of the last header of that name, without spaces around it; NULL when there is none.
 * Borrowed from the answer. */
const char *http_answer_header(const struct http_answer *a, const char *name);

/* The time by the other side's clock: the host's, corrected by what the newest Date header showed.
 * Milliseconds since 1970, at most the end of the year 9999, whatever the other side claims. Before
 * the first answer: the host's. */
uint64_t http_now_ms(struct http *h);
/* How far the other side's clock is ahead of ours, in ms. */
int64_t http_skew_ms(struct http *h);

/* What Retry-After asks for, seconds or a date, in ms; 0 when it does not, at most an hour. */
uint32_t http_retry_after_ms(struct http *h, const struct http_answer *a);

/* Appends `text` with all but [A-Za-z0-9._~-], and `/` when `slash` is kept, as %XX (RFC 3986). */
void http_escape(struct buf *out, const char *text, bool keep_slash);

#endif
