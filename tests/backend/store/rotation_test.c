/* SPDX-License-Identifier: MIT */
#include "backend/store/rotation.h"

#include "tests/support/check.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

/* A place with a number in it; 0: it cannot be read. */
struct place {
    int holds;
    unsigned reads, alive;
};

struct made {
    struct place *place;
    int number;
};

static bool read_place(void *context, void **out, struct err *err)
{
    struct place *p = context;
    p->reads++;
    if (p->holds == 0)
        return err_set(err, ERR_DENIED, "the place cannot be read");
    struct made *m = calloc(1, sizeof *m);
    assert_non_null(m);
    *m = (struct made){.place = p, .number = p->holds};
    p->alive++;
    *out = m;
    return true;
}

static bool same_number(const void *before, const void *made)
{
    return ((const struct made *)before)->number == ((const struct made *)made)->number;
}

static void release_made(void *made)
{
    ((struct made *)made)->place->alive--;
    free(made);
}

static const struct rotation_ops ops = {read_place, same_number, release_made};

static int number_of(const void *made)
{
    return ((const struct made *)made)->number;
}

static struct rotation *rotation_of(struct place *p)
{
    struct rotation *r = NULL;
    struct err err = ERR_NONE;
    check_ok(rotation_make(&ops, p, &r, &err), err);
    return r;
}

static void what_was_put_in_place_is_used_after_a_refusal(void **state)
{
    (void)state;
    struct place p = {.holds = 1};
    struct rotation *r = rotation_of(&p);
    p.holds = 2;
    assert_int_equal(number_of(rotation_now(r)), 1);
    assert_true(rotation_renew(r, rotation_now(r)));
    assert_int_equal(number_of(rotation_now(r)), 2);
    rotation_release(&r);
}

static void the_same_is_not_tried_again(void **state)
{
    (void)state;
    struct place p = {.holds = 1};
    struct rotation *r = rotation_of(&p);
    const void *before = rotation_now(r);
    assert_false(rotation_renew(r, before));
    assert_ptr_equal(rotation_now(r), before);
    assert_int_equal(p.alive, 1);
    rotation_release(&r);
}

static void a_place_that_cannot_be_read_leaves_what_is(void **state)
{
    (void)state;
    struct place p = {.holds = 1};
    struct rotation *r = rotation_of(&p);
    p.holds = 0;
    assert_false(rotation_renew(r, rotation_now(r)));
    assert_int_equal(number_of(rotation_now(r)), 1);
    rotation_release(&r);
}

/* Two calls that were refused together: the second finds what the first has fetched. */
static void a_refusal_of_what_is_gone_already_reads_nothing(void **state)
{
    (void)state;
    struct place p = {.holds = 1};
    struct rotation *r = rotation_of(&p);
    const void *old = rotation_now(r);
    p.holds = 2;
    assert_true(rotation_renew(r, old));
    assert_int_equal(p.reads, 2);
    assert_true(rotation_renew(r, old));
    assert_int_equal(p.reads, 2);
    rotation_release(&r);
}

/* A call under way borrows it. */
static void what_was_lent_lives_until_the_end(void **state)
{
    (void)state;
    struct place p = {.holds = 1};
    struct rotation *r = rotation_of(&p);
    const void *lent = rotation_now(r);
    for (p.holds = 2; p.holds < 40; p.holds++)
        assert_true(rotation_renew(r, rotation_now(r)));
    assert_int_equal(number_of(lent), 1);
    assert_int_equal(p.alive, 39);
    rotation_release(&r);
    assert_int_equal(p.alive, 0);
}

static void a_first_that_cannot_be_made_is_an_error(void **state)
{
    (void)state;
    struct place p = {.holds = 0};
    struct rotation *r = NULL;
    struct err err = ERR_NONE;
    assert_false(rotation_make(&ops, &p, &r, &err));
    assert_int_equal(err.kind, ERR_DENIED);
    assert_null(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_in_place_is_used_after_a_refusal),
        cmocka_unit_test(the_same_is_not_tried_again),
        cmocka_unit_test(a_place_that_cannot_be_read_leaves_what_is),
        cmocka_unit_test(a_refusal_of_what_is_gone_already_reads_nothing),
        cmocka_unit_test(what_was_lent_lives_until_the_end),
        cmocka_unit_test(a_first_that_cannot_be_made_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
