/* SPDX-License-Identifier: MIT */
#include "fs/disk/written.h"

#include "common/cleanup.h"
#include "common/file.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define NOTE_MS  20u  /* a note stands for so long */
#define SLACK_MS 100u /* more than that, and what the kernel's clock for files lags behind */
/* So old at most is a note that a power cut leaves: the kernel writes it back in half a minute. */
#define WRITEBACK_MS 120000u

/* What is in the file, in the host's byte order: it is of no use elsewhere. */
struct note {
    uint8_t boot[WORLD_BOOT_BYTES];
    uint64_t ms;
};

struct written {
    struct world_file *file;
    uint8_t boot[WORLD_BOOT_BYTES];
    uint64_t known_ms; /* all that was changed up to then is known of */
    _Atomic uint64_t noted_ms;
};

static uint64_t now_ms(struct world *w)
{
    return w->ops->realtime_ns(w) / 1000000;
}

/* The last mount's note. The file has all its room from the start: a note takes none. */
static bool load(struct world_file *file, struct note *out, struct err *err)
{
    struct world_stat st;
    int rc = file->world->ops->stat(file, &st);
    memset(out, 0, sizeof *out);
    if (rc < 0)
        return err_errno(err, -rc, "%s", file->path);
    return st.size == sizeof *out ? file_read(file, mspan_of(out, sizeof *out), 0, err)
                                  : file_write(file, span_of(out, sizeof *out), 0, err);
}

/* Without a note nothing tells of an earlier mount: there was none, or it is an older state folder.
 */
static uint64_t known_until(struct world *w, const struct written *r, const struct note *n)
{
    uint64_t now = now_ms(w), up = w->ops->boottime_ns(w) / 1000000;
    if (n->ms == 0)
        return now;
    if (memcmp(n->boot, r->boot, sizeof r->boot) == 0)
        return n->ms <= now ? n->ms : 0; /* else the clock was set back */
    uint64_t began = now > up ? now - up : 0, noted = n->ms + WRITEBACK_MS;
    return noted < began ? noted : began;
}

bool written_open(struct world *w, const char *path, struct written **out, struct err *err)
{
    struct written *r CLEANUP(written_close) = calloc(1, sizeof *r);
    struct note found;

    if (r == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    w->ops->boot(w, r->boot);
    if (!file_open(w, path, O_RDWR | O_CREAT, 0600, &r->file, err) || !load(r->file, &found, err))
        return false;
    r->known_ms = known_until(w, r, &found);
    *out = TAKE(r);
    return true;
}

void written_close(struct written **written)
{
    struct written *r = TAKE(*written);
    if (r == NULL)
        return;
    file_close(&r->file);
    free(r);
}

bool written_begin(struct written *r, struct err *err)
{
    written_note(r);
    return file_sync(r->file, err);
}

void written_note(struct written *r)
{
    struct err ignored; /* an older note makes the disk be compared, which does no harm */
    uint64_t now = now_ms(r->file->world), before = atomic_load(&r->noted_ms);
    if (now >= before && now - before < NOTE_MS)
        return;
    if (!atomic_compare_exchange_strong(&r->noted_ms, &before, now))
        return;
    struct note n = {.ms = now};
    memcpy(n.boot, r->boot, sizeof n.boot);
    if (!file_write(r->file, span_of(&n, sizeof n), 0, &ignored))
        atomic_store(&r->noted_ms, 0);
}

bool written_behind(const struct written *r, const struct world_stat *st)
{
    return st->ctime_ns / 1000000 > (int64_t)(r->known_ms + SLACK_MS);
}
