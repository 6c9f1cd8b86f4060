/* SPDX-License-Identifier: MIT */
#include "tools/config.h"

#include "tests/support/tmp_dir.h"

#include <setjmp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static char *user_env(const char *name)
{
    static char home[] = "/home/u", state[] = "/home/u/state", relative[] = "not/absolute";
    if (strcmp(name, "HOME") == 0)
        return home;
    if (strcmp(name, "XDG_STATE_HOME") == 0)
        return state;
    return strcmp(name, "XDG_CONFIG_HOME") == 0 ? relative : NULL;
}

static char *given_env(const char *name)
{
    static char relative[] = "conf", absolute[] = "/var/s";
    if (strcmp(name, "FARSHORE_CONFIG") == 0)
        return relative;
    return strcmp(name, "FARSHORE_STATE") == 0 ? absolute : NULL;
}

static void folders_come_from_farshore_variables_root_defaults_or_xdg(void **state)
{
    (void)state;
    struct paths p;
    struct err err = ERR_NONE;
    assert_true(paths_from(no_env, true, "/cwd", &p, &err));
    assert_string_equal(p.config, "/etc/farshore");
    assert_string_equal(p.state, "/var/lib/farshore");
    assert_string_equal(p.run, "/run/farshore");
    assert_true(paths_from(user_env, false, "/cwd", &p, &err));
    assert_string_equal(p.config, "/home/u/.config/farshore"); /* XDG: a relative one is ignored */
    assert_string_equal(p.state, "/home/u/state/farshore");
    assert_string_equal(p.run, "/home/u/.local/state/farshore/run");
    assert_true(paths_from(given_env, true, "/cwd", &p, &err));
    assert_string_equal(p.config, "/cwd/conf");
    assert_string_equal(p.state, "/var/s");
    assert_false(paths_from(no_env, false, "/cwd", &p, &err));
    assert_non_null(strstr(err.text, "FARSHORE_CONFIG"));
}

static void fill(struct settings *s)
{
    struct err err = ERR_NONE;
    uint16_t index;
    assert_true(settings_make(s, &err));
    snprintf(s->name, sizeof s->name, "vm1");
    memset(s->vm, 0xab, sizeof s->vm);
    s->role = ROLE_SOURCE;
    s->encrypted = true;
    s->created_ms = 1234567890123;
    s->generation = (struct generation){.number = 1, .id = 0x1122334455667788};
    assert_true(settings_store(s, "file:///c", "file:///t", &index, &err));
    assert_int_equal(index, 0);
    assert_true(settings_store(s, "file:///c2", "file:///t", &index, &err));
    assert_int_equal(index, 1);
    assert_true(settings_store(s, "file:///c", "file:///t", &index, &err));
    assert_int_equal(index, 0);
    s->disk_count = 2;
    s->disks[0] = (struct settings_disk){.name = "vda", .path = "/d/a.img", .size_bytes = 4096};
    s->disks[1] = (struct settings_disk){
        .name = "vdb", .path = "/d/b \"q\".img", .number = 1, .store = 1, .size_bytes = 1ull << 50};
    s->replicate = false;
    s->origin.generation = (struct generation){.number = 1, .id = 0x99};
    s->origin.epoch = 17;
    s->origin.point_ms = 1234567890999;
    s->origin.target_count = 1;
    strcpy(s->origin.targets[0], "file:///far");
    strcpy(s->machine->mount, "/m");
    strcpy(s->machine->domain, "guest");
    strcpy(s->machine->start, "start \"it\"");
}

static void what_is_written_reads_back_equal(void **state)
{
    (void)state;
    struct settings a AUTO_SETTINGS = {.disks = NULL}, b AUTO_SETTINGS = {.disks = NULL};
    struct buf text AUTO_BUF = BUF_NONE, again AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    fill(&a);
    assert_true(settings_write(&a, &text, &err));
    assert_true(settings_make(&b, &err));
    assert_true(settings_parse(buf_span(&text), &b, &err));
    assert_true(settings_write(&b, &again, &err));
    assert_true(span_equal(buf_span(&text), buf_span(&again)));
    assert_int_equal(b.disks[1].size_bytes, 1ull << 50);
    assert_string_equal(b.disks[1].path, "/d/b \"q\".img");
    assert_int_equal(b.generation.id, 0x1122334455667788);
    assert_memory_equal(a.vm, b.vm, sizeof a.vm);
    assert_false(b.replicate);
    assert_int_equal(b.origin.generation.id, 0x99);
    assert_int_equal(b.origin.epoch, 17);
    assert_string_equal(b.origin.targets[0], "file:///far");
    assert_string_equal(b.machine->start, "start \"it\"");
    assert_string_equal(b.machine->thaw, "");
}

static void a_source_that_says_nothing_of_it_replicates_and_has_no_origin(void **state)
{
    (void)state;
    struct settings a AUTO_SETTINGS = {.disks = NULL}, b AUTO_SETTINGS = {.disks = NULL};
    struct buf text AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    fill(&a);
    a.replicate = true;
    a.origin.generation.number = 0;
    assert_true(settings_write(&a, &text, &err));
    assert_true(settings_make(&b, &err));
    assert_true(settings_parse(buf_span(&text), &b, &err));
    assert_true(b.replicate);
    assert_int_equal(b.origin.generation.number, 0);
}

/* Replaces the first `from` in good settings by `to` and says whether the result is accepted. */
static bool accepts(const char *from, const char *to)
{
    struct settings a AUTO_SETTINGS = {.disks = NULL}, b AUTO_SETTINGS = {.disks = NULL};
    struct buf text AUTO_BUF = BUF_NONE, changed AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    fill(&a);
    assert_true(settings_write(&a, &text, &err));
    buf_put_u8(&text, 0);
    char *at = strstr((char *)text.data, from);
    assert_non_null(at);
    buf_put(&changed, text.data, (size_t)(at - (char *)text.data));
    buf_put(&changed, to, strlen(to));
    buf_put(&changed, at + strlen(from), strlen(at + strlen(from)));
    assert_true(settings_make(&b, &err));
    return settings_parse(buf_span(&changed), &b, &err);
}

static void settings_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    assert_true(accepts("vm1", "vm2"));
    assert_false(accepts("vm1", "../etc/passwd"));
    assert_false(accepts("\"version\":\t1", "\"version\":\t2"));
    assert_false(accepts("\"encrypted\"", "\"encryptd\""));
    assert_false(accepts("abab", "zzzz"));
    assert_false(accepts("\"role\":\t\"source\"", "\"role\":\t\"spectator\""));
    assert_false(accepts("g0001", "x0001"));
    assert_false(accepts("\"cut_interval_seconds\":\t5", "\"cut_interval_seconds\":\t0"));
    assert_false(accepts("\"store\":\t1", "\"store\":\t2"));
    assert_false(accepts("\"vdb\"", "\"vda\""));
    assert_false(accepts("\"vdb\"", "\"a/b\""));
    assert_false(accepts("\"number\":\t1", "\"number\":\t0"));
    assert_false(accepts("/d/a.img", "d/a.img"));
    assert_false(accepts("\"size_bytes\":\t4096", "\"size_bytes\":\t0"));
    assert_false(accepts("\"/m\"", "\"m\""));
    assert_false(accepts("\"replicate\":\tfalse", "\"replicate\":\t0"));
    assert_false(accepts("\"file:///far\"", "7"));
    assert_false(accepts("\"epoch\":\t17", "\"epocs\":\t17"));
}

static void no_bound_is_written_as_nothing_and_shown_as_unlimited(void **state)
{
    (void)state;
    struct settings a AUTO_SETTINGS = {.disks = NULL};
    struct buf text AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    fill(&a);
    assert_string_equal(settings_bandwidth(&a), "unlimited");
    assert_true(settings_set_bandwidth(&a, "20M,08:00-18:00=2M", &err));
    assert_string_equal(settings_bandwidth(&a), "20M,08:00-18:00=2M");
    assert_false(settings_set_bandwidth(&a, "20Q", &err)); /* and nothing has changed */
    assert_string_equal(settings_bandwidth(&a), "20M,08:00-18:00=2M");
    assert_true(settings_set_bandwidth(&a, "unlimited", &err));
    assert_string_equal(settings_bandwidth(&a), "unlimited");
    assert_true(settings_write(&a, &text, &err));
    buf_put_u8(&text, 0);
    assert_null(strstr((char *)text.data, "bandwidth"));
}

struct place {
    struct paths paths;
    struct tmp_dir dir;
};

static int setup(void **state)
{
    static struct place p;
    tmp_dir_make(&p.dir);
    snprintf(p.paths.config, sizeof p.paths.config, "%s", tmp_dir_path(&p.dir, "config"));
    *state = &p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    tmp_dir_remove(&p->dir);
    return 0;
}

static void saved_settings_are_private_listed_and_loaded(void **state)
{
    struct place *p = *state;
    struct settings a AUTO_SETTINGS = {.disks = NULL}, b AUTO_SETTINGS = {.disks = NULL};
    struct vm_names names AUTO_VM_NAMES = {NULL, 0};
    struct err err = ERR_NONE;
    char path[PATH_BYTES_MAX];
    struct stat st;
    fill(&a);
    assert_true(vm_names_list(&p->paths, &names, &err)); /* no folder yet: no VM */
    assert_int_equal(names.count, 0);
    assert_true(settings_save(world_real(), &p->paths, &a, &err));
    path_settings(&p->paths, "vm1", path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(vm_names_list(&p->paths, &names, &err));
    assert_int_equal(names.count, 1);
    assert_string_equal(names.names[0], "vm1");
    assert_true(settings_load(world_real(), &p->paths, "vm1", &b, &err));
    assert_string_equal(b.disks[0].path, "/d/a.img");
}

static bool count_up(void *context, struct settings *s)
{
    (void)context;
    s->cut_interval_s++;
    return true;
}

/* As a worker and a verb do. */
static void changes_of_several_processes_are_all_kept(void **state)
{
    struct place *place = *state;
    struct paths *p = &place->paths;
    struct settings a AUTO_SETTINGS = {.disks = NULL}, b AUTO_SETTINGS = {.disks = NULL};
    struct err err = ERR_NONE;
    pid_t children[4];
    fill(&a);
    a.cut_interval_s = 10;
    assert_true(settings_save(world_real(), p, &a, &err));
    for (size_t i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] != 0)
            continue;
        for (int n = 0; n < 25; n++)
            if (!settings_change(world_real(), p, "vm1", count_up, NULL, &err))
                _exit(1);
        _exit(0);
    }
    for (size_t i = 0; i < 4; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    assert_true(settings_load(world_real(), p, "vm1", &b, &err));
    assert_int_equal(b.cut_interval_s, 110);
}

static void an_unknown_vm_is_not_found_and_the_known_are_listed(void **state)
{
    struct place *p = *state;
    struct settings a AUTO_SETTINGS = {.disks = NULL}, b AUTO_SETTINGS = {.disks = NULL};
    struct err err = ERR_NONE;
    fill(&a);
    assert_true(settings_save(world_real(), &p->paths, &a, &err));
    assert_false(settings_load(world_real(), &p->paths, "vm9", &b, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    assert_non_null(strstr(err.text, "vm1"));
    assert_false(settings_load(world_real(), &p->paths, "../vm1", &b, &err));
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

static void a_file_that_names_another_vm_is_refused(void **state)
{
    struct place *p = *state;
    struct settings a AUTO_SETTINGS = {.disks = NULL}, b AUTO_SETTINGS = {.disks = NULL};
    struct err err = ERR_NONE;
    char from[PATH_BYTES_MAX], to[PATH_BYTES_MAX];
    fill(&a);
    assert_true(settings_save(world_real(), &p->paths, &a, &err));
    path_settings(&p->paths, "vm1", from);
    path_settings(&p->paths, "vm2", to);
    assert_int_equal(rename(from, to), 0);
    assert_false(settings_load(world_real(), &p->paths, "vm2", &b, &err));
    assert_int_equal(err.kind, ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_come_from_farshore_variables_root_defaults_or_xdg),
        cmocka_unit_test(what_is_written_reads_back_equal),
        cmocka_unit_test(a_source_that_says_nothing_of_it_replicates_and_has_no_origin),
        cmocka_unit_test(settings_that_do_not_fit_are_refused),
        cmocka_unit_test(no_bound_is_written_as_nothing_and_shown_as_unlimited),
        cmocka_unit_test_setup_teardown(saved_settings_are_private_listed_and_loaded, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(changes_of_several_processes_are_all_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unknown_vm_is_not_found_and_the_known_are_listed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_that_names_another_vm_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
