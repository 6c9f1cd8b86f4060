/* SPDX-License-Identifier: MIT */
#include "fs/mount/slots.h"

#include <string.h>

/* A kill may fall between any two stores; those before it are there for the next worker, in this
 * order (release keeps the compiler from another one):
 *   slot_clear: the request's length, then the answer's. The other order would make an answered
 * write TAKEN. slot_record: the answer, then its length. The other order would send half an answer.
 *   read(2) puts the head in last: an old answer is never taken for the new request's. */

enum slot_state slot_state(const struct slot *slot)
{
    uint32_t reply_bytes = atomic_load_explicit(&slot->reply_bytes, memory_order_acquire);

    if (slot->in.len == 0)
        return SLOT_FREE;
    if (slot->in.len < sizeof slot->in || slot->in.len > SLOT_REQUEST_MAX ||
        reply_bytes > sizeof slot->reply)
        return SLOT_DAMAGED;
    return reply_bytes > 0 ? SLOT_EXECUTED : SLOT_TAKEN;
}

void slot_clear(struct slot *slot)
{
    slot->in.len = 0;
    atomic_store_explicit(&slot->reply_bytes, 0, memory_order_release);
}

void *slot_request(struct slot *slot)
{
    return (uint8_t *)slot + offsetof(struct slot, in);
}

void slot_record(struct slot *slot, const struct iovec *reply, size_t count)
{
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        if (reply[i].iov_len > sizeof slot->reply - used)
            return;
        memcpy(slot->reply + used, reply[i].iov_base, reply[i].iov_len);
        used += reply[i].iov_len;
    }
    atomic_store_explicit(&slot->reply_bytes, (uint32_t)used, memory_order_release);
}

ssize_t slot_answer(struct slot *slot, int fd, const struct iovec *reply, size_t count)
{
    slot_record(slot, reply, count);
    return writev(fd, reply, (int)count);
}

struct span slot_reply(const struct slot *slot)
{
    return span_of(slot->reply, atomic_load(&slot->reply_bytes));
}
