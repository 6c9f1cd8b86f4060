/* SPDX-License-Identifier: MIT */
#include "tests/support/heap_peak.h"

#include <malloc.h>
#include <stdatomic.h>

/* The linker's names for the calls of this project and for the allocator's own. */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void __real_free(void *p);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *p, size_t bytes);
void __wrap_free(void *p);

static atomic_llong live, most;

static void count(long long bytes)
{
    long long now = atomic_fetch_add(&live, bytes) + bytes;
    if (now > atomic_load(&most))
        atomic_store(&most, now);
}

static long long size_of(void *p)
{
    return p != NULL ? (long long)malloc_usable_size(p) : 0;
}

void *__wrap_malloc(size_t bytes)
{
    void *p = __real_malloc(bytes);
    count(size_of(p));
    return p;
}

void *__wrap_calloc(size_t items, size_t bytes)
{
    void *p = __real_calloc(items, bytes);
    count(size_of(p));
    return p;
}

void *__wrap_realloc(void *p, size_t bytes)
{
    long long before = size_of(p);
    void *after = __real_realloc(p, bytes);
    if (after != NULL || bytes == 0)
        count(size_of(after) - before);
    return after;
}

void __wrap_free(void *p)
{
    count(-size_of(p));
    __real_free(p);
}

void heap_peak_begin(void)
{
    atomic_store(&live, 0);
    atomic_store(&most, 0);
}

size_t heap_peak(void)
{
    return (size_t)atomic_load(&most);
}
