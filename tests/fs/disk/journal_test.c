/* SPDX-License-Identifier: MIT */
#include "fs/disk/journal.h"

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/engine_rig.h"

#include <errno.h>
#include <stdio.h>

#define PATH RIG_FOLDER "/journal"

static const struct generation g = {.number = 4, .id = 77};

static int set_up(void **state)
{
    *state = rig_make();
    rig_open_source(*state);
    return 0;
}

static int tear_down(void **state)
{
    rig_release((struct rig **)state);
    return 0;
}

static struct journal *open_journal(struct rig *r)
{
    struct err err = ERR_NONE;
    struct journal *j = NULL;
    check_ok(journal_open(r->world, PATH, g, &j, &err), err);
    return j;
}

static struct journal_attempt attempt_of(uint8_t n, const char *changes)
{
    struct journal_attempt a = {
        .attempt = n, .kind = EPOCH_CUT, .point_ms = 1000u + n, .changes = span_of_text(changes)};
    memset(a.digest.bytes, n, sizeof a.digest.bytes);
    return a;
}

static void add(struct journal *j, uint8_t n)
{
    struct err err = ERR_NONE;
    char changes[16];
    snprintf(changes, sizeof changes, "changes %u", n);
    struct journal_attempt a = attempt_of(n, changes);
    check_ok(journal_add(j, 9, &a, &err), err);
}

static void holds(const struct journal *j, size_t i, uint8_t n)
{
    char changes[16];
    snprintf(changes, sizeof changes, "changes %u", n);
    struct journal_attempt wanted = attempt_of(n, changes);
    const struct journal_attempt *has = journal_attempt(j, i);
    assert_int_equal(has->attempt, wanted.attempt);
    assert_int_equal(has->kind, wanted.kind);
    assert_int_equal(has->point_ms, wanted.point_ms);
    assert_memory_equal(&has->digest, &wanted.digest, sizeof wanted.digest);
    assert_true(span_equal(has->changes, wanted.changes));
}

static void a_journal_that_is_not_there_has_nothing_pending(void **state)
{
    struct journal *j = open_journal(*state);
    assert_int_equal(journal_slot(j), 0);
    assert_int_equal(journal_attempts(j), 0);
    journal_close(&j);
}

static void attempts_survive_a_power_cut_right_after_they_were_added(void **state)
{
    struct rig *r = *state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct err err = ERR_NONE;
        struct journal *j = open_journal(r);
        add(j, 1);
        add(j, 2);
        journal_close(&j);
        rig_power_cut(r, seed);
        j = open_journal(r);
        assert_int_equal(journal_slot(j), 9);
        assert_int_equal(journal_attempts(j), 2);
        holds(j, 0, 1);
        holds(j, 1, 2);
        check_ok(journal_clear(j, &err), err);
        journal_close(&j);
    }
}

static void a_cleared_journal_stays_clear_over_a_power_cut(void **state)
{
    struct rig *r = *state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct err err = ERR_NONE;
        struct journal *j = open_journal(r);
        add(j, 1);
        check_ok(journal_clear(j, &err), err);
        assert_int_equal(journal_attempts(j), 0);
        journal_close(&j);
        rig_power_cut(r, seed);
        j = open_journal(r);
        assert_int_equal(journal_slot(j), 0);
        journal_close(&j);
    }
}

static void another_generation_is_refused(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct journal *j = open_journal(r);
    add(j, 1);
    journal_close(&j);
    check_fails(journal_open(r->world, PATH, (struct generation){4, 78}, &j, &err), err,
                ERR_CORRUPT);
    check_fails(journal_open(r->world, PATH, (struct generation){5, 77}, &j, &err), err,
                ERR_CORRUPT);
}

static void damage_anywhere_is_refused(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct journal *j = open_journal(r);
    add(j, 1);
    add(j, 2);
    journal_close(&j);
    check_ok(file_load(r->world, PATH, 4096, &bytes, &err), err);
    for (size_t i = 0; i < bytes.length; i++) {
        bytes.data[i] ^= 0x10;
        check_ok(file_replace(r->world, PATH, 0600, buf_span(&bytes), &err), err);
        check_fails(journal_open(r->world, PATH, g, &j, &err), err, ERR_CORRUPT);
        bytes.data[i] ^= 0x10;
    }
    for (size_t n = 0; n < bytes.length; n++) {
        check_ok(file_replace(r->world, PATH, 0600, span_of(bytes.data, n), &err), err);
        check_fails(journal_open(r->world, PATH, g, &j, &err), err, ERR_CORRUPT);
    }
}

static void an_add_that_fails_leaves_the_earlier_attempts(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct journal *j = open_journal(r);
    add(j, 1);
    struct journal_attempt a = attempt_of(2, "no room");
    fake_world_fail(r->world, FAKE_SYNC, 1, ENOSPC, false);
    check_fails(journal_add(j, 9, &a, &err), err, ERR_FULL);
    assert_int_equal(journal_attempts(j), 1);
    holds(j, 0, 1);
    journal_close(&j);
    j = open_journal(r);
    assert_int_equal(journal_attempts(j), 1);
    holds(j, 0, 1);
    journal_close(&j);
}

static void a_first_add_that_fails_leaves_nothing_pending(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct journal *j = open_journal(r);
    struct journal_attempt a = attempt_of(2, "no room");
    fake_world_fail(r->world, FAKE_OPEN, 1, ENOSPC, false);
    check_fails(journal_add(j, 9, &a, &err), err, ERR_FULL);
    assert_int_equal(journal_slot(j), 0);
    journal_close(&j);
}

static void a_refused_attempt_goes_and_the_ones_before_it_stay(void **state)
{
    struct rig *r = *state;
    struct journal *j = open_journal(r);
    add(j, 1);
    add(j, 2);
    journal_refused(j);
    add(j, 3);
    journal_close(&j);
    j = open_journal(r);
    assert_int_equal(journal_attempts(j), 2);
    holds(j, 0, 1);
    holds(j, 1, 3);
    journal_close(&j);
}

static void a_voided_attempt_is_known_by_its_digest_alone(void **state)
{
    struct rig *r = *state;
    struct journal *j = open_journal(r);
    add(j, 1);
    journal_voided(j);
    add(j, 2);
    journal_close(&j);
    j = open_journal(r);
    assert_int_equal(journal_attempts(j), 2);
    assert_int_equal(journal_attempt(j, 0)->digest.bytes[0], 1);
    assert_int_equal(journal_attempt(j, 0)->changes.length, 0);
    holds(j, 1, 2);
    journal_close(&j);
}

/* Filled in memory: as many durable adds would take a test's patience. */
static void at_the_bound_the_oldest_attempt_goes(void **state)
{
    struct rig *r = *state;
    struct buf b AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    buf_put(&b, "FSJOURNL", 8);
    buf_put_u16(&b, 1);
    buf_put_u32(&b, g.number);
    buf_put_u64(&b, g.id);
    buf_put_u64(&b, 9);
    buf_put_u32(&b, JOURNAL_ATTEMPTS_MAX);
    for (uint32_t i = 0; i < JOURNAL_ATTEMPTS_MAX; i++) {
        struct sha256 none = {{0}};
        buf_put_u64(&b, i);
        buf_put(&b, none.bytes, sizeof none.bytes);
        buf_put_u8(&b, EPOCH_CUT);
        buf_put_u64(&b, 5);
        buf_put_u32(&b, 0);
    }
    struct sha256 sum = sha256_of(buf_span(&b));
    buf_put(&b, sum.bytes, sizeof sum.bytes);
    check_ok(file_replace(r->world, PATH, 0600, buf_span(&b), &err), err);
    struct journal *j = open_journal(r);
    assert_int_equal(journal_attempts(j), JOURNAL_ATTEMPTS_MAX);
    add(j, 7);
    assert_int_equal(journal_attempts(j), JOURNAL_ATTEMPTS_MAX);
    assert_int_equal(journal_attempt(j, 0)->attempt, 1);
    holds(j, JOURNAL_ATTEMPTS_MAX - 1, 7);
    journal_close(&j);
}

/* --- changes --- */

static void digest_is(struct rig *r, size_t disk, uint64_t block, uint8_t wanted)
{
    struct err err = ERR_NONE;
    struct block_digest d;
    check_ok(digest_file_read(source_digests(r->source, disk), block, 1, &d, &err), err);
    for (size_t i = 0; i < sizeof d; i++)
        assert_int_equal(d.bytes[i], wanted);
}

static void make_changes(struct rig *r, struct buf *changes)
{
    struct block_digest digests[2];
    memset(&digests[0], 1, sizeof digests[0]);
    memset(&digests[1], 2, sizeof digests[1]);
    changes_add_digests(changes, source_disk_number(r->source, 0), 5, 2, digests);
    changes_add_digests(changes, source_disk_number(r->source, 1), 9, 1, &digests[1]);
    changes_add_hole(changes, source_disk_number(r->source, 0), 6, 100);
    changes_add_digests(changes, source_disk_number(r->source, 0), 50, 1, &digests[0]);
}

static void applied_changes_are_in_the_digest_files_in_their_order(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct buf changes AUTO_BUF = BUF_NONE;
    make_changes(r, &changes);
    check_ok(changes_use(buf_span(&changes), CHANGES_APPLY, r->source, &err), err);
    rig_power_cut(r, 3); /* and durable */
    rig_open_source(r);
    digest_is(r, 0, 4, 0);
    digest_is(r, 0, 5, 1);
    digest_is(r, 0, 6, 0);
    digest_is(r, 0, 50, 1);
    digest_is(r, 0, 105, 0);
    digest_is(r, 1, 9, 2);
}

static void voided_changes_leave_their_blocks_unknown_and_no_others(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct buf changes AUTO_BUF = BUF_NONE;
    make_changes(r, &changes);
    check_ok(changes_use(buf_span(&changes), CHANGES_VOID, r->source, &err), err);
    rig_power_cut(r, 3);
    rig_open_source(r);
    digest_is(r, 0, 4, 0);
    digest_is(r, 0, 5, 0xff);
    digest_is(r, 0, 105, 0xff);
    digest_is(r, 0, 106, 0);
    digest_is(r, 1, 9, 0xff);
    digest_is(r, 1, 10, 0);
}

static void changes_of_a_disk_that_is_gone_are_passed_over(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct buf changes AUTO_BUF = BUF_NONE;
    struct block_digest one;
    memset(&one, 1, sizeof one);
    changes_add_digests(&changes, 99, 5, 1, &one);
    changes_add_digests(&changes, source_disk_number(r->source, 0), 7, 1, &one);
    check_ok(changes_use(buf_span(&changes), CHANGES_APPLY, r->source, &err), err);
    digest_is(r, 0, 7, 1);
}

static void changes_that_no_disk_can_have_are_refused(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    const uint64_t most = DISK_BYTES_MAX >> BLOCK_SHIFT;
    const uint64_t wrong[][2] = {{most + 1, 0}, {0, most + 1}, {most, 1}, {1, most}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct buf changes AUTO_BUF = BUF_NONE;
        changes_add_hole(&changes, source_disk_number(r->source, 0), wrong[i][0], wrong[i][1]);
        check_fails(changes_use(buf_span(&changes), CHANGES_APPLY, r->source, &err), err,
                    ERR_CORRUPT);
    }
}

static void cut_short_changes_are_refused(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct buf changes AUTO_BUF = BUF_NONE;
    struct block_digest one = {{1}};
    changes_add_digests(&changes, source_disk_number(r->source, 0), 7, 1, &one);
    for (size_t n = 1; n < changes.length; n++)
        check_fails(changes_use(span_of(changes.data, n), CHANGES_APPLY, r->source, &err), err,
                    ERR_CORRUPT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_journal_that_is_not_there_has_nothing_pending),
        T(attempts_survive_a_power_cut_right_after_they_were_added),
        T(a_cleared_journal_stays_clear_over_a_power_cut),
        T(another_generation_is_refused),
        T(damage_anywhere_is_refused),
        T(an_add_that_fails_leaves_the_earlier_attempts),
        T(a_first_add_that_fails_leaves_nothing_pending),
        T(a_refused_attempt_goes_and_the_ones_before_it_stay),
        T(a_voided_attempt_is_known_by_its_digest_alone),
        T(at_the_bound_the_oldest_attempt_goes),
        T(applied_changes_are_in_the_digest_files_in_their_order),
        T(voided_changes_leave_their_blocks_unknown_and_no_others),
        T(changes_of_a_disk_that_is_gone_are_passed_over),
        T(changes_that_no_disk_can_have_are_refused),
        T(cut_short_changes_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
