/* SPDX-License-Identifier: MIT */
#include "backend/history/numlog.h"

#define NUMLOG_KEY_MAX 256u
#define NUMBER_DIGITS  16u

/* The store has said for certain that it did nothing and will do nothing. All else is doubt. */
static bool is_refusal(enum err_kind kind)
{
    return kind == ERR_DENIED || kind == ERR_FULL || kind == ERR_INVALID || kind == ERR_CORRUPT ||
           kind == ERR_WRONG_KEY || kind == ERR_NOT_FOUND;
}

static enum numlog_result give_up(enum numlog_result result, const struct err *why, struct err *err)
{
    if (err != NULL)
        *err = *why;
    return result;
}

static bool load(const struct numlog *log, uint64_t n, struct buf *out, struct err *err)
{
    char key[NUMLOG_KEY_MAX];
    log->key(log->context, n, key);
    return store_load(log->store, key, log->bytes_max, out, err);
}

/* Loads entry n until two answers in a row agree, or one is `wanted` (its digest): one bit flipped
 * on the way must not fence a writer, nor one answer that is no entry at all. */
static bool load_surely(const struct numlog *log, uint64_t n, const struct sha256 *wanted,
                        struct buf *out, bool *as_wanted, struct err *err)
{
    struct sha256 digest, before = {{0}};
    bool any = false, corrupt = false; /* what the answer before was */
    for (int attempt = 0; attempt < 3; attempt++) {
        if (!load(log, n, out, err)) {
            if (err->kind != ERR_CORRUPT || corrupt)
                return false;
            corrupt = true;
            any = false;
            continue;
        }
        digest = sha256_of(buf_span(out));
        *as_wanted = digests_equal(&digest, wanted, sizeof digest);
        if (*as_wanted || (any && digests_equal(&digest, &before, sizeof digest)))
            return true;
        before = digest;
        any = true;
        corrupt = false;
    }
    return err_set(err, ERR_TRANSIENT, "entry %llu of the log in %s reads differently each time",
                   (unsigned long long)n, log->store->url);
}

static enum numlog_result overtaken(const struct numlog *log, uint64_t n, const char *what,
                                    struct err *err)
{
    char key[NUMLOG_KEY_MAX];
    log->key(log->context, n, key);
    err_set(err, ERR_FENCED, "%s in %s %s: another writer has gone on with this log", key,
            log->store->url, what);
    return NUMLOG_OVERTAKEN;
}

static void know(struct numlog *log, const struct sha256 *digest, struct span entry)
{
    log->known.digest = *digest;
    log->known.length = entry.length < NUMLOG_HEAD_BYTES ? entry.length : NUMLOG_HEAD_BYTES;
    if (log->known.length > 0)
        memcpy(log->known.head, entry.data, log->known.length);
}

/* Whether entry n begins as the one of that digest did when it was seen whole. Else it is to be
 * loaded; unless false is returned, for a store that refused is not asked again at once. */
static bool begins_as_known(const struct numlog *log, uint64_t n, const struct sha256 *digest,
                            bool *as_known, struct err *err)
{
    uint8_t head[NUMLOG_HEAD_BYTES];
    char key[NUMLOG_KEY_MAX];
    size_t length = log->known.length;

    *as_known = false;
    if (length == 0 || !digests_equal(&log->known.digest, digest, sizeof *digest))
        return true;
    log->key(log->context, n, key);
    if (!store_get(log->store, key, 0, mspan_of(head, length), err))
        return err->kind != ERR_TRANSIENT;
    *as_known = memcmp(head, log->known.head, length) == 0;
    return true;
}

/* The look back at entry n - 1, after slot n was seen: `result` when all is well. Without it a
 * slot that was used and removed looks like one that is free. */
static enum numlog_result look_back(struct numlog *log, uint64_t n, const struct sha256 *previous,
                                    enum numlog_result result, struct err *err)
{
    struct buf before AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;
    bool same;

    if (n == 0 || previous == NULL)
        return result;
    if (!begins_as_known(log, n - 1, previous, &same, &why))
        return give_up(NUMLOG_DOUBT, &why, err);
    if (same)
        return result;
    if (load_surely(log, n - 1, previous, &before, &same, &why)) {
        if (!same)
            return overtaken(log, n - 1, "is not what it was", err);
        know(log, previous, buf_span(&before));
        return result;
    }
    if (why.kind == ERR_NOT_FOUND)
        return overtaken(log, n - 1, "is gone", err);
    if (why.kind == ERR_CORRUPT)
        return overtaken(log, n - 1, "is no entry any more", err);
    return give_up(NUMLOG_DOUBT, &why, err);
}

/* The put of `body` was not plainly successful, as `put_err` says. What is in the slot? */
static enum numlog_result read_back(struct numlog *log, uint64_t n, struct span body,
                                    const struct sha256 *previous, struct buf *out,
                                    const struct err *put_err, struct err *err)
{
    struct sha256 ours = sha256_of(body);
    struct err why = ERR_NONE;
    bool same;

    if (load_surely(log, n, &ours, out, &same, &why)) {
        enum numlog_result result =
            look_back(log, n, previous, same ? NUMLOG_DONE : NUMLOG_TAKEN, err);
        if (result == NUMLOG_TAKEN)
            err_set(err, ERR_EXISTS, "entry %llu of the log in %s is somebody else's",
                    (unsigned long long)n, log->store->url);
        return result;
    }
    /* Empty: our put may still arrive. Unless the log has moved on and the slot was removed. */
    if (why.kind == ERR_NOT_FOUND) {
        enum numlog_result result = look_back(log, n, previous, NUMLOG_DOUBT, err);
        return result == NUMLOG_DOUBT ? give_up(NUMLOG_DOUBT, put_err, err) : result;
    }
    return give_up(NUMLOG_DOUBT, &why, err);
}

/* Ours, or loaded: what the next look back will look for. */
static void know_entry(struct numlog *log, struct span entry)
{
    struct sha256 digest = sha256_of(entry);
    know(log, &digest, entry);
}

enum numlog_result numlog_put(struct numlog *log, uint64_t n, struct span body,
                              const struct sha256 *previous, struct buf *out, struct err *err)
{
    struct buf scratch AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;
    char key[NUMLOG_KEY_MAX];

    assert(n == 0 || previous != NULL);
    if (body.length > log->bytes_max) {
        err_set(err, ERR_INVALID,
                "entry %llu has %zu bytes, more than the %zu that a log in %s may",
                (unsigned long long)n, body.length, log->bytes_max, log->store->url);
        return NUMLOG_FAILED;
    }
    log->key(log->context, n, key);
    bool put = store_put(log->store, key, body, &why);
    if (!put && is_refusal(why.kind))
        return give_up(NUMLOG_FAILED, &why, err);
    if (!put && why.retry_after_ms > 0) /* it may have been the slot that we would read back */
        return give_up(NUMLOG_DOUBT, &why, err);
    enum numlog_result result =
        put ? look_back(log, n, previous, NUMLOG_DONE, err)
            : read_back(log, n, body, previous, out != NULL ? out : &scratch, &why, err);
    if (result == NUMLOG_DONE)
        know_entry(log, body);
    return result;
}

enum numlog_result numlog_read(struct numlog *log, uint64_t n, const struct sha256 *expected,
                               struct buf *out, struct err *err)
{
    struct err why = ERR_NONE;
    if (load(log, n, out, &why)) {
        enum numlog_result result = look_back(log, n, expected, NUMLOG_DONE, err);
        if (result == NUMLOG_DONE)
            know_entry(log, buf_span(out));
        return result;
    }
    if (why.kind == ERR_NOT_FOUND)
        return look_back(log, n, expected, NUMLOG_ABSENT, err);
    return give_up(is_refusal(why.kind) ? NUMLOG_FAILED : NUMLOG_DOUBT, &why, err);
}

struct range {
    size_t prefix_length;
    uint64_t first, last;
    bool any;
};

static bool widen(void *context, const char *key, uint64_t bytes)
{
    struct range *range = context;
    const char *digits = key + range->prefix_length;
    uint64_t n = 0;
    (void)bytes;
    /* Digits come before letters: behind the entries lies nothing of ours. */
    if (digits[0] > '9')
        return false;
    if (strlen(digits) != NUMBER_DIGITS || strspn(digits, "0123456789") != NUMBER_DIGITS)
        return true;
    for (size_t i = 0; i < NUMBER_DIGITS; i++)
        n = n * 10 + (uint64_t)(digits[i] - '0');
    if (!range->any)
        range->first = n;
    range->last = n;
    range->any = true;
    return true;
}

bool numlog_start(const struct numlog *log, const char *prefix, uint64_t hint, uint64_t *first,
                  uint64_t *last, struct err *err)
{
    struct range range = {.prefix_length = strlen(prefix), .first = hint, .last = hint};
    if (!store_list(log->store, prefix, NULL, widen, &range, err))
        return false;
    *first = range.first;
    *last = range.last;
    return true;
}
