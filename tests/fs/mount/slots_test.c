/* SPDX-License-Identifier: MIT */
#include "fs/mount/slots.h"

#include "common/cleanup.h"
#include "tests/support/check.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the states ---- */

static struct slot slot;

static void read_request(struct slot *s, uint32_t length, uint64_t unique)
{
    s->in = (struct fuse_in_header){.len = length, .opcode = FUSE_WRITE, .unique = unique};
}

static void record(struct slot *s, size_t body)
{
    static uint8_t bytes[4096];
    struct fuse_out_header out = {.len = (uint32_t)(sizeof out + body), .unique = s->in.unique};
    const struct iovec iov[] = {{.iov_base = &out, .iov_len = sizeof out},
                                {.iov_base = bytes, .iov_len = body}};

    memset(bytes, 0x5a, sizeof bytes);
    slot_record(s, iov, 2);
}

static void a_request_that_was_read_is_taken_until_its_answer_is_recorded(void **state)
{
    (void)state;
    memset(&slot, 0, sizeof slot);
    assert_int_equal(slot_state(&slot), SLOT_FREE);
    read_request(&slot, SLOT_REQUEST_MAX, 8);
    assert_int_equal(slot_state(&slot), SLOT_TAKEN);
    record(&slot, sizeof(struct fuse_write_out));
    assert_int_equal(slot_state(&slot), SLOT_EXECUTED);
    slot_clear(&slot);
    assert_int_equal(slot_state(&slot), SLOT_FREE);
    read_request(&slot, sizeof slot.in, 10);
    assert_int_equal(slot_state(&slot), SLOT_TAKEN);
}

static void the_recorded_answer_is_the_one_that_was_given(void **state)
{
    struct fuse_out_header out;
    struct span reply;

    (void)state;
    memset(&slot, 0, sizeof slot);
    read_request(&slot, 100, 77);
    record(&slot, sizeof(struct fuse_attr_out));
    reply = slot_reply(&slot);
    assert_int_equal(reply.length, sizeof out + sizeof(struct fuse_attr_out));
    memcpy(&out, reply.data, sizeof out);
    assert_int_equal(out.len, reply.length);
    assert_int_equal(out.unique, 77);
    assert_int_equal(reply.data[sizeof out], 0x5a);
    assert_int_equal(reply.data[reply.length - 1], 0x5a);
}

static void an_answer_that_is_too_long_leaves_the_request_taken(void **state)
{
    (void)state;
    memset(&slot, 0, sizeof slot);
    read_request(&slot, 100, 8);
    record(&slot, sizeof(struct fuse_attr_out) + 1);
    assert_int_equal(slot_state(&slot), SLOT_TAKEN);
    record(&slot, 4096);
    assert_int_equal(slot_state(&slot), SLOT_TAKEN);
}

static void lengths_that_cannot_be_are_damage(void **state)
{
    (void)state;
    memset(&slot, 0, sizeof slot);
    read_request(&slot, sizeof slot.in - 1, 8);
    assert_int_equal(slot_state(&slot), SLOT_DAMAGED);
    read_request(&slot, SLOT_REQUEST_MAX + 1, 8);
    assert_int_equal(slot_state(&slot), SLOT_DAMAGED);
    read_request(&slot, 100, 8);
    atomic_store(&slot.reply_bytes, SLOT_REPLY_MAX + 1);
    assert_int_equal(slot_state(&slot), SLOT_DAMAGED);
}

/* ---- a death after every single instruction ---- */

#define REQUESTS       3u
#define REQUEST_LENGTH 60u
#define STEPS_MAX      2000000u

/* A worker of one slot: it reads from a socket whose other end is the kernel's side. */
struct stepped {
    struct slot *slot;                /* shared with the worker */
    _Atomic uint64_t *executed;       /* the number of the request executed last; shared */
    int kernel_fd, worker_fd;         /* datagrams: a request is read whole or not */
    uint64_t asked, answered;         /* numbers of requests */
    unsigned saw_taken, saw_executed; /* steps */
};

static void worker_live(struct stepped *s)
{
    struct fuse_out_header out = {.len = sizeof out};
    struct iovec iov = {.iov_base = &out, .iov_len = sizeof out};

    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    for (unsigned i = 0; i < REQUESTS; i++) {
        slot_clear(s->slot);
        if (read(s->worker_fd, slot_request(s->slot), SLOT_REQUEST_MAX) != REQUEST_LENGTH)
            _exit(1);
        atomic_store(s->executed, s->slot->in.unique);
        out.unique = s->slot->in.unique;
        if (slot_answer(s->slot, s->worker_fd, &iov, 1) != sizeof out)
            _exit(2);
    }
    slot_clear(s->slot);
    _exit(0);
}

static void ask(struct stepped *s)
{
    uint8_t request[REQUEST_LENGTH] = {0};
    const struct fuse_in_header in = {
        .len = REQUEST_LENGTH, .opcode = FUSE_WRITE, .unique = ++s->asked};

    memcpy(request, &in, sizeof in);
    assert_int_equal(send(s->kernel_fd, request, sizeof request, 0), sizeof request);
}

/* What the next worker would find if this one died now. */
static void check_death_here(struct stepped *s)
{
    struct fuse_out_header out;
    int waiting = 0;

    if (recv(s->kernel_fd, &out, sizeof out, MSG_DONTWAIT) == (ssize_t)sizeof out)
        s->answered = out.unique;
    assert_int_equal(ioctl(s->worker_fd, FIONREAD, &waiting), 0);
    bool in_hand = waiting == 0 && s->answered < s->asked;
    enum slot_state found = slot_state(s->slot);

    /* Read and not answered: it is not lost, and it is that request. */
    if (in_hand) {
        assert_true(found == SLOT_TAKEN || found == SLOT_EXECUTED);
        assert_int_equal(s->slot->in.unique, s->asked);
    }
    /* Answered: never executed again. */
    if (found == SLOT_TAKEN)
        assert_true(s->slot->in.unique > s->answered);
    /* An answer is sent again only by the request that it belongs to, and only if executed. */
    if (found == SLOT_EXECUTED) {
        memcpy(&out, slot_reply(s->slot).data, sizeof out);
        assert_int_equal(slot_reply(s->slot).length, sizeof out);
        assert_int_equal(out.unique, s->slot->in.unique);
        assert_int_equal(atomic_load(s->executed), out.unique);
    }
    s->saw_taken += found == SLOT_TAKEN;
    s->saw_executed += found == SLOT_EXECUTED;
    if (s->answered == s->asked && s->asked < REQUESTS)
        ask(s);
}

static void *shared_make(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

static void a_death_after_any_instruction_loses_no_request_and_repeats_no_answered_one(void **state)
{
    struct stepped s = {.slot = shared_make(sizeof(struct slot)),
                        .executed = shared_make(sizeof(uint64_t))};
    int ends[2], status;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    s.kernel_fd = ends[0];
    s.worker_fd = ends[1];
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        worker_live(&s);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSTOPPED(status) || ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_EXITKILL) < 0) {
        kill(pid, SIGKILL);
        cannot_run("no ptrace here");
    }
    ask(&s);
    for (unsigned steps = 0; WIFSTOPPED(status) && steps < STEPS_MAX; steps++) {
        check_death_here(&s);
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(s.answered, REQUESTS);
    assert_true(s.saw_taken > 0 && s.saw_executed > 0);
    close(ends[0]);
    close(ends[1]);
    munmap((void *)s.executed, sizeof(uint64_t));
    munmap(s.slot, sizeof(struct slot));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_that_was_read_is_taken_until_its_answer_is_recorded),
        cmocka_unit_test(the_recorded_answer_is_the_one_that_was_given),
        cmocka_unit_test(an_answer_that_is_too_long_leaves_the_request_taken),
        cmocka_unit_test(lengths_that_cannot_be_are_damage),
        cmocka_unit_test(
            a_death_after_any_instruction_loses_no_request_and_repeats_no_answered_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
