/* SPDX-License-Identifier: MIT
 * The request pool: one slot for each thread that serves requests, in memory that the keeper holds,
 * so that the next worker finds what a dead one had in hand. Inside fs/mount only. A slot belongs
 * to one thread at a time; after a death it is read by the thread that follows.
 *
 *   FREE      the request's length is zero: nothing was read, or its answer was given
 *   TAKEN     a request is there, and no answer to it was recorded: the next worker executes it
 *   EXECUTED  the answer was recorded, and sent or not: the next worker only sends it (again)
 *
 *   FREE -read(2) of /dev/fuse-> TAKEN -slot_record-> EXECUTED -slot_clear-> FREE
 *   TAKEN -slot_clear-> FREE     answers longer than SLOT_REPLY_MAX (data read, names) are not
 *                                recorded: such a request changes nothing and is executed again
 *
 * A request that changes something is never executed again once it was answered: a newer write to
 * the same block may have been answered since. One that was not answered may be executed late, and
 * twice. The kernel refuses the second answer to one request (ENOENT), which harms nobody.
 *
 * A length that is not zero means that the request is there whole: the kernel copies a request in
 * one go, head first, and a kill does not interrupt it there, unless a page of the slot is not
 * mapped in (then the request ends with EIO, and what was copied of it is no request). So each
 * thread maps its slot in and locks it before its first read, and clears the length before every
 * read. A slot that no thread has is FREE, or takes memory for its head alone. */
#ifndef FS_MOUNT_SLOTS_H
#define FS_MOUNT_SLOTS_H

#include "common/buf.h"
#include "fs/mount/handshake.h"

#include <stdatomic.h>
#include <sys/uio.h>

/* So many threads serve requests; those that wait for long do not count, up to a number. Some more
 * stay when they are back, so that a short wait needs no new thread. */
#define SERVERS_MAX     4u
#define SERVERS_SPARE   4u
#define WAITING_MAX     64u
#define SLOT_COUNT      (SERVERS_MAX + WAITING_MAX)
#define SLOT_HEAD_BYTES 4096u
/* The longest answer of a request that changes something: that of SETATTR. */
#define SLOT_REPLY_MAX (sizeof(struct fuse_out_header) + sizeof(struct fuse_attr_out))

/* One page whose end is the request's head, and its data on whole pages behind: so the local file
 * can be written straight from it. */
struct slot {
    _Atomic uint32_t reply_bytes; /* 0: none is recorded */
    uint8_t reply[SLOT_REPLY_MAX];
    _Alignas(8) uint8_t unused[SLOT_HEAD_BYTES - 128 - MOUNT_REQUEST_HEAD];
    struct fuse_in_header in;
    uint8_t in_rest[MOUNT_REQUEST_HEAD - sizeof(struct fuse_in_header)];
    uint8_t data[MOUNT_WRITE_MAX];
};
_Static_assert(offsetof(struct slot, data) == SLOT_HEAD_BYTES, "data begins a page");
_Static_assert(sizeof(struct slot) == SLOT_HEAD_BYTES + MOUNT_WRITE_MAX, "slots are whole pages");

/* The kept memory: the keeper's page, the slots, what the caller asked for. */
#define KEPT_SLOTS_OFFSET  KEEPER_PAGE_BYTES
#define KEPT_MEMORY_OFFSET ((KEPT_SLOTS_OFFSET + SLOTS_BYTES + 0xffff) / 0x10000 * 0x10000)

#define SLOT_REQUEST_MAX (MOUNT_REQUEST_HEAD + MOUNT_WRITE_MAX)
#define SLOTS_BYTES      (SLOT_COUNT * sizeof(struct slot))

enum slot_state { SLOT_FREE, SLOT_TAKEN, SLOT_EXECUTED, SLOT_DAMAGED };

/* What a death left there. DAMAGED: lengths that no worker writes; `in` may be all that is true. */
enum slot_state slot_state(const struct slot *slot);
/* Before every read: makes the slot FREE, whatever it was. */
void slot_clear(struct slot *slot);
/* Where a request is read to, SLOT_REQUEST_MAX bytes; a TAKEN slot holds `in.len` of them. */
void *slot_request(struct slot *slot);
/* Before it is sent: keeps the answer, unless it is too long. */
void slot_record(struct slot *slot, const struct iovec *reply, size_t count);
/* Records the answer, then sends it: writev(2). The other order would execute a write again that
 * was answered, over newer data. */
ssize_t slot_answer(struct slot *slot, int fd, const struct iovec *reply, size_t count);
/* Of an EXECUTED slot. */
struct span slot_reply(const struct slot *slot);

#endif
