/* SPDX-License-Identifier: MIT
 * tools/failover over libvirt and QEMU themselves, with a guest that runs: servers/libvirt.sh "a"
 * starts them. Each job leaves the host as it found it; they come in this order because a guest's
 * start costs seconds. */
#include "tools/failover/networks.h"
#include "tools/failover/virt.h"

#include "tests/support/check.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "common/file.h"

#define DISK_BYTES (4u << 20)
#define MAC        "52:54:00:0f:0f:01"

static struct virt *virt;
static char folder[PATH_MAX - 64];

static const char *path_of(const char *name)
{
    static char paths[4][PATH_MAX];
    static unsigned next;
    char *out = paths[next++ % 4];
    snprintf(out, PATH_MAX, "%s/%s", folder, name);
    return out;
}

static void make_disk(const char *path)
{
    int fd AUTO_FD = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, DISK_BYTES), 0);
}

/* The machine that tests/support/guest/domain.sh prints for these arguments. */
static struct machine *guest_machine(const char *arguments)
{
    char command[PATH_MAX * 2];
    struct buf text AUTO_BUF = BUF_NONE;
    struct machine *m;
    struct err err = ERR_NONE;
    snprintf(command, sizeof command, "bash %s/support/guest/domain.sh %s", TEST_SOURCE_DIR,
             arguments);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF;)
        buf_put_u8(&text, (uint8_t)c);
    assert_int_equal(pclose(f), 0);
    check_ok(machine_parse(buf_span(&text), &m, &err), err);
    return m;
}

static void define(const struct machine *m)
{
    struct err err = ERR_NONE;
    char *xml AUTO_FREE = NULL;
    check_ok(machine_write(m, &xml, &err), err);
    check_ok(virt_define(virt, xml, &err), err);
}

static uint64_t now_ms(void)
{
    return world_real()->ops->realtime_ns(world_real()) / 1000000u;
}

/* What the guest said so far on its console. */
static const char *said(const char *log)
{
    static struct buf text;
    struct err err = ERR_NONE;
    buf_clear(&text);
    if (!file_load(world_real(), path_of(log), 1 << 20, &text, &err))
        buf_clear(&text);
    buf_put_u8(&text, 0);
    char *out = (char *)text.data;
    for (const char *in = out; (*out = *in) != '\0'; in++)
        out += *out != '\r'; /* a terminal's line ends */
    return (const char *)text.data;
}

/* Until it says `word`, at most a minute; a run of the guest may take that under load. */
static void wait_said(const char *log, const char *word)
{
    uint64_t end = now_ms() + 60000;
    while (strstr(said(log), word) == NULL) {
        if (now_ms() > end)
            fail_msg("the guest never said \"%s\":\n%s", word, said(log));
        usleep(50000);
    }
}

static unsigned long last_ack(const char *log)
{
    unsigned long n = 0;
    for (const char *p = said(log); (p = strstr(p, "GUEST ACK ")) != NULL; p++)
        n = strtoul(p + 10, NULL, 10);
    return n;
}

static enum virt_state state_of(const char *name)
{
    struct virt_status s;
    struct err err = ERR_NONE;
    check_ok(virt_status(virt, name, &s, &err), err);
    return s.state;
}

/* The records in a raw disk; the guest's own program looks. */
static unsigned long records_in(const char *path)
{
    char command[PATH_MAX * 2], line[64] = "";
    snprintf(command, sizeof command, "%s/counter check %s", getenv("FARSHORE_GUEST"), path);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f));
    assert_int_equal(pclose(f), 0);
    return strtoul(line, NULL, 10);
}

/* --- networks --- */

static const char prod[] =
    "<network><name>prod</name><metadata><farshore:network xmlns:farshore='urn:farshore:1'>"
    "<farshore:subnet cidr='10.77.0.0/24' name='web'/></farshore:network></metadata>"
    "<forward mode='route'/><bridge stp='on' delay='0'/><ip address='10.77.0.1' prefix='24'>"
    "<dhcp><range start='10.77.0.10' end='10.77.0.12'/></dhcp></ip>"
    "<ip address='10.78.0.1' prefix='24'/></network>";

static void a_target_network_is_made_from_its_source_and_addresses_are_kept_in_it(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    char *source AUTO_FREE = NULL, *xml AUTO_FREE = NULL;
    char address[VIRT_ADDRESS_MAX + 1];
    bool kept;

    check_ok(virt_network_make(virt, prod, true, &err), err);
    check_ok(virt_network_xml(virt, "prod", &source, &err), err);
    check_ok(virt_network_remove(virt, "prod", &err), err); /* it is the other host's */
    check_ok(network_like(world_real(), span_of_text(source), "prod-b", "rg", &xml, &err), err);
    check_ok(virt_network_make(virt, xml, true, &err), err);

    struct network n AUTO_NETWORK = {.host_count = 0};
    check_ok(network_load(virt, "prod-b", &n, &err), err);
    assert_string_equal(n.group, "rg");
    assert_string_equal(n.subnets[0].name, "web");
    assert_int_equal(n.subnet_count, 2);
    assert_true(n.bridge[0] != '\0');
    check_ok(network_reserve(virt, "prod-b", "web", MAC, "10.77.0.77", address, &kept, &err), err);
    assert_true(kept);
    check_ok(network_reserve(virt, "prod-b", "web", "52:54:00:0f:0f:02", "10.77.0.77", address,
                             &kept, &err),
             err);
    assert_false(kept);
    assert_string_equal(address, "10.77.0.10");
    check_ok(network_unreserve(virt, "prod-b", "52:54:00:0f:0f:02", &err), err);
    network_release(&n);
    check_ok(network_load(virt, "prod-b", &n, &err), err);
    assert_int_equal(n.host_count, 1);
    assert_string_equal(n.hosts[0].address, "10.77.0.77");
    check_ok(
        network_reserve(virt, "prod-b", "10.78.0.0/24", MAC, "10.78.0.9", address, &kept, &err),
        err); /* DHCP is in the first alone */
    assert_true(kept);
}

/* --- a guest in it --- */

static void a_guest_runs_with_its_address_and_the_time_of_its_start_is_known(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    char arguments[PATH_MAX * 2], address[VIRT_ADDRESS_MAX + 1];
    uint64_t before_ms = now_ms(), resumed_ms;
    enum address_from from;

    make_disk(path_of("old.img"));
    snprintf(arguments, sizeof arguments,
             "web %s --words 'log=raw dhcp=1 pause=20' --net elsewhere --agent %s",
             path_of("web.log"), path_of("old.img"));
    struct machine *m AUTO_MACHINE = guest_machine(arguments);
    check_ok(machine_can_move(m, &err), err);
    check_ok(machine_leave_host(m, NULL, &err), err);
    check_ok(machine_set_nic(m, 0, "prod-b", MAC, &err), err);
    check_ok(machine_set_group(m, "rg", &err), err);
    check_ok(machine_stop_on_error(m, "vda", &err), err);
    define(m);
    check_ok(virt_start(virt, "web", false, &resumed_ms, &err), err);
    assert_in_range(resumed_ms, before_ms, now_ms());
    assert_int_equal(state_of("web"), VIRT_RUNNING);
    wait_said("web.log", "GUEST ADDRESS eth0 10.77.0.77/24");
    wait_said("web.log", "GUEST ACK 3\n");

    char *xml AUTO_FREE = NULL;
    check_ok(virt_xml(virt, "web", VIRT_LIVE, &xml, &err), err);
    struct machine *live AUTO_MACHINE = NULL;
    check_ok(machine_parse(span_of_text(xml), &live, &err), err);
    assert_string_equal(machine_facts(live)->group, "rg");
    assert_non_null(strstr(xml, "error_policy='stop'"));
    check_ok(nic_address(virt, "web", &machine_facts(live)->nics[0], address, &from, &err), err);
    assert_string_equal(address, "10.77.0.77");
    assert_int_equal(from, ADDRESS_RESERVED);
    check_ok(network_unreserve(virt, "prod-b", MAC, &err), err);
    check_ok(nic_address(virt, "web", &machine_facts(live)->nics[0], address, &from, &err), err);
    assert_int_equal(from, ADDRESS_LEASED);
    struct machine_nic unknown = {.mac = MAC, .network = "gone"};
    check_ok(nic_address(virt, "web", &unknown, address, &from, &err), err);
    assert_int_equal(from, ADDRESS_AGENT);
    assert_string_equal(address, "10.77.0.77");
}

static void the_guest_freezes_and_thaws(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    check_ok(virt_freeze(virt, "web", &err), err);
    check_ok(virt_thaw(virt, "web", &err), err);
    check_ok(virt_thaw(virt, "web", &err), err);
}

static bool count_calls(void *context, uint64_t done, uint64_t total)
{
    unsigned *calls = context;
    ++*calls;
    return done <= total;
}

static bool give_up(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    return false;
}

/* On a file system that was mounted after the guest began, as a source mount is. */
static void a_disk_moves_under_a_running_guest_and_no_record_is_lost(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    unsigned calls = 0;
    char *xml AUTO_FREE = NULL;
    struct machine *m AUTO_MACHINE = NULL;

    assert_int_equal(mkdir(path_of("late"), 0755), 0);
    assert_int_equal(mount("late", path_of("late"), "tmpfs", 0, "mode=755"), 0);
    make_disk(path_of("late/new.img"));
    check_fails(virt_move_disk(virt, "web", "vda", path_of("late/none.img"), NULL, NULL, &err), err,
                ERR_IO);
    check_fails(virt_move_disk(virt, "web", "vdz", path_of("late/new.img"), NULL, NULL, &err), err,
                ERR_INVALID);
    check_fails(virt_move_disk(virt, "web", "vda", path_of("late/new.img"), give_up, NULL, &err),
                err, ERR_CANCELLED);
    check_ok(virt_move_disk(virt, "web", "vda", path_of("late/new.img"), count_calls, &calls, &err),
             err);
    assert_true(calls > 0);
    check_ok(virt_xml(virt, "web", VIRT_DEFINED, &xml, &err), err);
    check_ok(machine_parse(span_of_text(xml), &m, &err), err);
    assert_string_equal(machine_disk(m, "vda")->path, path_of("late/new.img"));
    unsigned long acked = last_ack("web.log");
    char word[64];
    snprintf(word, sizeof word, "GUEST ACK %lu\n", acked + 3);
    wait_said("web.log", word);
    assert_true(records_in(path_of("late/new.img")) > acked);
    assert_true(records_in(path_of("old.img")) <= acked + 1);
}

static void a_shutdown_ends_the_guest_cleanly(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    check_fails(virt_undefine(virt, "web", true, &err), err, ERR_INVALID);
    check_ok(virt_shutdown(virt, "web", 60000, &err), err);
    assert_int_equal(state_of("web"), VIRT_OFF);
    assert_non_null(strstr(said("web.log"), "GUEST OFF"));
    assert_int_equal(records_in(path_of("late/new.img")), last_ack("web.log"));
}

/* --- a drill beside it --- */

static void two_copies_run_in_networks_of_their_own_with_the_same_address(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    char *source AUTO_FREE = NULL;
    const struct network_host hosts[] = {{.mac = MAC, .address = "10.77.0.99"}};

    check_ok(virt_network_xml(virt, "prod-b", &source, &err), err);
    for (int i = 1; i <= 2; i++) {
        char *xml AUTO_FREE = NULL, uuid[UUID_CHARS + 1], arguments[PATH_MAX * 2];
        char name[16], disk[16], log[16];
        snprintf(name, sizeof name, "drill-%d", i);
        snprintf(disk, sizeof disk, "drill%d.img", i);
        snprintf(log, sizeof log, "drill%d.log", i);
        check_ok(
            network_isolated(world_real(), span_of_text(source), name, "rg", hosts, 1, &xml, &err),
            err);
        check_ok(virt_network_make(virt, xml, false, &err), err);
        make_disk(path_of(disk));
        snprintf(arguments, sizeof arguments, "web %s --words 'log=raw dhcp=1' --net prod %s",
                 path_of(log), path_of("old.img"));
        struct machine *m AUTO_MACHINE = guest_machine(arguments);
        check_ok(uuid_random(world_real(), uuid, &err), err);
        check_ok(machine_set_uuid(m, uuid, &err), err);
        check_ok(machine_set_name(m, name, &err), err);
        check_ok(machine_set_disk(m, "vda", MACHINE_FILE, path_of(disk), &err), err);
        check_ok(machine_set_nic(m, 0, name, MAC, &err), err);
        check_ok(machine_beside(m, &err), err);
        define(m);
        check_ok(virt_start(virt, name, i == 2, NULL, &err), err);
    }
    assert_int_equal(state_of("drill-2"), VIRT_PAUSED);
    check_fails(virt_shutdown(virt, "drill-2", 1000, &err), err, ERR_INVALID);
    check_ok(virt_resume(virt, "drill-2", NULL, &err), err);
    wait_said("drill1.log", "GUEST ADDRESS eth0 10.77.0.99/24");
    wait_said("drill2.log", "GUEST ADDRESS eth0 10.77.0.99/24");
}

static void a_guest_that_does_not_listen_is_said_to_run_still(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    check_fails(virt_freeze(virt, "drill-1", &err), err, ERR_INVALID);
    check_says(err, "qemu-guest-agent");
    /* In the first moments of its start nobody hears the button. */
    check_ok(virt_destroy(virt, "drill-1", &err), err);
    check_ok(virt_start(virt, "drill-1", false, NULL, &err), err);
    check_fails(virt_shutdown(virt, "drill-1", 200, &err), err, ERR_TRANSIENT);
    check_says(err, "still runs");
    assert_int_equal(state_of("drill-1"), VIRT_RUNNING);
}

static bool count_names(void *context, const char *name, bool active)
{
    size_t *count = context;
    (void)name, (void)active;
    ++*count;
    return true;
}

static void all_of_it_is_removed(void **state)
{
    (void)state;
    static const char *const domains[] = {"web", "drill-1", "drill-2"};
    static const char *const networks[] = {"prod-b", "drill-1", "drill-2", "drill-1"};
    struct err err = ERR_NONE;
    size_t left = 0;
    for (size_t i = 0; i < 3; i++) {
        check_ok(virt_destroy(virt, domains[i], &err), err);
        check_ok(virt_undefine(virt, domains[i], true, &err), err);
    }
    for (size_t i = 0; i < 4; i++)
        check_ok(virt_network_remove(virt, networks[i], &err), err);
    check_ok(virt_list(virt, count_names, &left, &err), err);
    check_ok(virt_networks(virt, count_names, &left, &err), err);
    assert_int_equal(left, 0);
    assert_int_equal(umount(path_of("late")), 0);
}

static void the_host_says_what_room_it_has(void **state)
{
    (void)state;
    struct virt_capacity c;
    struct err err = ERR_NONE;
    check_ok(virt_capacity(virt, &c, &err), err);
    assert_true(c.cpus > 0 && c.memory_kib > 100000);
    if (c.memory_free_kib == 0 || c.memory_free_kib > c.memory_kib)
        fail_msg("%llu KiB free of %llu", (unsigned long long)c.memory_free_kib,
                 (unsigned long long)c.memory_kib);
}

/* The last: the host dies. */
static void a_host_that_is_dead_is_out_of_reach(void **state)
{
    (void)state;
    struct virt_capacity c;
    struct err err = ERR_NONE;
    char command[64];
    snprintf(command, sizeof command, "kill -KILL %s", getenv("FARSHORE_VIRT_PID_A"));
    assert_int_equal(system(command), 0);
    uint64_t end = now_ms() + 10000;
    while (virt_capacity(virt, &c, &err) && now_ms() < end)
        usleep(20000);
    check_fails(virt_capacity(virt, &c, &err), err, ERR_TRANSIENT);
    struct virt *again = NULL;
    check_fails(virt_open(world_real(), getenv("FARSHORE_VIRT_A"), &again, &err), err,
                ERR_TRANSIENT);
}

static int open_host(void **state)
{
    (void)state;
    struct err err = ERR_NONE;
    signal(SIGPIPE, SIG_IGN);
    snprintf(folder, sizeof folder, "%s", getenv("FARSHORE_VIRT_FOLDER"));
    check_ok(virt_open(world_real(), getenv("FARSHORE_VIRT_A"), &virt, &err), err);
    return 0;
}

static int close_host(void **state)
{
    (void)state;
    virt_close(&virt);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_host_says_what_room_it_has),
        cmocka_unit_test(a_target_network_is_made_from_its_source_and_addresses_are_kept_in_it),
        cmocka_unit_test(a_guest_runs_with_its_address_and_the_time_of_its_start_is_known),
        cmocka_unit_test(the_guest_freezes_and_thaws),
        cmocka_unit_test(a_disk_moves_under_a_running_guest_and_no_record_is_lost),
        cmocka_unit_test(a_shutdown_ends_the_guest_cleanly),
        cmocka_unit_test(two_copies_run_in_networks_of_their_own_with_the_same_address),
        cmocka_unit_test(a_guest_that_does_not_listen_is_said_to_run_still),
        cmocka_unit_test(all_of_it_is_removed),
        cmocka_unit_test(a_host_that_is_dead_is_out_of_reach),
    };
    return cmocka_run_group_tests(tests, open_host, close_host);
}
