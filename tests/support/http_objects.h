/* SPDX-License-Identifier: MIT
 * What the HTTP store holds: containers, objects under "CONTAINER/KEY", and pieces of objects that
 * are not yet there. The caller's lock guards all but the objects' bytes, which never change. */
#ifndef TESTS_SUPPORT_HTTP_OBJECTS_H
#define TESTS_SUPPORT_HTTP_OBJECTS_H

#include "common/buf.h"
#include "common/digest.h"

#include <stdatomic.h>

#define HTTP_ETAG_MAX 48u
#define HTTP_BEGUN    "begun" /* instead of a number: stands for the upload */

struct http_object {
    atomic_uint uses;
    char *name;
    struct buf body;
    struct buf headers; /* "name: value\0" ...: given with the put, sent with every read */
    char etag[HTTP_ETAG_MAX];
    uint64_t number; /* of puts */
    uint64_t put_ms; /* boot time */
    bool copied;     /* by the service */
};

uint64_t http_objects_now_ms(void); /* boot time */

struct http_objects {
    struct http_object **rows; /* in byte order of names */
    size_t count, room;
    uint64_t puts;
    char **containers;
    size_t container_count;
    struct http_object **pieces; /* named "CONTAINER/KEY UPLOAD NUMBER"; see HTTP_BEGUN */
    size_t piece_count;
    unsigned uploads; /* begun so far */
};

void http_objects_release(struct http_objects *o);

bool http_objects_has_container(const struct http_objects *o, const char *name);
void http_objects_add_container(struct http_objects *o, const char *name);

/* Takes over `body` and `headers`; the entity tag is the body's MD5. */
/* `etag` NULL: the MD5 of the body. */
struct http_object *http_object_make(const char *name, struct buf *body, struct buf *headers,
                                     const char *etag);
void http_object_use(struct http_object *object);
void http_object_drop(struct http_object *object);

/* The first row whose name is not before `name`. */
size_t http_objects_at(const struct http_objects *o, const char *name);
struct http_object *http_objects_find(const struct http_objects *o, const char *name);
/* Replaces what is there; takes the caller's use. */
void http_objects_put(struct http_objects *o, struct http_object *object);
bool http_objects_remove(struct http_objects *o, const char *name);

/* Replaces a piece of that name; takes the caller's use. */
void http_objects_put_piece(struct http_objects *o, struct http_object *piece);
struct http_object *http_objects_piece(const struct http_objects *o, const char *name);
/* Forgets all whose name starts so. */
void http_objects_drop_pieces(struct http_objects *o, const char *prefix);
size_t http_objects_uploads(const struct http_objects *o); /* that are under way */

#endif
