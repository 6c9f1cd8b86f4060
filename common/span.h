/* SPDX-License-Identifier: MIT
 * Borrowed bytes: a pointer and a length, read-only (`span`) or to be filled (`mspan`). They own
 * nothing; whoever made the bytes frees them. */
#ifndef COMMON_SPAN_H
#define COMMON_SPAN_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
    const uint8_t *data;
    size_t length;
};

struct mspan {
    uint8_t *data;
    size_t length;
};

static inline struct span span_of(const void *data, size_t length)
{
    return (struct span){.data = data, .length = length};
}

static inline struct mspan mspan_of(void *data, size_t length)
{
    return (struct mspan){.data = data, .length = length};
}

static inline struct span span_of_mspan(struct mspan m)
{
    return (struct span){.data = m.data, .length = m.length};
}

static inline struct span span_of_text(const char *text)
{
    return span_of(text, strlen(text));
}

/* The part [offset, offset + length); the caller has checked that it lies inside. An empty span
 * may have no data, and C does not define NULL + 0. */
static inline struct span span_part(struct span s, size_t offset, size_t length)
{
    assert(offset <= s.length && length <= s.length - offset);
    return s.length == 0 ? s : span_of(s.data + offset, length);
}

static inline struct mspan mspan_part(struct mspan m, size_t offset, size_t length)
{
    assert(offset <= m.length && length <= m.length - offset);
    return m.length == 0 ? m : mspan_of(m.data + offset, length);
}

static inline bool span_equal(struct span a, struct span b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

#endif
