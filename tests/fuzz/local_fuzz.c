/* SPDX-License-Identifier: MIT
 * Byte 0: which of a host's own files the rest is: 0 a journal, 1 a digest file, 2 marks, 3 a
 * presence record, 4 ship.json, 5 a key file, 6 what this host has seen of a vault. With 16 added
 * the checksum that the file ends with, or that its head has, is made right here. */
#include "backend/history/seen.h"
#include "common/file.h"
#include "fs/disk/digest_file.h"
#include "fs/disk/journal.h"
#include "fs/disk/marks.h"
#include "fs/disk/ship_state.h"
#include "fs/view/presence_record.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/fake_world.h"

#define FILE_PATH  "/s/file"
#define DISK_BYTES (5ull << 20)
#define MADE_RIGHT 16u

static const struct generation generation = {.number = 1, .id = 0x0123456789abcdefull};

static void read_journal(struct world *w)
{
    struct journal *j = NULL;
    struct err err = ERR_NONE;
    if (!journal_open(w, FILE_PATH, generation, &j, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
        return;
    }
    for (size_t i = 0; i < journal_attempts(j); i++)
        FUZZ_CHECK(journal_attempt(j, i)->changes.length < 1u << 20);
    FUZZ_CHECK(journal_clear(j, &err));
    journal_close(&j);
}

static void read_digests(struct world *w)
{
    struct digest_file *f = NULL;
    struct block_digest digests[16];
    struct extent next;
    struct err err = ERR_NONE;
    bool found;
    if (!digest_file_open(w, FILE_PATH, 7, 1, &f, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
        return;
    }
    FUZZ_CHECK(digest_file_read(f, 0, 16, digests, &err));
    FUZZ_CHECK(digest_file_next(f, 0, &next, &found, &err));
    digest_file_close(&f);
}

static void read_marks(struct world *w)
{
    struct marks *m = NULL;
    struct err err = ERR_NONE;
    uint64_t region;
    if (!marks_open(w, FILE_PATH, DISK_BYTES, &m, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_INVALID);
        return;
    }
    FUZZ_CHECK(marks_regions(m) == DISK_BYTES >> 20 && marks_count(m) <= marks_regions(m));
    for (uint64_t from = 0; marks_next(m, from, &region); from = region + 1)
        FUZZ_CHECK(region < marks_regions(m));
    marks_close(&m);
}

static bool see_page(void *context, uint64_t index, const uint8_t *bits, struct err *err)
{
    (void)context, (void)bits, (void)err;
    FUZZ_CHECK(index < 2);
    return true;
}

static void read_presence(struct world *w)
{
    const struct presence_head head = {
        .vm = {0xa0}, .generation_id = generation.id, .epoch = 9, .disk_bytes = DISK_BYTES};
    struct world_file *f AUTO_FILE = NULL;
    struct err err = ERR_NONE;
    bool whole;
    if (presence_record_open(w, FILE_PATH, &head, &f, &whole, &err))
        FUZZ_CHECK(presence_record_pages(f, 2, see_page, NULL, &err));
    else
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
}

static void read_ship_state(struct world *w)
{
    struct ship_state state, again;
    struct err err = ERR_NONE;
    FUZZ_CHECK(w->ops->rename(w, FILE_PATH, "/s/ship.json") == 0);
    if (!ship_state_load(w, "/s", generation, &state, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT || err.kind == ERR_FENCED);
        return;
    }
    FUZZ_CHECK(memchr(state.fenced, 0, sizeof state.fenced) != NULL);
    FUZZ_CHECK(ship_state_save(w, "/s", &state, &err) &&
               ship_state_load(w, "/s", generation, &again, &err));
    FUZZ_CHECK(again.epoch == state.epoch && strcmp(again.fenced, state.fenced) == 0);
}

static void read_key(struct world *w)
{
    struct keys *keys AUTO_KEYS = NULL;
    struct err err = ERR_NONE;
    if (!keys_file_load(w, FILE_PATH, &keys, &err))
        fuzz_check_refusal(&err);
}

static void read_seen(struct world *w)
{
    static const uint8_t vm[VM_ID_BYTES] = {0xa0};
    struct seen seen, again;
    struct err err = ERR_NONE;
    FUZZ_CHECK(seen_begin(&seen, w, "/s", "history", "file:///v", vm, &err) && !seen.known);
    FUZZ_CHECK(w->ops->rename(w, FILE_PATH, seen.path) == 0);
    if (!seen_begin(&seen, w, "/s", "history", "file:///v", vm, &err)) {
        FUZZ_CHECK(err.kind == ERR_CORRUPT);
        return;
    }
    FUZZ_CHECK(seen.known && seen.number < UINT64_MAX);
    if (seen.number > UINT64_MAX - 2)
        return;
    seen_keep(&seen, seen.number + 2, &seen.digest);
    FUZZ_CHECK(seen_begin(&again, w, "/s", "history", "file:///v", vm, &err));
    FUZZ_CHECK(again.number == seen.number);
}

/* Where the checksum of each kind lies: behind so many bytes of the head, or at the end. */
#define AT_THE_END SIZE_MAX
static const struct kind {
    void (*read)(struct world *w);
    size_t summed, length;
} kinds[] = {{read_journal, AT_THE_END, 0},
             {read_digests, 32, 4096},
             {read_marks, 24, 4096},
             {read_presence, 64, 4096},
             {read_ship_state, 0, 0},
             {read_key, 0, 0},
             {read_seen, 0, 0}};

static void make_right(const struct kind *kind, struct buf *bytes)
{
    if (kind->summed == AT_THE_END) {
        struct sha256 sum = sha256_of(buf_span(bytes));
        buf_put(bytes, sum.bytes, sizeof sum.bytes);
    } else if (kind->summed > 0) {
        while (bytes->length < kind->length)
            buf_put_u8(bytes, 0);
        struct sha256 sum = sha256_of(span_of(bytes->data, kind->summed));
        memcpy(bytes->data + kind->summed, sum.bytes, sizeof sum.bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    if (size < 1)
        return 0;
    const struct kind *kind = &kinds[data[0] % MADE_RIGHT % (sizeof kinds / sizeof kinds[0])];
    struct world *w = fake_world_make(1);
    buf_put(&bytes, data + 1, size - 1);
    if (data[0] & MADE_RIGHT)
        make_right(kind, &bytes);
    FUZZ_CHECK(dir_make(w, "/s", 0700, &err));
    FUZZ_CHECK(file_replace(w, FILE_PATH, 0600, buf_span(&bytes), &err));
    kind->read(w);
    fake_world_release(&w);
    return 0;
}
