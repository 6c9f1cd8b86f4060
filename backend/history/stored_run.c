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

static bool matches(const struct run *run, const struct record_epoch *e, struct generation g)
{
    const struct run_head *head = run_head(run);
    return head->generation_id == g.id && head->epoch_first == e->epoch &&
           head->epoch_last == e->epoch;
}

bool stored_run_open(struct history *h, size_t index, struct store *target, const struct keys *keys,
                     struct stored_run *out, struct err *err)
{
    struct generation generation;
    struct record_epoch e = history_epoch(h, index, &generation);
    const struct vault *vault = history_vault(h);

    assert(e.run_bytes > 0);
    *out = (struct stored_run){.store = target, .offset = e.run_offset, .bytes = e.run_bytes};
    snprintf(out->key, sizeof out->key, "%s/%s", vault->name, e.run_key);
    hex_parse(strchr(e.run_key, '/') + 1, out->object.bytes, SHA256_BYTES);
    struct run_source source = {
        .fetch = fetch, .context = out, .bytes = e.run_bytes, .digest = &e.run_digest};
    if (!run_open(keys, vault->vm, source, &out->run, err))
        return err_wrap(err, "the run of epoch %llu in %s", (unsigned long long)e.epoch, out->key);
    if (matches(out->run, &e, generation))
        return true;
    stored_run_close(out);
    return err_set(err, ERR_CORRUPT, "%s holds another run than that of epoch %llu", out->key,
                   (unsigned long long)e.epoch);
}

void stored_run_close(struct stored_run *r)
{
    run_close(&r->run);
}
