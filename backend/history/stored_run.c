/* SPDX-License-Identifier: MIT */
#include "backend/history/stored_run.h"

#include <stdio.h>

static bool fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    const struct stored_run *r = context;
    if (store_get(r->store, r->key, r->offset + offset, out, err))
        return true;
    if (err->kind == ERR_NOT_FOUND)
        err->kind = ERR_CORRUPT; /* a listed point opens: this is damage */
    return false;
}

static bool matches(const struct run *run, const struct run_place *place)
{
    const struct run_head *head = run_head(run);
    return head->generation_id == place->generation.id &&
           head->epoch_first == place->run.epoch_first && head->epoch_last == place->run.epoch_last;
}

bool stored_run_open(struct history *h, const struct run_place *place, struct store *target,
                     const struct keys *keys, struct stored_run *out, struct err *err)
{
    const struct vault *vault = history_vault(h);
    char hex[2 * SHA256_BYTES + 1];

    *out = (struct stored_run){.store = target,
                               .object = place->run.object,
                               .offset = place->run.offset,
                               .bytes = place->run.bytes};
    hex_of(place->run.object.bytes, SHA256_BYTES, hex);
    key_segment(out->key, vault->name, hex);
    struct run_source source = {
        .fetch = fetch, .context = out, .bytes = place->run.bytes, .digest = &place->run.digest};
    if (!run_open(keys, vault->vm, source, &out->run, err))
        return err_wrap(err, "the run of epoch %llu in %s",
                        (unsigned long long)place->run.epoch_last, out->key);
    if (matches(out->run, place))
        return true;
    stored_run_close(out);
    return err_set(err, ERR_CORRUPT, "%s holds another run than that of epoch %llu", out->key,
                   (unsigned long long)place->run.epoch_last);
}

void stored_run_close(struct stored_run *r)
{
    run_close(&r->run);
}
