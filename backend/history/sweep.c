/* SPDX-License-Identifier: MIT */
#include "backend/history/sweep.h"

#include "common/log.h"
#include "common/parallel.h"

#include <errno.h>
#include <stdio.h>

#define NUMBER_DIGITS 16u

void sweep_init(struct sweep *s, const struct processor_config *config, struct history *history)
{
    *s = (struct sweep){.config = config, .history = history};
}

static bool entry_remove(const struct sweep *s, const struct history_head *head, uint64_t epoch,
                         struct err *err)
{
    char key[KEY_MAX];
    key_epoch(key, s->config->vm, head->generation, epoch);
    return store_remove(s->config->caches[0], key, err);
}

struct removal {
    const struct sweep *sweep;
    const struct epoch_entry *entry;
};

static bool part_remove(void *context, size_t i, struct err *err)
{
    const struct removal *r = context;
    const struct epoch_entry *e = r->entry;
    char key[KEY_MAX];
    key_part(key, r->sweep->config->vm, e->generation, e->epoch, e->attempt, (uint32_t)i);
    return store_remove(r->sweep->config->caches[e->parts[i].store], key, err);
}

static bool parts_remove(const struct sweep *s, const struct epoch_entry *e, struct err *err)
{
    struct removal r = {.sweep = s, .entry = e};
    return e->has_inline ||
           parallel_each(e->part_count, processor_threads(s->config), part_remove, &r, err);
}

bool sweep_applied(struct sweep *s, const struct history_head *head,
                   const struct epoch_decoded *epochs, size_t count, struct err *err)
{
    for (size_t i = 0; i < count; i++)
        if (!parts_remove(s, &epochs[i].entry, err))
            return false;
    for (; s->oldest + 2 <= head->epoch; s->oldest++)
        if (!entry_remove(s, head, s->oldest, err))
            return false;
    return true;
}

/* --- by list --- */

struct numbers {
    size_t prefix;
    uint64_t max; /* larger ones are left alone */
    uint64_t *list;
    size_t count, room;
    bool short_of_memory;
};

static void numbers_release(struct numbers *n)
{
    free(n->list);
}

/* The number at `text`, which ends with `end`. */
static bool number_parse(const char *text, char end, uint64_t *out)
{
    uint64_t value = 0;
    for (size_t i = 0; i < NUMBER_DIGITS; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint64_t)(text[i] - '0');
    }
    *out = value;
    return text[NUMBER_DIGITS] == end;
}

static bool number_add(struct numbers *n, uint64_t value)
{
    if (n->count == n->room) {
        size_t room = n->room * 2 + 64;
        uint64_t *bigger = realloc(n->list, room * sizeof *bigger);
        n->short_of_memory = !bigger;
        if (!bigger)
            return false;
        n->list = bigger;
        n->room = room;
    }
    n->list[n->count++] = value;
    return true;
}

static bool entry_see(void *context, const char *key, uint64_t bytes)
{
    struct numbers *n = context;
    uint64_t value = 0;
    (void)bytes;
    /* Entries come before `parts/` in byte order. */
    if (!number_parse(key + n->prefix, '\0', &value) || value > n->max)
        return false;
    return number_add(n, value) && n->count < SWEEP_ENTRIES_MAX;
}

/* Whether the entry in the slot is the one that was applied. Gone meanwhile counts as such. */
static bool entry_ours(const struct sweep *s, const struct history_head *head, uint64_t epoch,
                       bool *ours, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    struct epoch_decoded opening AUTO_EPOCH = {.memory = BUF_NONE};
    char key[KEY_MAX];

    *ours = true;
    key_epoch(key, s->config->vm, head->generation, epoch);
    if (!store_load(s->config->caches[0], key, EPOCH_BYTES_MAX, &stored, err))
        return err->kind == ERR_NOT_FOUND;
    if (epoch == 0) {
        /* No record holds its digest; it is ours when it opens this log. */
        *ours = epoch_decode(buf_span(&stored), s->config->keys, history_vault(s->history)->vm,
                             head->generation, 0, &opening, err) &&
                opening.entry.kind == EPOCH_OPEN;
        return true;
    }
    size_t index = history_index(s->history, head->generation, epoch);
    struct sha256 digest = sha256_of(buf_span(&stored));
    if (index == HISTORY_NONE) {
        *ours = false;
        return true;
    }
    *ours = history_entry_is(s->history, index, &digest);
    return true;
}

static void fork_report(struct sweep *s, uint64_t epoch)
{
    char text[PROCESSOR_HEALTH_MAX];
    snprintf(text, sizeof text,
             "fork at epoch %llu: the cache holds another entry than the one that was applied; it "
             "is kept and not applied",
             (unsigned long long)epoch);
    if (strcmp(text, s->fork) != 0)
        log_error("%s: %s", s->config->vm, text);
    memcpy(s->fork, text, sizeof text);
}

static int number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Entries that a list which lags does not show: from the newest that may go down to the first that
 * is not there. Left behind, they would stand before slots that are freed later, and whoever slept
 * since would find the entry that he knows, and a free slot behind it. */
static bool unlisted_add(const struct sweep *s, const struct history_head *head, struct numbers *n,
                         struct err *err)
{
    size_t shown = n->count;
    for (uint64_t e = head->epoch - 1; e-- > 0 && n->count < SWEEP_ENTRIES_MAX;) {
        char key[KEY_MAX];
        uint64_t bytes;
        while (shown > 0 && n->list[shown - 1] > e)
            shown--;
        if (shown > 0 && n->list[shown - 1] == e)
            continue;
        key_epoch(key, s->config->vm, head->generation, e);
        if (!store_size(s->config->caches[0], key, &bytes, err)) {
            if (err->kind != ERR_NOT_FOUND)
                return false;
            break;
        }
        if (!number_add(n, e))
            break;
    }
    if (n->count > 0)
        qsort(n->list, n->count, sizeof *n->list, number_order);
    return true;
}

/* Keeps in `ours` the entries that may go and in `forks` those that must stay. */
static bool entries_judge(struct sweep *s, const struct history_head *head, struct numbers *ours,
                          struct numbers *forks, struct err *err)
{
    char prefix[KEY_MAX];
    char generation[GENERATION_NAME_MAX];
    struct numbers there CLEANUP(numbers_release) = {.max = head->epoch};

    generation_name(head->generation, generation);
    there.prefix = (size_t)snprintf(prefix, sizeof prefix, "%s/%s/", s->config->vm, generation);
    if (!store_list(s->config->caches[0], prefix, NULL, entry_see, &there, err) ||
        (head->epoch >= 2 && !unlisted_add(s, head, &there, err)))
        return false;
    for (size_t i = 0; i < there.count && !there.short_of_memory; i++) {
        bool is_ours = false;
        if (!entry_ours(s, head, there.list[i], &is_ours, err))
            return false;
        if (!number_add(is_ours ? ours : forks, there.list[i]))
            break;
    }
    if (there.short_of_memory || ours->short_of_memory || forks->short_of_memory)
        return err_errno(err, ENOMEM, "sweeping the cache of %s", s->config->vm);
    s->due = there.count == SWEEP_ENTRIES_MAX;
    return true;
}

struct part_names {
    struct numbers epochs; /* only its prefix and bound are used */
    const struct numbers *forks;
    struct buf *keys; /* NUL-terminated, one behind the other */
    size_t count;
};

static bool part_see(void *context, const char *key, uint64_t bytes)
{
    struct part_names *n = context;
    uint64_t epoch = 0;
    (void)bytes;
    if (!number_parse(key + n->epochs.prefix, '-', &epoch))
        return true;
    if (epoch > n->epochs.max)
        return false;
    for (size_t i = 0; i < n->forks->count; i++)
        if (n->forks->list[i] == epoch)
            return true;
    buf_put(n->keys, key, strlen(key) + 1);
    return !n->keys->failed && ++n->count < SWEEP_PARTS_MAX;
}

/* All parts of epochs up to the head: applied, or of attempts that came to nothing. */
static bool parts_sweep(struct sweep *s, const struct history_head *head, size_t store,
                        const struct numbers *forks, struct err *err)
{
    char prefix[KEY_MAX];
    char generation[GENERATION_NAME_MAX];
    struct buf keys AUTO_BUF = BUF_NONE;
    struct part_names names = {.epochs = {.max = head->epoch}, .forks = forks, .keys = &keys};

    generation_name(head->generation, generation);
    names.epochs.prefix =
        (size_t)snprintf(prefix, sizeof prefix, "%s/%s/parts/", s->config->vm, generation);
    if (!store_list(s->config->caches[store], prefix, NULL, part_see, &names, err) ||
        !buf_ok(&keys, err))
        return false;
    s->due |= names.count == SWEEP_PARTS_MAX;
    for (size_t at = 0; at < keys.length; at += strlen((const char *)keys.data + at) + 1)
        if (!store_remove(s->config->caches[store], (const char *)keys.data + at, err))
            return false;
    return true;
}

bool sweep_listed(struct sweep *s, const struct history_head *head, struct err *err)
{
    struct numbers ours CLEANUP(numbers_release) = {.max = head->epoch};
    struct numbers forks CLEANUP(numbers_release) = {.max = head->epoch};

    if (!entries_judge(s, head, &ours, &forks, err))
        return false;
    for (size_t store = 0; store < s->config->store_count; store++)
        if (!parts_sweep(s, head, store, &forks, err))
            return false;
    for (size_t i = 0; i < ours.count; i++)
        if (ours.list[i] + 2 <= head->epoch && !entry_remove(s, head, ours.list[i], err))
            return false;
    s->generation = head->generation.id;
    s->oldest = head->epoch > 0 ? head->epoch - 1 : 0;
    s->fork[0] = forks.count > 0 ? s->fork[0] : '\0';
    if (forks.count > 0)
        fork_report(s, forks.list[0]);
    return true;
}
