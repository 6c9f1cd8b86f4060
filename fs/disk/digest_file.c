/* SPDX-License-Identifier: MIT */
#include "fs/disk/digest_file.h"

#include "common/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

/* The file: a head page (magic, version, flags, key id, disk number, 6 zero bytes, their SHA-256),
 * then BLOCK_DIGEST_BYTES per block; holes are zero digests. */

#define DIGESTS_MAGIC   UINT64_C(0x3154534749445346) /* "FSDIGST1" */
#define DIGESTS_VERSION 1u
#define HEAD_BYTES      4096u
#define HEAD_CHECKED    32u
#define BLOCKS_MAX      (DISK_BYTES_MAX >> BLOCK_SHIFT)
_Static_assert(sizeof(struct block_digest) == BLOCK_DIGEST_BYTES, "an array of them is the file");

struct digest_file {
    struct world_file *file;
};

const struct block_digest digest_unknown = {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                             0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};

bool digest_is_unknown(const struct block_digest *d)
{
    return memcmp(d, &digest_unknown, sizeof *d) == 0;
}

static void head_encode(struct buf *out, uint64_t key_id, uint16_t disk)
{
    static const uint8_t zeros[HEAD_BYTES - HEAD_CHECKED - SHA256_BYTES];

    buf_put_u64(out, DIGESTS_MAGIC);
    buf_put_u32(out, DIGESTS_VERSION);
    buf_put_u32(out, 0);
    buf_put_u64(out, key_id);
    buf_put_u16(out, disk);
    buf_put(out, zeros, HEAD_CHECKED - 26);
    if (out->failed)
        return;
    struct sha256 check = sha256_of(buf_span(out));
    buf_put(out, check.bytes, sizeof check.bytes);
    buf_put(out, zeros, sizeof zeros);
}

static bool head_check(struct span head, const char *path, uint64_t key_id, uint16_t disk,
                       struct err *err)
{
    struct reader r = reader_of(head);
    struct sha256 check = sha256_of(span_part(head, 0, HEAD_CHECKED));
    uint64_t magic = read_u64(&r);
    uint32_t version = read_u32(&r);
    uint32_t flags = read_u32(&r);
    uint64_t file_key_id = read_u64(&r);
    uint16_t file_disk = read_u16(&r);

    if (magic != DIGESTS_MAGIC ||
        !digests_equal(head.data + HEAD_CHECKED, check.bytes, SHA256_BYTES))
        return err_set(err, ERR_CORRUPT, "%s is not a digest file, or damaged", path);
    if (version != DIGESTS_VERSION || flags != 0)
        return err_set(err, ERR_CORRUPT, "%s has version %u, flags %#x: made by a newer farshore",
                       path, version, flags);
    if (file_key_id != key_id || file_disk != disk)
        return err_set(err, ERR_CORRUPT,
                       "%s is of disk %u under key %016llx, not of disk %u under key %016llx", path,
                       file_disk, (unsigned long long)file_key_id, disk,
                       (unsigned long long)key_id);
    return true;
}

static bool file_make(struct world *w, const char *path, uint64_t key_id, uint16_t disk,
                      struct err *err)
{
    struct buf head AUTO_BUF = BUF_NONE;

    head_encode(&head, key_id, disk);
    return buf_ok(&head, err) && file_replace(w, path, 0600, buf_span(&head), err);
}

bool digest_file_open(struct world *w, const char *path, uint64_t key_id, uint16_t disk,
                      struct digest_file **out, struct err *err)
{
    struct world_file *file AUTO_FILE = NULL;
    struct err why = ERR_NONE;
    uint8_t head[HEAD_BYTES];

    bool opened = file_open(w, path, O_RDWR, 0, &file, &why);
    if (!opened && why.kind == ERR_NOT_FOUND)
        opened =
            file_make(w, path, key_id, disk, &why) && file_open(w, path, O_RDWR, 0, &file, &why);
    if (!opened) {
        if (err)
            *err = why;
        return false;
    }
    if (!file_read(file, mspan_of(head, sizeof head), 0, err) ||
        !head_check(span_of(head, sizeof head), path, key_id, disk, err))
        return false;
    struct digest_file *f = malloc(sizeof *f);
    if (!f)
        return err_set(err, ERR_FULL, "no memory for the digests in %s", path);
    f->file = TAKE(file);
    *out = f;
    return true;
}

void digest_file_close(struct digest_file **f)
{
    if (*f)
        file_close(&(*f)->file);
    free(*f);
    *f = NULL;
}

static uint64_t offset_of(uint64_t block)
{
    return HEAD_BYTES + block * BLOCK_DIGEST_BYTES;
}

static void assert_blocks(uint64_t first, uint64_t count)
{
    assert(first <= BLOCKS_MAX && count <= BLOCKS_MAX - first);
    (void)first;
    (void)count;
}

bool digest_file_read(struct digest_file *f, uint64_t first, uint64_t count,
                      struct block_digest *out, struct err *err)
{
    assert_blocks(first, count);
    return file_read(f->file, mspan_of(out, (size_t)count * sizeof *out), offset_of(first), err);
}

bool digest_file_write(struct digest_file *f, uint64_t first, uint64_t count,
                       const struct block_digest *digests, struct err *err)
{
    assert_blocks(first, count);
    return file_write(f->file, span_of(digests, (size_t)count * sizeof *digests), offset_of(first),
                      err);
}

bool digest_file_hole(struct digest_file *f, uint64_t first, uint64_t count, struct err *err)
{
    assert_blocks(first, count);
    if (count == 0)
        return true;
    int result = f->file->world->ops->punch(f->file, offset_of(first), count * BLOCK_DIGEST_BYTES);
    if (result < 0)
        return err_errno(err, -result, "cannot clear %llu digests from block %llu",
                         (unsigned long long)count, (unsigned long long)first);
    return true;
}

bool digest_file_sync(struct digest_file *f, struct err *err)
{
    return file_sync(f->file, err);
}

bool digest_file_next(struct digest_file *f, uint64_t from, struct extent *out, bool *found,
                      struct err *err)
{
    uint64_t start, end;

    assert_blocks(from, 0);
    int result = f->file->world->ops->next_data(f->file, offset_of(from), &start, &end);
    *found = result == 0;
    if (result == -ENXIO)
        return true;
    if (result < 0)
        return err_errno(err, -result, "cannot look for digests from block %llu",
                         (unsigned long long)from);
    out->first = (start - HEAD_BYTES) / BLOCK_DIGEST_BYTES;
    out->count = (end - HEAD_BYTES + BLOCK_DIGEST_BYTES - 1) / BLOCK_DIGEST_BYTES - out->first;
    return true;
}
