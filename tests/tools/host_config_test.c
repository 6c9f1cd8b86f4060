/* SPDX-License-Identifier: MIT */
#include "tools/host_config.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#include <errno.h>
#include <fcntl.h>

static struct paths paths = {.config = "/c", .state = "/s", .run = "/r"};

static void write_file(struct world *w, const char *text)
{
    struct err err = ERR_NONE;
    check_ok(dir_make(w, "/c", 0700, &err), err);
    check_ok(file_replace(w, "/c/host.json", 0600, span_of_text(text), &err), err);
}

static void a_name_that_was_saved_is_loaded(void **state)
{
    (void)state;
    struct world *w = fake_world_make(1);
    struct host_config c = {.name = "b", .libvirt = "qemu+unix:///session"}, back;
    struct err err = ERR_NONE;
    check_ok(host_config_save(w, &paths, &c, &err), err);
    check_ok(host_config_load(w, &paths, &back, &err), err);
    assert_string_equal(back.name, "b");
    assert_string_equal(back.libvirt, "qemu+unix:///session");
    assert_int_equal(fake_world_unsynced(w), 0);
    fake_world_release(&w);
}

static void without_a_file_the_host_has_its_own_name(void **state)
{
    (void)state;
    struct world *w = fake_world_make(1);
    struct host_config c;
    struct err err = ERR_NONE;
    if (host_config_load(w, &paths, &c, &err)) {
        assert_true(host_name_valid(c.name));
        assert_null(strchr(c.name, '.'));
        assert_string_equal(c.libvirt, LIBVIRT_URI_DEFAULT);
    } else {
        check_says(err, "farshore host NAME");
    }
    fake_world_release(&w);
}

static void a_file_that_is_wrong_is_refused_by_its_path(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "{}", "{\"name\":\"B\",\"libvirt\":\"x\"}",
                                      "{\"name\":\"b\",\"libvirt\":\"\"}",
                                      "{\"name\":\"b\",\"libvirt\":\"x\",\"more\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct world *w = fake_world_make(1);
        struct host_config c;
        struct err err;
        write_file(w, bad[i]);
        check_fails(host_config_load(w, &paths, &c, &err), err, ERR_INVALID);
        check_says(err, "/c/host.json");
        fake_world_release(&w);
    }
}

static void a_file_that_cannot_be_read_is_not_taken_for_none(void **state)
{
    (void)state;
    struct world *w = fake_world_make(1);
    struct host_config c;
    struct err err;
    write_file(w, "{\"name\":\"b\",\"libvirt\":\"x\"}");
    fake_world_fail(w, FAKE_OPEN, 1, EACCES, false);
    check_fails(host_config_load(w, &paths, &c, &err), err, ERR_DENIED);
    fake_world_release(&w);
}

static void names_that_cannot_be_are_not_saved(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "B", "-b", "a/b", "a b"};
    struct world *w = fake_world_make(1);
    struct host_config c = {.libvirt = "x"};
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        strcpy(c.name, bad[i]);
        check_fails(host_config_save(w, &paths, &c, &err), err, ERR_INVALID);
    }
    fake_world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_name_that_was_saved_is_loaded),
        cmocka_unit_test(without_a_file_the_host_has_its_own_name),
        cmocka_unit_test(a_file_that_is_wrong_is_refused_by_its_path),
        cmocka_unit_test(a_file_that_cannot_be_read_is_not_taken_for_none),
        cmocka_unit_test(names_that_cannot_be_are_not_saved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
