/* SPDX-License-Identifier: MIT */
#include "tools/failover/switch_disks.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"
#include "tools/failover/machine.h"

/* A hypervisor with one domain, which does what it is told, or fails at a given call. */
struct fake {
    struct virt virt;
    enum virt_state state;
    struct machine *defined, *live;
    bool define_fails;
    const char *move_fails; /* this disk cannot be moved */
    unsigned moves;
};

static struct fake *fake_of(struct virt *v)
{
    return (struct fake *)v; /* its first member */
}

static bool fake_status(struct virt *v, const char *domain, struct virt_status *out,
                        struct err *err)
{
    if (strcmp(domain, "web") != 0)
        return err_set(err, ERR_NOT_FOUND, "no domain %s", domain);
    *out = (struct virt_status){.state = fake_of(v)->state, .persistent = true};
    return true;
}

static bool fake_xml(struct virt *v, const char *domain, enum virt_xml which, char **out,
                     struct err *err)
{
    struct fake *f = fake_of(v);
    if (strcmp(domain, "web") != 0)
        return err_set(err, ERR_NOT_FOUND, "no domain %s", domain);
    return machine_write(which == VIRT_LIVE && f->state == VIRT_RUNNING ? f->live : f->defined, out,
                         err);
}

static bool fake_define(struct virt *v, const char *xml, struct err *err)
{
    struct fake *f = fake_of(v);
    struct machine *m = NULL;
    if (f->define_fails)
        return err_set(err, ERR_IO, "libvirt says no");
    if (!machine_parse(span_of_text(xml), &m, err))
        return false;
    machine_release(&f->defined);
    f->defined = m;
    return true;
}

static bool fake_move(struct virt *v, const char *domain, const char *target, const char *path,
                      virt_progress_fn *progress, void *context, struct err *err)
{
    struct fake *f = fake_of(v);
    (void)domain, (void)progress, (void)context;
    if (f->move_fails && strcmp(target, f->move_fails) == 0)
        return err_set(err, ERR_IO, "no room");
    f->moves++;
    return machine_set_disk(f->live, target, MACHINE_FILE, path, err) &&
           machine_set_disk(f->defined, target, MACHINE_FILE, path, err);
}

static const struct virt_ops fake_ops = {
    .status = fake_status, .xml = fake_xml, .define = fake_define, .move_disk = fake_move};

struct rig {
    struct fake fake;
    struct tmp_dir dir;
    struct settings settings;
    struct switch_disks config;
    char old[2][PATH_MAX];
};

static void make_file(const char *path, off_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    close(fd);
}

static int rig_make(void **state)
{
    static struct rig r;
    struct err err = ERR_NONE;
    char xml[4 * PATH_MAX];
    r = (struct rig){.fake = {.virt = {.ops = &fake_ops}, .state = VIRT_OFF}};
    tmp_dir_make(&r.dir);
    check_ok(settings_make(&r.settings, &err), err);
    snprintf(r.settings.name, sizeof r.settings.name, "web");
    check_ok(settings_set_machine(&r.settings, "domain", "web", &err), err);
    check_ok(settings_set_machine(&r.settings, "mount", "/mnt/web", &err), err);
    r.settings.disk_count = 2;
    for (uint16_t i = 0; i < 2; i++) {
        struct settings_disk *d = &r.settings.disks[i];
        snprintf(d->name, sizeof d->name, "vd%c", 'a' + i);
        snprintf(r.old[i], sizeof r.old[i], "%s", tmp_dir_path(&r.dir, i ? "b.img" : "a.img"));
        make_file(r.old[i], 8192);
        d->size_bytes = 8192;
        snprintf(d->path, sizeof d->path, "%s", r.old[i]);
    }
    snprintf(xml, sizeof xml,
             "<domain type='qemu'><name>web</name><memory>1024</memory><os><type>hvm</type></os>"
             "<devices><disk type='file' device='disk'><driver name='qemu' type='raw'/>"
             "<source file='%s'/><target dev='vda'/></disk><disk type='file' device='disk'>"
             "<driver name='qemu' type='raw'/><source file='%s'/><target dev='vdb'/></disk>"
             "</devices></domain>",
             r.old[0], r.old[1]);
    check_ok(machine_parse(span_of_text(xml), &r.fake.defined, &err), err);
    check_ok(machine_parse(span_of_text(xml), &r.fake.live, &err), err);
    r.config =
        (struct switch_disks){.world = world_real(), .virt = &r.fake.virt, .settings = &r.settings};
    *state = &r;
    return 0;
}

static int rig_release(void **state)
{
    struct rig *r = *state;
    machine_release(&r->fake.defined);
    machine_release(&r->fake.live);
    settings_release(&r->settings);
    tmp_dir_remove(&r->dir);
    return 0;
}

/* The domain runs, so its disks are to go to files of their own. */
static void run_it(struct rig *r)
{
    r->fake.state = VIRT_RUNNING;
    for (int i = 0; i < 2; i++)
        snprintf(r->settings.disks[i].path, PATH_MAX, "%s",
                 tmp_dir_path(&r->dir, i ? "b.farshore.raw" : "a.farshore.raw"));
}

static void disks_are(const struct machine *m, const char *a, const char *b)
{
    assert_string_equal(machine_disk(m, "vda")->path, a);
    assert_string_equal(machine_disk(m, "vdb")->path, b);
}

static bool stops_on_error(const struct machine *m)
{
    struct err err = ERR_NONE;
    char *xml AUTO_FREE = NULL;
    check_ok(machine_write(m, &xml, &err), err);
    const char *first = strstr(xml, "error_policy=\"stop\"");
    return first != NULL && strstr(first + 1, "error_policy=\"stop\"") != NULL;
}

static void a_domain_that_is_off_is_defined_with_the_mount_as_its_disks(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    check_ok(switch_disks_on(&r->config, NULL, NULL, &err), err);
    disks_are(r->fake.defined, "/mnt/web/vda.img", "/mnt/web/vdb.img");
    assert_true(stops_on_error(r->fake.defined));
    assert_int_equal(r->fake.moves, 0);
    check_ok(switch_disks_on(&r->config, NULL, NULL, &err), err); /* repeated */
}

static void a_definition_that_fails_leaves_the_domain_as_it_was(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    r->fake.define_fails = true;
    check_fails(switch_disks_on(&r->config, NULL, NULL, &err), err, ERR_IO);
    disks_are(r->fake.defined, r->old[0], r->old[1]);
}

static void disks_of_a_domain_that_runs_are_moved_and_defined(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    run_it(r);
    check_ok(switch_disks_on(&r->config, NULL, NULL, &err), err);
    disks_are(r->fake.live, "/mnt/web/vda.img", "/mnt/web/vdb.img");
    disks_are(r->fake.defined, "/mnt/web/vda.img", "/mnt/web/vdb.img");
    assert_true(stops_on_error(r->fake.defined));
    check_ok(switch_disks_on(&r->config, NULL, NULL, &err), err);
    assert_int_equal(r->fake.moves, 2); /* what has moved is left */
}

static void a_disk_that_cannot_be_moved_takes_the_others_back(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    run_it(r);
    r->fake.move_fails = "vdb";
    check_fails(switch_disks_on(&r->config, NULL, NULL, &err), err, ERR_IO);
    disks_are(r->fake.live, r->old[0], r->old[1]);
    disks_are(r->fake.defined, r->old[0], r->old[1]);
    r->fake.move_fails = NULL;
    check_ok(switch_disks_on(&r->config, NULL, NULL, &err), err);
    disks_are(r->fake.live, "/mnt/web/vda.img", "/mnt/web/vdb.img");
}

static void a_disk_that_cannot_go_back_is_named(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    run_it(r);
    r->fake.move_fails = "vdb";
    assert_int_equal(unlink(r->old[0]), 0);
    check_fails(switch_disks_on(&r->config, NULL, NULL, &err), err, ERR_IO);
    check_says(err, "disk vda stays on the mount");
    disks_are(r->fake.live, "/mnt/web/vda.img", r->old[1]);
}

static void a_domain_that_was_shut_down_meanwhile_is_not_given_an_empty_disk(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    run_it(r);
    r->fake.state = VIRT_OFF;
    check_fails(switch_disks_on(&r->config, NULL, NULL, &err), err, ERR_INVALID);
    check_says(err, "start it");
    disks_are(r->fake.defined, r->old[0], r->old[1]);
}

static void a_converted_image_counts_until_the_old_one_is_written(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    struct stat st;
    run_it(r);
    r->fake.state = VIRT_OFF;
    assert_int_equal(stat(r->old[1], &st), 0);
    uint64_t written_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
    r->config.copied_ns = written_ns - 1;
    check_fails(switch_disks_on(&r->config, NULL, NULL, &err), err, ERR_INVALID);
    r->config.copied_ns = written_ns;
    check_ok(switch_disks_on(&r->config, NULL, NULL, &err), err);
    disks_are(r->fake.defined, "/mnt/web/vda.img", "/mnt/web/vdb.img");
}

static void disks_are_given_back_to_a_domain_that_is_off(void **state)
{
    struct rig *r = *state;
    struct err err = ERR_NONE;
    check_ok(switch_disks_on(&r->config, NULL, NULL, &err), err);
    r->fake.state = VIRT_RUNNING;
    check_fails(switch_disks_off(&r->config, &err), err, ERR_BUSY);
    check_says(err, "virsh shutdown web");
    r->fake.state = VIRT_OFF;
    check_ok(switch_disks_off(&r->config, &err), err);
    disks_are(r->fake.defined, r->old[0], r->old[1]);
    check_ok(switch_disks_off(&r->config, &err), err); /* repeated */
    check_ok(settings_set_machine(&r->settings, "domain", "gone", &err), err);
    check_ok(switch_disks_off(&r->config, &err), err);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, rig_make, rig_release)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_domain_that_is_off_is_defined_with_the_mount_as_its_disks),
        TEST(a_definition_that_fails_leaves_the_domain_as_it_was),
        TEST(disks_of_a_domain_that_runs_are_moved_and_defined),
        TEST(a_disk_that_cannot_be_moved_takes_the_others_back),
        TEST(a_disk_that_cannot_go_back_is_named),
        TEST(a_domain_that_was_shut_down_meanwhile_is_not_given_an_empty_disk),
        TEST(a_converted_image_counts_until_the_old_one_is_written),
        TEST(disks_are_given_back_to_a_domain_that_is_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
