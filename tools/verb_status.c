/* SPDX-License-Identifier: MIT
 * status: what a running mount says of itself, and for other VMs what is known without one. */
#include "common/rfc3339.h"
#include "tools/control.h"
#include "tools/disk_lock.h"
#include "tools/failover/glance.h"
#include "tools/failover/moved.h"
#include "tools/failover/target_show.h"
#include "tools/failover/validate.h"
#include "tools/histories.h"
#include "tools/output.h"
#include "tools/vm.h"

#include <time.h>

#define ANSWER_MS          5000u
#define WATCH_PERIOD_S     2
#define WATCH_VAULT_ROUNDS 15u /* the vault is asked each so many */

static const struct option_spec options[] = {
    {"json", NULL, false, false, "For scripts: one JSON object."},
    {"watch", NULL, false, false, "Show it again every two seconds, until interrupted."},
    OPTIONS_END,
};

/* What the table and JSON show; `answer` is the mount's own, NULL without one. */
struct row {
    struct settings settings;
    cJSON *answer;
    char state[40];
    char reason[ERR_TEXT_MAX];
    char mount_point[PATH_MAX];
    uint64_t points, newest_ms; /* of a target */
    struct glance glance;
    struct protection *protection; /* NULL: nothing is known of it here */
    bool fresh;                    /* it is what the vault says now */
    struct moved moved;
    bool is_moved; /* the VM has left this host */
};

static void row_release(struct row *r)
{
    json_release(&r->answer);
    glance_release(&r->glance);
    protection_release(&r->protection);
    settings_release(&r->settings);
}

static void set_state(struct row *r, const char *state, const char *reason)
{
    snprintf(r->state, sizeof r->state, "%s", state);
    snprintf(r->reason, sizeof r->reason, "%s", reason);
}

static void look_at_vault(const struct verb_call *call, struct histories *held, struct row *r)
{
    struct history *h;
    struct err err = ERR_NONE;
    set_state(r, "target", "");
    if (!histories_read(held, call, &r->settings, &h, &err)) {
        set_state(r, "target", err.text);
        return;
    }
    r->points = history_points(h);
    if (r->points > 0)
        r->newest_ms = history_point(h, (size_t)r->points - 1).ms;
}

static void look_at_mount(const struct verb_call *call, struct row *r)
{
    struct err err = ERR_NONE;
    cJSON *request AUTO_JSON = NULL;
    const char *state, *reason;
    bool locked = vm_locked(call->paths, r->settings.name, r->mount_point);

    if (!locked)
        set_state(r, "not-mounted", "");
    else if (r->mount_point[0] == '\0')
        set_state(r, "not-mounted", "a command is at work on its disks");
    else if (!command_make("status", &request, &err) ||
             !vm_ask_again(call, r->settings.name, request, ANSWER_MS, &r->answer, &err) ||
             !json_text(r->answer, "state", &state, &err) ||
             !json_text(r->answer, "reason", &reason, &err))
        set_state(r, "stalled", "the mount's worker does not answer");
    else
        set_state(r, state, reason);
}

static bool look(const struct verb_call *call, const char *name, struct histories *held,
                 struct row *r, struct err *err)
{
    *r = (struct row){.answer = NULL};
    if (!settings_load(call->world, call->paths, name, &r->settings, err))
        return false;
    if (r->settings.role == ROLE_ENABLING)
        set_state(r, "not-enabled", "its enable has not finished: run the same command again");
    else if (r->settings.role == ROLE_TARGET)
        look_at_vault(call, held, r);
    else
        look_at_mount(call, r);
    return true;
}

/* --- failover --- */

/* A fence of this host is newer than what it last read of the vault. On a target it only tells
 * where the VM went that was here before. */
static const char *failover_state(const struct row *r)
{
    if (r->is_moved && r->settings.role == ROLE_SOURCE &&
        !(r->fresh && r->protection->state != PROTECTION_NONE))
        return protection_state_name(PROTECTION_FAILED_OVER);
    return protection_state_name(r->protection ? r->protection->state : PROTECTION_NONE);
}

static void look_at_fence(const struct verb_call *call, struct row *r)
{
    struct err err = ERR_NONE;
    if (!moved_read(call->world, call->paths, r->settings.name, &r->moved, &r->is_moved, &err))
        r->is_moved = false; /* it cannot be told; mount and hook refuse then, and say why */
}

/* --- JSON --- */

struct rows_json {
    cJSON *array;
    bool failed;
};

static void add_target_row(void *context, const char *name, const char *value)
{
    struct rows_json *rows = context;
    struct err ignored = ERR_NONE; /* memory alone: said once, at the end */
    cJSON *j;
    if (!json_append_object(rows->array, &j, &ignored) ||
        !json_add_text(j, "name", name, &ignored) || !json_add_text(j, "value", value, &ignored))
        rows->failed = true;
}

static bool add_protection(cJSON *j, const struct row *r, struct err *err)
{
    struct rows_json rows = {.failed = false};
    const struct protection *p = r->protection;
    if (!json_add_text(j, "failover", failover_state(r), err) ||
        !json_add_text(j, "domain", r->settings.machine->domain, err) ||
        !json_add_text(j, "home_host", p ? p->home_host : "", err) ||
        !json_add_text(j, "source_host", p ? p->source_host : "", err) ||
        !json_add_text(j, "target_host", p ? p->target_host : "", err) ||
        !json_add_text(j, "leaving_to", p ? p->leaving.host : "", err) ||
        !json_add_text(j, "moved_to", r->is_moved ? r->moved.host : "", err) ||
        !json_add_bool(j, "vault_read", r->fresh, err) ||
        !json_add_array(j, "target_settings", &rows.array, err))
        return false;
    if (p != NULL)
        target_show(p, &r->settings, add_target_row, &rows);
    return !rows.failed || err_set(err, ERR_FULL, "out of memory");
}

static bool add_point(cJSON *j, const char *name, uint64_t ms, struct err *err)
{
    char id[POINT_TIME_CHARS + 1] = "";
    if (ms)
        point_time_format(ms, id);
    return json_add_text(j, name, id, err);
}

/* The members that a running mount answers, as they came; null where there is no mount. */
static bool add_answer(cJSON *j, const struct row *r, struct err *err)
{
    static const char *const names[] = {"rpo_seconds",
                                        "cache_lag_seconds",
                                        "epoch",
                                        "pid",
                                        "worker_pid",
                                        "worker_restarts",
                                        "generation",
                                        "point",
                                        "applied_epoch",
                                        "applied_point",
                                        "processor",
                                        "dirty_bytes",
                                        "undo_bytes",
                                        "shipped_bytes",
                                        "pass_bytes_total",
                                        "pass_bytes_done",
                                        "rate_bytes_per_second",
                                        "abandoned_cuts",
                                        "upload_bytes_per_second",
                                        "write_bytes_per_second",
                                        "catch_up_seconds",
                                        "catch_up_idle_seconds",
                                        "cut_interval_seconds",
                                        "bandwidth_bytes_per_second",
                                        "hydration",
                                        "hydration_reason",
                                        "hydrated_bytes",
                                        "hydration_bytes_total",
                                        NULL};
    for (const char *const *name = names; *name; name++) {
        if (r->answer == NULL && r->settings.role == ROLE_TARGET && strcmp(*name, "point") == 0)
            continue; /* the vault's own stands there */
        const cJSON *value = r->answer ? cJSON_GetObjectItemCaseSensitive(r->answer, *name) : NULL;
        cJSON *copy = value ? cJSON_Duplicate(value, true) : cJSON_CreateNull();
        if (copy == NULL || !cJSON_AddItemToObject(j, *name, copy))
            return err_set(err, ERR_FULL, "out of memory");
    }
    return true;
}

static bool row_json(cJSON *array, const struct row *r, struct err *err)
{
    const struct settings *s = &r->settings;
    cJSON *j, *disks, *disk;
    if (!json_append_object(array, &j, err) || !json_add_text(j, "name", s->name, err) ||
        !json_add_text(j, "role", role_name(s->role), err) ||
        !json_add_text(j, "state", r->state, err) || !json_add_text(j, "reason", r->reason, err) ||
        !add_protection(j, r, err) || !json_add_text(j, "mount_point", r->mount_point, err) ||
        !add_answer(j, r, err) || !json_add_text(j, "cache", s->stores[0].cache, err) ||
        !json_add_text(j, "target", s->stores[0].target, err) ||
        !json_add_text(j, "bandwidth", settings_bandwidth(s), err) ||
        !json_add_bool(j, "encrypted", s->encrypted, err))
        return false;
    if (s->role == ROLE_TARGET &&
        !(add_point(j, "point", r->newest_ms, err) && json_add_u64(j, "points", r->points, err)))
        return false;
    if (!json_add_array(j, "disks", &disks, err))
        return false;
    for (uint16_t i = 0; i < s->disk_count; i++)
        if (!json_append_object(disks, &disk, err) ||
            !json_add_text(disk, "name", s->disks[i].name, err) ||
            !json_add_text(disk, "path", s->disks[i].path, err) ||
            !json_add_u64(disk, "size_bytes", s->disks[i].size_bytes, err))
            return false;
    return true;
}

/* --- for people --- */

static uint64_t number_of(const struct row *r, const char *name)
{
    uint64_t v = 0;
    struct err ignored = ERR_NONE; /* an older mount may not say it */
    return r->answer && json_u64(r->answer, name, &v, &ignored) ? v : 0;
}

static bool row_cells(struct table *t, const struct row *r)
{
    char rpo[OUTPUT_TEXT_MAX] = "-", lag[OUTPUT_TEXT_MAX] = "-", dirty[OUTPUT_TEXT_MAX] = "-";
    char epoch[24] = "-";
    if (r->answer && r->settings.replicate) {
        age_format(number_of(r, "rpo_seconds"), rpo);
        age_format(number_of(r, "cache_lag_seconds"), lag);
    }
    if (r->answer) {
        size_format(number_of(r, "dirty_bytes"), dirty);
        snprintf(epoch, sizeof epoch, "%llu", (unsigned long long)number_of(r, "epoch"));
    }
    return table_cell(t, "%s", r->settings.name) && table_cell(t, "%s", r->state) &&
           table_cell(t, "%s", rpo) && table_cell(t, "%s", lag) && table_cell(t, "%s", epoch) &&
           table_cell(t, "%s", dirty) &&
           table_cell(t, "%s", r->mount_point[0] ? r->mount_point : "-");
}

/* The bound that holds now: of a mount as it says, else as the settings have it. */
static uint64_t bound_now(const struct verb_call *call, const struct row *r)
{
    struct bandwidth *b AUTO_BANDWIDTH = NULL;
    struct err ignored = ERR_NONE; /* the settings were read, so the spec is one */
    if (r->answer)
        return number_of(r, "bandwidth_bytes_per_second");
    return bandwidth_make(call->world, settings_bandwidth(&r->settings), NULL, NULL, &b, &ignored)
               ? bandwidth_now(b)
               : 0;
}

static void print_bandwidth(const struct verb_call *call, const struct row *r)
{
    char rate[OUTPUT_TEXT_MAX];
    uint64_t bound = bound_now(call, r);
    size_format(bound, rate);
    if (r->settings.bandwidth[0])
        printf("%s: bandwidth %s, now %s%s\n", r->settings.name, r->settings.bandwidth,
               bound ? rate : "unlimited", bound ? "/s" : "");
}

static void print_pass(const struct row *r)
{
    char text[160];
    uint64_t total = number_of(r, "pass_bytes_total"), done = number_of(r, "pass_bytes_done");
    uint64_t rate = number_of(r, "rate_bytes_per_second");
    if (total == 0 || done >= total)
        return;
    progress_format("  pass", done, total, rate ? done * 1000 / rate * 1000000 : 0, text);
    puts(text);
}

/* What the processor told of itself, when it is not well. */
static void print_processor(const struct row *r)
{
    const char *health = "";
    struct err ignored = ERR_NONE; /* an older mount does not say it */
    if (r->answer && json_text(r->answer, "processor", &health, &ignored) && health[0] &&
        strcmp(health, "ok") != 0)
        printf("%s: the processor says: %s\n", r->settings.name, health);
}

static void print_validated(const struct verb_call *call, const struct row *r)
{
    char id[POINT_TIME_CHARS + 1];
    struct validated last;
    validated_read(call, r->settings.name, &last);
    if (last.ms == 0 || r->settings.role != ROLE_TARGET)
        return;
    point_time_format(last.ms, id);
    printf("%s: validated %s: %llu errors, %llu warnings%s%s\n", r->settings.name, id,
           (unsigned long long)last.errors, (unsigned long long)last.warnings,
           last.errors + last.warnings > 0 ? ": farshore validate " : "",
           last.errors + last.warnings > 0 ? r->settings.name : "");
}

/* While a failed-over VM still reads from the vault. */
static void print_hydration(const struct row *r)
{
    const char *state = "", *reason = "";
    char done[OUTPUT_TEXT_MAX], total[OUTPUT_TEXT_MAX];
    struct err ignored = ERR_NONE; /* most mounts have nothing to say */
    if (r->answer == NULL || !json_text(r->answer, "hydration", &state, &ignored) ||
        !json_text(r->answer, "hydration_reason", &reason, &ignored))
        return;
    size_format(number_of(r, "hydrated_bytes"), done);
    size_format(number_of(r, "hydration_bytes_total"), total);
    printf("%s: hydration %s, %s of %s is local%s%s\n", r->settings.name, state, done, total,
           reason[0] ? ": " : "", reason);
}

static void print_target_row(void *context, const char *name, const char *value)
{
    const struct row *r = context;
    if (strcmp(name, "disk") != 0) /* shown with the stores */
        printf("%s: target %s: %s\n", r->settings.name, name, value);
}

/* One VM was asked for: all that is known; else what is out of the ordinary. */
static void print_failover(const struct verb_call *call, const struct row *r)
{
    const struct protection *p = r->protection;
    const char *name = r->settings.name;
    if (r->is_moved)
        printf("%s: runs elsewhere%s%s%s%s: neither mounted nor started here\n", name,
               r->moved.host[0] ? ", on " : "", r->moved.host, r->moved.reason[0] ? ", " : "",
               r->moved.reason);
    if (p != NULL && p->leaving.host[0] != '\0')
        printf("%s: a planned failover to %s was begun and is not done: the same command goes on, "
               "farshore cancel %s lets the VM run on %s again\n",
               name, p->leaving.host, name, p->source_host);
    if (p == NULL || (call->options->operand_count == 0 && p->state == PROTECTION_NONE))
        return;
    printf("%s: failover %s, runs on %s%s\n", name, failover_state(r),
           p->source_host[0] ? p->source_host : "a host not known",
           r->fresh ? "" : " (as last read: the vault does not answer)");
    for (uint16_t i = 0; i < p->test_count; i++)
        printf("%s: test failover %s on %s, of %s\n", name, p->tests[i].id, p->tests[i].host,
               p->tests[i].point);
    if (call->options->operand_count > 0)
        target_show(p, &r->settings, print_target_row, (void *)r);
}

static void print_details(const struct verb_call *call, const struct row *r)
{
    if (r->reason[0])
        printf("%s: %s\n", r->settings.name, r->reason);
    print_processor(r);
    print_failover(call, r);
    print_validated(call, r);
    print_hydration(r);
    if (r->settings.role == ROLE_TARGET && r->newest_ms) {
        char id[POINT_TIME_CHARS + 1];
        point_time_format(r->newest_ms, id);
        printf("%s: %llu points, the newest %s\n", r->settings.name, (unsigned long long)r->points,
               id);
    }
    printf("%s: cache %s, target %s\n", r->settings.name, r->settings.stores[0].cache,
           r->settings.stores[0].target);
    print_bandwidth(call, r);
    print_pass(r);
}

/* --- all --- */

struct rows {
    struct row *all;
    size_t count;
};

static void rows_release(struct rows *r)
{
    for (size_t i = 0; i < r->count; i++)
        row_release(&r->all[i]);
    free(TAKE(r->all));
}

/* All are asked at once, so that a dead store costs its time once. `ask` false: as last read. */
static void look_at_protection(const struct verb_call *call, struct rows *rows, bool ask)
{
    struct world *w = call->world;
    for (size_t i = 0; ask && i < rows->count; i++)
        if (rows->all[i].settings.role != ROLE_ENABLING)
            glance_begin(&rows->all[i].glance, rows->all[i].settings.name);
    uint64_t deadline_ns = w->ops->boottime_ns(w) + GLANCE_MS * 1000000ull;
    for (size_t i = 0; i < rows->count; i++) {
        struct row *r = &rows->all[i];
        snprintf(r->glance.vm, sizeof r->glance.vm, "%s", r->settings.name);
        glance_end(call, &r->glance, deadline_ns, &r->protection, &r->fresh);
        look_at_fence(call, r);
    }
}

static bool look_at_all(const struct verb_call *call, struct histories *held, struct rows *rows,
                        bool ask, struct err *err)
{
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    const struct options *o = call->options;
    if (o->operand_count == 0 && !vm_names_list(call->paths, &names, err))
        return false;
    size_t count = o->operand_count ? 1 : names.count;
    rows->all = calloc(count + 1, sizeof *rows->all);
    if (rows->all == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const char *name = o->operand_count ? o->operands[0] : names.names[i];
        if (!look(call, name, held, &rows->all[i], err))
            return false;
        rows->count++;
    }
    look_at_protection(call, rows, ask);
    return true;
}

static bool print_json(const struct rows *rows, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *array;
    if (!json_make(&j, err) || !json_add_array(j, "vms", &array, err))
        return false;
    for (size_t i = 0; i < rows->count; i++)
        if (!row_json(array, &rows->all[i], err))
            return false;
    return json_print(j, err);
}

static bool print_table(const struct verb_call *call, const struct rows *rows, struct err *err)
{
    static const char *const heads[] = {"VM",     "STATE",  ">RPO",    ">CACHE LAG",
                                        ">EPOCH", ">DIRTY", "MOUNTED", NULL};
    struct table *t AUTO_TABLE = table_make(heads);
    bool good = t != NULL;
    if (rows->count == 0) {
        puts("no VM here: farshore enable (on its host) or join (on a target host)");
        return true;
    }
    for (size_t i = 0; i < rows->count && good; i++)
        good = row_cells(t, &rows->all[i]);
    if (!good)
        return err_set(err, ERR_FULL, "out of memory");
    table_print(t, stdout);
    putchar('\n');
    for (size_t i = 0; i < rows->count; i++)
        print_details(call, &rows->all[i]);
    return true;
}

static bool run(const struct verb_call *call, struct err *err)
{
    bool json = option_given(call->options, "json"), watch = option_given(call->options, "watch");
    struct histories held AUTO_HISTORIES = {.all = NULL};
    for (unsigned round = 0;; round++) {
        struct rows rows CLEANUP(rows_release) = {.all = NULL};
        if (!look_at_all(call, &held, &rows, round % WATCH_VAULT_ROUNDS == 0, err))
            return false;
        if (watch && !json && isatty(STDOUT_FILENO))
            fputs("\033[H\033[J", stdout);
        if (!(json ? print_json(&rows, err) : print_table(call, &rows, err)))
            return false;
        if (!watch)
            return true;
        if (fflush(stdout) != 0)
            return err_set(err, ERR_IO, "standard output cannot be written");
        nanosleep(&(struct timespec){.tv_sec = WATCH_PERIOD_S}, NULL);
    }
}

const struct verb verb_status = {
    .name = "status",
    .summary = "Show states, RPO and lag",
    .operands = "[VM]",
    .operands_least = 0,
    .operands_most = 1,
    .options = options,
    .run = run,
};
