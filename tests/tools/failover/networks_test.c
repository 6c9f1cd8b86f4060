/* SPDX-License-Identifier: MIT
 * Over a hypervisor that is a few texts in memory; tests/servers/virt_main.c does the same jobs
 * with libvirt itself. */
#include "tools/failover/networks.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#include <stdio.h>

static const char prod[] =
    "<network connections='2'><name>prod</name><uuid>11111111-2222-4333-8444-555555555555</uuid>"
    "<metadata><farshore:network xmlns:farshore='urn:farshore:1' group='rg'>"
    "<farshore:subnet cidr='10.77.0.0/24' name='web'/></farshore:network></metadata>"
    "<forward dev='eth7' mode='nat'><nat><address start='1.2.3.4' end='1.2.3.5'/>"
    "<port start='1024' end='65535'/></nat><interface dev='eth7'/></forward>"
    "<bridge name='virbr3' stp='on' delay='0'/><mac address='52:54:00:00:00:99'/>"
    "<domain name='prod.example'/>"
    "<ip address='10.77.0.1' netmask='255.255.255.0'><tftp root='/tftp'/><dhcp>"
    "<range start='10.77.0.10' end='10.77.0.12'/><range start='10.77.0.200' end='10.77.0.200'/>"
    "<host mac='52:54:00:00:00:01' name='one' ip='10.77.0.11'/>"
    "<host name='by-name' ip='10.77.0.10'/></dhcp></ip>"
    "<ip address='10.78.3.1' prefix='29'/>"
    "<ip family='ipv6' address='fd00:1::1' prefix='64'/></network>";

/* --- a hypervisor of texts --- */

#define ROWS_MAX 8

struct texts {
    struct virt virt;
    char hosts[ROWS_MAX][128]; /* of prod's first <ip> */
    const char *lease_mac, *lease_address, *agent_mac, *agent_address;
    unsigned fail_adds; /* as when another took the address */
};

static struct texts *texts_of(struct virt *v)
{
    return (struct texts *)(void *)v;
}

static bool text_xml(struct virt *v, const char *network, char **out, struct err *err)
{
    char rows[ROWS_MAX * 128] = "", *at = strdup(prod);
    if (strcmp(network, "prod") != 0) {
        free(at);
        return err_set(err, ERR_NOT_FOUND, "no network %s", network);
    }
    for (size_t i = 0; i < ROWS_MAX; i++)
        strcat(rows, texts_of(v)->hosts[i]);
    char *end = strstr(at, "</dhcp>");
    assert_true(asprintf(out, "%.*s%s%s", (int)(end - at), at, rows, end) > 0);
    free(at);
    return true;
}

static bool text_host(struct virt *v, const char *network, int ip_index, const char *xml, bool add,
                      struct err *err)
{
    struct texts *t = texts_of(v);
    assert_string_equal(network, "prod");
    assert_int_equal(ip_index, 0);
    if (add && t->fail_adds > 0) {
        t->fail_adds--;
        return err_set(err, ERR_INVALID, "there is an existing dhcp host entry that matches");
    }
    for (size_t i = 0; i < ROWS_MAX; i++)
        if (add ? t->hosts[i][0] == '\0' : strcmp(t->hosts[i], xml) == 0) {
            snprintf(t->hosts[i], sizeof t->hosts[i], "%s", add ? xml : "");
            return true;
        }
    return err_set(err, ERR_IO, "%s: %s", add ? "no room" : "no such host", xml);
}

static bool text_leases(struct virt *v, const char *network, virt_address_fn *each, void *context,
                        struct err *err)
{
    struct texts *t = texts_of(v);
    (void)network, (void)err;
    if (t->lease_address != NULL)
        (void)each(context, t->lease_mac, t->lease_address);
    return true;
}

static bool text_addresses(struct virt *v, const char *domain, enum virt_address_from from,
                           virt_address_fn *each, void *context, struct err *err)
{
    struct texts *t = texts_of(v);
    assert_int_equal(from, VIRT_FROM_AGENT);
    if (t->agent_address == NULL)
        return err_set(err, ERR_INVALID, "%s has no agent", domain);
    if (each(context, t->agent_mac, "127.0.0.1") && each(context, t->agent_mac, "192.168.9.9"))
        (void)each(context, t->agent_mac, t->agent_address);
    return true;
}

static const struct virt_ops text_ops = {.network_xml = text_xml,
                                         .network_host = text_host,
                                         .leases = text_leases,
                                         .addresses = text_addresses};

static struct texts texts_make(void)
{
    return (struct texts){.virt = {.ops = &text_ops}};
}

static struct network parsed(const char *xml)
{
    struct network n;
    struct err err = ERR_NONE;
    check_ok(network_parse(span_of_text(xml), &n, &err), err);
    return n;
}

/* --- reading --- */

static void a_network_is_read_with_its_subnets_ranges_and_reservations(void **state)
{
    (void)state;
    struct network n AUTO_NETWORK = parsed(prod);
    assert_string_equal(n.name, "prod");
    assert_string_equal(n.bridge, "virbr3");
    assert_string_equal(n.forward, "nat");
    assert_string_equal(n.group, "rg");
    assert_int_equal(n.subnet_count, 3);
    assert_string_equal(n.subnets[0].name, "web");
    assert_string_equal(n.subnets[0].cidr, "10.77.0.0/24");
    assert_string_equal(n.subnets[1].name, "10.78.3.0/29");
    assert_string_equal(n.subnets[2].cidr, "fd00:1::/64");
    assert_true(n.subnets[0].dhcp && !n.subnets[1].dhcp && n.subnets[2].ipv6);
    assert_int_equal(n.subnets[0].range_count, 2);
    assert_string_equal(n.subnets[0].ranges[1].first, "10.77.0.200");
    assert_int_equal(n.host_count, 2);
    assert_string_equal(n.hosts[0].mac, "52:54:00:00:00:01");
    assert_string_equal(n.hosts[1].mac, "");
}

static void an_address_belongs_to_the_subnet_that_holds_it(void **state)
{
    (void)state;
    struct network n AUTO_NETWORK = parsed(prod);
    assert_ptr_equal(network_subnet_of(&n, "10.77.0.255"), &n.subnets[0]);
    assert_ptr_equal(network_subnet_of(&n, "10.78.3.7"), &n.subnets[1]);
    assert_null(network_subnet_of(&n, "10.78.3.8"));
    assert_ptr_equal(network_subnet_of(&n, "fd00:1::abcd"), &n.subnets[2]);
    assert_null(network_subnet_of(&n, "nothing"));
    assert_ptr_equal(network_pick_subnet(&n, "10.78.3.0/29"), &n.subnets[1]);
    assert_ptr_equal(network_pick_subnet(&n, "10.77.0.0/24"), &n.subnets[0]);
    assert_ptr_equal(network_pick_subnet(&n, "web"), &n.subnets[0]);
    assert_ptr_equal(network_pick_subnet(&n, "unheard-of"), &n.subnets[0]);
}

static void hostile_networks_are_refused(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "<domain><name>n</name></domain>",
        "<network/>",
        "<network><name>n</name><ip address='nowhere'/></network>",
        "<network><name>n</name><ip address='10.0.0.1' prefix='33'/></network>",
        "<network><name>n</name><ip address='10.0.0.1' prefix='-1'/></network>",
        "<network><name>n</name><ip address='10.0.0.1' netmask='255.0.255.0'/></network>",
        "<network><name>n</name><ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.1.1' "
        "end='10.0.0.9'/></dhcp></ip></network>",
        "<network><name>n</name><ip address='10.0.0.1' prefix='24'><dhcp><host mac='m' "
        "ip='10.0.0.9'/></dhcp></ip></network>",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct network n;
        struct err err = ERR_NONE;
        if (network_parse(span_of_text(rows[i]), &n, &err))
            fail_msg("taken: %s", rows[i]);
        assert_int_equal(err.kind, ERR_CORRUPT);
        assert_null(n.hosts);
    }
}

/* --- making --- */

static void a_target_network_has_the_subnets_and_nothing_of_the_host(void **state)
{
    (void)state;
    struct world *w = fake_world_make(5);
    struct err err = ERR_NONE;
    char *xml AUTO_FREE = NULL;
    check_ok(network_like(w, span_of_text(prod), "prod-b", "rg-b", &xml, &err), err);
    struct network n AUTO_NETWORK = parsed(xml);
    assert_string_equal(n.name, "prod-b");
    assert_string_equal(n.group, "rg-b");
    assert_string_equal(n.bridge, "");
    assert_string_equal(n.forward, "nat");
    assert_string_not_equal(n.uuid, "11111111-2222-4333-8444-555555555555");
    assert_int_equal(n.subnet_count, 3);
    assert_string_equal(n.subnets[0].name, "web");
    assert_int_equal(n.subnets[0].range_count, 2);
    assert_int_equal(n.host_count, 0);
    static const char *const gone[] = {"eth7", "1.2.3.4", "00:99", "tftp", "connections"};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        if (strstr(xml, gone[i]) != NULL)
            fail_msg("%s in %s", gone[i], xml);
    assert_non_null(strstr(xml, "prod.example"));
    fake_world_release(&w);
}

static void a_network_that_the_host_itself_has_cannot_be_made_elsewhere(void **state)
{
    (void)state;
    struct world *w = fake_world_make(5);
    static const char bridged[] = "<network><name>lan</name><forward mode='bridge'/>"
                                  "<bridge name='br0'/></network>";
    struct err err = ERR_NONE;
    char *xml = NULL;
    check_fails(network_like(w, span_of_text(bridged), "lan", NULL, &xml, &err), err, ERR_INVALID);
    check_says(err, "bridge of its own host");
    assert_null(xml);
    check_ok(network_isolated(w, span_of_text(bridged), "lan-test", NULL, NULL, 0, &xml, &err),
             err);
    struct network n AUTO_NETWORK = parsed(xml);
    assert_int_equal(n.subnet_count, 0);
    assert_string_equal(n.forward, "");
    free(xml);
    check_fails(network_like(w, span_of_text(prod), "a/b", NULL, &xml, &err), err, ERR_INVALID);
    fake_world_release(&w);
}

static void a_test_network_leads_nowhere_and_serves_the_same_addresses(void **state)
{
    (void)state;
    struct world *w = fake_world_make(6);
    struct err err = ERR_NONE;
    char *xml AUTO_FREE = NULL;
    const struct network_host hosts[] = {{.mac = "52:54:00:AA:00:01", .address = "10.77.0.11"}};
    check_ok(network_isolated(w, span_of_text(prod), "t1", "rg", hosts, 1, &xml, &err), err);
    struct network n AUTO_NETWORK = parsed(xml);
    assert_string_equal(n.name, "t1");
    assert_string_equal(n.group, "rg");
    assert_string_equal(n.forward, "");
    assert_int_equal(n.subnet_count, 2); /* the host's own addresses, without a route */
    assert_string_equal(n.subnets[0].cidr, "10.77.0.1/32");
    static const char *const has[] = {"dhcp-range=10.77.0.10,10.77.0.12,255.255.255.0",
                                      "dhcp-range=10.77.0.200,10.77.0.200",
                                      "dhcp-host=52:54:00:aa:00:01,10.77.0.11",
                                      "dhcp-range=10.78.3.0,static,255.255.255.248", "port=0"};
    for (size_t i = 0; i < sizeof has / sizeof *has; i++)
        if (strstr(xml, has[i]) == NULL)
            fail_msg("no %s in %s", has[i], xml);
    assert_null(strstr(xml, "forward"));
    const struct network_host wrong[] = {{.mac = "52:54:00:AA:00:01", .address = "x\ny"}};
    char *none = NULL;
    check_fails(network_isolated(w, span_of_text(prod), "t1", NULL, wrong, 1, &none, &err), err,
                ERR_INVALID);
    fake_world_release(&w);
}

/* --- addresses --- */

#define MAC2 "52:54:00:00:00:02"

static void check_reserves(struct texts *t, const char *subnet, const char *mac, const char *wanted,
                           const char *gets, bool keeps)
{
    struct err err = ERR_NONE;
    char address[VIRT_ADDRESS_MAX + 1];
    bool kept = !keeps;
    check_ok(network_reserve(&t->virt, "prod", subnet, mac, wanted, address, &kept, &err), err);
    assert_string_equal(address, gets);
    assert_int_equal(kept, keeps);
}

static void an_address_is_kept_when_it_is_free_also_outside_the_ranges(void **state)
{
    (void)state;
    struct texts t = texts_make();
    check_reserves(&t, "web", MAC2, "10.77.0.77", "10.77.0.77", true);
    assert_string_equal(t.hosts[0], "<host mac='" MAC2 "' ip='10.77.0.77'/>");
    check_reserves(&t, "web", MAC2, "10.77.0.77", "10.77.0.77", true); /* it is its own */
    assert_string_equal(t.hosts[1], "");
    check_reserves(&t, "web", MAC2, "10.77.0.78", "10.77.0.78", true); /* moves: one per MAC */
    assert_string_equal(t.hosts[0], "<host mac='" MAC2 "' ip='10.77.0.78'/>");
    assert_string_equal(t.hosts[1], "");
}

static void a_taken_address_yields_the_next_free_one_of_the_ranges(void **state)
{
    (void)state;
    struct texts t = texts_make();
    /* .11 is reserved; .10, too, by name; .12 is next. */
    check_reserves(&t, "web", MAC2, "10.77.0.11", "10.77.0.12", false);
    t.lease_mac = "52:54:00:00:00:55";
    t.lease_address = "10.77.0.200";
    /* All ranges are full then: the next behind .12 of the whole subnet. */
    check_reserves(&t, "web", "52:54:00:00:00:03", "10.77.0.12", "10.77.0.13", false);
    /* Its own lease is no obstacle. */
    t.lease_mac = "52:54:00:00:00:04";
    check_reserves(&t, "web", "52:54:00:00:00:04", "10.77.0.200", "10.77.0.200", true);
    /* An address of another network, or none: what there is. */
    check_reserves(&t, "web", "52:54:00:00:00:05", "192.168.1.7", "10.77.0.2", false);
    check_reserves(&t, "web", "52:54:00:00:00:05", "", "10.77.0.2", false);
    /* The gateway's, the network's and the broadcast's are nobody's. */
    check_reserves(&t, "web", "52:54:00:00:00:06", "10.77.0.1", "10.77.0.3", false);
    check_reserves(&t, "web", "52:54:00:00:00:06", "10.77.0.255", "10.77.0.3", false);
}

static void a_subnet_without_free_addresses_is_full(void **state)
{
    (void)state;
    static const char small[] = "<network><name>s</name><ip address='10.1.0.1' prefix='30'>"
                                "<dhcp><host mac='52:54:00:00:00:01' ip='10.1.0.2'/></dhcp></ip>"
                                "</network>";
    struct texts t = texts_make();
    struct network n AUTO_NETWORK = parsed(small);
    struct err err = ERR_NONE;
    char address[VIRT_ADDRESS_MAX + 1];
    check_fails(
        network_would_reserve(&t.virt, &n, "10.1.0.0/30", MAC2, "10.1.0.2", address, NULL, &err),
        err, ERR_FULL);
    check_says(err, "10.1.0.0/30");
    check_ok(network_would_reserve(&t.virt, &n, "10.1.0.0/30", "52:54:00:00:00:01", "", address,
                                   NULL, &err),
             err);
    assert_string_equal(address, "10.1.0.2");
    check_fails(network_would_reserve(&t.virt, &n, "other", MAC2, "", address, NULL, &err), err,
                ERR_NOT_FOUND);
    check_fails(network_would_reserve(&t.virt, &n, "10.1.0.0/30", "mac", "", address, NULL, &err),
                err, ERR_INVALID);
}

static void another_who_is_faster_is_given_way_to(void **state)
{
    (void)state;
    struct texts t = texts_make();
    t.fail_adds = 2;
    check_reserves(&t, "web", MAC2, "10.77.0.77", "10.77.0.77", true);
    t.fail_adds = 100;
    struct err err = ERR_NONE;
    char address[VIRT_ADDRESS_MAX + 1];
    check_fails(
        network_reserve(&t.virt, "prod", "web", "52:54:00:00:00:03", "", address, NULL, &err), err,
        ERR_INVALID);
}

static void a_subnet_without_dhcp_chooses_and_reserves_nothing(void **state)
{
    (void)state;
    struct texts t = texts_make();
    check_reserves(&t, "10.78.3.0/29", MAC2, "10.78.3.4", "10.78.3.4", true);
    assert_string_equal(t.hosts[0], "");
}

static void a_reservation_is_given_back_and_a_missing_one_is_no_error(void **state)
{
    (void)state;
    struct texts t = texts_make();
    struct err err = ERR_NONE;
    check_reserves(&t, "web", MAC2, "10.77.0.77", "10.77.0.77", true);
    check_ok(network_unreserve(&t.virt, "prod", "52:54:00:00:00:02", &err), err);
    assert_string_equal(t.hosts[0], "");
    check_ok(network_unreserve(&t.virt, "prod", MAC2, &err), err);
    check_ok(network_unreserve(&t.virt, "gone", MAC2, &err), err);
}

static void a_cards_address_comes_from_who_knows_it_best(void **state)
{
    (void)state;
    struct texts t = texts_make();
    struct err err = ERR_NONE;
    char address[VIRT_ADDRESS_MAX + 1];
    enum address_from from;
    struct machine_nic nic = {.mac = MAC2, .network = "prod"};

    check_ok(nic_address(&t.virt, "d", &nic, address, &from, &err), err);
    assert_int_equal(from, ADDRESS_UNKNOWN);
    assert_string_equal(address, "");
    t.agent_mac = "52:54:00:00:00:02";
    t.agent_address = "10.77.0.99";
    check_ok(nic_address(&t.virt, "d", &nic, address, &from, &err), err);
    assert_int_equal(from, ADDRESS_AGENT);
    assert_string_equal(address, "10.77.0.99"); /* not 192.168.9.9, which is of no subnet here */
    t.lease_mac = MAC2;
    t.lease_address = "10.77.0.98";
    check_ok(nic_address(&t.virt, "d", &nic, address, &from, &err), err);
    assert_int_equal(from, ADDRESS_LEASED);
    assert_string_equal(address, "10.77.0.98");
    snprintf(nic.mac, sizeof nic.mac, "52:54:00:00:00:01");
    check_ok(nic_address(&t.virt, "d", &nic, address, &from, &err), err);
    assert_int_equal(from, ADDRESS_RESERVED);
    assert_string_equal(address, "10.77.0.11");
    snprintf(nic.network, sizeof nic.network, "gone");
    t.agent_address = NULL;
    check_ok(nic_address(&t.virt, "d", &nic, address, &from, &err), err);
    assert_int_equal(from, ADDRESS_UNKNOWN);
}

/* --- mapping --- */

static void a_mapping_is_read_both_ways_and_a_subnets_row_goes_before_its_networks(void **state)
{
    (void)state;
    const struct network_map rows[] = {
        {{"prod", ""}, {"prod-b", ""}},
        {{"prod", "db"}, {"data-b", "db2"}},
        {{"lab", "x"}, {"lab-b", "y"}},
    };
    struct network_place from = {"prod", "web"};
    assert_ptr_equal(network_map_find(rows, 3, &from, false), &rows[0].target);
    snprintf(from.subnet, sizeof from.subnet, "db");
    assert_ptr_equal(network_map_find(rows, 3, &from, false), &rows[1].target);
    from = (struct network_place){"data-b", "db2"};
    assert_ptr_equal(network_map_find(rows, 3, &from, true), &rows[1].source);
    assert_null(network_map_find(rows, 3, &from, false));
    from = (struct network_place){"lab", "z"};
    assert_null(network_map_find(rows, 3, &from, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_is_read_with_its_subnets_ranges_and_reservations),
        cmocka_unit_test(an_address_belongs_to_the_subnet_that_holds_it),
        cmocka_unit_test(hostile_networks_are_refused),
        cmocka_unit_test(a_target_network_has_the_subnets_and_nothing_of_the_host),
        cmocka_unit_test(a_network_that_the_host_itself_has_cannot_be_made_elsewhere),
        cmocka_unit_test(a_test_network_leads_nowhere_and_serves_the_same_addresses),
        cmocka_unit_test(an_address_is_kept_when_it_is_free_also_outside_the_ranges),
        cmocka_unit_test(a_taken_address_yields_the_next_free_one_of_the_ranges),
        cmocka_unit_test(a_subnet_without_free_addresses_is_full),
        cmocka_unit_test(another_who_is_faster_is_given_way_to),
        cmocka_unit_test(a_subnet_without_dhcp_chooses_and_reserves_nothing),
        cmocka_unit_test(a_reservation_is_given_back_and_a_missing_one_is_no_error),
        cmocka_unit_test(a_cards_address_comes_from_who_knows_it_best),
        cmocka_unit_test(a_mapping_is_read_both_ways_and_a_subnets_row_goes_before_its_networks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
