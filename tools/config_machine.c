/* SPDX-License-Identifier: MIT */
#include "tools/config_machine.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct text {
    const char *name;
    size_t offset, size;
} texts[] = {
#define TEXT(field)                                                                                \
    {                                                                                              \
#field, offsetof(struct settings_machine, field),                                          \
            sizeof((struct settings_machine *)NULL)->field                                         \
    }
    TEXT(mount), TEXT(domain), TEXT(start), TEXT(stop), TEXT(freeze), TEXT(thaw),
#undef TEXT
};

#define TEXTS (sizeof texts / sizeof *texts)

bool config_machine_make(struct settings *out, struct err *err)
{
    out->replicate = true;
    out->machine = calloc(1, sizeof *out->machine);
    out->origin.targets = calloc(VM_DISKS_MAX + 1, sizeof *out->origin.targets);
    return (out->machine && out->origin.targets) || err_set(err, ERR_FULL, "out of memory");
}

void config_machine_release(struct settings *s)
{
    free(TAKE(s->machine));
    free(TAKE(s->origin.targets));
}

static bool parse_texts(const cJSON *j, struct settings_machine *m, struct err *err)
{
    for (size_t i = 0; i < TEXTS; i++) {
        const char *text;
        if (!json_has(j, texts[i].name))
            continue;
        if (!json_text(j, texts[i].name, &text, err))
            return false;
        if (strlen(text) >= texts[i].size)
            return err_set(err, ERR_INVALID, "\"%s\" is longer than %zu characters", texts[i].name,
                           texts[i].size - 1);
        memcpy((char *)m + texts[i].offset, text, strlen(text) + 1);
    }
    return m->mount[0] == '\0' || m->mount[0] == '/' ||
           err_set(err, ERR_INVALID, "\"mount\" must start with /");
}

static bool parse_targets(const cJSON *array, struct settings_origin *o, struct err *err)
{
    const cJSON *j;
    cJSON_ArrayForEach(j, array)
    {
        if (o->target_count == VM_DISKS_MAX + 1)
            return err_set(err, ERR_INVALID, "\"targets\" has more than %u", VM_DISKS_MAX + 1);
        if (!cJSON_IsString(j) || strlen(j->valuestring) >= STORE_URL_MAX)
            return err_set(err, ERR_INVALID, "\"targets\" must hold URLs of at most %u characters",
                           STORE_URL_MAX - 1);
        strcpy(o->targets[o->target_count++], j->valuestring);
    }
    return o->target_count > 0 || err_set(err, ERR_INVALID, "\"targets\" is empty");
}

static bool parse_origin(const cJSON *j, struct settings_origin *o, struct err *err)
{
    static const char *const known[] = {"generation", "epoch", "point_ms", "targets", NULL};
    const cJSON *targets;
    const char *generation;
    if (!json_only(j, known, err) || !json_text(j, "generation", &generation, err) ||
        !json_u64(j, "epoch", &o->epoch, err) || !json_u64(j, "point_ms", &o->point_ms, err) ||
        !json_array(j, "targets", &targets, err) || !parse_targets(targets, o, err))
        return false;
    return generation_parse(generation, &o->generation) ||
           err_set(err, ERR_INVALID, "\"generation\" is no generation's name");
}

bool config_machine_parse(const cJSON *j, struct settings *out, struct err *err)
{
    const cJSON *origin;
    if (!parse_texts(j, out->machine, err) ||
        (json_has(j, "replicate") && !json_bool(j, "replicate", &out->replicate, err)))
        return false;
    if (!json_has(j, "origin"))
        return true;
    if (out->role != ROLE_SOURCE)
        return err_set(err, ERR_INVALID, "\"origin\" belongs to a source only");
    return json_object(j, "origin", &origin, err) &&
           (parse_origin(origin, &out->origin, err) || err_wrap(err, "origin"));
}

static bool write_origin(cJSON *j, const struct settings_origin *o, struct err *err)
{
    char generation[GENERATION_NAME_MAX];
    cJSON *origin, *targets;
    generation_name(o->generation, generation);
    if (!json_add_object(j, "origin", &origin, err) ||
        !json_add_text(origin, "generation", generation, err) ||
        !json_add_u64(origin, "epoch", o->epoch, err) ||
        !json_add_u64(origin, "point_ms", o->point_ms, err) ||
        !json_add_array(origin, "targets", &targets, err))
        return false;
    for (uint16_t i = 0; i < o->target_count; i++) {
        cJSON *text = cJSON_CreateString(o->targets[i]);
        if (text == NULL || !cJSON_AddItemToArray(targets, text)) {
            cJSON_Delete(text);
            return err_set(err, ERR_FULL, "out of memory");
        }
    }
    return true;
}

bool config_machine_write(cJSON *j, const struct settings *s, struct err *err)
{
    for (size_t i = 0; i < TEXTS; i++) {
        const char *text = (const char *)s->machine + texts[i].offset;
        if (text[0] != '\0' && !json_add_text(j, texts[i].name, text, err))
            return false;
    }
    return (s->replicate || json_add_bool(j, "replicate", false, err)) &&
           (s->origin.generation.number == 0 || write_origin(j, &s->origin, err));
}
