/* SPDX-License-Identifier: MIT
 * Every call fails once. The program that links interpose.c has each allocation, each system call
 * (the libc calls that farshore makes of the kernel) and each call of a store pass a gate. A first
 * run notes the call stacks that come by; then there is one run for each of them, in which the
 * first call from that stack fails, alone (`once`) or with all calls of its class from then on
 * (`ever`).
 *
 * What is a call here:
 *   - malloc, calloc, realloc, aligned_alloc, posix_memalign, strdup, by whomever: allocations
 *     inside OpenSSL, zstd, cJSON, libxml2 and libc count as those of the place of ours that called
 *     the library. One without any frame of ours never fails alone, and what a sanitizer does as a
 *     thread begins and ends never at all.
 *   - the calls listed in tests/CMakeLists.txt, by farshore itself (-Wl,--wrap).
 *   - store_put, _get, _size, _list, _remove, _load, by whom they are called, wrappers of stores
 *     among them: the innermost call, which is tried again, and the outermost, which is not.
 *
 * A stack is the return addresses inside the program, or, `deep`, those inside libraries, too; two
 * runs of one program have the same.
 *
 * Time is the gate's: pauses take none. A wait with a deadline that nobody ends is over after
 * FAILN_PATIENCE_MS of real time, and the clocks jump to its deadline. One of FAILN_WATCH_MS and
 * more is no pause but a bound of what others do: they get FAILN_BOUND_MS.
 *
 * The gate is memory that forks share: a run is a child. */
#ifndef TESTS_FAILN_FAILN_H
#define TESTS_FAILN_FAILN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAILN_STACKS_MAX  16384u
#define FAILN_FRAMES_MAX  24u
#define FAILN_PATIENCE_MS 20u
#define FAILN_WATCH_MS    25000u
#define FAILN_BOUND_MS    5000u

enum failn_class { FAILN_ALLOC, FAILN_CALL, FAILN_STORE, FAILN_CLASSES };
extern const char *const failn_class_names[FAILN_CLASSES];

struct failn_stack {
    uint64_t hash; /* 0: a free place */
    enum failn_class kind;
    char name[16];                     /* of the call */
    uint32_t calls;                    /* in the run that noted it */
    uint32_t frames[FAILN_FRAMES_MAX]; /* offsets in the program, innermost first */
};

enum failn_mode { FAILN_RECORD, FAILN_ONCE, FAILN_EVER, FAILN_OPEN /* all passes */ };
extern const char *const failn_mode_names[];

struct failn_gate {
    enum failn_mode mode;
    bool deep;
    bool real_time;             /* the clocks are the host's, and pauses are paused */
    uint64_t target;            /* hash of the stack that fails */
    enum failn_class kind;      /* its class */
    _Atomic bool fired;         /* it failed */
    _Atomic uint32_t failed;    /* calls that failed */
    _Atomic uint32_t lock;      /* of the table */
    bool overflow;              /* a stack more than the table has room for */
    _Atomic uint64_t passed_ns; /* by which the clocks are ahead of the host's */
    struct failn_stack stacks[FAILN_STACKS_MAX];
};

/* Memory that forks share, zeroed; aborts when there is none. */
void *failn_shared(size_t bytes);

/* The same in a file, which other programs share, too. */
struct failn_gate *failn_gate_of(const char *path);

/* The gate of this process and of its forks, with its time; once. */
void failn_use(struct failn_gate *gate);
void failn_pass_ms(uint64_t ms);

/* From here to failn_disarm all calls pass the gate; before and after it is open. Stacks begin
 * below the function that starts at `root`. */
void failn_arm(uintptr_t root);
void failn_disarm(void);

#endif
