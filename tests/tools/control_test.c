/* SPDX-License-Identifier: MIT */
#include "tools/control.h"

#include <poll.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

struct place {
    char folder[300];
    struct control_server *server;
};

static void handle(void *context, const char *command, const cJSON *request,
                   struct control_peer *peer)
{
    (void)context;
    struct err err = ERR_NONE;
    cJSON *j AUTO_JSON = NULL;
    const char *text;
    if (strcmp(command, "echo") == 0 && json_text(request, "text", &text, &err) &&
        json_make(&j, &err) && json_add_text(j, "text", text, &err)) {
        control_answer(peer, j);
    } else if (strcmp(command, "twice") == 0) {
        control_answer(peer, NULL);
        struct pollfd p = {.fd = control_peer_fd(peer), .events = POLLRDHUP};
        assert_int_equal(poll(&p, 1, 0), 0);
        err_set(&err, ERR_FENCED, "second");
        control_refuse(peer, &err);
    } else {
        if (err.kind == ERR_OK)
            err_set(&err, ERR_INVALID, "unknown command %s", command);
        control_refuse(peer, &err);
    }
}

/* The folder's path is longer than a socket address holds. */
static int setup(void **state)
{
    static struct place p;
    struct err err = ERR_NONE;
    snprintf(p.folder, sizeof p.folder, "/tmp/farshore-control-XXXXXX");
    if (mkdtemp(p.folder) == NULL)
        return -1;
    size_t used = strlen(p.folder);
    snprintf(p.folder + used, sizeof p.folder - used, "/%0150d", 0);
    *state = &p;
    return control_serve(p.folder, "vm1", handle, NULL, &p.server, &err) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[400];
    struct place *p = *state;
    control_server_close(&p->server);
    *strrchr(p->folder, '/') = '\0';
    snprintf(command, sizeof command, "rm -rf %s", p->folder);
    return system(command);
}

static cJSON *request_of(const char *command, const char *text)
{
    cJSON *j = NULL;
    struct err err = ERR_NONE;
    assert_true(json_make(&j, &err) && json_add_text(j, "command", command, &err) &&
                json_add_text(j, "text", text, &err));
    return j;
}

static bool control_ask(const char *folder, const char *vm, const cJSON *request,
                        uint64_t timeout_ms, cJSON **out, struct err *err)
{
    struct control_client *c AUTO_CONTROL = NULL;
    return control_connect(folder, vm, &c, err) && control_send(c, request, err) &&
           control_receive(c, timeout_ms, out, err);
}

static void a_request_is_answered(void **state)
{
    struct place *p = *state;
    struct err err = ERR_NONE;
    cJSON *request AUTO_JSON = request_of("echo", "hello\n\"there\"");
    cJSON *answer AUTO_JSON = NULL;
    const char *text;
    assert_true(control_ask(p->folder, "vm1", request, 10000, &answer, &err));
    assert_true(json_text(answer, "text", &text, &err));
    assert_string_equal(text, "hello\n\"there\"");
}

static void a_refusal_arrives_as_the_error_it_was(void **state)
{
    struct place *p = *state;
    struct err err = ERR_NONE;
    cJSON *request AUTO_JSON = request_of("nonsense", "");
    assert_false(control_ask(p->folder, "vm1", request, 10000, NULL, &err));
    assert_int_equal(err.kind, ERR_INVALID);
    assert_string_equal(err.text, "unknown command nonsense");
}

static void one_connection_carries_many_answers(void **state)
{
    struct place *p = *state;
    struct err err = ERR_NONE;
    struct control_client *c AUTO_CONTROL = NULL;
    cJSON *twice AUTO_JSON = request_of("twice", "");
    cJSON *echo AUTO_JSON = request_of("echo", "x");
    assert_true(control_connect(p->folder, "vm1", &c, &err));
    assert_true(control_send(c, twice, &err) && control_send(c, echo, &err));
    assert_true(control_receive(c, 10000, NULL, &err));
    assert_false(control_receive(c, 10000, NULL, &err));
    assert_int_equal(err.kind, ERR_FENCED);
    assert_true(control_receive(c, 10000, NULL, &err));
}

static void without_a_server_the_vm_is_not_mounted(void **state)
{
    struct place *p = *state;
    struct err err = ERR_NONE;
    cJSON *request AUTO_JSON = request_of("echo", "");
    assert_false(control_ask(p->folder, "vm2", request, 1000, NULL, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_false(control_ask("/no/such/folder", "vm1", request, 1000, NULL, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void the_socket_is_private_and_goes_with_the_server(void **state)
{
    struct place *p = *state;
    char path[400];
    struct stat st;
    snprintf(path, sizeof path, "%s/vm1.sock", p->folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    control_server_close(&p->server);
    assert_int_not_equal(stat(path, &st), 0);
}

static void a_new_server_takes_the_place_of_a_dead_ones_socket(void **state)
{
    struct place *p = *state;
    struct control_server *second = NULL;
    struct err err = ERR_NONE;
    cJSON *request AUTO_JSON = request_of("echo", "x");
    assert_true(control_serve(p->folder, "vm1", handle, NULL, &second, &err));
    assert_true(control_ask(p->folder, "vm1", request, 10000, NULL, &err));
    control_server_close(&second);
}

/* Connects without the client and sends raw bytes; returns what comes back, up to a hang-up. */
static size_t raw(const struct place *p, const char *bytes, size_t length, char *out, size_t size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char command[400];
    snprintf(command, sizeof command, "%s", p->folder);
    assert_int_equal(chdir(command), 0);
    snprintf(address.sun_path, sizeof address.sun_path, "vm1.sock");
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    for (size_t at = 0; at < length;) {
        ssize_t n = send(fd, bytes + at, length - at, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        at += (size_t)n;
    }
    shutdown(fd, SHUT_WR);
    size_t used = 0;
    for (ssize_t n; used < size && (n = recv(fd, out + used, size - used, 0)) > 0;)
        used += (size_t)n;
    close(fd);
    return used;
}

static void nonsense_is_refused_and_the_server_lives(void **state)
{
    struct place *p = *state;
    static const char *const lines[] = {
        "{}\n", "x\n", "[]\n", "{\"command\":5}\n", "\n", "{\"command\":\"a\\u0000b\"}\n"};
    char out[1024];
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        size_t used = raw(p, lines[i], strlen(lines[i]), out, sizeof out - 1);
        out[used] = '\0';
        assert_non_null(strstr(out, "\"ok\":false"));
    }
    a_request_is_answered(state);
}

static void a_line_without_end_is_hung_up_on(void **state)
{
    struct place *p = *state;
    static char flood[4 * CONTROL_LINE_MAX];
    char out[64];
    memset(flood, 'x', sizeof flood);
    assert_int_equal(raw(p, flood, sizeof flood, out, sizeof out), 0);
    a_request_is_answered(state);
}

static void who_hung_up_before_the_question_is_asked_again(void **state)
{
    struct place *p = *state;
    struct err err = ERR_NONE;
    struct control_client *c AUTO_CONTROL = NULL;
    cJSON *request AUTO_JSON = request_of("echo", "");
    assert_true(control_connect(p->folder, "vm1", &c, &err));
    control_server_close(&p->server);
    assert_false(control_send(c, request, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_request_is_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refusal_arrives_as_the_error_it_was, setup, teardown),
        cmocka_unit_test_setup_teardown(one_connection_carries_many_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_server_the_vm_is_not_mounted, setup, teardown),
        cmocka_unit_test_setup_teardown(the_socket_is_private_and_goes_with_the_server, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_new_server_takes_the_place_of_a_dead_ones_socket, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_refused_and_the_server_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(a_line_without_end_is_hung_up_on, setup, teardown),
        cmocka_unit_test_setup_teardown(who_hung_up_before_the_question_is_asked_again, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
