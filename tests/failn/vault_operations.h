/* SPDX-License-Identifier: MIT
 * Of operations.h, those that work in the vault alone: thinning, and a claim of the VM as another
 * host makes it. */
#ifndef TESTS_FAILN_VAULT_OPERATIONS_H
#define TESTS_FAILN_VAULT_OPERATIONS_H

#include "tests/failn/place.h"

void prepare_thin(struct place *p);
bool run_thin(struct place *p, struct err *err);
bool check_thin(struct place *p, struct err *err);

void prepare_claim(struct place *p);
bool run_claim(struct place *p, struct err *err);
bool check_claim(struct place *p, struct err *err);
/* It is made again; the source is fenced, and every point is as it was. */
bool after_claim(struct place *p, bool fresh, struct err *err);

#endif
