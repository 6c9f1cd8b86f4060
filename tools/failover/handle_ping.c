/* SPDX-License-Identifier: MIT */
#include "tools/failover/handlers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MEMINFO_BYTES_MAX 16384u

/* In bytes; 0 when the kernel does not say. */
static uint64_t memory_of(const char *meminfo, const char *name)
{
    const char *line = strstr(meminfo, name);
    return line != NULL ? strtoull(line + strlen(name), NULL, 10) * 1024 : 0;
}

static bool add_memory(cJSON *j, struct err *err)
{
    char text[MEMINFO_BYTES_MAX];
    int fd AUTO_FD = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0)
        return err_errno(err, errno, "/proc/meminfo");
    text[n] = '\0';
    return json_add_u64(j, "memory_total_bytes", memory_of(text, "MemTotal:"), err) &&
           json_add_u64(j, "memory_free_bytes", memory_of(text, "MemAvailable:"), err);
}

/* Room for what failovers and drills write here. */
static bool add_room(const struct verb_call *call, cJSON *j, struct err *err)
{
    struct statvfs s;
    uint64_t free_bytes = 0;
    if (statvfs(call->paths->state, &s) == 0)
        free_bytes = (uint64_t)s.f_bavail * s.f_frsize;
    return json_add_text(j, "state_folder", call->paths->state, err) &&
           json_add_u64(j, "state_free_bytes", free_bytes, err);
}

static bool run(const struct verb_call *call, struct vm *vm, struct job_run *job, cJSON **values,
                struct err *err)
{
    struct host_config me;
    cJSON *j AUTO_JSON = NULL;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    (void)job;
    if (!host_config_load(call->world, call->paths, &me, err) || !json_make(&j, err) ||
        !json_add_text(j, "host", me.name, err) || !json_add_text(j, "libvirt", me.libvirt, err) ||
        !json_add_text(j, "version", FARSHORE_VERSION, err) ||
        !json_add_text(j, "role", role_name(vm->settings.role), err) ||
        !json_add_u64(j, "processors", processors > 0 ? (uint64_t)processors : 0, err) ||
        !add_memory(j, err) || !add_room(call, j, err))
        return false;
    *values = TAKE(j);
    return true;
}

const struct handler handler_ping = {.verb = "ping", .resumable = true, .run = run};
