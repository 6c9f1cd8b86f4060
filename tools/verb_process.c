/* SPDX-License-Identifier: MIT
 * The processor service: a loop over the VMs known here. Stateless, so any end is a clean one;
 * signals end it between two steps. */
#include "backend/history/claim.h"
#include "backend/history/thinner.h"
#include "common/log.h"
#include "common/rfc3339.h"
#include "tools/ending.h"
#include "tools/vm.h"

#define INTERVAL_DEFAULT_S 5u
#define INTERVAL_MAX_S     3600u
#define AGAIN_MAX          1000u /* times in a row that a step may be overtaken */

static const struct option_spec options[] = {
    {"once", NULL, false, false, "Return when no complete epoch is left unapplied."},
    {"branch", NULL, false, false,
     "First apply what ended generations left in the cache, as branches."},
    {"interval", "SECONDS", false, false, "How often to look for new epochs, 5 unless told."},
    OPTIONS_END,
};

/* Retention in a round, in steps and time: then what waits is applied first. */
#define THIN_STEPS 64u
#define THIN_MS    2000u

struct work {
    struct vm vm;
    struct processor_config config;
    struct processor *processor;
    struct thinner *thinner;
    char state[PATH_BYTES_MAX];
    bool reported;      /* its present failure was said */
    bool thin_reported; /* likewise */
};

static void work_close(struct work *k)
{
    thinner_close(&k->thinner);
    processor_close(&k->processor);
    vm_release(&k->vm);
    k->vm = VM_NONE;
}

static void cleanup_processor(struct processor **p)
{
    processor_close(p);
}

/* All that waits in the log of a generation that has ended. */
static bool apply_branch(const struct processor_config *config, struct history *history,
                         struct generation generation, struct err *err)
{
    struct processor *p CLEANUP(cleanup_processor) = NULL;
    struct processor_config branch = *config;
    char name[GENERATION_NAME_MAX];
    branch.branch = generation;
    branch.history = history;
    generation_name(generation, name);
    if (!processor_open(&branch, &p, err))
        return false;
    for (unsigned again = 0; again < AGAIN_MAX; again++)
        switch (processor_step(p, err)) {
        case PROCESSOR_APPLIED:
            printf("%s: applied what waited of %s, as a branch\n", config->vm, name);
            again = 0;
            break;
        case PROCESSOR_IDLE:
            return true;
        case PROCESSOR_AGAIN:
            break;
        default:
            return err_wrap(err, "%s, generation %s", config->vm, name);
        }
    return err_set(err, ERR_TRANSIENT, "%s: overtaken again and again: try later", config->vm);
}

static bool apply_branches(const struct processor_config *config, struct vm *vm, struct err *err)
{
    struct claim_config claim = {.world = config->world,
                                 .target = vm->targets[0],
                                 .cache = vm->caches[0],
                                 .vm = config->vm,
                                 .keys = config->keys};
    struct history_tail tail;
    if (!vm_open_history(vm, err))
        return false;
    for (size_t i = 0; i + 1 < history_generations(vm->history); i++) {
        struct generation g = history_generation(vm->history, i).generation;
        if (!history_tail(&claim, vm->history, g, &tail, err) ||
            (tail.epochs > 0 && !apply_branch(config, vm->history, g, err)))
            return false;
    }
    return true;
}

static bool work_open(const struct verb_call *call, const char *name, struct work *k,
                      struct err *err)
{
    struct vm *vm = &k->vm;
    if (k->processor)
        return true;
    if (!vm_load(call, name, vm, err) || !vm_open_targets(vm, VM_PROCESSES, err) ||
        !vm_open_caches(vm, VM_PROCESSES, err))
        return false;
    k->config = vm_processor(vm);
    k->config.fences = true;
    path_state(call->paths, vm->settings.name, k->state);
    k->config.state = k->state;
    if (option_given(call->options, "branch") && !apply_branches(&k->config, vm, err))
        return false;
    k->config.history = vm->history;
    return processor_open(&k->config, &k->processor, err) &&
           thinner_open(&k->config, processor_history(k->processor), NULL, &k->thinner, err);
}

static void print_applied(struct work *k)
{
    struct history_head head = processor_head(k->processor);
    char id[POINT_TIME_CHARS + 1] = "no point yet";
    if (head.point_ms)
        point_time_format(head.point_ms, id);
    printf("%s: applied up to epoch %llu, %s\n", k->vm.settings.name,
           (unsigned long long)head.epoch, id);
    fflush(stdout);
}

/* They may have changed since the last round: `set` the bandwidth, others the vault. */
static bool take_settings(const struct verb_call *call, struct work *k, struct err *err)
{
    struct settings now AUTO_SETTINGS = {.disks = NULL};
    struct settings *held = &k->vm.settings;
    if (!settings_load(call->world, call->paths, held->name, &now, err))
        return false;
    if (!settings_same_vault(&now, held))
        return err_set(err, ERR_BUSY, "%s is in another vault now", held->name);
    if (strcmp(now.bandwidth, held->bandwidth) == 0)
        return true;
    memcpy(held->bandwidth, now.bandwidth, sizeof held->bandwidth);
    log_info("%s: bandwidth %s", held->name, settings_bandwidth(held));
    return bandwidth_set(k->vm.bandwidth, settings_bandwidth(held), err);
}

/* Applies what waits for one VM. *end: a signal came. */
static bool apply_all(struct work *k, struct ending *ending, bool *end, struct err *err)
{
    for (unsigned again = 0; again < AGAIN_MAX && !(*end = ending_asked(ending, 0));) {
        switch (processor_step(k->processor, err)) {
        case PROCESSOR_APPLIED:
            print_applied(k);
            again = 0;
            break;
        case PROCESSOR_IDLE:
            return true;
        case PROCESSOR_AGAIN:
            again++;
            break;
        default:
            return err_wrap(err, "%s", k->vm.settings.name);
        }
    }
    return *end || err_set(err, ERR_TRANSIENT, "%s: overtaken again and again: try later",
                           k->vm.settings.name);
}

/* Lets points go, now that all is applied. It fails for itself: what was shipped is applied all the
 * same. */
static void thin(struct work *k, struct ending *ending, bool *end)
{
    struct err err = ERR_NONE;
    struct thinner_report before = thinner_report(k->thinner);
    enum thinner_result result = THINNER_WORKED;
    struct world *w = k->config.world;
    uint64_t until_ns = w->ops->boottime_ns(w) + THIN_MS * 1000000ull;
    for (unsigned i = 0; i < THIN_STEPS && (result == THINNER_WORKED || result == THINNER_AGAIN) &&
                         w->ops->boottime_ns(w) < until_ns && !(*end = ending_asked(ending, 0));
         i++)
        result = thinner_step(k->thinner, &err);
    struct thinner_report now = thinner_report(k->thinner);
    if (now.points > before.points || now.removed > before.removed)
        log_info("%s: %llu points thinned out, %llu objects removed", k->vm.settings.name,
                 (unsigned long long)(now.points - before.points),
                 (unsigned long long)(now.removed - before.removed));
    if (result == THINNER_FAILED && !k->thin_reported)
        log_error("%s: retention: %s", k->vm.settings.name, err.text);
    k->thin_reported = result == THINNER_FAILED;
}

/* One round for one VM. A failure is said once, then again only after it went well; with --once it
 * is the command's own. */
static bool one_round(const struct verb_call *call, const char *name, struct work *k,
                      struct ending *ending, bool *end, struct err *err)
{
    bool good = work_open(call, name, k, err) && take_settings(call, k, err) &&
                apply_all(k, ending, end, err);
    if (!good && !k->reported && !option_given(call->options, "once"))
        log_error("%s", err->text);
    /* Also what is full: that is how there is room again. */
    if ((good || (k->thinner != NULL && err->kind == ERR_FULL)) && !*end)
        thin(k, ending, end);
    if (good && k->reported)
        log_info("%s: works again", name);
    k->reported = !good;
    /* Reading the history anew takes long: not for what ends when a store is back, or has room. */
    if (!good && (k->thinner == NULL || (err->kind != ERR_TRANSIENT && err->kind != ERR_FULL)))
        work_close(k);
    return good;
}

/* The VMs to work on: those named, or all known here as of now. */
static bool choose(const struct verb_call *call, struct vm_names *names, struct err *err)
{
    const struct options *o = call->options;
    if (o->operand_count == 0)
        return vm_names_list(call->paths, names, err);
    *names = (struct vm_names){.names = calloc(o->operand_count, sizeof *names->names),
                               .count = o->operand_count};
    if (names->names == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (size_t i = 0; i < o->operand_count; i++) {
        struct settings s AUTO_SETTINGS = {.disks = NULL};
        if (!settings_load(call->world, call->paths, o->operands[i], &s, err))
            return false;
        memcpy(names->names[i], s.name, sizeof s.name);
    }
    return true;
}

struct works {
    struct work **all; /* NULL: it goes on among newer ones */
    struct vm_names names;
};

static void works_release(struct works *w)
{
    for (size_t i = 0; i < w->names.count && w->all; i++) {
        if (w->all[i] == NULL)
            continue;
        work_close(w->all[i]);
        free(w->all[i]);
    }
    free(TAKE(w->all));
    vm_names_release(&w->names);
}

static bool same_names(const struct vm_names *a, const struct vm_names *b)
{
    return a->count == b->count &&
           (a->count == 0 || memcmp(a->names, b->names, a->count * sizeof *a->names) == 0);
}

static struct work *work_take(struct works *w, const char *name)
{
    for (size_t i = 0; i < w->names.count && w->all; i++)
        if (w->all[i] != NULL && strcmp(w->names.names[i], name) == 0)
            return TAKE(w->all[i]);
    return calloc(1, sizeof(struct work));
}

/* VMs may have been joined or disabled since; those that stay go on with the history that they have
 * read. */
static bool refresh(const struct verb_call *call, struct works *w, struct err *err)
{
    struct works now CLEANUP(works_release) = {.all = NULL};
    if (!choose(call, &now.names, err))
        return false;
    if (w->all && same_names(&now.names, &w->names))
        return true;
    now.all = calloc(now.names.count + 1, sizeof *now.all);
    if (now.all == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (size_t i = 0; i < now.names.count; i++)
        if ((now.all[i] = work_take(w, now.names.names[i])) == NULL)
            return err_set(err, ERR_FULL, "out of memory");
    struct works was = *w;
    *w = now;
    now = was;
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    struct ending *ending AUTO_ENDING = NULL; /* the last to go: it bounds the rest */
    struct works works CLEANUP(works_release) = {.all = NULL};
    bool once = option_given(call->options, "once"), end = false;
    uint64_t interval_s;
    if (!option_number(call->options, "interval", INTERVAL_DEFAULT_S, 1, INTERVAL_MAX_S,
                       &interval_s, err) ||
        !ending_begin(&ending, err))
        return false;
    do {
        bool good = refresh(call, &works, err);
        if (!good)
            return false;
        if (once && works.names.count == 0)
            return err_set(err, ERR_NOT_FOUND, "no VM here: farshore join URL --key FILE");
        for (size_t i = 0; i < works.names.count && !end; i++) {
            struct err failure = ERR_NONE;
            if (one_round(call, works.names.names[i], works.all[i], ending, &end, &failure))
                continue;
            if (!good && once)
                log_error("%s", err->text);
            good = false;
            *err = failure;
        }
        if (once && good && end)
            return err_set(err, ERR_CANCELLED, "interrupted before all was applied");
        if (once)
            return good;
    } while (!end && !ending_asked(ending, interval_s * 1000));
    return true;
}

const struct verb verb_process = {
    .name = "process",
    .summary = "Apply what was shipped to the target store",
    .operands = "[VM ...]",
    .operands_least = 0,
    .operands_most = OPERANDS_MAX,
    .options = options,
    .run = run,
};
