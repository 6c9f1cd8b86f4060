/* SPDX-License-Identifier: MIT
 * The real world with clocks that a test sets: threads sleep and sockets wait as ever, but the time
 * of day and the time since boot are ahead of the host's by as much as was said. */
#ifndef TESTS_SUPPORT_CLOCK_WORLD_H
#define TESTS_SUPPORT_CLOCK_WORLD_H

#include "common/world.h"

#include <stdatomic.h>

struct clock_world {
    struct world head;
    struct world_ops ops;
    _Atomic int64_t jumped_ns;  /* time of day only, as a clock that is set */
    _Atomic uint64_t passed_ns; /* both clocks */
};

void clock_world_init(struct clock_world *w);

#endif
