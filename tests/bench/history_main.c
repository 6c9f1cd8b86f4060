/* SPDX-License-Identifier: MIT
 * Opens the history of a VM that was cut every 5 s for so many days, over a store that is so far
 * away, and prints seconds and requests:  history_bench DAYS DELAY_MS packs|records
 * After a day one point a minute stayed. The store is the project's own HTTP server, in this
 * process; when records are read from packs it has only those behind them. */
#include "tests/support/check.h"
#include "tests/support/cloud_rig.h"
#include "tests/support/made_vm.h"

#include "backend/history/pack.h"

#include <stdio.h>

#define CUTS_A_DAY    17280u
#define CUTS_A_MINUTE 12u

struct bench {
    struct made_vm vm;
    struct cloud_rig rig;
    struct store *away;
};

static void must(bool good, const struct err *err)
{
    if (good)
        return;
    fprintf(stderr, "%s\n", err->text);
    exit(1);
}

static void append(struct bench *b, struct history *h, struct record *r)
{
    struct err err = ERR_NONE;
    r->generation = b->vm.maker.generation;
    r->disk_count = b->vm.maker.vault.disk_count;
    memcpy(r->disks, b->vm.maker.vault.disks, sizeof r->disks);
    must(history_append(h, history_head(h).next_record, r, &err) == NUMLOG_DONE, &err);
}

static void apply(struct bench *b, struct history *h, uint64_t epoch)
{
    struct record_epoch e = {.kind = EPOCH_CUT,
                             .epoch = epoch,
                             .entry_digest = sha256_of(span_of(&epoch, sizeof epoch)),
                             .point_ms = MADE_CLOCK_MS + epoch * 5000,
                             .clock_ms = MADE_CLOCK_MS + epoch * 5000,
                             .point_kind = POINT_CRASH,
                             .data_bytes = 200000,
                             .run_offset = 200000,
                             .run_bytes = 5000};
    struct record r = {.kind = RECORD_APPLY, .epoch_count = 1, .epochs = &e};
    e.run_digest = e.entry_digest;
    memcpy(e.run_key, "segments/", 9);
    hex_of(e.entry_digest.bytes, SHA256_BYTES, e.run_key + 9);
    append(b, h, &r);
}

/* The minute that ends with this epoch becomes its last point. */
static void thin(struct bench *b, struct history *h, uint64_t last)
{
    uint64_t first = last - CUTS_A_MINUTE + 1, leaving[CUTS_A_MINUTE - 1];
    struct record_run run = {.epoch_first = first, .epoch_last = last, .bytes = 40000};
    for (unsigned i = 0; i < CUTS_A_MINUTE - 1; i++)
        leaving[i] = first + i;
    struct record going = {
        .kind = RECORD_THIN, .newest_ms = 1, .thin = leaving, .thin_count = CUTS_A_MINUTE - 1};
    struct record merge = {.kind = RECORD_MERGE,
                           .merge_first = first,
                           .merge_last = last,
                           .runs = &run,
                           .run_count = 1};
    append(b, h, &going);
    append(b, h, &merge);
}

static bool copy(void *context, const char *key, uint64_t bytes)
{
    struct bench *b = context;
    struct buf body AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    must(store_load(b->vm.target, key, (size_t)bytes, &body, &err) &&
             store_put(b->away, key, buf_span(&body), &err),
         &err);
    return true;
}

/* Returns how many points there are. */
static size_t make(struct bench *b, unsigned days, bool packs)
{
    struct err err = ERR_NONE;
    struct history *h CLEANUP(history_close) = made_vm_history(&b->vm);
    char after[KEY_MAX];
    for (uint64_t epoch = 1; epoch <= (uint64_t)days * CUTS_A_DAY; epoch++) {
        apply(b, h, epoch);
        if (epoch > CUTS_A_DAY && epoch % CUTS_A_MINUTE == 0)
            thin(b, h, epoch - CUTS_A_DAY);
    }
    while (packs && history_pack_due(h))
        must(history_pack(h, &err), &err);
    uint64_t behind = history_head(h).next_record;
    behind = packs ? (behind - 1) / PACK_RECORDS * PACK_RECORDS : 0;
    copy(b, MADE_VM "/vault", 4096);
    if (behind > 1)
        copy(b, MADE_VM "/history/0000000000000000", 4096);
    must(store_list(b->vm.target, MADE_VM "/packs/", NULL, copy, b, &err), &err);
    key_history(after, MADE_VM, behind > 1 ? behind - 2 : 0);
    must(store_list(b->vm.target, MADE_VM "/history/", behind > 1 ? after : NULL, copy, b, &err),
         &err);
    return history_points(h);
}

int main(int argc, char **argv)
{
    struct bench b;
    struct err err = ERR_NONE;
    struct history *h CLEANUP(history_close) = NULL;
    unsigned days, delay_ms;
    if (argc != 4 || sscanf(argv[1], "%u", &days) != 1 || sscanf(argv[2], "%u", &delay_ms) != 1) {
        fprintf(stderr, "usage: %s DAYS DELAY_MS packs|records\n", argv[0]);
        return 2;
    }
    made_vm_init(&b.vm, 1, 64);
    cloud_rig_init(&b.rig, HTTP_S3, 0);
    b.away = cloud_rig_open(&b.rig);
    size_t points = make(&b, days, strcmp(argv[3], "packs") == 0);
    uint64_t before = http_store_requests(b.rig.server, "GET");
    http_store_delay(b.rig.server, delay_ms);
    uint64_t began_ns = world_real()->ops->boottime_ns(world_real());
    must(history_open(b.vm.world, b.away, MADE_VM, b.vm.maker.keys, &h, &err), &err);
    double seconds = (double)(world_real()->ops->boottime_ns(world_real()) - began_ns) / 1e9;
    if (history_points(h) != points) {
        fprintf(stderr, "%zu points of %zu were read\n", history_points(h), points);
        return 1;
    }
    printf("%u days, %s, %u ms away: %.1f s, %llu requests\n", days, argv[3], delay_ms, seconds,
           (unsigned long long)(http_store_requests(b.rig.server, "GET") - before));
    store_close(&b.away);
    cloud_rig_release(&b.rig);
    made_vm_release(&b.vm);
    return 0;
}
