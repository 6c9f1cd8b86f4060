/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is what an asker sends to a mount's control socket, else it is what
 * a mount answers. */
#include "tests/fuzz/fuzz.h"
#include "tests/support/tmp_dir.h"
#include "tools/control.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define INPUT_MAX (CONTROL_LINE_MAX + 4096u) /* what one socket takes without a reader */

static struct tmp_dir folder;
static struct control_server *server;
static int impostor; /* listens in the place of a mount */

static void answer(void *context, const char *command, const cJSON *request,
                   struct control_peer *peer)
{
    struct err no = {.kind = ERR_NOT_FOUND, .text = "no such command"};
    (void)context;
    FUZZ_CHECK(command != NULL && request != NULL);
    if (command[0] == 'y')
        control_answer(peer, NULL);
    else
        control_refuse(peer, &no);
}

static int socket_at(const char *name, bool listens)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%.80s/%.20s", folder.path, name);
    FUZZ_CHECK(fd >= 0 && (listens ? bind : connect)(fd, (struct sockaddr *)&a, sizeof a) == 0);
    FUZZ_CHECK(!listens || listen(fd, 4) == 0);
    return fd;
}

static void end(void)
{
    control_server_close(&server);
    close(impostor);
    tmp_dir_remove(&folder);
}

static void begin(void)
{
    struct err err = ERR_NONE;
    tmp_dir_make(&folder);
    FUZZ_CHECK(control_serve(folder.path, "vm", answer, NULL, &server, &err));
    impostor = socket_at("other.sock", true);
    atexit(end);
}

static void send_all(int fd, struct span bytes)
{
    size_t sent = 0;
    while (sent < bytes.length) {
        ssize_t n = send(fd, bytes.data + sent, bytes.length - sent, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* it hung up on a line that is too long */
        sent += (size_t)n;
    }
}

/* Every line that comes back is an answer. */
static void ask(struct span bytes)
{
    struct buf answers AUTO_BUF = BUF_NONE;
    int fd = socket_at("vm.sock", false);
    send_all(fd, bytes);
    shutdown(fd, SHUT_WR);
    for (ssize_t n = 1; n > 0;) {
        uint8_t part[4096];
        n = recv(fd, part, sizeof part, 0);
        if (n > 0)
            buf_put(&answers, part, (size_t)n);
    }
    close(fd);
    struct reader r = reader_of(buf_span(&answers));
    while (reader_left(&r) > 0) {
        cJSON *j AUTO_JSON = NULL;
        bool ok;
        struct err err = ERR_NONE;
        const uint8_t *line = r.data + r.offset;
        const uint8_t *stop = memchr(line, '\n', reader_left(&r));
        if (stop == NULL)
            return; /* cut where it hung up */
        struct span text = read_span(&r, (size_t)(stop - line));
        read_u8(&r);
        FUZZ_CHECK(json_parse(text, &j, &err) && json_bool(j, "ok", &ok, &err));
    }
}

static void be_answered(struct span bytes)
{
    struct control_client *c AUTO_CONTROL = NULL;
    struct err err = ERR_NONE;
    bool more = true;
    FUZZ_CHECK(control_connect(folder.path, "other", &c, &err));
    int fd = accept4(impostor, NULL, NULL, SOCK_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    send_all(fd, bytes);
    close(fd);
    for (size_t i = 0; i <= bytes.length && more; i++) {
        cJSON *j AUTO_JSON = NULL;
        err = ERR_NONE;
        more = control_receive(c, 10000, &j, &err);
        FUZZ_CHECK(more ? j != NULL : err.kind != ERR_OK && err.text[0] != '\0');
    }
    FUZZ_CHECK(!more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > INPUT_MAX)
        return 0;
    if (server == NULL)
        begin();
    if (data[0] == 0)
        ask(span_of(data + 1, size - 1));
    else
        be_answered(span_of(data + 1, size - 1));
    return 0;
}
