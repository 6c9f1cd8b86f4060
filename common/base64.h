/* SPDX-License-Identifier: MIT
 * Base64 (RFC 4648, section 4) by OpenSSL: how Azure writes keys and signatures. Any thread. */
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H

#include "common/buf.h"

#define BASE64_CHARS(bytes) (((bytes) + 2) / 3 * 4)

/* `out` holds BASE64_CHARS(data.length) + 1. */
void base64_write(struct span data, char *out);
/* Appends to `out`. False when `text` is no base64, padding included, or memory is short. */
bool base64_parse(const char *text, struct buf *out) MUST_CHECK;

#endif
