/* SPDX-License-Identifier: MIT
 * S3: s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&style=path|host&...]. Signature version 4.
 * One object per object, made with If-None-Match: *; stores that do not honour it are refused.
 * Options: endpoint (https://s3.REGION.amazonaws.com unless told), region (AWS_REGION,
 * AWS_DEFAULT_REGION, us-east-1), style (`host` for AWS, `path` when endpoint is given), ca (PEM
 * file), plain=yes (http to other hosts than loopback), credential (name of the credential instead
 * of s3.BUCKET), identity (URL of the instance metadata endpoint).
 * Credentials (backend/store/secrets.h): AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
 * AWS_SESSION_TOKEN; then the shared credentials file (AWS_SHARED_CREDENTIALS_FILE or
 * ~/.aws/credentials, AWS_PROFILE); then the instance's role (IMDSv2). */
#ifndef BACKEND_STORE_S3_H
#define BACKEND_STORE_S3_H

#include "backend/store/store.h"

/* As store_open; `url` starts with "s3://". */
bool s3_store_open(const struct store_host *host, const char *url, bool create, struct store **out,
                   struct err *err) MUST_CHECK;

#endif
