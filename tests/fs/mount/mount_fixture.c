/* SPDX-License-Identifier: MIT */
#include "mount_fixture.h"

#include "common/cleanup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define POLL_US   5000
#define POLLS_MAX 6000
#define ARGS_MAX  16

static void file_make(const char *path, off_t bytes)
{
    int fd AUTO_FD = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
}

void mounted_make(struct mounted *m)
{
    if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) != 0)
        cannot_run("needs root and /dev/fuse");
    tmp_dir_make(&m->dir);
    file_make(tmp_dir_path(&m->dir, "a.raw"), DISK_A_BYTES);
    file_make(tmp_dir_path(&m->dir, "b.raw"), DISK_B_BYTES);
    assert_int_equal(mkdir(tmp_dir_path(&m->dir, "mnt"), 0755), 0);
}

static void exec_mount(const struct mounted *m, const char *const *options)
{
    char disk_a[PATH_MAX + 8], disk_b[PATH_MAX + 8], folder[PATH_MAX], log[PATH_MAX];
    const char *argv[ARGS_MAX] = {MOUNT_MAIN, "mount", "-l", log};
    size_t count = 4;

    snprintf(disk_a, sizeof disk_a, "a=%s", tmp_dir_path(&m->dir, "a.raw"));
    snprintf(disk_b, sizeof disk_b, "b=%s", tmp_dir_path(&m->dir, "b.raw"));
    snprintf(folder, sizeof folder, "%s", tmp_dir_path(&m->dir, "mnt"));
    snprintf(log, sizeof log, "%s", tmp_dir_path(&m->dir, "log"));
    while (options != NULL && *options != NULL && count < ARGS_MAX - 4)
        argv[count++] = *options++;
    argv[count++] = folder;
    argv[count++] = disk_a;
    argv[count++] = disk_b;
    execv(MOUNT_MAIN, (char *const *)(uintptr_t)argv);
    _exit(127);
}

int mounted_start(struct mounted *m, const char *const *options)
{
    int said[2], status;
    size_t used = 0;
    ssize_t length;

    assert_int_equal(pipe2(said, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(said[1], STDERR_FILENO);
        exec_mount(m, options);
    }
    close(said[1]);
    /* Until the end of the pipe: a daemon that kept our end open would hang here. */
    while ((length = read(said[0], m->output + used, sizeof m->output - 1 - used)) > 0)
        used += (size_t)length;
    m->output[used] = '\0';
    close(said[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

const char *mounted_path(const struct mounted *m, const char *name)
{
    char relative[NAME_MAX + 8];

    snprintf(relative, sizeof relative, "mnt/%s", name);
    return tmp_dir_path(&m->dir, relative);
}

bool mounted_is(const struct mounted *m)
{
    FILE *mounts = fopen("/proc/self/mounts", "re");
    const char *folder = tmp_dir_path(&m->dir, "mnt");
    char line[8192];
    bool found = false;

    assert_non_null(mounts);
    while (fgets(line, sizeof line, mounts) != NULL)
        found |= strstr(line, folder) != NULL;
    fclose(mounts);
    return found;
}

/* Up to `size` bytes of /proc/PID/name, NULs shown as spaces. */
static void proc_text(const char *pid, const char *name, char *out, size_t size)
{
    char path[512];

    snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
    int fd AUTO_FD = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, out, size - 1);
    out[length < 0 ? 0 : length] = '\0';
    for (ssize_t i = 0; i < length; i++)
        if (out[i] == '\0')
            out[i] = ' ';
    out[strcspn(out, "\n")] = '\0';
}

pid_t mounted_process(const struct mounted *m, const char *comm)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    char text[8192];
    pid_t found = 0;

    assert_non_null(proc);
    while (found == 0 && (entry = readdir(proc)) != NULL) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9')
            continue;
        proc_text(entry->d_name, "comm", text, sizeof text);
        if (strcmp(text, comm) != 0)
            continue;
        proc_text(entry->d_name, "cmdline", text, sizeof text);
        if (strstr(text, m->dir.path) != NULL)
            found = (pid_t)atoi(entry->d_name);
    }
    closedir(proc);
    return found;
}

static bool has_worker(const struct mounted *m)
{
    return mounted_process(m, "farshore-worker") != 0;
}

static bool has_keeper(const struct mounted *m)
{
    return mounted_process(m, "farshore-keeper") != 0;
}

pid_t mounted_worker(const struct mounted *m)
{
    wait_until(has_worker, m);
    return mounted_process(m, "farshore-worker");
}

pid_t mounted_keeper(const struct mounted *m)
{
    wait_until(has_keeper, m);
    return mounted_process(m, "farshore-keeper");
}

/* Gone, or dead and not yet waited for by whoever is its parent. */
static bool process_gone(pid_t pid)
{
    char name[32], text[512];

    snprintf(name, sizeof name, "%d", pid);
    proc_text(name, "stat", text, sizeof text);
    const char *state = strrchr(text, ')');
    return state == NULL || state[2] == 'Z' || state[2] == 'X';
}

void mounted_kill(pid_t pid, int signal_number)
{
    assert_true(pid > 1);
    assert_int_equal(kill(pid, signal_number), 0);
    for (int i = 0; i < POLLS_MAX && !process_gone(pid); i++)
        usleep(POLL_US);
    assert_true(process_gone(pid));
}

void wait_until(bool (*condition)(const struct mounted *m), const struct mounted *m)
{
    for (int i = 0; i < POLLS_MAX; i++) {
        if (condition(m))
            return;
        usleep(POLL_US);
    }
    fail_msg("waited in vain");
}

/* A dead process that nobody has waited for has no command line, so it is not found. */
bool nothing_is_left(const struct mounted *m)
{
    return !mounted_is(m) && !has_keeper(m) && !has_worker(m);
}

bool mounted_log_says(const struct mounted *m, const char *text)
{
    FILE *log = fopen(tmp_dir_path(&m->dir, "log"), "re");
    char line[4096];
    bool found = false;

    while (log != NULL && fgets(line, sizeof line, log) != NULL)
        found |= strstr(line, text) != NULL;
    if (log != NULL)
        fclose(log);
    return found;
}

void mounted_remove(struct mounted *m)
{
    char folder[PATH_MAX];
    pid_t pid;

    if (m->dir.path[0] == '\0')
        return;
    snprintf(folder, sizeof folder, "%s", tmp_dir_path(&m->dir, "mnt"));
    for (int i = 0; i < 200 && !nothing_is_left(m); i++) {
        umount2(folder, MNT_FORCE);
        umount2(folder, MNT_DETACH);
        usleep(20000);
    }
    while ((pid = mounted_process(m, "farshore-keeper")) != 0 ||
           (pid = mounted_process(m, "farshore-worker")) != 0)
        mounted_kill(pid, SIGKILL);
    /* Of a sanitized build: workers and keepers that ended have reported there. */
    bool damaged = mounted_log_says(m, "Sanitizer") || mounted_log_says(m, "runtime error");
    tmp_dir_remove(&m->dir);
    assert_false(damaged);
}
