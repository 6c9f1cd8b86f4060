/* SPDX-License-Identifier: MIT */
#include "common/rfc3339.h"
#include "fs/view/view.h"
#include "tools/limits.h"
#include "tools/output.h"
#include "tools/vm.h"

static const struct option_spec options[] = {
    {"point", "POINT", false, false,
     "A point's id, an RFC 3339 time, now-5m, latest (the default), latest-application ..."},
    {"json", NULL, false, false, "For scripts: one JSON object."},
    OPTIONS_END,
};

static bool prove(struct vm *vm, const struct history_point *point, uint64_t *bytes,
                  struct err *err)
{
    struct view_cache *cache CLEANUP(view_cache_release) = NULL;
    struct view *view CLEANUP(view_close) = NULL;
    if (!view_cache_make(VERIFY_CACHE_BYTES, &cache, err))
        return false;
    struct view_config config = {
        .history = vm->history,
        .keys = vm->keys,
        .targets = vm->targets,
        .target_count = vm->settings.store_count,
        .cache = cache,
    };
    if (!view_open(&config, point, &view, err))
        return false;
    struct progress p = progress_begin(vm->call->world, stderr, "verify");
    bool good = view_verify(view, progress_show, &p, bytes, err);
    progress_end(&p);
    return good;
}

/* Says in the history what was found. Who may only read the vault finds it all the same. */
static bool record(struct vm *vm, const struct history_point *point, enum point_verdict verdict)
{
    struct err why = ERR_NONE;
    if (history_append_verdict(vm->history, point, verdict, &why))
        return true;
    fprintf(stderr, "farshore: the vault does not say so: %s\n", why.text);
    return false;
}

static bool print_json(const char *vm, const char *id, uint64_t bytes, bool recorded,
                       struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    return json_make(&j, err) && json_add_text(j, "vm", vm, err) &&
           json_add_text(j, "point", id, err) && json_add_bool(j, "verified", true, err) &&
           json_add_u64(j, "bytes", bytes, err) && json_add_bool(j, "recorded", recorded, err) &&
           json_print(j, err);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct history_point point;
    const char *wanted = option_value(call->options, "point", 0);
    char id[POINT_TIME_CHARS + 1], size[OUTPUT_TEXT_MAX];
    uint64_t bytes = 0;

    if (!vm_load(call, call->options->operands[0], &vm, err) ||
        !vm_open_targets(&vm, VM_LOOKS, err) || !vm_open_history(&vm, err) ||
        !history_resolve(vm.history, wanted ? wanted : "latest", &point, err))
        return false;
    point_time_format(point.ms, id);
    if (!prove(&vm, &point, &bytes, err)) {
        bool marked = err->kind == ERR_CORRUPT && record(&vm, &point, POINT_DAMAGED);
        return err_wrap(err, "%s, point %s is NOT proven%s", vm.settings.name, id,
                        marked ? ", and marked as damaged" : "");
    }
    bool recorded = record(&vm, &point, POINT_VERIFIED);
    if (option_given(call->options, "json"))
        return print_json(vm.settings.name, id, bytes, recorded, err);
    size_format(bytes, size);
    printf("%s: point %s verified, %s proven\n", vm.settings.name, id, size);
    return true;
}

const struct verb verb_verify = {
    .name = "verify",
    .summary = "Read a whole recovery point and prove every block",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
