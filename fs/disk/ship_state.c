/* SPDX-License-Identifier: MIT */
#include "fs/disk/ship_state.h"

#include "common/file.h"
#include "common/json.h"
#include "fs/disk/cut.h"

#include <fcntl.h>
#include <stdio.h>

#define STATE_BYTES_MAX (256u << 10)
#define PATH_BYTES      4096u

static void state_path(char out[PATH_BYTES], const char *folder, const char *name)
{
    snprintf(out, PATH_BYTES, "%s/%s", folder, name);
}

static bool load_json(struct world *w, const char *path, cJSON **out, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    if (!file_load(w, path, STATE_BYTES_MAX, &text, err))
        return false;
    if (json_parse(buf_span(&text), out, err))
        return true;
    err->kind = ERR_CORRUPT;
    return err_wrap(err, "%s is damaged", path);
}

static bool save_json(struct world *w, const char *path, const cJSON *json, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    if (!json_write(json, true, &text, err))
        return false;
    buf_put_u8(&text, '\n');
    return buf_ok(&text, err) && file_replace(w, path, 0600, buf_span(&text), err);
}

static bool parse_state(const cJSON *json, struct ship_state *out, struct err *err)
{
    const char *generation, *digest, *fenced;
    if (!json_text(json, "generation", &generation, err) ||
        !json_u64(json, "epoch", &out->epoch, err) || !json_text(json, "digest", &digest, err) ||
        !json_u64(json, "point_ms", &out->point_ms, err) ||
        !json_u64(json, "point_epoch", &out->point_epoch, err) ||
        !json_bool(json, "initial_done", &out->initial_done, err) ||
        !json_bool(json, "pass_open", &out->pass_open, err) ||
        !json_bool(json, "paused", &out->paused, err) || !json_text(json, "fenced", &fenced, err))
        return false;
    if (!generation_parse(generation, &out->generation) ||
        !hex_parse(digest, out->digest.bytes, sizeof out->digest.bytes))
        return err_set(err, ERR_CORRUPT, "a member has a wrong form");
    /* Not in a state of before there were later generations. */
    if (json_has(json, "compare_all") && !json_bool(json, "compare_all", &out->compare_all, err))
        return false;
    snprintf(out->fenced, sizeof out->fenced, "%s", fenced);
    /* It may have been saved, as for a pause, before entry 0 was looked at. */
    static const struct sha256 unknown;
    out->begun = !digests_equal(&out->digest, &unknown, sizeof unknown);
    return true;
}

bool ship_state_load(struct world *w, const char *folder, struct generation g,
                     struct ship_state *out, struct err *err)
{
    char path[PATH_BYTES];
    cJSON *json AUTO_JSON = NULL;
    struct err load = ERR_NONE;
    state_path(path, folder, "ship.json");
    *out = (struct ship_state){.generation = g};
    if (!load_json(w, path, &json, &load)) {
        if (load.kind == ERR_NOT_FOUND)
            return true;
        *err = load;
        return false;
    }
    if (!parse_state(json, out, err)) {
        err->kind = ERR_CORRUPT;
        return err_wrap(err, "%s is damaged", path);
    }
    if (out->generation.id != g.id || out->generation.number != g.number)
        return err_set(err, ERR_FENCED, "%s belongs to another generation than the VM's settings",
                       path);
    return true;
}

bool ship_state_save(struct world *w, const char *folder, const struct ship_state *state,
                     struct err *err)
{
    char path[PATH_BYTES];
    char generation[GENERATION_NAME_MAX];
    char digest[2 * SHA256_BYTES + 1];
    cJSON *json AUTO_JSON = NULL;
    state_path(path, folder, "ship.json");
    generation_name(state->generation, generation);
    hex_of(state->digest.bytes, sizeof state->digest.bytes, digest);
    return json_make(&json, err) && json_add_text(json, "generation", generation, err) &&
           json_add_u64(json, "epoch", state->epoch, err) &&
           json_add_text(json, "digest", digest, err) &&
           json_add_u64(json, "point_ms", state->point_ms, err) &&
           json_add_u64(json, "point_epoch", state->point_epoch, err) &&
           json_add_bool(json, "initial_done", state->initial_done, err) &&
           json_add_bool(json, "pass_open", state->pass_open, err) &&
           json_add_bool(json, "paused", state->paused, err) &&
           json_add_text(json, "fenced", state->fenced, err) &&
           (!state->compare_all || json_add_bool(json, "compare_all", true, err)) &&
           save_json(w, path, json, err);
}

/* Signed times do not fit json_u64: written as text, compared as text. */
static void look_of(const struct world_stat *st, char out[160])
{
    snprintf(out, 160, "device %llu inode %llu size %llu mtime %lld ctime %lld",
             (unsigned long long)st->device, (unsigned long long)st->inode,
             (unsigned long long)st->size, (long long)st->mtime_ns, (long long)st->ctime_ns);
}

static bool add_look(cJSON *disks, const struct source *s, size_t disk, struct err *err)
{
    struct world_stat st;
    char look[160];
    if (!source_disk_stat(s, disk, &st))
        return err_set(err, ERR_IO, "disk %s: cannot look at its file", source_disk_name(s, disk));
    look_of(&st, look);
    return json_add_text(disks, source_disk_name(s, disk), look, err);
}

bool ship_state_forget(struct world *w, const char *folder, struct err *err)
{
    static const char *const names[] = {"journal", "clean.json", "held.json"};
    char path[PATH_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        state_path(path, folder, names[i]);
        if (!file_remove(w, path, err))
            return false;
    }
    return true;
}

bool clean_record_make(struct world *w, const char *folder, const struct source *s,
                       const struct ship_state *state, struct err *err)
{
    char path[PATH_BYTES];
    char digest[2 * SHA256_BYTES + 1];
    cJSON *json AUTO_JSON = NULL;
    cJSON *disks;
    state_path(path, folder, "clean.json");
    hex_of(state->digest.bytes, sizeof state->digest.bytes, digest);
    if (!json_make(&json, err) || !json_add_text(json, "digest", digest, err) ||
        !json_add_object(json, "disks", &disks, err))
        return false;
    for (size_t i = 0; i < source_disks(s); i++)
        if (!add_look(disks, s, i, err))
            return false;
    return save_json(w, path, json, err);
}

static bool compare(const cJSON *json, const struct source *s, const struct ship_state *state,
                    enum clean_record *out, char why[200], struct err *err)
{
    char digest[2 * SHA256_BYTES + 1];
    const char *was;
    const cJSON *disks;
    *out = CLEAN_DIFFERS;
    hex_of(state->digest.bytes, sizeof state->digest.bytes, digest);
    if (!json_text(json, "digest", &was, err) || !json_object(json, "disks", &disks, err))
        return false;
    if (strcmp(was, digest) != 0) {
        snprintf(why, 200, "the log moved on since the clean stop");
        return true;
    }
    for (size_t i = 0; i < source_disks(s); i++) {
        struct world_stat st;
        char look[160];
        const char *name = source_disk_name(s, i);
        if (!source_disk_stat(s, i, &st))
            return err_set(err, ERR_IO, "disk %s: cannot look at its file", name);
        look_of(&st, look);
        bool block_device = st.block_device; /* it has no times that tell of writes */
        if (!block_device && json_has(disks, name)) {
            if (!json_text(disks, name, &was, err))
                return false;
            if (strcmp(was, look) == 0)
                continue;
        }
        snprintf(why, 200, "disk %s %s", name,
                 block_device ? "is a block device that was not held since the last mount"
                              : "was written or replaced while it was not mounted");
        return true;
    }
    *out = CLEAN_EQUAL;
    return true;
}

bool clean_record_compare(struct world *w, const char *folder, const struct source *s,
                          const struct ship_state *state, enum clean_record *out, char why[200],
                          struct err *err)
{
    char path[PATH_BYTES];
    cJSON *json AUTO_JSON = NULL;
    struct err load = ERR_NONE;
    state_path(path, folder, "clean.json");
    *out = CLEAN_ABSENT;
    why[0] = '\0';
    if (!load_json(w, path, &json, &load)) {
        if (load.kind == ERR_NOT_FOUND)
            return true;
        if (load.kind == ERR_CORRUPT) {
            *out = CLEAN_DIFFERS;
            snprintf(why, 200, "the record of the clean stop is damaged");
            return true;
        }
        *err = load;
        return false;
    }
    struct err wrong = ERR_NONE;
    if (compare(json, s, state, out, why, &wrong))
        return true;
    if (wrong.kind == ERR_IO)
        return err_set(err, ERR_IO, "%s", wrong.text);
    *out = CLEAN_DIFFERS;
    snprintf(why, 200, "the record of the clean stop is damaged: %.100s", wrong.text);
    return true;
}

bool clean_record_void(struct world *w, const char *folder, struct err *err)
{
    char path[PATH_BYTES];
    state_path(path, folder, "clean.json");
    return file_remove(w, path, err);
}

/* The marks of a disk are one file for as long as the disk is: never replaced, only written to. */
static bool marks_inode(struct world *w, const char *folder, const char *disk, uint64_t *inode,
                        struct err *err)
{
    struct world_file *file AUTO_FILE = NULL;
    struct world_stat st;
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s.marks", folder, disk);
    if (!file_open(w, path, O_RDONLY, 0, &file, err))
        return false;
    int rc = w->ops->stat(file, &st);
    *inode = rc == 0 ? st.inode : 0;
    return rc == 0 || err_errno(err, -rc, "cannot look at %s", path);
}

bool held_record_make(struct world *w, const char *folder, const struct source *s, struct err *err)
{
    char path[PATH_BYTES];
    cJSON *json AUTO_JSON = NULL;
    cJSON *disks, *marks;
    state_path(path, folder, "held.json");
    if (!json_make(&json, err) || !json_add_object(json, "inodes", &disks, err) ||
        !json_add_object(json, "marks", &marks, err))
        return false;
    for (size_t i = 0; i < source_disks(s); i++) {
        struct world_stat st;
        uint64_t inode;
        const char *name = source_disk_name(s, i);
        if (!source_disk_stat(s, i, &st))
            return err_set(err, ERR_IO, "disk %s: cannot look at its file", name);
        if (!st.block_device && !json_add_u64(disks, name, st.inode, err))
            return false;
        if (!marks_inode(w, folder, name, &inode, err) || !json_add_u64(marks, name, inode, err))
            return false;
    }
    return save_json(w, path, json, err);
}

/* *replaced: `was` has another inode for the name than the file that is there. */
static bool compare_inode(const cJSON *was, const char *name, uint64_t inode, bool *replaced,
                          struct err *err)
{
    uint64_t before;
    if (!json_has(was, name))
        return true;
    if (!json_u64(was, name, &before, err))
        return false;
    *replaced = before != inode;
    return true;
}

bool held_record_compare(struct world *w, const char *folder, const struct source *s,
                         bool *replaced, char why[200], struct err *err)
{
    char path[PATH_BYTES];
    cJSON *json AUTO_JSON = NULL;
    struct err load = ERR_NONE;
    const cJSON *disks, *marks = NULL; /* of an older version: no marks */
    state_path(path, folder, "held.json");
    *replaced = false;
    if (!load_json(w, path, &json, &load)) {
        if (load.kind == ERR_NOT_FOUND)
            return true;
        *err = load;
        return false;
    }
    if (!json_object(json, "inodes", &disks, err) ||
        (json_has(json, "marks") && !json_object(json, "marks", &marks, err)))
        return err_wrap(err, "%s", path);
    for (size_t i = 0; i < source_disks(s) && !*replaced; i++) {
        struct world_stat st;
        uint64_t inode;
        const char *name = source_disk_name(s, i);
        if (!source_disk_stat(s, i, &st))
            return err_set(err, ERR_IO, "disk %s: cannot look at its file", name);
        if (!st.block_device && !compare_inode(disks, name, st.inode, replaced, err))
            return err_wrap(err, "%s", path);
        if (*replaced)
            snprintf(why, 200, "disk %s is another file than the one that was mounted last", name);
        if (*replaced || marks == NULL)
            continue;
        if (!marks_inode(w, folder, name, &inode, err) ||
            !compare_inode(marks, name, inode, replaced, err))
            return err_wrap(err, "%s", path);
        if (*replaced)
            snprintf(why, 200, "the state in %.120s was put back from a copy", folder);
    }
    return true;
}
