/* SPDX-License-Identifier: MIT
 * The embedded store: a folder, `file:///dir`. An object is a file of its key's name; `.tmp` holds
 * what is being written, and by being there says that this folder is the store and not the bare
 * mount point of one. Several processes and hosts (NFS) may use one folder at once. The file
 * system must have hard links. A key that is also the folder of another key is ERR_INVALID. */
#ifndef BACKEND_STORE_FILE_H
#define BACKEND_STORE_FILE_H

#include "backend/store/store.h"

/* As store_open; `url` starts with "file://". */
bool file_store_open(const struct store_host *host, const char *url, bool create,
                     struct store **out, struct err *err) MUST_CHECK;

#endif
