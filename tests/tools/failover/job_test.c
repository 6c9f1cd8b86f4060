/* SPDX-License-Identifier: MIT */
#include "tools/failover/job_internal.h"

#include "tests/support/check.h"
#include "tests/support/doc_vault.h"
#include "tests/support/fake_world.h"
#include "tests/support/specimen.h"

#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    struct doc_vault in;
    atomic_int failing_puts; /* so many from now on */
};

static enum memory_fault fail_puts(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    if (call->op != MEMORY_PUT || atomic_load(&f->failing_puts) == 0)
        return MEMORY_PASS;
    atomic_fetch_sub(&f->failing_puts, 1);
    return MEMORY_FAIL;
}

static int set_up(void **state)
{
    static struct fixture f;
    doc_vault_open(&f.in);
    atomic_store(&f.failing_puts, 0);
    memory_store_hook(f.in.store, fail_puts, NULL, &f);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    doc_vault_close(&f->in);
    return 0;
}

static const struct job_request for_b = {.verb = "shutdown", .host = "b", .by = "a"};

static void post(struct fixture *f, char id[JOB_ID_MAX])
{
    struct err err = ERR_NONE;
    check_ok(job_post(&f->in.vault, &for_b, id, &err), err);
}

static void claim(struct fixture *f, const char *id, struct job_run **out)
{
    struct err err = ERR_NONE;
    check_ok(job_claim(&f->in.vault, id, "b", false, out, &err), err);
}

static struct job *load(struct fixture *f, const char *id)
{
    struct err err = ERR_NONE;
    struct job *j = NULL;
    check_ok(job_load(&f->in.vault, id, &j, &err), err);
    return j;
}

static void a_job_says_what_was_asked_done_and_come_of_it(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    cJSON *args AUTO_JSON = cJSON_Parse("{\"point\":\"latest\"}");
    cJSON *values AUTO_JSON = cJSON_Parse("{\"epoch\":7}");
    struct job_request r = {.verb = "failover", .host = "b", .by = "a", .args = args};
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    check_ok(job_post(&f->in.vault, &r, id, &err), err);
    struct job *waiting AUTO_JOB = load(f, id);
    assert_string_equal(job_state(waiting, waiting->posted_ms), "waiting");
    claim(f, id, &run);
    assert_string_equal(job_arg(job_run_job(run), "point"), "latest");
    assert_null(job_arg(job_run_job(run), "other"));
    check_ok(job_step(run, "stop", 0, 0, &err, "guest %s", "web"), err);
    check_ok(job_step(run, "copy", 1, 10, &err, NULL), err);
    check_ok(job_step(run, "copy", 10, 10, &err, NULL), err);
    struct job *running AUTO_JOB = load(f, id); /* a step that began is durable */
    assert_true(running->step_count >= 2);
    assert_string_equal(running->steps[0].text, "guest web");
    assert_string_equal(job_state(running, running->alive_ms), "running");
    assert_string_equal(job_state(running, running->alive_ms + JOB_LEASE_S * 1000 + 1), "lost");
    check_ok(job_finish(run, NULL, values, &err), err);
    struct job *done AUTO_JOB = load(f, id);
    assert_true(done->finished);
    assert_int_equal(done->result.kind, ERR_OK);
    assert_int_equal(done->step_count, 2);
    assert_int_equal(done->steps[1].done, 10);
    assert_int_equal(cJSON_GetObjectItem(done->values, "epoch")->valueint, 7);
    assert_string_equal(done->by, "a");
    assert_string_equal(done->runner, "b");
    assert_string_equal(job_state(done, 0), "done");
}

static void a_failure_keeps_its_kind_and_text(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE, failure = {.kind = ERR_WRONG_KEY, .text = "two\nlines \xff"};
    check_ok(job_begin(&f->in.vault, &for_b, &run, &err), err);
    char id[JOB_ID_MAX];
    memcpy(id, job_run_job(run)->id, sizeof id);
    check_ok(job_finish(run, &failure, NULL, &err), err);
    struct job *j AUTO_JOB = load(f, id);
    assert_int_equal(j->result.kind, ERR_WRONG_KEY);
    assert_string_equal(j->result.text, "two lines ?"); /* what no document may hold */
    assert_string_equal(job_state(j, 0), "failed");
}

static void values_are_the_same_here_as_read_elsewhere(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    cJSON *values AUTO_JSON = NULL;
    struct err err = ERR_NONE;
    uint64_t n = 0;
    check_ok(json_make(&values, &err) && json_add_u64(values, "epoch", 7, &err), err);
    check_ok(job_begin(&f->in.vault, &for_b, &run, &err), err);
    check_ok(job_finish(run, NULL, values, &err), err);
    struct job *here AUTO_JOB = job_run_take(run);
    check_ok(json_u64(here->values, "epoch", &n, &err), err);
    assert_int_equal(n, 7);
    struct job *there AUTO_JOB = load(f, here->id);
    check_ok(json_u64(there->values, "epoch", &n, &err), err);
    assert_int_equal(n, 7);
}

static void a_job_is_claimed_once_and_by_its_host_alone(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct job_run *second AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    check_fails(job_claim(&f->in.vault, id, "c", false, &second, &err), err, ERR_INVALID);
    claim(f, id, &run);
    check_fails(job_claim(&f->in.vault, id, "b", false, &second, &err), err, ERR_BUSY);
    /* It lives: silence is no proof to the contrary on its own machine. */
    check_fails(job_claim(&f->in.vault, id, "b", true, &second, &err), err, ERR_BUSY);
    check_ok(job_finish(run, NULL, NULL, &err), err);
    check_fails(job_claim(&f->in.vault, id, "b", true, &second, &err), err, ERR_EXISTS);
}

struct other_claimer {
    struct doclog_vault vault;
    const char *id;
    struct job_run *run;
};

/* Another process claims what we have read as free and are about to claim. */
static enum memory_fault other_is_faster(void *context, const struct memory_call *call)
{
    struct other_claimer *o = context;
    struct err err = ERR_NONE;
    if (call->op == MEMORY_PUT && o->run == NULL)
        check_ok(job_claim(&o->vault, o->id, "b", false, &o->run, &err), err);
    return MEMORY_PASS;
}

static void of_two_who_claim_a_job_at_once_one_runs_it(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct store *store AUTO_STORE = memory_store_open(f->in.bucket);
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    struct other_claimer o = {.vault = f->in.vault, .id = id};
    o.vault.target = store;
    memory_store_hook(f->in.store, other_is_faster, NULL, &o);
    bool ours = job_claim(&f->in.vault, id, "b", false, &run, &err);
    memory_store_hook(f->in.store, fail_puts, NULL, f);
    job_run_close(&o.run);
    assert_false(ours);
    assert_int_equal(err.kind, ERR_BUSY);
}

static void a_job_whose_process_died_is_taken_over(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    struct job *waiting AUTO_JOB = load(f, id);
    assert_true(job_claimable(waiting, false));
    claim(f, id, &run);
    job_run_close(&run);
    /* As it would be left by another process of this machine that is gone. */
    struct job *left AUTO_JOB = load(f, id);
    struct doclog l;
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    waitpid(child, NULL, 0);
    left->pid = (uint64_t)child;
    left->alive_ms -= 60000;
    job_log_begin(&l, &f->in.vault, id);
    struct job *now AUTO_JOB = NULL;
    check_ok(job_log_newest(&l, id, &now, &err), err);
    check_ok(job_log_append(&l, left, &err), err);
    assert_true(job_claimable(left, false));
    claim(f, id, &run);
    assert_int_equal(job_run_job(run)->claims, 2);
    assert_in_range(job_run_job(run)->silent_ms, 60000, 90000);
    check_ok(job_finish(run, NULL, NULL, &err), err);
}

/* Changes who has it, as the process of another machine does after a lease. */
static void take_over_elsewhere(struct fixture *f, const char *id)
{
    struct job *j AUTO_JOB = NULL;
    struct err err = ERR_NONE;
    struct doclog l;
    job_log_begin(&l, &f->in.vault, id);
    check_ok(job_log_newest(&l, id, &j, &err), err);
    strcpy(j->machine, "elsewhere");
    j->claims++;
    check_ok(job_log_append(&l, j, &err), err);
}

static void who_was_taken_over_is_told_at_the_next_step(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    claim(f, id, &run);
    take_over_elsewhere(f, id);
    check_fails(job_step(run, "stop", 0, 0, &err, NULL), err, ERR_FENCED);
    check_fails(job_step(run, "next", 0, 0, &err, NULL), err, ERR_FENCED);
    check_fails(job_finish(run, NULL, NULL, &err), err, ERR_FENCED);
    struct job *j AUTO_JOB = load(f, id);
    assert_false(j->finished);
    assert_int_equal(j->step_count, 0);
}

static void a_process_of_another_machine_loses_a_job_by_silence_alone(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    claim(f, id, &run);
    job_run_close(&run);
    take_over_elsewhere(f, id);
    check_fails(job_claim(&f->in.vault, id, "b", false, &run, &err), err, ERR_BUSY);
    check_ok(job_claim(&f->in.vault, id, "b", true, &run, &err), err);
    assert_int_equal(job_run_job(run)->claims, 3);
}

static void a_store_that_fails_for_a_while_stops_no_work_and_loses_no_result(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    claim(f, id, &run);
    atomic_store(&f->failing_puts, 4); /* as often as one put is tried */
    check_ok(job_step(run, "stop", 0, 0, &err, NULL), err);
    check_ok(job_step(run, "start", 0, 0, &err, NULL), err);
    atomic_store(&f->failing_puts, 6);
    check_ok(job_finish(run, NULL, NULL, &err), err);
    struct job *j AUTO_JOB = load(f, id);
    assert_true(j->finished);
    assert_int_equal(j->step_count, 2);
}

static enum memory_fault lose_puts(void *context, const struct memory_call *call)
{
    (void)context;
    return call->op == MEMORY_PUT ? MEMORY_LOSE_REPLY : MEMORY_PASS;
}

static void answers_that_are_lost_make_no_second_claim(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    memory_store_hook(f->in.store, lose_puts, NULL, NULL);
    post(f, id);
    claim(f, id, &run);
    check_ok(job_step(run, "stop", 0, 0, &err, NULL), err);
    check_ok(job_finish(run, NULL, NULL, &err), err);
    struct job *j AUTO_JOB = load(f, id);
    assert_int_equal(j->claims, 1);
    assert_true(j->finished);
}

/* --- waiting --- */

static void a_job_that_no_host_takes_is_withdrawn(void **state)
{
    struct fixture *f = *state;
    struct job *j AUTO_JOB = NULL;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    check_fails(job_wait(&f->in.vault, id, 0, 0, NULL, NULL, &j, &err), err, ERR_TRANSIENT);
    check_says(err, "farshore host b");
    check_fails(job_claim(&f->in.vault, id, "b", true, &run, &err), err, ERR_EXISTS);
    struct job *after AUTO_JOB = load(f, id);
    assert_string_equal(job_state(after, 0), "cancelled");
}

static void a_claimed_job_cannot_be_withdrawn(void **state)
{
    struct fixture *f = *state;
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    post(f, id);
    claim(f, id, &run);
    check_fails(job_withdraw(&f->in.vault, id, &err), err, ERR_BUSY);
}

struct seen_steps {
    unsigned shown;
    char last[JOB_NAME_MAX];
};

static void see_step(void *context, const struct job *j)
{
    struct seen_steps *s = context;
    s->shown++;
    if (j->step_count > 0)
        memcpy(s->last, j->steps[j->step_count - 1].name, JOB_NAME_MAX);
}

static void *run_it(void *context)
{
    struct fixture *f = context;
    struct job_ids ids AUTO_JOB_IDS = {.ids = NULL};
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct err err = ERR_NONE;
    if (!job_list(&f->in.vault, NULL, 1, &ids, &err) ||
        !job_claim(&f->in.vault, ids.ids[0], "b", false, &run, &err) ||
        !job_step(run, "stop", 0, 0, &err, NULL) || !job_finish(run, NULL, NULL, &err))
        return (void *)"failed";
    return NULL;
}

static void who_waits_sees_the_end(void **state)
{
    struct fixture *f = *state;
    struct job *j AUTO_JOB = NULL;
    struct seen_steps seen = {.shown = 0};
    struct err err = ERR_NONE;
    pthread_t thread;
    void *result;
    char id[JOB_ID_MAX];
    post(f, id);
    assert_int_equal(pthread_create(&thread, NULL, run_it, f), 0);
    check_ok(job_wait(&f->in.vault, id, 30, 30, see_step, &seen, &j, &err), err);
    pthread_join(thread, &result);
    assert_null(result);
    assert_true(j->finished);
    assert_true(seen.shown > 0);
    assert_string_equal(seen.last, "stop");
}

static void a_job_that_waited_too_long_is_not_taken_any_more(void **state)
{
    struct fixture *f = *state;
    struct world *w = fake_world_make(1);
    struct job_run *run AUTO_JOB_RUN = NULL;
    struct job_request r = for_b;
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    f->in.vault.world = w;
    r.claim_s = 30;
    check_ok(job_post(&f->in.vault, &r, id, &err), err);
    fake_world_advance(w, (JOB_EXPIRY_S + 31) * 1000000000ull);
    check_fails(job_claim(&f->in.vault, id, "b", false, &run, &err), err, ERR_CANCELLED);
    struct job *j AUTO_JOB = load(f, id);
    assert_string_equal(job_state(j, job_now_ms(&f->in.vault)), "expired");
    fake_world_release(&w);
}

/* --- lists --- */

static void jobs_are_listed_newest_first_and_as_many_as_asked(void **state)
{
    struct fixture *f = *state;
    struct world *w = fake_world_make(1);
    struct job_ids ids AUTO_JOB_IDS = {.ids = NULL};
    struct err err = ERR_NONE;
    char made[5][JOB_ID_MAX];
    f->in.vault.world = w;
    for (size_t i = 0; i < 5; i++) {
        post(f, made[i]);
        fake_world_advance(w, 2000000);
    }
    check_ok(job_list(&f->in.vault, NULL, 3, &ids, &err), err);
    assert_int_equal(ids.count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_string_equal(ids.ids[i], made[4 - i]);
    job_ids_release(&ids);
    check_ok(job_list(&f->in.vault, made[3], 10, &ids, &err), err);
    assert_int_equal(ids.count, 2); /* with the one that was named */
    fake_world_release(&w);
}

static void old_jobs_go_when_they_are_finished(void **state)
{
    struct fixture *f = *state;
    struct world *w = fake_world_make(1);
    struct job_ids ids AUTO_JOB_IDS = {.ids = NULL};
    struct err err = ERR_NONE;
    char first[JOB_ID_MAX], id[JOB_ID_MAX];
    f->in.vault.world = w;
    post(f, first); /* never finished */
    for (unsigned i = 0; i < JOBS_KEEP + 10; i++) {
        fake_world_advance(w, 2000000);
        post(f, id);
        check_ok(job_withdraw(&f->in.vault, id, &err), err);
    }
    check_ok(job_tidy(&f->in.vault, &err), err);
    check_ok(job_list(&f->in.vault, NULL, 1000, &ids, &err), err);
    assert_int_equal(ids.count, JOBS_KEEP + 1);
    assert_string_equal(ids.ids[JOBS_KEEP], first);
    assert_string_equal(ids.ids[0], id);
    fake_world_release(&w);
}

static enum memory_fault fail_from(void *context, const struct memory_call *call)
{
    return call->number >= *(const uint64_t *)context ? MEMORY_FAIL : MEMORY_PASS;
}

/* Whatever the one that died left of the job that it removed, the next one goes on. */
static void tidying_that_was_cut_off_anywhere_goes_on(void **state)
{
    struct fixture *f = *state;
    struct world *w = fake_world_make(1);
    struct err err = ERR_NONE;
    char id[JOB_ID_MAX];
    bool done = false;
    f->in.vault.world = w;
    for (unsigned i = 0; i < JOBS_KEEP; i++) {
        fake_world_advance(w, 2000000);
        post(f, id);
        check_ok(job_withdraw(&f->in.vault, id, &err), err);
    }
    size_t objects = memory_bucket_objects(f->in.bucket);
    for (uint64_t at = 1; !done; at++) {
        fake_world_advance(w, 2000000);
        post(f, id);
        check_ok(job_withdraw(&f->in.vault, id, &err), err);
        uint64_t stop = memory_store_calls(f->in.store) + at;
        memory_store_hook(f->in.store, fail_from, NULL, &stop);
        done = job_tidy(&f->in.vault, &err);
        memory_store_hook(f->in.store, NULL, NULL, NULL);
        check_ok(job_tidy(&f->in.vault, &err), err);
        assert_int_equal(memory_bucket_objects(f->in.bucket), objects);
    }
    fake_world_release(&w);
}

/* --- bytes --- */

static bool parses(const char *text, struct err *err)
{
    struct job *j AUTO_JOB = NULL;
    return job_parse(span_of_text(text), &j, err);
}

#define HEAD                                                                                       \
    "{\"version\":1,\"id\":\"20261127t000616123z-1a2b\",\"verb\":\"ping\",\"host\":\"b\","         \
    "\"by\":\"a\",\"posted_ms\":1,\"expires_ms\":0,"

static void what_is_no_job_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        HEAD "\"args\":{}}",
        HEAD "\"args\":{\"a\":1},\"steps\":[]}",
        HEAD "\"args\":{},\"steps\":{}}",
        HEAD "\"args\":{},\"steps\":[],\"more\":1}",
        HEAD "\"args\":{},\"steps\":[],\"result\":{\"ok\":false,\"finished_ms\":1}}",
        HEAD "\"args\":{},\"steps\":[],\"result\":{\"ok\":false,\"finished_ms\":1,"
             "\"error\":\"sad\",\"text\":\"\"}}",
        HEAD "\"args\":{},\"steps\":[],\"claim\":{}}",
    };
    struct err err = ERR_NONE;
    check_ok(parses(HEAD "\"args\":{\"a\":\"b\"},\"steps\":[]}", &err), err);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_fails(parses(bad[i], &err), err, ERR_INVALID);
    assert_true(job_id_valid("20261127t000616123z-1a2b"));
    assert_false(job_id_valid("20261127t000616123z-1A2b"));
    assert_false(job_id_valid("../../web"));
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_job_says_what_was_asked_done_and_come_of_it),
        T(a_failure_keeps_its_kind_and_text),
        T(values_are_the_same_here_as_read_elsewhere),
        T(a_job_is_claimed_once_and_by_its_host_alone),
        T(of_two_who_claim_a_job_at_once_one_runs_it),
        T(a_job_whose_process_died_is_taken_over),
        T(who_was_taken_over_is_told_at_the_next_step),
        T(a_process_of_another_machine_loses_a_job_by_silence_alone),
        T(a_store_that_fails_for_a_while_stops_no_work_and_loses_no_result),
        T(answers_that_are_lost_make_no_second_claim),
        T(a_job_that_no_host_takes_is_withdrawn),
        T(a_claimed_job_cannot_be_withdrawn),
        T(who_waits_sees_the_end),
        T(a_job_that_waited_too_long_is_not_taken_any_more),
        T(jobs_are_listed_newest_first_and_as_many_as_asked),
        T(old_jobs_go_when_they_are_finished),
        T(tidying_that_was_cut_off_anywhere_goes_on),
        T(what_is_no_job_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
