/* SPDX-License-Identifier: MIT */
#include "fs/disk/gate.h"

#include <assert.h>

/* While a cut moves the count from `word` to `before`, writes leave `before` already: the bias
 * keeps it away from zero until the move is complete, so that no thread sees "drained" too early.
 */
#define CUT_BIAS (INT64_C(1) << 40)

static uint32_t epoch_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

static uint32_t writes_of(uint64_t word)
{
    return (uint32_t)word;
}

void gate_init(struct gate *g, uint32_t epoch)
{
    atomic_init(&g->word, (uint64_t)epoch << 32);
    atomic_init(&g->before, 0);
}

uint32_t gate_enter(struct gate *g)
{
    return epoch_of(atomic_fetch_add(&g->word, 1));
}

void gate_leave(struct gate *g, uint32_t epoch)
{
    uint64_t word = atomic_load(&g->word);

    while (epoch_of(word) == epoch) {
        assert(writes_of(word) > 0);
        if (atomic_compare_exchange_weak(&g->word, &word, word - 1))
            return;
    }
    assert(epoch_of(word) == epoch + 1);
    int64_t before = atomic_fetch_sub(&g->before, 1);
    assert(before > 0);
    (void)before;
}

uint32_t gate_epoch(const struct gate *g)
{
    return epoch_of(atomic_load(&g->word));
}

uint32_t gate_cut(struct gate *g)
{
    int64_t before = atomic_fetch_add(&g->before, CUT_BIAS);
    assert(before == 0);
    (void)before;

    uint64_t word = atomic_load(&g->word);
    uint64_t next;
    do {
        next = (uint64_t)(uint32_t)(epoch_of(word) + 1) << 32;
    } while (!atomic_compare_exchange_weak(&g->word, &word, next));
    atomic_fetch_add(&g->before, (int64_t)writes_of(word) - CUT_BIAS);
    return epoch_of(word);
}

bool gate_drained(const struct gate *g)
{
    return atomic_load(&g->before) == 0;
}
