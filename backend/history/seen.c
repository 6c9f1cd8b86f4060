/* SPDX-License-Identifier: MIT */
#include "backend/history/seen.h"

#include "backend/history/generation.h"
#include "common/file.h"
#include "common/log.h"

#include <stdio.h>
#include <unistd.h>

#define NUMBER_DIGITS 20u
#define LINE_BYTES    (NUMBER_DIGITS + 1 + 2 * SHA256_BYTES + 1)
#define NAME_BYTES    8u /* of the digest that tells stores and VMs apart */

static void name_file(struct seen *s, const char *log, const char *url,
                      const uint8_t vm[VM_ID_BYTES])
{
    struct buf what AUTO_BUF = BUF_NONE;
    char hex[2 * NAME_BYTES + 1];

    buf_put(&what, vm, VM_ID_BYTES);
    buf_put(&what, url, strlen(url));
    struct sha256 digest = sha256_of(buf_span(&what));
    hex_of(digest.bytes, NAME_BYTES, hex);
    snprintf(s->path, sizeof s->path, "%.*s/seen-%.32s-%s", (int)sizeof s->path - 64, s->folder,
             log, hex);
}

/* "00000000000000000012 DIGEST\n" */
static bool parse(struct seen *s, struct span line)
{
    char hex[2 * SHA256_BYTES + 1];
    uint64_t number = 0;

    if (line.length != LINE_BYTES || line.data[NUMBER_DIGITS] != ' ' ||
        line.data[LINE_BYTES - 1] != '\n')
        return false;
    for (size_t i = 0; i < NUMBER_DIGITS; i++) {
        unsigned digit = line.data[i] - (unsigned)'0';
        if (digit > 9 || number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    memcpy(hex, line.data + NUMBER_DIGITS + 1, sizeof hex - 1);
    hex[sizeof hex - 1] = '\0';
    s->number = number;
    s->known = number < UINT64_MAX && hex_parse(hex, s->digest.bytes, SHA256_BYTES);
    return s->known;
}

static bool load(struct seen *s, struct err *err)
{
    struct buf line AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;

    s->known = false;
    if (!file_load(s->world, s->path, LINE_BYTES, &line, &why)) {
        if (why.kind == ERR_NOT_FOUND)
            return true;
        if (err != NULL)
            *err = why;
        return false;
    }
    return parse(s, buf_span(&line)) ||
           err_set(err, ERR_CORRUPT,
                   "%s is damaged; remove it when the store is known to be as it should", s->path);
}

bool seen_begin(struct seen *s, struct world *w, const char *folder, const char *log,
                const char *url, const uint8_t vm[VM_ID_BYTES], struct err *err)
{
    *s = (struct seen){.world = NULL};
    if (folder == NULL || folder[0] == '\0')
        return true;
    s->world = w;
    snprintf(s->folder, sizeof s->folder, "%s", folder);
    name_file(s, log, url, vm);
    return load(s, err);
}

static bool rolled_back(const struct seen *s, const struct numlog *log, uint64_t count,
                        struct err *err)
{
    char key[KEY_MAX];
    log->key(log->context, s->number, key);
    return err_set(
        err, ERR_CORRUPT,
        "%s in %s was there and is gone (the log has %llu entries): the store was rolled "
        "back below what this host has seen. If that was meant, remove %s",
        key, log->store->url, (unsigned long long)count, s->path);
}

bool seen_check(const struct seen *s, const struct numlog *log, uint64_t count,
                const struct sha256 *digest, struct err *err)
{
    struct buf entry AUTO_BUF = BUF_NONE;
    struct numlog look = *log; /* what it knows stays as it is */
    struct sha256 found;
    char key[KEY_MAX];

    if (s->world == NULL || !s->known)
        return true;
    if (count <= s->number)
        return rolled_back(s, log, count, err);
    found = *digest;
    if (count > s->number + 1) {
        enum numlog_result r = numlog_read(&look, s->number, NULL, &entry, err);
        if (r == NUMLOG_ABSENT)
            return true;
        if (r != NUMLOG_DONE)
            return false;
        found = sha256_of(buf_span(&entry));
    }
    log->key(log->context, s->number, key);
    return digests_equal(&found, &s->digest, sizeof found) ||
           err_set(err, ERR_CORRUPT,
                   "%s in %s is not the entry that this host has seen there: the store was rolled "
                   "back and written anew. If that was meant, remove %s",
                   key, log->store->url, s->path);
}

/* By a name that no other process uses at this moment. */
static bool replace(const struct seen *s, struct span line, struct err *err)
{
    char own[SEEN_PATH_MAX + 16];
    snprintf(own, sizeof own, "%s.%d", s->path, (int)getpid());
    if (!dir_make(s->world, s->folder, 0700, err) || !file_replace(s->world, own, 0600, line, err))
        return false;
    int result = s->world->ops->rename(s->world, own, s->path);
    if (result == 0)
        result = s->world->ops->sync_dir(s->world, s->folder);
    return result == 0 || err_errno(err, -result, "%s", s->path);
}

void seen_keep(struct seen *s, uint64_t count, const struct sha256 *digest)
{
    char line[LINE_BYTES + 1], hex[2 * SHA256_BYTES + 1];
    struct err why = ERR_NONE;

    if (s->world == NULL || count == 0 || (s->known && s->number >= count - 1))
        return;
    /* Another process may know more; what it knows is left alone. */
    if (load(s, &why) && s->known && s->number >= count - 1)
        return;
    hex_of(digest->bytes, SHA256_BYTES, hex);
    snprintf(line, sizeof line, "%0*llu %s\n", (int)NUMBER_DIGITS, (unsigned long long)count - 1,
             hex);
    if (!replace(s, span_of_text(line), &why) && !s->told) {
        log_warning("what was seen of the store is not remembered: %s", why.text);
        s->told = true;
    }
    s->known = true;
    s->number = count - 1;
    s->digest = *digest;
}

bool seen_forget(struct seen *s, struct err *err)
{
    s->known = false;
    return s->world == NULL || file_remove(s->world, s->path, err);
}
