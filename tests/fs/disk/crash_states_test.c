/* SPDX-License-Identifier: MIT
 * Every crash state of every workload of up to three operations: small files, intent marks, the
 * presence of a failed-over disk, the journal of attempts and the digest file. */
#include "tests/support/crash_states.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "fs/disk/backing.h"
#include "fs/disk/digest_file.h"
#include "fs/disk/journal.h"
#include "fs/disk/marks.h"
#include "fs/disk/undo.h"
#include "tests/support/check.h"

/* --- a small file, replaced and removed --- */

#define SMALL      "/small"
#define SMALL_MAX  8192u
#define NOT_THERE  0u
#define SMALL_KIND 4u      /* contents 1 to 3, and none */
#define MADE       "/made" /* a file beside it, which is made once */

struct small {
    unsigned kept, tried;
    bool made;
};

static size_t small_content(unsigned kind, uint8_t out[SMALL_MAX])
{
    static const size_t lengths[SMALL_KIND] = {0, 700, 5000, 4096};
    for (size_t i = 0; i < lengths[kind]; i++)
        out[i] = (uint8_t)(kind * 16 + i / FAKE_SECTOR + 1);
    return lengths[kind];
}

static bool small_put(struct world *w, unsigned kind, struct err *err)
{
    uint8_t bytes[SMALL_MAX];
    size_t length = small_content(kind, bytes);
    return kind == NOT_THERE ? file_remove(w, SMALL, err)
                             : file_replace(w, SMALL, 0600, span_of(bytes, length), err);
}

static void small_begin(void *context, struct world *w)
{
    struct small *s = context;
    struct err err = ERR_NONE;
    check_ok(small_put(w, 1, &err), err);
    s->kept = s->tried = 1;
}

static bool small_step(void *context, struct world *w, size_t operation)
{
    struct small *s = context;
    struct err err = ERR_NONE;
    if (operation == SMALL_KIND) {
        s->made = s->made || file_create(w, MADE, 0600, span_of_text("made"), &err);
        return s->made;
    }
    s->tried = (unsigned)operation;
    if (!small_put(w, s->tried, &err))
        return false;
    s->kept = s->tried;
    return true;
}

static void nothing_to_close(void *context)
{
    (void)context;
}

static bool small_is(struct world *w, unsigned kind)
{
    uint8_t bytes[SMALL_MAX];
    struct buf found AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    size_t length = small_content(kind, bytes);
    if (!file_load(w, SMALL, SMALL_MAX, &found, &err))
        return kind == NOT_THERE && err.kind == ERR_NOT_FOUND;
    return kind != NOT_THERE && span_equal(buf_span(&found), span_of(bytes, length));
}

static void small_check(void *context, struct world *w)
{
    const struct small *s = context;
    struct err err = ERR_NONE;
    if (!small_is(w, s->kept) && !small_is(w, s->tried))
        fail_msg("the file is neither content %u nor %u", s->kept, s->tried);
    struct buf made AUTO_BUF = BUF_NONE;
    if (file_load(w, MADE, SMALL_MAX, &made, &err))
        assert_true(span_equal(buf_span(&made), span_of_text("made")));
    else if (s->made || err.kind != ERR_NOT_FOUND)
        fail_msg("the file that was made: %s", err.text);
    check_ok(small_put(w, 2, &err), err); /* whatever the crash left beside it */
    assert_true(small_is(w, 2));
}

static void a_replaced_file_is_the_old_or_the_new_one_in_every_crash_state(void **state)
{
    static const struct crash_model m = {
        .name = "small files",
        .alphabet = SMALL_KIND + 1,
        .context_bytes = sizeof(struct small),
        .begin = small_begin,
        .step = small_step,
        .close = nothing_to_close,
        .check = small_check,
    };
    (void)state;
    crash_states_all(&m);
}

/* --- intent marks --- */

#define MARKS       "/marks"
#define MARKS_DISK  (UINT64_C(40000) << REGION_SHIFT) /* two pages of marks */
#define MARKS_GROWN (MARKS_DISK + (UINT64_C(3) << REGION_SHIFT))

static const uint64_t mark_regions[2] = {5, 39000};

struct mark_state {
    struct marks *m;
    uint64_t disk_bytes;
    bool grown;      /* durably */
    bool differs[2]; /* the region was written and no proof of it was given since */
};

static bool mark_differs(void *context, uint64_t region)
{
    const struct mark_state *s = context;
    for (size_t i = 0; i < 2; i++)
        if (mark_regions[i] == region)
            return s->differs[i];
    return false;
}

static void marks_begin(void *context, struct world *w)
{
    struct mark_state *s = context;
    struct err err = ERR_NONE;
    s->disk_bytes = MARKS_DISK;
    check_ok(marks_open(w, MARKS, MARKS_DISK, &s->m, &err), err);
    check_ok(marks_sweep(s->m, 0, true, mark_differs, s, UINT64_MAX, &err), err);
    assert_int_equal(marks_count(s->m), 0);
}

static bool marks_again(struct mark_state *s, struct world *w)
{
    struct err err = ERR_NONE;
    marks_close(&s->m);
    return marks_open(w, MARKS, s->disk_bytes, &s->m, &err);
}

/* 0, 1: a write to a region. 2, 3: it was shipped and proved, the marks are swept. 4: the process
 * dies and another opens. 5: the disk grows. */
static bool marks_step(void *context, struct world *w, size_t operation)
{
    struct mark_state *s = context;
    struct err err = ERR_NONE;
    if (operation < 2) {
        struct extent e = {mark_regions[operation] * REGION_BLOCKS + 3, 1};
        if (!marks_ensure(s->m, e, &err))
            return false;
        s->differs[operation] = true;
        return true;
    }
    if (operation < 4) {
        s->differs[operation - 2] = false;
        return marks_sweep(s->m, 0, true, mark_differs, s, UINT64_MAX, &err);
    }
    if (operation == 5)
        s->disk_bytes = MARKS_GROWN;
    if (!marks_again(s, w))
        return false;
    s->grown = s->disk_bytes == MARKS_GROWN;
    return true;
}

static void marks_let_go(void *context)
{
    marks_close(&((struct mark_state *)context)->m);
}

static void marks_check(void *context, struct world *w)
{
    struct mark_state *s = context;
    struct err err = ERR_NONE;
    check_ok(marks_open(w, MARKS, s->disk_bytes, &s->m, &err), err);
    for (size_t i = 0; i < 2; i++)
        if (s->differs[i] && !marks_test(s->m, mark_regions[i]))
            fail_msg("region %llu differs and has no mark", (unsigned long long)mark_regions[i]);
    if (s->disk_bytes == MARKS_GROWN && !s->grown)
        for (uint64_t r = MARKS_DISK >> REGION_SHIFT; r < MARKS_GROWN >> REGION_SHIFT; r++)
            assert_true(marks_test(s->m, r));
    marks_close(&s->m);
}

static void a_region_that_differs_is_marked_in_every_crash_state(void **state)
{
    static const struct crash_model m = {
        .name = "marks",
        .alphabet = 6,
        .context_bytes = sizeof(struct mark_state),
        .begin = marks_begin,
        .step = marks_step,
        .close = marks_let_go,
        .check = marks_check,
    };
    (void)state;
    crash_states_all(&m);
}

/* --- a failed-over disk: data and presence --- */

#define LOCAL        "/local"
#define LOCAL_BLOCKS 3u
#define LOCAL_BYTES  (LOCAL_BLOCKS * BLOCK_BYTES)
#define SECTORS      (LOCAL_BYTES / FAKE_SECTOR)
#define FAR_BYTE     0xee

struct local {
    struct backing *b;
    void *memory;
    struct origin origin;
    uint8_t now;                /* the newest write's byte */
    uint8_t shows[SECTORS];     /* what a read must show */
    bool allowed[SECTORS][256]; /* what each sector may show after a cut */
};

static bool far_read(void *context, uint16_t disk, uint64_t offset, struct mspan out,
                     struct err *err)
{
    (void)context, (void)disk, (void)offset, (void)err;
    memset(out.data, FAR_BYTE, out.length);
    return true;
}

static bool far_next_data(void *context, uint16_t disk, uint64_t from, struct extent *out,
                          bool *found, struct err *err)
{
    (void)context, (void)disk, (void)err;
    *found = from < LOCAL_BLOCKS;
    *out = (struct extent){from, *found ? LOCAL_BLOCKS - from : 0};
    return true;
}

static void local_open(struct local *l, struct world *w)
{
    struct err err = ERR_NONE;
    l->origin = (struct origin){.read = far_read, .next_data = far_next_data};
    l->memory = calloc(1, backing_memory_bytes(LOCAL_BYTES));
    struct backing_config c = {.world = w,
                               .path = LOCAL,
                               .disk_bytes = LOCAL_BYTES,
                               .origin = &l->origin,
                               .head = {.epoch = 7, .disk = 1, .disk_bytes = LOCAL_BYTES},
                               .memory = l->memory,
                               .fresh = true};
    check_ok(backing_open(&c, &l->b, &err), err);
}

static void only_what_it_shows(struct local *l)
{
    memset(l->allowed, 0, sizeof l->allowed);
    for (size_t s = 0; s < SECTORS; s++)
        l->allowed[s][l->shows[s]] = true;
}

static void local_begin(void *context, struct world *w)
{
    struct local *l = context;
    struct world_file *f AUTO_FILE = NULL;
    struct err err = ERR_NONE;
    struct presence_head head = {.epoch = 7, .disk = 1, .disk_bytes = LOCAL_BYTES};
    check_ok(file_create(w, LOCAL, 0600, span_of(NULL, 0), &err), err);
    check_ok(file_open(w, LOCAL, O_RDWR, 0, &f, &err), err);
    assert_int_equal(w->ops->truncate(f, LOCAL_BYTES), 0);
    check_ok(file_sync(f, &err), err);
    check_ok(presence_create(w, LOCAL ".map", &head, &err), err);
    memset(l->shows, FAR_BYTE, sizeof l->shows);
    only_what_it_shows(l);
    local_open(l, w);
}

static void local_changes(struct local *l, uint64_t offset, uint64_t length, uint8_t byte)
{
    for (uint64_t s = offset / FAKE_SECTOR; s < (offset + length) / FAKE_SECTOR; s++) {
        l->shows[s] = byte;
        l->allowed[s][byte] = true;
    }
}

/* 0: block 0 written. 1: part of blocks 1 and 2. 2: block 0 discarded. 3: fsync. */
static bool local_step(void *context, struct world *w, size_t operation)
{
    static const uint64_t offsets[3] = {0, BLOCK_BYTES + 2 * FAKE_SECTOR, 0};
    uint8_t bytes[BLOCK_BYTES];
    struct local *l = context;
    struct err err = ERR_NONE;
    (void)w;
    if (operation == 3) {
        if (!backing_sync(l->b, &err))
            return false;
        only_what_it_shows(l);
        return true;
    }
    uint8_t byte = operation == 2 ? 0 : ++l->now;
    memset(bytes, byte, sizeof bytes);
    local_changes(l, offsets[operation], BLOCK_BYTES, byte);
    return operation == 2
               ? backing_zero(l->b, 0, BLOCK_BYTES, &err)
               : backing_write(l->b, offsets[operation], span_of(bytes, BLOCK_BYTES), &err);
}

static void local_close(void *context)
{
    struct local *l = context;
    backing_close(&l->b);
    free(l->memory);
    l->memory = NULL;
}

static void local_check(void *context, struct world *w)
{
    struct local *l = context;
    uint8_t bytes[LOCAL_BYTES];
    struct err err = ERR_NONE;
    local_open(l, w);
    check_ok(backing_read(l->b, 0, mspan_of(bytes, sizeof bytes), &err), err);
    for (size_t i = 0; i < LOCAL_BYTES; i++)
        if (!l->allowed[i / FAKE_SECTOR][bytes[i]])
            fail_msg("byte %zu shows %02x, which it never held since the last fsync", i, bytes[i]);
    local_close(l);
}

static void a_failed_over_disk_shows_what_was_synced_in_every_crash_state(void **state)
{
    static const struct crash_model m = {
        .name = "backing",
        .alphabet = 4,
        .context_bytes = sizeof(struct local),
        .begin = local_begin,
        .step = local_step,
        .close = local_close,
        .check = local_check,
    };
    (void)state;
    crash_states_all(&m);
}

/* --- the journal of attempts, and the digest file that follows it --- */

#define JOURNAL "/ship.journal"
#define DIGESTS "/digests"

static const struct generation journal_generation = {.number = 4, .id = 77};

struct shipped {
    struct journal *j;
    struct digest_file *d;
    uint8_t next;    /* the value that the pending attempt would make true */
    uint8_t settled; /* what the replica holds */
};

static struct block_digest digest_of(uint8_t value)
{
    struct block_digest d;
    memset(&d, value, sizeof d);
    return d;
}

static void shipped_open(struct shipped *s, struct world *w)
{
    struct err err = ERR_NONE;
    check_ok(journal_open(w, JOURNAL, journal_generation, &s->j, &err), err);
    check_ok(digest_file_open(w, DIGESTS, 99, 3, &s->d, &err), err);
}

static void shipped_begin(void *context, struct world *w)
{
    shipped_open(context, w);
}

static bool shipped_put(struct shipped *s, uint8_t value, struct err *err)
{
    struct block_digest d = digest_of(value);
    return digest_file_write(s->d, 254, 1, &d, err) && digest_file_sync(s->d, err);
}

/* 0: an attempt. 1: the pending one is settled. */
static bool shipped_step(void *context, struct world *w, size_t operation)
{
    struct shipped *s = context;
    struct err err = ERR_NONE;
    (void)w;
    if (operation == 0) {
        uint8_t value = (uint8_t)(s->settled + 1 + (s->next ? 1 : 0));
        struct journal_attempt a = {
            .attempt = value, .kind = EPOCH_CUT, .changes = span_of(&value, 1)};
        if (!journal_add(s->j, journal_slot(s->j) ? journal_slot(s->j) : 9, &a, &err))
            return false;
        s->next = value;
        return true;
    }
    if (s->next == 0)
        return true;
    s->settled = s->next;
    if (!shipped_put(s, s->settled, &err) || !journal_clear(s->j, &err))
        return false;
    s->next = 0;
    return true;
}

static void shipped_close(void *context)
{
    struct shipped *s = context;
    journal_close(&s->j);
    digest_file_close(&s->d);
}

/* An attempt that was put is known, unless the digest file has what it says. */
static void shipped_check(void *context, struct world *w)
{
    struct shipped *s = context;
    struct err err = ERR_NONE;
    struct block_digest found, wanted = digest_of(s->settled);
    bool known = s->next == 0;
    shipped_open(s, w);
    for (size_t i = 0; i < journal_attempts(s->j); i++)
        known = known || journal_attempt(s->j, i)->changes.data[0] == s->next;
    check_ok(digest_file_read(s->d, 254, 1, &found, &err), err);
    bool has = memcmp(&found, &wanted, sizeof found) == 0;
    if (!known && !(has && s->settled == s->next))
        fail_msg("attempt %u was put and nobody knows of it", s->next);
    if (journal_attempts(s->j) == 0 && !has)
        fail_msg("the digest file lacks what was settled");
    shipped_close(s);
}

static void an_attempt_that_was_put_is_known_in_every_crash_state(void **state)
{
    static const struct crash_model m = {
        .name = "journal",
        .alphabet = 2,
        .context_bytes = sizeof(struct shipped),
        .begin = shipped_begin,
        .step = shipped_step,
        .close = shipped_close,
        .check = shipped_check,
    };
    (void)state;
    crash_states_all(&m);
}

/* --- the undo file: never read again, and no state of it keeps the next worker from starting ---
 */

struct saved {
    struct undo *u;
};

static void saved_begin(void *context, struct world *w)
{
    struct err err = ERR_NONE;
    check_ok(undo_make(w, "/", BLOCK_BYTES, 16 * BLOCK_BYTES, &((struct saved *)context)->u, &err),
             err);
}

/* 0, 1, 2: a block is saved, in memory first, then in the file. 3: the cut is over. */
static bool saved_step(void *context, struct world *w, size_t operation)
{
    static const uint8_t block[BLOCK_BYTES] = {1};
    struct saved *s = context;
    if (operation == 3)
        undo_clear(s->u);
    else if (!undo_save(s->u, undo_era(s->u), 0, operation, block))
        return false;
    return !fake_world_stopped(w);
}

static void saved_close(void *context)
{
    undo_release(&((struct saved *)context)->u);
}

static void saved_check(void *context, struct world *w)
{
    struct saved *s = context;
    saved_begin(s, w);
    assert_int_equal(undo_blocks(s->u), 0);
    assert_false(undo_has(s->u, 0, 0));
    saved_close(s);
}

static void an_undo_begins_empty_in_every_crash_state(void **state)
{
    static const struct crash_model m = {
        .name = "undo",
        .alphabet = 4,
        .context_bytes = sizeof(struct saved),
        .begin = saved_begin,
        .step = saved_step,
        .close = saved_close,
        .check = saved_check,
    };
    (void)state;
    crash_states_all(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_replaced_file_is_the_old_or_the_new_one_in_every_crash_state),
        cmocka_unit_test(a_region_that_differs_is_marked_in_every_crash_state),
        cmocka_unit_test(a_failed_over_disk_shows_what_was_synced_in_every_crash_state),
        cmocka_unit_test(an_attempt_that_was_put_is_known_in_every_crash_state),
        cmocka_unit_test(an_undo_begins_empty_in_every_crash_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
