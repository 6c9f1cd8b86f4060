/* SPDX-License-Identifier: MIT
 * A small S3 on loopback, for what real ones do too seldom: uploads in parts whose Complete keeps
 * or breaks its condition, loses replies and forgets uploads as told, and copies with and without
 * checksums. It looks at no signature and has no lists. Aborts where a request is not what the
 * dialect should send. Its fields are read and set under its lock. */
#ifndef TESTS_SUPPORT_FAKE_S3_H
#define TESTS_SUPPORT_FAKE_S3_H

#include "backend/store/store.h"

#define FAKE_S3_OBJECTS_MAX 8u
#define FAKE_S3_UPLOADS_MAX 32u
#define FAKE_S3_PARTS_MAX   8u

struct fake_object {
    char key[128];
    struct buf body;
};

struct fake_upload {
    bool open;
    char key[128];
    struct buf parts[FAKE_S3_PARTS_MAX];
};

enum fake_complete {
    COMPLETE_KEEPS,       /* 412 when the name is taken */
    COMPLETE_REPLACES,    /* as radosgw 16 */
    COMPLETE_LOSES_REPLY, /* of what is not the proof: done, and the connection cut */
    COMPLETE_SAYS_200,    /* of what is not the proof: 200, white space, <Error> InternalError */
    COMPLETE_FORGETS,     /* of what is not the proof: 404 NoSuchUpload */
    COMPLETE_CONFLICTS,   /* 409 */
};

struct fake_s3 {
    struct MHD_Daemon *daemon;
    unsigned port;
    enum fake_complete complete;
    unsigned fail_part; /* this part number is answered 500; 0: none */
    bool no_uploads;    /* Create is answered 403 */
    bool copy_checksum; /* the answer to a copy says its SHA-256 */
    bool copy_says_200; /* 200 with <Error> */
    pthread_mutex_t lock;
    struct fake_object objects[FAKE_S3_OBJECTS_MAX];
    struct fake_upload uploads[FAKE_S3_UPLOADS_MAX];
    size_t upload_count;
    unsigned copies_fail; /* the first so many copies are answered 503 */
    unsigned whole_puts, completes, aborts, copies;
};

struct fake_s3 *fake_s3_start(void);
void fake_s3_stop(struct fake_s3 **s);
/* The path is "/BUCKET/KEY"; NULL when it is not there. Hold the lock. */
struct fake_object *fake_s3_find_locked(struct fake_s3 *s, const char *path);

#endif
