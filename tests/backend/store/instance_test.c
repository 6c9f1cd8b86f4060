/* SPDX-License-Identifier: MIT */
#include "backend/store/instance.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/clock_world.h"
#include "tests/support/http_store.h"

#define LIFE_MS 3600000u
#define MS      1000000ull
#define CALLERS 6u

/* Gives out "1", "2" ... */
struct source {
    struct clock_world world; /* first: read_clock finds the rest */
    struct instance *instance;
    atomic_uint asked;
    atomic_bool down;
    /* A fetch ends when the clock was read so often: a call does so when it comes. 0: at once. */
    atomic_uint readings_wanted;
    atomic_uint readings;
    uint64_t (*boottime_ns)(struct world *w);
    uint64_t holds_ms;
};

static uint64_t read_clock(struct world *w)
{
    struct source *s = (struct source *)w;
    uint64_t now_ns = s->boottime_ns(w);
    atomic_fetch_add(&s->readings, 1);
    return now_ns;
}

static bool fetch(void *context, struct http *metadata, struct buf *out, uint64_t *holds_ms,
                  struct err *err)
{
    struct source *s = context;
    char text[16];
    assert_non_null(metadata);
    snprintf(text, sizeof text, "%u", atomic_fetch_add(&s->asked, 1) + 1);
    while (atomic_load(&s->readings) < atomic_load(&s->readings_wanted))
        sched_yield();
    if (atomic_load(&s->down))
        return err_set(err, ERR_TRANSIENT, "down");
    *holds_ms = s->holds_ms;
    buf_put(out, text, strlen(text));
    return true;
}

static int set_up(void **state)
{
    struct source *s = calloc(1, sizeof *s);
    struct err err;
    if (s == NULL)
        return -1;
    clock_world_init(&s->world);
    s->boottime_ns = s->world.ops.boottime_ns;
    s->world.ops.boottime_ns = read_clock;
    s->holds_ms = LIFE_MS;
    *state = s;
    return instance_make(&s->world.head, fetch, s, &s->instance, &err) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct source *s = *state;
    instance_release(&s->instance);
    free(s);
    return 0;
}

static void pass(struct source *s, uint64_t ms)
{
    atomic_fetch_add(&s->world.passed_ns, ms * MS);
}

static void check_gives(struct source *s, const char *wanted)
{
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(instance_get(s->instance, &out, &err), err);
    assert_true(span_equal(buf_span(&out), span_of_text(wanted)));
}

static void what_was_fetched_is_kept(void **state)
{
    struct source *s = *state;
    check_gives(s, "1");
    pass(s, LIFE_MS - INSTANCE_RENEW_MS - 60000);
    check_gives(s, "1");
}

static void it_is_renewed_before_it_ends(void **state)
{
    struct source *s = *state;
    check_gives(s, "1");
    pass(s, LIFE_MS - INSTANCE_RENEW_MS + 1);
    check_gives(s, "2");
    check_gives(s, "2");
}

static void it_is_kept_while_it_holds_and_the_endpoint_is_down(void **state)
{
    struct source *s = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err;
    check_gives(s, "1");
    atomic_store(&s->down, true);
    pass(s, LIFE_MS - 60000);
    check_gives(s, "1");
    pass(s, 60000);
    check_fails(instance_get(s->instance, &out, &err), err, ERR_TRANSIENT);
    atomic_store(&s->down, false);
    check_gives(s, "4");
}

/* Each request waits for it. */
static void an_endpoint_that_is_down_is_not_asked_at_every_call(void **state)
{
    struct source *s = *state;
    check_gives(s, "1");
    atomic_store(&s->down, true);
    pass(s, LIFE_MS - INSTANCE_RENEW_MS + 1);
    for (int i = 0; i < 10; i++)
        check_gives(s, "1");
    assert_int_equal(atomic_load(&s->asked), 2);
    pass(s, INSTANCE_PACE_MS);
    check_gives(s, "1");
    assert_int_equal(atomic_load(&s->asked), 3);
}

/* Azure's gives out the same token until shortly before its end. */
static void what_holds_for_a_short_time_only_is_not_fetched_at_every_call(void **state)
{
    struct source *s = *state;
    s->holds_ms = INSTANCE_RENEW_MS - 1;
    for (int i = 0; i < 10; i++)
        check_gives(s, "1");
    pass(s, INSTANCE_PACE_MS);
    check_gives(s, "2");
}

static void a_clock_that_is_set_ends_nothing(void **state)
{
    struct source *s = *state;
    check_gives(s, "1");
    atomic_store(&s->world.jumped_ns, (int64_t)(10ull * 365 * 24 * LIFE_MS * MS));
    check_gives(s, "1");
    atomic_store(&s->world.jumped_ns, -(int64_t)(LIFE_MS * MS));
    check_gives(s, "1");
}

static void what_is_forgotten_is_fetched_again(void **state)
{
    struct source *s = *state;
    check_gives(s, "1");
    pass(s, INSTANCE_PACE_MS);
    instance_forget(s->instance);
    check_gives(s, "2");
}

/* Many calls are refused at once; the first to say so has it renewed for all. */
static void what_came_just_now_is_not_forgotten(void **state)
{
    struct source *s = *state;
    check_gives(s, "1");
    pass(s, INSTANCE_PACE_MS);
    for (int i = 0; i < 10; i++) {
        instance_forget(s->instance);
        check_gives(s, "2");
    }
}

struct caller {
    struct source *source;
    pthread_t thread;
    struct err err;
    bool good;
};

static void *get(void *context)
{
    struct caller *c = context;
    struct buf out AUTO_BUF = BUF_NONE;
    c->good = instance_get(c->source->instance, &out, &c->err);
    return NULL;
}

static void call_at_once(struct source *s, struct caller callers[CALLERS])
{
    /* The one that fetches has read it twice. */
    atomic_store(&s->readings_wanted, CALLERS + 1);
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.source = s};
        assert_int_equal(pthread_create(&callers[i].thread, NULL, get, &callers[i]), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(pthread_join(callers[i].thread, NULL), 0);
}

static void one_call_fetches_for_all_that_wait(void **state)
{
    struct source *s = *state;
    struct caller callers[CALLERS];
    call_at_once(s, callers);
    for (unsigned i = 0; i < CALLERS; i++)
        assert_true(callers[i].good);
    assert_int_equal(atomic_load(&s->asked), 1);
}

/* Else each would wait for a time-out of its own, one after another. */
static void one_failure_is_for_all_that_wait(void **state)
{
    struct source *s = *state;
    struct caller callers[CALLERS];
    atomic_store(&s->down, true);
    call_at_once(s, callers);
    for (unsigned i = 0; i < CALLERS; i++)
        assert_int_equal(callers[i].err.kind, ERR_TRANSIENT);
    assert_int_equal(atomic_load(&s->asked), 1);
    atomic_store(&s->down, false);
    check_gives(s, "2");
}

/* --- questions --- */

static bool ask(struct http_store *server, const char *path, const char *name, const char *value,
                struct buf *out, struct err *err)
{
    struct http_config config = {.world = world_real()};
    struct http *http AUTO_HTTP = NULL;
    char url[120];
    snprintf(url, sizeof url, "http://127.0.0.1:%u%s", http_store_port(server), path);
    check_ok(http_make(&config, &http, err), *err);
    return instance_ask(http, "GET", url, name, value, out, err);
}

static void refusals_are_for_later_or_for_good(void **state)
{
    static const struct {
        unsigned status;
        enum err_kind kind;
    } rows[] = {{400, ERR_DENIED},    {401, ERR_DENIED},    {403, ERR_DENIED},
                {404, ERR_TRANSIENT}, {410, ERR_TRANSIENT}, {429, ERR_TRANSIENT},
                {500, ERR_TRANSIENT}, {503, ERR_TRANSIENT}};
    struct http_store *server = http_store_start(&(struct http_store_config){.record = true});
    struct buf out AUTO_BUF = BUF_NONE;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct http_rule rule = {.next = 1, .status = rows[i].status, .retry_after = "9"};
        struct err err;
        http_store_fault(server, HTTP_REFUSE, &rule);
        check_fails(ask(server, "/any", "Metadata", "true", &out, &err), err, rows[i].kind);
        assert_int_equal(err.retry_after_ms, rows[i].kind == ERR_TRANSIENT ? 9000 : 0);
    }
    assert_int_equal(out.length, 0);
    assert_true(http_store_was_told(server, "metadata: true"));
    http_store_stop(&server);
}

static void an_answer_without_end_is_refused(void **state)
{
    struct http_store *server = http_store_start(&(struct http_store_config){.record = true});
    struct http_rule rule = {.next = 1};
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err;
    (void)state;
    http_store_fault(server, HTTP_ENDLESS_BODY, &rule);
    check_fails(
        ask(server, "/metadata/identity/oauth2/token?resource=x", "Metadata", "true", &out, &err),
        err, ERR_CORRUPT);
    http_store_stop(&server);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(what_was_fetched_is_kept),
        EACH(it_is_renewed_before_it_ends),
        EACH(it_is_kept_while_it_holds_and_the_endpoint_is_down),
        EACH(an_endpoint_that_is_down_is_not_asked_at_every_call),
        EACH(what_holds_for_a_short_time_only_is_not_fetched_at_every_call),
        EACH(a_clock_that_is_set_ends_nothing),
        EACH(what_is_forgotten_is_fetched_again),
        EACH(what_came_just_now_is_not_forgotten),
        EACH(one_call_fetches_for_all_that_wait),
        EACH(one_failure_is_for_all_that_wait),
        cmocka_unit_test(refusals_are_for_later_or_for_good),
        cmocka_unit_test(an_answer_without_end_is_refused),
    };
#undef EACH
    return cmocka_run_group_tests(tests, NULL, NULL);
}
