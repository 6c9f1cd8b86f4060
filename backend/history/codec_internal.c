/* SPDX-License-Identifier: MIT */
#include "backend/history/codec_internal.h"

#include <inttypes.h>

void buf_put_varint(struct buf *b, uint64_t v)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t n = 0;
    while (v >= 0x80) {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    bytes[n++] = (uint8_t)v;
    buf_put(b, bytes, n);
}

uint64_t read_varint(struct reader *r)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX; i++) {
        uint8_t byte = read_u8(r);
        bool last = !(byte & 0x80);
        bool too_long = last && byte == 0 && i > 0;
        bool too_large = i == VARINT_BYTES_MAX - 1 && byte > 1;
        if (r->failed || too_long || too_large)
            break;
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (last)
            return v;
    }
    r->failed = true;
    return 0;
}

void head_put(struct buf *out, const char *magic, uint64_t key_id)
{
    char padded[MAGIC_BYTES] = {0};
    memcpy(padded, magic, strlen(magic));
    buf_put(out, padded, sizeof padded);
    buf_put_u16(out, FORMAT_VERSION);
    buf_put_u16(out, 0); /* flags: none yet */
    buf_put_u64(out, key_id);
}

bool head_check(struct reader *r, const char *noun, const char *magic, const struct keys *keys,
                struct err *err)
{
    char expected[MAGIC_BYTES] = {0};
    char found[MAGIC_BYTES];
    memcpy(expected, magic, strlen(magic));
    read_bytes(r, found, sizeof found);
    uint16_t version = read_u16(r);
    uint16_t flags = read_u16(r);
    uint64_t key_id = read_u64(r);
    if (r->failed)
        return err_set(err, ERR_CORRUPT, "the %s is cut short", noun);
    if (memcmp(found, expected, sizeof found) != 0)
        return err_set(err, ERR_CORRUPT, "these bytes are no %s", noun);
    if (version != FORMAT_VERSION || flags != 0)
        return err_set(err, ERR_CORRUPT,
                       "the %s is of version %u with flags %#x, which this farshore does not "
                       "know; if a newer one wrote it, update this one",
                       noun, version, flags);
    if (key_id != keys_id(keys))
        return err_set(err, ERR_WRONG_KEY,
                       "the %s is sealed with key %016" PRIx64 ", not with the given key "
                       "%016" PRIx64 "; give the VM's own key file",
                       noun, key_id, keys_id(keys));
    return true;
}

#define ENVELOPE_AAD_MAX (ENVELOPE_HEAD_BYTES + VM_ID_BYTES)

static struct span envelope_aad(const struct envelope_kind *kind, const uint8_t *head,
                                uint8_t out[ENVELOPE_AAD_MAX])
{
    memcpy(out, head, ENVELOPE_HEAD_BYTES);
    if (kind->vm == NULL)
        return span_of(out, ENVELOPE_HEAD_BYTES);
    memcpy(out + ENVELOPE_HEAD_BYTES, kind->vm, VM_ID_BYTES);
    return span_of(out, ENVELOPE_AAD_MAX);
}

bool envelope_seal(const struct envelope_kind *kind, const struct keys *keys,
                   const struct seal_salt *salt, struct span body, struct span tail,
                   struct buf *out, struct err *err)
{
    assert(kind->has_tail || tail.length == 0);
    if (body.length > kind->bytes_max || tail.length > kind->bytes_max ||
        ENVELOPE_HEAD_BYTES + body.length + SEAL_TAG_BYTES + tail.length > kind->bytes_max)
        return err_set(err, ERR_FULL, "the %s would be larger than %zu bytes", kind->noun,
                       kind->bytes_max);
    struct sealer *s AUTO_SEALER = NULL;
    if (!sealer_make(keys, SEAL_HISTORY, salt, &s, err))
        return false;
    size_t start = out->length;
    head_put(out, kind->magic, keys_id(keys));
    buf_put(out, salt->bytes, sizeof salt->bytes);
    buf_put_u32(out, (uint32_t)body.length);
    buf_put_u32(out, (uint32_t)tail.length);
    uint8_t *sealed = buf_extend(out, body.length + SEAL_TAG_BYTES);
    if (sealed == NULL)
        return buf_ok(out, err);
    uint8_t aad[ENVELOPE_AAD_MAX];
    if (!seal(s, 0, envelope_aad(kind, out->data + start, aad), body,
              mspan_of(sealed, body.length + SEAL_TAG_BYTES), err))
        return false;
    buf_put(out, tail.data, tail.length);
    return buf_ok(out, err);
}

bool envelope_open(const struct envelope_kind *kind, const struct keys *keys, struct span stored,
                   struct buf *body, struct span *tail, struct err *err)
{
    struct reader r = reader_of(stored);
    if (stored.length > kind->bytes_max)
        return err_set(err, ERR_CORRUPT, "the %s is larger than %zu bytes", kind->noun,
                       kind->bytes_max);
    if (!head_check(&r, kind->noun, kind->magic, keys, err))
        return false;
    struct seal_salt salt;
    read_bytes(&r, salt.bytes, sizeof salt.bytes);
    size_t body_bytes = read_u32(&r);
    size_t tail_bytes = read_u32(&r);
    if (r.failed || reader_left(&r) != body_bytes + SEAL_TAG_BYTES + tail_bytes ||
        (tail_bytes > 0 && !kind->has_tail))
        return err_set(err, ERR_CORRUPT, "the %s has not the length that it claims", kind->noun);
    struct span sealed = read_span(&r, body_bytes + SEAL_TAG_BYTES);
    *tail = read_span(&r, tail_bytes);

    struct sealer *s AUTO_SEALER = NULL;
    uint8_t aad[ENVELOPE_AAD_MAX];
    if (!sealer_make(keys, SEAL_HISTORY, &salt, &s, err))
        return false;
    uint8_t *plain = buf_extend(body, body_bytes);
    if (plain == NULL)
        return err_set(err, ERR_FULL, "out of memory for the %s", kind->noun);
    if (!unseal(s, 0, envelope_aad(kind, stored.data, aad), sealed, mspan_of(plain, body_bytes),
                err))
        return err_wrap(err, "the %s", kind->noun);
    return true;
}

size_t envelope_bytes(struct span stored)
{
    const size_t lengths_at = ENVELOPE_HEAD_BYTES - 8;
    if (stored.length < ENVELOPE_HEAD_BYTES)
        return 0;
    return (size_t)ENVELOPE_HEAD_BYTES + load_u32(stored.data + lengths_at) + SEAL_TAG_BYTES +
           load_u32(stored.data + lengths_at + 4);
}

void generation_put(struct buf *out, struct generation g)
{
    buf_put_u32(out, g.number);
    buf_put_u64(out, g.id);
}

struct generation generation_read(struct reader *r)
{
    struct generation g = {.number = read_u32(r)};
    g.id = read_u64(r);
    return g;
}

/* Bytes of the UTF-8 character at `p`, by RFC 3629; 0: it is none, or a control character. */
static size_t character_bytes(const unsigned char *p)
{
    size_t more = *p < 0x80 ? 0 : *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
    uint32_t code = more == 0 ? *p : *p & (0x3fu >> more);
    static const uint32_t least[] = {0x20, 0xa0, 0x800, 0x10000}; /* 0x80 to 0x9f control, too */
    if (*p >= 0xf8 || (*p >= 0x80 && *p < 0xc0))
        return 0;
    for (size_t i = 1; i <= more; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (p[i] & 0x3f);
    }
    bool none = code < least[more] || code > 0x10ffff || code == 0x7f;
    return none || (code >= 0xd800 && code <= 0xdfff) ? 0 : more + 1;
}

bool label_valid(const char *label)
{
    const unsigned char *p = (const unsigned char *)label;
    while (*p != '\0') {
        size_t bytes = character_bytes(p);
        if (bytes == 0)
            return false;
        p += bytes;
    }
    return true;
}

bool object_name_valid(const char *name)
{
    size_t length = strnlen(name, RUN_SEGMENT_NAME_MAX);
    for (size_t i = 0; i < length; i++)
        if (name[i] <= 0x20 || name[i] >= 0x7f)
            return false;
    return length > 0 && length < RUN_SEGMENT_NAME_MAX;
}
