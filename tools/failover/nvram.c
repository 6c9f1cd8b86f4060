/* SPDX-License-Identifier: MIT */
#include "tools/failover/nvram.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <zstd.h>

#define LEVEL 9 /* mostly one byte repeated */

bool nvram_read(struct world *w, const char *path, struct buf *packed, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    if (!file_load(w, path, NVRAM_BYTES_MAX, &bytes, err))
        return err_wrap(err, "the firmware's variables");
    size_t room = ZSTD_compressBound(bytes.length), before = packed->length;
    uint8_t *to = buf_extend(packed, room);
    if (to == NULL)
        return buf_ok(packed, err);
    size_t length = ZSTD_compress(to, room, bytes.data, bytes.length, LEVEL);
    if (ZSTD_isError(length) || length > NVRAM_PACKED_MAX) {
        packed->length = before;
        return err_set(err, ERR_FULL,
                       "the firmware's variables in %s do not fit: packed they have more than %u "
                       "bytes",
                       path, NVRAM_PACKED_MAX);
    }
    packed->length = before + length;
    return true;
}

static bool unpack(struct span packed, struct buf *out, struct err *err)
{
    unsigned long long size = packed.length <= NVRAM_PACKED_MAX
                                  ? ZSTD_getFrameContentSize(packed.data, packed.length)
                                  : ZSTD_CONTENTSIZE_ERROR;
    /* Unknown and wrong sizes are the largest numbers. */
    if (size > NVRAM_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "the firmware's variables are not what they claim to be");
    uint8_t *to = buf_extend(out, (size_t)size);
    if (to == NULL)
        return buf_ok(out, err);
    return ZSTD_decompress(to, (size_t)size, packed.data, packed.length) == (size_t)size ||
           err_set(err, ERR_CORRUPT, "the firmware's variables are not what they claim to be");
}

/* libvirt's own folder is its user's; where it gives files to that user itself, this is no harm. */
static bool give_to_owner(const char *folder, const char *path, struct err *err)
{
    struct stat st;
    if (geteuid() != 0)
        return true;
    if (stat(folder, &st) < 0 || lchown(path, st.st_uid, st.st_gid) < 0)
        return err_errno(err, errno, "the owner of %s", path);
    return true;
}

bool nvram_write(struct world *w, const char *path, struct span packed, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');

    if (path[0] != '/' || strlen(path) >= sizeof folder)
        return err_set(err, ERR_INVALID, "\"%.200s\" is no absolute path", path);
    snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path);
    return unpack(packed, &bytes, err) && dir_make(w, folder, 0711, err) &&
           file_replace(w, path, 0600, buf_span(&bytes), err) && give_to_owner(folder, path, err);
}
