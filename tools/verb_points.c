/* SPDX-License-Identifier: MIT */
#include "common/rfc3339.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"json", NULL, false, false, "For scripts: one JSON object."},
    OPTIONS_END,
};

static const char *kind_name(enum point_kind k)
{
    return k == POINT_APPLICATION ? "application" : "crash";
}

static bool print_json(struct vm *vm, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *array, *row;
    if (!json_make(&j, err) || !json_add_text(j, "vm", vm->settings.name, err) ||
        !json_add_array(j, "points", &array, err))
        return false;
    for (size_t i = 0; i < history_points(vm->history); i++) {
        struct history_point p = history_point(vm->history, i);
        char id[POINT_TIME_CHARS + 1], generation[GENERATION_NAME_MAX];
        point_time_format(p.ms, id);
        generation_name(p.generation, generation);
        if (!json_append_object(array, &row, err) || !json_add_text(row, "id", id, err) ||
            !json_add_text(row, "time", id, err) || !json_add_u64(row, "epoch", p.epoch, err) ||
            !json_add_text(row, "generation", generation, err) ||
            !json_add_text(row, "kind", kind_name(p.kind), err) ||
            !json_add_text(row, "label", p.label, err) ||
            !json_add_u64(row, "bytes", p.data_bytes, err) ||
            !json_add_bool(row, "verified", p.verified, err))
            return false;
    }
    return json_print(j, err);
}

static bool print_table(struct vm *vm, struct err *err)
{
    static const char *const heads[] = {"POINT",    ">EPOCH", "KIND", ">BYTES",
                                        "VERIFIED", "LABEL",  NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    bool good = t != NULL;
    size_t count = history_points(vm->history);
    if (count == 0) {
        printf("%s: no recovery point yet\n", vm->settings.name);
        return true;
    }
    for (size_t i = 0; i < count && good; i++) {
        struct history_point p = history_point(vm->history, i);
        char id[POINT_TIME_CHARS + 1], size[OUTPUT_TEXT_MAX];
        point_time_format(p.ms, id);
        size_format(p.data_bytes, size);
        good = table_cell(t, "%s", id) && table_cell(t, "%llu", (unsigned long long)p.epoch) &&
               table_cell(t, "%s", kind_name(p.kind)) && table_cell(t, "%s", size) &&
               table_cell(t, "%s", p.verified ? "yes" : "-") && table_cell(t, "%s", p.label);
    }
    if (!good)
        return err_set(err, ERR_FULL, "out of memory");
    table_print(t, stdout);
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    if (!vm_load(call, call->options->operands[0], &vm, err) ||
        !vm_open_targets(&vm, VM_LOOKS, err) || !vm_open_history(&vm, err))
        return false;
    return option_given(call->options, "json") ? print_json(&vm, err) : print_table(&vm, err);
}

const struct verb verb_points = {
    .name = "points",
    .summary = "List the recovery points in the vault, oldest first",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
