/* SPDX-License-Identifier: MIT */
#include "backend/store/attach.h"

#include "tests/support/test_host.h"

#include <setjmp.h>
#include <stdio.h>

#include <cmocka.h>

struct place {
    char folder[64];
    char url[128];
};

static bool attach_lazily(const char *url, struct store **out, struct err *err)
{
    struct attach_config c = {
        .host = *TEST_HOST(world_real()), .url = url, .lazily = true, .deadline_ms = 1};
    return store_attach(&c, out, err);
}

static int setup(void **state)
{
    static struct place p;
    snprintf(p.folder, sizeof p.folder, "/tmp/farshore-attach-XXXXXX");
    if (mkdtemp(p.folder) == NULL)
        return -1;
    snprintf(p.url, sizeof p.url, "file://%s/store", p.folder);
    *state = &p;
    return 0;
}

static int teardown(void **state)
{
    char command[128];
    struct place *p = *state;
    snprintf(command, sizeof command, "rm -rf %s", p->folder);
    return system(command);
}

/* Else a folder that is not mounted yet would look like an empty log, and be written to. */
static void a_store_out_of_reach_is_transient_and_never_not_found(void **state)
{
    struct place *p = *state;
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    uint64_t bytes;
    assert_true(attach_lazily(p->url, &s, &err));
    assert_false(store_size(s, "vm/vault", &bytes, &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
    assert_false(store_put(s, "vm/vault", span_of_text("x"), &err));
    assert_int_equal(err.kind, ERR_TRANSIENT);
}

static void a_store_that_appears_is_used(void **state)
{
    struct place *p = *state;
    struct store *s AUTO_STORE = NULL;
    struct buf got AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct store *made AUTO_STORE = NULL;
    assert_true(attach_lazily(p->url, &s, &err));
    assert_false(store_put(s, "vm/a", span_of_text("hello"), &err));
    assert_true(store_open(TEST_HOST(world_real()), p->url, true, &made, &err));
    assert_true(store_put(s, "vm/a", span_of_text("hello"), &err));
    assert_true(store_load(s, "vm/a", 100, &got, &err));
    assert_true(span_equal(buf_span(&got), span_of_text("hello")));
    assert_true(store_remove(s, "vm/a", &err));
    assert_false(store_load(s, "vm/a", 100, &got, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void an_url_that_is_too_long_is_refused(void **state)
{
    (void)state;
    struct store *s = NULL;
    struct err err = ERR_NONE;
    char url[STORE_URL_MAX + 1];
    memset(url, 'a', STORE_URL_MAX);
    url[STORE_URL_MAX] = '\0';
    assert_false(attach_lazily(url, &s, &err));
    assert_int_equal(err.kind, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_store_out_of_reach_is_transient_and_never_not_found,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_appears_is_used, setup, teardown),
        cmocka_unit_test(an_url_that_is_too_long_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
