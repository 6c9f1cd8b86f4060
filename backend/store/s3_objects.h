/* SPDX-License-Identifier: MIT
 * S3 objects that come about otherwise than by one PUT: in parts, and as copies. Private to the S3
 * dialect. https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
 *
 * In parts: CreateMultipartUpload, UploadPart (each signed with its SHA-256, which the service
 * compares), CompleteMultipartUpload with If-None-Match: *. Not every service honours that
 * condition there (radosgw 16 replaces what lies under the name, and of writers who race every one
 * is told that it won), so it is proved first, once per open store, with a small object of ours:
 * VM/check-parts, which stays. Where it is not honoured, or the proof is not allowed, a body goes
 * in one PUT, of which 5 GiB are allowed.
 * Any thread may call, several at once. */
#ifndef BACKEND_STORE_S3_OBJECTS_H
#define BACKEND_STORE_S3_OBJECTS_H

#include "backend/store/cloud.h"

#define S3_PART_BYTES   (8u << 20)  /* of an upload; 5 MiB is the least that is allowed */
#define S3_LARGE_BYTES  (16u << 20) /* above this a body goes in parts */
#define S3_PART_THREADS 4u
/* Stays with an object: the SHA-256 of its bytes, in hex. */
#define S3_DIGEST_HEADER "x-amz-meta-sha256"

enum s3_proof { S3_PARTS_UNKNOWN, S3_PARTS_SAFE, S3_PARTS_UNSAFE };

struct s3_parts {
    /* Held while it is proved, requests included: who waits needs the answer. */
    pthread_mutex_t proving;
    enum s3_proof proof;
};

void s3_parts_init(struct s3_parts *p);
void s3_parts_release(struct s3_parts *p);

/* Whether Complete refuses a taken name; `key` is what is to be put. A service that would not say
 * (out of reach, busy) counts as one that does not, until it is asked the next time. */
bool s3_parts_safe(struct cloud *c, struct s3_parts *p, const char *key);

/* As store_put. The upload is aborted when anything fails. */
bool s3_put_parts(struct cloud *c, const char *key, struct span body, struct err *err) MUST_CHECK;

/* CopyObject. `source` is "/BUCKET/KEY", escaped. As store_copy; SHA-256 is asked for, and what
 * the service says it is proves the copy. */
bool s3_copy_object(struct cloud *c, const char *key, const char *source,
                    const struct sha256 *digest, bool *proved, struct err *err) MUST_CHECK;

#endif
