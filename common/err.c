/* SPDX-License-Identifier: MIT */
#include "common/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    int errnum;
} kinds[ERR_KINDS] = {
    [ERR_OK] = {"ok", EIO},
    [ERR_NOT_FOUND] = {"not-found", ENOENT},
    [ERR_EXISTS] = {"exists", EEXIST},
    [ERR_TRANSIENT] = {"transient", EIO},
    [ERR_DENIED] = {"denied", EACCES},
    [ERR_CORRUPT] = {"corrupt", EIO},
    [ERR_WRONG_KEY] = {"wrong-key", EIO},
    [ERR_FULL] = {"full", ENOSPC},
    [ERR_CANCELLED] = {"cancelled", EINTR},
    [ERR_INVALID] = {"invalid", EINVAL},
    [ERR_BUSY] = {"busy", EBUSY},
    [ERR_IO] = {"io", EIO},
    [ERR_FENCED] = {"fenced", EIO},
};

static enum err_kind kind_of_errno(int errnum)
{
    switch (errnum) {
    case ENOENT:
    case ENOTDIR:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_DENIED;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
        return ERR_FULL;
    case EBUSY:
        return ERR_BUSY;
    case EINVAL:
        return ERR_INVALID;
    case EINTR:
    case EAGAIN:
    case ETIMEDOUT:
        return ERR_TRANSIENT;
    default:
        return ERR_IO;
    }
}

bool err_set(struct err *err, enum err_kind kind, const char *format, ...)
{
    if (err == NULL)
        return false;
    va_list args;
    va_start(args, format);
    err->kind = kind;
    err->retry_after_ms = 0;
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    return false;
}

bool err_errno(struct err *err, int errnum, const char *format, ...)
{
    if (err == NULL)
        return false;
    va_list args;
    va_start(args, format);
    err->kind = kind_of_errno(errnum);
    err->retry_after_ms = 0;
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    char reason[128];
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s",
             strerror_r(errnum, reason, sizeof reason));
    return false;
}

bool err_wrap(struct err *err, const char *format, ...)
{
    if (err == NULL)
        return false;
    char inner[ERR_TEXT_MAX];
    memcpy(inner, err->text, sizeof inner);
    va_list args;
    va_start(args, format);
    vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    size_t used = strlen(err->text);
    snprintf(err->text + used, sizeof err->text - used, ": %s", inner);
    return false;
}

const char *err_kind_name(enum err_kind kind)
{
    return kind >= 0 && kind < ERR_KINDS ? kinds[kind].name : "unknown";
}

int err_to_errno(enum err_kind kind)
{
    return kind >= 0 && kind < ERR_KINDS ? kinds[kind].errnum : EIO;
}
