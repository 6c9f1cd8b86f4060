/* SPDX-License-Identifier: MIT
 * Keeper, worker and source mount over plain files (fake_source.c), for tests of the mount alone:
 *     mount_main mount [-f] [-l LOG] [-g SECONDS] [-m BYTES] DIR NAME=PATH...
 *     mount_main worker NAME=PATH...                        (the keeper starts this one)
 * The worker counts its lives in the first word of the kept memory. While the file named by
 * MOUNT_START_FAILS exists, workers fail to start and say so. */
#include "fs/mount/source_mount.h"

#include "common/cleanup.h"
#include "common/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool disks_parse(char **arguments, struct source_disk_config *disks, size_t *count)
{
    *count = 0;
    for (; *arguments != NULL && *count < VM_DISKS_MAX; arguments++) {
        char *path = strchr(*arguments, '=');
        if (path == NULL)
            return false;
        *path++ = '\0';
        disks[(*count)++] = (struct source_disk_config){.name = *arguments, .path = path};
    }
    return *count > 0;
}

static bool worker_serve(struct source *source, struct worker_inheritance *inherited,
                         struct err *err)
{
    struct source_mount *m CLEANUP(source_mount_close) = NULL;
    const char *fails = getenv("MOUNT_START_FAILS");

    ++*(uint64_t *)inherited->memory;
    if (fails != NULL && access(fails, F_OK) == 0)
        return err_set(err, ERR_FENCED, "this worker was told not to start");
    if (!source_mount_open(source, inherited, &m, err))
        return false;
    worker_report_ready();
    if (!source_mount_serve(m, err))
        return false;
    worker_report_finished(inherited);
    return true;
}

static int worker_main(char **arguments)
{
    struct source_disk_config disks[VM_DISKS_MAX];
    struct source_config config = {.disks = disks};
    struct source *source CLEANUP(source_close) = NULL;
    struct worker_inheritance inherited;
    struct err err = ERR_NONE;

    if (!worker_inherit(&inherited, &err)) {
        fprintf(stderr, "mount_main: %s\n", err.text);
        return 1;
    }
    if (disks_parse(arguments, disks, &config.disk_count) && source_open(&config, &source, &err) &&
        worker_serve(source, &inherited, &err))
        return 0;
    worker_report_failure(&err);
    return 1;
}

static int mount_main(int argc, char **argv)
{
    struct keeper_config config = {
        .vm = "test", .memory_bytes = 1 << 20, .log_fd = -1, .give_up_seconds = 10};
    char self[4096];
    struct err err = ERR_NONE;
    int option;

    while ((option = getopt(argc, argv, "fl:g:m:")) != -1) {
        if (option == 'f')
            config.foreground = true;
        else if (option == 'l')
            config.log_fd = open(optarg, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        else if (option == 'g')
            config.give_up_seconds = (unsigned)atoi(optarg);
        else if (option == 'm')
            config.memory_bytes = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (argc - optind < 2 || length < 0)
        return 2;
    self[length] = '\0';
    char **worker AUTO_FREE = calloc((size_t)(argc - optind) + 2, sizeof *worker);
    if (worker == NULL)
        return 1;
    char verb[] = "worker";
    worker[0] = self;
    worker[1] = verb;
    memcpy(worker + 2, argv + optind + 1, (size_t)(argc - optind - 1) * sizeof *worker);
    config.mount_point = argv[optind];
    config.worker_argv = worker;
    if (keeper_run(&config, &err))
        return 0;
    fprintf(stderr, "mount_main: %s: %s\n", err_kind_name(err.kind), err.text);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "worker") == 0)
        return worker_main(argv + 2);
    if (argc > 2 && strcmp(argv[1], "mount") == 0)
        return mount_main(argc - 1, argv + 1);
    fprintf(stderr,
            "usage: mount_main mount [-f] [-l LOG] [-g SECONDS] [-m BYTES] DIR NAME=PATH...\n");
    return 2;
}
