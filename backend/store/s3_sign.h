/* SPDX-License-Identifier: MIT
 * AWS Signature Version 4, as pure functions: https://docs.aws.amazon.com/AmazonS3/latest/API/
 * sig-v4-header-based-auth.html. Any thread may call. */
#ifndef BACKEND_STORE_S3_SIGN_H
#define BACKEND_STORE_S3_SIGN_H

#include "backend/store/cloud.h"

#define S3_DATE_CHARS 16u /* "20130524T000000Z" */

struct s3_credentials {
    char key_id[160];
    char secret[160];
    char token[8192]; /* of a session; "" for none */
};

void s3_date(uint64_t now_ms, char out[S3_DATE_CHARS + 1]);

/* The value of the Authorization header. Every header of the call is signed; they hold `host` and
 * `x-amz-date`. `body_digest` is what x-amz-content-sha256 says, in hex. `service` is "s3" but in
 * published vectors. ERR_FULL alone: no memory. */
bool s3_authorization(const struct cloud_call *call, const struct s3_credentials *credentials,
                      const char *region, const char *service, const char *body_digest,
                      struct buf *out, struct err *err) MUST_CHECK;

#endif
