/* SPDX-License-Identifier: MIT */
#include "tools/failover/commands.h"

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

static struct command command_of(const char *line)
{
    return (struct command){.what = "start", .line = line, .timeout_ms = 20000, .vm = "web"};
}

/* Runs it and gives what it printed. */
static const char *printed(const struct command *c)
{
    static struct buf out;
    struct err err = ERR_NONE;
    buf_clear(&out);
    check_ok(command_run(c, &out, &err), err);
    buf_put_u8(&out, 0);
    return (const char *)out.data;
}

static void the_disks_and_values_stand_in_the_environment(void **state)
{
    (void)state;
    const struct command_value disks[] = {{"vda", "/m/vda.img"}, {"my-disk.2", "/m/my disk"}};
    const struct command_value values[] = {{"FARSHORE_POINT", "2026-01-01T00:00:00.000Z"}};
    struct command c = command_of("echo \"$FARSHORE_VM|$FARSHORE_DISK_VDA|$FARSHORE_DISK_MY_DISK_2|"
                                  "$FARSHORE_DISKS|$FARSHORE_POINT|$FARSHORE_CONFIG\"; pwd");
    c.disks = disks;
    c.disk_count = 2;
    c.values = values;
    c.value_count = 1;
    setenv("FARSHORE_VM", "another", 1);
    setenv("FARSHORE_DISK_OLD", "x", 1);
    setenv("FARSHORE_CONFIG", "/c", 1);
    assert_string_equal(printed(&c), "web|/m/vda.img|/m/my disk|vda my-disk.2|"
                                     "2026-01-01T00:00:00.000Z|/c\n/\n");
    c.line = "env | grep -c '^FARSHORE_DISK_OLD=' || true; env | grep -c '^FARSHORE_VM='";
    assert_string_equal(printed(&c), "0\n1\n");
    unsetenv("FARSHORE_VM");
    unsetenv("FARSHORE_DISK_OLD");
    unsetenv("FARSHORE_CONFIG");
}

static void two_disks_of_one_variable_are_refused(void **state)
{
    (void)state;
    const struct command_value disks[] = {{"a-b", "/1"}, {"a_b", "/2"}};
    struct command c = command_of("true");
    struct err err = ERR_NONE;
    c.disks = disks;
    c.disk_count = 2;
    check_fails(command_run(&c, NULL, &err), err, ERR_INVALID);
    check_says(err, "FARSHORE_DISK_A_B");
}

static void a_failure_carries_the_exit_code_and_the_last_line(void **state)
{
    (void)state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct command c = command_of("echo one; echo the disk is gone >&2; exit 3");
    struct err err = ERR_NONE;
    check_fails(command_run(&c, &out, &err), err, ERR_IO);
    check_says(err, "start of web");
    check_says(err, "exit code 3 (\"the disk is gone\")");
    assert_int_equal(out.length, strlen("one\nthe disk is gone\n"));
    c.line = "kill -9 $$";
    check_fails(command_run(&c, NULL, &err), err, ERR_IO);
    check_says(err, "signal 9");
    c.line = "/no/such/command";
    check_fails(command_run(&c, NULL, &err), err, ERR_IO);
    check_says(err, "127");
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Until it is gone, or a zombie that some init has yet to collect. */
static void check_gone(pid_t pid)
{
    for (double end = now() + 10; now() < end;) {
        char path[64], status[256] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = fopen(path, "r");
        if (f == NULL)
            return;
        bool dead = fgets(status, sizeof status, f) == NULL || strstr(status, ") Z ") != NULL;
        fclose(f);
        if (dead)
            return;
        usleep(20000);
    }
    fail_msg("%d still runs", pid);
}

static void one_that_does_not_end_is_killed_with_all_it_began(void **state)
{
    (void)state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct command c = command_of("sleep 100 & echo $!; sleep 100");
    struct err err = ERR_NONE;
    c.timeout_ms = 300;
    double begin = now();
    check_fails(command_run(&c, &out, &err), err, ERR_TRANSIENT);
    assert_true(now() - begin < 4);
    check_says(err, "killed");
    buf_put_u8(&out, 0);
    check_gone(atoi((const char *)out.data));
}

static void what_stays_in_the_background_is_not_waited_for_and_not_killed(void **state)
{
    /* It goes on once we have returned, writes to an output that nobody reads, and lives. */
    struct command c = command_of("(i=0; while [ ! -e $FARSHORE_DISK_GO ] && [ $i -lt 600 ]; do "
                                  "sleep 0.05; i=$((i + 1)); done; echo late; "
                                  "echo done >$FARSHORE_DISK_DONE) & echo started");
    const char *go = tmp_dir_path(*state, "go"), *done = tmp_dir_path(*state, "done");
    const struct command_value disks[] = {{"go", go}, {"done", done}};
    c.disks = disks;
    c.disk_count = 2;
    assert_string_equal(printed(&c), "started\n");
    assert_int_equal(access(done, F_OK), -1);
    int fd AUTO_FD = open(go, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    for (double end = now() + 20; access(done, F_OK) != 0 && now() < end;)
        usleep(20000);
    assert_int_equal(access(done, F_OK), 0);
}

static void it_has_no_descriptor_signal_or_mask_of_ours(void **state)
{
    struct command files = command_of("ls /proc/$$/fd; readlink /proc/$$/fd/0");
    /* At once: a shell that has forked has a clean mask. */
    struct command signals = command_of("exec grep -E '^(SigBlk|SigIgn)' /proc/self/status");
    sigset_t all, before;
    int fd AUTO_FD = open(tmp_dir_path(*state, "leak"), O_CREAT | O_RDWR, 0600); /* no CLOEXEC */
    assert_true(fd >= 0);
    assert_string_equal(printed(&files), "0\n1\n2\n/dev/null\n");
    signal(SIGPIPE, SIG_IGN);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    const char *text = printed(&signals);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    assert_string_equal(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

static void of_much_output_the_end_is_kept(void **state)
{
    (void)state;
    struct buf out AUTO_BUF = BUF_NONE;
    struct command c = command_of("i=0; while [ $i -lt 5000 ]; do echo line $i; i=$((i + 1)); "
                                  "done");
    struct err err = ERR_NONE;
    check_ok(command_run(&c, &out, &err), err);
    assert_int_equal(out.length, COMMAND_OUTPUT_BYTES_MAX);
    assert_memory_equal(out.data + out.length - 10, "line 4999\n", 10);
}

static void one_that_prints_without_end_is_bounded(void **state)
{
    (void)state;
    struct command c = command_of("yes 2>/dev/null");
    struct err err = ERR_NONE;
    double begin = now();
    check_fails(command_run(&c, NULL, &err), err, ERR_IO); /* its writes fail, and it ends */
    assert_true(now() - begin < 15);
}

static void too_long_a_line_is_refused(void **state)
{
    (void)state;
    static char line[COMMAND_BYTES_MAX + 2];
    struct command c = command_of(line);
    struct err err = ERR_NONE;
    memset(line, ' ', sizeof line - 1);
    check_fails(command_run(&c, NULL, &err), err, ERR_INVALID);
}

static int make_folder(void **state)
{
    *state = calloc(1, sizeof(struct tmp_dir));
    tmp_dir_make(*state);
    return 0;
}

static int remove_folder(void **state)
{
    tmp_dir_remove(*state);
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_disks_and_values_stand_in_the_environment),
        cmocka_unit_test(two_disks_of_one_variable_are_refused),
        cmocka_unit_test(a_failure_carries_the_exit_code_and_the_last_line),
        cmocka_unit_test(one_that_does_not_end_is_killed_with_all_it_began),
        cmocka_unit_test_setup_teardown(
            what_stays_in_the_background_is_not_waited_for_and_not_killed, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(it_has_no_descriptor_signal_or_mask_of_ours, make_folder,
                                        remove_folder),
        cmocka_unit_test(of_much_output_the_end_is_kept),
        cmocka_unit_test(one_that_prints_without_end_is_bounded),
        cmocka_unit_test(too_long_a_line_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
