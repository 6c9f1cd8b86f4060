/* SPDX-License-Identifier: MIT
 * Plans and their runs, with a stand-in for the verbs: a script that writes down what it was asked,
 * fails for VMs that have a file fail-VM, and waits while there is a file hold. */
#include "tools/failover/plan_run.h"

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char stand_in[] =
    "#!/bin/sh\n"
    "echo \"$*\" >>\"$PLAN_TEST/log\"\n"
    "while [ -e \"$PLAN_TEST/hold\" ]; do sleep 0.02; done\n"
    "[ -e \"$PLAN_TEST/fail-$2\" ] && { echo \"cannot $1 $2\" >&2; exit 3; }\n"
    "echo \"end $2\" >>\"$PLAN_TEST/log\"\n";

struct fixture {
    struct tmp_dir tmp;
    const char *dir;
    char program[PATH_BYTES_MAX];
    struct paths paths;
    struct plan_runner x;
    bool reached;
    unsigned asked;
};

static bool reached(void *context, const char *vm, enum plan_mode mode, uint64_t since_ms)
{
    struct fixture *f = context;
    (void)vm;
    (void)mode;
    assert_true(since_ms > 0);
    f->asked++;
    return f->reached;
}

static void write_file(struct fixture *f, const char *name, const char *text)
{
    char path[PATH_BYTES_MAX];
    struct err err = ERR_NONE;
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    check_ok(file_replace(world_real(), path, 0700, span_of_text(text), &err), err);
}

static void remove_file(struct fixture *f, const char *name)
{
    char path[PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s/%s", f->dir, name);
    assert_int_equal(unlink(path), 0);
}

static int set_up(void **state)
{
    static struct fixture f;
    f = (struct fixture){.asked = 0};
    tmp_dir_make(&f.tmp);
    f.dir = f.tmp.path;
    snprintf(f.paths.config, sizeof f.paths.config, "%.900s/config", f.dir);
    snprintf(f.paths.state, sizeof f.paths.state, "%.900s/state", f.dir);
    snprintf(f.program, sizeof f.program, "%s/farshore", f.dir);
    write_file(&f, "farshore", stand_in);
    write_file(&f, "log", "");
    setenv("PLAN_TEST", f.dir, 1);
    f.x = (struct plan_runner){.world = world_real(),
                               .paths = &f.paths,
                               .program = f.program,
                               .reached = reached,
                               .context = &f};
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    tmp_dir_remove(&f->tmp);
    return 0;
}

static struct plan *new_plan(void)
{
    struct plan *p = NULL;
    struct err err = ERR_NONE;
    check_ok(plan_make("shop", &p, &err), err);
    return p;
}

static struct plan *two_groups(void)
{
    struct plan *p = new_plan();
    struct err err = ERR_NONE;
    check_ok(plan_add_group(p, "db", &err), err);
    check_ok(plan_add_group(p, "web1,web2", &err), err);
    return p;
}

static void begin(struct fixture *f, struct plan *p, enum plan_mode mode, const char *point)
{
    struct err err = ERR_NONE;
    check_ok(plan_run_begin(&f->x, &p, mode, point, false, &err), err);
    plan_release(&p);
}

static struct plan_run *go(struct fixture *f, bool answered)
{
    struct plan_run *r = NULL;
    struct err err = ERR_NONE;
    check_ok(plan_run_go(&f->x, "shop", answered, &r, &err), err);
    return r;
}

static void read_log(struct fixture *f, char *out, size_t size)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    snprintf(path, sizeof path, "%s/log", f->dir);
    check_ok(file_load(world_real(), path, size - 1, &text, &err), err);
    memcpy(out, text.data, text.length);
    out[text.length] = '\0';
}

static unsigned count_of(struct fixture *f, const char *line)
{
    char log[4096];
    unsigned n = 0;
    read_log(f, log, sizeof log);
    for (const char *at = log; (at = strstr(at, line)) != NULL; at++)
        n++;
    return n;
}

static void check_log(struct fixture *f, const char *wanted)
{
    char log[4096];
    read_log(f, log, sizeof log);
    assert_string_equal(log, wanted);
}

static void wait_for_line(struct fixture *f, const char *line)
{
    for (unsigned i = 0; i < 1000 && count_of(f, line) == 0; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    assert_true(count_of(f, line) > 0);
}

/* --- the file --- */

static void a_plan_comes_back_as_it_was(void **state)
{
    struct fixture *f = *state;
    struct plan *p AUTO_PLAN = two_groups();
    struct plan *back AUTO_PLAN = NULL;
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    struct err err = ERR_NONE;
    check_ok(plan_add_script(p, "echo \"it's\" > /dev/null", 30, &err), err);
    check_ok(plan_add_pause(p, "is the data base right?", &err), err);
    check_ok(plan_save(world_real(), &f->paths, p, false, &err), err);
    check_fails(plan_save(world_real(), &f->paths, p, false, &err), err, ERR_EXISTS);
    check_ok(plan_save(world_real(), &f->paths, p, true, &err), err);
    check_ok(plan_load(world_real(), &f->paths, "shop", &back, &err), err);
    assert_int_equal(back->step_count, 4);
    assert_memory_equal(back->steps, p->steps, sizeof p->steps);
    check_ok(plan_names(&f->paths, &names, &err), err);
    assert_int_equal(names.count, 1);
    check_ok(plan_remove(world_real(), &f->paths, "shop", &err), err);
    plan_release(&back);
    check_fails(plan_load(world_real(), &f->paths, "shop", &back, &err), err, ERR_NOT_FOUND);
}

static void what_is_no_plan_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{\"name\":\"shop\",\"steps\":[]}",
        "{\"name\":\"other\",\"steps\":[{\"group\":[\"a\"]}]}",
        "{\"name\":\"shop\",\"steps\":[{\"group\":[]}]}",
        "{\"name\":\"shop\",\"steps\":[{\"group\":[\"a\",\"a\"]}]}",
        "{\"name\":\"shop\",\"steps\":[{\"group\":[\"a\"]},{\"group\":[\"a\"]}]}",
        "{\"name\":\"shop\",\"steps\":[{\"group\":[\"../a\"]}]}",
        "{\"name\":\"shop\",\"steps\":[{\"group\":[1]}]}",
        "{\"name\":\"shop\",\"steps\":[{\"script\":\"\"}]}",
        "{\"name\":\"shop\",\"steps\":[{\"script\":\"x\",\"timeout_seconds\":0}]}",
        "{\"name\":\"shop\",\"steps\":[{\"pause\":\"x\",\"script\":\"y\"}]}",
        "{\"name\":\"shop\",\"steps\":[{\"wait\":1}]}",
        "{\"name\":\"shop\",\"steps\":[{\"pause\":\"x\"}],\"more\":1}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct plan *p AUTO_PLAN = new_plan();
        cJSON *j AUTO_JSON = NULL;
        struct err err = ERR_NONE;
        check_ok(json_parse(span_of_text(bad[i]), &j, &err), err);
        check_fails(plan_read(j, p, &err), err, ERR_INVALID);
    }
}

/* --- runs --- */

static void groups_go_one_after_another_and_their_vms_at_once(void **state)
{
    struct fixture *f = *state;
    char log[4096];
    begin(f, two_groups(), PLAN_TEST, NULL);
    struct plan_run *r AUTO_PLAN_RUN = go(f, false);
    assert_int_equal(r->state, PLAN_DONE);
    assert_int_equal(r->row_count, 3);
    read_log(f, log, sizeof log);
    const char *db = strstr(log, "end db"), *web1 = strstr(log, "test-failover web1");
    const char *web2 = strstr(log, "test-failover web2");
    assert_true(db != NULL && web1 > db && web2 > db);
    for (size_t i = 0; i < 3; i++)
        assert_true(r->rows[i].ended_ms >= r->rows[i].began_ms && r->rows[i].began_ms > 0);
    assert_int_equal(f->asked, 0);
}

static void vms_of_a_group_do_not_wait_for_each_other(void **state)
{
    struct fixture *f = *state;
    struct plan *p = new_plan();
    struct err err = ERR_NONE;
    check_ok(plan_add_group(p, "web1,web2", &err), err);
    begin(f, p, PLAN_UNPLANNED, "now-5m");
    write_file(f, "hold", "");
    pid_t child = fork();
    if (child == 0) {
        struct plan_run *r = NULL;
        _exit(plan_run_go(&f->x, "shop", false, &r, &err) ? 0 : 1);
    }
    wait_for_line(f, "failover web1 --point now-5m\n");
    wait_for_line(f, "failover web2 --point now-5m\n");
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* verbs may take their time */
    struct plan_run *r AUTO_PLAN_RUN = NULL;
    check_fails(plan_run_go(&f->x, "shop", false, &r, &err), err, ERR_BUSY); /* it has a runner */
    remove_file(f, "hold");
    int status = -1;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
}

static void each_mode_gives_its_verb(void **state)
{
    struct fixture *f = *state;
    static const char *const lines[PLAN_MODES] = {"test-failover db", "failover db --planned",
                                                  "failover db",      "cleanup db",
                                                  "commit db",        "reprotect db"};
    for (int m = 0; m < PLAN_MODES; m++) {
        struct plan *p = new_plan();
        struct err err = ERR_NONE;
        char wanted[128];
        check_ok(plan_add_group(p, "db", &err), err);
        write_file(f, "log", "");
        begin(f, p, (enum plan_mode)m, NULL);
        struct plan_run *r AUTO_PLAN_RUN = go(f, false);
        assert_int_equal(r->state, PLAN_DONE);
        snprintf(wanted, sizeof wanted, "%s\nend db\n", lines[m]);
        check_log(f, wanted);
    }
}

static void a_cleanup_goes_backwards_without_scripts_and_pauses(void **state)
{
    struct fixture *f = *state;
    struct plan *p = new_plan();
    struct err err = ERR_NONE;
    check_ok(plan_add_group(p, "db", &err), err);
    check_ok(plan_add_script(p, "echo script >>\"$PLAN_TEST/log\"", 10, &err), err);
    check_ok(plan_add_pause(p, "well?", &err), err);
    check_ok(plan_add_group(p, "web", &err), err);
    begin(f, p, PLAN_CLEANUP, NULL);
    struct plan_run *r AUTO_PLAN_RUN = go(f, false);
    assert_int_equal(r->state, PLAN_DONE);
    check_log(f, "cleanup web\nend web\ncleanup db\nend db\n");
}

static void a_pause_stops_until_it_is_answered_and_counts_for_no_rto(void **state)
{
    struct fixture *f = *state;
    struct plan *p = new_plan();
    struct err err = ERR_NONE;
    check_ok(plan_add_group(p, "db", &err), err);
    check_ok(plan_add_pause(p, "is it right?", &err), err);
    check_ok(plan_add_script(p, "echo $FARSHORE_PLAN $FARSHORE_PLAN_MODE >>\"$PLAN_TEST/log\"", 10,
                             &err),
             err);
    begin(f, p, PLAN_PLANNED, NULL);
    struct plan_run *r AUTO_PLAN_RUN = go(f, false);
    assert_int_equal(r->state, PLAN_PAUSED);
    plan_run_release(&r);
    r = go(f, false); /* going on without an answer */
    assert_int_equal(r->state, PLAN_PAUSED);
    check_log(f, "failover db --planned\nend db\n");
    nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL); /* what a person takes */
    plan_run_release(&r);
    r = go(f, true);
    assert_int_equal(r->state, PLAN_DONE);
    check_log(f, "failover db --planned\nend db\nshop planned\n");
    assert_true(r->paused_ms >= 300);
    assert_true(r->ended_ms - r->began_ms - r->paused_ms < r->ended_ms - r->began_ms);
}

static void a_pause_that_was_answered_is_not_asked_again(void **state)
{
    struct fixture *f = *state;
    struct plan *p = new_plan();
    struct plan_run *r AUTO_PLAN_RUN = NULL;
    struct err err = ERR_NONE;
    check_ok(plan_add_pause(p, "is it right?", &err), err);
    check_ok(plan_add_group(p, "db", &err), err);
    begin(f, p, PLAN_TEST, NULL);
    write_file(f, "fail-db", "");
    r = go(f, false);
    plan_run_release(&r);
    check_fails(plan_run_go(&f->x, "shop", true, &r, &err), err, ERR_IO);
    remove_file(f, "fail-db");
    plan_run_release(&r);
    r = go(f, false);
    assert_int_equal(r->state, PLAN_DONE);
}

static void what_failed_stops_the_plan_and_is_repeated_alone(void **state)
{
    struct fixture *f = *state;
    struct plan *p = new_plan();
    struct plan_run *r AUTO_PLAN_RUN = NULL;
    struct err err = ERR_NONE;
    check_ok(plan_add_group(p, "web1,web2", &err), err);
    check_ok(plan_add_group(p, "last", &err), err);
    begin(f, p, PLAN_TEST, NULL);
    write_file(f, "fail-web1", "");
    check_fails(plan_run_go(&f->x, "shop", false, &r, &err), err, ERR_IO);
    check_says(err, "web1");
    check_says(err, "cannot test-failover web1");
    assert_int_equal(r->state, PLAN_FAILED);
    assert_int_equal(count_of(f, "last"), 0);
    p = two_groups();
    check_fails(plan_run_begin(&f->x, &p, PLAN_TEST, NULL, false, &err), err, ERR_BUSY);
    check_says(err, "plan continue");
    plan_release(&p);
    remove_file(f, "fail-web1");
    plan_run_release(&r);
    r = go(f, false);
    assert_int_equal(r->state, PLAN_DONE);
    assert_int_equal(count_of(f, "test-failover web1"), 2);
    assert_int_equal(count_of(f, "test-failover web2"), 1);
    assert_int_equal(r->rows[0].attempts, 2);
    assert_string_equal(r->rows[0].text, "");
    begin(f, two_groups(), PLAN_TEST, NULL); /* one that has ended is in nobody's way */
}

static void a_script_that_takes_too_long_is_ended(void **state)
{
    struct fixture *f = *state;
    struct plan *p = new_plan();
    struct plan_run *r AUTO_PLAN_RUN = NULL;
    struct err err = ERR_NONE;
    check_ok(plan_add_script(p, "echo began >>\"$PLAN_TEST/log\"; sleep 600 | cat", 1, &err), err);
    begin(f, p, PLAN_TEST, NULL);
    check_fails(plan_run_go(&f->x, "shop", false, &r, &err), err, ERR_IO);
    check_says(err, "in time");
    assert_int_equal(count_of(f, "began"), 1);
}

/* Kills a process that runs the plan while the verb of `db` works. */
static void kill_runner(struct fixture *f)
{
    begin(f, two_groups(), PLAN_TEST, NULL);
    write_file(f, "hold", "");
    pid_t child = fork();
    if (child == 0) {
        struct plan_run *r = NULL;
        struct err err = ERR_NONE;
        _exit(plan_run_go(&f->x, "shop", false, &r, &err) ? 0 : 1);
    }
    wait_for_line(f, "test-failover db");
    /* until the state says so */
    for (unsigned i = 0; i < 1000; i++) {
        struct plan_run *r AUTO_PLAN_RUN = NULL;
        struct err err = ERR_NONE;
        check_ok(plan_run_load(&f->x, "shop", &r, &err), err);
        if (r->rows[0].state == PLAN_RUNNING && r->rows[0].pid != 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void a_run_that_was_killed_waits_for_what_it_started(void **state)
{
    struct fixture *f = *state;
    kill_runner(f);
    f->reached = true;
    pid_t releaser = fork(); /* the verb goes on for a while */
    if (releaser == 0) {
        nanosleep(&(struct timespec){.tv_nsec = 300000000}, NULL);
        remove_file(f, "hold");
        _exit(0);
    }
    struct plan_run *r AUTO_PLAN_RUN = go(f, false);
    waitpid(releaser, NULL, 0);
    assert_int_equal(r->state, PLAN_DONE);
    assert_int_equal(f->asked, 1);
    assert_int_equal(count_of(f, "test-failover db"), 1);
    char log[4096];
    read_log(f, log, sizeof log);
    const char *end = strstr(log, "end db"), *web = strstr(log, "test-failover web1");
    assert_true(end != NULL && web > end);
}

static void a_verb_that_was_lost_on_the_way_is_given_again(void **state)
{
    struct fixture *f = *state;
    kill_runner(f);
    f->reached = false;
    remove_file(f, "hold");
    struct plan_run *r AUTO_PLAN_RUN = go(f, false);
    assert_int_equal(r->state, PLAN_DONE);
    assert_int_equal(count_of(f, "test-failover db"), 2);
    assert_int_equal(r->rows[0].attempts, 2);
}

static void a_report_has_the_times_of_all_steps(void **state)
{
    struct fixture *f = *state;
    cJSON *j AUTO_JSON = NULL;
    cJSON *read AUTO_JSON = NULL;
    struct buf text AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    uint64_t took, rto;
    begin(f, two_groups(), PLAN_TEST, NULL);
    struct plan_run *r AUTO_PLAN_RUN = go(f, false);
    check_ok(plan_run_json(r, r->ended_ms + 1000, &j, &err), err);
    check_ok(json_write(j, false, &text, &err), err);
    check_ok(json_parse(buf_span(&text), &read, &err), err);
    check_ok(json_u64(read, "took_ms", &took, &err), err);
    check_ok(json_u64(read, "rto_ms", &rto, &err), err);
    assert_int_equal(took, r->ended_ms - r->began_ms);
    assert_int_equal(rto, took);
    assert_int_equal(cJSON_GetArraySize(cJSON_GetObjectItem(j, "rows")), 3);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_plan_comes_back_as_it_was),
        T(what_is_no_plan_is_refused),
        T(groups_go_one_after_another_and_their_vms_at_once),
        T(vms_of_a_group_do_not_wait_for_each_other),
        T(each_mode_gives_its_verb),
        T(a_cleanup_goes_backwards_without_scripts_and_pauses),
        T(a_pause_stops_until_it_is_answered_and_counts_for_no_rto),
        T(a_pause_that_was_answered_is_not_asked_again),
        T(what_failed_stops_the_plan_and_is_repeated_alone),
        T(a_script_that_takes_too_long_is_ended),
        T(a_run_that_was_killed_waits_for_what_it_started),
        T(a_verb_that_was_lost_on_the_way_is_given_again),
        T(a_report_has_the_times_of_all_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
