/* SPDX-License-Identifier: MIT
 * Private to http.c (what callers do) and http_loop.c (what the client's thread does). */
#ifndef BACKEND_STORE_HTTP_INTERNAL_H
#define BACKEND_STORE_HTTP_INTERNAL_H

#include "backend/store/http.h"

#include <curl/curl.h>
#include <stdatomic.h>

#define HTTP_SHOWN_MAX 512u

/* One call on its way. The caller's until it is queued, the thread's until `done`. */
struct http_exchange {
    struct http *http;
    const struct http_request *request;
    struct http_answer *answer;
    struct err err;             /* why there is no answer */
    char shown[HTTP_SHOWN_MAX]; /* "PUT https://host/path", without the query */
    CURL *easy;
    struct curl_slist *headers;
    char reason[CURL_ERROR_SIZE];
    bool direct;             /* past any proxy */
    size_t sent;             /* of the body, given to libcurl */
    bool connected;          /* from here on first_byte_ms and stall_ms hold */
    bool answered;           /* the first byte came */
    unsigned answers;        /* begun so far, interim ones too */
    bool too_long;           /* more bytes than there is room for */
    bool cut;                /* what came of a refusal's body is enough */
    uint64_t moved;          /* bytes in both directions, as libcurl counts them */
    uint64_t last_move_ns;   /* when that last changed */
    uint64_t begun_ns;       /* when it got its connection */
    bool done;               /* guarded by http.lock */
    pthread_cond_t finished; /* with http.lock */
    struct http_exchange *next;
};

struct http {
    struct http_config config; /* every default filled in; its ca_file is ours */
    CURLM *multi;              /* the thread's, but for curl_multi_wakeup */
    pthread_t thread;
    bool running;
    _Atomic int64_t skew_ms;
    struct http_exchange *active; /* the thread's */
    pthread_mutex_t lock;         /* guards all below; no I/O under it */
    struct http_exchange *queue;
    bool cancelled;
    bool ending;
};

/* The client's thread. */
void *http_loop(void *http);

/* Sets a new easy handle up for the exchange; NULL and err when memory is short. */
bool http_exchange_prepare(struct http_exchange *x, struct err *err) MUST_CHECK;
void http_exchange_release(struct http_exchange *x);

#endif
