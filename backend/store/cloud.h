/* SPDX-License-Identifier: MIT
 * What Azure Blob and S3 have in common: objects under escaped paths of one container, made by a
 * conditional PUT, read by ranged GETs, listed in pages of XML. The store contract is kept here
 * once; a dialect says how requests are signed, what refusals mean and what names things have.
 * Private to backend/store. Any thread may call. */
#ifndef BACKEND_STORE_CLOUD_H
#define BACKEND_STORE_CLOUD_H

#include "backend/store/http.h"
#include "backend/store/url.h"
#include "backend/store/xml.h"

#define CLOUD_QUERY_MAX   8u
#define CLOUD_HEADERS_MAX 20u

struct cloud;

/* A request while it is put together. Names and values are borrowed, or made by cloud_header. */
struct cloud_call {
    const char *method;
    const char *key; /* of the store's contract; NULL: the container itself */
    struct {
        const char *name, *value; /* unescaped */
    } query[CLOUD_QUERY_MAX];     /* in byte order of names: it is signed so */
    size_t query_count;
    struct {
        const char *name, *value; /* names in lower case */
    } headers[CLOUD_HEADERS_MAX];
    size_t header_count;
    struct buf scratch;       /* made values; reserved once, wiped at the end */
    const void *identity;     /* the dialect's: with what the last try was signed */
    const char *secret_query; /* goes behind the query unescaped and unsigned: a SAS token */
    struct span body;
    const struct sha256 *digest; /* of the body, when the caller has it */
    const char *body_sha256;     /* in hex, once somebody took it; NULL: whoever needs it does */
    struct mspan into;
    size_t body_max;
    /* --- filled by cloud_send for the dialect's `sign` --- */
    const char *path; /* escaped, from the host's root */
    uint64_t now_ms;  /* by the store's clock */
};

struct cloud_dialect {
    enum xml_dialect xml;
    /* Adds the parameters of a list of whole names; `after` and `marker` may be "". */
    void (*list)(struct cloud_call *call, const char *prefix, const char *after,
                 const char *marker);
    /* Adds what proves who we are; called anew for each try. */
    bool (*sign)(struct cloud *c, struct cloud_call *call, struct err *err);
    /* Adds what makes a PUT of an object one. */
    bool (*describe_put)(struct cloud *c, struct cloud_call *call, struct err *err);
    /* Whether the whole object that came is what was put, as far as the answer tells. */
    bool (*fits)(const struct http_answer *answer);
    /* Sets err for an answer that is not 2xx. True: what was wrong is mended (a clock, a token),
     * try once more. */
    bool (*refuse)(struct cloud *c, const struct cloud_call *call, const struct http_answer *answer,
                   const char *code, struct err *err);
    /* A body above large_bytes goes this way; NULL: there is none. */
    bool (*put_large)(struct cloud *c, const char *key, struct span body, struct err *err);
    /* Ends, or no longer ends, what waits elsewhere than in `http`. */
    void (*cancel)(struct cloud *c, bool cancelled);
    /* The metadata endpoint's URL, NULL when credentials come from elsewhere. */
    const char *(*metadata)(struct cloud *c);
    /* As in store_ops, between two stores of this dialect; NULL: there is none. */
    bool (*can_copy)(struct cloud *c, struct cloud *from);
    bool (*copy)(struct cloud *c, const char *key, struct cloud *from, const char *from_key,
                 const struct sha256 *digest, bool *proved, struct err *err);
    void (*release)(struct cloud *c); /* the dialect's own */
};

/* First member of a dialect's own state. */
struct cloud {
    struct store head;
    const struct cloud_dialect *dialect;
    struct world *world;
    struct http *http;
    char base[STORE_URL_MAX];   /* the container's URL, no slash at its end */
    const char *base_path;      /* within base: from the host's root, "" or "/..." */
    char host[256];             /* host[:port], as the Host header says it */
    char prefix[STORE_URL_MAX]; /* of keys; "" or ends in a slash */
    size_t large_bytes;
    _Atomic bool container_seen; /* it was there once: a 404 speaks of an object */
};

/* The options that every dialect has: for store_url_parse. */
#define CLOUD_OPTIONS "endpoint", "ca", "plain", "credential", "identity"

/* Fills all of `c` but the dialect's own and makes its HTTP client. `base` is the container's URL.
 */
bool cloud_init(struct cloud *c, const struct cloud_dialect *dialect, const struct store_host *host,
                const char *url, const struct store_url *parsed, const char *base,
                const char *prefix, struct err *err) MUST_CHECK;

void cloud_query(struct cloud_call *call, const char *name, const char *value);
/* Adds a header; `name` in lower case. */
void cloud_header(struct cloud_call *call, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *cloud_header_value(const struct cloud_call *call, const char *name); /* "" when none */
void cloud_call_release(struct cloud_call *call);
#define AUTO_CLOUD_CALL CLEANUP(cloud_call_release)

/* Signs and sends; true for a 2xx answer. */
bool cloud_send(struct cloud *c, struct cloud_call *call, struct http_answer *answer,
                struct err *err) MUST_CHECK;

/* As cloud_send, of an object: true only when the service itself answers. What stands in its place
 * (a portal that wants a login, a gateway with its maintenance page) may say 200, too; but each of
 * these services gives an object's entity tag with it. */
bool cloud_send_object(struct cloud *c, struct cloud_call *call, struct http_answer *answer,
                       struct err *err) MUST_CHECK;

/* A conditional PUT of the whole body, whatever its size. */
bool cloud_put_whole(struct cloud *c, const char *key, struct span body,
                     const struct sha256 *digest, struct err *err) MUST_CHECK;

/* Parts of the refusals' texts: "store URL: PUT of KEY: 403 Code". Returns false. */
bool cloud_refuse(const struct cloud *c, const struct cloud_call *call,
                  const struct http_answer *answer, const char *code, enum err_kind kind,
                  const char *advice, struct err *err);

/* Makes what a server sent fit to be shown: others than ASCII's printable characters become '?'. */
void cloud_printable(char *text);

/* What a status alone says in both services; 404 and 412 are the dialect's. */
enum err_kind cloud_kind_of_status(unsigned status);

extern const struct store_ops cloud_ops;

#endif
