/* SPDX-License-Identifier: MIT
 * When what lies on a host is of a failover that was ended without it. */
#include "tools/failover/takeover.h"

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

struct rig {
    struct settings s; /* of host b, where the VM was failed over to */
    struct protection *p;
};

/* It runs on b: it was failed over from a. */
static int set_up(void **state)
{
    static struct rig r;
    struct err err = ERR_NONE;
    check_ok(settings_make(&r.s, &err), err);
    check_ok(protection_make(&r.p, &err), err);
    strcpy(r.s.name, "web");
    r.s.role = ROLE_SOURCE;
    r.s.replicate = false;
    r.s.generation = (struct generation){.number = 5, .id = 50};
    r.p->state = PROTECTION_FAILED_OVER;
    strcpy(r.p->source_host, "b");
    strcpy(r.p->failover.host, "b");
    r.p->failover.generation = r.s.generation;
    *state = &r;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *r = *state;
    settings_release(&r->s);
    protection_release(&r->p);
    return 0;
}

/* As a cancel writes it: the old source goes on in a generation of its own. */
static void cancel(struct rig *r)
{
    r->p->state = PROTECTION_NONE;
    strcpy(r->p->source_host, "a");
    r->p->failover.host[0] = '\0';
    r->p->failover.generation = (struct generation){.number = 6, .id = 60};
}

static void a_vm_that_runs_here_is_not_left(void **state)
{
    struct rig *r = *state;
    assert_false(takeover_left(&r->s, r->p, "b"));
    r->p->state = PROTECTION_COMMITTED;
    assert_false(takeover_left(&r->s, r->p, "b"));
}

static void a_change_of_point_under_way_leaves_nothing(void **state)
{
    struct rig *r = *state;
    r->p->failover.generation = (struct generation){.number = 6, .id = 60};
    assert_false(takeover_left(&r->s, r->p, "b"));
    strcpy(r->p->source_host, "a"); /* the first choice was never started */
    assert_false(takeover_left(&r->s, r->p, "b"));
}

static void a_cancel_without_this_host_leaves_what_it_has(void **state)
{
    struct rig *r = *state;
    cancel(r);
    assert_true(takeover_left(&r->s, r->p, "b"));
}

static void so_does_a_failover_to_another_host_behind_it(void **state)
{
    struct rig *r = *state;
    cancel(r);
    r->p->state = PROTECTION_FAILED_OVER;
    strcpy(r->p->source_host, "c");
    strcpy(r->p->failover.host, "c");
    r->p->failover.generation.number = 7;
    assert_true(takeover_left(&r->s, r->p, "b"));
}

static void a_source_that_ships_and_a_target_have_nothing_of_that_kind(void **state)
{
    struct rig *r = *state;
    cancel(r);
    r->s.replicate = true;
    assert_false(takeover_left(&r->s, r->p, "b"));
    r->s.replicate = false;
    r->s.role = ROLE_TARGET;
    assert_false(takeover_left(&r->s, r->p, "b"));
}

static void a_document_that_is_older_than_the_settings_says_nothing(void **state)
{
    struct rig *r = *state;
    cancel(r);
    r->p->failover.generation.number = 4;
    assert_false(takeover_left(&r->s, r->p, "b"));
}

static void a_host_that_was_left_is_fenced(void **state)
{
    struct rig *r = *state;
    struct tmp_dir dir;
    struct paths paths = {.config = ""};
    struct err err = ERR_NONE;
    tmp_dir_make(&dir);
    snprintf(paths.state, sizeof paths.state, "%.500s", dir.path);
    check_ok(moved_learn(world_real(), &paths, &r->s, r->p, "b", &err), err);
    check_ok(moved_check(world_real(), &paths, "web", &err), err);
    cancel(r);
    check_ok(moved_learn(world_real(), &paths, &r->s, r->p, "b", &err), err);
    check_fails(moved_check(world_real(), &paths, "web", &err), err, ERR_FENCED);
    tmp_dir_remove(&dir);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_vm_that_runs_here_is_not_left),
        T(a_change_of_point_under_way_leaves_nothing),
        T(a_cancel_without_this_host_leaves_what_it_has),
        T(so_does_a_failover_to_another_host_behind_it),
        T(a_source_that_ships_and_a_target_have_nothing_of_that_kind),
        T(a_document_that_is_older_than_the_settings_says_nothing),
        T(a_host_that_was_left_is_fenced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
