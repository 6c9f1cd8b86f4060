/* SPDX-License-Identifier: MIT */
#include "fs/disk/pace.h"

#include "common/amount.h"

#include <stdio.h>

#define SAMPLE_MS 1000u
#define LEAST_MS  5000u /* rates over less than this say nothing */

void pace_note(struct pace *p, uint64_t ms, const struct pace_counts *c)
{
    if (p->sample_count > 0 && ms < p->samples[(p->sample_count - 1) % PACE_SAMPLES].ms + SAMPLE_MS)
        return;
    size_t at = p->sample_count++ % PACE_SAMPLES;
    p->samples[at].ms = ms;
    p->samples[at].counts = *c;
}

void pace_cut(struct pace *p, uint64_t frozen_bytes, const struct pace_counts *c)
{
    if (frozen_bytes < p->frozen_bytes / 4 * 3)
        p->hopeless = false;
    p->frozen_bytes = frozen_bytes;
    p->at_cut = *c;
}

/* Bytes per second since the newest sample that is a window old, else the oldest one there is. */
struct rates {
    bool known;
    double changed, dirtied, shipped, stored;
};

static double rise(uint64_t was, uint64_t is)
{
    return is > was ? (double)(is - was) : 0;
}

static struct rates rates_of(const struct pace *p, uint64_t ms, const struct pace_counts *c)
{
    size_t kept = p->sample_count < PACE_SAMPLES ? p->sample_count : PACE_SAMPLES;
    size_t at = p->sample_count - kept;
    while (at + 1 < p->sample_count &&
           p->samples[(at + 1) % PACE_SAMPLES].ms + PACE_WINDOW_MS <= ms)
        at++;
    uint64_t began = kept > 0 ? p->samples[at % PACE_SAMPLES].ms : ms;
    if (ms < began + LEAST_MS)
        return (struct rates){.known = false};
    const struct pace_counts *was = &p->samples[at % PACE_SAMPLES].counts;
    double seconds = (double)(ms - began) / 1000;
    return (struct rates){.known = true,
                          .changed = rise(was->changed, c->changed) / seconds,
                          .dirtied = rise(was->dirtied, c->dirtied) / seconds,
                          .shipped = rise(was->shipped, c->shipped) / seconds,
                          .stored = rise(was->stored, c->stored) / seconds};
}

static uint64_t seconds_of(double bytes, double rate)
{
    return rate > 0 && bytes / rate < 1e9 ? (uint64_t)(bytes / rate + 0.999) : PACE_UNKNOWN;
}

void pace_judge(struct pace *p, uint64_t ms, const struct pace_counts *c, bool busy,
                uint64_t late_ms, struct pace_forecast *out)
{
    struct rates r = rates_of(p, ms, c);
    double frozen = busy ? (double)p->frozen_bytes : 0;
    double shipped = rise(p->at_cut.shipped, c->shipped);
    double frozen_left = frozen > shipped ? frozen - shipped : 0;
    double active = rise(p->at_cut.dirtied, c->dirtied);

    if (late_ms < PACE_LATE_MS || (r.known && r.changed < 0.75 * r.shipped)) {
        p->hopeless = false;
    } else if (busy && r.known && r.changed > 0 && r.changed >= 0.9 * r.shipped) {
        double at_end = r.shipped > 0 ? active + r.dirtied * frozen_left / r.shipped : frozen;
        p->hopeless = p->hopeless || at_end >= 0.9 * frozen;
    }
    *out = (struct pace_forecast){.hopeless = p->hopeless,
                                  .upload_bytes_per_second = (uint64_t)r.stored,
                                  .write_bytes_per_second = (uint64_t)r.changed,
                                  .left_bytes = (uint64_t)(frozen_left + active)};
    out->quiet_seconds = out->left_bytes == 0 ? 0 : seconds_of((double)out->left_bytes, r.shipped);
    out->catch_up_seconds =
        p->hopeless ? PACE_UNKNOWN : seconds_of((double)out->left_bytes, r.shipped - r.dirtied);
}

void pace_explain(const struct pace_forecast *f, char out[PACE_TEXT_MAX])
{
    char written[OUTPUT_TEXT_MAX], up[OUTPUT_TEXT_MAX], left[OUTPUT_TEXT_MAX];
    char quiet[OUTPUT_TEXT_MAX] = "a time not known yet", writing[OUTPUT_TEXT_MAX] = "";

    size_format(f->write_bytes_per_second, written);
    size_format(f->upload_bytes_per_second, up);
    size_format(f->left_bytes, left);
    if (f->quiet_seconds != PACE_UNKNOWN)
        age_format(f->quiet_seconds, quiet);
    if (f->catch_up_seconds != PACE_UNKNOWN)
        age_format(f->catch_up_seconds, writing);
    snprintf(out, PACE_TEXT_MAX,
             "%s of changes wait, the guest writes %s/s and %s/s go up: would catch up in %s if "
             "writing stopped%s%s",
             left, written, up, quiet,
             f->hopeless       ? ", at the present rate of writing never"
             : writing[0] != 0 ? ", as it goes on now in "
                               : "",
             writing);
}
