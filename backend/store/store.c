/* SPDX-License-Identifier: MIT */
#include "backend/store/store.h"

#include <stdio.h>

#include "backend/store/file.h"
#include "common/digest.h"

static const struct {
    const char *scheme; /* with its "://" */
    bool (*open)(struct world *w, const char *url, bool create, struct store **out,
                 struct err *err);
} schemes[] = {
    {"file://", file_store_open},
};

bool store_open(struct world *w, const char *url, bool create, struct store **out, struct err *err)
{
    if (strlen(url) >= STORE_URL_MAX)
        return err_set(err, ERR_INVALID, "the store's URL is longer than %u characters: %.64s...",
                       STORE_URL_MAX - 1, url);
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strncmp(url, schemes[i].scheme, strlen(schemes[i].scheme)) == 0)
            return schemes[i].open(w, url, create, out, err);
    size_t scheme_length = strcspn(url, ":/?");
    return err_set(err, ERR_INVALID,
                   "\"%.*s\" is no kind of store that is known: write file:///DIR",
                   (int)(scheme_length < 64 ? scheme_length : 64), url);
}

void store_close(struct store **s)
{
    if (*s != NULL)
        (*s)->ops->close(*s);
    *s = NULL;
}

static bool key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

static bool part_valid(const char *part, size_t length)
{
    bool dots =
        (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.');
    for (size_t i = 0; i < length; i++)
        if (!key_char(part[i]))
            return false;
    return length > 0 && !dots;
}

/* Every part that a `/` ends is whole. The last one is too, unless `open_end`: then it may be the
 * beginning of one, or nothing. */
static bool parts_valid(const char *key, bool open_end)
{
    if (strlen(key) > STORE_KEY_MAX)
        return false;
    for (const char *part = key;;) {
        size_t length = strcspn(part, "/");
        bool last = part[length] == '\0';
        if (last && open_end) {
            while (key_char(*part))
                part++;
            return *part == '\0';
        }
        if (!part_valid(part, length))
            return false;
        if (last)
            return true;
        part += length + 1;
    }
}

bool store_key_valid(const char *key)
{
    return parts_valid(key, false);
}

static bool check_key(const struct store *s, const char *key, struct err *err)
{
    if (store_key_valid(key))
        return true;
    return err_set(err, ERR_INVALID, "not a valid key for store %s: \"%.128s\"", s->url, key);
}

bool store_put(struct store *s, const char *key, struct span body, struct err *err)
{
    if (!check_key(s, key, err))
        return false;
    if (body.length > STORE_OBJECT_MAX)
        return err_set(err, ERR_INVALID, "object %s has %zu bytes, more than %u", key, body.length,
                       STORE_OBJECT_MAX);
    return s->ops->put(s, key, body, err);
}

bool store_get(struct store *s, const char *key, uint64_t offset, struct mspan out, struct err *err)
{
    if (!check_key(s, key, err))
        return false;
    if (out.length == 0)
        return true;
    if (out.length > STORE_OBJECT_MAX || offset > STORE_OBJECT_MAX - out.length)
        return err_set(err, ERR_CORRUPT,
                       "object %s in %s: %zu bytes at %llu were asked for, and no object has so "
                       "many",
                       key, s->url, out.length, (unsigned long long)offset);
    return s->ops->get(s, key, offset, out, err);
}

bool store_size(struct store *s, const char *key, uint64_t *bytes, struct err *err)
{
    return check_key(s, key, err) && s->ops->size(s, key, bytes, err);
}

bool store_list(struct store *s, const char *prefix, const char *after, store_list_fn *each,
                void *context, struct err *err)
{
    if (!parts_valid(prefix, true) || (after != NULL && strlen(after) > STORE_KEY_MAX))
        return err_set(err, ERR_INVALID, "not a valid prefix for a list of %s: \"%.128s\"", s->url,
                       prefix);
    return s->ops->list(s, prefix, after, each, context, err);
}

bool store_remove(struct store *s, const char *key, struct err *err)
{
    return check_key(s, key, err) && s->ops->remove(s, key, err);
}

bool store_load(struct store *s, const char *key, size_t bytes_max, struct buf *out,
                struct err *err)
{
    uint64_t bytes;

    buf_clear(out);
    if (!store_size(s, key, &bytes, err))
        return false;
    if (bytes > bytes_max)
        return err_set(err, ERR_CORRUPT, "object %s in %s has %llu bytes, more than the %zu it may",
                       key, s->url, (unsigned long long)bytes, bytes_max);
    uint8_t *data = buf_extend(out, (size_t)bytes);
    if (!buf_ok(out, err))
        return err_wrap(err, "cannot load object %s from %s", key, s->url);
    return store_get(s, key, 0, mspan_of(data, (size_t)bytes), err);
}

/* --- store_check --- */

static const char check_body[] = "farshore asks: is this store one that never replaces?";
static const char check_other[] = "If you read this, a second put has replaced the first!";

static bool lacks(struct store *s, struct err *err, const char *property)
{
    return err_set(err, ERR_INVALID,
                   "store %s cannot be used: %s. Use a store that does, or update its software",
                   s->url, property);
}

static bool check_reads(struct store *s, const char *key, struct err *err)
{
    uint8_t out[sizeof check_body];
    uint64_t bytes;

    if (!store_size(s, key, &bytes, err) || !store_get(s, key, 0, mspan_of(out, sizeof out), err)) {
        if (err->kind == ERR_NOT_FOUND)
            return lacks(s, err, "it does not find an object right after it was put");
        return false;
    }
    if (bytes != sizeof check_body || memcmp(out, check_body, sizeof out) != 0)
        return lacks(s, err, "it does not give back the bytes that were put");
    if (!store_get(s, key, 9, mspan_of(out, 4), err))
        return false;
    if (memcmp(out, check_body + 9, 4) != 0)
        return lacks(s, err, "it does not read a part of an object as asked");
    if (store_get(s, key, 9, mspan_of(out, sizeof out), err))
        return lacks(s, err, "it reads past the end of an object");
    if (err->kind == ERR_CORRUPT)
        *err = ERR_NONE;
    return err->kind == ERR_OK;
}

static bool check_never_replaces(struct store *s, const char *key, struct err *err)
{
    if (store_put(s, key, span_of(check_other, sizeof check_other), err))
        return lacks(s, err,
                     "it replaced an object although it was told to create only "
                     "(create-if-absent is ignored)");
    if (err->kind != ERR_EXISTS)
        return false;
    *err = ERR_NONE;
    return check_reads(s, key, err);
}

static bool check_removes(struct store *s, const char *key, struct err *err)
{
    uint64_t bytes;
    if (!store_remove(s, key, err) || !store_remove(s, key, err))
        return false;
    if (store_size(s, key, &bytes, err))
        return lacks(s, err, "it still shows an object right after it was removed");
    if (err->kind == ERR_NOT_FOUND)
        *err = ERR_NONE;
    return err->kind == ERR_OK;
}

bool store_check(struct store *s, struct world *w, const char *prefix, bool removes,
                 struct err *err)
{
    char key[STORE_KEY_MAX + 64], hex[2 * 8 + 1];
    uint8_t random[8];
    struct err local = ERR_NONE, ignored = ERR_NONE;

    int result = w->ops->random(w, random, sizeof random);
    if (result < 0)
        return err_errno(err, -result, "cannot get random bytes to check store %s", s->url);
    hex_of(random, sizeof random, hex);
    snprintf(key, sizeof key, "%scheck-%s", prefix, hex);

    bool ok = store_put(s, key, span_of(check_body, sizeof check_body), &local) &&
              check_reads(s, key, &local) && check_never_replaces(s, key, &local) &&
              (!removes || check_removes(s, key, &local));
    if (ok)
        return true;
    /* The first error is what counts; should this fail too, a few bytes stay. */
    if (removes && !store_remove(s, key, &ignored))
        ignored = ERR_NONE;
    if (err != NULL)
        *err = local;
    return err_wrap(err, "checking store %s", s->url);
}
