/* SPDX-License-Identifier: MIT */
#include "backend/store/instance.h"

struct instance {
    struct world *world;
    instance_fetch_fn *fetch;
    void *context;
    pthread_mutex_t lock; /* guards all below; held over a fetch, which others wait for */
    struct buf kept;
    /* Boot time. Of what is kept: its end (0: nothing is), and when to ask for another. */
    uint64_t until_ms, renew_ms;
    uint64_t fetched_ms; /* when that came */
    uint64_t failed_ns;  /* when a fetch failed last, and why */
    struct err failure;
    pthread_mutex_t cancelling; /* taken after `lock`; guards: */
    struct http *metadata;      /* made when first needed, by who holds `lock` */
    bool cancelled;
};

bool instance_make(struct world *w, instance_fetch_fn *fetch, void *context, struct instance **out,
                   struct err *err)
{
    struct instance *i = calloc(1, sizeof *i);
    if (i == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    i->world = w;
    i->fetch = fetch;
    i->context = context;
    pthread_mutex_init(&i->lock, NULL);
    pthread_mutex_init(&i->cancelling, NULL);
    *out = i;
    return true;
}

void instance_release(struct instance **instance)
{
    struct instance *i = *instance;
    if (i == NULL)
        return;
    *instance = NULL;
    buf_wipe(&i->kept);
    http_release(&i->metadata);
    pthread_mutex_destroy(&i->cancelling);
    pthread_mutex_destroy(&i->lock);
    free(i);
}

static bool make_metadata_locked(struct instance *i, struct err *err)
{
    struct http_config config = {.world = i->world,
                                 .plain = true,  /* link-local, by its nature, */
                                 .direct = true, /* and a proxy has an identity of its own */
                                 .connect_ms = INSTANCE_CONNECT_MS,
                                 .first_byte_ms = INSTANCE_FIRST_BYTE_MS};
    LOCK_SCOPE(&i->cancelling);
    if (i->metadata != NULL)
        return true;
    if (!http_make(&config, &i->metadata, err))
        return false;
    http_cancel(i->metadata, i->cancelled);
    return true;
}

static bool fetch_locked(struct instance *i, uint64_t now_ms, struct err *err)
{
    struct buf fresh AUTO_SECRET_BUF = BUF_NONE;
    uint64_t holds_ms;

    if (!make_metadata_locked(i, err) ||
        !i->fetch(i->context, i->metadata, &fresh, &holds_ms, err) || !buf_ok(&fresh, err))
        return false;
    buf_wipe(&i->kept);
    i->kept = fresh;
    fresh = BUF_NONE;
    i->fetched_ms = now_ms;
    i->until_ms = now_ms + holds_ms;
    if (holds_ms > INSTANCE_RENEW_MS + INSTANCE_PACE_MS)
        i->renew_ms = i->until_ms - INSTANCE_RENEW_MS;
    return true;
}

/* Some endpoints give out the same until it has all but expired, and one that is down must not
 * delay each request while what is kept still holds: so not at every call. */
static bool renew_locked(struct instance *i, uint64_t now_ms, struct err *err)
{
    if (now_ms < i->until_ms && now_ms < i->renew_ms)
        return true;
    i->renew_ms = now_ms + INSTANCE_PACE_MS;
    return fetch_locked(i, now_ms, err) || now_ms < i->until_ms;
}

/* A fetch that failed while this call waited for the lock has failed for it, too. */
static bool get_locked(struct instance *i, uint64_t came_ns, struct err *err)
{
    uint64_t now_ms = i->world->ops->boottime_ns(i->world) / 1000000;
    bool failed = now_ms >= i->until_ms && i->failed_ns > came_ns;
    i->failure = failed ? i->failure : ERR_NONE;
    if (!failed && renew_locked(i, now_ms, &i->failure))
        return true;
    if (!failed)
        i->failed_ns = i->world->ops->boottime_ns(i->world);
    if (err != NULL)
        *err = i->failure;
    return false;
}

bool instance_get(struct instance *i, struct buf *out, struct err *err)
{
    uint64_t came_ns = i->world->ops->boottime_ns(i->world);
    LOCK_SCOPE(&i->lock);
    if (!get_locked(i, came_ns, err))
        return false;
    buf_put(out, i->kept.data, i->kept.length);
    return buf_ok(out, err);
}

void instance_forget(struct instance *i)
{
    LOCK_SCOPE(&i->lock);
    uint64_t now_ms = i->world->ops->boottime_ns(i->world) / 1000000;
    if (now_ms >= i->fetched_ms + INSTANCE_PACE_MS)
        i->until_ms = 0;
}

void instance_cancel(struct instance *i, bool cancelled)
{
    LOCK_SCOPE(&i->cancelling);
    i->cancelled = cancelled;
    if (i->metadata != NULL)
        http_cancel(i->metadata, cancelled);
}

bool instance_text_valid(const char *text)
{
    size_t length = 0;
    for (; text[length] != '\0'; length++)
        if (text[length] <= ' ' || text[length] > '~' || length == INSTANCE_TEXT_MAX)
            return false;
    return length > 0;
}

bool instance_ask(struct http *metadata, const char *method, const char *url, const char *name,
                  const char *value, struct buf *out, struct err *err)
{
    struct http_request request AUTO_HTTP_REQUEST = {
        .method = method, .url = url, .headers = BUF_NONE, .body_max = INSTANCE_ANSWER_MAX};
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;

    http_request_header(&request, name, "%s", value);
    if (!http_call(metadata, &request, &answer, err))
        return err_wrap(err, "the machine's metadata endpoint");
    unsigned status = answer.status;
    if (status >= 200 && status < 300) {
        buf_put(out, answer.body.data, answer.body.length);
        if (answer.body.length > 0)
            explicit_bzero(answer.body.data, answer.body.length);
        return buf_ok(out, err);
    }
    bool later = status == 404 || status == 410 || status == 429 || status >= 500;
    err_set(err, later ? ERR_TRANSIENT : ERR_DENIED,
            "the machine's metadata endpoint answers %u: has this machine an identity or role that "
            "may use the store?",
            status);
    if (later && err != NULL)
        err->retry_after_ms = http_retry_after_ms(metadata, &answer);
    return false;
}
