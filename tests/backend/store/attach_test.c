/* SPDX-License-Identifier: MIT */
#include "backend/store/attach.h"

#include "tests/support/test_host.h"
#include "tests/support/tmp_dir.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

#define CALLERS 6u

struct place {
    struct tmp_dir dir;
    char url[PATH_MAX + 16];
};

static bool attach_lazily(const char *url, struct store **out, struct err *err)
{
    struct attach_config c = {
        .host = *TEST_HOST(world_real()), .url = url, .lazily = true, .deadline_ms = 1};
    return store_attach(&c, out, err);
}

static int setup(void **state)
{
    static struct place p;
    tmp_dir_make(&p.dir);
    snprintf(p.url, sizeof p.url, "file://%s/store", p.dir.path);
    *state = &p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    tmp_dir_remove(&p->dir);
    return 0;
}

/* Else a folder that is not mounted yet would look like an empty log, and be written to. */
static void a_store_out_of_reach_is_transient_and_never_not_found(void **state)
{
    struct place *p = *state;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    uint64_t bytes;
    assert_true(attach_lazily(p->url, &s, &err));
    assert_false(store_size(s, "vm/vault", &bytes, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    assert_false(store_put(s, "vm/vault", span_of_text("x"), &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
}

static void a_store_that_appears_is_used(void **state)
{
    struct place *p = *state;
    struct store *s AUTO_STORE = NULL;
    struct buf got AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct store *made AUTO_STORE = NULL;
    assert_true(attach_lazily(p->url, &s, &err));
    assert_false(store_put(s, "vm/a", span_of_text("hello"), &err));
    assert_true(store_open(TEST_HOST(world_real()), p->url, true, &made, &err));
    assert_true(store_put(s, "vm/a", span_of_text("hello"), &err));
    assert_true(store_load(s, "vm/a", 100, &got, &err));
    assert_true(span_equal(buf_span(&got), span_of_text("hello")));
    assert_true(store_remove(s, "vm/a", &err));
    assert_false(store_load(s, "vm/a", 100, &got, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void an_url_that_is_too_long_is_refused(void **state)
{
    (void)state;
    struct store *s = NULL;
    struct err err = ERR_NONE;
    char url[STORE_URL_MAX + 1];
    memset(url, 'a', STORE_URL_MAX);
    url[STORE_URL_MAX] = '\0';
    assert_false(attach_lazily(url, &s, &err));
    assert_int_equal(err.kind, ERR_INVALID);
}

/* --- a store that takes connections and never answers --- */

static atomic_uint opened; /* an open store looks for its credentials once */

static char *some_credentials(const char *name)
{
    static char value[] = "any";
    if (strcmp(name, "AWS_ACCESS_KEY_ID") == 0)
        atomic_fetch_add(&opened, 1);
    bool asked =
        strcmp(name, "AWS_ACCESS_KEY_ID") == 0 || strcmp(name, "AWS_SECRET_ACCESS_KEY") == 0;
    return asked ? value : NULL;
}

struct caller {
    struct store *store;
    struct err err;
    bool good;
};

static _Thread_local bool is_caller;
static atomic_uint callers_come; /* have read the clock, as a call does first */

static void *put_something(void *context)
{
    struct caller *c = context;
    is_caller = true;
    c->good = store_put(c->store, "vm/x", span_of_text("x"), &c->err);
    return NULL;
}

static int listen_somewhere(char url[128])
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, length), 0);
    assert_int_equal(listen(listener, 8), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &length), 0);
    snprintf(url, 128, "s3://bucket?endpoint=http://127.0.0.1:%u", ntohs(at.sin_port));
    return listener;
}

static struct store *attach_proved(struct world *w, const char *url)
{
    struct attach_config config = {.host = {.world = w, .env = some_credentials},
                                   .url = url,
                                   .lazily = true,
                                   .check = true,
                                   .prefix = "vm/",
                                   .role = STORE_ROLE_SOURCE,
                                   .deadline_ms = 1};
    struct store *s = NULL;
    struct err err = ERR_NONE;
    assert_true(store_attach(&config, &s, &err));
    return s;
}

static void a_cancel_reaches_a_store_that_is_still_being_proved(void **state)
{
    struct caller c = {.err = ERR_NONE};
    char url[128];
    pthread_t thread;
    (void)state;
    int listener = listen_somewhere(url);
    c.store = attach_proved(world_real(), url);
    assert_int_equal(pthread_create(&thread, NULL, put_something, &c), 0);
    int connection = accept(listener, NULL, NULL); /* the proof has begun */
    assert_true(connection >= 0);
    store_cancel(c.store, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(c.good);
    assert_int_equal(c.err.kind, ERR_CANCELLED);
    close(connection);
    close(listener);
    store_close(&c.store);
}

static uint64_t read_clock(struct world *w)
{
    static _Thread_local bool counted;
    (void)w;
    if (is_caller && !counted)
        atomic_fetch_add(&callers_come, 1);
    counted = true;
    return world_real()->ops->boottime_ns(world_real());
}

/* Else the last of many would wait for the time-outs of all the others. */
static void a_store_that_cannot_be_opened_is_tried_once_for_all_who_wait(void **state)
{
    struct world_ops ops = *world_real()->ops;
    struct world w = *world_real();
    struct caller callers[CALLERS];
    pthread_t threads[CALLERS];
    char url[128];
    (void)state;
    ops.boottime_ns = read_clock;
    w.ops = &ops;
    int listener = listen_somewhere(url);
    struct store *s = attach_proved(&w, url);
    atomic_store(&opened, 0);
    atomic_store(&callers_come, 0);
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct caller){.store = s};
        assert_int_equal(pthread_create(&threads[i], NULL, put_something, &callers[i]), 0);
    }
    int connection = accept(listener, NULL, NULL);
    while (atomic_load(&callers_come) < CALLERS)
        sched_yield();
    close(listener);
    close(connection);
    for (unsigned i = 0; i < CALLERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(callers[i].err.kind, ERR_TRANSIENT);
    }
    assert_int_equal(atomic_load(&opened), 1);
    store_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_store_out_of_reach_is_transient_and_never_not_found,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_appears_is_used, setup, teardown),
        cmocka_unit_test(an_url_that_is_too_long_is_refused),
        cmocka_unit_test(a_cancel_reaches_a_store_that_is_still_being_proved),
        cmocka_unit_test(a_store_that_cannot_be_opened_is_tried_once_for_all_who_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
