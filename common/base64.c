/* SPDX-License-Identifier: MIT */
#include "common/base64.h"

#include <limits.h>
#include <openssl/evp.h>

void base64_write(struct span data, char *out)
{
    assert(data.length <= INT_MAX / 2);
    out[0] = '\0';
    if (data.length > 0)
        EVP_EncodeBlock((unsigned char *)out, data.data, (int)data.length);
}

bool base64_parse(const char *text, struct buf *out)
{
    size_t length = strlen(text), padding = 0;

    /* OpenSSL skips space at both ends, and takes padding anywhere for bytes. */
    if (length == 0 || length % 4 != 0 || length > INT_MAX / 2 || strpbrk(text, " \t\r\n-") != NULL)
        return false;
    while (padding < 2 && text[length - 1 - padding] == '=')
        padding++;
    if (strcspn(text, "=") != length - padding)
        return false;
    uint8_t *bytes = buf_extend(out, length / 4 * 3);
    if (bytes == NULL)
        return false;
    bool good = EVP_DecodeBlock(bytes, (const unsigned char *)text, (int)length) >= 0;
    out->length -= good ? padding : length / 4 * 3;
    return good;
}
