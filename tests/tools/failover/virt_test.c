/* SPDX-License-Identifier: MIT
 * The calls and their errors over test:///default, libvirt's own fake hypervisor: domains and
 * networks that exist in this process alone. What needs a guest is in tests/servers/virt_main.c. */
#include "tools/failover/virt.h"

#include "tests/support/check.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "tools/failover/machine.h"

#ifdef FARSHORE_LIBVIRT
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/failover/virt_libvirt.h"
#endif

#ifndef FARSHORE_LIBVIRT
static void without_libvirt_opening_says_what_to_do(void **state)
{
    (void)state;
    struct virt *v = NULL;
    struct err err = ERR_NONE;
    check_fails(virt_open(world_real(), "test:///default", &v, &err), err, ERR_INVALID);
    check_says(err, "libvirt-dev");
    assert_null(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_libvirt_opening_says_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
/* libvirt and GLib are not built for ThreadSanitizer, which so does not see that their locks order
 * the opening of a connection before its events. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:libvirt.so\ncalled_from_lib:libglib-2.0.so\nrace:libvirt_open\n";
}

static const char domain[] = "<domain type='test'><name>%s</name>%s<memory unit='MiB'>8</memory>"
                             "<vcpu>2</vcpu><os><type>hvm</type></os><devices><disk type='file' "
                             "device='disk'><source file='/d.img'/><target dev='vda'/></disk>"
                             "</devices></domain>";

static struct virt *open_virt(void)
{
    struct virt *v;
    struct err err = ERR_NONE;
    check_ok(virt_open(world_real(), "test:///default", &v, &err), err);
    return v;
}

static void define(struct virt *v, const char *name, const char *uuid)
{
    struct err err = ERR_NONE;
    char xml[1024], element[64] = "";
    if (uuid != NULL)
        snprintf(element, sizeof element, "<uuid>%s</uuid>", uuid);
    snprintf(xml, sizeof xml, domain, name, element);
    check_ok(virt_define(v, xml, &err), err);
}

static enum virt_state state_of(struct virt *v, const char *name)
{
    struct virt_status s;
    struct err err = ERR_NONE;
    check_ok(virt_status(v, name, &s, &err), err);
    return s.state;
}

static void a_domain_is_defined_started_ended_and_undefined(void **state)
{
    (void)state;
    struct virt *v AUTO_VIRT = open_virt();
    struct err err = ERR_NONE;
    char *xml AUTO_FREE = NULL;
    struct world *w = world_real();
    uint64_t resumed_ms = 0, before_ms = w->ops->realtime_ns(w) / 1000000u;
    define(v, "life", NULL);
    assert_int_equal(state_of(v, "life"), VIRT_OFF);
    check_ok(virt_xml(v, "life", VIRT_DEFINED, &xml, &err), err);
    struct machine *m AUTO_MACHINE = NULL;
    check_ok(machine_parse(span_of_text(xml), &m, &err), err);
    assert_int_equal(machine_facts(m)->memory_kib, 8192);
    check_ok(virt_start(v, "life", false, &resumed_ms, &err), err);
    assert_int_equal(state_of(v, "life"), VIRT_RUNNING);
    assert_in_range(resumed_ms, before_ms, w->ops->realtime_ns(w) / 1000000u);
    check_fails(virt_start(v, "life", false, NULL, &err), err, ERR_EXISTS);
    check_fails(virt_undefine(v, "life", true, &err), err, ERR_INVALID);
    check_says(err, "runs");
    check_ok(virt_shutdown(v, "life", 5000, &err), err);
    assert_int_equal(state_of(v, "life"), VIRT_OFF);
    check_ok(virt_shutdown(v, "life", 5000, &err), err); /* it is off */
    check_ok(virt_undefine(v, "life", true, &err), err);
    struct virt_status s;
    check_fails(virt_status(v, "life", &s, &err), err, ERR_NOT_FOUND);
    check_says(err, "life");
    check_ok(virt_undefine(v, "life", true, &err), err); /* it is gone */
    check_ok(virt_destroy(v, "life", &err), err);
}

static void one_that_is_paused_hears_no_shutdown_and_resumes(void **state)
{
    (void)state;
    struct virt *v AUTO_VIRT = open_virt();
    struct err err = ERR_NONE;
    uint64_t resumed_ms = 1;
    define(v, "held", NULL);
    check_ok(virt_start(v, "held", false, NULL, &err), err);
    virConnectPtr own = virConnectOpen("test:///default"); /* it cannot start one paused */
    virDomainPtr d = virDomainLookupByName(own, "held");
    assert_int_equal(virDomainSuspend(d), 0);
    virDomainFree(d);
    virConnectClose(own);
    assert_int_equal(state_of(v, "held"), VIRT_PAUSED);
    check_fails(virt_shutdown(v, "held", 1000, &err), err, ERR_INVALID);
    check_says(err, "paused");
    check_ok(virt_resume(v, "held", &resumed_ms, &err), err);
    assert_true(resumed_ms > 0);
    assert_int_equal(state_of(v, "held"), VIRT_RUNNING);
    check_ok(virt_destroy(v, "held", &err), err);
    check_ok(virt_destroy(v, "held", &err), err); /* it is off */
    check_ok(virt_undefine(v, "held", false, &err), err);
}

static void a_name_or_uuid_of_another_is_taken(void **state)
{
    (void)state;
    static const char one[] = "11111111-2222-4333-8444-555555555551";
    struct virt *v AUTO_VIRT = open_virt();
    struct err err = ERR_NONE;
    char xml[1024];
    define(v, "one", one);
    define(v, "one", one); /* the same again: changed in place */
    snprintf(xml, sizeof xml, domain, "one", "<uuid>11111111-2222-4333-8444-555555555552</uuid>");
    check_fails(virt_define(v, xml, &err), err, ERR_EXISTS);
    snprintf(xml, sizeof xml, domain, "two", "<uuid>11111111-2222-4333-8444-555555555551</uuid>");
    check_fails(virt_define(v, xml, &err), err, ERR_EXISTS);
    check_fails(virt_define(v, "<domain>", &err), err, ERR_INVALID);
    check_fails(virt_define(v, "<domain type='test'><name>x</name></domain>", &err), err,
                ERR_INVALID);
    check_ok(virt_undefine(v, "one", false, &err), err);
}

struct names {
    char text[512];
    unsigned active, stop_after;
};

static bool see(void *context, const char *name, bool active)
{
    struct names *n = context;
    strcat(strcat(n->text, name), " ");
    n->active += active;
    return n->stop_after == 0 || --n->stop_after > 0;
}

static void lists_show_all_and_stop_when_told(void **state)
{
    (void)state;
    struct virt *v AUTO_VIRT = open_virt();
    struct err err = ERR_NONE;
    struct names all = {.active = 0}, first = {.stop_after = 1}, networks = {.active = 0};
    define(v, "off", NULL);
    check_ok(virt_list(v, see, &all, &err), err);
    assert_non_null(strstr(all.text, "off "));
    assert_non_null(strstr(all.text, "test ")); /* libvirt's own */
    assert_int_equal(all.active, 1);
    check_ok(virt_list(v, see, &first, &err), err);
    assert_ptr_equal(strchr(first.text, ' '), first.text + strlen(first.text) - 1);
    check_ok(virt_networks(v, see, &networks, &err), err);
    assert_string_equal(networks.text, "default ");
    check_ok(virt_undefine(v, "off", false, &err), err);
}

static void a_network_is_made_and_removed_and_its_name_is_taken_meanwhile(void **state)
{
    (void)state;
    static const char xml[] = "<network><name>n</name>"
                              "<uuid>11111111-2222-4333-8444-555555555559</uuid>"
                              "<bridge name='virbr9'/>"
                              "<ip address='10.9.0.1' prefix='24'/></network>";
    struct virt *v AUTO_VIRT = open_virt();
    struct err err = ERR_NONE;
    char *text AUTO_FREE = NULL;
    check_ok(virt_network_make(v, xml, true, &err), err);
    check_fails(virt_network_make(v, xml, true, &err), err, ERR_EXISTS); /* not even its own */
    check_ok(virt_network_xml(v, "n", &text, &err), err);
    assert_non_null(strstr(text, "10.9.0.1"));
    check_ok(virt_network_start(v, "n", &err), err);
    check_ok(virt_network_remove(v, "n", &err), err);
    check_ok(virt_network_remove(v, "n", &err), err);
    check_fails(virt_network_start(v, "n", &err), err, ERR_NOT_FOUND);
    check_fails(virt_network_make(v, "<network/>", true, &err), err, ERR_INVALID);
}

static void the_host_has_memory_and_cpus(void **state)
{
    (void)state;
    struct virt *v AUTO_VIRT = open_virt();
    struct virt_capacity c;
    struct err err = ERR_NONE;
    check_ok(virt_capacity(v, &c, &err), err);
    assert_true(c.memory_kib > 1024 && c.cpus > 0 && c.memory_free_kib <= c.memory_kib);
    assert_false(c.kvm);
}

static void what_cannot_be_reached_says_so_and_prints_nothing(void **state)
{
    (void)state;
    struct virt *v = NULL;
    struct err err = ERR_NONE;
    char uri[VIRT_URI_MAX + 2];
    check_fails(virt_open(world_real(), "qemu:///system?socket=/no/such/socket", &v, &err), err,
                ERR_TRANSIENT);
    check_says(err, "/no/such/socket");
    assert_null(v);
    memset(uri, 'x', sizeof uri - 1);
    uri[sizeof uri - 1] = '\0';
    check_fails(virt_open(world_real(), uri, &v, &err), err, ERR_INVALID);
    check_fails(virt_open(world_real(), "nonsense:///x", &v, &err), err, ERR_TRANSIENT);
}

/* A daemon that hangs: its socket takes the connection. */
static void one_that_never_answers_is_not_waited_for(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    virConnectPtr connection = NULL;
    struct err err = ERR_NONE;
    char uri[VIRT_URI_MAX];
    int silent AUTO_FD = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/farshore-virt-%d.sock", getpid());
    assert_return_code(bind(silent, (struct sockaddr *)&address, sizeof address), errno);
    assert_return_code(listen(silent, 4), errno);
    snprintf(uri, sizeof uri, "qemu:///system?socket=%s", address.sun_path);
    check_fails(libvirt_connect(uri, 200, &connection, &err), err, ERR_TRANSIENT);
    check_says(err, "has not answered");
    assert_null(connection);
    unlink(address.sun_path);
}

static void a_guest_without_an_agent_is_told_apart(void **state)
{
    (void)state;
    struct virt *v AUTO_VIRT = open_virt();
    struct err err = ERR_NONE;
    define(v, "mute", NULL);
    check_fails(virt_move_disk(v, "mute", "vda", "/x.img", NULL, NULL, &err), err, ERR_INVALID);
    check_says(err, "does not run");
    check_fails(virt_freeze(v, "gone", &err), err, ERR_NOT_FOUND);
    check_ok(virt_set_autostart(v, "mute", true, &err), err);
    struct virt_status s;
    check_ok(virt_status(v, "mute", &s, &err), err);
    assert_true(s.autostart && s.persistent && !s.io_error);
    check_ok(virt_undefine(v, "mute", false, &err), err);
}

#define THREADS 4

static void *live(void *number)
{
    struct virt *v AUTO_VIRT = open_virt();
    struct err err = ERR_NONE;
    char name[16];
    snprintf(name, sizeof name, "t%d", *(int *)number);
    for (int i = 0; i < 10; i++) {
        define(v, name, NULL);
        check_ok(virt_start(v, name, false, NULL, &err), err);
        check_ok(virt_destroy(v, name, &err), err);
        check_ok(virt_undefine(v, name, false, &err), err);
    }
    return NULL;
}

static void connections_come_and_go_in_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, live, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_domain_is_defined_started_ended_and_undefined),
        cmocka_unit_test(one_that_is_paused_hears_no_shutdown_and_resumes),
        cmocka_unit_test(a_name_or_uuid_of_another_is_taken),
        cmocka_unit_test(lists_show_all_and_stop_when_told),
        cmocka_unit_test(a_network_is_made_and_removed_and_its_name_is_taken_meanwhile),
        cmocka_unit_test(the_host_has_memory_and_cpus),
        cmocka_unit_test(what_cannot_be_reached_says_so_and_prints_nothing),
        cmocka_unit_test(one_that_never_answers_is_not_waited_for),
        cmocka_unit_test(a_guest_without_an_agent_is_told_apart),
        cmocka_unit_test(connections_come_and_go_in_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
