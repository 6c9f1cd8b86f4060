/* SPDX-License-Identifier: MIT
 * That each property is asked for, named, and reported with the others; store_test.c has the texts
 * of the refusals. */
#include "backend/store/check.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"

#include <stdio.h>

struct rig {
    struct world *world;
    struct memory_bucket *bucket;
    struct store *store;
    /* The nth call of `op` (from 1; 0: all of them) goes wrong. */
    enum memory_op op;
    enum memory_fault fault;
    unsigned nth;
    unsigned counts[5];
    void (*at_call)(struct rig *r, const struct memory_call *call);
};

static enum memory_fault by_plan(void *context, const struct memory_call *call)
{
    struct rig *r = context;
    unsigned number = ++r->counts[call->op];
    if (r->at_call != NULL)
        r->at_call(r, call);
    return call->op == r->op && (r->nth == 0 || r->nth == number) ? r->fault : MEMORY_PASS;
}

static void rig_make(struct rig *r)
{
    *r = (struct rig){.world = fake_world_make(1), .bucket = memory_bucket_make()};
    r->store = memory_store_open(r->bucket);
    memory_store_hook(r->store, by_plan, NULL, r);
}

static void rig_release(struct rig *r)
{
    store_close(&r->store);
    memory_bucket_release(&r->bucket);
    fake_world_release(&r->world);
}
#define AUTO_RIG CLEANUP(rig_release)

static bool check(struct rig *r, enum store_role role, struct store_report *report, struct err *err)
{
    *err = ERR_NONE;
    memset(r->counts, 0, sizeof r->counts);
    return store_check(r->store, r->world, "vm/", role, report, err);
}

static void roles_and_properties_have_names(void **state)
{
    (void)state;
    for (enum store_role role = 0; role < STORE_ROLES; role++) {
        enum store_role back = STORE_ROLES;
        assert_true(store_role_parse(store_role_name(role), &back));
        assert_int_equal(back, role);
    }
    enum store_role unset = STORE_ROLES;
    assert_false(store_role_parse("writer", &unset));
    assert_false(store_role_parse("", &unset));
    for (enum store_property p = 1; p < STORE_PROPERTIES; p++)
        assert_string_not_equal(store_property_name(p), store_property_name(p - 1));
}

/* --- a store that has all --- */

static void check_all_good(const struct store_report *report, bool removes)
{
    for (enum store_property p = 0; p < STORE_PROPERTIES; p++) {
        bool asked = p != STORE_REMOVES || removes;
        assert_int_equal(report->properties[p].verdict, asked ? STORE_GOOD : STORE_NOT_ASKED);
        assert_string_equal(report->properties[p].text, "");
    }
}

static void a_good_store_passes_for_each_role(void **state)
{
    (void)state;
    for (enum store_role role = 0; role < STORE_ROLES; role++) {
        struct rig r AUTO_RIG;
        struct store_report report;
        struct err err;
        rig_make(&r);
        check_ok(check(&r, role, &report, &err), err);
        check_all_good(&report, role != STORE_ROLE_SOURCE);
        check_ok(check(&r, role, NULL, &err), err);
    }
}

static void a_source_leaves_one_object_however_often_it_asks(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    for (unsigned i = 0; i < 3; i++) {
        check_ok(check(&r, STORE_ROLE_SOURCE, &report, &err), err);
        check_all_good(&report, false);
        assert_int_equal(memory_bucket_objects(r.bucket), 1);
        assert_true(memory_bucket_has(r.bucket, "vm/check"));
    }
    assert_int_equal(r.counts[MEMORY_REMOVE], 0);
}

static void who_may_remove_leaves_nothing(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    check_ok(check(&r, STORE_ROLE_PROCESSOR, NULL, &err), err);
    check_ok(check(&r, STORE_ROLE_VIEWER, NULL, &err), err);
    assert_int_equal(memory_bucket_objects(r.bucket), 0);
}

static void note_stranger(struct rig *r, const struct memory_call *call)
{
    (void)r;
    if (strncmp(call->key, "vm/pins/", 8) != 0)
        fail_msg("%s", call->key);
}

static void a_viewer_touches_only_pins(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct err err;
    rig_make(&r);
    r.at_call = note_stranger;
    check_ok(check(&r, STORE_ROLE_VIEWER, NULL, &err), err);
    assert_true(r.counts[MEMORY_LIST] > 0 && r.counts[MEMORY_REMOVE] > 0);
}

/* --- a store that lacks something --- */

static const struct {
    enum memory_op op;
    enum memory_fault fault;
    unsigned nth;
    enum store_property property;
    enum store_verdict verdict;
    enum err_kind kind;
} faults[] = {
    {MEMORY_PUT, MEMORY_DENY, 1, STORE_CREATES, STORE_UNKNOWN, ERR_DENIED},
    {MEMORY_PUT, MEMORY_FAIL, 1, STORE_CREATES, STORE_UNKNOWN, ERR_TRANSIENT},
    {MEMORY_PUT, MEMORY_FILL, 1, STORE_CREATES, STORE_UNKNOWN, ERR_FULL},
    {MEMORY_PUT, MEMORY_DROP, 1, STORE_READS, STORE_LACKS, ERR_INVALID},
    {MEMORY_PUT, MEMORY_CUT, 1, STORE_READS, STORE_LACKS, ERR_INVALID},
    {MEMORY_GET, MEMORY_DAMAGE, 1, STORE_READS, STORE_LACKS, ERR_INVALID},
    {MEMORY_GET, MEMORY_DENY, 0, STORE_READS, STORE_UNKNOWN, ERR_DENIED},
    {MEMORY_SIZE, MEMORY_FAIL, 1, STORE_READS, STORE_UNKNOWN, ERR_TRANSIENT},
    {MEMORY_GET, MEMORY_DAMAGE, 2, STORE_RANGES, STORE_LACKS, ERR_INVALID},
    {MEMORY_GET, MEMORY_FAIL, 2, STORE_RANGES, STORE_UNKNOWN, ERR_TRANSIENT},
    {MEMORY_GET, MEMORY_FAIL, 3, STORE_RANGES, STORE_UNKNOWN, ERR_TRANSIENT},
    {MEMORY_PUT, MEMORY_REPLACE, 2, STORE_NEVER_REPLACES, STORE_LACKS, ERR_INVALID},
    {MEMORY_PUT, MEMORY_REPLACE, 0, STORE_NEVER_REPLACES, STORE_LACKS, ERR_INVALID},
    {MEMORY_PUT, MEMORY_DROP, 2, STORE_NEVER_REPLACES, STORE_LACKS, ERR_INVALID},
    {MEMORY_PUT, MEMORY_DENY, 2, STORE_NEVER_REPLACES, STORE_UNKNOWN, ERR_DENIED},
    {MEMORY_LIST, MEMORY_DENY, 0, STORE_LISTS, STORE_UNKNOWN, ERR_DENIED},
    {MEMORY_LIST, MEMORY_FAIL, 0, STORE_LISTS, STORE_UNKNOWN, ERR_TRANSIENT},
    {MEMORY_REMOVE, MEMORY_DENY, 0, STORE_REMOVES, STORE_UNKNOWN, ERR_DENIED},
    {MEMORY_REMOVE, MEMORY_DROP, 0, STORE_REMOVES, STORE_LACKS, ERR_INVALID},
    {MEMORY_REMOVE, MEMORY_FAIL, 2, STORE_REMOVES, STORE_UNKNOWN, ERR_TRANSIENT},
};

static void check_fault(size_t i, enum store_role role)
{
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    char words[64];
    bool asked = faults[i].property != STORE_REMOVES || role != STORE_ROLE_SOURCE;
    rig_make(&r);
    r.op = faults[i].op;
    r.fault = faults[i].fault;
    r.nth = faults[i].nth;
    if (!asked) {
        check_ok(check(&r, role, &report, &err), err);
        return;
    }
    check_fails(check(&r, role, &report, &err), err, faults[i].kind);
    assert_int_equal(report.properties[faults[i].property].verdict, faults[i].verdict);
    /* The first that failed is what is told. */
    check_says(err, report.properties[faults[i].property].text);
    snprintf(words, sizeof words, "checking store as %s, \"%s\" fails", store_role_name(role),
             store_property_name(faults[i].property));
    check_says(err, words);
    for (enum store_property p = 0; p < faults[i].property; p++)
        assert_int_equal(report.properties[p].verdict, STORE_GOOD);
}

static void what_is_lacking_is_found_and_named_for_each_role(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        for (enum store_role role = 0; role < STORE_ROLES; role++)
            check_fault(i, role);
}

static void replace_before_the_second_put(struct rig *r, const struct memory_call *call)
{
    if (call->op == MEMORY_PUT && r->counts[MEMORY_PUT] == 2)
        memory_bucket_set(r->bucket, call->key, span_of_text("another object of 55 bytes"));
}

static void a_store_that_says_taken_and_replaces_all_the_same_is_found(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    r.at_call = replace_before_the_second_put;
    check_fails(check(&r, STORE_ROLE_PROCESSOR, &report, &err), err, ERR_INVALID);
    assert_int_equal(report.properties[STORE_NEVER_REPLACES].verdict, STORE_LACKS);
    assert_int_equal(report.properties[STORE_LISTS].verdict, STORE_GOOD);
}

static void the_object_of_an_earlier_check_must_be_ours(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    memory_bucket_set(r.bucket, "vm/check", span_of_text("somebody else's"));
    check_fails(check(&r, STORE_ROLE_SOURCE, &report, &err), err, ERR_INVALID);
    assert_int_equal(report.properties[STORE_CREATES].verdict, STORE_GOOD);
    assert_int_equal(report.properties[STORE_READS].verdict, STORE_LACKS);
}

/* --- a store that reads past the end --- */

struct padding {
    struct store head;
    struct store *inner;
    struct store_ops ops;
};

static bool padded_get(struct store *s, const char *key, uint64_t offset, struct mspan out,
                       struct err *err)
{
    struct store *inner = ((struct padding *)s)->inner;
    uint64_t bytes;
    if (!store_size(inner, key, &bytes, err))
        return false;
    size_t part = bytes - offset < out.length ? (size_t)(bytes - offset) : out.length;
    memset(out.data, 0, out.length);
    return store_get(inner, key, offset, mspan_of(out.data, part), err);
}

static bool pass_put(struct store *s, const char *key, struct span body,
                     const struct sha256 *digest, struct err *err)
{
    return store_put_digested(((struct padding *)s)->inner, key, body, digest, err);
}

static bool pass_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    return store_size(((struct padding *)s)->inner, key, bytes, err);
}

static bool pass_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                      void *context, struct err *err)
{
    return store_list(((struct padding *)s)->inner, prefix, after, each, context, err);
}

static void a_store_that_reads_past_the_end_lacks_ranges(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    struct padding p = {
        .inner = r.store,
        .ops = {.put = pass_put, .get = padded_get, .size = pass_size, .list = pass_list}};
    p.head = (struct store){.ops = &p.ops, .url = "padding://"};
    check_fails(store_check(&p.head, r.world, "vm/", STORE_ROLE_SOURCE, &report, &err), err,
                ERR_INVALID);
    check_says(err, "past the end");
    assert_int_equal(report.properties[STORE_RANGES].verdict, STORE_LACKS);
}

/* --- the report --- */

static void the_report_is_filled_after_a_failure(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    r.op = MEMORY_GET;
    r.fault = MEMORY_DENY;
    check_fails(check(&r, STORE_ROLE_PROCESSOR, &report, &err), err, ERR_DENIED);
    assert_int_equal(report.properties[STORE_CREATES].verdict, STORE_GOOD);
    assert_int_equal(report.properties[STORE_READS].verdict, STORE_UNKNOWN);
    assert_int_equal(report.properties[STORE_RANGES].verdict, STORE_UNKNOWN);
    assert_int_equal(report.properties[STORE_LISTS].verdict, STORE_GOOD);
    assert_int_equal(report.properties[STORE_REMOVES].verdict, STORE_GOOD);
    assert_int_equal(memory_bucket_objects(r.bucket), 0);
}

static void without_an_object_only_lists_are_asked_for(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    r.op = MEMORY_PUT;
    r.fault = MEMORY_DENY;
    check_fails(check(&r, STORE_ROLE_PROCESSOR, &report, &err), err, ERR_DENIED);
    for (enum store_property p = 0; p < STORE_PROPERTIES; p++)
        assert_int_equal(report.properties[p].verdict, p == STORE_CREATES ? STORE_UNKNOWN
                                                       : p == STORE_LISTS ? STORE_GOOD
                                                                          : STORE_NOT_ASKED);
}

static void a_second_passes(struct rig *r, const struct memory_call *call)
{
    (void)call;
    fake_world_advance(r->world, 1000000000);
}

static void the_report_says_what_each_took(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    r.at_call = a_second_passes;
    check_ok(check(&r, STORE_ROLE_PROCESSOR, &report, &err), err);
    static const uint32_t ms[STORE_PROPERTIES] = {1000, 2000, 2000, 3000, 1000, 3000};
    for (enum store_property p = 0; p < STORE_PROPERTIES; p++)
        assert_int_equal(report.properties[p].ms, ms[p]);
}

static void without_random_numbers_nothing_is_asked(void **state)
{
    (void)state;
    struct rig r AUTO_RIG;
    struct store_report report;
    struct err err;
    rig_make(&r);
    fake_world_fail(r.world, FAKE_RANDOM, 1, 5, true);
    check_fails(check(&r, STORE_ROLE_PROCESSOR, &report, &err), err, ERR_IO);
    assert_int_equal(memory_store_calls(r.store), 0);
    assert_int_equal(report.properties[STORE_CREATES].verdict, STORE_NOT_ASKED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(roles_and_properties_have_names),
        cmocka_unit_test(a_good_store_passes_for_each_role),
        cmocka_unit_test(a_source_leaves_one_object_however_often_it_asks),
        cmocka_unit_test(who_may_remove_leaves_nothing),
        cmocka_unit_test(a_viewer_touches_only_pins),
        cmocka_unit_test(what_is_lacking_is_found_and_named_for_each_role),
        cmocka_unit_test(a_store_that_says_taken_and_replaces_all_the_same_is_found),
        cmocka_unit_test(the_object_of_an_earlier_check_must_be_ours),
        cmocka_unit_test(a_store_that_reads_past_the_end_lacks_ranges),
        cmocka_unit_test(the_report_is_filled_after_a_failure),
        cmocka_unit_test(without_an_object_only_lists_are_asked_for),
        cmocka_unit_test(the_report_says_what_each_took),
        cmocka_unit_test(without_random_numbers_nothing_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
