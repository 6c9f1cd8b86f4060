/* SPDX-License-Identifier: MIT */
#include "tools/failover/unit.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

static const struct paths usual = {
    .config = "/etc/farshore", .state = "/var/lib/farshore", .run = "/run/farshore"};

static void says(const struct buf *text, const char *line, bool yes)
{
    bool there = memmem(text->data, text->length, line, strlen(line)) != NULL;
    if (there != yes)
        fail_msg("%.*s\n%s \"%s\"", (int)text->length, (const char *)text->data,
                 yes ? "is without" : "has", line);
}

static void the_unit_mounts_before_libvirt_and_never_kills_what_it_mounted(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct buf text AUTO_BUF = BUF_NONE;
    check_ok(unit_write(&usual, "/usr/bin/farshore", "web", "/srv/web", &text, &err), err);
    says(&text, "Before=libvirtd.service", true);
    says(&text, "ExecStart=\"/usr/bin/farshore\" mount \"web\" \"/srv/web\"\n", true);
    says(&text, "ExecStop=\"/usr/bin/farshore\" unmount \"/srv/web\"\n", true);
    says(&text, "KillMode=process\nSendSIGKILL=no\n", true);
    says(&text, "Environment", false);
}

static void folders_that_are_not_the_usual_ones_are_told(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct buf text AUTO_BUF = BUF_NONE;
    struct paths p = usual;
    snprintf(p.state, sizeof p.state, "/big/state");
    check_ok(unit_write(&p, "/usr/bin/farshore", "web", "/srv/web", &text, &err), err);
    says(&text, "Environment=\"FARSHORE_STATE=/big/state\"\n", true);
    says(&text, "FARSHORE_CONFIG", false);
}

static void what_systemd_would_expand_is_written_plainly(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct buf text AUTO_BUF = BUF_NONE;
    check_ok(unit_write(&usual, "/usr/bin/farshore", "web", "/srv/a b%h\"$x", &text, &err), err);
    says(&text, "mount \"web\" \"/srv/a b%%h\\\"$$x\"\n", true);
}

/* In the place of systemctl: notes how it was called. */
static void make_systemctl(const struct tmp_dir *d, const char *path)
{
    struct err err = ERR_NONE;
    char text[2 * PATH_MAX];
    snprintf(text, sizeof text, "#!/bin/sh\necho \"$@\" >>%s\n", tmp_dir_path(d, "calls"));
    check_ok(file_replace(world_real(), path, 0755, span_of_text(text), &err), err);
}

static void the_unit_is_started_now_and_at_boot_and_is_gone_when_it_is_disabled(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct tmp_dir d;
    struct buf calls AUTO_BUF = BUF_NONE;
    char unit[PATH_MAX], program[PATH_MAX];
    tmp_dir_make(&d);
    snprintf(program, sizeof program, "%s", tmp_dir_path(&d, "systemctl"));
    snprintf(unit, sizeof unit, "%s", tmp_dir_path(&d, "farshore-web.service"));
    make_systemctl(&d, program);
    const struct unit_place place = {.folder = d.path, .systemctl = program};
    check_ok(unit_disable(world_real(), &place, "web", &err), err); /* there is none */
    check_ok(unit_enable(world_real(), &place, &usual, "web", "/srv/web", false, &err), err);
    assert_int_equal(access(unit, F_OK), 0);
    check_ok(unit_enable(world_real(), &place, &usual, "web", "/srv/web", true, &err), err);
    check_ok(unit_disable(world_real(), &place, "web", &err), err);
    assert_int_not_equal(access(unit, F_OK), 0);
    check_ok(file_load(world_real(), tmp_dir_path(&d, "calls"), 4096, &calls, &err), err);
    says(&calls,
         "daemon-reload\nenable --now farshore-web.service\n"
         "daemon-reload\nenable --quiet farshore-web.service\n" /* mounted already */
         "disable --now farshore-web.service\ndaemon-reload\n",
         true);
    tmp_dir_remove(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unit_mounts_before_libvirt_and_never_kills_what_it_mounted),
        cmocka_unit_test(folders_that_are_not_the_usual_ones_are_told),
        cmocka_unit_test(what_systemd_would_expand_is_written_plainly),
        cmocka_unit_test(the_unit_is_started_now_and_at_boot_and_is_gone_when_it_is_disabled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
