/* SPDX-License-Identifier: MIT */
#include "tools/failover/protection.h"

#include "tests/support/check.h"
#include "tests/support/doc_vault.h"
#include "tests/support/specimen.h"

#include <pthread.h>
#include <stdio.h>

/* Something in every field. */
static struct protection *full(void)
{
    struct protection *p = NULL;
    struct err err = ERR_NONE;
    static const char xml[] = "<domain type='kvm'>\n\t<name>web \"1\"</name>\n</domain>\n";
    check_ok(protection_make(&p, &err), err);
    p->state = PROTECTION_FAILED_OVER;
    strcpy(p->home_host, "a");
    strcpy(p->source_host, "b");
    strcpy(p->target_host, "b");
    buf_put(&p->xml, xml, strlen(xml));
    buf_put(&p->nvram, "\0\xff\1var", 6);
    p->nic_count = 2;
    p->nics[0] = (struct protection_nic){"lan", "10.1.0.0/24", "52:54:00:00:00:01", "10.1.0.5"};
    p->nics[1] = (struct protection_nic){"dmz", "front", "52:54:00:00:00:02", "fd00::5"};
    check_ok(target_setting_set(&p->settings, "hosts", "b,c", &err), err);
    check_ok(target_setting_set(&p->settings, "address.1", "10.2.0.9", &err), err);
    p->mapping_count = 1;
    p->mappings[0] = (struct protection_mapping){"lan", "10.1.0.0/24", "lan-b", "10.2.0.0/24"};
    p->test_count = 1;
    p->tests[0] = (struct protection_test){.id = "t-1",
                                           .host = "b",
                                           .point = "2026-11-22T20:05:03.250Z",
                                           .domain = "web-test-t-1",
                                           .mount = "/var/lib/farshore/tests/web/t-1",
                                           .started_ms = 1795377903000};
    p->failover = (struct protection_failover){
        .host = "b",
        .from = "a",
        .planned = true,
        .point = "2026-11-22T20:05:03.250Z",
        .generation = {.number = 2, .id = 0x1122334455667788},
        .parent = {.number = 1, .id = 0x99},
        .parent_epoch = 77,
        .begun_ms = 1795377903001,
        .started_ms = 1795377903002,
        .fence_pending = true,
        .lost_seconds = 5,
        .job = "20261127t000616123z-1a2b",
        .disk_count = 1,
        .disks = {{"root", "/var/lib/farshore/disks/web/root.g0002.img"}},
    };
    p->leaving =
        (struct protection_leaving){.host = "c", .job = "20261127t000616123z-1a2c", .asked = 3};
    strcpy(p->successor.cache, "file:///srv/cache2");
    strcpy(p->successor.target, "s3://bucket/target2");
    return p;
}

static void write_text(const struct protection *p, struct buf *out)
{
    struct err err = ERR_NONE;
    check_ok(protection_write(p, out, &err), err);
}

static void a_document_comes_back_with_all_that_it_says(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = full();
    struct protection *back AUTO_PROTECTION = NULL;
    struct buf text AUTO_BUF = BUF_NONE, again AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    write_text(p, &text);
    check_ok(protection_make(&back, &err), err);
    check_ok(protection_parse(buf_span(&text), back, &err), err);
    assert_int_equal(back->state, p->state);
    assert_string_equal(back->home_host, "a");
    assert_true(span_equal(buf_span(&back->xml), buf_span(&p->xml)));
    assert_true(span_equal(buf_span(&back->nvram), buf_span(&p->nvram)));
    assert_memory_equal(back->nics, p->nics, sizeof p->nics);
    assert_memory_equal(back->mappings, p->mappings, sizeof p->mappings);
    assert_string_equal(back->tests[0].mount, p->tests[0].mount);
    assert_int_equal(back->tests[0].started_ms, p->tests[0].started_ms);
    assert_memory_equal(&back->failover.generation, &p->failover.generation,
                        sizeof p->failover.generation);
    assert_int_equal(back->failover.parent_epoch, 77);
    assert_true(back->failover.planned && back->failover.fence_pending);
    assert_string_equal(back->failover.disks[0].path, p->failover.disks[0].path);
    assert_string_equal(target_setting(&back->settings, "hosts"), "b,c");
    assert_string_equal(back->leaving.host, "c");
    assert_string_equal(back->leaving.job, p->leaving.job);
    assert_int_equal(back->leaving.asked, 3);
    assert_string_equal(back->successor.target, "s3://bucket/target2");
    write_text(back, &again);
    assert_true(span_equal(buf_span(&text), buf_span(&again)));
}

/* The text with one place changed. */
static void check_refused(const char *from, const char *to, const char *says)
{
    struct protection *p AUTO_PROTECTION = full();
    struct protection *back AUTO_PROTECTION = NULL;
    struct buf text AUTO_BUF = BUF_NONE, changed AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    write_text(p, &text);
    const uint8_t *at = memmem(text.data, text.length, from, strlen(from));
    if (at == NULL)
        fail_msg("no %s in %.*s", from, (int)text.length, (const char *)text.data);
    size_t before = (size_t)(at - text.data);
    buf_put(&changed, text.data, before);
    buf_put(&changed, to, strlen(to));
    buf_put(&changed, at + strlen(from), text.length - before - strlen(from));
    check_ok(protection_make(&back, &err), err);
    check_fails(protection_parse(buf_span(&changed), back, &err), err, ERR_INVALID);
    check_says(err, says);
}

static void what_is_not_as_it_should_is_refused_by_name(void **state)
{
    (void)state;
    check_refused("\"version\":1", "\"version\":2", "update");
    check_refused("\"failed-over\"", "\"failed\"", "state");
    check_refused("\"home_host\":\"a\"", "\"home_host\":\"A b\"", "home_host");
    check_refused("\"home_host\":\"a\",", "", "home_host");
    check_refused("\"changed_ms\"", "\"changed\"", "changed");
    check_refused("\"id\":\"t-1\"", "\"id\":\"../t\"", "id");
    check_refused("\"mac\":", "\"Mac\":", "ac");
    check_refused("\"generation\":\"g0002-", "\"generation\":\"h0002-", "generation");
    check_refused("\"name\":\"root\"", "\"name\":\"../root\"", "disk");
    check_refused("\"hosts\":\"b,c\"", "\"hosts\":\"b,,c\"", "hosts");
    check_refused("\"hosts\":", "\"host\":", "did you mean");
    check_refused("\"leaving\":{\"host\":\"c\"", "\"leaving\":{\"host\":\"C!\"", "host");
    check_refused("\"job\":\"20261127t000616123z-1a2c\"", "\"job\":\"\"", "leaving");
    check_refused("\"nvram\":\"", "\"nvram\":\"!", "nvram");
}

static void a_vault_without_a_document_has_the_defaults(void **state)
{
    struct doc_vault *f = *state;
    struct protection *p AUTO_PROTECTION = NULL;
    struct err err = ERR_NONE;
    check_ok(protection_load(&f->vault, &p, &err), err);
    assert_int_equal(p->state, PROTECTION_NONE);
    assert_int_equal(p->number, DOCLOG_NONE);
    assert_string_equal(p->successor.target, "");
}

static void what_was_appended_is_loaded(void **state)
{
    struct doc_vault *f = *state;
    struct protection *p AUTO_PROTECTION = full();
    struct protection *back AUTO_PROTECTION = NULL;
    struct err err = ERR_NONE;
    check_ok(protection_append(&f->vault, p, &err), err);
    assert_int_equal(p->number, 0);
    check_ok(protection_load(&f->vault, &back, &err), err);
    assert_int_equal(back->state, PROTECTION_FAILED_OVER);
    assert_int_equal(back->number, 0);
}

static void who_read_before_another_changed_it_is_refused(void **state)
{
    struct doc_vault *f = *state;
    struct protection *a AUTO_PROTECTION = NULL;
    struct protection *b AUTO_PROTECTION = NULL;
    struct err err = ERR_NONE;
    check_ok(protection_load(&f->vault, &a, &err), err);
    check_ok(protection_load(&f->vault, &b, &err), err);
    a->state = PROTECTION_COMMITTED;
    check_ok(protection_append(&f->vault, a, &err), err);
    b->state = PROTECTION_REPROTECTING;
    check_fails(protection_append(&f->vault, b, &err), err, ERR_EXISTS);
}

static void nothing_is_put_that_could_not_be_read(void **state)
{
    struct doc_vault *f = *state;
    struct protection *p AUTO_PROTECTION = full();
    struct err err = ERR_NONE;
    strcpy(p->source_host, "B!");
    check_fails(protection_append(&f->vault, p, &err), err, ERR_INVALID);
    assert_int_equal(memory_bucket_objects(f->bucket), 0);
}

/* --- changes --- */

/* So few that none is tidied away meanwhile: who is held up while others make more than are kept
 * cannot tell whether its own counts, and says so. */
#define CHANGERS 4
#define CHANGES  2
_Static_assert(CHANGES <= DOCLOG_KEEP / CHANGERS, "all stay");

static bool add_one(void *context, struct protection *p, bool *same, struct err *err)
{
    (void)context;
    (void)same;
    (void)err;
    p->failover.lost_seconds++;
    return true;
}

static void *change_often(void *context)
{
    struct doc_vault *f = context;
    for (unsigned i = 0; i < CHANGES; i++) {
        struct err err = ERR_NONE;
        if (!protection_change(&f->vault, add_one, NULL, NULL, &err))
            return strdup(err.text);
    }
    return NULL;
}

static void changes_of_several_hosts_are_all_made(void **state)
{
    struct doc_vault *f = *state;
    struct protection *p AUTO_PROTECTION = NULL;
    pthread_t threads[CHANGERS];
    struct err err = ERR_NONE;
    for (size_t i = 0; i < CHANGERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, change_often, f), 0);
    for (size_t i = 0; i < CHANGERS; i++) {
        void *failure;
        pthread_join(threads[i], &failure);
        if (failure != NULL)
            fail_msg("%s", (char *)failure);
    }
    check_ok(protection_load(&f->vault, &p, &err), err);
    assert_int_equal(p->failover.lost_seconds, CHANGERS * CHANGES);
}

static bool refuse(void *context, struct protection *p, bool *same, struct err *err)
{
    (void)context;
    (void)same;
    p->state = PROTECTION_COMMITTED;
    return err_set(err, ERR_INVALID, "not now");
}

static bool leave(void *context, struct protection *p, bool *same, struct err *err)
{
    (void)context;
    (void)p;
    (void)err;
    *same = true;
    return true;
}

static void a_change_that_is_refused_or_none_puts_nothing(void **state)
{
    struct doc_vault *f = *state;
    struct protection *p AUTO_PROTECTION = NULL;
    struct err err = ERR_NONE;
    check_fails(protection_change(&f->vault, refuse, NULL, NULL, &err), err, ERR_INVALID);
    check_ok(protection_change(&f->vault, leave, NULL, &p, &err), err);
    assert_int_equal(p->state, PROTECTION_NONE);
    assert_int_equal(memory_bucket_objects(f->bucket), 0);
}

static void drills_carry_the_state(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = NULL;
    struct protection_test one = {.id = "one"}, two = {.id = "two"};
    struct err err = ERR_NONE;
    check_ok(protection_make(&p, &err), err);
    check_ok(protection_test_add(p, &one, &err), err);
    check_ok(protection_test_add(p, &two, &err), err);
    check_fails(protection_test_add(p, &two, &err), err, ERR_EXISTS);
    assert_int_equal(p->state, PROTECTION_TEST_RUNNING);
    protection_test_remove(p, "one");
    assert_int_equal(p->state, PROTECTION_TEST_RUNNING);
    assert_null(protection_test_find(p, "one"));
    assert_non_null(protection_test_find(p, "two"));
    p->state = PROTECTION_REPROTECTING;
    protection_settle(p);
    assert_int_equal(p->state, PROTECTION_TEST_RUNNING);
    protection_test_remove(p, "two");
    assert_int_equal(p->state, PROTECTION_NONE);
    p->state = PROTECTION_FAILED_OVER;
    check_ok(protection_test_add(p, &one, &err), err);
    protection_settle(p); /* cancelled */
    assert_int_equal(p->state, PROTECTION_TEST_RUNNING);
    p->state = PROTECTION_FAILED_OVER;
    protection_test_remove(p, "one");
    assert_int_equal(p->state, PROTECTION_FAILED_OVER);
    protection_settle(p);
    assert_int_equal(p->state, PROTECTION_NONE);
}

#define T(test) cmocka_unit_test_setup_teardown(test, doc_vault_set_up, doc_vault_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_document_comes_back_with_all_that_it_says),
        T(what_is_not_as_it_should_is_refused_by_name),
        T(a_vault_without_a_document_has_the_defaults),
        T(what_was_appended_is_loaded),
        T(who_read_before_another_changed_it_is_refused),
        T(nothing_is_put_that_could_not_be_read),
        T(changes_of_several_hosts_are_all_made),
        T(a_change_that_is_refused_or_none_puts_nothing),
        T(drills_carry_the_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
