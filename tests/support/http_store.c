/* SPDX-License-Identifier: MIT */
#include "tests/support/http_store_internal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BODY_BYTES_MAX (64u << 20)       /* reserved beforehand */
#define POOL_BYTES     ((size_t)1 << 20) /* of one connection */
#define PAGE           1000u

static const char *const methods[] = {"GET", "PUT", "HEAD", "DELETE", "POST"};
#define METHODS (sizeof methods / sizeof *methods)
#define ALL     METHODS

/* --- small things --- */

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t http_random_locked(struct http_store *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

int64_t http_clock(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    return (int64_t)time(NULL) + s->skew_s;
}

bool http_wait(struct http_store *s, uint32_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000 + (until.tv_nsec + (long)(ms % 1000) * 1000000) / 1000000000;
    until.tv_nsec = (until.tv_nsec + (long)(ms % 1000) * 1000000) % 1000000000;
    LOCK_SCOPE(&s->lock);
    int rc = 0;
    while (!s->ending && rc != ETIMEDOUT)
        rc = ms == 0 ? pthread_cond_wait(&s->change, &s->lock)
                     : pthread_cond_timedwait(&s->change, &s->lock, &until);
    return !s->ending;
}

static void gather(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    unsigned round = s->round;
    if (++s->gathered < s->gather) {
        while (!s->ending && s->round == round && s->gather > 1)
            pthread_cond_wait(&s->change, &s->lock);
        return;
    }
    s->gathered = 0;
    s->round++;
    pthread_cond_broadcast(&s->change);
}

/* --- what was asked --- */

static enum MHD_Result note_parameter(void *context, enum MHD_ValueKind kind, const char *name,
                                      const char *value)
{
    struct buf *out = context;
    (void)kind;
    buf_put_u8(out, memchr(out->data, '?', out->length) == NULL ? '?' : '&');
    buf_put(out, name, strlen(name));
    if (value != NULL) {
        buf_put_u8(out, '=');
        buf_put(out, value, strlen(value));
    }
    return MHD_YES;
}

static enum MHD_Result note_header(void *context, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    struct buf *out = context;
    (void)kind;
    for (; *name != '\0'; name++)
        buf_put_u8(out, (uint8_t)tolower((unsigned char)*name));
    buf_put(out, ": ", 2);
    buf_put(out, value, strlen(value));
    buf_put_u8(out, '\n');
    return MHD_YES;
}

static char *text_of(struct buf *b)
{
    buf_put_u8(b, 0);
    if (b->failed)
        abort();
    return (char *)b->data;
}

static void count_locked(struct http_store *s, const char *method)
{
    s->requests[ALL]++;
    for (size_t i = 0; i < METHODS; i++)
        s->requests[i] += strcmp(methods[i], method) == 0;
    if (++s->at_once > s->most_at_once)
        s->most_at_once = s->at_once;
}

/* Takes over `headers`. */
static void record_locked(struct exchange *x, char *headers)
{
    struct http_store *s = x->store;
    x->record = s->record_count++;
    s->records = realloc(s->records, s->record_count * sizeof *s->records);
    char *target = strdup(x->target);
    if (s->records == NULL || target == NULL)
        abort();
    s->records[x->record] = (struct http_record){
        .target = target, .headers = headers, .begun_ms = http_objects_now_ms()};
    memcpy(s->records[x->record].method, x->method, sizeof x->method);
}

static void note(struct exchange *x)
{
    struct http_store *s = x->store;
    struct buf target = BUF_NONE, headers = BUF_NONE;

    buf_put(&target, x->path, strlen(x->path));
    MHD_get_connection_values(x->connection, MHD_GET_ARGUMENT_KIND, note_parameter, &target);
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, note_header, &headers);
    x->target = text_of(&target);
    LOCK_SCOPE(&s->lock);
    count_locked(s, x->method);
    if (s->config.record)
        record_locked(x, text_of(&headers));
    else
        buf_release(&headers);
}

/* Before the answer goes out: who has it finds all of this. */
static void note_end(struct exchange *x, bool answered)
{
    struct http_store *s = x->store;
    LOCK_SCOPE(&s->lock);
    if (x->ended)
        return;
    x->ended = true;
    s->at_once--;
    if (!s->config.record)
        return;
    s->records[x->record].status = answered ? x->status : 0;
    s->records[x->record].ended = true;
}

/* --- an exchange --- */

static struct exchange *exchange_make(struct http_store *s, struct MHD_Connection *connection,
                                      const char *path, const char *method)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (x == NULL)
        abort();
    x->store = s;
    x->connection = connection;
    x->path = strdup(path);
    if (x->path == NULL)
        abort();
    snprintf(x->method, sizeof x->method, "%s", method);
    note(x);
    fault_choose(x);
    return x;
}

static void exchange_end(void *context, struct MHD_Connection *connection, void **state,
                         enum MHD_RequestTerminationCode why)
{
    struct exchange *x = *state;
    (void)context, (void)connection, (void)why;
    if (x == NULL)
        return;
    note_end(x, false);
    buf_release(&x->body);
    buf_release(&x->headers);
    buf_release(&x->text);
    if (x->object != NULL)
        http_object_drop(x->object);
    free(x->path);
    free(x->target);
    free(x);
    *state = NULL;
}

static void flip_up(struct exchange *x)
{
    uint64_t bits = (uint64_t)x->body.length * 8;
    if (bits == 0)
        return;
    uint64_t bit = x->rule.at != HTTP_ANYWHERE ? x->rule.at % bits : x->chance % bits;
    x->body.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
}

static void carry_out(struct exchange *x)
{
    if (x->fault == HTTP_REFUSE || x->fault == HTTP_REDIRECT)
        return;
    if (x->fault == HTTP_FLIP_UP)
        flip_up(x);
    if (metadata_answer(x))
        return;
    if (x->store->config.dialect == HTTP_S3)
        s3_answer(x);
    else
        azure_answer(x);
}

static enum MHD_Result answer(struct exchange *x)
{
    struct http_store *s = x->store;
    pthread_mutex_lock(&s->lock);
    uint32_t delay_ms = s->delay_ms;
    bool gathers = s->gather > 1;
    pthread_mutex_unlock(&s->lock);
    if (gathers)
        gather(s);
    if (delay_ms > 0 && !http_wait(s, delay_ms))
        return MHD_NO;
    if (x->fault == HTTP_CUT_UP)
        return MHD_NO;
    carry_out(x);
    fault_prepare(x);
    note_end(x, x->fault != HTTP_LOSE_REPLY && x->fault != HTTP_STALL);
    return fault_send(x);
}

/* What is announced, so that a large body is not copied again and again as it grows. */
static void reserve_body(struct exchange *x)
{
    const char *length = exchange_header(x, "Content-Length");
    unsigned long long bytes = length != NULL ? strtoull(length, NULL, 10) : 0;
    if (bytes > 0 && bytes <= BODY_BYTES_MAX)
        (void)!buf_reserve(&x->body, (size_t)bytes); /* else it grows */
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *data,
                              size_t *length, void **state)
{
    struct exchange *x = *state;
    (void)version;
    if (x == NULL) {
        *state = exchange_make(context, connection, url, method);
        return MHD_YES;
    }
    if (*length == 0)
        return answer(x);
    if (x->fault == HTTP_CUT_UP)
        return MHD_NO;
    if (x->body.data == NULL)
        reserve_body(x);
    buf_put(&x->body, data, *length);
    *length = 0;
    return x->body.failed ? MHD_NO : MHD_YES;
}

/* --- life --- */

static void count_connection(void *context, struct MHD_Connection *connection, void **state,
                             enum MHD_ConnectionNotificationCode what)
{
    struct http_store *s = context;
    (void)connection, (void)state;
    LOCK_SCOPE(&s->lock);
    s->connections += what == MHD_CONNECTION_NOTIFY_STARTED;
}

static bool listen_on(struct http_store *s)
{
    struct sockaddr_in where = {.sin_family = AF_INET,
                                .sin_port = htons(s->config.port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)s->config.tls_key},
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)s->config.tls_certificate},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    bool secure = s->config.tls_key != NULL;
    unsigned flags = MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD |
                     MHD_USE_THREAD_PER_CONNECTION | MHD_USE_SUPPRESS_DATE_NO_CLOCK |
                     (secure ? (unsigned)MHD_USE_TLS : 0u);

    s->daemon = MHD_start_daemon(flags, 0, NULL, NULL, handle, s, MHD_OPTION_SOCK_ADDR, &where,
                                 MHD_OPTION_CONNECTION_MEMORY_LIMIT, POOL_BYTES,
                                 MHD_OPTION_NOTIFY_COMPLETED, exchange_end, s,
                                 MHD_OPTION_NOTIFY_CONNECTION, count_connection, s,
                                 MHD_OPTION_ARRAY, secure ? tls : none, MHD_OPTION_END);
    if (s->daemon == NULL)
        return false;
    s->port = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
    return true;
}

struct http_store *http_store_start(const struct http_store_config *config)
{
    struct http_store *s = calloc(1, sizeof *s);
    pthread_condattr_t monotonic;
    if (s == NULL)
        abort();
    s->config = *config;
    if (s->config.page == 0)
        s->config.page = PAGE;
    s->random = config->seed;
    s->token_lifetime_s = 3600;
    s->copy_status = "success";
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&s->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if ((config->tls_key != NULL && MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES) ||
        !listen_on(s))
        http_store_stop(&s);
    return s;
}

void http_store_stop(struct http_store **store)
{
    struct http_store *s = *store;
    if (s == NULL)
        return;
    *store = NULL;
    pthread_mutex_lock(&s->lock);
    s->ending = true;
    pthread_cond_broadcast(&s->change);
    pthread_mutex_unlock(&s->lock);
    if (s->daemon != NULL)
        MHD_stop_daemon(s->daemon);
    http_objects_release(&s->objects);
    for (size_t i = 0; i < s->record_count; i++)
        http_record_release(s->records + i);
    free(s->records);
    pthread_cond_destroy(&s->change);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

uint16_t http_store_port(const struct http_store *s)
{
    return s->port;
}

/* --- settings --- */

void http_store_delay(struct http_store *s, uint32_t ms)
{
    LOCK_SCOPE(&s->lock);
    s->delay_ms = ms;
}

void http_store_lag_lists(struct http_store *s, uint64_t puts)
{
    LOCK_SCOPE(&s->lock);
    s->list_lag = puts;
}

void http_store_lag_lists_ms(struct http_store *s, uint64_t ms)
{
    LOCK_SCOPE(&s->lock);
    s->list_lag_ms = ms;
}

void http_store_skew_date(struct http_store *s, int64_t seconds)
{
    LOCK_SCOPE(&s->lock);
    s->skew_s = seconds;
}

void http_store_ignore_conditions(struct http_store *s, bool on)
{
    LOCK_SCOPE(&s->lock);
    s->conditions_ignored = on;
}

void http_store_complete_replaces(struct http_store *s, bool on)
{
    LOCK_SCOPE(&s->lock);
    s->complete_replaces = on;
}

void http_store_copies_end(struct http_store *s, unsigned polls, const char *status)
{
    LOCK_SCOPE(&s->lock);
    s->copy_polls = polls;
    s->copy_status = status;
}

void http_store_gather(struct http_store *s, unsigned count)
{
    LOCK_SCOPE(&s->lock);
    s->gather = count;
    pthread_cond_broadcast(&s->change);
}

void http_store_fault(struct http_store *s, enum http_fault which, const struct http_rule *rule)
{
    LOCK_SCOPE(&s->lock);
    s->faults[which].on = rule != NULL;
    if (rule != NULL)
        s->faults[which].rule = *rule;
}

uint64_t http_store_faulted(struct http_store *s, enum http_fault which)
{
    LOCK_SCOPE(&s->lock);
    return s->faults[which].happened;
}

/* --- what was asked, for tests --- */

uint64_t http_store_requests(struct http_store *s, const char *method)
{
    LOCK_SCOPE(&s->lock);
    for (size_t i = 0; method != NULL && i < METHODS; i++)
        if (strcmp(methods[i], method) == 0)
            return s->requests[i];
    return s->requests[ALL];
}

uint64_t http_store_connections(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    return s->connections;
}

unsigned http_store_most_at_once(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    return s->most_at_once;
}

void http_record_release(struct http_record *r)
{
    free(r->target);
    free(r->headers);
    r->target = r->headers = NULL;
}

bool http_store_record(struct http_store *s, size_t number, struct http_record *out)
{
    LOCK_SCOPE(&s->lock);
    if (number >= s->record_count || !s->records[number].ended)
        return false;
    *out = s->records[number];
    out->target = strdup(out->target);
    out->headers = strdup(out->headers);
    if (out->target == NULL || out->headers == NULL)
        abort();
    return true;
}

size_t http_store_asked(struct http_store *s, const char *method, const char *text)
{
    size_t count = 0;
    LOCK_SCOPE(&s->lock);
    for (size_t i = 0; i < s->record_count; i++) {
        const struct http_record *r = s->records + i;
        bool tells =
            text == NULL || strstr(r->target, text) != NULL || strstr(r->headers, text) != NULL;
        count += tells && (method == NULL || strcmp(r->method, method) == 0);
    }
    return count;
}

bool http_store_was_told(struct http_store *s, const char *text)
{
    return http_store_asked(s, NULL, text) > 0;
}

/* --- objects, for tests --- */

size_t http_store_objects(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    return s->objects.count;
}

size_t http_store_uploads(struct http_store *s)
{
    LOCK_SCOPE(&s->lock);
    return http_objects_uploads(&s->objects);
}

bool http_store_object(struct http_store *s, const char *name, struct buf *out)
{
    LOCK_SCOPE(&s->lock);
    const struct http_object *object = http_objects_find(&s->objects, name);
    buf_clear(out);
    if (object != NULL)
        buf_put(out, object->body.data, object->body.length);
    return object != NULL && !out->failed;
}

/* Its tag and digests stay as they were; readers of the old bytes keep them. */
bool http_store_damage(struct http_store *s, const char *name, uint64_t bit)
{
    LOCK_SCOPE(&s->lock);
    const struct http_object *old = http_objects_find(&s->objects, name);
    if (old == NULL || bit / 8 >= old->body.length)
        return false;
    struct buf body = BUF_NONE, headers = BUF_NONE;
    buf_put(&body, old->body.data, old->body.length);
    buf_put(&headers, old->headers.data, old->headers.length);
    struct http_object *object = http_object_make(name, &body, &headers, old->etag);
    object->body.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    http_objects_put(&s->objects, object);
    return true;
}
