/* SPDX-License-Identifier: MIT */
#include "backend/history/thinner.h"

#include <stdio.h>

#include "backend/history/pin.h"
#include "backend/history/policy.h"
#include "backend/history/stored_run.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_thinner.h"
#include "tests/support/specimen.h"

#define BLOCKS      4096u
#define POINTS      12u
#define KILL_POINTS 7u /* one merge, one object that goes */
#define GRACE_MS    5000u
#define LARGE       1100u
#define HOUR_MS     3600000ull

/* Of POINTS points a second apart the newest 3, and of the others the first in 4 s. */
static struct retention policy(void)
{
    return made_policy("3s:all,1h:4s", 0, GRACE_MS);
}

struct fixture {
    struct made_vm vm;
    struct store *target;
    struct memory_death death;
    enum memory_op only; /* with deny */
    bool deny;
};

static enum memory_fault target_call(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    if (f->deny && call->op == f->only)
        return MEMORY_DENY;
    return memory_store_die(&f->death, call);
}

/* Epochs 1 .. points, each a point: block 0 in all, 1 and 2 in turn, a hole now and then. */
static void begin_with(struct fixture *f, uint32_t points)
{
    *f = (struct fixture){.deny = false};
    made_vm_init(&f->vm, 1, BLOCKS);
    for (uint32_t i = 1; i <= points; i++) {
        epoch_maker_fill(&f->vm.maker, 0, 0, i);
        epoch_maker_fill(&f->vm.maker, 0, 1 + i % 2, 100 + i);
        if (i % 3 == 0)
            epoch_maker_hole(&f->vm.maker, 0, i, 1);
        epoch_maker_cut(&f->vm.maker);
        made_vm_apply(&f->vm); /* an object each */
    }
    f->target = memory_store_open(f->vm.target_bucket);
}

static void begin(struct fixture *f)
{
    begin_with(f, POINTS);
}

static void end(struct fixture *f)
{
    store_close(&f->target);
    made_vm_release(&f->vm);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    begin(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    end(f);
    free(f);
    return 0;
}

/* The epochs that are listed, as "1 3 4 ". */
static void listed(struct fixture *f, char out[256])
{
    struct history *h = made_vm_history(&f->vm);
    size_t length = 0;
    out[0] = '\0';
    for (size_t i = 0; i < history_points(h); i++)
        length += (size_t)snprintf(out + length, 256 - length, "%llu ",
                                   (unsigned long long)history_point(h, i).epoch);
    history_close(&h);
}

static void assert_listed(struct fixture *f, const char *epochs)
{
    char found[256];
    listed(f, found);
    assert_string_equal(found, epochs);
}

static struct sha256 digest_of_run(struct fixture *f, struct history *h,
                                   const struct run_place *place)
{
    struct stored_run stored AUTO_STORED_RUN = {.run = NULL};
    struct err err = ERR_NONE;
    struct buf said AUTO_BUF = BUF_NONE;
    struct run_entry e;
    bool found = true;
    check_ok(stored_run_open(h, place, f->vm.target, f->vm.maker.keys, &stored, &err), err);
    struct run_cursor cursor = {.run = stored.run};
    while (found) {
        check_ok(run_next(&cursor, &e, &found, &err), err);
        if (!found)
            break;
        buf_put_u64(&said, e.first);
        buf_put_u64(&said, e.count);
        buf_put_u8(&said, (uint8_t)e.kind);
        if (e.kind == RUN_DATA)
            buf_put(&said, e.sealed_digest.bytes, BLOCK_DIGEST_BYTES);
    }
    return sha256_of(buf_span(&said));
}

/* What the vault says, whatever its objects are called: points, and what the runs of each say. */
static struct sha256 meaning(struct fixture *f)
{
    struct history *h = made_vm_history(&f->vm);
    struct buf said AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    for (size_t i = 0; i < history_points(h); i++) {
        struct history_point p = history_point(h, i);
        struct run_place *runs AUTO_FREE = NULL;
        size_t count;
        check_ok(history_runs(h, p.index, &runs, &count, &err), err);
        buf_put_u64(&said, p.epoch);
        buf_put_u64(&said, p.data_bytes);
        for (size_t k = 0; k < count; k++) {
            struct sha256 digest = digest_of_run(f, h, &runs[k]);
            buf_put_u64(&said, runs[k].run.epoch_first);
            buf_put_u64(&said, runs[k].run.epoch_last);
            buf_put(&said, digest.bytes, SHA256_BYTES);
        }
    }
    buf_put_u64(&said, memory_bucket_objects(f->vm.target_bucket) -
                           history_head(h).next_record); /* segments, and the vault */
    history_close(&h);
    return sha256_of(buf_span(&said));
}

static void pin(struct fixture *f, enum pin_kind kind, uint64_t epoch, uint64_t end_ms)
{
    struct err err = ERR_NONE;
    struct pin p = {.kind = kind,
                    .generation = f->vm.maker.generation,
                    .epoch = epoch,
                    .point_ms = 1,
                    .end_ms = end_ms};
    memcpy(p.vm, f->vm.maker.vault.vm, VM_ID_BYTES);
    snprintf(p.name, sizeof p.name, "pin-%llu", (unsigned long long)epoch);
    check_ok(pin_put(f->vm.world, f->vm.target, MADE_VM, f->vm.maker.keys, &p, &err), err);
}

static void unpin(struct fixture *f, uint64_t epoch)
{
    struct err err = ERR_NONE;
    char name[32];
    snprintf(name, sizeof name, "pin-%llu", (unsigned long long)epoch);
    check_ok(pin_remove(f->vm.target, MADE_VM, name, &err), err);
}

static void thin(struct fixture *f)
{
    struct retention r = policy();
    made_vm_thin(&f->vm, &r);
}

/* --- the tests --- */

static void points_go_as_the_policy_says_and_their_objects_with_them(void **state)
{
    struct fixture *f = *state;
    struct buf before AUTO_BUF = BUF_NONE;
    struct buf after AUTO_BUF = BUF_NONE;
    made_names(f->vm.target, MADE_VM "/segments/", &before);
    thin(f);
    assert_listed(f, "1 5 9 10 11 12 ");
    made_names(f->vm.target, MADE_VM "/segments/", &after);
    assert_true(after.length < before.length);
    struct sha256 once = meaning(f);
    thin(f);
    struct sha256 twice = meaning(f);
    assert_memory_equal(&once, &twice, sizeof once);
}

static void runs_between_points_that_stay_become_one(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct run_place *runs AUTO_FREE = NULL;
    size_t count;
    thin(f);
    struct history *h = made_vm_history(&f->vm);
    check_ok(history_runs(h, history_tip(h), &runs, &count, &err), err);
    assert_int_equal(count, 6);
    assert_int_equal(runs[4].run.epoch_first, 2);
    assert_int_equal(runs[4].run.epoch_last, 5);
    history_close(&h);
}

static void pinned_points_stay_until_they_are_pinned_no_more(void **state)
{
    struct fixture *f = *state;
    pin(f, PIN_HOLD, 3, 0);
    pin(f, PIN_LEASE, 7, MADE_CLOCK_MS + HOUR_MS);
    thin(f);
    assert_listed(f, "1 3 5 7 9 10 11 12 ");
    unpin(f, 3);
    thin(f);
    assert_listed(f, "1 5 7 9 10 11 12 ");
    /* The lease ends, by both clocks and with the slack for its reader's. */
    fake_world_advance(f->vm.world, 3 * HOUR_MS * 1000000);
    thin(f);
    assert_listed(f, "1 5 7 9 10 11 12 "); /* the source stands still */
    f->vm.maker.clock_ms += 3 * HOUR_MS;
    epoch_maker_cut(&f->vm.maker);
    made_vm_apply(&f->vm);
    thin(f);
    assert_listed(f, "13 "); /* the tiers end after an hour */
}

/* Its end was reckoned by a clock that is behind: one hour of that is allowed for. */
static void a_lease_that_ended_less_than_the_slack_ago_holds(void **state)
{
    struct fixture *f = *state;
    pin(f, PIN_LEASE, 7, MADE_CLOCK_MS - THINNER_LEASE_SLACK_MS * 5 / 6);
    thin(f);
    assert_listed(f, "1 5 7 9 10 11 12 ");
}

/* Steps until the thinner waits for the grace period. */
static void step_until_waiting(struct made_thinner *t)
{
    struct err err = ERR_NONE;
    for (int i = 0; i < 1000; i++) {
        enum thinner_result result = thinner_step(t->thinner, &err);
        if (result == THINNER_FAILED)
            fail_msg("%s", err.text);
        if (result == THINNER_WAITS)
            return;
    }
    fail_msg("it does not wait");
}

static void a_point_that_leaves_is_not_listed_and_nobody_begins_to_hold_it(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    struct err err = ERR_NONE;
    struct history_point p;
    struct history *h = made_vm_history(&f->vm);
    struct history_point old = history_point(h, 2);
    made_thinner_open(&f->vm, &r, &t);
    step_until_waiting(&t);
    assert_listed(f, "1 5 9 10 11 12 ");
    check_fails(pin_hold(f->vm.world, f->vm.target, h, f->vm.maker.keys, "late", &old, &err), err,
                ERR_NOT_FOUND);
    check_says(err, "leaving");
    check_ok(history_point_at(h, old.generation, old.epoch, &p, &err), err);
    assert_true(p.leaving);
    assert_false(history_find(h, old.ms, true, &p));
    assert_false(history_find_in(h, old.generation, old.ms, &p));
    history_close(&h);
    made_thinner_close(&t);
}

/* Its pin was put before the record was, but no list showed it. */
static void a_point_pinned_just_before_stays_and_is_listed_again(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    made_thinner_open(&f->vm, &r, &t);
    pin(f, PIN_HOLD, 3, 0);
    memory_bucket_lag_lists(f->vm.target_bucket, 1);
    step_until_waiting(&t);
    assert_listed(f, "1 5 9 10 11 12 ");
    memory_bucket_lag_lists(f->vm.target_bucket, 0);
    made_thinner_settle(&t);
    assert_listed(f, "1 3 5 9 10 11 12 ");
    made_thinner_close(&t);
}

static void nothing_is_merged_or_removed_before_the_grace_period_is_over(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    struct err err = ERR_NONE;
    made_thinner_open(&f->vm, &r, &t);
    thinner_hurry(t.thinner);
    step_until_waiting(&t);
    fake_world_advance(f->vm.world, (GRACE_MS - 1) * 1000000ull);
    fake_world_jump(f->vm.world, 3650ll * 24 * (int64_t)HOUR_MS * 1000000); /* one clock is wrong */
    thinner_hurry(t.thinner);
    step_until_waiting(&t);
    assert_int_equal(thinner_report(t.thinner).points, 0);
    fake_world_advance(f->vm.world, 2000000);
    while (thinner_step(t.thinner, &err) == THINNER_WORKED)
        ;
    assert_int_equal(thinner_report(t.thinner).points, 6);
    thinner_hurry(t.thinner);
    step_until_waiting(&t);
    fake_world_advance(f->vm.world, (GRACE_MS - 1) * 1000000ull);
    thinner_hurry(t.thinner);
    step_until_waiting(&t);
    assert_true(thinner_report(t.thinner).dropped > 0);
    assert_int_equal(thinner_report(t.thinner).removed, 0);
    made_thinner_settle(&t);
    assert_true(thinner_report(t.thinner).removed > 0);
    made_thinner_close(&t);
}

static void nothing_expires_early_when_a_clock_jumps(void **state)
{
    struct fixture *f = *state;
    struct retention r = made_policy("1h:all", 0, GRACE_MS);
    struct made_thinner t;
    made_thinner_open(&f->vm, &r, &t); /* the clocks agree */
    made_thinner_close(&t);
    fake_world_jump(f->vm.world, 3650ll * 24 * (int64_t)HOUR_MS * 1000000);
    made_vm_thin(&f->vm, &r);
    assert_listed(f, "1 2 3 4 5 6 7 8 9 10 11 12 ");
    fake_world_jump(f->vm.world, -3650ll * 24 * (int64_t)HOUR_MS * 1000000);
    f->vm.maker.clock_ms += 3650ull * 24 * HOUR_MS; /* now the source's */
    epoch_maker_cut(&f->vm.maker);
    made_vm_apply(&f->vm);
    struct err err = ERR_NONE;
    struct history *h = made_vm_history(&f->vm);
    struct processor_config config = {.world = f->vm.world,
                                      .vm = MADE_VM,
                                      .keys = f->vm.maker.keys,
                                      .targets = &f->vm.target,
                                      .store_count = 1};
    struct thinner *thinner = NULL;
    check_ok(thinner_open(&config, h, &r, &thinner, &err), err);
    assert_int_equal(thinner_step(thinner, &err), THINNER_IDLE);
    thinner_close(&thinner);
    history_close(&h);
}

static void killed_at_any_store_call_it_ends_in_the_same_state(void **state)
{
    (void)state;
    struct fixture undisturbed;
    struct retention r = policy();
    begin_with(&undisturbed, KILL_POINTS);
    thin(&undisturbed);
    struct sha256 wanted = meaning(&undisturbed);
    end(&undisturbed);

    bool reached = true; /* that call */
    for (uint64_t at = 1; reached; at++) {
        for (unsigned lose = 0; lose < 2; lose++) {
            struct fixture f;
            struct made_thinner t;
            struct err err = ERR_NONE;
            begin_with(&f, KILL_POINTS);
            made_thinner_open(&f.vm, &r, &t);
            f.death = (struct memory_death){.at = at, .lose = lose};
            memory_store_hook(t.targets[0], target_call, NULL, &f);
            thinner_hurry(t.thinner);
            for (unsigned i = 0; !f.death.dead && i < 60; i++) {
                enum thinner_result result = thinner_step(t.thinner, &err);
                if (result == THINNER_WAITS)
                    fake_world_advance(f.vm.world, GRACE_MS * 1000000ull);
                if (result == THINNER_IDLE || result == THINNER_WAITS)
                    thinner_hurry(t.thinner);
            }
            reached = f.death.dead;
            memory_store_hook(t.targets[0], NULL, NULL, NULL);
            made_thinner_close(&t);
            thin(&f);
            struct sha256 found = meaning(&f);
            if (memcmp(&found, &wanted, sizeof wanted) != 0)
                fail_msg("killed at call %llu", (unsigned long long)at);
            end(&f);
        }
        assert_true(at < 2000);
    }
}

static void of_two_at_once_the_loser_reads_again(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t[2];
    struct err err = ERR_NONE;
    struct fixture undisturbed;
    begin(&undisturbed);
    thin(&undisturbed);
    struct sha256 wanted = meaning(&undisturbed);
    end(&undisturbed);
    for (unsigned i = 0; i < 2; i++)
        made_thinner_open(&f->vm, &r, &t[i]);
    for (unsigned i = 0; i < 400; i++) {
        enum thinner_result result = thinner_step(t[i % 2].thinner, &err);
        if (result == THINNER_FAILED)
            fail_msg("%s", err.text);
        if (i % 2 == 0)
            fake_world_advance(f->vm.world, 500000000ull);
        if (i % 7 == 0)
            thinner_hurry(t[i % 2].thinner);
    }
    for (unsigned i = 0; i < 2; i++)
        made_thinner_close(&t[i]);
    thin(f);
    struct sha256 found = meaning(f);
    assert_memory_equal(&found, &wanted, sizeof wanted);
}

static void what_the_store_keeps_is_reported_and_goes_later(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    made_thinner_open(&f->vm, &r, &t);
    memory_store_hook(t.targets[0], target_call, NULL, f);
    f->deny = true;
    f->only = MEMORY_REMOVE;
    thinner_hurry(t.thinner);
    made_thinner_settle(&t);
    struct thinner_report report = thinner_report(t.thinner);
    assert_int_equal(report.points, 6);
    assert_true(report.locked > 0);
    assert_int_equal(report.locked, report.dropped);
    assert_int_equal(report.removed, 0);
    f->deny = false;
    fake_world_advance(f->vm.world, 2 * HOUR_MS * 1000000);
    made_thinner_settle(&t);
    report = thinner_report(t.thinner);
    assert_int_equal(report.locked, 0);
    assert_int_equal(report.removed, report.dropped);
    made_thinner_close(&t);
}

static enum memory_fault lose_segment(void *context, const struct memory_call *call)
{
    (void)context;
    bool segment = call->op == MEMORY_PUT && strstr(call->key, "/segments/") != NULL;
    return segment ? MEMORY_DROP : MEMORY_PASS;
}

/* The store said that it has it. */
static void a_merged_run_that_is_not_there_is_not_recorded(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    struct err err = ERR_NONE;
    made_thinner_open(&f->vm, &r, &t);
    step_until_waiting(&t);
    fake_world_advance(f->vm.world, GRACE_MS * 1000000ull);
    memory_store_hook(t.targets[0], lose_segment, NULL, NULL);
    assert_int_equal(thinner_step(t.thinner, &err), THINNER_FAILED);
    assert_int_equal(thinner_report(t.thinner).points, 0);
    memory_store_hook(t.targets[0], NULL, NULL, NULL);
    made_thinner_settle(&t);
    made_thinner_close(&t);
    struct sha256 found = meaning(f); /* all of it reads */
    (void)found;
    assert_listed(f, "1 5 9 10 11 12 ");
}

static enum memory_fault no_room_for_segments(void *context, const struct memory_call *call)
{
    (void)context;
    bool segment = call->op == MEMORY_PUT && strstr(call->key, "/segments/") != NULL;
    return segment ? MEMORY_FILL : MEMORY_PASS;
}

/* A merge needs room before it gives any; what none needs goes all the same. */
static void a_store_that_is_full_gets_room_by_removing(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    unsigned refused = 0;
    char orphan[KEY_MAX];
    snprintf(orphan, sizeof orphan, "%s/segments/7%063d", MADE_VM, 0);
    memory_bucket_set(f->vm.target_bucket, orphan, span_of(orphan, sizeof orphan));
    made_thinner_open(&f->vm, &r, &t);
    memory_store_hook(t.targets[0], no_room_for_segments, NULL, NULL);
    for (unsigned i = 0; i < 60; i++) {
        struct err err = ERR_NONE;
        if (thinner_step(t.thinner, &err) == THINNER_FAILED) {
            if (err.kind != ERR_FULL)
                fail_msg("%s", err.text);
            refused++;
        }
        fake_world_advance(f->vm.world, 1000000000ull);
    }
    assert_true(refused > 0 && refused < 3); /* not in every step */
    assert_false(memory_bucket_has(f->vm.target_bucket, orphan));
    assert_int_equal(thinner_report(t.thinner).points, 0);
    memory_store_hook(t.targets[0], NULL, NULL, NULL);
    made_thinner_settle(&t);
    made_thinner_close(&t);
    assert_listed(f, "1 5 9 10 11 12 ");
}

/* A first copy leaves one of each so many bytes, in front of the first point. */
static void passes_are_merged_however_many_there_are(void **state)
{
    struct fixture f;
    (void)state;
    begin_with(&f, 0);
    for (uint32_t i = 0; i < MERGE_RUNS + 50; i++) {
        epoch_maker_fill(&f.vm.maker, 0, i, 1000 + i);
        epoch_maker_ship(&f.vm.maker, EPOCH_PASS, 0, NULL);
    }
    for (uint32_t i = 0; i < 3; i++) {
        f.vm.maker.clock_ms += 2 * HOUR_MS;
        epoch_maker_fill(&f.vm.maker, 0, i, i + 1);
        epoch_maker_cut(&f.vm.maker);
    }
    made_vm_apply(&f.vm);
    thin(&f);
    struct history *h = made_vm_history(&f.vm);
    assert_int_equal(history_points(h), 1);
    assert_int_equal(history_leaving(h), 0);
    history_close(&h);
    end(&f);
}

static void an_unreadable_pin_stops_thinning_and_removal(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    struct err err = ERR_NONE;
    uint8_t noise[64] = {1};
    memory_bucket_set(f->vm.target_bucket, MADE_VM "/pins/odd", span_of(noise, sizeof noise));
    made_thinner_open(&f->vm, &r, &t);
    assert_int_equal(thinner_step(t.thinner, &err), THINNER_FAILED);
    check_says(err, "odd");
    assert_listed(f, "1 2 3 4 5 6 7 8 9 10 11 12 ");
    memory_bucket_drop(f->vm.target_bucket, MADE_VM "/pins/odd");
    step_until_waiting(&t);
    memory_bucket_set(f->vm.target_bucket, MADE_VM "/pins/odd", span_of(noise, sizeof noise));
    fake_world_advance(f->vm.world, GRACE_MS * 1000000ull);
    assert_int_equal(thinner_step(t.thinner, &err), THINNER_FAILED);
    assert_int_equal(thinner_report(t.thinner).points, 0);
    made_thinner_close(&t);
}

/* Over half a segment: a part of it is one of its own. The same each time. */
static void write_large(struct fixture *f)
{
    uint8_t *data AUTO_FREE = malloc(LARGE * BLOCK_BYTES);
    assert_non_null(data);
    for (size_t i = 0; i < LARGE; i++)
        specimen_noise(data + i * BLOCK_BYTES, BLOCK_BYTES, i + 1);
    epoch_maker_write(&f->vm.maker, 0, 0, LARGE, data);
}

/* Frames that are not encrypted repeat their bytes, so a large part repeats its name. */
static void a_dropped_name_is_not_used_again(void **state)
{
    (void)state;
    struct fixture f;
    struct retention r = made_policy("1s:all", 0, GRACE_MS);
    struct made_thinner t;
    struct err err = ERR_NONE;
    f = (struct fixture){.deny = false};
    made_vm_init(&f.vm, 1, BLOCKS);
    f.vm.maker.encrypt = false;
    f.target = memory_store_open(f.vm.target_bucket);
    write_large(&f);
    epoch_maker_cut(&f.vm.maker);
    epoch_maker_hole(&f.vm.maker, 0, 0, LARGE);
    f.vm.maker.clock_ms += HOUR_MS;
    epoch_maker_cut(&f.vm.maker);
    made_vm_apply(&f.vm);
    made_thinner_open(&f.vm, &r, &t);
    thinner_hurry(t.thinner);
    while (thinner_report(t.thinner).dropped == 0) {
        enum thinner_result result = thinner_step(t.thinner, &err);
        if (result == THINNER_FAILED)
            fail_msg("%s", err.text);
        if (result == THINNER_WAITS)
            fake_world_advance(f.vm.world, GRACE_MS * 1000000ull);
        if (result == THINNER_IDLE)
            thinner_hurry(t.thinner);
    }
    step_until_waiting(&t);
    /* It has looked at all runs, and is about to remove. */
    fake_world_advance(f.vm.world, GRACE_MS * 1000000ull);
    thinner_hurry(t.thinner);
    assert_int_equal(thinner_step(t.thinner, &err), THINNER_WORKED);
    assert_int_equal(thinner_step(t.thinner, &err), THINNER_WORKED);
    assert_int_equal(thinner_report(t.thinner).removed, 0);
    write_large(&f);
    epoch_maker_cut(&f.vm.maker);
    made_vm_apply(&f.vm);
    struct sha256 before = made_vm_frames_digest(&f.vm);
    made_thinner_settle(&t);
    struct thinner_report report = thinner_report(t.thinner);
    assert_true(report.removed > 0);
    assert_int_equal(report.removed, report.dropped); /* nothing of it is needed again */
    struct sha256 after = made_vm_frames_digest(&f.vm);
    assert_memory_equal(&before, &after, sizeof before);
    made_thinner_close(&t);
    end(&f);
}

/* A processor that applies while the thinner is about to drop what it has just put. */
static void what_is_put_and_not_yet_recorded_is_not_lost(void **state)
{
    struct fixture *f = *state;
    struct retention r = policy();
    struct made_thinner t;
    struct made_processor p;
    struct err err = ERR_NONE;
    made_thinner_open(&f->vm, &r, &t);
    epoch_maker_fill(&f->vm.maker, 0, 0, 77);
    epoch_maker_cut(&f->vm.maker);
    made_processor_open(&f->vm, &p);
    /* Killed before its record: the segment is there, and nothing names it. */
    for (uint64_t at = 1; at < 40; at++) {
        f->death = (struct memory_death){.at = at};
        memory_store_hook(p.targets[0], target_call, NULL, f);
        (void)!processor_step(p.processor, &err);
        thinner_hurry(t.thinner);
        for (unsigned i = 0; i < 12; i++) {
            enum thinner_result result = thinner_step(t.thinner, &err);
            if (result == THINNER_FAILED)
                fail_msg("%s", err.text);
        }
        fake_world_advance(f->vm.world, 1000000000ull);
    }
    memory_store_hook(p.targets[0], NULL, NULL, NULL);
    made_processor_close(&p);
    made_vm_apply(&f->vm);
    struct sha256 before = made_vm_frames_digest(&f->vm);
    made_thinner_settle(&t);
    struct sha256 after = made_vm_frames_digest(&f->vm);
    assert_memory_equal(&before, &after, sizeof before);
    made_thinner_close(&t);
}

static void the_policy_in_the_vault_is_followed(void **state)
{
    struct fixture *f = *state;
    struct doclog log;
    struct err err = ERR_NONE;
    struct retention r = policy(), found;
    struct doclog_vault vault = {.world = f->vm.world,
                                 .target = f->vm.target,
                                 .keys = f->vm.maker.keys,
                                 .vm = MADE_VM,
                                 .id = f->vm.maker.vault.vm};
    policy_log_begin(&log, &vault);
    check_ok(policy_poll(&log, &found, &err), err);
    assert_int_equal(found.tier_count, 4); /* the default */
    made_vm_thin(&f->vm, NULL);
    assert_listed(f, "1 2 3 4 5 6 7 8 9 10 11 12 ");
    check_ok(policy_put(&log, &r, &err), err);
    policy_log_begin(&log, &vault); /* another reader */
    check_ok(policy_poll(&log, &found, &err), err);
    assert_int_equal(found.grace_ms, GRACE_MS);
    made_vm_thin(&f->vm, NULL);
    assert_listed(f, "1 5 9 10 11 12 ");
}

static void a_policy_that_is_not_understood_lets_nothing_go(void **state)
{
    struct fixture *f = *state;
    static const char *const documents[] = {
        "{\"version\":2,\"keep\":\"1s:all\",\"application\":0,\"grace\":\"1s\"}",
        "{\"version\":1,\"keep\":\"nothing\",\"application\":0,\"grace\":\"1s\"}",
        "{\"version\":1,\"keep\":\"1s:all\",\"application\":0}", "[]"};
    struct doclog_vault vault = {.world = f->vm.world,
                                 .target = f->vm.target,
                                 .keys = f->vm.maker.keys,
                                 .vm = MADE_VM,
                                 .id = f->vm.maker.vault.vm};
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        struct doclog log;
        struct made_thinner t;
        struct err err = ERR_NONE;
        struct buf unused AUTO_BUF = BUF_NONE;
        policy_log_begin(&log, &vault);
        if (!doclog_newest(&log, &unused, &err))
            assert_int_equal(err.kind, ERR_NOT_FOUND);
        check_ok(doclog_append(&log, span_of_text(documents[i]), &err), err);
        made_thinner_open(&f->vm, NULL, &t);
        for (unsigned k = 0; k < 3; k++) {
            assert_int_equal(thinner_step(t.thinner, &err), THINNER_FAILED);
            thinner_hurry(t.thinner);
        }
        made_thinner_close(&t);
    }
    assert_listed(f, "1 2 3 4 5 6 7 8 9 10 11 12 ");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(points_go_as_the_policy_says_and_their_objects_with_them),
        TEST(runs_between_points_that_stay_become_one),
        TEST(pinned_points_stay_until_they_are_pinned_no_more),
        TEST(a_lease_that_ended_less_than_the_slack_ago_holds),
        TEST(a_point_that_leaves_is_not_listed_and_nobody_begins_to_hold_it),
        TEST(a_point_pinned_just_before_stays_and_is_listed_again),
        TEST(nothing_is_merged_or_removed_before_the_grace_period_is_over),
        TEST(nothing_expires_early_when_a_clock_jumps),
        cmocka_unit_test(killed_at_any_store_call_it_ends_in_the_same_state),
        TEST(of_two_at_once_the_loser_reads_again),
        TEST(what_the_store_keeps_is_reported_and_goes_later),
        TEST(a_merged_run_that_is_not_there_is_not_recorded),
        cmocka_unit_test(passes_are_merged_however_many_there_are),
        TEST(a_store_that_is_full_gets_room_by_removing),
        TEST(an_unreadable_pin_stops_thinning_and_removal),
        cmocka_unit_test(a_dropped_name_is_not_used_again),
        TEST(what_is_put_and_not_yet_recorded_is_not_lost),
        TEST(the_policy_in_the_vault_is_followed),
        TEST(a_policy_that_is_not_understood_lets_nothing_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
