/* SPDX-License-Identifier: MIT
 * Byte 0: 0 and 1 mean that the rest is the kernel's FUSE_INIT, with and without requests that come
 * again; else it is what a death left in a slot of the request pool: u32 length of the answer, the
 * answer, then the request. */
#include "fs/mount/slots.h"
#include "tests/fuzz/fuzz.h"

#include <sys/socket.h>
#include <unistd.h>

static void check_answer(int fd, struct keeper_page *page, uint64_t unique)
{
    struct {
        struct fuse_out_header head;
        struct fuse_init_out body;
    } reply;
    FUZZ_CHECK(read(fd, &reply, sizeof reply) == (ssize_t)sizeof reply);
    FUZZ_CHECK(reply.head.len == sizeof reply && reply.head.error == 0 &&
               reply.head.unique == unique);
    FUZZ_CHECK(reply.body.major == 7 && reply.body.max_write == MOUNT_WRITE_MAX);
    FUZZ_CHECK(page->init_bytes <= sizeof page->init);
}

static void shake_hands(struct span request, bool use_resend)
{
    static struct keeper_page page;
    struct fuse_in_header head = {.len = 0};
    struct err err = ERR_NONE;
    int ends[2];
    if (request.length == 0 || request.length > 4096)
        return;
    memset(&page, 0, sizeof page);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    FUZZ_CHECK(write(ends[0], request.data, request.length) == (ssize_t)request.length);
    if (handshake_answer(ends[1], use_resend, &page, &err)) {
        memcpy(&head, request.data, sizeof head);
        check_answer(ends[0], &page, head.unique);
        FUZZ_CHECK(use_resend || !handshake_can_resend(&page));
    } else {
        FUZZ_CHECK(err.kind == ERR_INVALID);
    }
    close(ends[0]);
    close(ends[1]);
}

static void look_at_slot(struct span left)
{
    static struct slot slot;
    struct reader r = reader_of(left);
    slot_clear(&slot);
    atomic_store(&slot.reply_bytes, read_u32(&r));
    struct span rest = read_span(&r, reader_left(&r));
    size_t reply = rest.length < sizeof slot.reply ? rest.length : sizeof slot.reply;
    if (reply > 0)
        memcpy(slot.reply, rest.data, reply);
    size_t request = rest.length - reply < 4096 ? rest.length - reply : 4096;
    if (request > 0)
        memcpy(slot_request(&slot), rest.data + reply, request);
    enum slot_state state = slot_state(&slot);
    if (state == SLOT_EXECUTED) {
        struct span again = slot_reply(&slot);
        FUZZ_CHECK(again.length > 0 && again.length <= sizeof slot.reply);
    }
    if (state == SLOT_TAKEN || state == SLOT_EXECUTED)
        FUZZ_CHECK(slot.in.len >= sizeof slot.in && slot.in.len <= SLOT_REQUEST_MAX);
    slot_clear(&slot);
    FUZZ_CHECK(slot_state(&slot) == SLOT_FREE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] < 2)
        shake_hands(rest, data[0] == 0);
    else
        look_at_slot(rest);
    return 0;
}
