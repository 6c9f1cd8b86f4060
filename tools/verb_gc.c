/* SPDX-License-Identifier: MIT */
#include "backend/history/thinner.h"
#include "tools/ending.h"
#include "tools/output.h"
#include "tools/vm.h"

#define WAIT_MS   500u
#define AGAIN_MAX 1000u /* times in a row that a step may be overtaken */
#define FULLS_MAX 3u    /* times in a row that the store may be full */

static const struct option_spec options[] = {
    {"dry-run", NULL, false, false, "Change nothing; say what would go."},
    {"json", NULL, false, false, "For scripts: one JSON object."},
    {"wait", NULL, false, false, "Wait for the grace periods, until nothing is left to do."},
    OPTIONS_END,
};

static void cleanup_thinner(struct thinner **t)
{
    thinner_close(t);
}

/* What is done only now and then is asked for again, until that changes nothing. */
static bool at_rest(struct thinner *t, struct thinner_report *before)
{
    struct thinner_report now = thinner_report(t);
    bool same = now.points == before->points && now.dropped == before->dropped &&
                now.removed == before->removed && now.leaving == before->leaving &&
                now.leveled == before->leveled && now.compacted == before->compacted;
    *before = now;
    thinner_hurry(t);
    return same;
}

/* What a full store refused was done since. */
static bool made_up_for(const struct thinner_report *now, const struct thinner_report *then)
{
    return now->merges > then->merges || now->leveled > then->leveled ||
           now->compacted > then->compacted;
}

/* *waits: something is left to do when the grace period is over. */
static bool collect(struct thinner *t, const struct verb_call *call, bool *waits, struct err *err)
{
    struct ending *ending AUTO_ENDING = NULL;
    struct thinner_report before = {.leaving = UINT64_MAX}, at_full = {.leaving = 0};
    struct err full = ERR_NONE;
    unsigned fulls = 0;
    bool stays = option_given(call->options, "wait");
    bool once = option_given(call->options, "dry-run");
    if (!ending_begin(&ending, err))
        return false;
    for (unsigned again = 0; again < AGAIN_MAX;) {
        enum thinner_result result = thinner_step(t, err);
        *waits = result == THINNER_WAITS;
        struct thinner_report now = thinner_report(t);
        if (result == THINNER_FAILED) {
            /* A full store takes no merged run: what is removed after that may give room. */
            if (err->kind != ERR_FULL || ++fulls > FULLS_MAX)
                return false;
            full = *err;
            at_full = now;
            continue;
        }
        if (made_up_for(&now, &at_full)) {
            full = ERR_NONE;
            fulls = 0;
        }
        again = result == THINNER_AGAIN ? again + 1 : 0;
        bool rests = result == THINNER_WAITS || result == THINNER_IDLE;
        if (rests && (once || (*waits ? !stays : at_rest(t, &before)))) {
            *err = full;
            return full.kind == ERR_OK;
        }
        if (ending_asked(ending, *waits ? WAIT_MS : 0))
            return err_set(err, ERR_CANCELLED, "interrupted; what was done stays done");
    }
    return err_set(err, ERR_BUSY, "others keep writing to this history; try again");
}

static bool print_json(const struct thinner_report *r, bool waits, bool dry, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    return json_make(&j, err) && json_add_bool(j, "dry_run", dry, err) &&
           json_add_u64(j, "points_leaving", r->leaving, err) &&
           json_add_u64(j, "points_gone", r->points, err) &&
           json_add_u64(j, "objects_dropped", r->dropped, err) &&
           json_add_u64(j, "bytes_dropped", r->dropped_bytes, err) &&
           json_add_u64(j, "objects_removed", r->removed, err) &&
           json_add_u64(j, "bytes_removed", r->removed_bytes, err) &&
           json_add_u64(j, "objects_locked", r->locked, err) &&
           json_add_u64(j, "runs_leveled", r->leveled, err) &&
           json_add_u64(j, "runs_compacted", r->compacted, err) &&
           json_add_u64(j, "bytes_moved", r->moved_bytes, err) &&
           json_add_bool(j, "waiting", waits, err) && json_print(j, err);
}

static void print_text(const char *vm, const struct thinner_report *r, bool waits, bool dry)
{
    char dropped[OUTPUT_TEXT_MAX], removed[OUTPUT_TEXT_MAX], moved[OUTPUT_TEXT_MAX];
    size_format(r->moved_bytes, moved);
    size_format(r->dropped_bytes, dropped);
    size_format(r->removed_bytes, removed);
    if (dry) {
        printf("%s: %llu points would go; %llu objects, %s, are needed by no point\n", vm,
               (unsigned long long)r->leaving, (unsigned long long)r->dropped, dropped);
        return;
    }
    printf("%s: %llu points are leaving, %llu are gone; %llu objects are dropped, %s; %llu were "
           "removed, %s\n",
           vm, (unsigned long long)r->leaving, (unsigned long long)r->points,
           (unsigned long long)r->dropped, dropped, (unsigned long long)r->removed, removed);
    if (r->leveled > 0)
        printf("%s: %llu lists of what points hold were rewritten\n", vm,
               (unsigned long long)r->leveled);
    if (r->compacted > 0)
        printf("%s: %s moved out of objects that are mostly needed no more\n", vm, moved);
    if (r->locked > 0)
        printf("%s: %llu objects stay for now: the store, or a pin, keeps them\n", vm,
               (unsigned long long)r->locked);
    if (waits)
        printf("%s: the rest goes when the grace period is over: `farshore process` does it, or "
               "this command with --wait\n",
               vm);
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct vm vm AUTO_VM = VM_NONE;
    struct thinner *t CLEANUP(cleanup_thinner) = NULL;
    bool waits = false, dry = option_given(call->options, "dry-run");
    if (!vm_load(call, call->options->operands[0], &vm, err) ||
        !vm_open_targets(&vm, VM_PROCESSES, err) || !vm_open_history(&vm, err))
        return false;
    struct processor_config config = {.world = call->world,
                                      .vm = vm.settings.name,
                                      .keys = vm.keys,
                                      .targets = vm.targets,
                                      .store_count = vm.settings.store_count};
    if (!thinner_open(&config, vm.history, NULL, &t, err))
        return false;
    thinner_hurry(t);
    if (dry)
        thinner_only_look(t);
    if (!collect(t, call, &waits, err))
        return false;
    struct thinner_report report = thinner_report(t);
    if (option_given(call->options, "json"))
        return print_json(&report, waits, dry, err);
    print_text(vm.settings.name, &report, waits, dry);
    return true;
}

const struct verb verb_gc = {
    .name = "gc",
    .summary = "Thin out points now, and remove what none needs",
    .operands = "VM",
    .operands_least = 1,
    .operands_most = 1,
    .options = options,
    .run = run,
};
