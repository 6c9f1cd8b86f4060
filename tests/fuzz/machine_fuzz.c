/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is a domain's XML, else a network's. What is taken is changed,
 * written, and read again. */
#include "tests/fuzz/fuzz.h"
#include "tools/failover/networks.h"

static struct machine *reread(const struct machine *m, char **text)
{
    struct machine *again = NULL;
    struct err err = ERR_NONE;
    FUZZ_CHECK(machine_write(m, text, &err));
    /* Escaping makes it longer: then, and then alone, it is refused. */
    if (!machine_parse(span_of_text(*text), &again, &err))
        FUZZ_CHECK(err.kind == ERR_CORRUPT && strlen(*text) > MACHINE_XML_BYTES_MAX / 8);
    return again;
}

static void change(struct machine *m)
{
    const struct machine_facts *f = machine_facts(m);
    struct buf notes AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;

    for (size_t i = 0; i < f->disk_count; i++) {
        char target[MACHINE_WORD_MAX + 1];
        memcpy(target, f->disks[i].target, sizeof target);
        if (machine_set_disk(m, target, MACHINE_FILE, "/x/y.img", &err))
            FUZZ_CHECK(strcmp(machine_disk(m, target)->path, "/x/y.img") == 0);
        FUZZ_CHECK(machine_stop_on_error(m, target, &err));
    }
    for (size_t i = 0; i < f->nic_count; i++) {
        FUZZ_CHECK(machine_set_nic(m, i, "net", i % 2 ? NULL : "52:54:00:00:00:01", &err));
        FUZZ_CHECK(strcmp(f->nics[i].network, "net") == 0);
    }
    FUZZ_CHECK(machine_set_name(m, "other", &err) && machine_set_group(m, "rg", &err));
    FUZZ_CHECK(machine_set_uuid(m, "11111111-2222-4333-8444-555555555555", &err));
    FUZZ_CHECK(machine_set_title(m, "title", &err));
    /* Each may refuse: without such firmware, tied to its host, with too many logs. */
    bool may[] = {machine_set_nvram(m, "/n.fd", NULL), machine_can_move(m, NULL),
                  machine_move_logs(m, "/logs", NULL)};
    (void)may;
    FUZZ_CHECK(machine_leave_host(m, &notes, &err) && machine_beside(m, &err));
    FUZZ_CHECK(strcmp(f->name, "other") == 0 && strcmp(f->group, "rg") == 0);
}

static void read_machine(struct span text)
{
    struct machine *m AUTO_MACHINE = NULL, *again AUTO_MACHINE = NULL, *last AUTO_MACHINE = NULL;
    char *once AUTO_FREE = NULL, *twice AUTO_FREE = NULL;
    struct err err = ERR_NONE;

    if (!machine_parse(text, &m, &err)) {
        FUZZ_CHECK(m == NULL && err.kind == ERR_CORRUPT);
        return;
    }
    again = reread(m, &once);
    FUZZ_CHECK(again == NULL ||
               memcmp(machine_facts(m), machine_facts(again), sizeof(struct machine_facts)) == 0);
    change(m);
    last = reread(m, &twice);
    FUZZ_CHECK(last == NULL || strcmp(machine_facts(last)->name, "other") == 0);
}

static void read_network(struct span text)
{
    struct network n AUTO_NETWORK = {.host_count = 0}, made AUTO_NETWORK = {.host_count = 0};
    char *like AUTO_FREE = NULL, *alone AUTO_FREE = NULL;
    struct err err = ERR_NONE;

    if (!network_parse(text, &n, &err)) {
        FUZZ_CHECK(n.hosts == NULL && err.kind == ERR_CORRUPT);
        return;
    }
    for (size_t i = 0; i < n.subnet_count; i++)
        FUZZ_CHECK(network_subnet_of(&n, n.subnets[i].gateway) != NULL);
    if (network_like(world_real(), text, "like", "rg", &like, &err) &&
        network_parse(span_of_text(like), &made, &err))
        FUZZ_CHECK(strcmp(made.name, "like") == 0 && made.host_count == 0 &&
                   made.subnet_count == n.subnet_count);
    network_release(&made);
    FUZZ_CHECK(network_isolated(world_real(), text, "alone", NULL, NULL, 0, &alone, &err));
    FUZZ_CHECK(network_parse(span_of_text(alone), &made, &err) && made.forward[0] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] == 0)
        read_machine(span_of(data + 1, size - 1));
    else
        read_network(span_of(data + 1, size - 1));
    return 0;
}
