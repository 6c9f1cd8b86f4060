/* SPDX-License-Identifier: MIT
 * Whether shipping keeps up with the guest, and when it will have caught up: from how much was
 * written, made dirty and shipped in the last twenty seconds. A plain value; the caller guards it.
 *
 * It is *hopeless* when the oldest write has waited for PACE_LATE_MS, the guest writes as fast as
 * blocks ship, and the blocks that are dirty when the open cut ends will be as many as it began
 * with. All three: who rewrites a few hot blocks writes fast and converges all the same, and after
 * one burst much is dirty and nothing more is written. It ends when the guest writes less, a cut
 * begins with much less than the one before, or nothing is late any more. */
#ifndef FS_DISK_PACE_H
#define FS_DISK_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACE_WINDOW_MS 20000u /* shorter than what is late: a burst lies outside it by then */
#define PACE_LATE_MS   30000u
#define PACE_SAMPLES   32u
#define PACE_TEXT_MAX  240u

/* Bytes since the start. They only ever rise, but for what went up for a cut that was abandoned. */
struct pace_counts {
    uint64_t changed; /* written or zeroed by the guest */
    uint64_t dirtied; /* of blocks that became dirty */
    uint64_t shipped; /* of blocks whose content is in the store */
    uint64_t stored;  /* as what they were stored */
};

struct pace {
    struct {
        uint64_t ms;
        struct pace_counts counts;
    } samples[PACE_SAMPLES]; /* ring, at least a second apart */
    size_t sample_count;
    uint64_t frozen_bytes; /* what the newest cut began with */
    struct pace_counts at_cut;
    bool hopeless;
};

/* Now and then, the more often the better; `ms` never falls. */
void pace_note(struct pace *p, uint64_t ms, const struct pace_counts *c);
/* A cut or a pass begins with so many dirty bytes. */
void pace_cut(struct pace *p, uint64_t frozen_bytes, const struct pace_counts *c);

#define PACE_UNKNOWN UINT64_MAX

struct pace_forecast {
    bool hopeless;
    uint64_t upload_bytes_per_second; /* stored bytes that went up */
    uint64_t write_bytes_per_second;  /* of the guest's */
    uint64_t left_bytes;              /* dirty and not yet shipped */
    uint64_t quiet_seconds;           /* until all is shipped, if the guest wrote nothing more */
    uint64_t catch_up_seconds;        /* the same while it writes on; PACE_UNKNOWN: never, or
                                         nothing can be said */
};

/* `busy`: a cut is open, or passes are under way. `late_ms`: age of the oldest write not shipped.
 */
void pace_judge(struct pace *p, uint64_t ms, const struct pace_counts *c, bool busy,
                uint64_t late_ms, struct pace_forecast *out);
/* "1.0 GiB of changes wait ... would catch up in 3 min ...", for people. */
void pace_explain(const struct pace_forecast *f, char out[PACE_TEXT_MAX]);

#endif
