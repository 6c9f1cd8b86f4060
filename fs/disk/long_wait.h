/* SPDX-License-Identifier: MIT
 * Told by a thread right before and after it may wait for long: for what is far away, for a sync or
 * a hole of the local file, or for another thread that does. Who answers many with few threads
 * answers others meanwhile. Not nested. */
#ifndef FS_DISK_LONG_WAIT_H
#define FS_DISK_LONG_WAIT_H

#include <stdbool.h>
#include <stddef.h>

struct long_wait {
    void (*tell)(void *context, bool waits);
    void *context;
};

static inline void long_wait_begin(const struct long_wait *w)
{
    if (w->tell != NULL)
        w->tell(w->context, true);
}

static inline void long_wait_end(const struct long_wait *w)
{
    if (w->tell != NULL)
        w->tell(w->context, false);
}

#endif
