/* SPDX-License-Identifier: MIT */
#include "tools/failover/source_domain.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/check.h"

#define DISK(type, source, format, target, more)                                                   \
    "<disk type='" type "' device='disk'><driver name='qemu' type='" format "'/><source " source   \
    "/><target dev='" target "' bus='virtio'/>" more "</disk>"

#define DOMAIN(devices)                                                                            \
    "<domain type='qemu'><name>web</name><memory>1024</memory><vcpu>1</vcpu>"                      \
    "<os><type>hvm</type></os><devices>" devices "</devices></domain>"

#define RAW      DISK("file", "file='/srv/web.img'", "raw", "vda", "")
#define QCOW2    DISK("file", "file='/srv/data.qcow2'", "qcow2", "vdb", "")
#define DEVICE   DISK("block", "dev='/dev/sdx'", "raw", "vdc", "")
#define NETWORK  DISK("network", "protocol='rbd' name='pool/x'", "raw", "vdd", "")
#define SHARED   DISK("file", "file='/srv/quorum.img'", "raw", "vde", "<shareable/>")
#define OTHER_VD DISK("file", "file='/srv/other.img'", "raw", "vda", "")

static bool plan(const char *defined, const char *live, const struct source_ask *ask,
                 struct source_domain *out, struct err *err)
{
    struct machine *d AUTO_MACHINE = NULL, *l AUTO_MACHINE = NULL;
    *err = ERR_NONE;
    *out = (struct source_domain){.xml = NULL};
    check_ok(machine_parse(span_of_text(defined), &d, err), *err);
    if (live)
        check_ok(machine_parse(span_of_text(live), &l, err), *err);
    return source_domain_plan(machine_facts(d), l ? machine_facts(l) : NULL, ask, out, err);
}

static struct source_domain d; /* large */

static void raw_files_of_a_domain_that_is_off_stay_where_they_are(void **state)
{
    (void)state;
    struct err err;
    const struct source_ask ask = {.domain = "web"};
    check_ok(plan(DOMAIN(RAW DEVICE), NULL, &ask, &d, &err), err);
    assert_int_equal(d.disk_count, 2);
    assert_string_equal(d.disks[0].name, "vda");
    assert_string_equal(d.disks[0].local, "/srv/web.img");
    assert_string_equal(d.disks[1].local, "/dev/sdx");
    assert_true(d.disks[1].device);
    assert_false(d.running);
}

static void disks_of_a_domain_that_runs_move_to_new_files(void **state)
{
    (void)state;
    struct err err;
    struct source_ask ask = {.domain = "web"};
    check_ok(plan(DOMAIN(RAW), DOMAIN(RAW), &ask, &d, &err), err);
    assert_true(d.running);
    assert_string_equal(d.disks[0].local, "/srv/web.farshore.raw");
    ask.local = "/big";
    check_ok(plan(DOMAIN(RAW DEVICE), DOMAIN(RAW DEVICE), &ask, &d, &err), err);
    assert_string_equal(d.disks[0].local, "/big/web.farshore.raw");
    assert_string_equal(d.disks[1].local, "/big/sdx.farshore.raw");
}

static void a_block_device_of_a_domain_that_runs_needs_a_folder(void **state)
{
    (void)state;
    struct err err;
    const struct source_ask ask = {.domain = "web"};
    check_fails(plan(DOMAIN(DEVICE), DOMAIN(DEVICE), &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "--local");
}

static void two_new_files_of_one_name_are_refused(void **state)
{
    (void)state;
    struct err err;
    const struct source_ask ask = {.domain = "web", .local = "/big"};
    static const char two[] = DOMAIN(DISK("file", "file='/a/os.img'", "raw", "vda", "")
                                         DISK("file", "file='/b/os.raw'", "raw", "vdb", ""));
    check_fails(plan(two, two, &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "--local");
}

static void a_qcow2_image_is_refused_with_the_line_that_converts_it_unless_asked(void **state)
{
    (void)state;
    struct err err;
    struct source_ask ask = {.domain = "web"};
    check_fails(plan(DOMAIN(QCOW2), NULL, &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "qemu-img convert -O raw /srv/data.qcow2 /srv/data.qcow2.raw");
    ask.convert = true;
    check_ok(plan(DOMAIN(QCOW2), NULL, &ask, &d, &err), err);
    assert_true(d.disks[0].qcow2);
    assert_string_equal(d.disks[0].local, "/srv/data.farshore.raw");
}

static void what_cannot_be_replicated_is_named_and_can_be_excluded(void **state)
{
    (void)state;
    struct err err;
    const char *const excluded[] = {"vdd", "vde"};
    struct source_ask ask = {.domain = "web"};
    check_fails(plan(DOMAIN(RAW NETWORK), NULL, &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "--exclude vdd");
    check_fails(plan(DOMAIN(RAW SHARED), NULL, &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "shared");
    ask.excluded = excluded;
    ask.excluded_count = 2;
    check_ok(plan(DOMAIN(RAW NETWORK SHARED), NULL, &ask, &d, &err), err);
    assert_int_equal(d.disk_count, 1);
}

static void an_exclusion_that_meets_no_disk_or_leaves_none_is_refused(void **state)
{
    (void)state;
    struct err err;
    const char *const excluded[] = {"vda"};
    const struct source_ask ask = {.domain = "web", .excluded = excluded, .excluded_count = 1};
    check_fails(plan(DOMAIN(QCOW2), NULL, &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "no disk vda");
    check_fails(plan(DOMAIN(RAW), NULL, &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "no disk to replicate");
}

static void a_domain_that_runs_on_other_disks_than_it_is_defined_with_is_refused(void **state)
{
    (void)state;
    struct err err;
    const struct source_ask ask = {.domain = "web"};
    check_fails(plan(DOMAIN(RAW), DOMAIN(OTHER_VD), &ask, &d, &err), err, ERR_INVALID);
    check_says(err, "vda");
    check_fails(plan(DOMAIN(RAW), DOMAIN(DEVICE), &ask, &d, &err), err, ERR_INVALID);
}

static void an_excluded_disk_is_not_in_what_the_target_is_told(void **state)
{
    (void)state;
    struct err err;
    const char *const excluded[] = {"vdd"};
    const struct source_ask ask = {.domain = "web", .excluded = excluded, .excluded_count = 1};
    struct protection *p AUTO_PROTECTION = NULL;
    static const char xml[] = DOMAIN(RAW NETWORK);
    check_ok(plan(xml, NULL, &ask, &d, &err), err);
    d.xml = strdup(xml);
    check_ok(machine_parse(span_of_text(xml), &d.machine, &err), err);
    d.nic_count = 2;
    d.nics[0] = d.nics[1] =
        (struct protection_nic){.network = "lan", .subnet = "front", .address = "10.0.0.7"};
    check_ok(protection_make(&p, &err), err);
    check_ok(source_domain_register(&d, p, &err), err);
    assert_null(memmem(p->xml.data, p->xml.length, "vdd", 3));
    assert_non_null(memmem(p->xml.data, p->xml.length, "vda", 3));
    assert_int_equal(p->mapping_count, 1); /* two NICs, one network */
    assert_string_equal(p->mappings[0].away_network, "lan");
    assert_string_equal(p->mappings[0].away_subnet, "front");
    source_domain_release(&d);
}

static void a_mapping_that_people_made_is_kept_when_the_machine_is_registered_again(void **state)
{
    (void)state;
    struct err err;
    const struct source_ask ask = {.domain = "web"};
    struct protection *p AUTO_PROTECTION = NULL;
    check_ok(plan(DOMAIN(RAW), NULL, &ask, &d, &err), err);
    d.xml = strdup(DOMAIN(RAW));
    check_ok(machine_parse(span_of_text(d.xml), &d.machine, &err), err);
    d.nic_count = 1;
    d.nics[0] = (struct protection_nic){.network = "lan", .subnet = "front"};
    check_ok(protection_make(&p, &err), err);
    p->mapping_count = 1;
    p->mappings[0] = (struct protection_mapping){.home_network = "lan", .away_network = "dmz"};
    check_ok(source_domain_register(&d, p, &err), err);
    assert_int_equal(p->mapping_count, 1);
    assert_string_equal(p->mappings[0].away_network, "dmz");
    source_domain_release(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(raw_files_of_a_domain_that_is_off_stay_where_they_are),
        cmocka_unit_test(disks_of_a_domain_that_runs_move_to_new_files),
        cmocka_unit_test(a_block_device_of_a_domain_that_runs_needs_a_folder),
        cmocka_unit_test(two_new_files_of_one_name_are_refused),
        cmocka_unit_test(a_qcow2_image_is_refused_with_the_line_that_converts_it_unless_asked),
        cmocka_unit_test(what_cannot_be_replicated_is_named_and_can_be_excluded),
        cmocka_unit_test(an_exclusion_that_meets_no_disk_or_leaves_none_is_refused),
        cmocka_unit_test(a_domain_that_runs_on_other_disks_than_it_is_defined_with_is_refused),
        cmocka_unit_test(an_excluded_disk_is_not_in_what_the_target_is_told),
        cmocka_unit_test(a_mapping_that_people_made_is_kept_when_the_machine_is_registered_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
