/* SPDX-License-Identifier: MIT */
#include "tools/failover/validate.h"

#include "backend/history/claim.h"
#include "common/rfc3339.h"
#include "tools/failover/local_disks.h"
#include "tools/failover/runner_private.h"
#include "tools/output.h"

#include <sys/statvfs.h>
#include <unistd.h>

#define WAITING_MAX      64u   /* epochs in the cache that a running processor leaves */
#define OLD_S            3600u /* age of the newest point that is worth a word */
#define ROOM_LEAST_BYTES (1ull << 30)

/* --- stores and history --- */

static void check_points(struct flow *f, struct findings *out)
{
    struct history *h = f->vm->history;
    const char *vm = f->vm->settings.name;
    struct world *w = f->call->world;
    char age[OUTPUT_TEXT_MAX];
    if (history_points(h) == 0) {
        finding_add(out, true, "%s has no recovery point yet: let farshore process run", vm);
        return;
    }
    struct history_head head = history_head(h);
    struct history_point sound;
    struct err err = ERR_NONE;
    if (!history_resolve(h, "latest", &sound, &err)) {
        finding_add(out, true, "%s", err.text);
        return;
    }
    bool damaged = sound.ms != head.newest_ms;
    uint64_t now_ms = w->ops->realtime_ns(w) / 1000000;
    uint64_t newest_ms = damaged ? sound.until_ms : head.point_ms;
    uint64_t old_s = now_ms > newest_ms ? (now_ms - newest_ms) / 1000 : 0;
    age_format(old_s, age);
    if (damaged)
        finding_add(out, false, "newer points than that of %s ago are damaged: farshore points %s",
                    age, vm);
    else if (old_s > OLD_S)
        finding_add(out, false, "the newest point is %s old: farshore status on the source", age);
}

static void check_waiting(struct flow *f, struct findings *out)
{
    struct vm *vm = f->vm;
    struct err err = ERR_NONE;
    struct history_tail tail;
    const struct claim_config config = {.world = f->call->world,
                                        .target = vm->targets[0],
                                        .cache = vm->caches[0],
                                        .vm = vm->settings.name,
                                        .keys = vm->keys};
    if (!history_tail(&config, vm->history, history_head(vm->history).generation, &tail, &err))
        finding_add(out, false, "the cache store: %s", err.text);
    else if (tail.epochs > WAITING_MAX)
        finding_add(out, false, "%llu epochs wait in the cache store: does farshore process run?",
                    (unsigned long long)tail.epochs);
}

static void check_stores(struct flow *f, struct findings *out)
{
    struct err err = ERR_NONE;
    if (!flow_history(f, &err)) {
        finding_add(out, true, "%s", err.text);
        return;
    }
    check_points(f, out);
    if (!flow_caches(f, &err))
        finding_add(out, false,
                    "the cache store does not answer (%s): an unplanned failover works without it, "
                    "a planned one does not",
                    err.text);
    else
        check_waiting(f, out);
    if (f->protection->failover.fence_pending)
        finding_add(out, false,
                    "the old source is not fenced yet: its cache store was out of reach; farshore "
                    "host tries again");
}

/* --- this host --- */

static void check_room(struct flow *f, struct findings *out)
{
    char folder[PATH_BYTES_MAX], free_text[OUTPUT_TEXT_MAX], want_text[OUTPUT_TEXT_MAX];
    struct statvfs s;
    uint64_t want = 0;
    local_disks_folder(f, folder);
    while (statvfs(folder, &s) != 0 && strrchr(folder, '/') > folder)
        *strrchr(folder, '/') = '\0'; /* it is made later */
    for (uint16_t i = 0; i < f->vm->settings.disk_count; i++)
        want += f->vm->settings.disks[i].size_bytes;
    uint64_t room = (uint64_t)s.f_bavail * s.f_frsize;
    size_format(room, free_text);
    size_format(want, want_text);
    if (room < ROOM_LEAST_BYTES)
        finding_add(out, true, "%s has %s left: make room, or farshore set %s target.folder=DIR",
                    folder, free_text, f->vm->settings.name);
    else if (room < want)
        finding_add(out, false, "%s has %s left, and the disks may grow to %s", folder, free_text,
                    want_text);
}

static void check_capacity(struct runner *r, const struct machine_facts *m, struct findings *out)
{
    const struct target_settings *s = &r->protection->settings;
    struct virt_capacity c;
    struct err err = ERR_NONE;
    if (!virt_capacity(r->virt, &c, &err)) {
        finding_add(out, false, "%s", err.text);
        return;
    }
    if (target_setting_on(s, "memory-check") && m->memory_kib > c.memory_free_kib)
        finding_add(out, true,
                    "the machine wants %llu MiB of memory and %llu are free here: stop something, "
                    "or farshore set %s target.memory-check=off",
                    (unsigned long long)m->memory_kib / 1024,
                    (unsigned long long)c.memory_free_kib / 1024, r->vm->settings.name);
    if (target_setting_on(s, "cpu-check") && m->vcpus > c.cpus)
        finding_add(out, true,
                    "the machine has %u processors and this host %u: farshore set %s "
                    "target.cpu-check=off when that is meant",
                    m->vcpus, c.cpus, r->vm->settings.name);
}

struct same_uuid {
    struct runner *runner;
    const char *name, *uuid;
    struct findings *out;
};

static bool check_uuid(void *context, const char *name, bool active)
{
    struct same_uuid *s = context;
    char *xml AUTO_FREE = NULL;
    struct machine *m AUTO_MACHINE = NULL;
    struct err ignored = ERR_NONE; /* it went away, or is none that we can read */
    (void)active;
    if (strcmp(name, s->name) != 0 &&
        virt_xml(s->runner->virt, name, VIRT_DEFINED, &xml, &ignored) &&
        machine_parse(span_of_text(xml), &m, &ignored) &&
        strcmp(machine_facts(m)->uuid, s->uuid) == 0)
        finding_add(s->out, true, "domain %s has the UUID of this VM: undefine it", name);
    return true;
}

static void check_names(struct runner *r, const struct machine_facts *m, struct findings *out)
{
    char name[PROTECTION_NAME_MAX];
    struct err err = ERR_NONE;
    runner_name(r, NULL, name);
    if (!runner_name_free(r, name, &err))
        finding_add(out, true, "%s", err.text);
    struct same_uuid s = {.runner = r, .name = name, .uuid = m->uuid, .out = out};
    err = ERR_NONE;
    if (!virt_list(r->virt, check_uuid, &s, &err))
        finding_add(out, false, "%s", err.text);
}

/* --- networks --- */

static void check_address(struct runner *r, uint16_t i, const struct network_place *place,
                          struct findings *out)
{
    const struct protection_nic *nic = &r->protection->nics[i];
    struct network n AUTO_NETWORK = {.subnet_count = 0};
    char address[VIRT_ADDRESS_MAX + 1];
    struct err err = ERR_NONE;
    bool kept = true;
    if (!network_load(r->virt, place->network, &n, &err)) {
        finding_add(out, true, "network %s: %s", place->network, err.text);
        return;
    }
    const struct subnet *subnet = network_pick_subnet(&n, place->subnet);
    if (subnet == NULL || subnet->ipv6 || nic->address[0] == '\0')
        return;
    if (!network_would_reserve(r->virt, &n, subnet->name, nic->mac, nic->address, address, &kept,
                               &err))
        finding_add(out, true, "NIC %u in network %s: %s", i, place->network, err.text);
    else if (!kept)
        finding_add(out, false, "NIC %u: address %s is not free in %s, it would get %s", i,
                    nic->address, place->network, address);
}

static void check_nic(struct runner *r, uint16_t i, struct findings *out)
{
    struct network_place place;
    char *xml AUTO_FREE = NULL;
    struct err err = ERR_NONE;
    runner_place(r, i, &place);
    if (virt_network_xml(r->virt, place.network, &xml, &err)) {
        check_address(r, i, &place, out);
        return;
    }
    if (err.kind != ERR_NOT_FOUND)
        finding_add(out, true, "network %s: %s", place.network, err.text);
    else if (protection_network(r->protection, r->protection->nics[i].network) == NULL)
        finding_add(out, true,
                    "there is no network %s here, and none is known to make it like: make one, or "
                    "farshore set %s target.network.%u=NETWORK",
                    place.network, r->vm->settings.name, i);
    else
        finding_add(out, false, "network %s is not here: a failover makes it", place.network);
}

static void check_machine(struct flow *f, struct findings *out)
{
    struct runner r AUTO_RUNNER = {.virt = NULL};
    struct machine *m AUTO_MACHINE = NULL;
    struct err err = ERR_NONE;
    if (!runner_open(f->vm, f->protection, &r, &err)) {
        finding_add(out, true, "%s", err.text);
        return;
    }
    if (r.virt == NULL) {
        if (f->vm->settings.machine->stop[0] == '\0')
            finding_add(out, true,
                        "there is no command that stops the VM: farshore set %s "
                        "stop=COMMAND",
                        f->vm->settings.name);
        return;
    }
    if (!machine_parse(buf_span(&f->protection->xml), &m, &err) || !machine_can_move(m, &err)) {
        finding_add(out, true, "%s", err.text);
        return;
    }
    check_capacity(&r, machine_facts(m), out);
    check_names(&r, machine_facts(m), out);
    for (uint16_t i = 0; i < f->protection->nic_count; i++)
        check_nic(&r, i, out);
}

void validate_here(struct flow *f, struct findings *out)
{
    if (access("/dev/fuse", R_OK | W_OK) != 0)
        finding_add(out, true, "there is no /dev/fuse here: modprobe fuse");
    check_stores(f, out);
    check_room(f, out);
    check_machine(f, out);
}

bool validate_refuse(struct flow *f, struct err *err)
{
    struct findings *found AUTO_FREE = calloc(1, sizeof *found);
    if (found == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    validate_here(f, found);
    for (size_t i = 0; i < found->count; i++)
        if (!found->rows[i].error && !flow_step(f, "validate", err, "%.200s", found->rows[i].text))
            return false;
    return findings_refuse(found, f->vm->settings.name, err);
}

/* --- what was found last --- */

static void validated_path(const struct verb_call *call, const char *vm, char out[PATH_BYTES_MAX])
{
    char state[PATH_BYTES_MAX];
    path_state(call->paths, vm, state);
    snprintf(out, PATH_BYTES_MAX, "%.1100s/validated.json", state);
}

bool validated_write(struct flow *f, const struct findings *found, struct err *err)
{
    char path[PATH_BYTES_MAX], state[PATH_BYTES_MAX];
    struct world *w = f->call->world;
    cJSON *j AUTO_JSON = NULL;
    struct buf text AUTO_BUF = BUF_NONE;
    uint64_t errors = findings_errors(found);
    path_state(f->call->paths, f->vm->settings.name, state);
    validated_path(f->call, f->vm->settings.name, path);
    return json_make(&j, err) &&
           json_add_u64(j, "time_ms", w->ops->realtime_ns(w) / 1000000, err) &&
           json_add_u64(j, "errors", errors, err) &&
           json_add_u64(j, "warnings", found->count - errors, err) &&
           json_write(j, true, &text, err) && dir_make(w, state, 0700, err) &&
           file_replace(w, path, 0600, buf_span(&text), err);
}

void validated_read(const struct verb_call *call, const char *vm, struct validated *out)
{
    char path[PATH_BYTES_MAX];
    cJSON *j AUTO_JSON = NULL;
    struct buf text AUTO_BUF = BUF_NONE;
    struct err ignored = ERR_NONE; /* it is for show */
    validated_path(call, vm, path);
    if (!file_load(call->world, path, 4096, &text, &ignored) ||
        !json_parse(buf_span(&text), &j, &ignored) || !json_u64(j, "time_ms", &out->ms, &ignored) ||
        !json_u64(j, "errors", &out->errors, &ignored) ||
        !json_u64(j, "warnings", &out->warnings, &ignored))
        out->ms = 0;
}

bool validated_lately(const struct verb_call *call, const char *vm)
{
    struct validated last;
    uint64_t now_ms = call->world->ops->realtime_ns(call->world) / 1000000;
    validated_read(call, vm, &last);
    return last.ms != 0 && last.errors == 0 && last.ms <= now_ms &&
           now_ms - last.ms < VALIDATE_S * 1000ull;
}
