/* SPDX-License-Identifier: MIT
 * Open addressing: digests are as good as random already. */
#include "backend/history/object_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct object_name free_slot;

static struct object_name name_of(const struct sha256 *o)
{
    struct object_name name;
    memcpy(name.bytes, o->bytes, sizeof name.bytes);
    return name;
}

static bool same(const struct object_name *a, const struct object_name *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Its slot, or the free one where it would go; there always is one. */
static struct object_name *slot_of(const struct object_set *s, const struct object_name *o)
{
    size_t at;
    memcpy(&at, o->bytes, sizeof at);
    for (;; at++) {
        struct object_name *slot = &s->slots[at & (s->room - 1)];
        if (same(slot, &free_slot) || same(slot, o))
            return slot;
    }
}

/* At most two thirds are full. */
static bool grow(struct object_set *s, struct err *err)
{
    if ((s->count + 1) * 3 <= s->room * 2)
        return true;
    struct object_set bigger = {.room = s->room > 0 ? s->room * 2 : 64, .count = s->count};
    bigger.slots = calloc(bigger.room, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return err_errno(err, ENOMEM, "keeping the names of objects");
    for (size_t i = 0; i < s->room; i++)
        if (!same(&s->slots[i], &free_slot))
            *slot_of(&bigger, &s->slots[i]) = s->slots[i];
    free(s->slots);
    *s = bigger;
    return true;
}

bool object_set_add(struct object_set *s, const struct sha256 *o, struct err *err)
{
    struct object_name name = name_of(o);
    if (same(&name, &free_slot))
        return err_set(err, ERR_CORRUPT, "an object is named by a digest of zeros");
    if (!grow(s, err))
        return false;
    struct object_name *slot = slot_of(s, &name);
    s->count += same(slot, &free_slot);
    *slot = name;
    return true;
}

bool object_set_has(const struct object_set *s, const struct sha256 *o)
{
    struct object_name name = name_of(o);
    return s->count > 0 && !same(&name, &free_slot) && same(slot_of(s, &name), &name);
}

void object_set_release(struct object_set *s)
{
    free(s->slots);
    *s = (struct object_set){.slots = NULL};
}
