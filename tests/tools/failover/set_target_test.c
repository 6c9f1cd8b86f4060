/* SPDX-License-Identifier: MIT */
#include "tools/failover/set_target.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/check.h"
#include "tools/failover/target_show.h"

static struct protection *made(bool home)
{
    struct err err = ERR_NONE;
    struct protection *p = NULL;
    check_ok(protection_make(&p, &err), err);
    snprintf(p->home_host, sizeof p->home_host, "near");
    snprintf(p->source_host, sizeof p->source_host, "%s", home ? "near" : "far");
    p->nic_count = 2;
    p->nics[0] = (struct protection_nic){.network = "lan",
                                         .subnet = "10.0.0.0/24",
                                         .mac = "52:54:00:00:00:01",
                                         .address = "10.0.0.9"};
    p->nics[1] = (struct protection_nic){.network = "back", .mac = "52:54:00:00:00:02"};
    return p;
}

static void take(struct protection *p, const char *given)
{
    struct err err = ERR_NONE;
    check_ok(set_target_take(p, given, &err), err);
}

static void place_is(const struct protection *p, unsigned nic, const char *network,
                     const char *subnet)
{
    char n[PROTECTION_NAME_MAX], s[PROTECTION_NAME_MAX];
    target_show_place(p, nic, n, s);
    assert_string_equal(n, network);
    assert_string_equal(s, subnet);
}

static void a_network_without_a_row_goes_to_its_namesake(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = made(true);
    place_is(p, 0, "lan", "10.0.0.0/24");
    place_is(p, 1, "back", "");
}

static void a_row_for_a_subnet_wins_over_one_for_its_network(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = made(true);
    take(p, "target.network.lan=dmz");
    place_is(p, 0, "dmz", "10.0.0.0/24");
    take(p, "target.network.lan/10.0.0.0/24=inner/10.9.0.0/24");
    place_is(p, 0, "inner", "10.9.0.0/24");
    assert_int_equal(p->mapping_count, 2);
    take(p, "target.network.lan/10.0.0.0/24=");
    place_is(p, 0, "dmz", "10.0.0.0/24");
}

static void a_row_for_a_network_takes_the_place_of_those_for_its_subnets(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = made(true);
    take(p, "target.network.lan/10.0.0.0/24=lan/10.0.0.0/24"); /* as enable makes it */
    take(p, "target.network.lan=dmz");
    assert_int_equal(p->mapping_count, 1);
    place_is(p, 0, "dmz", "10.0.0.0/24");
}

static void the_mapping_is_one_and_is_read_from_the_side_where_the_vm_runs(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = made(false);
    take(p, "target.network.lan/10.0.0.0/24=home/one");
    assert_string_equal(p->mappings[0].home_network, "home");
    assert_string_equal(p->mappings[0].away_network, "lan");
    place_is(p, 0, "home", "one");
}

static void a_nic_by_its_number_wins_over_the_mapping(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = made(true);
    take(p, "target.network.back=dmz");
    take(p, "target.network.1=special");
    assert_int_equal(p->mapping_count, 1);
    place_is(p, 1, "special", "");
    place_is(p, 0, "lan", "10.0.0.0/24");
}

static void what_is_no_setting_of_the_target_is_refused_with_the_nearest(void **state)
{
    (void)state;
    struct err err;
    struct protection *p AUTO_PROTECTION = made(true);
    check_fails(set_target_take(p, "target.hots=far", &err), err, ERR_INVALID);
    check_says(err, "target.hosts");
    check_fails(set_target_take(p, "target.hosts", &err), err, ERR_INVALID);
    check_fails(set_target_take(p, "hosts=far", &err), err, ERR_INVALID);
    check_fails(set_target_take(p, "target.network.=x", &err), err, ERR_INVALID);
    check_fails(set_target_take(p, "target.network.lan=dmz/", &err), err, ERR_INVALID);
    check_fails(set_target_take(p, "target.network.lan=<x>", &err), err, ERR_INVALID);
    assert_int_equal(p->mapping_count, 0);
}

static void a_mapping_that_is_full_is_refused(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    struct protection *p AUTO_PROTECTION = made(true);
    for (unsigned i = 0; i < PROTECTION_MAPPINGS_MAX; i++) {
        char given[64];
        snprintf(given, sizeof given, "target.network.n%u=m", i);
        take(p, given);
    }
    check_fails(set_target_take(p, "target.network.more=m", &err), err, ERR_FULL);
    take(p, "target.network.n3=other"); /* a row that is there is changed */
}

struct listed {
    const char *wanted;
    char value[600];
};

static void look(void *context, const char *name, const char *value)
{
    struct listed *s = context;
    if (strcmp(name, s->wanted) == 0 && s->value[0] == '\0')
        snprintf(s->value, sizeof s->value, "%s", value);
}

static void shows(const struct protection *p, const char *name, const char *value)
{
    struct err err = ERR_NONE;
    struct settings s AUTO_SETTINGS = {.disks = NULL};
    uint16_t index;
    struct listed seen = {.wanted = name};
    check_ok(settings_make(&s, &err), err);
    snprintf(s.name, sizeof s.name, "web");
    check_ok(settings_store(&s, "file:///c", "file:///t", &index, &err), err);
    s.disk_count = 1;
    snprintf(s.disks[0].name, sizeof s.disks[0].name, "vda");
    target_show(p, &s, look, &seen);
    if (strstr(seen.value, value) == NULL)
        fail_msg("%s is \"%s\", without \"%s\"", name, seen.value, value);
}

static void every_resource_of_the_target_has_a_default_and_can_be_overridden(void **state)
{
    (void)state;
    struct protection *p AUTO_PROTECTION = made(true);
    static const struct {
        const char *name, *first, *given, *then;
    } rows[] = {
        {"hosts", "farshore set web target.hosts=", "target.hosts=far1,far2", "far1,far2"},
        {"resource-group", "farshore-web", "target.resource-group=blue", "blue"},
        {"availability-set", "none", "target.availability-set=front", "front"},
        {"name", "web", "target.name=web2", "web2"},
        {"nic", "lan/10.0.0.0/24 -> lan/10.0.0.0/24", "target.network.lan=dmz", "-> dmz/"},
        {"nic", "10.0.0.9 when it is free", "target.address=10.9.0.4", "10.9.0.4 when"},
        {"test-network", "isolated", "target.test-network=drill", "drill"},
        {"folder", "disks/blue/web", "target.folder=/big", "/big"},
        {"mount", "mounts/web", "target.mount=/m", "/m"},
        {"back-cache", "", "target.back-cache=file:///bc", "file:///bc"},
        {"back-target", "", "target.back-target=file:///bt", "file:///bt"},
        {"disk", "vda: cache file:///c, target file:///t", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        shows(p, rows[i].name, rows[i].first);
        if (rows[i].given == NULL)
            continue;
        take(p, rows[i].given);
        shows(p, rows[i].name, rows[i].then);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_without_a_row_goes_to_its_namesake),
        cmocka_unit_test(a_row_for_a_subnet_wins_over_one_for_its_network),
        cmocka_unit_test(a_row_for_a_network_takes_the_place_of_those_for_its_subnets),
        cmocka_unit_test(the_mapping_is_one_and_is_read_from_the_side_where_the_vm_runs),
        cmocka_unit_test(a_nic_by_its_number_wins_over_the_mapping),
        cmocka_unit_test(what_is_no_setting_of_the_target_is_refused_with_the_nearest),
        cmocka_unit_test(a_mapping_that_is_full_is_refused),
        cmocka_unit_test(every_resource_of_the_target_has_a_default_and_can_be_overridden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
