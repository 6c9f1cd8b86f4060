/* SPDX-License-Identifier: MIT
 * Azure Storage's Shared Key authorization, as pure functions:
 * https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key. Any thread. */
#ifndef BACKEND_STORE_AZURE_SIGN_H
#define BACKEND_STORE_AZURE_SIGN_H

#include "backend/store/cloud.h"

#define AZURE_DATE_CHARS 29u /* "Fri, 26 Jun 2015 23:39:12 GMT" */

void azure_date(uint64_t now_ms, char out[AZURE_DATE_CHARS + 1]);

/* What is signed: version 2015-02-21 and later, an empty length for an empty body. */
bool azure_string_to_sign(const struct cloud_call *call, const char *account, struct buf *out,
                          struct err *err) MUST_CHECK;
/* The value of the Authorization header, NUL-terminated; `key` is the account key, decoded. */
bool azure_authorization(const struct cloud_call *call, const char *account, struct span key,
                         struct buf *out, struct err *err) MUST_CHECK;

#endif
