/* SPDX-License-Identifier: MIT */
#include "backend/history/doclog.h"

#include "backend/history/codec_internal.h"

#include <stdio.h>
#include <zstd.h>

#define PACK_LEVEL   3
#define READ_TRIES   5u
#define PUT_TRIES    4u
#define NUMBER_CHARS 16u

/* --- the bytes --- */

static struct envelope_kind document_kind(const struct doclog_vault *vault)
{
    return (struct envelope_kind){
        .noun = "document", .magic = "FSDOC", .bytes_max = DOCLOG_BYTES_MAX, .vm = vault->id};
}

static bool pack(struct span document, struct buf *out, struct err *err)
{
    size_t room = ZSTD_compressBound(document.length);
    uint8_t *to = buf_extend(out, room);
    if (to == NULL)
        return buf_ok(out, err);
    size_t packed = ZSTD_compress(to, room, document.data, document.length, PACK_LEVEL);
    if (ZSTD_isError(packed))
        return err_set(err, ERR_FULL, "compressing a document: %s", ZSTD_getErrorName(packed));
    out->length = out->length - room + packed;
    return true;
}

static bool unpack(struct span packed, size_t length, struct buf *out)
{
    buf_clear(out);
    uint8_t *to = buf_extend(out, length);
    return to != NULL && ZSTD_decompress(to, length, packed.data, packed.length) == length;
}

/* The body says its own name, so that no entry can stand for another one. */
bool doclog_encode(const struct doclog_vault *vault, const char *name, uint64_t number,
                   const struct sha256 *previous, uint64_t written_ms, struct span document,
                   const struct seal_salt *salt, struct buf *out, struct err *err)
{
    const struct envelope_kind kind = document_kind(vault);
    struct buf body AUTO_BUF = BUF_NONE;

    if (document.length == 0 || document.length > DOCLOG_DOCUMENT_MAX)
        return err_set(err, ERR_FULL, "a document of %zu bytes, more than the %u that %s/%s takes",
                       document.length, DOCLOG_DOCUMENT_MAX, vault->vm, name);
    buf_put_text(&body, vault->vm);
    buf_put_text(&body, name);
    buf_put_u64(&body, number);
    buf_put(&body, previous->bytes, sizeof previous->bytes);
    buf_put_u64(&body, written_ms);
    buf_put_u32(&body, (uint32_t)document.length);
    return pack(document, &body, err) && buf_ok(&body, err) &&
           envelope_seal(&kind, vault->keys, salt, buf_span(&body), span_of(NULL, 0), out, err);
}

static bool body_parse(const struct doclog_vault *vault, const char *name, uint64_t number,
                       struct span body, struct sha256 *previous, struct buf *document)
{
    char vm[VM_NAME_MAX + 1], log[DOCLOG_NAME_CHARS_MAX + 1];
    struct reader r = reader_of(body);

    read_text(&r, vm, sizeof vm);
    read_text(&r, log, sizeof log);
    bool named = read_u64(&r) == number && strcmp(vm, vault->vm) == 0 && strcmp(log, name) == 0;
    read_bytes(&r, previous->bytes, sizeof previous->bytes);
    read_u64(&r); /* when: for people who look into it */
    size_t length = read_u32(&r);
    if (r.failed || !named || length == 0 || length > DOCLOG_DOCUMENT_MAX)
        return false;
    return unpack(read_span(&r, reader_left(&r)), length, document);
}

bool doclog_decode(const struct doclog_vault *vault, const char *name, uint64_t number,
                   struct span stored, struct sha256 *previous, struct buf *document,
                   struct err *err)
{
    const struct envelope_kind kind = document_kind(vault);
    struct buf body AUTO_BUF = BUF_NONE;
    struct span tail;

    if (!envelope_open(&kind, vault->keys, stored, &body, &tail, err))
        return err_wrap(err, "%s/%s, entry %llu", vault->vm, name, (unsigned long long)number);
    return body_parse(vault, name, number, buf_span(&body), previous, document) ||
           err_set(err, ERR_CORRUPT, "%s/%s, entry %llu: this is not what was put there", vault->vm,
                   name, (unsigned long long)number);
}

/* --- the log --- */

static void entry_key(void *context, uint64_t n, char *out)
{
    const struct doclog *l = context;
    key_document(out, l->vault->vm, l->name, n);
}

void doclog_begin(struct doclog *l, const struct doclog_vault *vault, const char *name)
{
    assert(strlen(name) <= DOCLOG_NAME_CHARS_MAX);
    *l = (struct doclog){.vault = vault, .newest = DOCLOG_NONE};
    snprintf(l->name, sizeof l->name, "%s", name);
    l->log = (struct numlog){
        .store = vault->target, .bytes_max = DOCLOG_BYTES_MAX, .key = entry_key, .context = l};
}

static void forget(struct doclog *l)
{
    l->newest = DOCLOG_NONE;
    l->digest = (struct sha256){{0}};
}

/* Marks beside the entries, of which only the presence counts. */
#define MARK_TIDIED   "tidied"
#define MARK_REMOVING "removing"

static void mark_key(const struct doclog *l, const char *mark, char out[KEY_MAX])
{
    snprintf(out, KEY_MAX, "%s/%s/%s", l->vault->vm, l->name, mark);
}

static bool mark_put(const struct doclog *l, const char *mark, struct err *err)
{
    char key[KEY_MAX];
    mark_key(l, mark, key);
    return store_put(l->vault->target, key, span_of_text("1\n"), err) || err->kind == ERR_EXISTS;
}

static bool mark_remove(const struct doclog *l, const char *mark, struct err *err)
{
    char key[KEY_MAX];
    mark_key(l, mark, key);
    return store_remove(l->vault->target, key, err);
}

static bool is_marked(const struct doclog *l, const char *mark, bool *out, struct err *err)
{
    struct buf marker AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;
    char key[KEY_MAX];

    mark_key(l, mark, key);
    *out = store_load(l->vault->target, key, KEY_MAX, &marker, &why);
    if (*out || why.kind == ERR_NOT_FOUND)
        return true;
    if (err != NULL)
        *err = why;
    return false;
}

/* Whether slot 0 may be one that was used and removed. To be asked after the slot was seen. */
static bool is_tidied(const struct doclog *l, bool *out, struct err *err)
{
    return is_marked(l, MARK_TIDIED, out, err);
}

/* Looking again and again did not help. In a log that was tidied the list may show strays alone. */
static bool unreadable(const struct doclog *l, struct err *err)
{
    bool tidied;
    if (!is_tidied(l, &tidied, err))
        return false;
    return err_set(err, tidied ? ERR_TRANSIENT : ERR_CORRUPT,
                   tidied ? "the list of %s/%s in %s does not show what is there: try again later"
                          : "%s/%s in %s has entries that do not follow each other",
                   l->vault->vm, l->name, l->vault->target->url);
}

/* Reads from entry n to the head. The first is read without a look back when nothing is known.
 * ERR_FENCED: what was known has been tidied away meanwhile, or is a stray in a slot that was. */
static bool walk(struct doclog *l, uint64_t n, struct buf *out, bool *found, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    for (*found = false;; n++) {
        bool known = l->newest != DOCLOG_NONE;
        struct sha256 previous;
        enum numlog_result r = numlog_read(&l->log, n, known ? &l->digest : NULL, &stored, err);
        if (r == NUMLOG_ABSENT)
            return true;
        if (r != NUMLOG_DONE)
            return false;
        if (!doclog_decode(l->vault, l->name, n, buf_span(&stored), &previous, out, err))
            return false;
        if (known && !digests_equal(&previous, &l->digest, sizeof previous))
            return err_set(err, ERR_FENCED, "%s/%s: entry %llu does not follow the one before it",
                           l->vault->vm, l->name, (unsigned long long)n);
        l->newest = n;
        l->digest = sha256_of(buf_span(&stored));
        *found = true;
    }
}

/* One look from the list on. *found false: empty, unless it `may_lag`. */
static bool look(struct doclog *l, struct buf *out, bool *found, bool *may_lag, struct err *err)
{
    char prefix[KEY_MAX];
    uint64_t first, last;

    forget(l);
    snprintf(prefix, sizeof prefix, "%s/%s/", l->vault->vm, l->name);
    if (!numlog_start(&l->log, prefix, 0, &first, &last, err) ||
        !walk(l, last > 0 ? last - 1 : 0, out, found, err))
        return false;
    *may_lag = last > 0 && !*found;
    /* "Empty" and "entry 0 alone" may be strays in slots that were removed. */
    bool lone = !*found || l->newest == 0;
    return *may_lag || !lone || is_tidied(l, may_lag, err);
}

/* Logs of jobs come and go: a file for each would stay. */
static const char *memory_of(const struct doclog *l)
{
    return strchr(l->name, '/') == NULL ? l->vault->state : NULL;
}

static bool recall(const struct doclog *l, struct seen *out, struct err *err)
{
    return seen_begin(out, l->vault->world, memory_of(l), l->name, l->vault->target->url,
                      l->vault->id, err);
}

/* What was just read or put is known from now on. */
static void remember(const struct doclog *l)
{
    struct seen seen;
    struct err why = ERR_NONE; /* what cannot be read is left as it is, and found when it matters */
    if (recall(l, &seen, &why))
        seen_keep(&seen, l->newest + 1, &l->digest);
}

/* The newest entry was read, or there is none. `before`: of a look that this process had. */
static bool check_seen(struct doclog *l, bool found, uint64_t before, const struct seen *seen,
                       struct err *err)
{
    if (before != DOCLOG_NONE && (!found || l->newest < before))
        return err_set(err, ERR_CORRUPT,
                       "%s/%s in %s is shorter than it was: somebody has taken entries away",
                       l->vault->vm, l->name, l->vault->target->url);
    if (!seen_check(seen, &l->log, found ? l->newest + 1 : 0, &l->digest, err))
        return false;
    if (found)
        remember(l);
    return found || err_set(err, ERR_NOT_FOUND, "%s/%s is not in %s", l->vault->vm, l->name,
                            l->vault->target->url);
}

bool doclog_newest(struct doclog *l, struct buf *out, struct err *err)
{
    uint64_t before = l->newest;
    struct seen seen;
    struct err unused;

    err = err != NULL ? err : &unused;
    if (!recall(l, &seen, err))
        return false;
    for (unsigned tries = 0; tries < READ_TRIES; tries++) {
        bool found = false, may_lag = false;
        if (!look(l, out, &found, &may_lag, err)) {
            if (err->kind != ERR_FENCED)
                return err_wrap(err, "reading %s of %s", l->name, l->vault->vm);
            continue;
        }
        if (may_lag)
            continue;
        return check_seen(l, found, before, &seen, err);
    }
    forget(l);
    return unreadable(l, err);
}

bool doclog_poll(struct doclog *l, struct buf *out, bool *changed, struct err *err)
{
    struct buf fresh AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;

    if (l->newest != DOCLOG_NONE) {
        bool good = walk(l, l->newest + 1, &fresh, changed, &why);
        if (good && !*changed)
            return true;
        if (!good && why.kind != ERR_FENCED) {
            if (err != NULL)
                *err = why;
            return err_wrap(err, "reading %s of %s", l->name, l->vault->vm);
        }
        if (good) {
            remember(l);
            buf_clear(out);
            buf_put(out, fresh.data, fresh.length);
            return buf_ok(out, err);
        }
    }
    *changed = true;
    return doclog_newest(l, out, err);
}

static bool load_entry(struct doclog *l, uint64_t n, struct sha256 *previous, struct buf *out,
                       struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];

    entry_key(l, n, key);
    return store_load(l->vault->target, key, DOCLOG_BYTES_MAX, &stored, err) &&
           doclog_decode(l->vault, l->name, n, buf_span(&stored), previous, out, err);
}

bool doclog_read(struct doclog *l, uint64_t number, struct buf *out, struct err *err)
{
    struct sha256 previous;
    return load_entry(l, number, &previous, out, err);
}

static bool lost_race(const struct doclog *l, uint64_t n, struct err *err)
{
    return err_set(err, ERR_EXISTS, "%s/%s: another host was first with entry %llu", l->vault->vm,
                   l->name, (unsigned long long)n);
}

/* Entry n is in its slot and counts. */
static bool appended(struct doclog *l, uint64_t n, struct span stored)
{
    l->newest = n;
    l->digest = sha256_of(stored);
    remember(l);
    return true;
}

/* What was put counts, or was never there, and nobody can tell which. */
static bool in_doubt(const struct doclog *l, uint64_t n, struct err *err)
{
    err->kind = ERR_TRANSIENT;
    return err_wrap(err, "whether %s/%s has entry %llu is in doubt", l->vault->vm, l->name,
                    (unsigned long long)n);
}

/* Entry n was put, and entries before it are tidied away: others have gone on for long. It counts
 * if the next one follows it. When that has gone too it may have counted, also if it is there: a
 * second put of it into a slot that was freed. */
static bool settle_overtaken(struct doclog *l, uint64_t n, struct span stored, struct err *err)
{
    struct sha256 ours = sha256_of(stored), previous;
    struct buf document AUTO_BUF = BUF_NONE;

    *err = ERR_NONE;
    if (!load_entry(l, n + 1, &previous, &document, err))
        return in_doubt(l, n, err);
    return digests_equal(&previous, &ours, sizeof ours) ? appended(l, n, stored)
                                                        : lost_race(l, n, err);
}

/* Whether entries in front of the one before n are gone. A tidied log keeps more than two, so the
 * one before n may then be a stray itself, put twice, on which nothing can follow. */
static bool is_overtaken(struct doclog *l, uint64_t n, bool *out, struct err *err)
{
    uint64_t bytes;
    char key[KEY_MAX];

    if (n < 2)
        return is_tidied(l, out, err);
    entry_key(l, n - 2, key);
    *out = !store_size(l->vault->target, key, &bytes, err);
    return !*out || err->kind == ERR_NOT_FOUND;
}

/* Ours is in slot n, and the one before it where it was. */
static bool settle_put(struct doclog *l, uint64_t n, struct span stored, struct err *err)
{
    bool overtaken;
    *err = ERR_NONE;
    if (!is_overtaken(l, n, &overtaken, err))
        return in_doubt(l, n, err);
    return overtaken ? settle_overtaken(l, n, stored, err) : appended(l, n, stored);
}

/* Another's is in slot n. It is the first only if slot 0 was never freed: the others are looked
 * back from. */
static bool settle_taken(const struct doclog *l, uint64_t n, bool doubted, struct err *err)
{
    bool tidied = false;
    if (n == 0 && doubted && (!is_tidied(l, &tidied, err) || tidied))
        return in_doubt(l, n, err);
    return lost_race(l, n, err);
}

/* A put in doubt is made again with the same bytes: what came of the first is found there. */
static bool put_settled(struct doclog *l, uint64_t n, struct span stored, struct err *err)
{
    for (unsigned tries = 1;; tries++) {
        switch (numlog_put(&l->log, n, stored, n > 0 ? &l->digest : NULL, NULL, err)) {
        case NUMLOG_DONE:
            return settle_put(l, n, stored, err);
        case NUMLOG_TAKEN:
            return settle_taken(l, n, tries > 1, err);
        case NUMLOG_OVERTAKEN:
            return settle_overtaken(l, n, stored, err);
        case NUMLOG_DOUBT:
            if (tries == PUT_TRIES)
                return in_doubt(l, n, err);
            break;
        default:
            if (tries > 1)
                return in_doubt(l, n, err);
            return err_wrap(err, "putting entry %llu of %s/%s", (unsigned long long)n, l->vault->vm,
                            l->name);
        }
    }
}

bool doclog_append(struct doclog *l, struct span document, struct err *err)
{
    struct world *w = l->vault->world;
    struct buf stored AUTO_BUF = BUF_NONE;
    struct err unused;
    struct sha256 content = sha256_of(document);
    struct seal_salt salt;
    uint64_t n = l->newest == DOCLOG_NONE ? 0 : l->newest + 1;
    uint64_t now_ms = w->ops->realtime_ns(w) / 1000000;

    err = err != NULL ? err : &unused;
    return salt_make(l->vault->keys, SEAL_HISTORY, w, 0, n, now_ms, &content, &salt, err) &&
           doclog_encode(l->vault, l->name, n, &l->digest, now_ms, document, &salt, &stored, err) &&
           put_settled(l, n, buf_span(&stored), err);
}

/* --- what goes --- */

struct surplus {
    size_t prefix;
    uint64_t below;  /* entries from here on stay */
    struct buf keys; /* each with its NUL, in order */
};

static bool surplus_see(void *context, const char *key, uint64_t bytes)
{
    struct surplus *s = context;
    const char *digits = key + s->prefix;
    (void)bytes;
    if (strlen(digits) == NUMBER_CHARS && strspn(digits, "0123456789") == NUMBER_CHARS &&
        strtoull(digits, NULL, 10) < s->below)
        buf_put(&s->keys, key, strlen(key) + 1);
    return true;
}

static void surplus_release(struct surplus *s)
{
    buf_release(&s->keys);
}

static bool remove_below(struct doclog *l, uint64_t below, struct err *err)
{
    struct surplus s CLEANUP(surplus_release) = {.below = below};
    char prefix[KEY_MAX];

    s.prefix = (size_t)snprintf(prefix, sizeof prefix, "%s/%s/", l->vault->vm, l->name);
    if (!store_list(l->vault->target, prefix, NULL, surplus_see, &s, err) || !buf_ok(&s.keys, err))
        return false;
    for (size_t at = 0; at < s.keys.length;) {
        const char *key = (const char *)s.keys.data + at;
        if (!store_remove(l->vault->target, key, err))
            return false;
        at += strlen(key) + 1;
    }
    return true;
}

bool doclog_tidy(struct doclog *l, struct err *err)
{
    struct err unused;

    err = err != NULL ? err : &unused;
    if (l->newest == DOCLOG_NONE || l->newest < DOCLOG_KEEP)
        return true;
    /* The mark before the first removal: the other order has a moment in which a log that is tidied
     * looks empty. */
    if (!mark_put(l, MARK_TIDIED, err))
        return err_wrap(err, "tidying %s of %s", l->name, l->vault->vm);
    return remove_below(l, l->newest + 1 - DOCLOG_KEEP, err);
}

/* The mark first and last: what a removal that was cut off leaves cannot be read any more. */
bool doclog_remove(struct doclog *l, struct err *err)
{
    struct err unused;
    err = err != NULL ? err : &unused;
    bool good = mark_put(l, MARK_REMOVING, err) && remove_below(l, UINT64_MAX, err) &&
                mark_remove(l, MARK_TIDIED, err) && mark_remove(l, MARK_REMOVING, err);
    if (good)
        forget(l);
    return good;
}

bool doclog_removing(const struct doclog *l, bool *out, struct err *err)
{
    return is_marked(l, MARK_REMOVING, out, err);
}
