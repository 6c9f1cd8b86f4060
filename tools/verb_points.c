/* SPDX-License-Identifier: MIT */
#include "backend/history/claim.h"
#include "common/rfc3339.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"branch", NULL, false, false,
     "What generations left behind when the VM went on from an earlier point."},
    {"json", NULL, false, false, "For scripts: one JSON object."},
    OPTIONS_END,
};

static const char *kind_name(enum point_kind k)
{
    return k == POINT_APPLICATION ? "application" : "crash";
}

static const char *verdict_name(enum point_verdict v)
{
    static const char *const names[] = {"-", "yes", "DAMAGED"};
    return names[v];
}

/* What is to be listed. */
struct listing {
    struct history_point *rows;
    size_t count;
    bool branch;
};

static void listing_release(struct listing *l)
{
    free(l->rows);
}

static bool listing_make(struct vm *vm, bool branch, struct listing *out, struct err *err)
{
    *out = (struct listing){.branch = branch};
    if (branch)
        return history_branches(vm->history, &out->rows, &out->count, err);
    size_t count = history_points(vm->history);
    out->rows = calloc(count + 1, sizeof *out->rows);
    if (out->rows == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    while (out->count < count) {
        out->rows[out->count] = history_point(vm->history, out->count);
        out->count++;
    }
    return true;
}

/* --- what was never applied --- */

/* Looks into the log of the i-th generation, one that has ended. False: the cache does not answer.
 */
static bool tail_of(struct vm *vm, size_t i, struct history_tail *out, struct err *err)
{
    struct claim_config config = {.world = vm->call->world,
                                  .target = vm->targets[0],
                                  .cache = vm->caches[0],
                                  .vm = vm->settings.name,
                                  .keys = vm->keys};
    return history_tail(&config, vm->history, history_generation(vm->history, i).generation, out,
                        err);
}

static bool json_waiting(struct vm *vm, cJSON *j, struct err *err)
{
    cJSON *array, *row;
    struct err why = ERR_NONE;
    if (!json_add_array(j, "waiting", &array, err))
        return false;
    bool reached = vm_open_caches(vm, VM_GLANCES, &why);
    for (size_t i = 0; reached && i + 1 < history_generations(vm->history); i++) {
        struct history_tail tail;
        char name[GENERATION_NAME_MAX];
        reached = tail_of(vm, i, &tail, &why);
        if (!reached || (tail.epochs == 0 && tail.fenced))
            continue;
        generation_name(history_generation(vm->history, i).generation, name);
        if (!json_append_object(array, &row, err) || !json_add_text(row, "generation", name, err) ||
            !json_add_u64(row, "epochs", tail.epochs, err) ||
            !json_add_u64(row, "points", tail.points, err) ||
            !json_add_bool(row, "fenced", tail.fenced, err))
            return false;
    }
    return reached || json_add_text(j, "waiting_unknown", why.text, err);
}

static void print_waiting(struct vm *vm)
{
    struct err why = ERR_NONE;
    bool reached = vm_open_caches(vm, VM_GLANCES, &why);
    for (size_t i = 0; reached && i + 1 < history_generations(vm->history); i++) {
        struct history_tail tail;
        char name[GENERATION_NAME_MAX];
        reached = tail_of(vm, i, &tail, &why);
        if (!reached || tail.epochs == 0)
            continue;
        generation_name(history_generation(vm->history, i).generation, name);
        printf("%llu epochs of %s, %llu of them points, wait in the cache store; to make a branch "
               "of them: farshore process %s --once --branch\n",
               (unsigned long long)tail.epochs, name, (unsigned long long)tail.points,
               vm->settings.name);
    }
    if (!reached)
        printf("what waits in the cache store is not known: %s\n", why.text);
}

/* --- output --- */

static bool json_point(cJSON *row, const struct history_point *p, bool branch, struct err *err)
{
    char id[POINT_TIME_CHARS + 1], generation[GENERATION_NAME_MAX], name[POINT_NAME_MAX];
    point_time_format(p->ms, id);
    generation_name(p->generation, generation);
    history_point_name(p, name);
    return json_add_text(row, "id", id, err) && json_add_text(row, "time", id, err) &&
           json_add_u64(row, "epoch", p->epoch, err) &&
           json_add_text(row, "generation", generation, err) &&
           (!branch || json_add_text(row, "name", name, err)) &&
           json_add_text(row, "kind", kind_name(p->kind), err) &&
           json_add_text(row, "label", p->label, err) &&
           json_add_u64(row, "bytes", p->data_bytes, err) &&
           json_add_bool(row, "verified", p->verdict == POINT_VERIFIED, err) &&
           json_add_bool(row, "damaged", p->verdict == POINT_DAMAGED, err);
}

static bool print_json(struct vm *vm, const struct listing *l, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *array, *row;
    if (!json_make(&j, err) || !json_add_text(j, "vm", vm->settings.name, err) ||
        !json_add_array(j, "points", &array, err))
        return false;
    for (size_t i = 0; i < l->count; i++)
        if (!json_append_object(array, &row, err) || !json_point(row, &l->rows[i], l->branch, err))
            return false;
    return (!l->branch || json_waiting(vm, j, err)) && json_print(j, err);
}

static bool add_row(struct table *t, const struct history_point *p, bool branch)
{
    char id[POINT_TIME_CHARS + 1], size[OUTPUT_TEXT_MAX], name[POINT_NAME_MAX];
    point_time_format(p->ms, id);
    size_format(p->data_bytes, size);
    history_point_name(p, name);
    return table_cell(t, "%s", branch ? name : id) &&
           table_cell(t, "%llu", (unsigned long long)p->epoch) &&
           table_cell(t, "%s", kind_name(p->kind)) && table_cell(t, "%s", size) &&
           table_cell(t, "%s", verdict_name(p->verdict)) && table_cell(t, "%s", p->label);
}

static bool print_table(struct vm *vm, const struct listing *l, struct err *err)
{
    static const char *const heads[] = {"POINT",    ">EPOCH", "KIND", ">BYTES",
                                        "VERIFIED", "LABEL",  NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    bool good = t != NULL;
    if (l->count == 0)
        printf("%s: %s\n", vm->settings.name,
               l->branch ? "no point was left behind" : "no recovery point yet");
    for (size_t i = 0; i < l->count && good; i++)
        good = add_row(t, &l->rows[i], l->branch);
    if (!good)
        return err_set(err, ERR_FULL, "out of memory");
    if (l->count > 0)
        table_print(t, stdout);
    if (l->branch)
        print_waiting(vm);
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct listing listing CLEANUP(listing_release) = {.rows = NULL};
    if (!vm_load(call, call->options->operands[0], &vm, err) ||
        !vm_open_targets(&vm, VM_LOOKS, err) || !vm_open_history(&vm, err) ||
        !listing_make(&vm, option_given(call->options, "branch"), &listing, err))
        return false;
    return option_given(call->options, "json") ? print_json(&vm, &listing, err)
                                               : print_table(&vm, &listing, err);
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
