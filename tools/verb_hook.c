/* SPDX-License-Identifier: MIT
 * hook: what libvirt's hook script calls before a domain starts (share/farshore/libvirt-hook). The
 * domain of a VM that was failed over elsewhere does not start here, nor one whose disks are not
 * mounted: its guest would find no disk, or an empty file. Reads local files only. */
#include "fs/disk/ship_state.h"
#include "tools/failover/mount_folder.h"
#include "tools/failover/moved.h"
#include "tools/verb.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XML_BYTES_MAX (1u << 20)
#define XML_WAIT_MS   2000

static const struct option_spec options[] = {
    OPTIONS_END,
};

/* libvirt writes the domain's XML to our standard input. A terminal, or a caller that says nothing
 * in time, gives none. */
static void read_xml(struct buf *out)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    while (!isatty(STDIN_FILENO) && out->length < XML_BYTES_MAX && poll(&p, 1, XML_WAIT_MS) > 0) {
        if (!buf_reserve(out, 65536))
            return;
        ssize_t n = read(STDIN_FILENO, out->data + out->length, 65536);
        if (n <= 0)
            return;
        out->length += (size_t)n;
    }
}

/* Whether the domain has a disk on the mount; of one whose XML we were not given, yes. */
static bool uses_mount(const struct buf *xml, const char *mount)
{
    char path[FOLDER_BYTES_MAX + 2];
    if (xml->length == 0)
        return true;
    snprintf(path, sizeof path, "%s/", mount);
    return memmem(xml->data, xml->length, path, strlen(path)) != NULL;
}

/* A source that met another's entry in its log: others may run the VM, and what this one would
 * write is in no vault. */
static bool check_not_fenced(const struct verb_call *call, const struct settings *s,
                             struct err *err)
{
    char folder[PATH_BYTES_MAX];
    struct ship_state state;
    struct err unknown = ERR_NONE; /* no state to read: then nothing says that it is fenced */
    path_state(call->paths, s->name, folder);
    if (s->role != ROLE_SOURCE || !s->replicate ||
        !ship_state_load(call->world, folder, s->generation, &state, &unknown) ||
        state.fenced[0] == '\0')
        return true;
    return err_set(err, ERR_FENCED, "domain %s must not run here: %s is fenced: %s",
                   s->machine->domain, s->name, state.fenced);
}

static bool check_vm(const struct verb_call *call, const struct settings *s, const struct buf *xml,
                     struct err *err)
{
    bool ours;
    if (!moved_check(call->world, call->paths, s->name, err) || !check_not_fenced(call, s, err))
        return false;
    if (s->role != ROLE_SOURCE || s->machine->mount[0] == '\0' ||
        !uses_mount(xml, s->machine->mount))
        return true;
    if (mount_folder_used(s->machine->mount, s->name, &ours) && ours)
        return true;
    return err_set(err, ERR_NOT_FOUND,
                   "the disks of domain %s are not mounted: farshore mount %s %s first",
                   s->machine->domain, s->name, s->machine->mount);
}

static bool run(const struct verb_call *call, struct err *err)
{
    const struct options *o = call->options;
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    struct buf xml AUTO_BUF = BUF_NONE;

    if (strcmp(o->operands[1], "prepare") != 0)
        return true;
    read_xml(&xml);
    if (!vm_names_list(call->paths, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        struct settings s AUTO_SETTINGS = {.disks = NULL};
        /* Settings that cannot be read may be those of this domain: it does not start. */
        if (!settings_load(call->world, call->paths, names.names[i], &s, err))
            return false;
        if (strcmp(s.machine->domain, o->operands[0]) == 0 && !check_vm(call, &s, &xml, err))
            return false;
    }
    return true;
}

const struct verb verb_hook = {
    .name = "hook",
    .summary = "For libvirt: refuse a domain that runs elsewhere",
    .operands = "DOMAIN OPERATION [WHEN [EXTRA]]",
    .operands_least = 2,
    .operands_most = 4,
    .options = options,
    .run = run,
};
