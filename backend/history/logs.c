/* SPDX-License-Identifier: MIT */
#include "backend/history/logs.h"

#include "backend/history/epoch.h"
#include "backend/history/record.h"

static void epoch_log_key(void *context, uint64_t n, char *out)
{
    const struct epoch_log *l = context;
    key_epoch(out, l->vm, l->generation, n);
}

static void record_log_key(void *context, uint64_t n, char *out)
{
    const struct record_log *l = context;
    key_history(out, l->vm, n);
}

void epoch_log_init(struct epoch_log *l, struct store *cache, const char *vm,
                    struct generation generation)
{
    *l = (struct epoch_log){.vm = vm, .generation = generation};
    l->log = (struct numlog){
        .store = cache, .bytes_max = EPOCH_BYTES_MAX, .key = epoch_log_key, .context = l};
}

void record_log_init(struct record_log *l, struct store *target, const char *vm)
{
    *l = (struct record_log){.vm = vm};
    l->log = (struct numlog){
        .store = target, .bytes_max = RECORD_BYTES_MAX, .key = record_log_key, .context = l};
}
