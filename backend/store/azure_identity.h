/* SPDX-License-Identifier: MIT
 * Who we are to Azure Storage: a SAS token or an account key (backend/store/secrets.h), else the
 * managed identity of the machine
 * (https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token).
 * Any thread may call. */
#ifndef BACKEND_STORE_AZURE_IDENTITY_H
#define BACKEND_STORE_AZURE_IDENTITY_H

#include "backend/store/store.h"

enum azure_proof { AZURE_SAS, AZURE_KEY, AZURE_TOKEN };

struct azure_identity;

/* `store` names the credential ("azure.ACCOUNT"); `metadata` is the endpoint's URL, NULL for the
 * default. ERR_INVALID: a key that is no base64. */
bool azure_identity_make(const struct store_host *host, const char *account, const char *store,
                         const char *metadata, struct azure_identity **out,
                         struct err *err) MUST_CHECK;
void azure_identity_release(struct azure_identity **i);

enum azure_proof azure_identity_proof(const struct azure_identity *i);
/* Of a SAS: the token without its question mark, as it goes into a query. Of a key: decoded. Both
 * borrowed. */
const char *azure_identity_sas(const struct azure_identity *i);
struct span azure_identity_key(const struct azure_identity *i);
/* Of a managed identity: appends the bearer token, NUL-terminated; the caller wipes it. */
bool azure_identity_token(struct azure_identity *i, struct buf *out, struct err *err) MUST_CHECK;
/* While set, what waits for the machine's metadata endpoint ends with ERR_CANCELLED. */
void azure_identity_cancel(struct azure_identity *i, bool cancelled);
/* The service called it expired: whether a try with a new one makes sense. */
bool azure_identity_renew(struct azure_identity *i);
/* Whether both are the same secret, or the same identity of the machine. */
bool azure_identity_same(const struct azure_identity *a, const struct azure_identity *b);
const char *azure_identity_place(const struct azure_identity *i); /* for error texts */
/* The URL of the metadata endpoint that is asked; NULL when none is. */
const char *azure_identity_metadata(const struct azure_identity *i);

#endif
