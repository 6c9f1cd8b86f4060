/* SPDX-License-Identifier: MIT */
#include "tools/failover/placement.h"

#include <stdio.h>
#include <string.h>

static bool able(const struct placement_request *r, size_t host)
{
    return r->able == NULL || r->able[host];
}

static bool is_there(const struct placement_request *r, size_t member, const char *host)
{
    const struct placement_member *m = &r->members[member];
    return strcmp(m->host, host) == 0 && strcmp(m->vm, r->vm) != 0;
}

static size_t members_on(const struct placement_request *r, const char *host)
{
    size_t count = 0;
    if (r->set == NULL || r->set[0] == '\0')
        return 0;
    for (size_t i = 0; i < r->member_count; i++)
        count += is_there(r, i, host);
    return count;
}

/* "web1, web2" */
static void name_members(const struct placement_request *r, const char *host, char *out,
                         size_t size)
{
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < r->member_count; i++) {
        if (!is_there(r, i, host))
            continue;
        int n = snprintf(out + used, size - used, "%s%s", used ? ", " : "", r->members[i].vm);
        if (n < 0 || (size_t)n >= size - used)
            return;
        used += (size_t)n;
    }
}

/* The first able host with the fewest members; NULL: none is able. */
static const char *best_host(const struct placement_request *r, size_t *members)
{
    const char *best = NULL;
    for (size_t i = 0; i < r->host_count; i++) {
        if (!able(r, i))
            continue;
        size_t count = members_on(r, r->hosts[i]);
        if (best == NULL || count < *members) {
            best = r->hosts[i];
            *members = count;
        }
    }
    return best;
}

static bool no_host(const struct placement_request *r, struct err *err)
{
    if (r->host_count == 0)
        return err_set(err, ERR_INVALID,
                       "%s has no target host: farshore set %s target.hosts=NAME,...", r->vm,
                       r->vm);
    return err_set(err, ERR_INVALID,
                   "%s: none of its %zu target hosts can take it now: farshore validate %s says "
                   "why, farshore set %s target.hosts=NAME,... names others",
                   r->vm, r->host_count, r->vm, r->vm);
}

bool placement_choose(const struct placement_request *r, struct placement *out, struct err *err)
{
    char names[200];
    size_t members = 0;

    *out = (struct placement){.host = ""};
    const char *host = r->asked;
    if (host != NULL)
        members = members_on(r, host);
    else
        host = best_host(r, &members);
    if (host == NULL)
        return no_host(r, err);
    snprintf(out->host, sizeof out->host, "%s", host);
    if (members == 0)
        return true;
    name_members(r, host, names, sizeof names);
    if (r->strict)
        return err_set(err, ERR_INVALID,
                       "%s must not run on %s beside %s of availability set %.63s%s: add a host "
                       "with farshore set %s target.hosts=NAME,...",
                       r->vm, host, names, r->set,
                       r->asked ? "" : ", and no other target host is free of them", r->vm);
    snprintf(out->warning, sizeof out->warning,
             "availability set %.63s is not kept apart: %s goes to %s, where %s %s", r->set, r->vm,
             host, names, members == 1 ? "is" : "are");
    return true;
}
