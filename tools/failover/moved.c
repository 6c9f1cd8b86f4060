/* SPDX-License-Identifier: MIT */
#include "tools/failover/moved.h"

#include "common/json.h"
#include "common/rfc3339.h"
#include "tools/failover/takeover.h"

#include <stdio.h>
#include <string.h>

#define MOVED_BYTES_MAX 4096u

static void path_moved(const struct paths *p, const char *vm, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/vms/%.*s/moved", p->state, (int)VM_NAME_MAX, vm);
}

bool moved_write(struct world *w, const struct paths *p, const char *vm, const struct moved *m,
                 struct err *err)
{
    char path[PATH_BYTES_MAX];
    cJSON *j AUTO_JSON = NULL;
    struct buf text AUTO_BUF = BUF_NONE;

    path_state(p, vm, path);
    if (!dir_make(w, path, 0700, err) || !json_make(&j, err) ||
        !json_add_text(j, "host", m->host, err) || !json_add_text(j, "reason", m->reason, err) ||
        !json_add_u64(j, "time_ms", m->ms, err) || !json_write(j, true, &text, err))
        return false;
    buf_put(&text, "\n", 1);
    path_moved(p, vm, path);
    return buf_ok(&text, err) && file_replace(w, path, 0600, buf_span(&text), err);
}

bool moved_parse(struct span text, struct moved *out, struct err *err)
{
    static const char *const known[] = {"host", "reason", "time_ms", NULL};
    cJSON *j AUTO_JSON = NULL;
    const char *host, *reason;
    if (!json_parse(text, &j, err) || !json_only(j, known, err) ||
        !json_text(j, "host", &host, err) || !json_text(j, "reason", &reason, err) ||
        !json_u64(j, "time_ms", &out->ms, err))
        return false;
    snprintf(out->host, sizeof out->host, "%s", host);
    snprintf(out->reason, sizeof out->reason, "%s", reason);
    return true;
}

bool moved_read(struct world *w, const struct paths *p, const char *vm, struct moved *out,
                bool *there, struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    struct err wrong = ERR_NONE;

    *out = (struct moved){.ms = 0};
    path_moved(p, vm, path);
    *there = file_load(w, path, MOVED_BYTES_MAX, &text, &wrong);
    if (!*there && wrong.kind == ERR_NOT_FOUND)
        return true;
    if (!*there && wrong.kind != ERR_CORRUPT) {
        *err = wrong;
        return false;
    }
    if (!*there || !moved_parse(buf_span(&text), out, &wrong))
        snprintf(out->reason, sizeof out->reason, "%.100s cannot be understood", path);
    *there = true;
    return true;
}

bool moved_remove(struct world *w, const struct paths *p, const char *vm, struct err *err)
{
    char path[PATH_BYTES_MAX];
    path_moved(p, vm, path);
    return file_remove(w, path, err);
}

bool moved_check(struct world *w, const struct paths *p, const char *vm, struct err *err)
{
    struct moved m;
    bool there;
    char when[POINT_TIME_CHARS + 1] = "";
    if (!moved_read(w, p, vm, &m, &there, err))
        return err_wrap(err, "whether %s runs elsewhere cannot be told", vm);
    if (!there)
        return true;
    if (m.ms > 0)
        point_time_format(m.ms, when);
    return err_set(err, ERR_FENCED, "%s was failed over%s%s%s%s%s%s: it must not run here too", vm,
                   m.host[0] ? " to " : "", m.host, when[0] ? " at " : "", when,
                   m.reason[0] ? ", " : "", m.reason);
}

/* The document's host is where the VM went last, whichever host it left for that, and however many
 * failovers this one has missed. A cancel leaves no host there, and a source that goes on has the
 * generation that the document names. */
static bool is_left(const struct settings *s, const struct protection *p, const char *host)
{
    const struct protection_failover *f = &p->failover;
    if (s->role == ROLE_SOURCE && !s->replicate)
        return takeover_left(s, p, host);
    return s->role == ROLE_SOURCE && f->host[0] != '\0' && strcmp(f->host, host) != 0 &&
           f->generation.id != s->generation.id;
}

bool moved_learn(struct world *w, const struct paths *p, const struct settings *s,
                 const struct protection *protection, const char *host, struct err *err)
{
    const struct protection_failover *f = &protection->failover;
    struct moved m;
    bool there = false; /* it cannot be told: an error */
    if (!is_left(s, protection, host))
        return true;
    if (!moved_read(w, p, s->name, &m, &there, err) || there)
        return there;
    bool cancelled = f->host[0] == '\0';
    m.ms = f->begun_ms;
    snprintf(m.host, sizeof m.host, "%s", cancelled ? protection->source_host : f->host);
    snprintf(m.reason, sizeof m.reason, "%s failover",
             cancelled    ? "cancelled"
             : f->planned ? "planned"
                          : "unplanned");
    return moved_write(w, p, s->name, &m, err);
}
