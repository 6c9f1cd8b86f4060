/* SPDX-License-Identifier: MIT */
#include "tools/failover/machine.h"

#include "tests/support/check.h"
#include "tests/support/fake_world.h"

#include <stdio.h>

/* As libvirt prints a running one, with all that can be in it. */
static const char full[] =
    "<domain type='qemu' id='7'>\n"
    "  <name>web</name>\n"
    "  <uuid>11111111-2222-4333-8444-555555555555</uuid>\n"
    "  <genid>aaaaaaaa-2222-4333-8444-555555555555</genid>\n"
    "  <title>The web server</title>\n"
    "  <metadata><other:thing xmlns:other='urn:other'>kept</other:thing></metadata>\n"
    "  <memory unit='MiB'>2048</memory><currentMemory unit='MiB'>1024</currentMemory>\n"
    "  <memoryBacking><hugepages/></memoryBacking>\n"
    "  <vcpu placement='static' cpuset='0-3' current='1'>4</vcpu>\n"
    "  <cputune><vcpupin vcpu='0' cpuset='1'/><shares>512</shares></cputune>\n"
    "  <numatune><memory mode='strict' nodeset='0'/></numatune>\n"
    "  <resource><partition>/machine</partition></resource>\n"
    "  <sysinfo type='smbios'><system><entry "
    "name='uuid'>11111111-2222-4333-8444-555555555555</entry></system></sysinfo>\n"
    "  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\n"
    "    <loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.fd</loader>\n"
    "    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>/var/lib/libvirt/nvram/web.fd</nvram>\n"
    "  </os>\n"
    "  <devices>\n"
    "    <disk type='file' device='disk'>\n"
    "      <driver name='qemu' type='qcow2' cache='none' io='native'>\n"
    "        <metadata_cache><max_size unit='bytes'>1000</max_size></metadata_cache></driver>\n"
    "      <source file='/images/web.qcow2' index='3'><seclabel model='dac' "
    "relabel='no'/></source>\n"
    "      <backingStore type='file'><format type='raw'/><source file='/images/base'/>\n"
    "        <backingStore/></backingStore>\n"
    "      <target dev='vda' bus='virtio'/><serial>ROOT</serial><alias name='virtio-disk0'/>\n"
    "    </disk>\n"
    "    <disk type='block' device='disk'><source dev='/dev/vg/data'/>\n"
    "      <target dev='sdb' bus='scsi'/><readonly/><shareable/></disk>\n"
    "    <disk type='network' device='disk'><driver name='qemu' type='raw'/>\n"
    "      <auth username='u'><secret type='ceph' usage='x'/></auth>\n"
    "      <source protocol='rbd' name='pool/image'><host name='ceph'/></source>\n"
    "      <target dev='vdc' bus='virtio'/></disk>\n"
    "    <disk type='volume' device='disk'><source pool='default' volume='v.img'/>\n"
    "      <target dev='vdd' bus='virtio'/></disk>\n"
    "    <disk type='file' device='cdrom'><source file='/iso/install.iso'/>\n"
    "      <target dev='sda' bus='sata'/><readonly/></disk>\n"
    "    <interface type='network'><mac address='52:54:00:AA:bb:01'/>\n"
    "      <source network='prod' portgroup='web' portid='x' bridge='virbr3'/>\n"
    "      <target dev='vnet5'/><model type='virtio'/><filterref "
    "filter='own-filter'/></interface>\n"
    "    <interface type='bridge'><mac address='52:54:00:aa:bb:02'/><source bridge='br0'/>\n"
    "      <vlan><tag id='42'/></vlan><model type='e1000'/></interface>\n"
    "    <serial type='file'><source path='/var/log/web/serial.log' append='on'/>\n"
    "      <log file='/other/serial.log' append='off'/><target port='0'/></serial>\n"
    "    <console type='file'><source path='/var/log/web/serial.log'/></console>\n"
    "    <serial type='pty' tty='/dev/pts/3'><source path='/dev/pts/3'/></serial>\n"
    "    <channel type='unix'><source mode='bind' "
    "path='/var/lib/libvirt/qemu/channel/target/domain-7-web/org.qemu.guest_agent.0'/>\n"
    "      <target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>\n"
    "    <graphics type='vnc' port='5901' autoport='no' listen='10.1.2.3'>\n"
    "      <listen type='address' address='10.1.2.3'/></graphics>\n"
    "    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>\n"
    "    <vsock model='virtio'><cid auto='no' address='4'/></vsock>\n"
    "  </devices>\n"
    "  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64055</label>\n"
    "    <imagelabel>+64055:+64055</imagelabel></seclabel>\n"
    "</domain>\n";

static struct machine *machine_of(const char *text)
{
    struct err err = ERR_NONE;
    struct machine *m;
    check_ok(machine_parse(span_of_text(text), &m, &err), err);
    return m;
}

static char *text_of(const struct machine *m)
{
    struct err err = ERR_NONE;
    char *text;
    check_ok(machine_write(m, &text, &err), err);
    return text;
}

static void check_has(const struct machine *m, const char *word, bool wanted)
{
    char *text AUTO_FREE = text_of(m);
    if ((strstr(text, word) != NULL) != wanted)
        fail_msg("%s \"%s\" in:\n%s", wanted ? "no" : "there is", word, text);
}

static void the_facts_are_what_the_xml_says(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    const struct machine_facts *f = machine_facts(m);
    assert_string_equal(f->name, "web");
    assert_string_equal(f->uuid, "11111111-2222-4333-8444-555555555555");
    assert_int_equal(f->memory_kib, 2048 * 1024);
    assert_int_equal(f->vcpus, 4);
    assert_string_equal(f->loader, "/usr/share/OVMF/OVMF_CODE_4M.fd");
    assert_string_equal(f->nvram, "/var/lib/libvirt/nvram/web.fd");
    assert_string_equal(f->nvram_template, "/usr/share/OVMF/OVMF_VARS_4M.fd");
    assert_string_equal(f->group, "");
    assert_true(f->tpm && f->agent);
    assert_int_equal(f->nic_count, 2);
    assert_string_equal(f->nics[0].mac, "52:54:00:aa:bb:01");
    assert_string_equal(f->nics[0].network, "prod");
    assert_string_equal(f->nics[0].portgroup, "web");
    assert_int_equal(f->nics[1].link, MACHINE_ON_BRIDGE);
    assert_string_equal(f->nics[1].bridge, "br0");
    assert_string_equal(f->nics[1].model, "e1000");
}

static void disks_of_every_kind_are_told_apart_and_removable_drives_left_out(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    const struct machine_facts *f = machine_facts(m);
    assert_int_equal(f->disk_count, 4);
    const struct machine_disk *d = machine_disk(m, "vda");
    assert_non_null(d);
    assert_int_equal(d->source, MACHINE_FILE);
    assert_string_equal(d->path, "/images/web.qcow2");
    assert_string_equal(d->format, "qcow2");
    assert_string_equal(d->serial, "ROOT");
    assert_false(d->readonly || d->shareable);
    d = machine_disk(m, "sdb");
    assert_int_equal(d->source, MACHINE_BLOCK);
    assert_string_equal(d->path, "/dev/vg/data");
    assert_string_equal(d->format, "raw");
    assert_true(d->readonly && d->shareable);
    assert_string_equal(machine_disk(m, "vdc")->path, "rbd:pool/image");
    assert_int_equal(machine_disk(m, "vdd")->source, MACHINE_VOLUME);
    assert_string_equal(machine_disk(m, "vdd")->path, "default/v.img");
    assert_null(machine_disk(m, "sda"));
}

static void what_is_written_reads_back_with_the_same_text(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    char *once AUTO_FREE = text_of(m);
    struct machine *again AUTO_MACHINE = machine_of(once);
    char *twice AUTO_FREE = text_of(again);
    assert_string_equal(once, twice);
    assert_memory_equal(machine_facts(m), machine_facts(again), sizeof(struct machine_facts));
    check_has(m, "kept</other:thing>", true);
}

static void a_disk_becomes_a_raw_file_and_nothing_of_its_old_source_stays(void **state)
{
    (void)state;
    static const char *const targets[] = {"vda", "sdb", "vdc", "vdd"};
    struct machine *m AUTO_MACHINE = machine_of(full);
    struct err err = ERR_NONE;
    char path[64];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "/mnt/a & b/%s.img", targets[i]);
        check_ok(machine_set_disk(m, targets[i], MACHINE_FILE, path, &err), err);
        check_ok(machine_stop_on_error(m, targets[i], &err), err);
        const struct machine_disk *d = machine_disk(m, targets[i]);
        assert_int_equal(d->source, MACHINE_FILE);
        assert_string_equal(d->path, path);
        assert_string_equal(d->format, "raw");
    }
    static const char *const gone[] = {"qcow2", "backingStore", "metadata_cache", "rbd",
                                       "<auth", "/dev/vg",      "pool=",          "index="};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        check_has(m, gone[i], false);
    check_has(m, "cache=\"none\" io=\"native\" error_policy=\"stop\" rerror_policy=\"stop\"", true);
    check_has(m, "<serial>ROOT</serial>", true);
    check_ok(machine_set_disk(m, "vda", MACHINE_BLOCK, "/dev/vg/x", &err), err);
    check_has(m, "<source dev=\"/dev/vg/x\"/>", true);
    check_ok(machine_remove_disk(m, "vdd", &err), err);
    assert_null(machine_disk(m, "vdd"));
    check_fails(machine_set_disk(m, "vdz", MACHINE_FILE, "/x", &err), err, ERR_NOT_FOUND);
    check_says(err, "vdz");
    check_fails(machine_set_disk(m, "sda", MACHINE_FILE, "/x", &err), err, ERR_NOT_FOUND);
    check_fails(machine_set_disk(m, "vda", MACHINE_FILE, "relative", &err), err, ERR_INVALID);
}

static void a_disk_that_is_more_than_its_bytes_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *disk, *word;
    } rows[] = {
        {"<disk type='file'><source file='/x'><encryption format='luks'/></source>", "encrypted"},
        {"<disk type='file'><encryption format='luks'/><source file='/x'/>", "encrypted"},
        {"<disk type='block' device='lun'><source dev='/dev/x'/>", "LUN"},
        {"<disk type='file'><source file='/x'/><transient/>", "transient"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        struct err err = ERR_NONE;
        snprintf(text, sizeof text,
                 "<domain><name>d</name><memory>1</memory><devices>%s<target "
                 "dev='vda'/></disk></devices></domain>",
                 rows[i].disk);
        struct machine *m AUTO_MACHINE = machine_of(text);
        check_fails(machine_set_disk(m, "vda", MACHINE_FILE, "/y", &err), err, ERR_INVALID);
        check_says(err, rows[i].word);
        assert_string_equal(machine_disk(m, "vda")->path, rows[i].word[0] == 'L' ? "/dev/x" : "/x");
    }
}

static void identity_is_set_everywhere_it_stands(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    struct world *w = fake_world_make(3);
    struct err err = ERR_NONE;
    char uuid[UUID_CHARS + 1], other[UUID_CHARS + 1];
    check_ok(uuid_random(w, uuid, &err), err);
    check_ok(uuid_random(w, other, &err), err);
    assert_string_not_equal(uuid, other);
    check_ok(machine_set_name(m, "web-test-1", &err), err);
    check_ok(machine_set_uuid(m, uuid, &err), err);
    check_ok(machine_set_title(m, "a <test>", &err), err);
    check_ok(machine_set_group(m, "prod-rg", &err), err);
    assert_string_equal(machine_facts(m)->name, "web-test-1");
    assert_string_equal(machine_facts(m)->uuid, uuid);
    assert_string_equal(machine_facts(m)->group, "prod-rg");
    check_has(m, "11111111-", false); /* the SMBIOS copy went along */
    check_has(m, "a &lt;test&gt;", true);
    check_has(m, "kept</other:thing>", true);
    check_ok(machine_set_group(m, NULL, &err), err);
    assert_string_equal(machine_facts(m)->group, "");
    check_ok(machine_set_title(m, NULL, &err), err);
    check_has(m, "<title>", false);
    static const char *const names[] = {"", "a/b", "..", "a\nb", "\xff"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_fails(machine_set_name(m, names[i], &err), err, ERR_INVALID);
    check_fails(machine_set_uuid(m, "11111111-2222-4333-8444-55555555555g", &err), err,
                ERR_INVALID);
    fake_world_release(&w);
}

static void a_card_goes_to_another_network_and_keeps_its_mac_or_gets_one(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    struct world *w = fake_world_make(4);
    struct err err = ERR_NONE;
    char mac[MAC_CHARS + 1], same[MAC_CHARS + 1];
    check_ok(mac_random(w, mac, &err), err);
    assert_true(mac_parse(mac, same));
    assert_string_equal(mac, same);
    assert_int_equal(strncmp(mac, "52:54:00:", 9), 0);
    check_ok(machine_set_nic(m, 0, "target", NULL, &err), err);
    check_ok(machine_set_nic(m, 1, "target2", mac, &err), err);
    const struct machine_facts *f = machine_facts(m);
    assert_string_equal(f->nics[0].network, "target");
    assert_string_equal(f->nics[0].portgroup, "");
    assert_string_equal(f->nics[0].mac, "52:54:00:aa:bb:01");
    assert_int_equal(f->nics[1].link, MACHINE_ON_NETWORK);
    assert_string_equal(f->nics[1].network, "target2");
    assert_string_equal(f->nics[1].mac, mac);
    assert_string_equal(f->nics[1].model, "e1000");
    check_has(m, "<vlan>", false);
    check_has(m, "br0", false);
    check_fails(machine_set_nic(m, 2, "x", NULL, &err), err, ERR_NOT_FOUND);
    check_fails(machine_set_nic(m, 0, "x", "52:54:00:aa:bb", &err), err, ERR_INVALID);
    fake_world_release(&w);
}

static void firmware_variables_move_in_both_ways_of_writing_them(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    struct machine *plain AUTO_MACHINE =
        machine_of("<domain><name>d</name><memory>1</memory><os/></domain>");
    struct machine *newer AUTO_MACHINE =
        machine_of("<domain><name>d</name><memory>1</memory><os firmware='efi'><loader>/c</loader>"
                   "<nvram type='file'><source file='/old.fd'/></nvram></os></domain>");
    struct err err = ERR_NONE;
    assert_string_equal(machine_facts(newer)->nvram, "/old.fd");
    check_ok(machine_set_nvram(newer, "/new.fd", &err), err);
    assert_string_equal(machine_facts(newer)->nvram, "/new.fd");
    check_has(newer, "/old.fd", false);
    check_ok(machine_set_nvram(m, "/n/web.fd", &err), err);
    assert_string_equal(machine_facts(m)->nvram, "/n/web.fd");
    assert_string_equal(machine_facts(m)->nvram_template, "/usr/share/OVMF/OVMF_VARS_4M.fd");
    check_fails(machine_set_nvram(plain, "/n/web.fd", &err), err, ERR_INVALID);
}

static void leaving_a_host_takes_out_what_holds_there_alone_and_says_so(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    struct buf notes AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(machine_leave_host(m, &notes, &err), err);
    static const char *const gone[] = {
        "id=\"7\"", "seclabel", "imagelabel", "<alias",   "backingStore", "index=",
        "portid",   "vcpupin",  "cpuset",     "numatune", "hugepages",    "partition",
        "10.1.2.3", "vnet5",    "own-filter", "/dev/pts", "domain-7-web", "install.iso",
    };
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        check_has(m, gone[i], false);
    static const char *const stays[] = {"<shares>512</shares>", "org.qemu.guest_agent.0",
                                        "device=\"cdrom\"",     "/var/log/web/serial.log",
                                        "/images/web.qcow2",    "address=\"127.0.0.1\""};
    for (size_t i = 0; i < sizeof stays / sizeof *stays; i++)
        check_has(m, stays[i], true);
    buf_put_u8(&notes, 0);
    static const char *const said[] = {"CPUs",        "NUMA",       "huge pages", "10.1.2.3",
                                       "install.iso", "own-filter", "TPM"};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        assert_non_null(strstr((const char *)notes.data, said[i]));
    char *once AUTO_FREE = text_of(m);
    check_ok(machine_leave_host(m, NULL, &err), err);
    char *twice AUTO_FREE = text_of(m);
    assert_string_equal(once, twice);
}

static void a_copy_beside_its_original_shares_no_port_or_id_with_it(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    struct err err = ERR_NONE;
    check_ok(machine_beside(m, &err), err);
    static const char *const gone[] = {"5901", "aaaaaaaa-", "vnet5", "address=\"4\""};
    for (size_t i = 0; i < sizeof gone / sizeof *gone; i++)
        check_has(m, gone[i], false);
    check_has(m, "autoport=\"yes\"", true);
}

static void logs_move_to_a_folder_and_two_of_one_name_stay_apart(void **state)
{
    (void)state;
    struct machine *m AUTO_MACHINE = machine_of(full);
    struct err err = ERR_NONE;
    check_ok(machine_move_logs(m, "/t", &err), err);
    check_has(m, "<source path=\"/t/serial.log\" append=\"on\"/>", true);
    check_has(m, "<log file=\"/t/1-serial.log\"", true);
    check_has(m, "<source path=\"/t/serial.log\"/>", true); /* the console is the serial port */
    check_has(m, "/var/log/web", false);
    check_has(m, "/dev/pts/3", true);
}

static void what_is_tied_to_its_host_is_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *device, *word;
    } rows[] = {
        {"<hostdev mode='subsystem' type='pci'><source><address bus='0x03' slot='0x00' "
         "function='0x1'/></source></hostdev>",
         "pci subsystem 0x03:0x00.0x1"},
        {"<interface type='hostdev'><mac address='52:54:00:aa:bb:02'/></interface>", "network"},
        {"<filesystem type='mount'><source dir='/srv'/><target dir='x'/></filesystem>", "folder"},
        {"<memory model='nvdimm'><source/></memory>", "persistent memory"},
        {"<tpm><backend type='passthrough'/></tpm>", "TPM"},
    };
    struct machine *fine AUTO_MACHINE = machine_of(full);
    struct err err = ERR_NONE;
    check_ok(machine_can_move(fine, &err), err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[512];
        snprintf(text, sizeof text,
                 "<domain><name>tied</name><memory>1</memory><devices>%s</devices></domain>",
                 rows[i].device);
        struct machine *m AUTO_MACHINE = machine_of(text);
        check_fails(machine_can_move(m, &err), err, ERR_INVALID);
        check_says(err, rows[i].word);
        check_says(err, "tied cannot run on another host");
    }
}

static void memory_is_read_in_every_unit(void **state)
{
    (void)state;
    static const struct {
        const char *memory;
        uint64_t kib;
    } rows[] = {{"<memory>512</memory>", 512},
                {"<memory unit='b'>1048576</memory>", 1024},
                {"<memory unit='KiB'> 7 </memory>", 7},
                {"<memory unit='MB'>1024</memory>", 1000000},
                {"<memory unit='G'>2</memory>", 2 << 20}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[256];
        snprintf(text, sizeof text, "<domain><name>d</name>%s</domain>", rows[i].memory);
        struct machine *m AUTO_MACHINE = machine_of(text);
        assert_int_equal(machine_facts(m)->memory_kib, rows[i].kib);
    }
}

static void hostile_text_is_refused_and_nothing_outside_is_read(void **state)
{
    (void)state;
    static const char *const rows[] = {
        "",
        "<domain>",
        "<network><name>d</name></network>",
        "<domain><memory>1</memory></domain>",
        "<domain><name>d</name></domain>",
        "<domain><name>d</name><memory>-1</memory></domain>",
        "<domain><name>d</name><memory unit='TiB'>99999999999999</memory></domain>",
        "<domain><name>d</name><memory unit='ells'>1</memory></domain>",
        "<!DOCTYPE d [<!ENTITY e SYSTEM 'file:///etc/passwd'>]><domain><name>&e;</name>"
        "<memory>1</memory></domain>",
        "<!DOCTYPE d [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
        "<domain><name>&b;</name><memory>1</memory></domain>",
        "<domain><name>d</name><memory>1</memory><devices><disk><target dev='vda'/></disk><disk>"
        "<target dev='vda'/></disk></devices></domain>",
        "<domain><name>d</name><memory>1</memory><devices><disk/></devices></domain>",
        "<domain><name>d</name><memory>1</memory><devices><interface><mac address='no'/>"
        "</interface></devices></domain>",
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct machine *m = NULL;
        struct err err = ERR_NONE;
        if (machine_parse(span_of_text(rows[i]), &m, &err))
            fail_msg("taken: %s", rows[i]);
        assert_null(m);
        assert_int_equal(err.kind, ERR_CORRUPT);
    }
}

static void depth_and_length_are_bounded(void **state)
{
    (void)state;
    struct buf text AUTO_BUF = BUF_NONE;
    struct machine *m = NULL;
    struct err err = ERR_NONE;
    static const char begin[] = "<domain><name>d</name><memory>1</memory>", end[] = "</domain>";
    buf_put(&text, begin, sizeof begin - 1);
    for (int i = 0; i < 60; i++)
        buf_put(&text, "<a>", 3);
    for (int i = 0; i < 60; i++)
        buf_put(&text, "</a>", 4);
    buf_put(&text, end, sizeof end - 1);
    check_fails(machine_parse(buf_span(&text), &m, &err), err, ERR_CORRUPT);
    check_says(err, "deep");
    while (text.length <= MACHINE_XML_BYTES_MAX)
        buf_put(&text, "<!-- long -->", 13);
    check_fails(machine_parse(buf_span(&text), &m, &err), err, ERR_CORRUPT);
    check_says(err, "long");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_facts_are_what_the_xml_says),
        cmocka_unit_test(disks_of_every_kind_are_told_apart_and_removable_drives_left_out),
        cmocka_unit_test(what_is_written_reads_back_with_the_same_text),
        cmocka_unit_test(a_disk_becomes_a_raw_file_and_nothing_of_its_old_source_stays),
        cmocka_unit_test(a_disk_that_is_more_than_its_bytes_is_refused_by_name),
        cmocka_unit_test(identity_is_set_everywhere_it_stands),
        cmocka_unit_test(a_card_goes_to_another_network_and_keeps_its_mac_or_gets_one),
        cmocka_unit_test(firmware_variables_move_in_both_ways_of_writing_them),
        cmocka_unit_test(leaving_a_host_takes_out_what_holds_there_alone_and_says_so),
        cmocka_unit_test(a_copy_beside_its_original_shares_no_port_or_id_with_it),
        cmocka_unit_test(logs_move_to_a_folder_and_two_of_one_name_stay_apart),
        cmocka_unit_test(what_is_tied_to_its_host_is_refused_by_name),
        cmocka_unit_test(memory_is_read_in_every_unit),
        cmocka_unit_test(hostile_text_is_refused_and_nothing_outside_is_read),
        cmocka_unit_test(depth_and_length_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
