/* SPDX-License-Identifier: MIT
 * Every crash state of every workload of up to three operations on an overlay, over a stand-in for
 * a view that shows one byte everywhere. */
#include "fs/view/overlay.h"

#include <string.h>

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/crash_states.h"

#define BLOCKS    3u
#define BYTES     (BLOCKS * BLOCK_BYTES)
#define SECTORS   (BYTES / FAKE_SECTOR)
#define BASE_BYTE 0xee
#define FOLDER    "/scratch"

struct view {
    struct epoch_disk disk;
};

const struct epoch_disk *view_disk(const struct view *v, size_t index)
{
    assert_int_equal(index, 0);
    return &v->disk;
}

bool view_read(struct view *v, size_t disk, uint64_t offset, struct mspan out, struct err *err)
{
    (void)v, (void)disk, (void)offset, (void)err;
    memset(out.data, BASE_BYTE, out.length);
    return true;
}

bool view_next_data(struct view *v, size_t disk, uint64_t from, struct extent *out, bool *found,
                    struct err *err)
{
    (void)v, (void)disk, (void)err;
    *found = from < BLOCKS;
    *out = (struct extent){from, *found ? BLOCKS - from : 0};
    return true;
}

struct written {
    struct view view;
    struct overlay *o;
    uint8_t now; /* the newest write's byte */
    uint8_t shows[SECTORS];
    bool allowed[SECTORS][256]; /* after a cut */
};

static bool open_overlay(struct written *s, struct world *w, struct err *err)
{
    const struct overlay_point point = {.generation_id = 77, .epoch = 12};
    return overlay_open(w, FOLDER, &point, &s->view, 0, &s->o, err);
}

static void only_what_it_shows(struct written *s)
{
    memset(s->allowed, 0, sizeof s->allowed);
    for (size_t i = 0; i < SECTORS; i++)
        s->allowed[i][s->shows[i]] = true;
}

/* The overlay is made by the first operation, so that its making is cut too. */
static void begin(void *context, struct world *w)
{
    struct written *s = context;
    struct err err = ERR_NONE;
    s->view = (struct view){.disk = {.disk = 3, .size_bytes = BYTES}};
    strcpy(s->view.disk.name, "root");
    check_ok(dir_make(w, FOLDER, 0700, &err), err);
    memset(s->shows, BASE_BYTE, sizeof s->shows);
    only_what_it_shows(s);
}

static void changes(struct written *s, uint64_t offset, uint8_t byte)
{
    for (size_t i = offset / FAKE_SECTOR; i < (offset + BLOCK_BYTES) / FAKE_SECTOR; i++) {
        s->shows[i] = byte;
        s->allowed[i][byte] = true;
    }
}

/* 0: block 0 written. 1: part of blocks 1 and 2. 2: block 0 discarded. 3: fsync. */
static bool step(void *context, struct world *w, size_t operation)
{
    static const uint64_t offsets[3] = {0, BLOCK_BYTES + 2 * FAKE_SECTOR, 0};
    uint8_t bytes[BLOCK_BYTES];
    struct written *s = context;
    struct err err = ERR_NONE;
    if (s->o == NULL && !open_overlay(s, w, &err))
        return false;
    if (operation == 3) {
        if (!overlay_flush(s->o, &err))
            return false;
        only_what_it_shows(s);
        return true;
    }
    uint8_t byte = operation == 2 ? 0 : ++s->now;
    memset(bytes, byte, sizeof bytes);
    changes(s, offsets[operation], byte);
    return operation == 2
               ? overlay_zero(s->o, 0, BLOCK_BYTES, &err)
               : overlay_write(s->o, offsets[operation], span_of(bytes, BLOCK_BYTES), &err);
}

/* A killed process flushes nothing; the machine is stopped before. */
static void close_overlay(void *context)
{
    overlay_close(&((struct written *)context)->o);
}

static void check(void *context, struct world *w)
{
    struct written *s = context;
    uint8_t bytes[BYTES];
    struct err err = ERR_NONE;
    check_ok(open_overlay(s, w, &err), err);
    check_ok(overlay_read(s->o, 0, mspan_of(bytes, sizeof bytes), &err), err);
    for (size_t i = 0; i < BYTES; i++)
        if (!s->allowed[i / FAKE_SECTOR][bytes[i]])
            fail_msg("byte %zu shows %02x, which it never held since the last fsync", i, bytes[i]);
    close_overlay(s);
}

static void an_overlay_shows_what_was_synced_in_every_crash_state(void **state)
{
    static const struct crash_model m = {
        .name = "overlay",
        .alphabet = 4,
        .context_bytes = sizeof(struct written),
        .begin = begin,
        .step = step,
        .close = close_overlay,
        .check = check,
    };
    (void)state;
    crash_states_all(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overlay_shows_what_was_synced_in_every_crash_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
