/* SPDX-License-Identifier: MIT
 * Where a NIC belongs on the host that takes the VM over. */
#include "tests/support/check.h"
#include "tools/failover/runner_private.h"

struct rig {
    struct protection *p;
    struct runner r;
};

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct err err = ERR_NONE;
    assert_true(protection_make(&rig->p, &err));
    rig->r.protection = rig->p;
    strcpy(rig->p->home_host, "near");
    strcpy(rig->r.host.name, "far");
    rig->p->nic_count = 2;
    strcpy(rig->p->nics[0].network, "lan");
    strcpy(rig->p->nics[0].subnet, "web");
    strcpy(rig->p->nics[1].network, "lan");
    strcpy(rig->p->nics[1].subnet, "db");
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;
    protection_release(&rig->p);
    free(rig);
    return 0;
}

static void map(struct rig *rig, const char *home, const char *home_subnet, const char *away,
                const char *away_subnet)
{
    struct protection_mapping *m = &rig->p->mappings[rig->p->mapping_count++];
    strcpy(m->home_network, home);
    strcpy(m->home_subnet, home_subnet);
    strcpy(m->away_network, away);
    strcpy(m->away_subnet, away_subnet);
}

static void assert_place(struct rig *rig, uint16_t nic, const char *network, const char *subnet)
{
    struct network_place place;
    runner_place(&rig->r, nic, &place);
    assert_string_equal(place.network, network);
    assert_string_equal(place.subnet, subnet);
}

static void without_a_mapping_the_names_stay(void **state)
{
    assert_place(*state, 0, "lan", "web");
    assert_place(*state, 1, "lan", "db");
}

static void a_row_for_the_subnet_wins_over_one_for_the_network(void **state)
{
    map(*state, "lan", "", "wan", "");
    map(*state, "lan", "db", "vault", "inner");
    assert_place(*state, 0, "wan", "web");
    assert_place(*state, 1, "vault", "inner");
}

static void a_setting_wins_over_the_mapping(void **state)
{
    struct rig *rig = *state;
    struct err err = ERR_NONE;
    map(rig, "lan", "", "wan", "");
    assert_true(target_setting_set(&rig->p->settings, "network.1", "own", &err));
    assert_true(target_setting_set(&rig->p->settings, "subnet.1", "small", &err));
    assert_place(rig, 0, "wan", "web");
    assert_place(rig, 1, "own", "small");
}

static void the_way_home_is_the_mapping_read_backwards_and_no_target_setting(void **state)
{
    struct rig *rig = *state;
    struct err err = ERR_NONE;
    map(rig, "lan", "web", "wan", "outer");
    assert_true(target_setting_set(&rig->p->settings, "network", "own", &err));
    strcpy(rig->r.host.name, "near");
    strcpy(rig->p->nics[0].network, "wan");
    strcpy(rig->p->nics[0].subnet, "outer");
    assert_place(rig, 0, "lan", "web");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(without_a_mapping_the_names_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(a_row_for_the_subnet_wins_over_one_for_the_network, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_setting_wins_over_the_mapping, setup, teardown),
        cmocka_unit_test_setup_teardown(
            the_way_home_is_the_mapping_read_backwards_and_no_target_setting, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
