/* SPDX-License-Identifier: MIT
 * A moment inside a call of a world: what else happens just then, once. One at a time. */
#ifndef TESTS_SUPPORT_MOMENT_H
#define TESTS_SUPPORT_MOMENT_H

#include "common/world.h"

enum moment_when { MOMENT_BEFORE_WRITE, MOMENT_AFTER_SYNC };

/* At the next such call on the file that was opened as `path`. `act` may call the world. */
void moment_begin(struct world *w, enum moment_when when, const char *path,
                  void (*act)(void *context), void *context);
bool moment_came(void); /* `act` has returned */
void moment_end(void);  /* it came, or the test fails */

#endif
