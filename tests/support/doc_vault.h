/* SPDX-License-Identifier: MIT
 * A vault in memory for documents: those of backend/history/doclog.h and what is made of them. One
 * at a time. */
#ifndef TESTS_SUPPORT_DOC_VAULT_H
#define TESTS_SUPPORT_DOC_VAULT_H

#include "backend/history/doclog.h"
#include "tests/support/memory_store.h"

struct doc_vault {
    struct memory_bucket *bucket;
    struct store *store;
    struct keys *keys;
    struct doclog_vault vault; /* of the VM `web` */
};

void doc_vault_open(struct doc_vault *v);
void doc_vault_close(struct doc_vault *v);
/* For cmocka: *state is a struct doc_vault. */
int doc_vault_set_up(void **state);
int doc_vault_tear_down(void **state);

#endif
