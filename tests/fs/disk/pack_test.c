/* SPDX-License-Identifier: MIT */
#include "fs/disk/pack.h"

#include "common/file.h"
#include "fs/disk/cut.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/memory_store.h"
#include "tests/support/specimen.h"

#include <stdio.h>

#define STORES 2u
#define EPOCH  12u
#define VM     "vm"

static const struct generation g = {.number = 1, .id = 55};

struct fixture {
    struct world *world;
    struct memory_bucket *buckets[STORES];
    struct store *caches[STORES];
    struct keys *keys;
    struct uploads *uploads;
    struct digest_file *digests[STORES];
    struct pack_disk disks[STORES]; /* disk i has store i */
    bool encrypt;
    struct pack *pack;
    struct buf stored;
    struct epoch_decoded decoded;
    struct run *run;
    struct frame_codec *codec;
};

static int set_up(void **state)
{
    struct err err = ERR_NONE;
    struct fixture *f = calloc(1, sizeof *f);
    f->world = fake_world_make(1);
    f->keys = specimen_keys(1);
    f->encrypt = true;
    check_ok(dir_make(f->world, "/state", 0700, &err), err);
    check_ok(uploads_make(f->world, 0, &f->uploads, &err), err);
    check_ok(frame_codec_make(f->keys, &f->codec, &err), err);
    for (uint16_t i = 0; i < STORES; i++) {
        char path[32];
        snprintf(path, sizeof path, "/state/%u.digests", i);
        f->buckets[i] = memory_bucket_make();
        f->caches[i] = memory_store_open(f->buckets[i]);
        check_ok(digest_file_open(f->world, path, 1, i, &f->digests[i], &err), err);
        f->disks[i] = (struct pack_disk){.number = i, .store = i, .digests = f->digests[i]};
    }
    *state = f;
    return 0;
}

static void forget(struct fixture *f)
{
    run_close(&f->run);
    epoch_decoded_release(&f->decoded);
    f->decoded = (struct epoch_decoded){.memory = BUF_NONE};
    buf_release(&f->stored);
    f->stored = BUF_NONE;
    pack_release(&f->pack);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    forget(f);
    for (unsigned i = 0; i < STORES; i++) {
        digest_file_close(&f->digests[i]);
        store_close(&f->caches[i]);
        memory_bucket_release(&f->buckets[i]);
    }
    frame_codec_release(&f->codec);
    uploads_release(&f->uploads);
    keys_release(&f->keys);
    fake_world_release(&f->world);
    free(f);
    return 0;
}

static void begin(struct fixture *f)
{
    struct err err = ERR_NONE;
    struct pack_config config = {.world = f->world,
                                 .keys = f->keys,
                                 .encrypt = f->encrypt,
                                 .vm = VM,
                                 .generation = g,
                                 .caches = f->caches,
                                 .cache_count = STORES,
                                 .uploads = f->uploads};
    memcpy(config.vm_id, specimen_vm, sizeof config.vm_id);
    check_ok(pack_begin(&config, EPOCH, &f->pack, &err), err);
}

/* The content of a block: zero for kind 0, else noise of that kind. */
static void content(uint8_t out[BLOCK_BYTES], uint64_t block, uint8_t kind)
{
    if (kind == 0)
        memset(out, 0, BLOCK_BYTES);
    else
        specimen_noise(out, BLOCK_BYTES, block * 256 + kind);
}

static void add_mask(struct fixture *f, size_t disk, uint64_t first, uint64_t count, uint8_t kind,
                     uint64_t unreadable)
{
    struct err err = ERR_NONE;
    uint8_t *data AUTO_FREE = malloc(CUT_TAKE_BLOCKS_MAX * BLOCK_BYTES);
    while (count > 0) {
        uint64_t n = count < CUT_TAKE_BLOCKS_MAX ? count : CUT_TAKE_BLOCKS_MAX;
        for (uint64_t i = 0; i < n; i++)
            content(data + i * BLOCK_BYTES, first + i, kind);
        check_ok(pack_add(f->pack, &f->disks[disk], (struct extent){first, n},
                          span_of(data, n * BLOCK_BYTES), unreadable, &err),
                 err);
        first += n;
        count -= n;
    }
}

static void add(struct fixture *f, size_t disk, uint64_t first, uint64_t count, uint8_t kind)
{
    add_mask(f, disk, first, count, kind, 0);
}

/* Finishes the pack and reads it back as whoever finds it in the store. */
static void finish(struct fixture *f)
{
    struct err err = ERR_NONE;
    struct epoch_entry entry = {.kind = EPOCH_CUT,
                                .generation = g,
                                .epoch = EPOCH,
                                .point_ms = 1000,
                                .clock_ms = 1000,
                                .point_kind = POINT_CRASH,
                                .disk_count = STORES};
    memcpy(entry.vm, specimen_vm, sizeof entry.vm);
    for (uint16_t i = 0; i < STORES; i++) {
        entry.disks[i] = (struct epoch_disk){.disk = i, .store = i, .size_bytes = 1u << 30};
        snprintf(entry.disks[i].name, sizeof entry.disks[i].name, "d%u", i);
    }
    check_ok(pack_finish(f->pack, &entry, &f->stored, &err), err);
    check_ok(epoch_decode(buf_span(&f->stored), f->keys, specimen_vm, g, EPOCH, &f->decoded, &err),
             err);
    if (f->decoded.entry.run.length == 0)
        return;
    check_ok(run_open(f->keys, specimen_vm, run_in_memory(&f->decoded.entry.run), &f->run, &err),
             err);
}

/* The stored bytes of the part that the entry's segment names. */
static void load_part(struct fixture *f, const struct run_entry *e, struct buf *out)
{
    struct err err = ERR_NONE;
    const struct epoch_entry *entry = &f->decoded.entry;
    char name[32], key[KEY_MAX];
    uint32_t part = 0;
    for (; part < entry->part_count; part++) {
        snprintf(name, sizeof name, "part-%u", part);
        if (strcmp(name, run_segment_name(f->run, e->segment)) == 0)
            break;
    }
    assert_true(part < entry->part_count);
    if (entry->has_inline) {
        buf_put(out, entry->inline_part.data, entry->inline_part.length);
    } else {
        key_part(key, VM, g, EPOCH, entry->attempt, part);
        check_ok(store_load(f->caches[entry->parts[part].store], key, STORE_OBJECT_MAX, out, &err),
                 err);
    }
    struct sha256 digest = sha256_of(buf_span(out));
    assert_int_equal(out->length, entry->parts[part].bytes);
    assert_memory_equal(&digest, &entry->parts[part].digest, sizeof digest);
}

static void check_frame(struct fixture *f, const struct run_entry *e, uint8_t kind)
{
    struct err err = ERR_NONE;
    struct buf part AUTO_BUF = BUF_NONE;
    uint8_t plain[FRAME_PLAIN_MAX], wanted[BLOCK_BYTES];
    load_part(f, e, &part);
    struct span sealed = span_part(buf_span(&part), e->offset, e->stored_bytes);
    struct block_digest digest = keys_frame_digest(f->keys, sealed);
    assert_memory_equal(&digest, &e->sealed_digest, sizeof digest);
    check_ok(frame_decode(f->codec, &e->frame, sealed,
                          mspan_of(plain, (size_t)e->frame.blocks * BLOCK_BYTES), &err),
             err);
    for (uint64_t i = 0; i < e->count; i++) {
        content(wanted, e->first + i, kind);
        assert_memory_equal(plain + i * BLOCK_BYTES, wanted, BLOCK_BYTES);
        digest = keys_block_digest(f->keys, wanted);
        assert_memory_equal(&digest, &e->digests[i], sizeof digest);
    }
}

/* The run says this of these blocks, and frames hold their content. */
static void has(struct fixture *f, uint16_t disk, uint64_t first, uint64_t count,
                enum run_kind run_kind, uint8_t kind)
{
    struct err err = ERR_NONE;
    for (uint64_t b = first; b < first + count;) {
        struct run_entry e;
        bool found;
        check_ok(run_find(f->run, disk, b, &e, &found, &err), err);
        assert_true(found);
        assert_int_equal(e.first, b);
        assert_int_equal(e.kind, run_kind);
        if (e.kind == RUN_DATA)
            check_frame(f, &e, kind);
        b += e.count;
        assert_true(b <= first + count);
    }
}

static void lacks(struct fixture *f, uint16_t disk, uint64_t block)
{
    struct err err = ERR_NONE;
    struct run_entry e;
    bool found;
    check_ok(run_find(f->run, disk, block, &e, &found, &err), err);
    assert_false(found && e.first <= block);
}

static void replica_holds(struct fixture *f, size_t disk, uint64_t block, uint8_t kind)
{
    struct err err = ERR_NONE;
    uint8_t data[BLOCK_BYTES];
    content(data, block, kind);
    struct block_digest d = keys_block_digest(f->keys, data);
    check_ok(digest_file_write(f->digests[disk], block, 1, &d, &err), err);
}

static void a_small_epoch_rides_in_its_entry(void **state)
{
    struct fixture *f = *state;
    begin(f);
    add(f, 0, 5, 3, 1);
    add(f, 0, 900, 2, 2);
    finish(f);
    assert_true(f->decoded.entry.has_inline);
    assert_int_equal(memory_bucket_objects(f->buckets[0]), 0);
    has(f, 0, 5, 3, RUN_DATA, 1);
    has(f, 0, 900, 2, RUN_DATA, 2);
    lacks(f, 0, 4);
    lacks(f, 0, 8);
}

static void a_large_epoch_goes_up_in_parts(void **state)
{
    struct fixture *f = *state;
    uint64_t blocks = (2 * EPOCH_PART_BYTES + (1u << 20)) / BLOCK_BYTES;
    begin(f);
    add(f, 0, 3, blocks, 1);
    finish(f);
    assert_false(f->decoded.entry.has_inline);
    assert_int_equal(f->decoded.entry.part_count, 3);
    assert_int_equal(memory_bucket_objects(f->buckets[0]), 3);
    has(f, 0, 3, blocks, RUN_DATA, 1);
}

static void each_disk_puts_its_parts_into_its_own_store(void **state)
{
    struct fixture *f = *state;
    begin(f);
    add(f, 0, 5, 3, 1);
    add(f, 1, 5, 3, 2);
    finish(f);
    assert_false(f->decoded.entry.has_inline);
    assert_int_equal(memory_bucket_objects(f->buckets[0]), 1);
    assert_int_equal(memory_bucket_objects(f->buckets[1]), 1);
    has(f, 0, 5, 3, RUN_DATA, 1);
    has(f, 1, 5, 3, RUN_DATA, 2);
}

static void a_small_epoch_of_another_store_does_not_ride(void **state)
{
    struct fixture *f = *state;
    begin(f);
    add(f, 1, 5, 3, 2);
    finish(f);
    assert_false(f->decoded.entry.has_inline);
    assert_int_equal(memory_bucket_objects(f->buckets[1]), 1);
    has(f, 1, 5, 3, RUN_DATA, 2);
}

static void blocks_that_the_replica_has_are_left_out(void **state)
{
    struct fixture *f = *state;
    replica_holds(f, 0, 6, 1);
    replica_holds(f, 0, 7, 2); /* something else */
    begin(f);
    add(f, 0, 5, 3, 1);
    finish(f);
    lacks(f, 0, 6);
    has(f, 0, 5, 1, RUN_DATA, 1);
    has(f, 0, 7, 1, RUN_DATA, 1);
}

static void zeros_become_holes_where_the_replica_has_data(void **state)
{
    struct fixture *f = *state;
    replica_holds(f, 0, 6, 1);
    begin(f);
    add(f, 0, 5, 3, 0);
    finish(f);
    lacks(f, 0, 5);
    has(f, 0, 6, 1, RUN_HOLE, 0);
    lacks(f, 0, 7);
}

static void zeros_where_the_replica_is_unknown_become_holes(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    check_ok(digest_file_write(f->digests[0], 6, 1, &digest_unknown, &err), err);
    begin(f);
    add(f, 0, 5, 3, 0);
    finish(f);
    has(f, 0, 6, 1, RUN_HOLE, 0);
}

static void an_epoch_in_which_nothing_differs_is_empty(void **state)
{
    struct fixture *f = *state;
    replica_holds(f, 0, 6, 1);
    begin(f);
    add(f, 0, 6, 1, 1);
    add(f, 0, 7, 10, 0);
    assert_true(pack_empty(f->pack));
    finish(f);
    assert_null(f->run);
    assert_int_equal(pack_changes(f->pack).length, 0);
}

static void an_unreadable_block_is_said_to_be_so(void **state)
{
    struct fixture *f = *state;
    begin(f);
    add_mask(f, 0, 5, 3, 1, 2);
    finish(f);
    has(f, 0, 5, 1, RUN_DATA, 1);
    has(f, 0, 6, 1, RUN_UNREADABLE, 0);
    has(f, 0, 7, 1, RUN_DATA, 1);
}

static void a_frame_stays_within_an_aligned_64_kib(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct run_entry e;
    bool found = true;
    begin(f);
    add(f, 0, 7, 50, 1);
    finish(f);
    for (struct run_cursor c = {.run = f->run}; found;) {
        check_ok(run_next(&c, &e, &found, &err), err);
        if (found)
            assert_int_equal(e.first / FRAME_BLOCKS_MAX,
                             (e.first + e.count - 1) / FRAME_BLOCKS_MAX);
    }
    assert_int_equal(run_entries(f->run), 4); /* from 7, 16, 32 and 48 */
}

static void without_encryption_frames_are_readable_and_say_so(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct run_entry e;
    bool found;
    f->encrypt = false;
    begin(f);
    add(f, 0, 5, 1, 1);
    finish(f);
    check_ok(run_find(f->run, 0, 5, &e, &found, &err), err);
    assert_int_equal(e.frame.flags & FRAME_ENCRYPTED, 0);
    has(f, 0, 5, 1, RUN_DATA, 1);
}

/* A host copied with its memory draws the same random bytes. */
static struct seal_salt salt_after(struct fixture *f, uint8_t kind)
{
    struct err err = ERR_NONE;
    struct run_entry e;
    bool found;
    struct world *world = f->world;
    f->world = fake_world_make(99);
    begin(f);
    add(f, 0, 5, 2, kind);
    finish(f);
    check_ok(run_find(f->run, 0, 5, &e, &found, &err), err);
    assert_true(found);
    forget(f);
    fake_world_release(&f->world);
    f->world = world;
    return e.frame.seal.salt;
}

static void the_same_random_bytes_never_seal_two_contents_under_one_salt(void **state)
{
    struct fixture *f = *state;
    struct seal_salt first = salt_after(f, 1);
    struct seal_salt same = salt_after(f, 1);
    struct seal_salt other = salt_after(f, 2);
    assert_memory_equal(&first, &same, sizeof first); /* the random bytes are the same indeed */
    assert_memory_not_equal(&first, &other, sizeof first);
}

static enum memory_fault deny(void *context, const struct memory_call *call)
{
    (void)context;
    return call->op == MEMORY_PUT ? MEMORY_DENY : MEMORY_PASS;
}

static void a_part_that_cannot_go_up_fails_the_epoch(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct epoch_entry entry = {.kind = EPOCH_CUT, .generation = g, .epoch = EPOCH};
    memory_store_hook(f->caches[1], deny, NULL, NULL);
    begin(f);
    add(f, 1, 5, 3, 1);
    check_fails(pack_finish(f->pack, &entry, &f->stored, &err), err, ERR_DENIED);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_small_epoch_rides_in_its_entry),
        T(a_large_epoch_goes_up_in_parts),
        T(each_disk_puts_its_parts_into_its_own_store),
        T(a_small_epoch_of_another_store_does_not_ride),
        T(blocks_that_the_replica_has_are_left_out),
        T(zeros_become_holes_where_the_replica_has_data),
        T(zeros_where_the_replica_is_unknown_become_holes),
        T(an_epoch_in_which_nothing_differs_is_empty),
        T(an_unreadable_block_is_said_to_be_so),
        T(a_frame_stays_within_an_aligned_64_kib),
        T(without_encryption_frames_are_readable_and_say_so),
        T(the_same_random_bytes_never_seal_two_contents_under_one_salt),
        T(a_part_that_cannot_go_up_fails_the_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
