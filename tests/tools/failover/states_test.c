/* SPDX-License-Identifier: MIT */
#include "tools/failover/states.h"

#include "common/file.h"
#include "tests/support/check.h"

#include <stdio.h>

/* Written by hand from what each verb is for, not from the table: `y` yes, `n` no, `d`, `p` and
 * `l` only with that fact. States in the order of their enum. */
static const struct {
    enum states_verb verb;
    const char *cells;
} expected[] = {
    {STATES_VALIDATE, "yyyyyy"},
    {STATES_TEST_FAILOVER, "yynnpn"},
    {STATES_CLEANUP, "nydddd"},
    {STATES_FAILOVER, "yynnpn"},
    {STATES_FAILOVER_PLANNED, "ynnnpn"},
    {STATES_CHANGE_POINT, "nnynny"},
    {STATES_COMMIT, "nnynny"},
    {STATES_CANCEL, "llynly"},
    {STATES_REPROTECT, "nnnyyn"},
    {STATES_REVERT, "ynnnnn"},
    {STATES_POINT, "yynnyn"},
    {STATES_PAUSE, "yynnyn"},
    {STATES_RESYNC, "yynnyn"},
    {STATES_SET, "yyyyyy"},
    {STATES_DISABLE, "ynnyyn"},
};

static bool expects(char cell, struct states_facts facts)
{
    return cell == 'y' || (cell == 'd' && facts.drills) || (cell == 'p' && facts.points) ||
           (cell == 'l' && facts.leaving);
}

/* The words behind "allowed are " are exactly the verbs of this state. */
static void check_list(const char *text, enum protection_state s, struct states_facts facts)
{
    char list[512];
    const char *at = strstr(text, "allowed are ");
    assert_non_null(at);
    snprintf(list, sizeof list, ", %s,", at + strlen("allowed are "));
    for (int v = 0; v < STATES_VERBS; v++) {
        char word[64];
        snprintf(word, sizeof word, ", %s,", states_verb_name((enum states_verb)v));
        bool named = strstr(list, word) != NULL;
        assert_int_equal(named, expects(expected[v].cells[s], facts));
    }
}

static void each_verb_in_each_state_is_allowed_or_refused_as_it_should(void **state)
{
    (void)state;
    assert_int_equal(sizeof expected / sizeof *expected, STATES_VERBS);
    for (int v = 0; v < STATES_VERBS; v++)
        for (int s = 0; s < PROTECTION_STATES; s++)
            for (int facts_bits = 0; facts_bits < 8; facts_bits++) {
                struct states_facts facts = {
                    .drills = facts_bits & 1, .points = facts_bits & 2, .leaving = facts_bits & 4};
                enum protection_state at = (enum protection_state)s;
                struct err err = ERR_NONE;
                assert_int_equal(expected[v].verb, v);
                bool wanted = expects(expected[v].cells[s], facts);
                assert_int_equal(states_allows(expected[v].verb, at, facts), wanted);
                if (wanted) {
                    check_ok(states_check(expected[v].verb, "web", at, facts, &err), err);
                    continue;
                }
                check_fails(states_check(expected[v].verb, "web", at, facts, &err), err,
                            ERR_INVALID);
                check_says(err, "web is ");
                check_says(err, protection_state_name(at));
                check_says(err, states_verb_name(expected[v].verb));
                check_list(err.text, at, facts);
            }
}

static void an_emergency_is_not_blocked_by_a_drill(void **state)
{
    (void)state;
    const struct states_facts facts = {.drills = true};
    assert_true(states_allows(STATES_FAILOVER, PROTECTION_TEST_RUNNING, facts));
    assert_false(states_allows(STATES_FAILOVER_PLANNED, PROTECTION_TEST_RUNNING, facts));
    assert_true(states_allows(STATES_CLEANUP, PROTECTION_FAILED_OVER, facts));
}

static void every_state_has_a_way_on(void **state)
{
    (void)state;
    for (int s = 0; s < PROTECTION_STATES; s++) {
        unsigned ways = 0;
        for (int v = 0; v < STATES_VERBS; v++)
            if (v != STATES_VALIDATE && v != STATES_SET)
                ways += states_allows((enum states_verb)v, (enum protection_state)s,
                                      (struct states_facts){.drills = false});
        assert_true(ways > 0);
    }
}

static void the_page_shows_this_table(void **state)
{
    (void)state;
    struct buf page AUTO_BUF = BUF_NONE, table AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(file_load(world_real(), TEST_SOURCE_DIR "/../docs/FAILOVER.md", 1 << 20, &page, &err),
             err);
    check_ok(states_table(&table, &err), err);
    if (memmem(page.data, page.length, table.data, table.length) == NULL)
        fail_msg("docs/FAILOVER.md does not have this table:\n%.*s", (int)table.length,
                 (const char *)table.data);
}

static void names_of_states_are_read_back(void **state)
{
    (void)state;
    enum protection_state back;
    for (int s = 0; s < PROTECTION_STATES; s++) {
        assert_true(protection_state_parse(protection_state_name((enum protection_state)s), &back));
        assert_int_equal(back, s);
    }
    assert_false(protection_state_parse("failed", &back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_verb_in_each_state_is_allowed_or_refused_as_it_should),
        cmocka_unit_test(an_emergency_is_not_blocked_by_a_drill),
        cmocka_unit_test(every_state_has_a_way_on),
        cmocka_unit_test(the_page_shows_this_table),
        cmocka_unit_test(names_of_states_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
