/* SPDX-License-Identifier: MIT */
#include "backend/history/policy.h"

#include "common/json.h"

#define POLICY_VERSION 1u

void policy_log_begin(struct doclog *l, const struct doclog_vault *vault)
{
    doclog_begin(l, vault, "policy");
}

static bool policy_read(struct span document, struct retention *out, struct err *err)
{
    static const char *const names[] = {"version", "keep", "application", "grace", NULL};
    cJSON *j AUTO_JSON = NULL;
    struct retention r = {.tier_count = 0};
    const char *keep, *grace;
    uint64_t version;

    if (!json_parse(document, &j, err) || !json_u64(j, "version", &version, err))
        return false;
    if (version != POLICY_VERSION)
        return err_set(err, ERR_CORRUPT, "version %llu is not known here: use a newer farshore",
                       (unsigned long long)version);
    if (!json_only(j, names, err) || !json_text(j, "keep", &keep, err) ||
        !json_text(j, "grace", &grace, err) || !json_u64(j, "application", &r.application, err) ||
        !retention_parse_keep(keep, &r, err) || !retention_parse_span(grace, &r.grace_ms, err))
        return false;
    *out = r;
    return true;
}

bool policy_poll(struct doclog *l, struct retention *r, struct err *err)
{
    struct buf document AUTO_BUF = BUF_NONE;
    struct err own = ERR_NONE;
    bool changed = false;

    if (!err)
        err = &own;
    if (!doclog_poll(l, &document, &changed, err)) {
        if (err->kind != ERR_NOT_FOUND)
            return err_wrap(err, "reading the policy of %s", l->vault->vm);
        *err = ERR_NONE;
        *r = retention_default();
        return true;
    }
    if (!changed || policy_read(buf_span(&document), r, err))
        return true;
    l->newest = DOCLOG_NONE; /* it is asked for again: nobody goes on by another policy */
    return err_wrap(err, "the policy of %s", l->vault->vm);
}

bool policy_put(struct doclog *l, const struct retention *r, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    struct buf document AUTO_BUF = BUF_NONE;
    char keep[RETENTION_TEXT_MAX], grace[24];

    retention_format_keep(r, keep);
    retention_format_span(r->grace_ms, grace);
    return json_make(&j, err) && json_add_u64(j, "version", POLICY_VERSION, err) &&
           json_add_text(j, "keep", keep, err) &&
           json_add_u64(j, "application", r->application, err) &&
           json_add_text(j, "grace", grace, err) && json_write(j, false, &document, err) &&
           doclog_append(l, buf_span(&document), err) && doclog_tidy(l, err);
}
