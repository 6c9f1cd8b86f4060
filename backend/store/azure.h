/* SPDX-License-Identifier: MIT
 * Azure Blob Storage: azure://ACCOUNT/CONTAINER[/PREFIX][?endpoint=URL&...]. Version 2021-12-02 of
 * the REST protocol. One block blob per object, made with If-None-Match: *.
 * Options: endpoint (https://ACCOUNT.blob.core.windows.net unless told), ca (PEM file), plain=yes
 * (http to other hosts than loopback), credential (name of the credential instead of
 * azure.ACCOUNT), identity (URL of the metadata endpoint).
 * Credentials (backend/store/secrets.h), the first of: AZURE_STORAGE_SAS_TOKEN, AZURE_STORAGE_KEY
 * (each only when AZURE_STORAGE_ACCOUNT is unset or ACCOUNT), else the managed identity of the
 * machine (AZURE_CLIENT_ID chooses one). */
#ifndef BACKEND_STORE_AZURE_H
#define BACKEND_STORE_AZURE_H

#include "backend/store/store.h"

/* As store_open; `url` starts with "azure://". */
bool azure_store_open(const struct store_host *host, const char *url, bool create,
                      struct store **out, struct err *err) MUST_CHECK;

#endif
