/* SPDX-License-Identifier: MIT
 * The module itself is included: a test stops it between two stores by doing the first alone. */
#include "fs/disk/dirty.c" /* NOLINT */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/check.h"

#define MIB UINT64_C(1048576)

/* Two disks, the second with a last region of 37 blocks, the last of them partial. */
static const uint64_t DISKS[] = {40 * MIB, 5 * MIB + 36 * 4096 + 100};
#define DISK_COUNT 2u
#define LEAVES     70u

struct fixture {
    void *memory;
    size_t bytes;
    struct dirty *d;
};

static void attach(struct fixture *f, bool fresh)
{
    struct err err = ERR_NONE;

    dirty_detach(&f->d);
    check_ok(dirty_attach(f->memory, f->bytes, DISKS, DISK_COUNT, LEAVES, fresh, &f->d, &err), err);
    if (fresh)
        dirty_seeded(f->d);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->bytes = dirty_memory_bytes(DISKS, DISK_COUNT, LEAVES);
    f->memory = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(f->memory, MAP_FAILED);
    attach(f, true);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;

    dirty_detach(&f->d);
    munmap(f->memory, f->bytes);
    free(f);
    return 0;
}

/* What a dead worker leaves behind: the memory alone. */
static void die_and_adopt(struct fixture *f)
{
    attach(f, false);
}

static size_t leaves_claimed(const struct dirty *d)
{
    size_t count = 0;

    for (size_t w = 0; w < words_for(d->leaf_count); w++)
        count += (size_t)__builtin_popcountll(atomic_load(&d->pool[w]));
    assert_int_equal(count, atomic_load(&d->leaves_used));
    return count;
}

static void assert_run(const struct dirty *d, size_t disk, uint64_t from, uint64_t first,
                       uint64_t count)
{
    struct extent run;

    assert_true(dirty_next(d, dirty_active(d), disk, from, &run));
    assert_int_equal(run.first, first);
    assert_int_equal(run.count, count);
}

static void a_set_block_is_dirty_and_its_neighbours_are_not(void **state)
{
    struct dirty *d = ((struct fixture *)*state)->d;
    struct extent run;

    assert_true(dirty_empty(d, 0));
    dirty_set(d, 0, 0, (struct extent){300, 2});
    assert_false(dirty_test(d, 0, 0, 299));
    assert_true(dirty_test(d, 0, 0, 300));
    assert_true(dirty_test(d, 0, 0, 301));
    assert_false(dirty_test(d, 0, 0, 302));
    assert_false(dirty_test(d, 1, 0, 300)); /* the other map */
    assert_false(dirty_test(d, 0, 1, 300)); /* the other disk */
    assert_false(dirty_empty(d, 0));
    assert_true(dirty_empty(d, 1));
    assert_int_equal(dirty_blocks(d, 0), 2);
    assert_true(dirty_region(d, 0, 1));
    assert_false(dirty_region(d, 0, 0));
    assert_run(d, 0, 0, 300, 2);
    assert_run(d, 0, 301, 301, 1);
    assert_false(dirty_next(d, 0, 0, 302, &run));
}

static void a_run_crosses_regions_and_ends_with_the_disk(void **state)
{
    struct dirty *d = ((struct fixture *)*state)->d;

    dirty_set(d, 0, 1, (struct extent){1000, 5 * 256 + 37 - 1000});
    assert_run(d, 1, 0, 1000, 5 * 256 + 37 - 1000);
    assert_int_equal(dirty_blocks(d, 0), 5 * 256 + 37 - 1000);
}

static void whole_regions_take_no_leaf(void **state)
{
    struct dirty *d = ((struct fixture *)*state)->d;

    dirty_set(d, 0, 0, (struct extent){256, 512});
    dirty_set(d, 0, 1, (struct extent){5 * 256, 37}); /* the short last region */
    dirty_set_regions(d, 0, 0, 20, 20);
    assert_int_equal(leaves_claimed(d), 0);
    assert_int_equal(dirty_blocks(d, 0), 512 + 37 + 20 * 256);
    assert_run(d, 0, 0, 256, 512);
    assert_run(d, 0, 768, 20 * 256, 20 * 256);
}

static void a_region_with_a_leaf_can_become_whole(void **state)
{
    struct dirty *d = ((struct fixture *)*state)->d;

    dirty_set(d, 0, 1, (struct extent){5 * 256 + 3, 1});
    dirty_set_regions(d, 0, 1, 5, 1);
    assert_int_equal(dirty_blocks(d, 0), 37);
}

static void a_region_becomes_whole_when_the_pool_is_empty(void **state)
{
    struct fixture *f = *state;
    size_t leaf;

    while (leaf_take(f->d, &leaf))
        ;
    assert_int_equal(leaves_claimed(f->d), LEAVES);
    assert_true(dirty_set(f->d, 0, 0, (struct extent){300, 1})); /* more than was asked for */
    assert_int_equal(dirty_blocks(f->d, 0), 256);
    assert_true(dirty_test(f->d, 0, 0, 300));
    assert_false(dirty_set(f->d, 0, 0, (struct extent){301, 1}));
    assert_false(dirty_set(f->d, 0, 0, (struct extent){512, 256}));
}

static void a_long_run_comes_in_pieces_without_a_gap(void **state)
{
    const uint64_t bytes = 1024 * MIB;
    size_t size = dirty_memory_bytes(&bytes, 1, 8);
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct err err = ERR_NONE;
    struct dirty *d;
    struct extent run;
    uint64_t from = 0, pieces = 0;

    (void)state;
    check_ok(dirty_attach(memory, size, &bytes, 1, 8, true, &d, &err), err);
    dirty_set_regions(d, 0, 0, 0, 1024);
    for (; dirty_next(d, 0, 0, from, &run); from = extent_end(run), pieces++) {
        assert_int_equal(run.first, from);
        assert_true(run.count <= DIRTY_RUN_REGIONS * REGION_BLOCKS);
    }
    assert_int_equal(from, 1024 * 256);
    assert_int_equal(pieces, 1024 / DIRTY_RUN_REGIONS);
    dirty_detach(&d);
    munmap(memory, size);
}

static void a_commit_forgets_the_cut_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    struct dirty *d = f->d;

    dirty_set(d, 0, 0, (struct extent){5, 1});
    dirty_set(d, 0, 0, (struct extent){512, 256});
    dirty_freeze(d);
    assert_true(dirty_frozen(d));
    assert_int_equal(dirty_active(d), 1);
    dirty_set(d, 0, 0, (struct extent){6, 1}); /* a write of the old epoch that was still on */
    dirty_set(d, 1, 0, (struct extent){7, 1});
    assert_true(dirty_region(d, 0, 2));
    dirty_commit(d);
    assert_false(dirty_frozen(d));
    assert_int_equal(dirty_active(d), 1);
    assert_true(dirty_empty(d, 0));
    assert_int_equal(dirty_blocks(d, 0), 0);
    assert_int_equal(dirty_blocks(d, 1), 1);
    assert_false(dirty_region(d, 0, 2));
    assert_true(dirty_test(d, 1, 0, 7));
    assert_int_equal(leaves_claimed(d), 1);
}

static void an_abandoned_cut_is_dirty_again(void **state)
{
    struct fixture *f = *state;
    struct dirty *d = f->d;

    dirty_set(d, 0, 0, (struct extent){5, 1});
    dirty_set(d, 0, 1, (struct extent){256, 256});
    dirty_freeze(d);
    dirty_set(d, 1, 0, (struct extent){7, 1});
    dirty_abandon(d);
    assert_false(dirty_frozen(d));
    assert_int_equal(dirty_active(d), 1);
    assert_true(dirty_empty(d, 0));
    assert_int_equal(dirty_blocks(d, 1), 2 + 256);
    assert_true(dirty_test(d, 1, 0, 5));
    assert_int_equal(leaves_claimed(d), 1);
    dirty_freeze(d);
    assert_int_equal(dirty_active(d), 0);
}

static void a_block_counts_each_time_it_becomes_dirty_and_not_when_it_is_given_back(void **state)
{
    struct fixture *f = *state;

    dirty_set(f->d, 0, 0, (struct extent){5, 10});
    dirty_set(f->d, 0, 0, (struct extent){10, 10});
    assert_int_equal(dirty_made(f->d), 15);
    dirty_freeze(f->d);
    dirty_set(f->d, 1, 0, (struct extent){5, 10});
    assert_int_equal(dirty_made(f->d), 25);
    dirty_abandon(f->d);
    dirty_set(f->d, 1, 0, (struct extent){5, 15});
    assert_int_equal(dirty_made(f->d), 25);
    dirty_set_regions(f->d, 1, 1, 0, 6); /* all of the second disk */
    dirty_set(f->d, 1, 1, (struct extent){0, 256});
    assert_int_equal(dirty_made(f->d), 25 + 5 * 256 + 37);
}

static void merging_with_an_empty_pool_makes_one_region_whole_at_most(void **state)
{
    struct fixture *f = *state;
    struct dirty *d = f->d;
    size_t leaf;

    for (uint64_t r = 0; r < 10; r++)
        dirty_set(d, 0, 0, (struct extent){r * 256 + 9, 1});
    dirty_freeze(d);
    while (leaf_take(d, &leaf))
        ;
    dirty_abandon(d);
    assert_int_equal(dirty_blocks(d, 1), 256 + 9);
}

static void an_adopter_merges_a_frozen_cut(void **state)
{
    struct fixture *f = *state;

    dirty_set(f->d, 0, 0, (struct extent){5, 1});
    dirty_freeze(f->d);
    dirty_set(f->d, 1, 0, (struct extent){7, 1});
    die_and_adopt(f);
    assert_false(dirty_frozen(f->d));
    assert_int_equal(dirty_active(f->d), 1);
    assert_int_equal(dirty_blocks(f->d, 1), 2);
    assert_true(dirty_test(f->d, 1, 0, 5));
    assert_true(dirty_empty(f->d, 0));
    assert_int_equal(leaves_claimed(f->d), 1);
}

/* Killed in a merge after so many regions, also between the two halves of one. */
static void an_adopter_ends_a_merge_that_was_half_done(void **state)
{
    struct fixture *f = *state;

    for (unsigned moved = 0; moved < 6; moved++) {
        attach(f, true);
        for (uint64_t r = 0; r < 6; r++)
            dirty_set(f->d, 0, 0, (struct extent){r * 256 + r, 2});
        dirty_freeze(f->d);
        dirty_set(f->d, 1, 0, (struct extent){100, 1});
        state_enter(f->d, STATE_MERGING, 1);
        struct disk *disk = &f->d->disks[0];
        for (unsigned r = 0; r <= moved; r++) {
            struct bits bits = region_load(f->d, 0, disk, r);
            bool more = false;
            region_set(f->d, 1, disk, r, &bits, false, &more);
            if (r < moved)
                region_clear(f->d, 0, disk, r);
        }
        die_and_adopt(f);
        assert_int_equal(state_of(word_now(f->d)), STATE_IDLE);
        assert_int_equal(dirty_active(f->d), 1);
        assert_true(dirty_empty(f->d, 0));
        assert_int_equal(dirty_blocks(f->d, 1), 13);
        assert_int_equal(leaves_claimed(f->d), 6);
    }
}

/* Killed in a commit: what was not cleared yet is shipped once more. */
static void an_adopter_keeps_what_a_commit_had_not_cleared(void **state)
{
    struct fixture *f = *state;

    dirty_set(f->d, 0, 0, (struct extent){5, 1});
    dirty_set(f->d, 0, 0, (struct extent){1000, 1});
    dirty_freeze(f->d);
    region_clear(f->d, 0, &f->d->disks[0], 0);
    die_and_adopt(f);
    assert_int_equal(dirty_blocks(f->d, 1), 1);
    assert_true(dirty_test(f->d, 1, 0, 1000));
}

static void an_adopter_finds_leaked_leaves_and_lone_summary_bits(void **state)
{
    struct fixture *f = *state;
    size_t leaf;

    dirty_set(f->d, 0, 0, (struct extent){5, 1});
    for (int i = 0; i < 9; i++)
        assert_true(leaf_take(f->d, &leaf)); /* claimed, never published */
    atomic_fetch_or(&f->d->disks[0].maps[0].summary[0], UINT64_C(1) << 30);
    die_and_adopt(f);
    assert_int_equal(leaves_claimed(f->d), 1);
    assert_false(summary_test(&f->d->disks[0].maps[0], 30));
    dirty_freeze(f->d);
    dirty_commit(f->d);
    assert_true(dirty_empty(f->d, 0));
}

static void a_damaged_slot_makes_its_region_dirty(void **state)
{
    struct fixture *f = *state;

    dirty_set(f->d, 0, 0, (struct extent){5, 1});
    dirty_set(f->d, 0, 0, (struct extent){300, 1});
    dirty_set(f->d, 0, 0, (struct extent){600, 1});
    atomic_store(&f->d->disks[0].maps[0].slots[1], 0xffffffffu);
    atomic_store(&f->d->disks[0].maps[0].slots[2],
                 atomic_load(&f->d->disks[0].maps[0].slots[0])); /* named twice */
    die_and_adopt(f);
    assert_int_equal(dirty_blocks(f->d, 0), 1 + 256 + 256);
}

static void memory_of_other_disks_or_of_nobody_is_refused(void **state)
{
    struct fixture *f = *state;
    const uint64_t smaller[] = {39 * MIB, DISKS[1]};
    struct err err = ERR_NONE;
    struct dirty *d;

    check_fails(dirty_attach(f->memory, f->bytes, smaller, 2, LEAVES, false, &d, &err), err,
                ERR_CORRUPT);
    check_fails(dirty_attach(f->memory, f->bytes, DISKS, 2, LEAVES - 1, false, &d, &err), err,
                ERR_CORRUPT);
    check_fails(dirty_attach(f->memory, f->bytes, DISKS, 1, LEAVES, false, &d, &err), err,
                ERR_CORRUPT);
    void *blank = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check_fails(dirty_attach(blank, f->bytes, DISKS, 2, LEAVES, false, &d, &err), err,
                ERR_NOT_FOUND);
    munmap(blank, f->bytes);
}

static void maps_that_were_never_complete_are_not_adopted_but_made_afresh(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;

    dirty_detach(&f->d);
    check_ok(dirty_attach(f->memory, f->bytes, DISKS, 2, LEAVES, true, &f->d, &err), err);
    dirty_set(f->d, 0, 0, (struct extent){5, 1}); /* killed before the other ones */
    dirty_detach(&f->d);
    check_fails(dirty_attach(f->memory, f->bytes, DISKS, 2, LEAVES, false, &f->d, &err), err,
                ERR_NOT_FOUND);
    attach(f, true);
    assert_int_equal(leaves_claimed(f->d), 0);
    assert_int_equal(dirty_blocks(f->d, 0), 0);
    die_and_adopt(f);
}

static void a_terabyte_costs_17_mib_and_touches_little(void **state)
{
    const uint64_t bytes = UINT64_C(1) << 40;
    size_t size = dirty_memory_bytes(&bytes, 1, DIRTY_LEAVES_DEFAULT);
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *resident = calloc(1, size / PAGE_BYTES + 1);
    struct err err = ERR_NONE;
    struct dirty *d;
    struct extent run;
    size_t pages = 0;

    (void)state;
    assert_true(size <= 17 * MIB);
    madvise(memory, size, MADV_NOHUGEPAGE);
    check_ok(dirty_attach(memory, size, &bytes, 1, DIRTY_LEAVES_DEFAULT, true, &d, &err), err);
    dirty_seeded(d);
    for (uint64_t i = 0; i < 8; i++)
        dirty_set(d, 0, 0, (struct extent){i * 1000000, 3});
    assert_false(dirty_test(d, 0, 0, 123456789));
    assert_int_equal(dirty_blocks(d, 0), 24);
    assert_true(dirty_next(d, 0, 0, 7000003 - 1, &run));
    assert_false(dirty_next(d, 0, 0, 7000003, &run));
    dirty_freeze(d);
    dirty_abandon(d);
    dirty_detach(&d);
    check_ok(dirty_attach(memory, size, &bytes, 1, DIRTY_LEAVES_DEFAULT, false, &d, &err), err);
    assert_int_equal(mincore(memory, size, resident), 0);
    for (size_t i = 0; i < size / PAGE_BYTES; i++)
        pages += resident[i] & 1;
    /* head, pool bitmap 8, a leaf page, both summaries 2 x 32 (read), 8 slot pages in each map */
    assert_true(pages <= 1 + 8 + 1 + 64 + 16);
    dirty_detach(&d);
    free(resident);
    munmap(memory, size);
}

/* ---- against a model ---- */

#define MODEL_BLOCKS (40u * 256u)

struct model {
    bool dirty[2][DISK_COUNT][MODEL_BLOCKS];
};

static void model_check(const struct dirty *d, const struct model *m)
{
    for (unsigned map = 0; map < 2; map++) {
        uint64_t blocks = 0;
        for (size_t disk = 0; disk < DISK_COUNT; disk++) {
            uint64_t count = blocks_of_bytes(DISKS[disk]);
            uint64_t from = 0;
            struct extent run = {0, 0};
            bool more = dirty_next(d, map, disk, from, &run);
            for (uint64_t b = 0; b < count; b++) {
                bool wanted = m->dirty[map][disk][b];
                blocks += wanted;
                while (more && b >= extent_end(run))
                    more = dirty_next(d, map, disk, extent_end(run), &run);
                assert_int_equal(more && b >= run.first, wanted);
                if (b % 97 == 0)
                    assert_int_equal(dirty_test(d, map, disk, b), wanted);
            }
        }
        assert_int_equal(dirty_blocks(d, map), blocks);
        assert_int_equal(dirty_empty(d, map), blocks == 0);
    }
}

static void model_merge(struct model *m, unsigned active)
{
    for (size_t disk = 0; disk < DISK_COUNT; disk++)
        for (size_t b = 0; b < MODEL_BLOCKS; b++)
            m->dirty[active][disk][b] |= m->dirty[1 - active][disk][b];
    memset(m->dirty[1 - active], 0, sizeof m->dirty[0]);
}

static void random_set(struct dirty *d, struct model *m, unsigned *seed)
{
    unsigned map = dirty_active(d);
    size_t disk = (unsigned)rand_r(seed) % DISK_COUNT;
    uint64_t blocks = blocks_of_bytes(DISKS[disk]);
    uint64_t first = (unsigned)rand_r(seed) % blocks;
    uint64_t most = rand_r(seed) % 4 == 0 ? 700 : 9;
    uint64_t count = 1 + (unsigned)rand_r(seed) % most;

    if (rand_r(seed) % 8 == 0) {
        first = first / 256 * 256;
        count = 256;
    }
    if (count > blocks - first)
        count = blocks - first;
    if (dirty_frozen(d) && rand_r(seed) % 4 == 0)
        map = 1 - map; /* the gate has not drained */
    dirty_set(d, map, disk, (struct extent){first, count});
    for (uint64_t b = first; b < first + count; b++)
        m->dirty[map][disk][b] = true;
}

static void it_behaves_as_two_plain_bitmaps(void **state)
{
    struct fixture *f = *state;
    struct model *m = calloc(1, sizeof *m);

    /* 47 regions in two maps can never need more leaves than 70 with so few sets between cuts;
     * the model knows nothing of WHOLE. */
    for (unsigned seed = 1; seed <= 4; seed++) {
        unsigned random = seed;
        for (int round = 0; round < 120; round++) {
            int sets = rand_r(&random) % 12;
            for (int i = 0; i < sets; i++)
                random_set(f->d, m, &random);
            unsigned active = dirty_active(f->d);
            switch (rand_r(&random) % 6) {
            case 0:
                die_and_adopt(f);
                model_merge(m, active);
                break;
            case 1:
            case 2:
                if (!dirty_frozen(f->d)) {
                    dirty_freeze(f->d);
                } else {
                    dirty_abandon(f->d);
                    model_merge(m, active);
                }
                break;
            default:
                if (!dirty_frozen(f->d)) {
                    dirty_freeze(f->d);
                } else {
                    dirty_commit(f->d);
                    memset(m->dirty[1 - active], 0, sizeof m->dirty[0]);
                }
            }
            model_check(f->d, m);
        }
    }
    free(m);
}

/* ---- threads ---- */

#define SETTERS 4

struct setter {
    pthread_t thread;
    struct dirty *d;
    pthread_barrier_t *start;
    uint64_t lane;
};

/* All lanes go through the same words at the same time. */
static void *set_lane(void *argument)
{
    struct setter *s = argument;

    pthread_barrier_wait(s->start);
    for (uint64_t b = s->lane; b < 256 * 40; b += SETTERS * 3)
        dirty_set(s->d, 0, 0, (struct extent){b, 1});
    return NULL;
}

static void concurrent_setters_of_one_region_lose_nothing(void **state)
{
    struct fixture *f = *state;
    struct setter setters[SETTERS];
    pthread_barrier_t start;

    pthread_barrier_init(&start, NULL, SETTERS);
    for (int round = 0; round < 60; round++) {
        attach(f, true);
        for (uint64_t i = 0; i < SETTERS; i++) {
            setters[i] = (struct setter){.d = f->d, .start = &start, .lane = i};
            assert_int_equal(pthread_create(&setters[i].thread, NULL, set_lane, &setters[i]), 0);
        }
        for (int i = 0; i < SETTERS; i++)
            pthread_join(setters[i].thread, NULL);
        for (uint64_t b = 0; b < 256 * 40; b++)
            assert_int_equal(dirty_test(f->d, 0, 0, b), b % (SETTERS * 3) < SETTERS);
        assert_int_equal(leaves_claimed(f->d), 40); /* who lost a race gave its leaf back */
    }
    pthread_barrier_destroy(&start);
}

/* ---- killed anywhere ---- */

/* What the child was told is dirty, shared with the parent. A bit is noted after dirty_set came
 * back and forgotten before the commit begins. */
struct promise {
    struct model model;
    _Atomic uint64_t steps;
};

static void child_run(struct fixture *f, struct promise *p, unsigned seed)
{
    for (;;) {
        for (int i = rand_r(&seed) % 8; i > 0; i--) {
            random_set(f->d, &p->model, &seed);
            atomic_fetch_add(&p->steps, 1);
        }
        unsigned active = dirty_active(f->d);
        if (!dirty_frozen(f->d)) {
            dirty_freeze(f->d);
        } else if (rand_r(&seed) % 2) {
            dirty_abandon(f->d);
            model_merge(&p->model,
                        active); /* ORs before it clears: nothing is missing in between */
        } else {
            memset(p->model.dirty[1 - active], 0, sizeof p->model.dirty[0]);
            dirty_commit(f->d);
        }
        atomic_fetch_add(&p->steps, 1);
    }
}

static void a_worker_killed_anywhere_forgets_nothing(void **state)
{
    struct fixture *f = *state;
    struct promise *p =
        mmap(NULL, sizeof *p, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned random = 99;

    for (unsigned round = 0; round < 200; round++) {
        uint64_t goal = atomic_load(&p->steps) + 1 + (unsigned)rand_r(&random) % 40;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            child_run(f, p, round);
        while (atomic_load(&p->steps) < goal)
            sched_yield();
        for (volatile int spin = rand_r(&random) % 2000; spin > 0; spin--)
            ;
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        die_and_adopt(f);
        unsigned active = dirty_active(f->d);
        assert_true(dirty_empty(f->d, 1 - active));
        model_merge(&p->model, active);
        for (size_t disk = 0; disk < DISK_COUNT; disk++)
            for (uint64_t b = 0; b < blocks_of_bytes(DISKS[disk]); b++)
                if (p->model.dirty[active][disk][b])
                    assert_true(dirty_test(f->d, active, disk, b));
        leaves_claimed(f->d);
    }
    munmap(p, sizeof *p);
}

/* ---- killed at a store ---- */

/* What the head of dirty.c says holds between any two stores, as the next worker finds it. */
static void check_invariants(const struct dirty *d)
{
    bool named[LEAVES] = {false};

    for (size_t i = 0; i < DISK_COUNT; i++)
        for (unsigned m = 0; m < MAPS; m++)
            for (uint64_t r = 0; r < d->disks[i].regions; r++) {
                const struct map *map = &d->disks[i].maps[m];
                uint32_t slot = atomic_load(&map->slots[r]);
                assert_true(slot == SLOT_CLEAN || summary_test(map, r));
                if (slot < SLOT_LEAF)
                    continue;
                size_t leaf = slot - SLOT_LEAF;
                assert_true(leaf < LEAVES && !named[leaf]);
                assert_true(atomic_load(&d->pool[leaf / 64]) >> (leaf % 64) & 1);
                named[leaf] = true;
            }
}

static void die(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

/* The first store to that page of the memory ends the worker. */
static void act_until_page(struct fixture *f, size_t page, void (*act)(struct dirty *d))
{
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, die);
        mprotect((uint8_t *)f->memory + page * PAGE_BYTES, PAGE_BYTES, PROT_READ);
        act(f->d);
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void set_anew(struct dirty *d)
{
    dirty_set(d, dirty_active(d), 0, (struct extent){.first = 5 * REGION_BLOCKS + 3, .count = 1});
    dirty_set(d, dirty_active(d), 1, (struct extent){.first = 2 * REGION_BLOCKS, .count = 300});
}

static void a_worker_killed_at_a_store_leaves_maps_that_hold(void **state)
{
    static void (*const acts[])(struct dirty * d) = {set_anew, dirty_commit, dirty_abandon};
    const struct extent before = {.first = 7, .count = 2}, after = {.first = 9 * REGION_BLOCKS, 1};
    struct fixture *f = *state;

    for (size_t act = 0; act < sizeof acts / sizeof *acts; act++)
        for (size_t page = 1; page < f->bytes / PAGE_BYTES; page++) { /* not the head */
            attach(f, true);
            dirty_set(f->d, 0, 0, before);
            dirty_freeze(f->d);
            dirty_set(f->d, 1, 0, after);
            act_until_page(f, page, acts[act]);
            check_invariants(f->d);
            die_and_adopt(f);
            check_invariants(f->d);
            unsigned active = dirty_active(f->d);
            assert_true(dirty_test(f->d, active, 0, after.first));
            if (acts[act] != dirty_commit)
                assert_true(dirty_test(f->d, active, 0, before.first) &&
                            dirty_test(f->d, active, 0, before.first + 1));
            leaves_claimed(f->d);
        }
}

int main(void)
{
#define with_maps(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        with_maps(a_set_block_is_dirty_and_its_neighbours_are_not),
        with_maps(a_run_crosses_regions_and_ends_with_the_disk),
        with_maps(whole_regions_take_no_leaf),
        with_maps(a_region_with_a_leaf_can_become_whole),
        with_maps(a_region_becomes_whole_when_the_pool_is_empty),
        cmocka_unit_test(a_long_run_comes_in_pieces_without_a_gap),
        with_maps(a_commit_forgets_the_cut_and_nothing_else),
        with_maps(an_abandoned_cut_is_dirty_again),
        with_maps(a_block_counts_each_time_it_becomes_dirty_and_not_when_it_is_given_back),
        with_maps(merging_with_an_empty_pool_makes_one_region_whole_at_most),
        with_maps(an_adopter_merges_a_frozen_cut),
        with_maps(an_adopter_ends_a_merge_that_was_half_done),
        with_maps(an_adopter_keeps_what_a_commit_had_not_cleared),
        with_maps(an_adopter_finds_leaked_leaves_and_lone_summary_bits),
        with_maps(a_damaged_slot_makes_its_region_dirty),
        with_maps(memory_of_other_disks_or_of_nobody_is_refused),
        with_maps(maps_that_were_never_complete_are_not_adopted_but_made_afresh),
        cmocka_unit_test(a_terabyte_costs_17_mib_and_touches_little),
        with_maps(it_behaves_as_two_plain_bitmaps),
        with_maps(concurrent_setters_of_one_region_lose_nothing),
        with_maps(a_worker_killed_anywhere_forgets_nothing),
        with_maps(a_worker_killed_at_a_store_leaves_maps_that_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
