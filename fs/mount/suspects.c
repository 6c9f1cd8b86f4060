/* SPDX-License-Identifier: MIT */
#include "fs/mount/suspects.h"

#include <stddef.h>

static struct suspect *suspect_find(struct suspects *s, uint64_t unique)
{
    for (size_t i = 0; i < SUSPECTS_MAX; i++)
        if (atomic_load(&s->entries[i].unique) == unique)
            return &s->entries[i];
    return NULL;
}

/* The entry that a new suspect takes: a free one, else the one with the fewest deaths. */
static struct suspect *suspect_room(struct suspects *s)
{
    struct suspect *least = &s->entries[0];

    for (size_t i = 0; i < SUSPECTS_MAX; i++) {
        if (atomic_load(&s->entries[i].unique) == 0)
            return &s->entries[i];
        if (atomic_load(&s->entries[i].deaths) < atomic_load(&least->deaths))
            least = &s->entries[i];
    }
    return least;
}

static void suspect_count(struct suspects *s, uint64_t unique)
{
    struct suspect *found = suspect_find(s, unique);

    if (found == NULL) {
        found = suspect_room(s);
        atomic_store(&found->deaths, 0);
        atomic_store(&found->unique, unique);
    }
    atomic_fetch_add(&found->deaths, 1);
}

void suspects_after_death(struct suspects *s, bool blame)
{
    uint64_t alone = atomic_exchange(&s->alone, 0);

    if (blame && alone != 0)
        suspect_count(s, alone);
    for (size_t i = 0; i < SUSPECT_THREADS_MAX; i++) {
        uint64_t unique = atomic_exchange(&s->in_hand[i], 0);
        if (blame && unique != 0)
            suspect_count(s, unique);
    }
}

uint32_t suspects_deaths(const struct suspects *s, uint64_t unique)
{
    for (size_t i = 0; i < SUSPECTS_MAX; i++)
        if (atomic_load_explicit(&s->entries[i].unique, memory_order_relaxed) == unique)
            return atomic_load(&s->entries[i].deaths);
    return 0;
}

void suspects_clear(struct suspects *s, uint64_t unique)
{
    struct suspect *found = suspect_find(s, unique);

    if (found != NULL)
        atomic_store(&found->unique, 0);
}
