/* SPDX-License-Identifier: MIT
 * Folders as a whole. Any thread. */
#ifndef TOOLS_TREE_H
#define TOOLS_TREE_H

#include "common/err.h"

/* Removes the folder and all below it, following no link. A missing one is success. */
bool tree_remove(const char *path, struct err *err) MUST_CHECK;

#endif
