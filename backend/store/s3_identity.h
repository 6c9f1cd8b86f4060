/* SPDX-License-Identifier: MIT
 * Who we are to S3: the store's own credentials or the environment (backend/store/secrets.h), else
 * the shared credentials file of the AWS tools, else the instance's role by IMDSv2
 * (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html).
 * Any thread may call. */
#ifndef BACKEND_STORE_S3_IDENTITY_H
#define BACKEND_STORE_S3_IDENTITY_H

#include "backend/store/s3_sign.h"

struct s3_identity;

/* `store` names the credential ("s3.BUCKET"); `metadata` is the endpoint's URL, NULL for the
 * default. ERR_DENIED, ERR_INVALID: files that cannot be used. */
bool s3_identity_make(const struct store_host *host, const char *store, const char *metadata,
                      struct s3_identity **out, struct err *err) MUST_CHECK;
void s3_identity_release(struct s3_identity **i);
/* The caller wipes `out`. ERR_DENIED says where credentials were looked for. */
bool s3_identity_get(struct s3_identity *i, struct s3_credentials *out, struct err *err) MUST_CHECK;
/* While set, what waits for the machine's metadata endpoint ends with ERR_CANCELLED. */
void s3_identity_cancel(struct s3_identity *i, bool cancelled);
/* Called expired by the service: whether a try with new ones makes sense. */
bool s3_identity_renew(struct s3_identity *i);
/* What was read from a place; NULL: the instance's role gives them. */
const struct s3_credentials *s3_identity_fixed(const struct s3_identity *i);
const char *s3_identity_place(const struct s3_identity *i); /* for error texts */
/* The URL of the metadata endpoint that is asked; NULL when none is. */
const char *s3_identity_metadata(const struct s3_identity *i);

/* The text of a shared credentials file; *found: the profile is there. For fuzzing and tests, too.
 */
bool s3_profile_parse(struct span text, const char *profile, struct s3_credentials *out,
                      bool *found) MUST_CHECK;

#endif
