/* SPDX-License-Identifier: MIT */
#include "tests/support/moment.h"

#include <stdatomic.h>
#include <string.h>

#include "tests/support/check.h"

static struct {
    struct world *world;
    struct world_ops ops;
    const struct world_ops *real;
    const char *path;
    void (*act)(void *context);
    void *context;
    _Atomic bool armed, came;
} moment;

static void act_on(const struct world_file *f)
{
    if (strcmp(f->path, moment.path) != 0 || !atomic_exchange(&moment.armed, false))
        return;
    moment.act(moment.context);
    atomic_store(&moment.came, true);
}

static int sync_and_act(struct world_file *f)
{
    int result = moment.real->sync(f);
    act_on(f);
    return result;
}

static ssize_t act_and_write(struct world_file *f, const void *data, size_t length, uint64_t offset)
{
    act_on(f);
    return moment.real->pwrite(f, data, length, offset);
}

void moment_begin(struct world *w, enum moment_when when, const char *path,
                  void (*act)(void *context), void *context)
{
    moment.world = w;
    moment.real = w->ops;
    moment.ops = *w->ops;
    moment.path = path;
    moment.act = act;
    moment.context = context;
    if (when == MOMENT_AFTER_SYNC)
        moment.ops.sync = sync_and_act;
    else
        moment.ops.pwrite = act_and_write;
    atomic_store(&moment.came, false);
    atomic_store(&moment.armed, true);
    w->ops = &moment.ops;
}

bool moment_came(void)
{
    return atomic_load(&moment.came);
}

void moment_end(void)
{
    assert_true(moment_came());
    moment.world->ops = moment.real;
}
