/* SPDX-License-Identifier: MIT
 * A host whose clock is wrong works on a real store all the same: it is told the store's time by
 * the first refusal. Run by with.sh, whose stores it takes from the environment. */
#include "backend/store/store.h"
#include "tests/support/check.h"
#include "tests/support/clock_world.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define SECOND_NS 1000000000ll

static const struct skew {
    const char *name;
    int64_t ns;
} skews[] = {
    {"20 minutes ahead", 20 * 60 * SECOND_NS},
    {"20 minutes behind", -20 * 60 * SECOND_NS},
    {"an hour behind", -3600 * SECOND_NS},
    {"ten years ahead", 10 * 365 * 86400 * SECOND_NS},
};

static bool see(void *context, const char *key, uint64_t bytes)
{
    (void)key;
    *(uint64_t *)context += bytes;
    return true;
}

/* It begins by knowing nothing of the store's time. */
static struct store *open_skewed(struct clock_world *clock, const char *url,
                                 const struct skew *skew, bool create)
{
    struct store *s = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {
        .world = &clock->head, .credentials = getenv("FARSHORE_CREDENTIALS"), .env = getenv};

    printf("%s: %s\n", url, skew->name);
    clock_world_init(clock);
    atomic_store(&clock->jumped_ns, skew->ns);
    check_ok(store_open(&host, url, create, &s, &err), err);
    return s;
}

static void work_with(const char *url, const struct skew *skew)
{
    struct clock_world clock;
    struct store *s AUTO_STORE = open_skewed(&clock, url, skew, true);
    struct buf got AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    uint64_t listed = 0, bytes;
    struct span body = span_of_text("signed at another time");

    check_ok(store_put(s, "skew/object", body, &err), err);
    check_ok(store_size(s, "skew/object", &bytes, &err), err);
    check_ok(store_load(s, "skew/object", 100, &got, &err), err);
    assert_true(span_equal(buf_span(&got), body));
    check_ok(store_list(s, "skew/", NULL, see, &listed, &err), err);
    assert_int_equal(listed, body.length);
    check_ok(store_remove(s, "skew/object", &err), err);
}

static void a_host_with_a_wrong_clock_works(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof skews / sizeof *skews; i++) {
        work_with(getenv("FARSHORE_TEST_CACHE"), &skews[i]);
        work_with(getenv("FARSHORE_TEST_TARGET"), &skews[i]);
    }
}

/* The refusal of a HEAD has no body that could say why. */
static void a_size_asked_for_first_is_answered_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof skews / sizeof *skews; i++) {
        struct clock_world clock;
        struct store *s AUTO_STORE =
            open_skewed(&clock, getenv("FARSHORE_TEST_CACHE"), &skews[i], false);
        struct err err = ERR_NONE;
        uint64_t bytes;
        assert_false(store_size(s, "skew/none", &bytes, &err));
        assert_int_equal(err.kind, ERR_NOT_FOUND);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_host_with_a_wrong_clock_works),
        cmocka_unit_test(a_size_asked_for_first_is_answered_too),
    };
    if (getenv("FARSHORE_TEST_CACHE") == NULL) {
        puts("SKIP: run by tests/servers/with.sh SERVER");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
