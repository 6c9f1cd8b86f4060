/* SPDX-License-Identifier: MIT
 * Lists over several pages, from a responder on loopback that gives them in the order of a script,
 * whatever is asked; and what a status alone means. */
#include "backend/store/cloud.h"

#include "tests/support/check.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>

#define PAGES_MAX 4u

struct responder {
    struct MHD_Daemon *daemon;
    const char *pages[PAGES_MAX]; /* after the last comes the first again */
    size_t page_count;
    atomic_uint asked;
};

static enum MHD_Result answer(void *context, struct MHD_Connection *connection, const char *url,
                              const char *method, const char *version, const char *upload,
                              size_t *upload_bytes, void **state)
{
    struct responder *r = context;
    (void)url, (void)method, (void)version, (void)upload, (void)upload_bytes, (void)state;
    const char *page = r->pages[atomic_fetch_add(&r->asked, 1) % r->page_count];
    struct MHD_Response *response = MHD_create_response_from_buffer(
        strlen(page), (void *)(uintptr_t)page, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return result;
}

static char *env(const char *name)
{
    static char key[] = "test";
    return strcmp(name, "AWS_ACCESS_KEY_ID") == 0 || strcmp(name, "AWS_SECRET_ACCESS_KEY") == 0
               ? key
               : NULL;
}

static void responder_start(struct responder *r, struct store **out)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    struct store_host host = {.world = world_real(), .env = env};
    struct err err = ERR_NONE;
    char url[128];
    r->daemon = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, answer, r,
                                 MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_END);
    assert_non_null(r->daemon);
    snprintf(url, sizeof url, "s3://b/p?endpoint=http://127.0.0.1:%u",
             MHD_get_daemon_info(r->daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    check_ok(store_open(&host, url, false, out, &err), err);
}

static void responder_stop(struct responder *r)
{
    MHD_stop_daemon(r->daemon);
}

static bool note(void *context, const char *key, uint64_t bytes)
{
    char *seen = context;
    (void)bytes;
    strcat(seen, key);
    strcat(seen, " ");
    return true;
}

#define PAGE(objects, marker)                                                                      \
    "<ListBucketResult><IsTruncated>true</IsTruncated>" objects "<NextContinuationToken>" marker   \
    "</NextContinuationToken></ListBucketResult>"
#define LAST_PAGE(objects) "<ListBucketResult>" objects "</ListBucketResult>"
#define OBJECT(key)        "<Contents><Key>" key "</Key><Size>1</Size></Contents>"

static void check_list(struct responder *r, const char *after, const char *wanted)
{
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    char seen[256] = "";
    responder_start(r, &s);
    bool good = store_list(s, "", after, note, seen, &err);
    responder_stop(r);
    check_ok(good, err);
    assert_string_equal(seen, wanted);
}

static void check_list_refused(struct responder *r, const char *word)
{
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    char seen[256] = "";
    responder_start(r, &s);
    bool good = store_list(s, "", NULL, note, seen, &err);
    responder_stop(r);
    assert_false(good);
    assert_int_equal(err.kind, ERR_CORRUPT);
    check_says(err, word);
}

static void pages_follow_one_another(void **state)
{
    (void)state;
    struct responder r = {.pages = {PAGE(OBJECT("p/a") OBJECT("p/b"), "1"), PAGE("", "2"),
                                    PAGE(OBJECT("p/c"), "3"), LAST_PAGE(OBJECT("p/d"))},
                          .page_count = 4};
    check_list(&r, NULL, "a b c d ");
}

static void names_that_are_none_of_ours_are_passed_over(void **state)
{
    (void)state;
    struct responder r = {.pages = {LAST_PAGE(OBJECT("p/a") OBJECT("q/z") OBJECT("p/ b") OBJECT("p")
                                                  OBJECT("p/") OBJECT("p/c//d") OBJECT("p/b"))},
                          .page_count = 1};
    check_list(&r, NULL, "a b ");
}

/* Azure has no parameter for it: pages before it come all the same. */
static void keys_up_to_the_one_given_are_passed_over(void **state)
{
    (void)state;
    struct responder r = {
        .pages = {PAGE(OBJECT("p/a") OBJECT("p/b"), "1"), LAST_PAGE(OBJECT("p/b1") OBJECT("p/c"))},
        .page_count = 2};
    check_list(&r, "b", "b1 c ");
}

static void a_list_out_of_order_is_refused(void **state)
{
    (void)state;
    struct responder within = {.pages = {LAST_PAGE(OBJECT("p/b") OBJECT("p/a"))}, .page_count = 1};
    struct responder twice = {.pages = {LAST_PAGE(OBJECT("p/a") OBJECT("p/a"))}, .page_count = 1};
    struct responder across = {.pages = {PAGE(OBJECT("p/b"), "1"), LAST_PAGE(OBJECT("p/a"))},
                               .page_count = 2};
    check_list_refused(&within, "not in byte order behind b");
    check_list_refused(&twice, "not in byte order behind a");
    check_list_refused(&across, "not in byte order behind b");
}

static void a_list_that_goes_round_in_a_circle_ends(void **state)
{
    (void)state;
    struct responder one = {.pages = {PAGE("", "1")}, .page_count = 1};
    struct responder two = {.pages = {PAGE("", "1"), PAGE("", "2")}, .page_count = 2};
    struct responder keys = {.pages = {PAGE(OBJECT("p/a"), "1"), PAGE(OBJECT("p/b"), "2")},
                             .page_count = 2};
    check_list_refused(&one, "circle");
    assert_int_equal(one.asked, 2);
    check_list_refused(&two, "circle");
    assert_int_equal(two.asked, 1000);
    check_list_refused(&keys, "not in byte order");
    assert_int_equal(keys.asked, 3);
}

static void a_status_alone_says_what_may_be_done(void **state)
{
    (void)state;
    static const struct {
        unsigned status;
        enum err_kind kind;
    } cases[] = {
        {301, ERR_INVALID},   {400, ERR_INVALID},   {401, ERR_DENIED},    {403, ERR_DENIED},
        {405, ERR_INVALID},   {408, ERR_TRANSIENT}, {409, ERR_TRANSIENT}, {416, ERR_CORRUPT},
        {429, ERR_TRANSIENT}, {500, ERR_TRANSIENT}, {501, ERR_INVALID},   {502, ERR_TRANSIENT},
        {503, ERR_TRANSIENT}, {504, ERR_TRANSIENT}, {507, ERR_FULL},      {599, ERR_TRANSIENT}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(cloud_kind_of_status(cases[i].status), cases[i].kind);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_follow_one_another),
        cmocka_unit_test(names_that_are_none_of_ours_are_passed_over),
        cmocka_unit_test(keys_up_to_the_one_given_are_passed_over),
        cmocka_unit_test(a_list_out_of_order_is_refused),
        cmocka_unit_test(a_list_that_goes_round_in_a_circle_ends),
        cmocka_unit_test(a_status_alone_says_what_may_be_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
