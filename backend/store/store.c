/* SPDX-License-Identifier: MIT */
#include "backend/store/store.h"

#include "backend/store/azure.h"
#include "backend/store/file.h"
#include "backend/store/s3.h"

struct scheme {
    const char *name; /* with its "://" */
    bool network;
    bool (*open)(const struct store_host *host, const char *url, bool create, struct store **out,
                 struct err *err);
};

static const struct scheme schemes[] = {
    {"file://", false, file_store_open},
    {"azure://", true, azure_store_open},
    {"s3://", true, s3_store_open},
};

/* NULL with `err` when there is none. */
static const struct scheme *scheme_of(const char *url, struct err *err)
{
    if (strlen(url) >= STORE_URL_MAX) {
        err_set(err, ERR_INVALID, "the store's URL is longer than %u characters",
                STORE_URL_MAX - 1);
        return NULL;
    }
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        if (strncmp(url, schemes[i].name, strlen(schemes[i].name)) == 0)
            return &schemes[i];
    /* Not further: somebody may have given a connection string, with its key. */
    size_t length = strcspn(url, ":/?=;");
    err_set(
        err, ERR_INVALID,
        "\"%.*s\" is no kind of store that is known: write file:///DIR, azure://... or s3://...",
        (int)(length < 64 ? length : 64), url);
    return NULL;
}

bool store_open(const struct store_host *host, const char *url, bool create, struct store **out,
                struct err *err)
{
    const struct scheme *scheme = scheme_of(url, err);
    return scheme != NULL && scheme->open(host, url, create, out, err);
}

bool store_endpoint(const struct store_host *host, const char *url, struct store_endpoint *out,
                    struct err *err)
{
    struct store *s AUTO_STORE = NULL;
    const struct scheme *scheme = scheme_of(url, err);
    *out = (struct store_endpoint){.store = ""};
    if (scheme == NULL || !scheme->network)
        return scheme != NULL;
    /* Opened as ever, so that it cannot tell another place than it will go to. */
    if (!scheme->open(host, url, false, &s, err))
        return false;
    s->ops->endpoint(s, out);
    return true;
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
    return store_put_digested(s, key, body, NULL, err);
}

bool store_put_digested(struct store *s, const char *key, struct span body,
                        const struct sha256 *digest, struct err *err)
{
    if (!check_key(s, key, err))
        return false;
    if (body.length > STORE_OBJECT_MAX)
        return err_set(err, ERR_INVALID, "object %s has %zu bytes, more than %u", key, body.length,
                       STORE_OBJECT_MAX);
    return s->ops->put(s, key, body, digest, err);
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
    if (s->ops->load != NULL)
        return check_key(s, key, err) && s->ops->load(s, key, bytes_max, out, err);
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

static struct store *innermost(struct store *s, struct err *err)
{
    while (s != NULL && s->ops->inner != NULL)
        s = s->ops->inner(s, err);
    return s;
}

bool store_waits(struct store *s)
{
    const struct store *within = innermost(s, NULL);
    return within != NULL && within->ops->endpoint != NULL;
}

bool store_can_copy(struct store *s, struct store *from)
{
    struct store *to = innermost(s, NULL), *source = innermost(from, NULL);
    return to != NULL && source != NULL && to->ops->can_copy != NULL &&
           to->ops->can_copy(to, source);
}

bool store_copy(struct store *s, const char *key, struct store *from, const char *from_key,
                const struct sha256 *digest, bool *proved, struct err *err)
{
    char hex[2 * SHA256_BYTES + 1];

    *proved = false;
    hex_of(digest->bytes, SHA256_BYTES, hex);
    if (!check_key(s, key, err) || !check_key(from, from_key, err))
        return false;
    if (strstr(key, hex) == NULL)
        return err_set(err, ERR_INVALID,
                       "store %s: %s cannot be copied to: its name lacks the digest", s->url, key);
    struct store *source = innermost(from, err);
    return source != NULL &&
           (s->ops->copy != NULL ||
            err_set(err, ERR_INVALID, "store %s: it cannot copy", s->url)) &&
           s->ops->copy(s, key, source, from_key, digest, proved, err);
}

void store_cancel(struct store *s, bool cancelled)
{
    if (s->ops->cancel != NULL)
        s->ops->cancel(s, cancelled);
}
