/* SPDX-License-Identifier: MIT */
#include "fs/disk/uploads.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#define THREADS 3u

struct rig {
    struct world *world;
    struct memory_bucket *bucket;
    struct store *store;
    struct uploads *uploads;
    unsigned faults; /* how many puts of "bad" still fail */
    enum memory_fault fault;
    pthread_mutex_t lock; /* guards what follows, and faults */
    pthread_cond_t change;
    unsigned inside, inside_most, calls_of_bad;
    bool hold;
};

/* Puts wait here while `hold`; "bad" fails as often as told. */
static enum memory_fault before(void *context, const struct memory_call *call)
{
    struct rig *r = context;
    enum memory_fault fault = MEMORY_PASS;
    LOCK_SCOPE(&r->lock);
    r->inside++;
    r->inside_most = r->inside > r->inside_most ? r->inside : r->inside_most;
    pthread_cond_broadcast(&r->change);
    while (r->hold)
        pthread_cond_wait(&r->change, &r->lock);
    if (strncmp(call->key, "bad", 3) == 0) {
        r->calls_of_bad++;
        if (r->faults > 0) {
            r->faults--;
            fault = r->fault;
        }
    }
    r->inside--;
    return fault;
}

static int make(void **state, unsigned threads)
{
    struct err err = ERR_NONE;
    struct rig *r = calloc(1, sizeof *r);
    r->world = fake_world_make(1);
    r->bucket = memory_bucket_make();
    r->store = memory_store_open(r->bucket);
    r->fault = MEMORY_FAIL;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->change, NULL);
    memory_store_hook(r->store, before, NULL, r);
    check_ok(uploads_make(r->world, threads, &r->uploads, &err), err);
    *state = r;
    return 0;
}

static int set_up(void **state)
{
    return make(state, THREADS);
}

static int set_up_inline(void **state)
{
    return make(state, 0);
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    uploads_release(&r->uploads);
    store_close(&r->store);
    memory_bucket_release(&r->bucket);
    fake_world_release(&r->world);
    pthread_cond_destroy(&r->change);
    pthread_mutex_destroy(&r->lock);
    free(r);
    return 0;
}

static void add(struct rig *r, const char *key)
{
    struct buf body = BUF_NONE;
    buf_put(&body, key, strlen(key));
    struct sha256 digest = sha256_of(buf_span(&body));
    uploads_add(r->uploads, r->store, key, &body, &digest, 4 * body.length);
    assert_null(body.data);
}

static void every_part_is_in_the_store_after_the_wait(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    for (unsigned i = 0; i < 50; i++) {
        char key[16];
        snprintf(key, sizeof key, "part-%u", i);
        add(r, key);
    }
    check_ok(uploads_wait(r->uploads, &err), err);
    assert_int_equal(memory_bucket_objects(r->bucket), 50);
    struct uploads_done done = uploads_done(r->uploads);
    assert_int_equal(done.stored_bytes, memory_bucket_bytes(r->bucket));
    assert_int_equal(done.plain_bytes, 4 * done.stored_bytes);
}

static void *add_five(void *context)
{
    struct rig *r = context;
    for (unsigned i = 0; i < THREADS + 2; i++) {
        char key[16];
        snprintf(key, sizeof key, "part-%u", i);
        add(r, key);
    }
    return NULL;
}

static void no_more_parts_are_in_flight_than_threads(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    pthread_t adder;
    r->hold = true;
    assert_int_equal(pthread_create(&adder, NULL, add_five, r), 0);
    pthread_mutex_lock(&r->lock);
    while (r->inside < THREADS)
        pthread_cond_wait(&r->change, &r->lock);
    r->hold = false;
    pthread_cond_broadcast(&r->change);
    pthread_mutex_unlock(&r->lock);
    pthread_join(adder, NULL);
    check_ok(uploads_wait(r->uploads, &err), err);
    assert_int_equal(r->inside_most, THREADS);
    assert_int_equal(memory_bucket_objects(r->bucket), THREADS + 2);
}

static void the_first_failure_is_reported_once_and_the_next_batch_is_clean(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    r->faults = 1;
    r->fault = MEMORY_DENY;
    assert_false(uploads_failed(r->uploads, &err));
    add(r, "bad");
    for (unsigned i = 0; i < 10000 && !uploads_failed(r->uploads, &err); i++)
        usleep(1000);
    assert_true(uploads_failed(r->uploads, &err)); /* before anybody waits */
    assert_int_equal(err.kind, ERR_DENIED);
    check_fails(uploads_wait(r->uploads, &err), err, ERR_DENIED);
    assert_false(uploads_failed(r->uploads, &err));
    check_ok(uploads_wait(r->uploads, &err), err);
    add(r, "good");
    check_ok(uploads_wait(r->uploads, &err), err);
    assert_true(memory_bucket_has(r->bucket, "good"));
}

static void parts_after_a_failure_are_dropped(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    r->faults = 1;
    r->fault = MEMORY_FILL;
    add(r, "bad");
    add(r, "later");
    check_fails(uploads_wait(r->uploads, &err), err, ERR_FULL);
    assert_false(memory_bucket_has(r->bucket, "later"));
}

/* A host that was copied with its memory chooses the same attempt: its part is not ours. */
static void a_taken_name_is_a_failure_and_what_lies_there_stays(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    memory_bucket_set(r->bucket, "bad", span_of_text("another's"));
    add(r, "bad");
    check_fails(uploads_wait(r->uploads, &err), err, ERR_EXISTS);
}

static void trying_again_is_left_to_the_store(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    r->faults = 100;
    add(r, "bad");
    check_fails(uploads_wait(r->uploads, &err), err, ERR_TRANSIENT);
    assert_int_equal(r->calls_of_bad, 1);
}

static void a_release_finishes_what_was_added(void **state)
{
    struct rig *r = *state;
    add(r, "one");
    add(r, "two");
    uploads_release(&r->uploads);
    assert_int_equal(memory_bucket_objects(r->bucket), 2);
}

static void without_threads_a_part_is_put_at_once_and_a_failure_kept(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    add(r, "one");
    assert_true(memory_bucket_has(r->bucket, "one"));
    r->faults = 1;
    add(r, "bad");
    add(r, "later");
    check_fails(uploads_wait(r->uploads, &err), err, ERR_TRANSIENT);
    assert_false(memory_bucket_has(r->bucket, "later"));
    add(r, "next");
    check_ok(uploads_wait(r->uploads, &err), err);
    assert_true(memory_bucket_has(r->bucket, "next"));
}

#define T(name)        cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define T_INLINE(name) cmocka_unit_test_setup_teardown(name, set_up_inline, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(every_part_is_in_the_store_after_the_wait),
        T(no_more_parts_are_in_flight_than_threads),
        T(the_first_failure_is_reported_once_and_the_next_batch_is_clean),
        T(a_taken_name_is_a_failure_and_what_lies_there_stays),
        T(trying_again_is_left_to_the_store),
        T(a_release_finishes_what_was_added),
        T_INLINE(parts_after_a_failure_are_dropped),
        T_INLINE(without_threads_a_part_is_put_at_once_and_a_failure_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
