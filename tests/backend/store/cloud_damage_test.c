/* SPDX-License-Identifier: MIT
 * What azure.c and s3.c make of bytes that are wrong or missing, on the way and in the store. In
 * both dialects. */
#include "backend/store/cloud.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/cloud_fixture.h"

static void a_bit_flipped_on_the_way_down_is_found_and_read_again(void **state)
{
    struct cloud_fixture *f = *state;
    cloud_fixture_put(f, "k");
    for (uint64_t bit = 0; bit < CLOUD_BODY_BYTES * 8; bit++) {
        struct http_rule rule = {.method = "GET", .next = 1, .at = bit};
        struct buf out AUTO_BUF = BUF_NONE;
        struct err err = ERR_NONE;
        http_store_fault(f->rig.server, HTTP_FLIP_DOWN, &rule);
        check_ok(store_load(f->store, "k", CLOUD_BODY_BYTES, &out, &err), err);
        assert_true(span_equal(buf_span(&out), cloud_fixture_body(f)));
    }
    assert_int_equal(http_store_faulted(f->rig.server, HTTP_FLIP_DOWN), CLOUD_BODY_BYTES * 8);
}

static void a_bit_flipped_in_the_store_is_corrupt(void **state)
{
    struct cloud_fixture *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err;
    cloud_fixture_put(f, "k");
    assert_true(http_store_damage(f->rig.server, cloud_rig_name(&f->rig, "k"), 100));
    check_fails(store_load(f->store, "k", CLOUD_BODY_BYTES, &out, &err), err, ERR_CORRUPT);
    check_says(err, "object k");
    assert_int_equal(out.length, 0);
}

/* Which says nothing of the object: whoever takes it for damaged or another's would be wrong. */
static void bits_flipped_on_the_way_down_again_and_again_are_transient(void **state)
{
    struct cloud_fixture *f = *state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err;
    cloud_fixture_put(f, "k");
    cloud_rig_often(&f->rig, HTTP_FLIP_DOWN, "GET", 1000);
    check_fails(store_load(f->store, "k", CLOUD_BODY_BYTES, &out, &err), err, ERR_TRANSIENT);
    assert_int_equal(out.length, 0);
}

static void damage_in_a_large_object_is_found_too(void **state)
{
    struct cloud_fixture *f = *state;
    size_t length = (16u << 20) + 1;
    uint8_t *body AUTO_FREE = calloc(1, length);
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    assert_non_null(body);
    check_ok(store_put(f->store, "k", span_of(body, length), &err), err);
    assert_true(http_store_damage(f->rig.server, cloud_rig_name(&f->rig, "k"), 8 * length - 1));
    check_fails(store_load(f->store, "k", length, &out, &err), err, ERR_CORRUPT);
}

/* Of a damaged object nobody knows whose it is: it is neither ours nor another writer's. */
static void a_put_whose_object_is_damaged_stays_in_doubt(void **state)
{
    struct cloud_fixture *f = *state;
    struct retry_policy policy = cloud_tireless;
    struct err err;
    policy.budget = 5;
    cloud_fixture_put(f, "k");
    assert_true(http_store_damage(f->rig.server, cloud_rig_name(&f->rig, "k"), 5));
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &policy);
    cloud_rig_next(&f->rig, HTTP_LOSE_REPLY, "PUT", NULL, 1);
    check_fails(store_put(s, "k", cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
    check_says(err, "damaged in the store");
}

static void a_bit_flipped_on_the_way_up_is_refused_and_sent_again(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    struct err err = ERR_NONE;
    cloud_rig_next(&f->rig, HTTP_FLIP_UP, "PUT", NULL, 1);
    check_fails(store_put(f->store, "k", cloud_fixture_body(f), &err), err, ERR_TRANSIENT);
    assert_int_equal(http_store_objects(f->rig.server), 0);
    cloud_rig_next(&f->rig, HTTP_FLIP_UP, "PUT", NULL, 1);
    check_ok(store_put(s, "k", cloud_fixture_body(f), &err), err);
    cloud_fixture_check(f, "k", cloud_fixture_body(f));
}

static void a_body_cut_in_either_direction_is_sent_again(void **state)
{
    struct cloud_fixture *f = *state;
    struct store *s AUTO_STORE = cloud_rig_open_retry(&f->rig, &cloud_tireless);
    struct buf out AUTO_BUF = BUF_NONE;
    uint8_t part[9];
    struct err err = ERR_NONE;
    cloud_rig_next(&f->rig, HTTP_CUT_UP, "PUT", NULL, 1);
    check_ok(store_put(s, "k", cloud_fixture_body(f), &err), err);
    cloud_fixture_check(f, "k", cloud_fixture_body(f));
    cloud_rig_next(&f->rig, HTTP_CUT_DOWN, "GET", NULL, 1);
    check_fails(store_load(f->store, "k", CLOUD_BODY_BYTES, &out, &err), err, ERR_TRANSIENT);
    cloud_rig_next(&f->rig, HTTP_CUT_DOWN, "GET", NULL, 1);
    check_ok(store_load(s, "k", CLOUD_BODY_BYTES, &out, &err), err);
    assert_true(span_equal(buf_span(&out), cloud_fixture_body(f)));
    cloud_rig_next(&f->rig, HTTP_CUT_DOWN, "GET", NULL, 1);
    check_ok(store_get(s, "k", 5, mspan_of(part, sizeof part), &err), err);
    assert_memory_equal(part, f->body + 5, sizeof part);
}

static int run(enum http_dialect dialect, const char *name)
{
#define EACH(test)                                                                                 \
    cmocka_unit_test_prestate_setup_teardown(test, cloud_fixture_set_up, cloud_fixture_tear_down,  \
                                             &dialect)
    const struct CMUnitTest tests[] = {
        EACH(a_bit_flipped_on_the_way_down_is_found_and_read_again),
        EACH(a_bit_flipped_in_the_store_is_corrupt),
        EACH(bits_flipped_on_the_way_down_again_and_again_are_transient),
        EACH(damage_in_a_large_object_is_found_too),
        EACH(a_put_whose_object_is_damaged_stays_in_doubt),
        EACH(a_bit_flipped_on_the_way_up_is_refused_and_sent_again),
        EACH(a_body_cut_in_either_direction_is_sent_again),
    };
#undef EACH
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}

int main(void)
{
    return run(HTTP_S3, "S3") + run(HTTP_AZURE, "Azure");
}
