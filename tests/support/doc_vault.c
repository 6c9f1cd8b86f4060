/* SPDX-License-Identifier: MIT */
#include "tests/support/doc_vault.h"

#include "tests/support/specimen.h"

void doc_vault_open(struct doc_vault *v)
{
    v->bucket = memory_bucket_make();
    v->store = memory_store_open(v->bucket);
    v->keys = specimen_keys(0);
    v->vault = (struct doclog_vault){
        .world = world_real(), .target = v->store, .keys = v->keys, .vm = "web", .id = specimen_vm};
}

void doc_vault_close(struct doc_vault *v)
{
    store_close(&v->store);
    memory_bucket_release(&v->bucket);
    keys_release(&v->keys);
}

int doc_vault_set_up(void **state)
{
    static struct doc_vault v;
    doc_vault_open(&v);
    *state = &v;
    return 0;
}

int doc_vault_tear_down(void **state)
{
    doc_vault_close(*state);
    return 0;
}
