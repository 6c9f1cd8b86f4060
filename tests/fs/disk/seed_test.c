/* SPDX-License-Identifier: MIT */
#include "fs/disk/seed.h"

#include "common/file.h"
#include "fs/disk/digest_file.h"
#include "fs/disk/ship_state.h"
#include "tests/support/check.h"
#include "tests/support/fake_world.h"
#include "tests/support/made_vm.h"

#include <fcntl.h>

#define BLOCKS      96u
#define COPY_BLOCKS 90u /* the copy is shorter than the disk */
#define STATE       "/state"
#define SCRATCH     "/scratch"
#define COPY        "/copy.raw"

/* Data, a hole, data, and zeros that are written. */
static uint32_t value_of(uint64_t block)
{
    return block >= COPY_BLOCKS || (block >= 20 && block < 50) || block == 60
               ? 0
               : (uint32_t)block + 1000;
}

struct fixture {
    struct made_vm vm;
    struct memory_bucket *staging_bucket;
    struct store *cache, *target, *staging; /* with hooks */
    uint64_t fail_at, calls;
    enum memory_fault fault;
};

static void make_copy(struct world *w)
{
    struct err err = ERR_NONE;
    struct world_file *f AUTO_FILE = NULL;
    uint8_t data[BLOCK_BYTES];
    check_ok(file_open(w, COPY, O_RDWR | O_CREAT, 0600, &f, &err), err);
    assert_int_equal(w->ops->truncate(f, COPY_BLOCKS * BLOCK_BYTES), 0);
    for (uint64_t b = 0; b < COPY_BLOCKS; b++)
        if (value_of(b) != 0 || b == 60) {
            made_block_bytes(value_of(b), data);
            check_ok(file_write(f, span_of(data, sizeof data), b * BLOCK_BYTES, &err), err);
        }
}

static enum memory_fault fail_once(void *context, const struct memory_call *call)
{
    struct fixture *f = context;
    (void)call;
    return ++f->calls == f->fail_at ? f->fault : MEMORY_PASS;
}

static void begin(struct fixture *f)
{
    struct err err = ERR_NONE;
    *f = (struct fixture){.fail_at = 0};
    made_vm_init(&f->vm, 1, BLOCKS);
    f->staging_bucket = memory_bucket_make();
    f->cache = memory_store_open(f->vm.cache_bucket);
    f->target = memory_store_open(f->vm.target_bucket);
    f->staging = memory_store_open(f->staging_bucket);
    memory_store_hook(f->cache, fail_once, NULL, f);
    memory_store_hook(f->target, fail_once, NULL, f);
    memory_store_hook(f->staging, fail_once, NULL, f);
    make_copy(f->vm.world);
    check_ok(dir_make(f->vm.world, STATE, 0700, &err), err);
    check_ok(dir_make(f->vm.world, SCRATCH, 0700, &err), err);
}

static void end(struct fixture *f)
{
    store_close(&f->cache);
    store_close(&f->target);
    store_close(&f->staging);
    memory_bucket_release(&f->staging_bucket);
    made_vm_release(&f->vm);
}

static struct seed_config config_of(struct fixture *f)
{
    return (struct seed_config){.world = f->vm.world,
                                .vm = MADE_VM,
                                .keys = f->vm.maker.keys,
                                .encrypt = true,
                                .targets = &f->target,
                                .store_count = 1,
                                .cache = f->cache};
}

static bool write_seed(struct fixture *f, struct err *err)
{
    struct seed_config config = config_of(f);
    struct seed_copy copy = {.disk = 0};
    check_ok(file_open(f->vm.world, COPY, O_RDONLY, 0, &copy.file, err), *err);
    bool good = seed_write(&config, &copy, 1, f->staging, SCRATCH, NULL, NULL, err);
    file_close(&copy.file);
    return good;
}

static void adopt(struct fixture *f)
{
    struct err err = ERR_NONE;
    struct seed_config config = config_of(f);
    check_ok(seed_adopt(&config, STATE, &err), err);
}

/* The digest file says just what the copy holds. */
static void check_digests(struct fixture *f)
{
    struct err err = ERR_NONE;
    struct digest_file *file = NULL;
    struct block_digest is[BLOCKS], zero = {{0}};
    uint8_t data[BLOCK_BYTES];
    check_ok(digest_file_open(f->vm.world, STATE "/disk0.digests", keys_id(f->vm.maker.keys), 0,
                              &file, &err),
             err);
    check_ok(digest_file_read(file, 0, BLOCKS, is, &err), err);
    digest_file_close(&file);
    for (uint64_t b = 0; b < BLOCKS; b++) {
        made_block_bytes(value_of(b), data);
        struct block_digest wanted =
            value_of(b) == 0 ? zero : keys_block_digest(f->vm.maker.keys, data);
        assert_memory_equal(&is[b], &wanted, sizeof wanted);
    }
}

/* Where the source's log goes on: its head is in the cache, with that digest. */
static void check_log(struct fixture *f)
{
    struct err err = ERR_NONE;
    struct ship_state state;
    struct buf entry AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    check_ok(ship_state_load(f->vm.world, STATE, f->vm.maker.generation, &state, &err), err);
    assert_true(state.begun && state.pass_open && !state.initial_done);
    assert_true(state.epoch > 0);
    key_epoch(key, MADE_VM, state.generation, state.epoch);
    check_ok(store_load(f->vm.cache, key, EPOCH_BYTES_MAX, &entry, &err), err);
    struct sha256 digest = sha256_of(buf_span(&entry));
    assert_memory_equal(&digest, &state.digest, sizeof digest);
}

static bool is_alone(struct fixture *f)
{
    struct err err = ERR_NONE;
    struct seed_config config = config_of(f);
    struct generation generation;
    bool alone = false;
    check_ok(seed_alone(&config, &alone, &generation, &err), err);
    return alone;
}

static void a_source_learns_what_the_seed_holds_and_where_its_log_goes_on(void **state)
{
    struct fixture f;
    struct err err = ERR_NONE;
    (void)state;
    begin(&f);
    assert_false(is_alone(&f));
    check_ok(write_seed(&f, &err), err);
    assert_true(is_alone(&f));
    adopt(&f);
    check_digests(&f);
    check_log(&f);
    end(&f);
}

static void check_fault_at_any_call(enum memory_fault fault)
{
    bool failed = true;
    uint64_t tried = 0;
    for (; failed; tried++) {
        struct fixture f;
        struct err err = ERR_NONE;
        begin(&f);
        f.fail_at = tried + 1;
        f.fault = fault;
        failed = !write_seed(&f, &err) || f.calls >= f.fail_at;
        f.fail_at = 0;
        check_ok(write_seed(&f, &err), err);
        adopt(&f);
        check_digests(&f);
        check_log(&f);
        end(&f);
    }
    assert_true(tried > 20); /* calls there are */
}

static void a_reply_lost_at_any_call_is_made_good_by_the_next_try(void **state)
{
    (void)state;
    check_fault_at_any_call(MEMORY_LOSE_REPLY);
}

/* Nothing that was read wrong is put where it would stay. */
static void a_bit_flipped_at_any_call_is_made_good_by_the_next_try(void **state)
{
    (void)state;
    check_fault_at_any_call(MEMORY_DAMAGE);
}

/* It may run ahead of this vault: blocks would be left out that the replica lacks. Nor is what a
 * try was filling when it was killed. */
static void a_digest_file_of_before_is_not_believed(void **state)
{
    static const char *const paths[] = {STATE "/disk0.digests", STATE "/disk0.digests.filling"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct fixture f;
        struct err err = ERR_NONE;
        struct digest_file *file = NULL;
        struct block_digest old = {{1, 2, 3}};
        begin(&f);
        check_ok(digest_file_open(f.vm.world, paths[i], keys_id(f.vm.maker.keys), 0, &file, &err),
                 err);
        check_ok(digest_file_write(file, 30, 1, &old, &err), err);
        digest_file_close(&file);
        check_ok(write_seed(&f, &err), err);
        adopt(&f);
        check_digests(&f);
        end(&f);
    }
}

static void a_history_that_a_source_went_on_with_is_no_seed(void **state)
{
    struct fixture f;
    struct err err = ERR_NONE;
    (void)state;
    begin(&f);
    epoch_maker_fill(&f.vm.maker, 0, 3, 77);
    epoch_maker_ship(&f.vm.maker, EPOCH_PASS, POINT_CRASH, NULL);
    made_vm_apply(&f.vm);
    assert_false(is_alone(&f));
    check_fails(write_seed(&f, &err), err, ERR_EXISTS);
    end(&f);
}

static void a_seed_whose_log_did_not_come_to_the_cache_is_not_ready(void **state)
{
    struct fixture f;
    struct err err = ERR_NONE;
    struct generation generation;
    char key[KEY_MAX];
    (void)state;
    begin(&f);
    check_ok(write_seed(&f, &err), err);
    key_epoch(key, MADE_VM, f.vm.maker.generation, 1);
    memory_bucket_drop(f.vm.cache_bucket, key);
    struct seed_config config = config_of(&f);
    bool alone;
    check_fails(seed_alone(&config, &alone, &generation, &err), err, ERR_INVALID);
    check_says(err, "enable --seed");
    end(&f);
}

static void a_copy_of_zeros_alone_is_refused(void **state)
{
    struct fixture f;
    struct err err = ERR_NONE;
    struct world_file *file = NULL;
    (void)state;
    begin(&f);
    check_ok(file_open(f.vm.world, COPY, O_RDWR, 0, &file, &err), err);
    assert_int_equal(f.vm.world->ops->punch(file, 0, COPY_BLOCKS * BLOCK_BYTES), 0);
    file_close(&file);
    check_fails(write_seed(&f, &err), err, ERR_INVALID);
    check_says(err, "without --seed");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_learns_what_the_seed_holds_and_where_its_log_goes_on),
        cmocka_unit_test(a_reply_lost_at_any_call_is_made_good_by_the_next_try),
        cmocka_unit_test(a_bit_flipped_at_any_call_is_made_good_by_the_next_try),
        cmocka_unit_test(a_digest_file_of_before_is_not_believed),
        cmocka_unit_test(a_history_that_a_source_went_on_with_is_no_seed),
        cmocka_unit_test(a_seed_whose_log_did_not_come_to_the_cache_is_not_ready),
        cmocka_unit_test(a_copy_of_zeros_alone_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
