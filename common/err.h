/* SPDX-License-Identifier: MIT
 * Errors as values. `kind` tells a program what it may do; `text` tells a person what happened, to
 * what, and what to do. The cause writes the text, each level above may add one clause in front,
 * and the level that stops the error logs or prints it once.
 * Plain values: any thread may use its own. */
#ifndef COMMON_ERR_H
#define COMMON_ERR_H

#include <stdarg.h>
#include <stdbool.h>

enum err_kind {
    ERR_OK = 0,
    ERR_NOT_FOUND, /* the thing is not there; asking again changes nothing */
    ERR_EXISTS,    /* the name is taken */
    ERR_TRANSIENT, /* may work later: network, overload, a store out of reach */
    ERR_DENIED,    /* credentials or rights */
    ERR_CORRUPT,   /* bytes from the world are not what they claim to be */
    ERR_WRONG_KEY, /* authentic for another key, or not for this one */
    ERR_FULL,      /* no room, a quota or a bound was reached */
    ERR_CANCELLED, /* asked to stop */
    ERR_INVALID,   /* wrong use or wrong settings: the caller must change something */
    ERR_BUSY,      /* somebody else holds it */
    ERR_IO,        /* a local device or file failed */
    ERR_FENCED,    /* another writer owns this log now */
    ERR_KINDS
};

#define ERR_TEXT_MAX 640

struct err {
    enum err_kind kind;
    unsigned retry_after_ms; /* with ERR_TRANSIENT: the pause that was asked for; 0: none */
    char text[ERR_TEXT_MAX];
};

#define ERR_NONE                                                                                   \
    (struct err)                                                                                   \
    {                                                                                              \
        .kind = ERR_OK                                                                             \
    }

/* For every function that reports through `struct err *`: its result may not be dropped. */
#define MUST_CHECK __attribute__((warn_unused_result))

/* Sets kind and text; returns false, so that a failing function can `return err_set(...)`.
 * `err` may be NULL when the caller needs only the result. */
bool err_set(struct err *err, enum err_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Like err_set, with the kind taken from a positive errno value and ": strerror" appended.
 * ENOENT -> NOT_FOUND, EEXIST -> EXISTS, EACCES/EPERM/EROFS -> DENIED, ENOSPC/EDQUOT/EFBIG/ENOMEM
 * -> FULL, EBUSY -> BUSY, EINVAL -> INVALID, EINTR/EAGAIN/ETIMEDOUT -> TRANSIENT, else IO. */
bool err_errno(struct err *err, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts one clause and ": " in front of the text; returns false. */
bool err_wrap(struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "not-found", "fenced", ... for --json and logs. */
const char *err_kind_name(enum err_kind kind);

/* The errno that a FUSE reply carries for this kind; always positive. */
int err_to_errno(enum err_kind kind);

#endif
