/* SPDX-License-Identifier: MIT */
#include "tests/support/clock_world.h"

static struct clock_world *clock_of(struct world *w)
{
    return (struct clock_world *)w;
}

static uint64_t realtime_ns(struct world *w)
{
    int64_t now = (int64_t)world_real()->ops->realtime_ns(world_real());
    return (uint64_t)(now + atomic_load(&clock_of(w)->jumped_ns) +
                      (int64_t)atomic_load(&clock_of(w)->passed_ns));
}

static uint64_t boottime_ns(struct world *w)
{
    return world_real()->ops->boottime_ns(world_real()) + atomic_load(&clock_of(w)->passed_ns);
}

void clock_world_init(struct clock_world *w)
{
    w->ops = *world_real()->ops;
    w->ops.realtime_ns = realtime_ns;
    w->ops.boottime_ns = boottime_ns;
    w->head.ops = &w->ops;
    atomic_init(&w->jumped_ns, 0);
    atomic_init(&w->passed_ns, 0);
}
