/* SPDX-License-Identifier: MIT */
#include "fs/disk/journal.h"

#include "common/cleanup.h"
#include "common/file.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define JOURNAL_MAGIC   "FSJOURNL"
#define JOURNAL_VERSION 1u
#define PATH_BYTES      4096u

enum change_kind { CHANGE_DIGESTS = 1, CHANGE_HOLE = 2 };

struct journal {
    struct world *world;
    char path[PATH_BYTES];
    struct generation generation;
    uint64_t slot;
    size_t count;
    struct journal_attempt attempts[JOURNAL_ATTEMPTS_MAX];
    struct buf memory[JOURNAL_ATTEMPTS_MAX]; /* what the attempts' changes borrow */
};

static void change_head(struct buf *b, enum change_kind kind, uint16_t disk, uint64_t first,
                        uint64_t count)
{
    buf_put_u8(b, (uint8_t)kind);
    buf_put_u16(b, disk);
    buf_put_u64(b, first);
    buf_put_u64(b, count);
}

void changes_add_digests(struct buf *changes, uint16_t disk, uint64_t first, uint64_t count,
                         const struct block_digest *digests)
{
    assert(count <= CUT_TAKE_BLOCKS_MAX);
    change_head(changes, CHANGE_DIGESTS, disk, first, count);
    buf_put(changes, digests, count * sizeof *digests);
}

void changes_add_hole(struct buf *changes, uint16_t disk, uint64_t first, uint64_t count)
{
    change_head(changes, CHANGE_HOLE, disk, first, count);
}

static bool write_unknown(struct digest_file *f, uint64_t first, uint64_t count, struct err *err)
{
    struct block_digest unknown[CUT_TAKE_BLOCKS_MAX];
    for (size_t i = 0; i < CUT_TAKE_BLOCKS_MAX; i++)
        unknown[i] = digest_unknown;
    while (count > 0) {
        uint64_t n = count < CUT_TAKE_BLOCKS_MAX ? count : CUT_TAKE_BLOCKS_MAX;
        if (!digest_file_write(f, first, n, unknown, err))
            return false;
        first += n;
        count -= n;
    }
    return true;
}

static bool change_use(struct reader *r, enum changes_use use, struct source *s, struct err *err)
{
    struct block_digest digests[CUT_TAKE_BLOCKS_MAX];
    uint8_t kind = read_u8(r);
    size_t disk = source_find_disk(s, read_u16(r));
    uint64_t first = read_u64(r);
    uint64_t count = read_u64(r);
    const uint64_t blocks_max = DISK_BYTES_MAX >> BLOCK_SHIFT;
    bool bounded = first <= blocks_max && count <= blocks_max - first;
    if (kind == CHANGE_DIGESTS && count <= CUT_TAKE_BLOCKS_MAX)
        read_bytes(r, digests, count * sizeof *digests);
    else if (kind != CHANGE_HOLE)
        r->failed = true;
    if (r->failed || !bounded)
        return err_set(err, ERR_CORRUPT, "the journal of attempts is damaged");
    if (disk == source_disks(s))
        return true; /* a disk that was taken out since */
    struct digest_file *f = source_digests(s, disk);
    if (use == CHANGES_VOID)
        return write_unknown(f, first, count, err);
    if (kind == CHANGE_HOLE)
        return digest_file_hole(f, first, count, err);
    return digest_file_write(f, first, count, digests, err);
}

bool changes_use(struct span changes, enum changes_use use, struct source *s, struct err *err)
{
    struct reader r = reader_of(changes);
    while (reader_left(&r) > 0)
        if (!change_use(&r, use, s, err))
            return false;
    for (size_t i = 0; i < source_disks(s); i++)
        if (!digest_file_sync(source_digests(s, i), err))
            return false;
    return true;
}

static void forget(struct journal *j)
{
    for (size_t i = 0; i < j->count; i++)
        buf_release(&j->memory[i]);
    j->count = 0;
    j->slot = 0;
}

static bool keep(struct journal *j, const struct journal_attempt *attempt, struct err *err)
{
    struct buf *memory = &j->memory[j->count];
    *memory = BUF_NONE;
    buf_put(memory, attempt->changes.data, attempt->changes.length);
    if (!buf_ok(memory, err))
        return false;
    j->attempts[j->count] = *attempt;
    j->attempts[j->count].changes = buf_span(memory);
    j->count++;
    return true;
}

static bool decode_attempt(struct journal *j, struct reader *r, struct err *err)
{
    struct journal_attempt a = {.attempt = read_u64(r)};
    read_bytes(r, a.digest.bytes, sizeof a.digest.bytes);
    a.kind = (enum epoch_kind)read_u8(r);
    a.point_ms = read_u64(r);
    a.changes = read_span(r, read_u32(r));
    return !r->failed && keep(j, &a, err);
}

static bool decode(struct journal *j, struct span stored, struct err *err)
{
    if (stored.length < SHA256_BYTES)
        return false;
    struct span body = span_part(stored, 0, stored.length - SHA256_BYTES);
    struct sha256 sum = sha256_of(body);
    if (memcmp(sum.bytes, stored.data + body.length, SHA256_BYTES) != 0)
        return false;
    struct reader r = reader_of(body);
    char magic[8];
    read_bytes(&r, magic, sizeof magic);
    uint16_t version = read_u16(&r);
    uint32_t number = read_u32(&r);
    uint64_t id = read_u64(&r);
    j->slot = read_u64(&r);
    uint32_t count = read_u32(&r);
    if (r.failed || memcmp(magic, JOURNAL_MAGIC, sizeof magic) != 0 || version != JOURNAL_VERSION ||
        number != j->generation.number || id != j->generation.id || count > JOURNAL_ATTEMPTS_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!decode_attempt(j, &r, err))
            return false;
    return reader_left(&r) == 0;
}

bool journal_open(struct world *w, const char *path, struct generation g, struct journal **out,
                  struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    struct journal *j = calloc(1, sizeof *j);
    if (j == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    j->world = w;
    j->generation = g;
    snprintf(j->path, sizeof j->path, "%s", path);
    struct err load = ERR_NONE;
    if (file_load(w, path, JOURNAL_BYTES_MAX, &stored, &load)) {
        if (!decode(j, buf_span(&stored), &load)) {
            journal_close(&j);
            return err_set(err, ERR_CORRUPT,
                           "%s is damaged; move it away and run `farshore resync` so that all "
                           "blocks are compared again",
                           path);
        }
    } else if (load.kind != ERR_NOT_FOUND) {
        journal_close(&j);
        *err = load;
        return false;
    }
    *out = j;
    return true;
}

void journal_close(struct journal **j)
{
    if (*j == NULL)
        return;
    forget(*j);
    free(*j);
    *j = NULL;
}

uint64_t journal_slot(const struct journal *j)
{
    return j->slot;
}

size_t journal_attempts(const struct journal *j)
{
    return j->count;
}

const struct journal_attempt *journal_attempt(const struct journal *j, size_t i)
{
    assert(i < j->count);
    return &j->attempts[i];
}

static void encode(const struct journal *j, struct buf *b)
{
    buf_put(b, JOURNAL_MAGIC, 8);
    buf_put_u16(b, JOURNAL_VERSION);
    buf_put_u32(b, j->generation.number);
    buf_put_u64(b, j->generation.id);
    buf_put_u64(b, j->slot);
    buf_put_u32(b, (uint32_t)j->count);
    for (size_t i = 0; i < j->count; i++) {
        const struct journal_attempt *a = &j->attempts[i];
        buf_put_u64(b, a->attempt);
        buf_put(b, a->digest.bytes, sizeof a->digest.bytes);
        buf_put_u8(b, (uint8_t)a->kind);
        buf_put_u64(b, a->point_ms);
        buf_put_u32(b, (uint32_t)a->changes.length);
        buf_put(b, a->changes.data, a->changes.length);
    }
    struct sha256 sum = sha256_of(buf_span(b));
    buf_put(b, sum.bytes, sizeof sum.bytes);
}

static void drop_newest(struct journal *j)
{
    assert(j->count > 0);
    j->count--;
    buf_release(&j->memory[j->count]);
    if (j->count == 0)
        j->slot = 0;
}

static void drop_oldest(struct journal *j)
{
    buf_release(&j->memory[0]);
    j->count--;
    memmove(&j->attempts[0], &j->attempts[1], j->count * sizeof *j->attempts);
    memmove(&j->memory[0], &j->memory[1], j->count * sizeof *j->memory);
    j->memory[j->count] = BUF_NONE;
}

bool journal_add(struct journal *j, uint64_t slot, const struct journal_attempt *attempt,
                 struct err *err)
{
    struct buf b AUTO_BUF = BUF_NONE;
    assert(slot != 0 && (j->count == 0 || j->slot == slot));
    if (j->count == JOURNAL_ATTEMPTS_MAX)
        drop_oldest(j);
    j->slot = slot;
    if (!keep(j, attempt, err))
        return false;
    encode(j, &b);
    bool ok = buf_ok(&b, err);
    if (ok && b.length > JOURNAL_BYTES_MAX)
        ok = err_set(err, ERR_FULL, "the journal of epoch %llu would pass its bound of %u bytes",
                     (unsigned long long)slot, JOURNAL_BYTES_MAX);
    if (ok && file_replace(j->world, j->path, 0600, buf_span(&b), err))
        return true;
    /* Nothing was put under this attempt: the ones before it are all that count. */
    drop_newest(j);
    return false;
}

void journal_refused(struct journal *j)
{
    drop_newest(j);
}

void journal_voided(struct journal *j)
{
    for (size_t i = 0; i < j->count; i++) {
        buf_release(&j->memory[i]);
        j->attempts[i].changes = span_of(NULL, 0);
    }
}

bool journal_clear(struct journal *j, struct err *err)
{
    if (!file_remove(j->world, j->path, err))
        return false;
    forget(j);
    return true;
}
