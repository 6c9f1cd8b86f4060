/* SPDX-License-Identifier: MIT */
#include "tools/failover/placement.h"

#include <string.h>

#include "tests/support/check.h"

static const char *const hosts[] = {"b1", "b2", "b3"};
static const struct placement_member others[] = {
    {.vm = "web", .host = "b1"}, /* the VM itself: does not count */
    {.vm = "web2", .host = "b1"}, {.vm = "web3", .host = "b2"},
    {.vm = "web4", .host = "b2"}, {.vm = "web5", .host = ""},
};

static struct placement_request request(size_t host_count, size_t members)
{
    return (struct placement_request){.vm = "web",
                                      .set = "front",
                                      .hosts = hosts,
                                      .host_count = host_count,
                                      .members = others,
                                      .member_count = members};
}

static void without_a_set_the_first_host_that_can_takes_it(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct placement p;
    struct placement_request r = request(3, 5);
    const bool able[] = {false, true, true};
    r.set = "";
    check_ok(placement_choose(&r, &p, &err), err);
    assert_string_equal(p.host, "b1");
    assert_string_equal(p.warning, "");
    r.able = able;
    check_ok(placement_choose(&r, &p, &err), err);
    assert_string_equal(p.host, "b2");
}

static void a_member_goes_where_no_other_member_is(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct placement p;
    struct placement_request r = request(3, 5);
    r.strict = true;
    check_ok(placement_choose(&r, &p, &err), err);
    assert_string_equal(p.host, "b3");
    assert_string_equal(p.warning, "");
}

static void where_it_was_itself_is_free_for_a_member(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct placement p;
    struct placement_request r = request(3, 1);
    r.strict = true;
    check_ok(placement_choose(&r, &p, &err), err);
    assert_string_equal(p.host, "b1");
}

static void members_that_must_share_share_the_emptiest_host_with_a_warning(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct placement p;
    struct placement_request r = request(2, 5);
    check_ok(placement_choose(&r, &p, &err), err);
    assert_string_equal(p.host, "b1");
    assert_non_null(strstr(p.warning, "web2"));
    assert_null(strstr(p.warning, "web3"));
}

static void strictly_a_set_that_cannot_be_kept_apart_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct placement p;
    struct placement_request r = request(2, 5);
    r.strict = true;
    check_fails(placement_choose(&r, &p, &err), err, ERR_INVALID);
    check_says(err, "web2");
    check_says(err, "target.hosts");
}

static void the_host_that_a_person_names_is_taken_or_refused_but_never_exchanged(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct placement p;
    struct placement_request r = request(3, 5);
    r.asked = "b2";
    check_ok(placement_choose(&r, &p, &err), err);
    assert_string_equal(p.host, "b2");
    assert_non_null(strstr(p.warning, "web3, web4"));
    r.strict = true;
    check_fails(placement_choose(&r, &p, &err), err, ERR_INVALID);
    r.asked = "elsewhere";
    check_ok(placement_choose(&r, &p, &err), err);
    assert_string_equal(p.host, "elsewhere");
}

static void no_host_is_refused_with_the_way_to_name_one(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct placement p;
    struct placement_request r = request(0, 0);
    const bool able[] = {false};
    check_fails(placement_choose(&r, &p, &err), err, ERR_INVALID);
    check_says(err, "target.hosts");
    r = request(1, 0);
    r.able = able;
    check_fails(placement_choose(&r, &p, &err), err, ERR_INVALID);
    check_says(err, "validate");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_set_the_first_host_that_can_takes_it),
        cmocka_unit_test(a_member_goes_where_no_other_member_is),
        cmocka_unit_test(where_it_was_itself_is_free_for_a_member),
        cmocka_unit_test(members_that_must_share_share_the_emptiest_host_with_a_warning),
        cmocka_unit_test(strictly_a_set_that_cannot_be_kept_apart_is_refused),
        cmocka_unit_test(the_host_that_a_person_names_is_taken_or_refused_but_never_exchanged),
        cmocka_unit_test(no_host_is_refused_with_the_way_to_name_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
