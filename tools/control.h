/* SPDX-License-Identifier: MIT
 * The control socket of a running mount, RUN/VM.sock: mode 0600, asked by root and the mount's own
 * user only. One JSON object a line each way: {"command": ...} is answered by {"ok": true, ...} or
 * {"ok": false, "error": KIND, "text": ...}. Lines and connections are bounded; what comes in is
 * the world.
 *
 * The server has one thread that accepts and one short-lived thread per connection. */
#ifndef TOOLS_CONTROL_H
#define TOOLS_CONTROL_H

#include "common/json.h"

#define CONTROL_LINE_MAX        65536u
#define CONTROL_CONNECTIONS_MAX 16u

/* --- the mount's side --- */

struct control_server;
struct control_peer; /* one connection; valid during a call */

/* Answers one request with control_answer, control_refuse, or several of them. May block. Called
 * from several threads at once. */
typedef void control_handler(void *context, const char *command, const cJSON *request,
                             struct control_peer *peer);

/* Takes the place of a socket that a dead server left. `folder` is made when missing. */
bool control_serve(const char *folder, const char *vm, control_handler *handle, void *context,
                   struct control_server **out, struct err *err) MUST_CHECK;
/* Takes no more requests and waits for those that are being answered. */
void control_server_close(struct control_server **s);

/* `fields` (NULL: none) gets "ok" and goes out; the caller still owns it. An asker who hung up is
 * not an error. */
void control_answer(struct control_peer *peer, cJSON *fields);
void control_refuse(struct control_peer *peer, const struct err *err);
/* For poll with POLLRDHUP: has the asker hung up? */
int control_peer_fd(const struct control_peer *peer);

/* --- the verbs' side --- */

struct control_client;
/* ERR_NOT_FOUND: no mount is running. ERR_TRANSIENT: it does not answer. */
bool control_connect(const char *folder, const char *vm, struct control_client **out,
                     struct err *err) MUST_CHECK;
void control_disconnect(struct control_client **c);
#define AUTO_CONTROL CLEANUP(control_disconnect)
/* ERR_TRANSIENT: the worker ended meanwhile; the next one may answer. */
bool control_send(struct control_client *c, const cJSON *request, struct err *err) MUST_CHECK;
/* The next answer; the error that a refusal carries. */
bool control_receive(struct control_client *c, uint64_t timeout_ms, cJSON **out,
                     struct err *err) MUST_CHECK;

#endif
