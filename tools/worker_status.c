/* SPDX-License-Identifier: MIT */
#include "tools/worker_status.h"

#include "common/rfc3339.h"
#include "fs/disk/cut.h"

#include <unistd.h>

bool worker_add_point(cJSON *j, const char *name, uint64_t ms, struct err *err)
{
    char id[POINT_TIME_CHARS + 1] = "";
    if (ms)
        point_time_format(ms, id);
    return json_add_text(j, name, id, err);
}

static const char *state_of(const struct worker_status *w, const struct shipper_status *s)
{
    return w->shipper ? replication_state_name(s->state) : "not-replicating";
}

/* What a VM says that was failed over and is not protected again. */
static void status_alone(const struct worker_status *w, struct shipper_status *s)
{
    *s = (struct shipper_status){.generation = w->vm->settings.generation,
                                 .dirty_bytes = source_dirty_blocks(w->source) << BLOCK_SHIFT};
    snprintf(s->reason, sizeof s->reason,
             "failed over: farshore reprotect %s protects it again, after the commit",
             w->vm->settings.name);
}

static bool add_hydration(const struct worker_status *w, cJSON *j, struct err *err)
{
    struct hydrate_status h;
    if (w->hydrate == NULL)
        return true;
    hydrate_status(w->hydrate, &h);
    /* A read may wait for a while before hydration fails by it: the guest's reads wait as well. */
    if (!h.complete && h.reason[0] == '\0')
        origin_view_reason(w->origin, h.reason);
    const char *state = h.complete ? "complete" : h.reason[0] != '\0' ? "stalled(view)" : "running";
    return json_add_text(j, "hydration", state, err) &&
           json_add_text(j, "hydration_reason", h.reason, err) &&
           json_add_u64(j, "hydrated_bytes", h.done_bytes, err) &&
           json_add_u64(j, "hydration_bytes_total", h.total_bytes, err);
}

/* What cannot be said is left out, and null in `status --json`. */
static bool add_forecast(cJSON *j, const struct pace_forecast *f, struct err *err)
{
    return (f->catch_up_seconds == PACE_UNKNOWN ||
            json_add_u64(j, "catch_up_seconds", f->catch_up_seconds, err)) &&
           (f->quiet_seconds == PACE_UNKNOWN ||
            json_add_u64(j, "catch_up_idle_seconds", f->quiet_seconds, err));
}

bool worker_status_json(const struct worker_status *w, cJSON *j, struct err *err)
{
    struct shipper_status s;
    char generation[GENERATION_NAME_MAX];
    if (w->shipper)
        shipper_status(w->shipper, &s);
    else
        status_alone(w, &s);
    generation_name(s.generation, generation);
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {
        {"rpo_seconds", s.rpo_seconds},
        {"cache_lag_seconds", s.cache_lag_seconds},
        {"epoch", s.epoch},
        {"pid", (uint64_t)worker_keeper_pid(w->inherited)},
        {"worker_pid", (uint64_t)getpid()},
        {"worker_restarts", w->inherited->restarts},
        {"applied_epoch", s.applied_epoch},
        {"dirty_bytes", s.dirty_bytes},
        {"undo_bytes", s.undo_bytes},
        {"shipped_bytes", s.shipped_bytes},
        {"pass_bytes_total", s.pass_bytes_total},
        {"pass_bytes_done", s.pass_bytes_done},
        {"rate_bytes_per_second", s.rate_bytes_per_second},
        {"abandoned_cuts", s.abandoned_cuts},
        {"upload_bytes_per_second", s.forecast.upload_bytes_per_second},
        {"write_bytes_per_second", s.forecast.write_bytes_per_second},
        {"cut_interval_seconds", w->cut_interval_s},
        {"bandwidth_bytes_per_second", w->vm->bandwidth ? bandwidth_now(w->vm->bandwidth) : 0},
    };
    if (!json_add_text(j, "state", state_of(w, &s), err) ||
        !json_add_text(j, "reason", s.reason, err) ||
        !json_add_text(j, "generation", generation, err) ||
        !worker_add_point(j, "point", s.point_ms, err) ||
        !worker_add_point(j, "applied_point", s.applied_ms, err) ||
        !json_add_text(j, "processor", s.processor, err))
        return false;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!json_add_u64(j, numbers[i].name, numbers[i].value, err))
            return false;
    return (w->shipper == NULL || add_forecast(j, &s.forecast, err)) && add_hydration(w, j, err);
}
