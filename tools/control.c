/* SPDX-License-Identifier: MIT */
#include "tools/control.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define THREAD_STACK_BYTES (256u << 10) /* the worker's memory is locked: keep it small */

/* --- lines over a socket, both sides --- */

struct line_reader {
    int fd;
    size_t used;
    char bytes[CONTROL_LINE_MAX];
};

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool send_line(int fd, const cJSON *j, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    if (!json_write(j, false, &text, err))
        return false;
    buf_put(&text, "\n", 1);
    if (!buf_ok(&text, err))
        return false;
    for (size_t at = 0; at < text.length;) {
        ssize_t n = send(fd, text.data + at, text.length - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
            return err_set(err, ERR_TRANSIENT,
                           "the other end of the control socket hung up: try again");
        if (n <= 0)
            return err_errno(err, errno, "the control socket cannot be written");
        at += (size_t)n;
    }
    return true;
}

/* Waits until `fd` or `stop` (-1: none) is readable; false on time-out, stop or error. */
static bool wait_readable(int fd, int stop, uint64_t deadline_ms)
{
    struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = stop, .events = POLLIN}};
    for (;;) {
        uint64_t now = now_ms();
        if (now >= deadline_ms)
            return false;
        uint64_t left = deadline_ms - now;
        int n = poll(p, 2, left > 1000000 ? 1000000 : (int)left);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0)
            return p[1].revents == 0;
    }
}

enum line_result { LINE_READ, LINE_END, LINE_TIMEOUT, LINE_TOO_LONG };

/* The next line, parsed into *out by the caller: `line` is borrowed until the next call. */
static enum line_result next_line(struct line_reader *r, int stop, uint64_t timeout_ms,
                                  struct span *line, size_t *consumed)
{
    uint64_t deadline = now_ms() + timeout_ms;
    memmove(r->bytes, r->bytes + *consumed, r->used - *consumed);
    r->used -= *consumed;
    *consumed = 0;
    for (;;) {
        char *end = memchr(r->bytes, '\n', r->used);
        if (end) {
            *line = span_of(r->bytes, (size_t)(end - r->bytes));
            *consumed = line->length + 1;
            return LINE_READ;
        }
        if (r->used == sizeof r->bytes)
            return LINE_TOO_LONG;
        if (!wait_readable(r->fd, stop, deadline))
            return LINE_TIMEOUT;
        ssize_t n = recv(r->fd, r->bytes + r->used, sizeof r->bytes - r->used, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return LINE_END;
        r->used += (size_t)n;
    }
}

/* A socket's address holds 107 characters; through the open folder every path is short enough. */
static bool socket_address(const char *folder, const char *vm, struct sockaddr_un *out,
                           int *folder_fd, struct err *err)
{
    *folder_fd = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*folder_fd < 0)
        return err_errno(err, errno, "%s", folder);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%.63s.sock", *folder_fd, vm);
    return true;
}

/* --- the mount's side --- */

struct control_server {
    int listener;
    int stop; /* eventfd, readable once closing */
    control_handler *handle;
    void *context;
    char *path; /* FOLDER/VM.sock */
    pthread_t acceptor;
    pthread_mutex_t lock; /* guards: */
    pthread_cond_t idle;
    unsigned connections;
};

struct control_peer {
    struct control_server *server;
    struct line_reader in;
};

static void send_or_drop(int fd, const cJSON *j)
{
    struct err err = ERR_NONE;
    if (!send_line(fd, j, &err))
        shutdown(fd, SHUT_RDWR); /* the asker is gone, and its connection ends with it */
}

void control_answer(struct control_peer *peer, cJSON *fields)
{
    cJSON *own AUTO_JSON = NULL;
    struct err err = ERR_NONE;
    if (fields == NULL && json_make(&own, &err))
        fields = own;
    if (fields == NULL || !json_add_bool(fields, "ok", true, &err))
        control_refuse(peer, &err);
    else
        send_or_drop(peer->in.fd, fields);
}

void control_refuse(struct control_peer *peer, const struct err *refusal)
{
    cJSON *j AUTO_JSON = NULL;
    struct err err = ERR_NONE;
    if (json_make(&j, &err) && json_add_bool(j, "ok", false, &err) &&
        json_add_text(j, "error", err_kind_name(refusal->kind), &err) &&
        json_add_text(j, "text", refusal->text, &err))
        send_or_drop(peer->in.fd, j);
    else
        shutdown(peer->in.fd, SHUT_RDWR);
}

int control_peer_fd(const struct control_peer *peer)
{
    return peer->in.fd;
}

static void answer_line(struct control_peer *peer, struct span line)
{
    cJSON *request AUTO_JSON = NULL;
    const char *command;
    struct err err = ERR_NONE;
    if (!json_parse(line, &request, &err) || !json_text(request, "command", &command, &err))
        control_refuse(peer, &err);
    else
        peer->server->handle(peer->server->context, command, request, peer);
}

static bool asker_allowed(int fd)
{
    struct ucred who;
    socklen_t length = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) == 0 &&
           (who.uid == 0 || who.uid == geteuid());
}

/* Counts the connection in; false when there are enough. */
static bool count_in(struct control_server *s)
{
    LOCK_SCOPE(&s->lock);
    if (s->connections == CONTROL_CONNECTIONS_MAX)
        return false;
    s->connections++;
    return true;
}

static void count_out(struct control_server *s)
{
    LOCK_SCOPE(&s->lock);
    s->connections--;
    pthread_cond_signal(&s->idle);
}

static void *serve_peer(void *context)
{
    struct control_peer *peer = context;
    struct control_server *s = peer->server;
    struct span line;
    size_t consumed = 0;

    while (next_line(&peer->in, s->stop, 3600 * 1000, &line, &consumed) == LINE_READ)
        answer_line(peer, line);
    close(peer->in.fd);
    free(peer);
    count_out(s);
    return NULL;
}

static bool small_thread(pthread_t *thread, bool detached, void *(*run)(void *), void *context)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
    if (detached)
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(thread, &attr, run, context);
    pthread_attr_destroy(&attr);
    return failed == 0;
}

static void take_connection(struct control_server *s, int fd)
{
    pthread_t thread;
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (!asker_allowed(fd) || !count_in(s)) {
        close(fd);
        return;
    }
    struct control_peer *peer = calloc(1, sizeof *peer);
    if (peer) {
        peer->server = s;
        peer->in.fd = fd;
    }
    if (peer == NULL || !small_thread(&thread, true, serve_peer, peer)) {
        close(fd);
        free(peer);
        count_out(s);
    }
}

static void *accept_loop(void *context)
{
    struct control_server *s = context;
    while (wait_readable(s->listener, s->stop, UINT64_MAX)) {
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            take_connection(s, fd);
    }
    return NULL;
}

/* Bound under a name of its own and renamed: the socket appears with its mode, in one step. */
static bool listen_at(const char *folder, const char *vm, int *out, struct err *err)
{
    struct sockaddr_un address;
    char final[64 + 64];
    int folder_fd AUTO_FD = -1;
    int fd AUTO_FD = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, errno, "the control socket cannot be made");
    if (!socket_address(folder, vm, &address, &folder_fd, err))
        return false;
    snprintf(final, sizeof final, "%s", address.sun_path);
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/.new-%d", folder_fd,
             (int)getpid());
    unlink(address.sun_path);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(address.sun_path, 0600) != 0 || listen(fd, CONTROL_CONNECTIONS_MAX) != 0 ||
        rename(address.sun_path, final) != 0) {
        int errnum = errno;
        unlink(address.sun_path);
        return err_errno(err, errnum, "the control socket %s/%s.sock cannot be made", folder, vm);
    }
    *out = fd;
    fd = -1;
    return true;
}

static void server_free(struct control_server *s)
{
    close(s->listener);
    close(s->stop);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->idle);
    free(s->path);
    free(s);
}

bool control_serve(const char *folder, const char *vm, control_handler *handle, void *context,
                   struct control_server **out, struct err *err)
{
    int listener AUTO_FD = -1;
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return err_errno(err, errno, "%s", folder);
    if (!listen_at(folder, vm, &listener, err))
        return false;
    struct control_server *s = calloc(1, sizeof *s);
    char *path = NULL;
    if (s == NULL || asprintf(&path, "%s/%s.sock", folder, vm) < 0) {
        free(s);
        return err_set(err, ERR_FULL, "out of memory");
    }
    *s = (struct control_server){
        .listener = listener, .stop = -1, .handle = handle, .context = context, .path = path};
    listener = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->idle, NULL);
    s->stop = eventfd(0, EFD_CLOEXEC);
    if (s->stop < 0 || !small_thread(&s->acceptor, false, accept_loop, s)) {
        server_free(s);
        return err_set(err, ERR_FULL, "no thread for the control socket");
    }
    *out = s;
    return true;
}

void control_server_close(struct control_server **server)
{
    struct control_server *s = *server;
    if (s == NULL)
        return;
    eventfd_write(s->stop, 1);
    pthread_join(s->acceptor, NULL);
    pthread_mutex_lock(&s->lock);
    while (s->connections > 0)
        pthread_cond_wait(&s->idle, &s->lock);
    pthread_mutex_unlock(&s->lock);
    unlink(s->path);
    server_free(s);
    *server = NULL;
}

/* --- the verbs' side --- */

struct control_client {
    struct line_reader in;
    size_t consumed;
};

bool control_connect(const char *folder, const char *vm, struct control_client **out,
                     struct err *err)
{
    struct sockaddr_un address;
    int folder_fd AUTO_FD = -1;
    int fd AUTO_FD = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(err, errno, "the control socket cannot be made");
    bool found = socket_address(folder, vm, &address, &folder_fd, err);
    if (!found && err->kind != ERR_NOT_FOUND)
        return false;
    int failed = !found                                                          ? ENOENT
                 : connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ? errno
                                                                                 : 0;
    if (failed == ENOENT || failed == ECONNREFUSED)
        return err_set(err, ERR_NOT_FOUND, "%s is not mounted here: farshore mount %s DIR", vm, vm);
    if (failed)
        return err_errno(err, failed, "the control socket of %s", vm);
    struct control_client *c = calloc(1, sizeof *c);
    if (c == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    c->in.fd = fd;
    fd = -1;
    *out = c;
    return true;
}

void control_disconnect(struct control_client **c)
{
    if (*c)
        close((*c)->in.fd);
    free(TAKE(*c));
}

bool control_send(struct control_client *c, const cJSON *request, struct err *err)
{
    return send_line(c->in.fd, request, err);
}

/* The refusal in an answer, as the error that it was on the other side. */
static bool refusal(const cJSON *j, struct err *err)
{
    const char *kind, *text;
    if (!json_text(j, "error", &kind, err) || !json_text(j, "text", &text, err))
        return false;
    for (enum err_kind k = ERR_OK + 1; k < ERR_KINDS; k++)
        if (strcmp(kind, err_kind_name(k)) == 0)
            return err_set(err, k, "%s", text);
    return err_set(err, ERR_IO, "%s", text);
}

bool control_receive(struct control_client *c, uint64_t timeout_ms, cJSON **out, struct err *err)
{
    struct span line;
    cJSON *j AUTO_JSON = NULL;
    bool ok;
    switch (next_line(&c->in, -1, timeout_ms, &line, &c->consumed)) {
    case LINE_READ:
        break;
    case LINE_END:
        return err_set(err, ERR_TRANSIENT, "the mount hung up before it answered: try again");
    case LINE_TIMEOUT:
        return err_set(err, ERR_TRANSIENT, "the mount has not answered in time: try again");
    default:
        return err_set(err, ERR_CORRUPT, "the mount's answer is longer than %u bytes",
                       CONTROL_LINE_MAX);
    }
    if (!json_parse(line, &j, err) || !json_bool(j, "ok", &ok, err))
        return err_wrap(err, "the mount's answer");
    if (!ok)
        return refusal(j, err);
    if (out)
        *out = TAKE(j);
    return true;
}
