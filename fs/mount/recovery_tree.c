/* SPDX-License-Identifier: MIT */
#include "fs/mount/recovery_tree.h"

#include "common/json.h"
#include "common/rfc3339.h"

#include <stdio.h>

/* Inode: point, VM, disk, kind, from the highest bit down. */
#define KIND_BITS  4
#define DISK_BITS  8
#define VM_BITS    12
#define POINT_BITS 40

static const char *const vm_entries[] = {
    "points", "at", "latest", "latest-application", "latest-verified", "branches"};
static const enum recovery_kind vm_kinds[] = {RECOVERY_POINTS,          RECOVERY_AT,
                                              RECOVERY_LATEST,          RECOVERY_LATEST_APPLICATION,
                                              RECOVERY_LATEST_VERIFIED, RECOVERY_BRANCHES};
#define VM_ENTRIES (sizeof vm_kinds / sizeof vm_kinds[0])

uint64_t recovery_inode(struct recovery_node n)
{
    assert(n.vm < 1u << VM_BITS && n.disk < 1u << DISK_BITS && n.point < 1ull << POINT_BITS);
    return n.point << (KIND_BITS + DISK_BITS + VM_BITS) |
           (uint64_t)n.vm << (KIND_BITS + DISK_BITS) | (uint64_t)n.disk << KIND_BITS |
           (uint64_t)n.kind;
}

static struct history *history_of(const struct recovery_tree *t, struct recovery_node n)
{
    return t->vms[n.vm].view.history;
}

static bool has_point(enum recovery_kind kind)
{
    return kind == RECOVERY_POINT || kind == RECOVERY_DISK || kind == RECOVERY_JSON ||
           kind == RECOVERY_AT_LINK;
}

static uint64_t point_ms(const struct recovery_tree *t, struct recovery_node n)
{
    struct generation generation;
    return history_epoch(history_of(t, n), (size_t)n.point, &generation).point_ms;
}

/* Also of one that a new generation has left behind since the node was made. */
bool recovery_point(const struct recovery_tree *t, struct recovery_node n,
                    struct history_point *out)
{
    struct history *h = history_of(t, n);
    struct generation generation;
    struct err why = ERR_NONE; /* all it could say is that it is none */
    if (n.point >= history_epochs(h))
        return false;
    uint64_t epoch = history_epoch(h, (size_t)n.point, &generation).epoch;
    return history_point_at(h, generation, epoch, out, &why) && out->index == n.point;
}

/* --- what was left behind --- */

static bool branch_generation(const struct recovery_tree *t, struct recovery_node n,
                              struct generation *out)
{
    struct history *h = history_of(t, n);
    struct history_point point;
    if (n.point >= history_generations(h))
        return false;
    *out = history_generation(h, (size_t)n.point).generation;
    return history_branch_point(h, *out, 0, &point);
}

/* The i-th generation that left points behind. */
static bool branch_at(const struct recovery_tree *t, struct recovery_node folder, uint64_t i,
                      struct recovery_node *out, struct generation *generation)
{
    size_t count = history_generations(history_of(t, folder));
    *out = (struct recovery_node){.kind = RECOVERY_BRANCH, .vm = folder.vm};
    for (; out->point < count; out->point++)
        if (branch_generation(t, *out, generation) && i-- == 0)
            return true;
    return false;
}

static bool any_branch(const struct recovery_tree *t, struct recovery_node in)
{
    struct recovery_node n;
    struct generation generation;
    return branch_at(t, in, 0, &n, &generation);
}

static size_t disks_of(const struct recovery_tree *t, struct recovery_node n,
                       struct epoch_disk out[VM_DISKS_MAX])
{
    return history_disks(history_of(t, n), (size_t)n.point, out);
}

bool recovery_node(const struct recovery_tree *t, uint64_t inode, struct recovery_node *out)
{
    struct recovery_node n = {
        .kind = (enum recovery_kind)(inode & ((1u << KIND_BITS) - 1)),
        .disk = (uint32_t)(inode >> KIND_BITS & ((1u << DISK_BITS) - 1)),
        .vm = (uint32_t)(inode >> (KIND_BITS + DISK_BITS) & ((1u << VM_BITS) - 1)),
        .point = inode >> (KIND_BITS + DISK_BITS + VM_BITS),
    };
    *out = n;
    if (n.kind < RECOVERY_ROOT || n.kind >= RECOVERY_KINDS ||
        (n.disk > 0 && n.kind != RECOVERY_DISK))
        return false;
    if (n.kind == RECOVERY_ROOT)
        return n.vm == 0 && n.point == 0;
    if (n.vm >= t->vm_count)
        return false;
    struct generation generation;
    if (n.kind == RECOVERY_BRANCH)
        return branch_generation(t, n, &generation);
    if (!has_point(n.kind))
        return n.point == 0;
    struct history_point point;
    struct epoch_disk disks[VM_DISKS_MAX];
    if (!recovery_point(t, n, &point))
        return false;
    return n.kind != RECOVERY_DISK || n.disk < disks_of(t, n, disks);
}

/* The point that one of the latest links leads to. */
static bool latest(const struct recovery_tree *t, struct recovery_node n, struct history_point *out)
{
    const char *name = n.kind == RECOVERY_LATEST               ? "latest"
                       : n.kind == RECOVERY_LATEST_APPLICATION ? "latest-application"
                                                               : "latest-verified";
    struct err err = ERR_NONE; /* all it could say is that there is none */
    return history_resolve(history_of(t, n), name, out, &err);
}

static uint64_t newest_ms(struct history *h)
{
    size_t points = history_points(h);
    return points == 0 ? 0 : history_point(h, points - 1).ms;
}

static uint64_t mtime_of(const struct recovery_tree *t, struct recovery_node n)
{
    if (has_point(n.kind))
        return point_ms(t, n);
    if (n.kind != RECOVERY_ROOT)
        return newest_ms(history_of(t, n));
    uint64_t newest = 0;
    for (size_t i = 0; i < t->vm_count; i++) {
        uint64_t ms = newest_ms(t->vms[i].view.history);
        if (ms > newest)
            newest = ms;
    }
    return newest;
}

static bool gone(const struct recovery_tree *t, struct recovery_node n, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "%s has no such point any more", t->vms[n.vm].name);
}

bool recovery_attr(const struct recovery_tree *t, struct recovery_node n, struct recovery_attr *out,
                   struct err *err)
{
    struct epoch_disk disks[VM_DISKS_MAX];
    struct buf json AUTO_BUF = BUF_NONE;
    char link[RECOVERY_LINK_MAX];

    *out = (struct recovery_attr){.type = RECOVERY_FOLDER, .mtime_ms = mtime_of(t, n)};
    switch (n.kind) {
    case RECOVERY_DISK:
        out->type = RECOVERY_FILE;
        if (n.disk >= disks_of(t, n, disks))
            return gone(t, n, err);
        out->bytes = disks[n.disk].size_bytes;
        return true;
    case RECOVERY_JSON:
        out->type = RECOVERY_FILE;
        if (!recovery_json(t, n, &json, err))
            return false;
        out->bytes = json.length;
        return true;
    case RECOVERY_AT_LINK:
    case RECOVERY_LATEST:
    case RECOVERY_LATEST_APPLICATION:
    case RECOVERY_LATEST_VERIFIED:
        out->type = RECOVERY_LINK;
        if (!recovery_link(t, n, link, err))
            return false;
        out->bytes = strlen(link);
        return true;
    default:
        return true;
    }
}

static bool not_found(const char *name, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "no entry \"%s\"", name);
}

static bool lookup_vm(const struct recovery_tree *t, const char *name, struct recovery_node *out,
                      struct err *err)
{
    for (uint32_t i = 0; i < t->vm_count; i++) {
        if (strcmp(t->vms[i].name, name) == 0) {
            *out = (struct recovery_node){.kind = RECOVERY_VM, .vm = i};
            return true;
        }
    }
    return not_found(name, err);
}

static bool is_latest(enum recovery_kind kind)
{
    return kind == RECOVERY_LATEST || kind == RECOVERY_LATEST_APPLICATION ||
           kind == RECOVERY_LATEST_VERIFIED;
}

static bool lookup_in_vm(const struct recovery_tree *t, struct recovery_node folder,
                         const char *name, struct recovery_node *out, struct err *err)
{
    for (size_t i = 0; i < VM_ENTRIES; i++) {
        struct history_point point;
        if (strcmp(vm_entries[i], name) != 0)
            continue;
        *out = (struct recovery_node){.kind = vm_kinds[i], .vm = folder.vm};
        if (out->kind == RECOVERY_BRANCHES)
            return any_branch(t, folder) || not_found(name, err);
        return !is_latest(out->kind) || latest(t, *out, &point) || not_found(name, err);
    }
    return not_found(name, err);
}

static bool lookup_point(const struct recovery_tree *t, struct recovery_node folder,
                         const char *name, struct recovery_node *out, struct err *err)
{
    struct history_point point;
    uint64_t ms;
    if (!point_time_parse(name, &ms) || !history_find(history_of(t, folder), ms, true, &point))
        return not_found(name, err);
    *out = (struct recovery_node){.kind = RECOVERY_POINT, .vm = folder.vm, .point = point.index};
    return true;
}

static bool lookup_branch(const struct recovery_tree *t, struct recovery_node folder,
                          const char *name, struct recovery_node *out, struct err *err)
{
    char is[GENERATION_NAME_MAX];
    struct generation generation;
    for (uint64_t i = 0; branch_at(t, folder, i, out, &generation); i++) {
        generation_name(generation, is);
        if (strcmp(is, name) == 0)
            return true;
    }
    return not_found(name, err);
}

static bool lookup_in_branch(const struct recovery_tree *t, struct recovery_node folder,
                             const char *name, struct recovery_node *out, struct err *err)
{
    struct history_point point;
    struct generation generation;
    uint64_t ms;
    if (!branch_generation(t, folder, &generation) || !point_time_parse(name, &ms) ||
        !history_find_in(history_of(t, folder), generation, ms, &point))
        return not_found(name, err);
    *out = (struct recovery_node){.kind = RECOVERY_POINT, .vm = folder.vm, .point = point.index};
    return true;
}

static bool lookup_in_point(const struct recovery_tree *t, struct recovery_node folder,
                            const char *name, struct recovery_node *out, struct err *err)
{
    struct epoch_disk disks[VM_DISKS_MAX];
    size_t count = disks_of(t, folder, disks);
    *out = folder;
    if (strcmp(name, "point.json") == 0) {
        out->kind = RECOVERY_JSON;
        return true;
    }
    size_t length = strlen(name);
    out->kind = RECOVERY_DISK;
    for (uint32_t i = 0; i < count; i++) {
        size_t stem = strlen(disks[i].name);
        if (length == stem + 4 && memcmp(name, disks[i].name, stem) == 0 &&
            strcmp(name + stem, ".img") == 0) {
            out->disk = i;
            return true;
        }
    }
    return not_found(name, err);
}

/* The newest point at or before a moment. The fixed-width form, which names a point elsewhere, is a
 * moment here like every other. */
static bool lookup_at(const struct recovery_tree *t, struct recovery_node folder, const char *name,
                      struct recovery_node *out, struct err *err)
{
    struct history *h = history_of(t, folder);
    struct history_point point;
    uint64_t ms;
    if (rfc3339_parse(name, &ms)) {
        if (!history_find(h, ms, false, &point))
            return not_found(name, err);
    } else {
        struct err why = ERR_NONE;
        if (strncmp(name, "now", 3) != 0 || !history_resolve(h, name, &point, &why))
            return not_found(name, err);
    }
    *out = (struct recovery_node){.kind = RECOVERY_AT_LINK, .vm = folder.vm, .point = point.index};
    return true;
}

bool recovery_lookup(const struct recovery_tree *t, struct recovery_node folder, const char *name,
                     struct recovery_node *out, struct err *err)
{
    switch (folder.kind) {
    case RECOVERY_ROOT:
        return lookup_vm(t, name, out, err);
    case RECOVERY_VM:
        return lookup_in_vm(t, folder, name, out, err);
    case RECOVERY_POINTS:
        return lookup_point(t, folder, name, out, err);
    case RECOVERY_POINT:
        return lookup_in_point(t, folder, name, out, err);
    case RECOVERY_AT:
        return lookup_at(t, folder, name, out, err);
    case RECOVERY_BRANCHES:
        return lookup_branch(t, folder, name, out, err);
    case RECOVERY_BRANCH:
        return lookup_in_branch(t, folder, name, out, err);
    default:
        return not_found(name, err);
    }
}

static bool entry_in_vm(const struct recovery_tree *t, struct recovery_node folder, uint64_t i,
                        char name[RECOVERY_NAME_MAX], struct recovery_node *out)
{
    for (size_t k = 0; k < VM_ENTRIES; k++) {
        struct history_point point;
        *out = (struct recovery_node){.kind = vm_kinds[k], .vm = folder.vm};
        if ((is_latest(out->kind) && !latest(t, *out, &point)) ||
            (out->kind == RECOVERY_BRANCHES && !any_branch(t, folder)))
            continue;
        if (i-- == 0) {
            snprintf(name, RECOVERY_NAME_MAX, "%s", vm_entries[k]);
            return true;
        }
    }
    return false;
}

static bool entry_in_points(const struct recovery_tree *t, struct recovery_node folder, uint64_t i,
                            char name[RECOVERY_NAME_MAX], struct recovery_node *out)
{
    struct history *h = history_of(t, folder);
    char id[POINT_TIME_CHARS + 1];
    if (i >= history_points(h))
        return false;
    struct history_point point = history_point(h, (size_t)i);
    if (point.ms == 0)
        return false; /* points were left behind since they were counted */
    *out = (struct recovery_node){.kind = RECOVERY_POINT, .vm = folder.vm, .point = point.index};
    point_time_format(point.ms, id);
    snprintf(name, RECOVERY_NAME_MAX, "%s", id);
    return true;
}

static bool entry_in_branches(const struct recovery_tree *t, struct recovery_node folder,
                              uint64_t i, char name[RECOVERY_NAME_MAX], struct recovery_node *out)
{
    struct generation generation;
    if (!branch_at(t, folder, i, out, &generation))
        return false;
    generation_name(generation, name);
    return true;
}

static bool entry_in_branch(const struct recovery_tree *t, struct recovery_node folder, uint64_t i,
                            char name[RECOVERY_NAME_MAX], struct recovery_node *out)
{
    struct generation generation;
    struct history_point point;
    char id[POINT_TIME_CHARS + 1];
    if (!branch_generation(t, folder, &generation) ||
        !history_branch_point(history_of(t, folder), generation, (size_t)i, &point))
        return false;
    *out = (struct recovery_node){.kind = RECOVERY_POINT, .vm = folder.vm, .point = point.index};
    point_time_format(point.ms, id);
    snprintf(name, RECOVERY_NAME_MAX, "%s", id);
    return true;
}

static bool entry_in_point(const struct recovery_tree *t, struct recovery_node folder, uint64_t i,
                           char name[RECOVERY_NAME_MAX], struct recovery_node *out)
{
    struct epoch_disk disks[VM_DISKS_MAX];
    size_t count = disks_of(t, folder, disks);
    *out = folder;
    if (i < count) {
        out->kind = RECOVERY_DISK;
        out->disk = (uint32_t)i;
        snprintf(name, RECOVERY_NAME_MAX, "%s.img", disks[i].name);
        return true;
    }
    out->kind = RECOVERY_JSON;
    snprintf(name, RECOVERY_NAME_MAX, "point.json");
    return i == count;
}

bool recovery_entry(const struct recovery_tree *t, struct recovery_node folder, uint64_t i,
                    char name[RECOVERY_NAME_MAX], struct recovery_node *out)
{
    switch (folder.kind) {
    case RECOVERY_ROOT:
        if (i >= t->vm_count)
            return false;
        *out = (struct recovery_node){.kind = RECOVERY_VM, .vm = (uint32_t)i};
        snprintf(name, RECOVERY_NAME_MAX, "%s", t->vms[i].name);
        return true;
    case RECOVERY_VM:
        return entry_in_vm(t, folder, i, name, out);
    case RECOVERY_POINTS:
        return entry_in_points(t, folder, i, name, out);
    case RECOVERY_POINT:
        return entry_in_point(t, folder, i, name, out);
    case RECOVERY_BRANCHES:
        return entry_in_branches(t, folder, i, name, out);
    case RECOVERY_BRANCH:
        return entry_in_branch(t, folder, i, name, out);
    default:
        return false;
    }
}

bool recovery_link(const struct recovery_tree *t, struct recovery_node n,
                   char out[RECOVERY_LINK_MAX], struct err *err)
{
    struct history_point point;
    char id[POINT_TIME_CHARS + 1];
    if (!(n.kind == RECOVERY_AT_LINK ? recovery_point(t, n, &point) : latest(t, n, &point)))
        return gone(t, n, err);
    point_time_format(point.ms, id);
    snprintf(out, RECOVERY_LINK_MAX, "%spoints/%s", n.kind == RECOVERY_AT_LINK ? "../" : "", id);
    return true;
}

static bool json_disks(cJSON *object, const struct epoch_disk *disks, size_t count, struct err *err)
{
    cJSON *array, *disk;
    if (!json_add_array(object, "disks", &array, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!json_append_object(array, &disk, err) ||
            !json_add_text(disk, "name", disks[i].name, err) ||
            !json_add_u64(disk, "bytes", disks[i].size_bytes, err))
            return false;
    }
    return true;
}

/* The members of `points --json`, and the disks. */
bool recovery_json(const struct recovery_tree *t, struct recovery_node n, struct buf *out,
                   struct err *err)
{
    struct epoch_disk disks[VM_DISKS_MAX];
    size_t count = disks_of(t, n, disks);
    struct history_point point;
    char id[POINT_TIME_CHARS + 1], generation[GENERATION_NAME_MAX];
    cJSON *object AUTO_JSON = NULL;

    if (!recovery_point(t, n, &point))
        return gone(t, n, err);
    point_time_format(point.ms, id);
    generation_name(point.generation, generation);
    if (!json_make(&object, err) || !json_add_text(object, "id", id, err) ||
        !json_add_text(object, "time", id, err) ||
        !json_add_u64(object, "epoch", point.epoch, err) ||
        !json_add_text(object, "generation", generation, err) ||
        !json_add_text(object, "kind", point.kind == POINT_APPLICATION ? "application" : "crash",
                       err) ||
        !json_add_text(object, "label", point.label, err) ||
        !json_add_u64(object, "bytes", point.data_bytes, err) ||
        !json_disks(object, disks, count, err) || !json_write(object, true, out, err))
        return false;
    buf_put(out, "\n", 1);
    return buf_ok(out, err);
}
