/* SPDX-License-Identifier: MIT
 * Pins: small objects under `VM/pins/` of the target store that keep a recovery point from being
 * deleted (design 8). A *hold* has no end and is removed by who discards what it stands for; a
 * *lease* ends at a time in store time, and a reader that goes on longer puts another one. A pin
 * keeps the point, not its objects. Pins are sealed with the history key, and say their own name,
 * so that none can be forged, moved or turned into another. docs/FORMAT.md has the bytes.
 * Any thread may call. */
#ifndef BACKEND_HISTORY_PIN_H
#define BACKEND_HISTORY_PIN_H

#include "backend/history/generation.h"
#include "backend/history/keys.h"

enum pin_kind { PIN_HOLD = 1, PIN_LEASE };

#define PIN_NAME_MAX  127u
#define PIN_BYTES_MAX 1024u

struct pin {
    enum pin_kind kind;
    uint8_t vm[VM_ID_BYTES];
    char name[PIN_NAME_MAX + 1]; /* [A-Za-z0-9._-]+ */
    struct generation generation;
    uint64_t epoch;
    uint64_t point_ms;
    uint64_t placed_ms; /* the placer's clock: display only */
    uint64_t end_ms;    /* PIN_LEASE; 0 in a hold */
};

bool pin_encode(const struct pin *pin, const struct keys *keys, const struct seal_salt *salt,
                struct buf *out, struct err *err) MUST_CHECK;
/* ERR_CORRUPT also when the bytes are another pin's or another VM's. */
bool pin_decode(struct span stored, const struct keys *keys, const uint8_t vm[VM_ID_BYTES],
                const char *name, struct pin *out, struct err *err) MUST_CHECK;

/* Puts it; placed_ms is filled in here. A pin of this name that keeps the same point (a lease: as
 * long, too) is success; another one is ERR_EXISTS. `vm` is the VM's name. */
bool pin_put(struct world *w, struct store *target, const char *vm, const struct keys *keys,
             const struct pin *pin, struct err *err) MUST_CHECK;

struct history;
struct history_point;
/* Says so as ERR_NOT_FOUND, for who begins to pin a point that is leaving: who thins it out looks
 * for pins once more before it goes, but need not find one that is put from now on. False. */
bool point_leaves(struct err *err);
/* Places a hold on a point under `name`, then reads the history's head again: ERR_NOT_FOUND, and no
 * pin left, when the point is not there any more, or is leaving. Repeatable; removed by pin_remove.
 */
bool pin_hold(struct world *w, struct store *target, struct history *h, const struct keys *keys,
              const char *name, const struct history_point *point, struct err *err) MUST_CHECK;

/* Called for each pin in the order of names; false stops the list (which is still a success). */
typedef bool pin_list_fn(void *context, const struct pin *pin);
/* Every pin, ended leases too. One that cannot be read fails the list: who deletes must not go on
 * without knowing what it keeps. */
bool pin_list(struct store *target, const char *vm, const uint8_t vm_id[VM_ID_BYTES],
              const struct keys *keys, pin_list_fn *each, void *context,
              struct err *err) MUST_CHECK;

/* A missing pin is success. */
bool pin_remove(struct store *target, const char *vm, const char *name, struct err *err) MUST_CHECK;

#endif
