/* SPDX-License-Identifier: MIT */
#include "fs/view/presence_record.h"

#include "common/digest.h"

#include <errno.h>
#include <fcntl.h>

#define PRESENCE_MAGIC   "FSOVERLY"
#define PRESENCE_VERSION 1u
#define FLAG_WHOLE       1u

static void encode_head(const struct presence_head *head, uint16_t flags, struct buf *out)
{
    buf_put(out, PRESENCE_MAGIC, 8);
    buf_put_u32(out, PRESENCE_VERSION);
    buf_put_u32(out, PRESENCE_PAGE_BYTES);
    buf_put(out, head->vm, VM_ID_BYTES);
    buf_put_u64(out, head->generation_id);
    buf_put_u64(out, head->epoch);
    buf_put_u64(out, head->disk_bytes);
    buf_put_u32(out, BLOCK_BYTES);
    buf_put_u16(out, head->disk);
    buf_put_u16(out, flags);
    struct sha256 sum = sha256_of(buf_span(out));
    buf_put(out, sum.bytes, sizeof sum.bytes);
    uint8_t *padding = buf_extend(out, PRESENCE_HEAD_BYTES - out->length);
    if (padding)
        memset(padding, 0, PRESENCE_HEAD_BYTES - (size_t)(padding - out->data));
}

bool presence_create(struct world *w, const char *path, const struct presence_head *head,
                     struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    encode_head(head, 0, &bytes);
    return buf_ok(&bytes, err) && file_replace(w, path, 0600, buf_span(&bytes), err);
}

/* A head has one right form for what is expected, so it is compared, not parsed. */
static bool head_is(const uint8_t *found, const struct presence_head *head, uint16_t flags,
                    bool *out, struct err *err)
{
    struct buf expected AUTO_BUF = BUF_NONE;
    encode_head(head, flags, &expected);
    *out = buf_ok(&expected, err) &&
           span_equal(span_of(found, PRESENCE_HEAD_BYTES), buf_span(&expected));
    return buf_ok(&expected, err);
}

/* The parts are looked at only to say what is wrong. */
static bool check_head(struct world_file *file, const struct presence_head *head, bool *whole,
                       struct err *err)
{
    uint8_t found[PRESENCE_HEAD_BYTES];
    bool is_partial, is_whole;
    const size_t summed = 64;

    if (!file_read(file, mspan_of(found, sizeof found), 0, err) ||
        !head_is(found, head, 0, &is_partial, err) ||
        !head_is(found, head, FLAG_WHOLE, &is_whole, err))
        return false;
    if (whole)
        *whole = is_whole;
    if (is_partial || (whole && is_whole))
        return true;
    struct sha256 sum = sha256_of(span_of(found, summed));
    if (memcmp(found, PRESENCE_MAGIC, 8) != 0 ||
        memcmp(found + summed, sum.bytes, sizeof sum.bytes) != 0)
        return err_set(err, ERR_CORRUPT,
                       "%s is not a whole presence record: what lies beside it cannot be used",
                       file->path);
    if (load_u32(found + 8) != PRESENCE_VERSION)
        return err_set(err, ERR_CORRUPT,
                       "%s has version %u, this farshore reads version %u: use a newer one",
                       file->path, load_u32(found + 8), PRESENCE_VERSION);
    return err_set(err, ERR_CORRUPT, "%s belongs to another VM, point or disk", file->path);
}

bool presence_record_open(struct world *w, const char *path, const struct presence_head *head,
                          struct world_file **out, bool *whole, struct err *err)
{
    struct world_file *file AUTO_FILE = NULL;
    if (!file_open(w, path, O_RDWR, 0, &file, err) || !check_head(file, head, whole, err))
        return false;
    *out = TAKE(file);
    return true;
}

/* In place: what differs lies in one sector, which a disk writes whole or not at all. */
bool presence_record_whole(struct world_file *file, const struct presence_head *head,
                           struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    encode_head(head, FLAG_WHOLE, &bytes);
    return buf_ok(&bytes, err) && file_write(file, buf_span(&bytes), 0, err) &&
           file_sync(file, err);
}

static uint64_t page_offset(uint64_t index)
{
    return PRESENCE_HEAD_BYTES + index * PRESENCE_PAGE_BYTES;
}

static bool load_page(struct world_file *file, uint64_t index, presence_page_fn *page,
                      void *context, struct err *err)
{
    uint8_t bits[PRESENCE_PAGE_BYTES];
    return file_read(file, mspan_of(bits, sizeof bits), page_offset(index), err) &&
           page(context, index, bits, err);
}

bool presence_record_pages(struct world_file *file, uint64_t page_count, presence_page_fn *page,
                           void *context, struct err *err)
{
    uint64_t from = PRESENCE_HEAD_BYTES, next = 0;
    for (;;) {
        uint64_t start, end;
        int failure = file->world->ops->next_data(file, from, &start, &end);
        if (failure == -ENXIO)
            return true;
        if (failure < 0)
            return err_errno(err, -failure, "cannot find the pages of %s", file->path);
        uint64_t index = (start - PRESENCE_HEAD_BYTES) / PRESENCE_PAGE_BYTES;
        if (index < next)
            index = next; /* the rest of a page that was read */
        for (; index < page_count && page_offset(index) < end; index++)
            if (!load_page(file, index, page, context, err))
                return false;
        if (index >= page_count)
            return true;
        next = index;
        from = page_offset(index);
    }
}

bool presence_record_put(struct world_file *file, uint64_t index, const uint8_t *bits,
                         struct err *err)
{
    return file_write(file, span_of(bits, PRESENCE_PAGE_BYTES), page_offset(index), err);
}
