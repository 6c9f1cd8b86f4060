/* SPDX-License-Identifier: MIT */
#include "fs/mount/handshake.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

/* Newer than the oldest kernel headers that farshore builds with; values of the kernel's ABI. */
#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ull << 36) /* kernel 6.6 */
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ull << 39) /* kernel 6.9 */
#endif
enum { NOTIFY_RESEND = 7 };

#define PROTOCOL_MAJOR 7u
#define PROTOCOL_MINOR 38u
/* FUSE_MAX_PAGES: without it a request carries 128 KiB. */
#define PROTOCOL_MINOR_LEAST 28u
#define BACKGROUND_CONGESTED 96u
/* Not a number that the kernel gives: it counts up from two. */
#define UNIQUE_OF_REPLAY 0x3ffffffffffffff0ull

/* Wanted of what the kernel offers. No writeback cache: the kernel would hold writes that the guest
 * believes written. */
static const uint64_t flags_wanted = FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_PARALLEL_DIROPS |
                                     FUSE_ASYNC_DIO | FUSE_MAX_PAGES | FUSE_INIT_EXT |
                                     FUSE_DIRECT_IO_ALLOW_MMAP | FUSE_HAS_RESEND;

/* Older kernels send a shorter fuse_init_in. */
static void init_arguments(const struct keeper_page *page, struct fuse_init_in *out)
{
    size_t length = page->init_bytes - sizeof(struct fuse_in_header);

    memset(out, 0, sizeof *out);
    memcpy(out, page->init + sizeof(struct fuse_in_header),
           length < sizeof *out ? length : sizeof *out);
}

static uint64_t init_flags(const struct fuse_init_in *in)
{
    uint64_t flags = in->flags;

    if (flags & FUSE_INIT_EXT)
        flags |= (uint64_t)in->flags2 << 32;
    return flags;
}

static bool init_read(int fuse_fd, struct keeper_page *page, struct err *err)
{
    static const size_t least =
        sizeof(struct fuse_in_header) + offsetof(struct fuse_init_in, flags2);
    struct fuse_in_header head;
    uint8_t request[FUSE_MIN_READ_BUFFER];
    ssize_t length;

    do
        length = read(fuse_fd, request, sizeof request);
    while (length < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT));
    if (length < 0)
        return err_errno(err, errno, "reading FUSE_INIT from the kernel");
    if ((size_t)length < least || (size_t)length > sizeof page->init ||
        ((size_t)length > least && (size_t)length < least + sizeof(uint32_t))) /* in mid flags2 */
        return err_set(err, ERR_INVALID, "the kernel's FUSE_INIT is %zd bytes long: not understood",
                       length);
    memcpy(&head, request, sizeof head);
    if (head.opcode != FUSE_INIT || head.len != (size_t)length)
        return err_set(err, ERR_INVALID, "the kernel's first FUSE request is %u, not FUSE_INIT",
                       head.opcode);
    memcpy(page->init, request, (size_t)length);
    page->init_bytes = (uint32_t)length;
    return true;
}

static void resend_hide(struct keeper_page *page)
{
    const size_t at = sizeof(struct fuse_in_header) + offsetof(struct fuse_init_in, flags2);
    struct fuse_init_in in;

    init_arguments(page, &in);
    in.flags2 &= ~(uint32_t)(FUSE_HAS_RESEND >> 32);
    if (page->init_bytes >= at + sizeof in.flags2)
        memcpy(page->init + at, &in.flags2, sizeof in.flags2);
}

bool handshake_answer(int fuse_fd, bool use_resend, struct keeper_page *page, struct err *err)
{
    struct {
        struct fuse_out_header head;
        struct fuse_init_out body;
    } reply = {.head = {.len = sizeof reply}};
    struct fuse_in_header request;
    struct fuse_init_in in;

    if (!init_read(fuse_fd, page, err))
        return false;
    if (!use_resend)
        resend_hide(page);
    init_arguments(page, &in);
    if (in.major != PROTOCOL_MAJOR || in.minor < PROTOCOL_MINOR_LEAST)
        return err_set(err, ERR_INVALID,
                       "the kernel speaks FUSE %u.%u, farshore needs 7.%u (kernel 4.20) or newer",
                       in.major, in.minor, PROTOCOL_MINOR_LEAST);
    memcpy(&request, page->init, sizeof request);
    uint64_t flags = init_flags(&in) & flags_wanted;
    reply.head.unique = request.unique;
    reply.body.major = PROTOCOL_MAJOR;
    reply.body.minor = in.minor < PROTOCOL_MINOR ? in.minor : PROTOCOL_MINOR;
    reply.body.max_readahead = in.max_readahead;
    reply.body.flags = (uint32_t)flags;
    reply.body.flags2 = (uint32_t)(flags >> 32);
    reply.body.max_background = MOUNT_BACKGROUND_MAX;
    reply.body.congestion_threshold = BACKGROUND_CONGESTED;
    reply.body.max_write = MOUNT_WRITE_MAX;
    reply.body.max_pages = (uint16_t)(MOUNT_WRITE_MAX / (uint32_t)sysconf(_SC_PAGESIZE));
    reply.body.time_gran = 1;
    if (write(fuse_fd, &reply, sizeof reply) != (ssize_t)sizeof reply)
        return err_errno(err, errno, "answering the kernel's FUSE_INIT");
    return true;
}

bool handshake_can_resend(const struct keeper_page *page)
{
    struct fuse_init_in in;

    init_arguments(page, &in);
    return (init_flags(&in) & FUSE_HAS_RESEND) != 0;
}

bool handshake_replay(struct fuse_session *session, const struct keeper_page *page, struct err *err)
{
    _Alignas(struct fuse_in_header) uint8_t request[INIT_REQUEST_BYTES];
    struct fuse_in_header head;

    memcpy(request, page->init, page->init_bytes);
    memcpy(&head, request, sizeof head);
    head.unique = UNIQUE_OF_REPLAY;
    memcpy(request, &head, sizeof head);
    fuse_session_process_buf(session, &(struct fuse_buf){.mem = request, .size = page->init_bytes});
    if (fuse_session_exited(session))
        return err_set(err, ERR_INVALID, "libfuse refused the kernel's FUSE_INIT");
    return true;
}

bool handshake_resend(int fuse_fd, struct err *err)
{
    const struct fuse_out_header notice = {.len = sizeof notice, .error = NOTIFY_RESEND};

    if (write(fuse_fd, &notice, sizeof notice) == (ssize_t)sizeof notice)
        return true;
    /* The file system was unmounted while no worker lived: serving will find that out. */
    if (errno == ENODEV || errno == ENOTCONN || errno == EPERM || errno == ECONNABORTED)
        return true;
    return err_errno(err, errno, "asking the kernel for the requests in flight");
}
