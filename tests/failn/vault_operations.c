/* SPDX-License-Identifier: MIT */
#include "tests/failn/vault_operations.h"

#include "backend/history/thinner.h"
#include "tests/failn/failn.h"
#include "tests/failn/operations.h"

#define POINTS      6u
#define STEPS       500u
#define POLICY_KEEP "keep=1s:all,30d:1d"
#define GRACE       "grace=5s"

static bool open_vault(struct place_host *h, struct err *err)
{
    return place_host_open(h, err) && vm_open_targets(&h->vm, VM_PROCESSES, err) &&
           vm_open_caches(&h->vm, VM_PROCESSES, err) && vm_open_history(&h->vm, err);
}

/* --- thin: points go, their runs are merged, objects that none needs are removed --- */

static bool more_points(struct place *p, struct err *err)
{
    struct place_mount m;
    bool good = place_mount_open(p, true, &m, err);
    for (uint32_t i = 0; good && i < POINTS; i++) {
        failn_pass_ms(1500);
        good = place_write(&m, 0, 64, 16, err) && place_ship(&m, err) &&
               operations_said(place_process(), "process", err);
    }
    place_mount_close(&m);
    return good;
}

void prepare_thin(struct place *p)
{
    const char *const words[] = {"policy", PLACE_VM, POLICY_KEEP, GRACE, NULL};
    struct err err = ERR_NONE;
    operations_must(operations_prepare(p, &err) && more_points(p, &err) &&
                        operations_said(place_verb(words), "policy", &err),
                    &err);
    failn_pass_ms(5000);
}

/* Until looking once more changes nothing. */
static bool settle(struct thinner *t, struct err *err)
{
    uint64_t before = UINT64_MAX;
    for (unsigned i = 0; i < STEPS; i++) {
        enum thinner_result result = thinner_step(t, err);
        struct thinner_report now = thinner_report(t);
        uint64_t done = now.leaving + now.points + now.dropped + now.removed + now.compacted;
        if (result == THINNER_FAILED)
            return false;
        if (result == THINNER_WAITS)
            failn_pass_ms(1000);
        if (result != THINNER_IDLE)
            continue;
        if (done == before)
            return true;
        before = done;
        thinner_hurry(t);
    }
    return err_set(err, ERR_IO, "thinning comes to no end");
}

static bool thin(struct thinner_report *out, size_t *points, struct err *err)
{
    struct place_host h;
    struct thinner *t = NULL;
    bool good = open_vault(&h, err);
    if (good) {
        struct processor_config config = vm_processor(&h.vm);
        good = thinner_open(&config, h.vm.history, NULL, &t, err);
        if (good)
            thinner_hurry(t);
        good = good && settle(t, err);
        if (good) {
            *out = thinner_report(t);
            *points = history_points(h.vm.history);
        }
        thinner_close(&t);
    }
    place_host_close(&h);
    return good;
}

bool run_thin(struct place *p, struct err *err)
{
    struct thinner_report report;
    size_t points;
    (void)p;
    return thin(&report, &points, err);
}

bool check_thin(struct place *p, struct err *err)
{
    struct thinner_report report;
    size_t points;
    if (!thin(&report, &points, err) || !place_point_is_files(p, err))
        return false;
    /* Of a day the oldest; and the newest. Midnight may lie between. */
    if (points > 3)
        return err_set(err, ERR_IO, "%zu points are left", points);
    return (report.points == 0 && report.dropped == 0 && report.removed == 0) ||
           err_set(err, ERR_IO, "%llu points, %llu objects were left to go",
                   (unsigned long long)report.points,
                   (unsigned long long)(report.dropped + report.removed));
}

/* --- claim --- */

void prepare_claim(struct place *p)
{
    struct err err = ERR_NONE;
    operations_must(
        operations_prepare(p, &err) && operations_said(place_process(), "process", &err), &err);
}

/* Decided once, as a host keeps it. */
static bool decide(struct place *p, struct history *h, struct err *err)
{
    struct history_head head = history_head(h);
    struct claim claim = {
        .ends = head.generation, .parent = head.generation, .parent_epoch = head.epoch};
    if (p->truth->claim.generation.id != 0)
        return true;
    if (!claim_generation(h, &claim.generation, err))
        return false;
    p->truth->claim = claim;
    return true;
}

static struct claim_config config_of(const struct place_host *h)
{
    return (struct claim_config){.world = world_real(),
                                 .target = h->vm.targets[0],
                                 .cache = h->vm.caches[0],
                                 .vm = PLACE_VM,
                                 .keys = h->vm.keys,
                                 .label = "failed over to host b"};
}

static bool claim_in(struct place *p, struct place_host *h, struct err *err)
{
    struct claim_config config = config_of(h);
    struct claim_result result;
    if (!decide(p, h->vm.history, err) ||
        !history_begin_generation(&config, &p->truth->claim, &result, err))
        return false;
    return !result.fence_pending || err_set(err, ERR_IO, "the fence is pending: %s", result.reason);
}

bool run_claim(struct place *p, struct err *err)
{
    struct place_host h;
    bool good = open_vault(&h, err) && claim_in(p, &h, err);
    place_host_close(&h);
    return good;
}

static bool is_claimed(struct place *p, struct place_host *h, struct err *err)
{
    struct claim_config config = config_of(h);
    struct history_tail tail;
    if (!history_refresh(h->vm.history, err) ||
        !history_tail(&config, h->vm.history, p->truth->claim.ends, &tail, err))
        return false;
    if (history_head(h->vm.history).generation.id != p->truth->claim.generation.id)
        return err_set(err, ERR_IO, "the newest generation is not the claim's");
    return tail.fenced || err_set(err, ERR_IO, "the source's log has no fence");
}

bool check_claim(struct place *p, struct err *err)
{
    struct place_host h;
    bool good = open_vault(&h, err) && is_claimed(p, &h, err);
    place_host_close(&h);
    return good;
}

/* Its next point finds the slot taken. */
static bool source_is_fenced(struct place *p, struct err *err)
{
    struct place_mount m;
    bool good = place_mount_open(p, true, &m, err) && place_write(&m, 0, 0, 8, err);
    if (good && place_ship(&m, err))
        good = err_set(err, ERR_IO, "the source ships behind the claim");
    else if (good)
        good = err->kind == ERR_FENCED;
    place_mount_close(&m);
    return good;
}

bool after_claim(struct place *p, bool fresh, struct err *err)
{
    (void)fresh;
    return run_claim(p, err) && check_claim(p, err) && place_point_is_files(p, err) &&
           source_is_fenced(p, err);
}
