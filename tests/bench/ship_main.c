/* SPDX-License-Identifier: MIT
 * Ships a whole file to a store, as the initial replication of a disk does, with so many parts in
 * flight, and prints MiB per second:  ship_bench URL FILE PARTS-IN-FLIGHT
 * State goes into the folder FILE.state, which is made; the VM in the store has a name of its own
 * in every run. */
#include "backend/history/processor.h"
#include "backend/store/attach.h"
#include "common/file.h"
#include "fs/disk/shipper.h"

#include <stdio.h>
#include <sys/stat.h>

struct bench {
    struct world *world;
    struct store *store;
    struct keys *keys;
    struct vault vault;
    struct generation generation;
    struct source *source;
    struct shipper *shipper;
    char folder[4096];
};

static bool begin(struct bench *b, const char *path, struct err *err)
{
    struct world *w = b->world;
    uint8_t key[VM_KEY_BYTES];
    uint32_t random;
    struct stat st;

    if (stat(path, &st) != 0)
        return err_set(err, ERR_NOT_FOUND, "%s", path);
    if (w->ops->random(w, key, sizeof key) < 0 || w->ops->random(w, &random, sizeof random) < 0 ||
        w->ops->random(w, b->vault.vm, VM_ID_BYTES) < 0)
        return err_set(err, ERR_IO, "the kernel gave no random bytes");
    snprintf(b->vault.name, sizeof b->vault.name, "bench-%08x", random);
    snprintf(b->folder, sizeof b->folder, "%s.state", path);
    b->generation = (struct generation){.number = 1, .id = random + 1ull};
    b->vault.encrypted = true;
    b->vault.disk_count = 1;
    b->vault.disks[0] = (struct epoch_disk){.name = "os", .size_bytes = (uint64_t)st.st_size};
    b->vault.store_count = 1;
    snprintf(b->vault.stores[0].cache, STORE_URL_MAX, "%s", b->store->url);
    snprintf(b->vault.stores[0].target, STORE_URL_MAX, "%s", b->store->url);
    return keys_from_vm_key(key, &b->keys, err) &&
           history_begin(w, b->store, b->store, &b->vault, b->generation, b->keys, err) &&
           dir_make(w, b->folder, 0700, err);
}

static bool open_engine(struct bench *b, const char *path, unsigned uploads, void *memory,
                        size_t memory_bytes, struct err *err)
{
    struct source_disk_config disk = {
        .name = "os", .path = path, .size_bytes = b->vault.disks[0].size_bytes};
    struct source_config source = {.world = b->world,
                                   .state_folder = b->folder,
                                   .disks = &disk,
                                   .disk_count = 1,
                                   .undo_memory_bytes = 16u << 20,
                                   .undo_file_bytes = 64u << 20,
                                   .key_id = keys_id(b->keys),
                                   .memory = memory,
                                   .memory_bytes = memory_bytes,
                                   .memory_fresh = true};
    struct shipper_config shipper = {.world = b->world,
                                     .vm = b->vault.name,
                                     .generation = b->generation,
                                     .keys = b->keys,
                                     .encrypt = true,
                                     .caches = &b->store,
                                     .cache_count = 1,
                                     .state_folder = b->folder,
                                     .cut_interval_ms = CUT_INTERVAL_MIN_MS,
                                     .uploads_max = uploads,
                                     .pass_above_bytes = 64u << 20};
    memcpy(shipper.vm_id, b->vault.vm, VM_ID_BYTES);
    if (!source_open(&source, &b->source, err))
        return false;
    shipper.source = b->source;
    return shipper_open(&shipper, &b->shipper, err);
}

/* Until the first point is made. */
static bool ship(struct bench *b, double *seconds, struct err *err)
{
    struct world *w = b->world;
    struct shipper_status status;
    uint64_t begun = w->ops->boottime_ns(w);
    do {
        struct timespec wait = {.tv_nsec = 1000000};
        if (shipper_step(b->shipper) > 0)
            nanosleep(&wait, NULL);
        shipper_status(b->shipper, &status);
        if (status.state == REPLICATION_STALLED || status.state == REPLICATION_FENCED)
            return err_set(err, ERR_TRANSIENT, "%s", status.reason);
    } while (status.point_ms == 0);
    *seconds = (double)(w->ops->boottime_ns(w) - begun) / 1e9;
    return true;
}

static bool run(struct bench *b, char **argv, struct err *err)
{
    struct attach_config config = {
        .host = {.world = b->world, .credentials = getenv("FARSHORE_CREDENTIALS"), .env = getenv},
        .url = argv[1],
        .create = true};
    double seconds;
    if (!store_attach(&config, &b->store, err) || !begin(b, argv[2], err))
        return false;
    size_t bytes = source_memory_bytes(&b->vault.disks[0].size_bytes, 1);
    void *memory AUTO_FREE = calloc(1, bytes);
    bool good = memory != NULL &&
                open_engine(b, argv[2], (unsigned)strtoul(argv[3], NULL, 10), memory, bytes, err) &&
                ship(b, &seconds, err);
    if (good)
        printf("%.1f\n", (double)b->vault.disks[0].size_bytes / 1048576 / seconds);
    shipper_close(&b->shipper);
    source_close(&b->source);
    return good;
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct err err = ERR_NONE;
    if (argc != 4) {
        fprintf(stderr, "usage: %s URL FILE PARTS-IN-FLIGHT\n", argv[0]);
        return 2;
    }
    b.world = world_real();
    bool good = run(&b, argv, &err);
    keys_release(&b.keys);
    store_close(&b.store);
    if (!good)
        fprintf(stderr, "%s\n", err.text);
    return good ? 0 : 1;
}
