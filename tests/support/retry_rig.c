/* SPDX-License-Identifier: MIT */
#include "tests/support/retry_rig.h"

static enum memory_fault by_script(void *context, const struct memory_call *call)
{
    struct retry_rig *r = context;
    size_t at = r->call_count++;
    if (at < RETRY_SCRIPT_MAX)
        r->calls[at] = "PGSLR"[call->op];
    if (r->at_call != NULL)
        r->at_call(r);
    return at < RETRY_SCRIPT_MAX && r->script[at] != MEMORY_PASS ? r->script[at] : r->rest;
}

static bool pause_on_paper(void *context, uint32_t ms)
{
    struct retry_rig *r = context;
    if (r->pause_count < RETRY_PAUSES_MAX)
        r->pauses[r->pause_count++] = ms;
    fake_world_advance(r->world, ms * 1000000ull);
    if (r->at_pause != NULL)
        r->at_pause(r);
    if (r->cancels)
        store_cancel(r->store, true);
    return !r->cancels;
}

struct retry_policy retry_rig_policy(struct retry_rig *r)
{
    return (struct retry_policy){.pause_ms = 100,
                                 .pause_max_ms = 800,
                                 .deadline_ms = 60000,
                                 .budget = 1000,
                                 .pause = pause_on_paper,
                                 .context = r};
}

void retry_rig_open(struct retry_rig *r, struct store *inner, const struct retry_policy *policy)
{
    struct err err = ERR_NONE;
    store_close(&r->store);
    check_ok(store_retry(r->world, inner, policy, &r->store, &err), err);
}

void retry_rig_open_bucket(struct retry_rig *r, const struct retry_policy *policy)
{
    struct store *inner = memory_store_open(r->bucket);
    memory_store_hook(inner, by_script, NULL, r);
    retry_rig_open(r, inner, policy);
}

void retry_rig_make(struct retry_rig *r)
{
    *r = (struct retry_rig){.world = fake_world_make(1), .bucket = memory_bucket_make()};
    struct retry_policy policy = retry_rig_policy(r);
    retry_rig_open_bucket(r, &policy);
}

void retry_rig_release(struct retry_rig *r)
{
    store_close(&r->store);
    memory_bucket_release(&r->bucket);
    fake_world_release(&r->world);
}

void retry_rig_restart(struct retry_rig *r)
{
    memset(r->calls, 0, sizeof r->calls);
    r->call_count = r->pause_count = 0;
}
