/* SPDX-License-Identifier: MIT */
#include "fs/mount/keeper.h"

#include "common/cleanup.h"
#include "fs/mount/slots.h"
#include "fs/mount/suspects.h"
#include "mount_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEADLY_OFFSET 8192
#define STUCK_OFFSET  65536
#define FAR_OFFSET    131072

static int make(void **state)
{
    *state = calloc(1, sizeof(struct mounted));
    return *state == NULL;
}

static int take_away(void **state)
{
    mounted_remove(*state);
    unsetenv("MOUNT_START_FAILS");
    unsetenv("FAKE_DEADLY_OFFSET");
    unsetenv("FAKE_STUCK_OFFSET");
    unsetenv("FAKE_STUCK");
    unsetenv("FAKE_FAR_OFFSET");
    unsetenv("FAKE_FAR");
    free(*state);
    return 0;
}

static void start(struct mounted *m, const char *const *options)
{
    mounted_make(m);
    if (mounted_start(m, options) != 0)
        fail_msg("mount_main: %s", m->output);
}

static int open_image(const struct mounted *m)
{
    int fd = open(mounted_path(m, "a.img"), O_RDWR | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void write_and_see(const struct mounted *m, int fd, char letter)
{
    int raw AUTO_FD = open(tmp_dir_path(&m->dir, "a.raw"), O_RDONLY | O_CLOEXEC);
    char seen = 0;

    assert_int_equal(pwrite(fd, &letter, 1, 5), 1);
    assert_int_equal(pread(raw, &seen, 1, 5), 1);
    assert_int_equal(seen, letter);
}

static void file_touch(const char *path)
{
    int fd AUTO_FD = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
}

static void a_killed_worker_is_replaced_and_open_files_go_on(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    int fd AUTO_FD = open_image(m);
    for (int i = 0; i < 5; i++) {
        pid_t worker = mounted_worker(m);
        mounted_kill(worker, SIGKILL);
        write_and_see(m, fd, (char)('a' + i));
        assert_true(mounted_worker(m) != worker);
    }
}

static uint64_t kills_take_ms(struct mounted *m, int fd, unsigned count)
{
    struct timespec begun, ended;

    clock_gettime(CLOCK_MONOTONIC, &begun);
    for (unsigned i = 0; i < count; i++) {
        mounted_kill(mounted_worker(m), SIGKILL);
        write_and_see(m, fd, (char)('a' + i));
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    return (uint64_t)((ended.tv_sec - begun.tv_sec) * 1000 +
                      (ended.tv_nsec - begun.tv_nsec) / 1000000);
}

/* The pauses between workers that cannot start would add up to more than six seconds. */
static void a_worker_that_is_killed_again_and_again_is_replaced_no_later_each_time(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    int fd AUTO_FD = open_image(m);
    uint64_t first_ms = kills_take_ms(m, fd, 4);
    assert_true(kills_take_ms(m, fd, 12) < 6 * first_ms + 3000);
}

/* mount_main's worker counts its lives in the first word of what it asked for. */
static void kept_memory_outlives_workers_and_only_what_is_touched_takes_room(void **state)
{
    static const char *const huge[] = {"-m", "8589934592", NULL};
    struct mounted *m = *state;
    struct stat st;
    char path[64];
    uint64_t lives = 0;

    start(m, huge);
    int fd AUTO_FD = open_image(m);
    mounted_kill(mounted_worker(m), SIGKILL);
    write_and_see(m, fd, 'x');
    snprintf(path, sizeof path, "/proc/%d/fd/4", mounted_worker(m));
    int memory AUTO_FD = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(memory >= 0);
    assert_int_equal(pread(memory, &lives, sizeof lives, KEPT_MEMORY_OFFSET), sizeof lives);
    assert_int_equal(lives, 2);
    assert_int_equal(fstat(memory, &st), 0);
    assert_true(st.st_size > 8ll << 30);
    assert_true((size_t)st.st_blocks * 512 <
                SERVERS_MAX * sizeof(struct slot) + SLOT_COUNT * SLOT_HEAD_BYTES + (1 << 20));
}

static void a_request_that_ends_workers_is_answered_eio_and_the_mount_goes_on(void **state)
{
    struct mounted *m = *state;
    char text[16];

    snprintf(text, sizeof text, "%d", DEADLY_OFFSET);
    setenv("FAKE_DEADLY_OFFSET", text, 1);
    start(m, NULL);
    int fd AUTO_FD = open_image(m);
    assert_int_equal(pwrite(fd, text, 1, DEADLY_OFFSET), -1);
    assert_int_equal(errno, EIO);
    write_and_see(m, fd, 'y');
    assert_int_equal(pwrite(fd, text, 1, DEADLY_OFFSET), -1);
    assert_int_equal(errno, EIO);
}

/* A write that waits in the worker's hand until the file `stuck` is removed. */
static void start_with_stuck(struct mounted *m)
{
    char text[16];

    mounted_make(m);
    snprintf(text, sizeof text, "%d", STUCK_OFFSET);
    setenv("FAKE_STUCK_OFFSET", text, 1);
    setenv("FAKE_STUCK", tmp_dir_path(&m->dir, "stuck"), 1);
    file_touch(tmp_dir_path(&m->dir, "stuck"));
    if (mounted_start(m, NULL) != 0)
        fail_msg("mount_main: %s", m->output);
}

static bool stuck_reached(const struct mounted *m)
{
    return access(tmp_dir_path(&m->dir, "stuck.reached"), F_OK) == 0;
}

/* In a process of its own, whose exit code is the errno. */
static pid_t write_aside(int fd, off_t offset)
{
    pid_t writer = fork();

    assert_true(writer >= 0);
    if (writer == 0)
        _exit(pwrite(fd, "s", 1, offset) == 1 ? 0 : errno);
    return writer;
}

static int outcome(pid_t writer)
{
    int status;

    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void sigkill_blames_no_request(void **state)
{
    struct mounted *m = *state;

    start_with_stuck(m);
    int fd AUTO_FD = open_image(m);
    pid_t writer = write_aside(fd, STUCK_OFFSET);
    for (unsigned i = 0; i < SUSPECT_DEATHS_MAX + 2; i++) {
        wait_until(stuck_reached, m);
        unlink(tmp_dir_path(&m->dir, "stuck.reached"));
        mounted_kill(mounted_worker(m), SIGKILL);
    }
    wait_until(stuck_reached, m);
    unlink(tmp_dir_path(&m->dir, "stuck"));
    assert_int_equal(outcome(writer), 0);
}

static void a_request_that_only_ran_beside_a_deadly_one_succeeds(void **state)
{
    struct mounted *m = *state;
    char text[16];

    snprintf(text, sizeof text, "%d", DEADLY_OFFSET);
    setenv("FAKE_DEADLY_OFFSET", text, 1);
    start_with_stuck(m);
    int fd AUTO_FD = open_image(m);
    pid_t innocent = write_aside(fd, STUCK_OFFSET);
    wait_until(stuck_reached, m);
    unlink(tmp_dir_path(&m->dir, "stuck.reached"));
    pid_t deadly = write_aside(fd, DEADLY_OFFSET);
    wait_until(stuck_reached, m);
    unlink(tmp_dir_path(&m->dir, "stuck"));
    assert_int_equal(outcome(innocent), 0);
    assert_int_equal(outcome(deadly), EIO);
}

/* Reads at FAR_OFFSET wait, as for an origin, until the file `far` is removed. */
static void start_with_far(struct mounted *m)
{
    char text[16];

    mounted_make(m);
    snprintf(text, sizeof text, "%d", FAR_OFFSET);
    setenv("FAKE_FAR_OFFSET", text, 1);
    setenv("FAKE_FAR", tmp_dir_path(&m->dir, "far"), 1);
    file_touch(tmp_dir_path(&m->dir, "far"));
    if (mounted_start(m, NULL) != 0)
        fail_msg("mount_main: %s", m->output);
}

static pid_t read_far_aside(int fd)
{
    pid_t reader = fork();
    char seen;

    assert_true(reader >= 0);
    if (reader == 0)
        _exit(pread(fd, &seen, 1, FAR_OFFSET) == 1 ? 0 : errno);
    return reader;
}

static void wait_for_far_reads(const struct mounted *m, unsigned count)
{
    struct stat st = {.st_size = 0};

    for (unsigned i = 0; i < 3000 && st.st_size < (off_t)count; i++) {
        if (stat(tmp_dir_path(&m->dir, "far.reached"), &st) < 0)
            st.st_size = 0;
        usleep(10000);
    }
    assert_int_equal(st.st_size, count);
}

/* Else it would hang with what it tests. */
static void local_io_goes_on(int fd)
{
    pid_t writer = write_aside(fd, 5);
    int status = 0;
    pid_t ended = 0;

    for (unsigned i = 0; i < 1000 && ended == 0; i++) {
        ended = waitpid(writer, &status, WNOHANG);
        usleep(10000);
    }
    assert_int_equal(ended, writer);
    assert_int_equal(status, 0);
}

static unsigned threads_of(pid_t pid)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/task", pid);
    assert_int_equal(stat(path, &st), 0);
    return (unsigned)st.st_nlink - 2;
}

#define FAR_READERS 20u

static void requests_that_wait_for_an_origin_hold_up_no_other(void **state)
{
    struct mounted *m = *state;
    pid_t readers[FAR_READERS];

    start_with_far(m);
    int fd AUTO_FD = open_image(m);
    for (unsigned i = 0; i < FAR_READERS; i++)
        readers[i] = read_far_aside(fd);
    wait_for_far_reads(m, FAR_READERS);
    local_io_goes_on(fd);
    unlink(tmp_dir_path(&m->dir, "far.reached"));
    mounted_kill(mounted_worker(m), SIGKILL); /* the next one takes all of them up again */
    wait_for_far_reads(m, FAR_READERS);
    local_io_goes_on(fd);
    unlink(tmp_dir_path(&m->dir, "far"));
    for (unsigned i = 0; i < FAR_READERS; i++)
        assert_int_equal(outcome(readers[i]), 0);
    for (unsigned i = 0; i < 4 * FAR_READERS; i++)
        local_io_goes_on(fd);
    assert_in_range(threads_of(mounted_worker(m)), 1 + SERVERS_MAX,
                    2 + SERVERS_MAX + SERVERS_SPARE);
}

static void more_requests_than_may_wait_are_answered_when_the_origin_is_back(void **state)
{
    struct mounted *m = *state;
    pid_t readers[SLOT_COUNT + 8];

    start_with_far(m);
    int fd AUTO_FD = open_image(m);
    for (unsigned i = 0; i < SLOT_COUNT + 8; i++)
        readers[i] = read_far_aside(fd);
    wait_for_far_reads(m, SLOT_COUNT);
    unlink(tmp_dir_path(&m->dir, "far"));
    for (unsigned i = 0; i < SLOT_COUNT + 8; i++)
        assert_int_equal(outcome(readers[i]), 0);
    local_io_goes_on(fd);
}

/* The kept memory of a worker, mapped here too. */
static struct slot *slots_map(pid_t worker)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/fd/4", worker);
    int memory AUTO_FD = open(path, O_RDWR | O_CLOEXEC);
    assert_true(memory >= 0);
    void *slots =
        mmap(NULL, SLOTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memory, KEPT_SLOTS_OFFSET);
    assert_true(slots != MAP_FAILED);
    return slots;
}

static struct slot *slot_in_hand(struct slot *slots)
{
    struct slot *found = NULL;

    for (unsigned i = 0; i < SLOT_COUNT; i++)
        if (slot_state(&slots[i]) == SLOT_TAKEN && slots[i].in.opcode == FUSE_WRITE)
            found = &slots[i];
    assert_non_null(found);
    return found;
}

/* A worker dies with one write in hand; `tamper` does with its slot what the worker may have done.
 * What the writer then gets. */
static int outcome_of_slot(struct mounted *m, void (*tamper)(struct slot *slot))
{
    int fd AUTO_FD = open_image(m);
    pid_t writer = write_aside(fd, STUCK_OFFSET);
    pid_t keeper = mounted_keeper(m), worker = mounted_worker(m);

    wait_until(stuck_reached, m);
    struct slot *slots = slots_map(worker);
    assert_int_equal(kill(keeper, SIGSTOP), 0);
    mounted_kill(worker, SIGKILL);
    unlink(tmp_dir_path(&m->dir, "stuck"));
    tamper(slot_in_hand(slots));
    munmap(slots, SLOTS_BYTES);
    assert_int_equal(kill(keeper, SIGCONT), 0);
    return outcome(writer);
}

static char stuck_byte(const struct mounted *m)
{
    int raw AUTO_FD = open(tmp_dir_path(&m->dir, "a.raw"), O_RDONLY | O_CLOEXEC);
    char seen = 0;

    assert_int_equal(pread(raw, &seen, 1, STUCK_OFFSET), 1);
    return seen;
}

static void leave_alone(struct slot *slot)
{
    (void)slot;
}

/* An answer that executing the write would not give. */
static void record_enospc(struct slot *slot)
{
    struct fuse_out_header out = {.len = sizeof out, .error = -ENOSPC, .unique = slot->in.unique};

    slot_record(slot, &(struct iovec){.iov_base = &out, .iov_len = sizeof out}, 1);
}

static void damage(struct slot *slot)
{
    slot->in.len = 1;
}

static void a_kept_request_that_was_not_executed_is_executed(void **state)
{
    struct mounted *m = *state;

    start_with_stuck(m);
    assert_int_equal(outcome_of_slot(m, leave_alone), 0);
    assert_int_equal(stuck_byte(m), 's');
}

static void a_kept_request_that_was_executed_is_only_answered_as_it_was(void **state)
{
    struct mounted *m = *state;

    start_with_stuck(m);
    assert_int_equal(outcome_of_slot(m, record_enospc), ENOSPC);
    assert_int_equal(stuck_byte(m), 0);
}

static void a_kept_request_that_is_damaged_is_answered_eio(void **state)
{
    struct mounted *m = *state;

    start_with_stuck(m);
    assert_int_equal(outcome_of_slot(m, damage), EIO);
    assert_int_equal(stuck_byte(m), 0);
    int fd AUTO_FD = open_image(m);
    write_and_see(m, fd, 'd');
}

/* A slot that was cleared since still shows the bytes of its last answer. */
static void the_answer_of_a_write_was_recorded_before_it_was_given(void **state)
{
    struct mounted *m = *state;
    const char data[777] = "";
    struct {
        struct fuse_out_header head;
        struct fuse_write_out body;
    } seen;
    bool found = false;

    start(m, NULL);
    int fd AUTO_FD = open_image(m);
    struct slot *slots = slots_map(mounted_worker(m));
    assert_int_equal(pwrite(fd, data, sizeof data, 0), sizeof data);
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        memcpy(&seen, slots[i].reply, sizeof seen);
        found |= seen.head.len == sizeof seen && seen.body.size == sizeof data;
    }
    munmap(slots, SLOTS_BYTES);
    assert_true(found);
}

static int without_resend(void **state)
{
    (void)state;
    return setenv("FARSHORE_RESEND", "off", 1);
}

static int with_resend(void **state)
{
    (void)state;
    return unsetenv("FARSHORE_RESEND");
}

static void a_second_mount_on_the_same_folder_is_refused_as_busy(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    assert_int_equal(mounted_start(m, NULL), 1);
    assert_non_null(strstr(m->output, "busy: "));
    assert_non_null(strstr(m->output, "farshore unmount"));
    int fd AUTO_FD = open_image(m);
    write_and_see(m, fd, 'z');
}

static void another_file_systems_mount_point_is_refused_as_busy(void **state)
{
    struct mounted *m = *state;

    mounted_make(m);
    assert_int_equal(mount("none", tmp_dir_path(&m->dir, "mnt"), "tmpfs", 0, ""), 0);
    assert_int_equal(mounted_start(m, NULL), 1);
    assert_non_null(strstr(m->output, "busy: "));
    assert_non_null(strstr(m->output, "tmpfs"));
}

static void a_first_worker_that_fails_undoes_the_mount_and_its_words_come_back(void **state)
{
    struct mounted *m = *state;

    mounted_make(m);
    file_touch(tmp_dir_path(&m->dir, "fail"));
    setenv("MOUNT_START_FAILS", tmp_dir_path(&m->dir, "fail"), 1);
    assert_int_equal(mounted_start(m, NULL), 1);
    assert_non_null(strstr(m->output, "fenced: this worker was told not to start"));
    wait_until(nothing_is_left, m);
}

static void a_locked_local_file_is_refused_as_busy(void **state)
{
    struct mounted *m = *state;

    mounted_make(m);
    int raw AUTO_FD = open(tmp_dir_path(&m->dir, "b.raw"), O_RDWR | O_CLOEXEC);
    assert_int_equal(flock(raw, LOCK_EX), 0);
    assert_int_equal(mounted_start(m, NULL), 1);
    assert_non_null(strstr(m->output, "busy: disk b"));
    wait_until(nothing_is_left, m);
}

static void umount_ends_worker_and_keeper(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    assert_int_equal(umount2(tmp_dir_path(&m->dir, "mnt"), 0), 0);
    wait_until(nothing_is_left, m);
    assert_false(mounted_log_says(m, "error"));
}

static void umount_by_force_ends_worker_and_keeper_and_the_mount(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    int fd = open_image(m);
    umount2(tmp_dir_path(&m->dir, "mnt"), MNT_FORCE);
    wait_until(nothing_is_left, m);
    close(fd);
}

static bool log_says_in_use(const struct mounted *m)
{
    return mounted_log_says(m, "in use: serving on");
}

static void sigterm_unmounts_but_never_under_an_open_file(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    int fd = open_image(m);
    assert_int_equal(kill(mounted_keeper(m), SIGTERM), 0);
    wait_until(log_says_in_use, m);
    write_and_see(m, fd, 'w');
    close(fd);
    assert_int_equal(kill(mounted_keeper(m), SIGTERM), 0);
    wait_until(nothing_is_left, m);
}

static void a_hangup_ends_no_mount_that_is_in_use(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    int fd = open_image(m);
    pid_t worker = mounted_worker(m);
    assert_int_equal(kill(worker, SIGHUP), 0);
    assert_int_equal(kill(mounted_keeper(m), SIGHUP), 0);
    wait_until(log_says_in_use, m);
    write_and_see(m, fd, 'h');
    assert_int_equal(mounted_worker(m), worker);
    /* A keeper that took a dead one's place is its worker's child, and is told so by a SIGHUP when
     * that worker dies while it is stopped. */
    mounted_kill(mounted_keeper(m), SIGKILL);
    pid_t keeper = mounted_keeper(m);
    assert_int_equal(kill(keeper, SIGSTOP), 0);
    mounted_kill(mounted_worker(m), SIGKILL);
    assert_int_equal(kill(keeper, SIGCONT), 0);
    write_and_see(m, fd, 'i');
    assert_int_equal(mounted_keeper(m), keeper);
    close(fd);
    assert_int_equal(kill(keeper, SIGHUP), 0);
    wait_until(nothing_is_left, m);
}

static void a_keeper_that_dies_alone_is_replaced_and_keeps_on_keeping(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    int fd AUTO_FD = open_image(m);
    pid_t worker = mounted_worker(m);
    for (int i = 0; i < 3; i++) {
        mounted_kill(mounted_keeper(m), SIGKILL);
        mounted_keeper(m);
    }
    assert_int_equal(mounted_worker(m), worker);
    for (int i = 0; i < 2; i++) {
        mounted_kill(mounted_worker(m), SIGKILL);
        write_and_see(m, fd, (char)('k' + i));
        mounted_kill(mounted_keeper(m), SIGKILL);
        mounted_keeper(m);
        write_and_see(m, fd, (char)('p' + i));
    }
    assert_int_equal(close(fd), 0);
    fd = -1;
    assert_int_equal(umount2(tmp_dir_path(&m->dir, "mnt"), 0), 0);
    wait_until(nothing_is_left, m);
}

static bool mount_is_dead(const struct mounted *m)
{
    struct statvfs sv;

    return statvfs(tmp_dir_path(&m->dir, "mnt"), &sv) < 0 && errno == ENOTCONN;
}

static void a_mount_whose_processes_were_all_killed_is_cleared_away_by_the_next(void **state)
{
    struct mounted *m = *state;

    start(m, NULL);
    pid_t keeper = mounted_keeper(m), worker = mounted_worker(m);
    assert_int_equal(kill(keeper, SIGSTOP), 0); /* or it makes a new worker meanwhile */
    mounted_kill(worker, SIGKILL);
    mounted_kill(keeper, SIGKILL);
    wait_until(mount_is_dead, m);
    if (mounted_start(m, NULL) != 0)
        fail_msg("mount_main: %s", m->output);
    int fd AUTO_FD = open_image(m);
    write_and_see(m, fd, 'n');
}

static void when_no_worker_can_start_for_long_requests_fail_and_the_mount_ends(void **state)
{
    static const char *const soon[] = {"-g", "1", NULL};
    struct mounted *m = *state;
    char letter = 'q';

    mounted_make(m);
    setenv("MOUNT_START_FAILS", tmp_dir_path(&m->dir, "fail"), 1);
    if (mounted_start(m, soon) != 0)
        fail_msg("mount_main: %s", m->output);
    int fd AUTO_FD = open_image(m);
    file_touch(tmp_dir_path(&m->dir, "fail"));
    mounted_kill(mounted_worker(m), SIGKILL);
    assert_int_equal(pwrite(fd, &letter, 1, 0), -1);
    assert_true(errno == ENOTCONN || errno == ECONNABORTED);
    wait_until(nothing_is_left, m);
}

static void a_process_that_no_keeper_started_is_not_a_worker(void **state)
{
    struct worker_inheritance inherited;
    struct err err = ERR_NONE;

    (void)state;
    assert_false(worker_inherit(&inherited, &err));
    assert_int_equal(err.kind, ERR_INVALID);
}

static void a_worker_program_without_an_absolute_path_is_refused(void **state)
{
    char relative[] = "worker";
    char *argv[] = {relative, NULL};
    const struct keeper_config config = {.mount_point = "/nowhere", .vm = "v", .worker_argv = argv};
    struct err err = ERR_NONE;

    (void)state;
    assert_false(keeper_run(&config, &err));
    assert_int_equal(err.kind, ERR_INVALID);
}

#define MOUNT_TEST(f) cmocka_unit_test_setup_teardown(f, make, take_away)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MOUNT_TEST(a_killed_worker_is_replaced_and_open_files_go_on),
        MOUNT_TEST(a_worker_that_is_killed_again_and_again_is_replaced_no_later_each_time),
        MOUNT_TEST(kept_memory_outlives_workers_and_only_what_is_touched_takes_room),
        MOUNT_TEST(a_request_that_ends_workers_is_answered_eio_and_the_mount_goes_on),
        MOUNT_TEST(a_request_that_only_ran_beside_a_deadly_one_succeeds),
        MOUNT_TEST(sigkill_blames_no_request),
        MOUNT_TEST(requests_that_wait_for_an_origin_hold_up_no_other),
        MOUNT_TEST(more_requests_than_may_wait_are_answered_when_the_origin_is_back),
        MOUNT_TEST(a_second_mount_on_the_same_folder_is_refused_as_busy),
        MOUNT_TEST(another_file_systems_mount_point_is_refused_as_busy),
        MOUNT_TEST(a_first_worker_that_fails_undoes_the_mount_and_its_words_come_back),
        MOUNT_TEST(a_locked_local_file_is_refused_as_busy),
        MOUNT_TEST(umount_ends_worker_and_keeper),
        MOUNT_TEST(umount_by_force_ends_worker_and_keeper_and_the_mount),
        MOUNT_TEST(sigterm_unmounts_but_never_under_an_open_file),
        MOUNT_TEST(a_hangup_ends_no_mount_that_is_in_use),
        MOUNT_TEST(a_keeper_that_dies_alone_is_replaced_and_keeps_on_keeping),
        MOUNT_TEST(a_mount_whose_processes_were_all_killed_is_cleared_away_by_the_next),
        MOUNT_TEST(when_no_worker_can_start_for_long_requests_fail_and_the_mount_ends),
        cmocka_unit_test(a_process_that_no_keeper_started_is_not_a_worker),
        cmocka_unit_test(a_worker_program_without_an_absolute_path_is_refused),
    };
    /* As on kernels that cannot send requests again. */
    const struct CMUnitTest slot_tests[] = {
        MOUNT_TEST(a_kept_request_that_was_not_executed_is_executed),
        MOUNT_TEST(a_kept_request_that_was_executed_is_only_answered_as_it_was),
        MOUNT_TEST(a_kept_request_that_is_damaged_is_answered_eio),
        MOUNT_TEST(the_answer_of_a_write_was_recorded_before_it_was_given),
        MOUNT_TEST(a_killed_worker_is_replaced_and_open_files_go_on),
        MOUNT_TEST(a_keeper_that_dies_alone_is_replaced_and_keeps_on_keeping),
        MOUNT_TEST(a_request_that_ends_workers_is_answered_eio_and_the_mount_goes_on),
        MOUNT_TEST(a_request_that_only_ran_beside_a_deadly_one_succeeds),
        MOUNT_TEST(sigkill_blames_no_request),
        MOUNT_TEST(requests_that_wait_for_an_origin_hold_up_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL) +
           cmocka_run_group_tests(slot_tests, without_resend, with_resend);
}
