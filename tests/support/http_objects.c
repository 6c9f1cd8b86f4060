/* SPDX-License-Identifier: MIT */
#include "tests/support/http_objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *grow(void *rows, size_t count, size_t bytes)
{
    void *more = realloc(rows, count * bytes);
    if (more == NULL)
        abort();
    return more;
}

static char *copy(const char *text)
{
    char *out = strdup(text);
    if (out == NULL)
        abort();
    return out;
}

void http_objects_release(struct http_objects *o)
{
    for (size_t i = 0; i < o->count; i++)
        http_object_drop(o->rows[i]);
    for (size_t i = 0; i < o->piece_count; i++)
        http_object_drop(o->pieces[i]);
    for (size_t i = 0; i < o->container_count; i++)
        free(o->containers[i]);
    free(o->rows);
    free(o->pieces);
    free(o->containers);
}

bool http_objects_has_container(const struct http_objects *o, const char *name)
{
    for (size_t i = 0; i < o->container_count; i++)
        if (strcmp(o->containers[i], name) == 0)
            return true;
    return false;
}

void http_objects_add_container(struct http_objects *o, const char *name)
{
    o->containers = grow(o->containers, o->container_count + 1, sizeof *o->containers);
    o->containers[o->container_count++] = copy(name);
}

struct http_object *http_object_make(const char *name, struct buf *body, struct buf *headers,
                                     const char *etag)
{
    struct http_object *object = calloc(1, sizeof *object);
    if (object == NULL)
        abort();
    atomic_init(&object->uses, 1);
    object->name = copy(name);
    object->body = *body;
    object->headers = *headers;
    *body = *headers = BUF_NONE;
    if (etag != NULL) {
        snprintf(object->etag, sizeof object->etag, "%s", etag);
        return object;
    }
    struct md5 digest = md5_of(buf_span(&object->body));
    hex_of(digest.bytes, sizeof digest, object->etag);
    return object;
}

void http_object_use(struct http_object *object)
{
    atomic_fetch_add(&object->uses, 1);
}

void http_object_drop(struct http_object *object)
{
    if (atomic_fetch_sub(&object->uses, 1) != 1)
        return;
    buf_release(&object->body);
    buf_release(&object->headers);
    free(object->name);
    free(object);
}

uint64_t http_objects_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

size_t http_objects_at(const struct http_objects *o, const char *name)
{
    size_t low = 0, high = o->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(o->rows[middle]->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct http_object *http_objects_find(const struct http_objects *o, const char *name)
{
    size_t at = http_objects_at(o, name);
    return at < o->count && strcmp(o->rows[at]->name, name) == 0 ? o->rows[at] : NULL;
}

void http_objects_put(struct http_objects *o, struct http_object *object)
{
    size_t at = http_objects_at(o, object->name);
    object->number = ++o->puts;
    object->put_ms = http_objects_now_ms();
    if (at < o->count && strcmp(o->rows[at]->name, object->name) == 0) {
        http_object_drop(o->rows[at]);
        o->rows[at] = object;
        return;
    }
    if (o->count == o->room) {
        o->room = o->room * 2 + 16;
        o->rows = grow(o->rows, o->room, sizeof(struct http_object *));
    }
    memmove(o->rows + at + 1, o->rows + at, (o->count - at) * sizeof *o->rows);
    o->rows[at] = object;
    o->count++;
}

bool http_objects_remove(struct http_objects *o, const char *name)
{
    size_t at = http_objects_at(o, name);
    if (at == o->count || strcmp(o->rows[at]->name, name) != 0)
        return false;
    http_object_drop(o->rows[at]);
    o->count--;
    memmove(o->rows + at, o->rows + at + 1, (o->count - at) * sizeof *o->rows);
    return true;
}

void http_objects_put_piece(struct http_objects *o, struct http_object *piece)
{
    for (size_t i = 0; i < o->piece_count; i++)
        if (strcmp(o->pieces[i]->name, piece->name) == 0) {
            http_object_drop(o->pieces[i]);
            o->pieces[i] = piece;
            return;
        }
    o->pieces = grow(o->pieces, o->piece_count + 1, sizeof(struct http_object *));
    o->pieces[o->piece_count++] = piece;
}

struct http_object *http_objects_piece(const struct http_objects *o, const char *name)
{
    for (size_t i = 0; i < o->piece_count; i++)
        if (strcmp(o->pieces[i]->name, name) == 0)
            return o->pieces[i];
    return NULL;
}

void http_objects_drop_pieces(struct http_objects *o, const char *prefix)
{
    size_t kept = 0;
    for (size_t i = 0; i < o->piece_count; i++) {
        if (strncmp(o->pieces[i]->name, prefix, strlen(prefix)) == 0)
            http_object_drop(o->pieces[i]);
        else
            o->pieces[kept++] = o->pieces[i];
    }
    o->piece_count = kept;
}

size_t http_objects_uploads(const struct http_objects *o)
{
    size_t count = 0;
    for (size_t i = 0; i < o->piece_count; i++)
        count += strcmp(strrchr(o->pieces[i]->name, ' '), " " HTTP_BEGUN) == 0;
    return count;
}
