/* SPDX-License-Identifier: MIT
 * Where a store's credentials come from. A set of NAME=VALUE, under the names that users of `az`
 * and `aws` know (AZURE_STORAGE_KEY, AWS_ACCESS_KEY_ID ...), taken whole from the first of
 *   1. $CREDENTIALS_DIRECTORY/STORE     a systemd credential of the unit (LoadCredential=)
 *   2. CREDENTIALS/STORE                a file of farshore's, 0600, owned by who runs it or root
 *   3. the environment
 * where STORE names one store: `azure.ACCOUNT`, `s3.BUCKET`, or what the URL's `credential=` says.
 * So what was given for one store comes before what was given for all. Files hold lines of
 * NAME=VALUE (values may be quoted; of several the last counts) and `#` comments, as systemd's
 * EnvironmentFile.
 * What comes after the environment is each store's own: a shared credentials file, an instance's
 * role. One thread. Values are wiped on release and never part of an error text. */
#ifndef BACKEND_STORE_SECRETS_H
#define BACKEND_STORE_SECRETS_H

#include "backend/store/store.h"

#define SECRETS_MAX            16u
#define SECRETS_FILE_BYTES_MAX (64u << 10)

struct secrets {
    struct buf text; /* "NAME\0VALUE\0" ... */
    char place[320]; /* where they were found, for error texts: "the environment", a path */
};

/* Takes the variables in `names` (NULL ends it) from the first place that holds any of them; none
 * anywhere is success with an empty set. ERR_DENIED: a file that others may read or that somebody
 * else owns, said with the chmod that mends it. ERR_INVALID: a line that is no setting, by number.
 */
bool secrets_find(const struct store_host *host, const char *store, const char *const *names,
                  struct secrets *out, struct err *err) MUST_CHECK;
/* For error texts, when there were none: the files that were looked for. */
#define SECRETS_WHERE_MAX 640u
void secrets_where(const struct store_host *host, const char *store, char out[SECRETS_WHERE_MAX]);
/* NULL when it is not in the set. */
const char *secrets_value(const struct secrets *s, const char *name);
void secrets_release(struct secrets *s);
#define AUTO_SECRETS CLEANUP(secrets_release)

/* The text of a credentials file into `out`, which holds room for it. False: *line is the first
 * that is neither NAME=VALUE nor a comment. For fuzzing and tests, too. */
bool secrets_parse(struct span text, const char *const *names, struct secrets *out,
                   unsigned *line) MUST_CHECK;

/* Loads a file that must be private (0600 or less, owned by who runs this or by root), for shared
 * credentials files too. ERR_NOT_FOUND when there is none. Wipe `out` after use. */
bool secrets_file_load(struct world *w, const char *path, struct buf *out,
                       struct err *err) MUST_CHECK;

#endif
