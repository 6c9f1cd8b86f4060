/* SPDX-License-Identifier: MIT
 * What a store must be able to do, proved with objects of our own before anything rests on it. What
 * is proved depends on the role: the rights of design 12 are part of it.
 *   source     creates, reads and lists under the VM's prefix in its cache store
 *   processor  all, in both stores
 *   viewer     reads and lists in the target store, creates and removes under VM/pins/
 * A role that may not remove leaves one small object, always the same. */
#ifndef BACKEND_STORE_CHECK_H
#define BACKEND_STORE_CHECK_H

#include "backend/store/store.h"

#define STORE_CHECK_LASTING "check" /* the name of that object behind the prefix */

enum store_role { STORE_ROLE_SOURCE, STORE_ROLE_PROCESSOR, STORE_ROLE_VIEWER, STORE_ROLES };
const char *store_role_name(enum store_role r);
bool store_role_parse(const char *name, enum store_role *out);

enum store_property {
    STORE_CREATES,        /* an object can be made */
    STORE_READS,          /* it is found at once, whole and as it was put */
    STORE_RANGES,         /* parts of it are read as asked, and none past its end */
    STORE_NEVER_REPLACES, /* a second put under its name is refused */
    STORE_LISTS,          /* names can be listed */
    STORE_REMOVES,        /* it is gone after it was removed, and removing it again succeeds */
    STORE_PROPERTIES
};
const char *store_property_name(enum store_property p); /* "create", "read", "range" ... */

enum store_verdict { STORE_NOT_ASKED, STORE_GOOD, STORE_LACKS, STORE_UNKNOWN };

struct store_report {
    struct {
        enum store_verdict verdict; /* UNKNOWN: the store failed, `text` says how */
        uint32_t ms;                /* what it took */
        char text[ERR_TEXT_MAX];    /* what is wrong and what to do; empty when good */
    } properties[STORE_PROPERTIES];
};

/* Goes through all of them, also after one that is lacking; a store that did not answer the first
 * is not asked on. False: ERR_INVALID names the first that
 * the store lacks and what to change; ERR_DENIED, ERR_TRANSIENT ... when it would not say. `report`
 * may be NULL. `prefix` ends in '/'. */
bool store_check(struct store *s, struct world *w, const char *prefix, enum store_role role,
                 struct store_report *report, struct err *err) MUST_CHECK;

#endif
