/* SPDX-License-Identifier: MIT
 * Credentials that the machine itself gives out, through the metadata endpoint of its cloud: asked
 * for when first needed, kept, and renewed five minutes before they expire. One thread asks, others
 * wait for it; while what is kept still holds, a renewal that fails is no failure.
 * Time is counted by the boot clock, so a clock that is set does not expire anything early. */
#ifndef BACKEND_STORE_INSTANCE_H
#define BACKEND_STORE_INSTANCE_H

#include "backend/store/http.h"

#define INSTANCE_RENEW_MS      (5u * 60 * 1000)
#define INSTANCE_PACE_MS       (30u * 1000) /* between two requests, while what is kept holds */
#define INSTANCE_ANSWER_MAX    (64u << 10)
#define INSTANCE_TEXT_MAX      7168u /* a token becomes a header */
#define INSTANCE_CONNECT_MS    2000u
#define INSTANCE_FIRST_BYTE_MS 5000u

/* Fetches credentials into `out`, which is wiped after use, and says for how long they hold. */
typedef bool instance_fetch_fn(void *context, struct http *metadata, struct buf *out,
                               uint64_t *holds_ms, struct err *err);

struct instance;

bool instance_make(struct world *w, instance_fetch_fn *fetch, void *context, struct instance **out,
                   struct err *err) MUST_CHECK;
void instance_release(struct instance **i); /* NULL inside is fine; leaves NULL */
/* Appends what was fetched to `out`, which the caller wipes. ERR_TRANSIENT: the endpoint does not
 * answer; ERR_DENIED: it gives none. */
bool instance_get(struct instance *i, struct buf *out, struct err *err) MUST_CHECK;
/* The service called them expired: the next call fetches others. Those that came just now are kept:
 * it was older ones that a call under way was refused with. */
void instance_forget(struct instance *i);

/* While set, fetches end with ERR_CANCELLED. What is kept is given all the same. */
void instance_cancel(struct instance *i, bool cancelled);

/* Whether what an endpoint gave can be a token: printable, and not too long for a header. */
bool instance_text_valid(const char *text);

/* One request to a metadata endpoint; `header` is "Name: value" or NULL. The answer's body is wiped
 * by the caller. Kinds of refusal: 404, 410, 429 and 5xx ERR_TRANSIENT, others ERR_DENIED. */
bool instance_ask(struct http *metadata, const char *method, const char *url, const char *name,
                  const char *value, struct buf *out, struct err *err) MUST_CHECK;

#endif
