/* SPDX-License-Identifier: MIT */
#include "tools/failover/unit.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

bool unit_place_find(struct unit_place *out)
{
    *out = (struct unit_place){.folder = "/etc/systemd/system", .systemctl = "systemctl"};
    return access("/run/systemd/system", F_OK) == 0;
}

void unit_name(const char *vm, char *out, size_t size)
{
    snprintf(out, size, "farshore-%s.service", vm);
}

/* A word of a unit's command line: quoted, with what systemd expands made plain. */
static void put_word(struct buf *out, const char *word)
{
    buf_put(out, "\"", 1);
    for (; *word; word++) {
        if (*word == '"' || *word == '\\')
            buf_put(out, "\\", 1);
        if (*word == '%' || *word == '$')
            buf_put(out, word, 1);
        buf_put(out, word, 1);
    }
    buf_put(out, "\"", 1);
}

static void put(struct buf *out, const char *text)
{
    buf_put(out, text, strlen(text));
}

static void put_folder(struct buf *out, const char *name, const char *value, const char *usual)
{
    char word[FOLDER_BYTES_MAX + 32];
    if (strcmp(value, usual) == 0)
        return;
    snprintf(word, sizeof word, "%s=%s", name, value);
    put(out, "Environment=");
    put_word(out, word);
    put(out, "\n");
}

static void put_command(struct buf *out, const char *key, const char *binary, const char *verb,
                        const char *a, const char *b)
{
    put(out, key);
    put_word(out, binary);
    put(out, verb);
    put_word(out, a);
    if (b) {
        put(out, " ");
        put_word(out, b);
    }
    put(out, "\n");
}

bool unit_write(const struct paths *p, const char *binary, const char *vm, const char *mount,
                struct buf *out, struct err *err)
{
    put(out, "[Unit]\nDescription=farshore: the disks of VM ");
    put(out, vm);
    put(out, "\nWants=network-online.target\nAfter=network-online.target local-fs.target "
             "remote-fs.target\n"
             "Before=libvirtd.service virtqemud.service libvirt-guests.service\n\n"
             "[Service]\n"
             /* What mount leaves behind (keeper, worker) belongs to the unit, and ends when it is
              * unmounted: systemd must kill neither under a guest. */
             "Type=oneshot\nRemainAfterExit=yes\nKillMode=process\nSendSIGKILL=no\nTimeoutStopSec="
             "infinity\n"
             "OOMScoreAdjust=-1000\n");
    put_folder(out, "FARSHORE_CONFIG", p->config, "/etc/farshore");
    put_folder(out, "FARSHORE_STATE", p->state, "/var/lib/farshore");
    put_folder(out, "FARSHORE_RUN", p->run, "/run/farshore");
    put_command(out, "ExecStart=", binary, " mount ", vm, mount);
    put_command(out, "ExecStop=", binary, " unmount ", mount, NULL);
    put(out, "\n[Install]\nWantedBy=multi-user.target\n");
    return buf_ok(out, err);
}

static bool systemctl(const struct unit_place *place, const char *verb, const char *option,
                      const char *unit, struct err *err)
{
    char *argv[] = {(char *)place->systemctl, (char *)verb, (char *)option, (char *)unit, NULL};
    pid_t pid;
    int status;
    int failed = posix_spawnp(&pid, place->systemctl, NULL, NULL, argv, environ);
    if (failed)
        return err_errno(err, failed, "%s", place->systemctl);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return err_errno(err, errno, "%s", place->systemctl);
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
           err_set(err, ERR_IO, "systemctl %s %s failed: journalctl -u %s says why", verb,
                   unit ? unit : "", unit ? unit : "init.scope");
}

static void unit_path(const struct unit_place *place, const char *vm, char out[PATH_BYTES_MAX])
{
    char name[VM_NAME_MAX + 32];
    unit_name(vm, name, sizeof name);
    snprintf(out, PATH_BYTES_MAX, "%s/%s", place->folder, name);
}

bool unit_enable(struct world *w, const struct unit_place *place, const struct paths *p,
                 const char *vm, const char *mount, bool mounted, struct err *err)
{
    char path[PATH_BYTES_MAX], binary[PATH_MAX], name[VM_NAME_MAX + 32];
    struct buf text AUTO_BUF = BUF_NONE;
    ssize_t length = readlink("/proc/self/exe", binary, sizeof binary - 1);
    if (length <= 0)
        return err_errno(err, errno, "/proc/self/exe");
    binary[length] = '\0';
    unit_name(vm, name, sizeof name);
    unit_path(place, vm, path);
    return unit_write(p, binary, vm, mount, &text, err) &&
           file_replace(w, path, 0644, buf_span(&text), err) &&
           systemctl(place, "daemon-reload", NULL, NULL, err) &&
           systemctl(place, "enable", mounted ? "--quiet" : "--now", name, err);
}

bool unit_disable(struct world *w, const struct unit_place *place, const char *vm, struct err *err)
{
    char path[PATH_BYTES_MAX], name[VM_NAME_MAX + 32];
    unit_name(vm, name, sizeof name);
    unit_path(place, vm, path);
    if (access(path, F_OK) != 0)
        return true;
    return systemctl(place, "disable", "--now", name, err) && file_remove(w, path, err) &&
           systemctl(place, "daemon-reload", NULL, NULL, err);
}
