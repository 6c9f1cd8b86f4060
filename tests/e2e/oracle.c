/* SPDX-License-Identifier: MIT
 * The oracle: writes disks so that every block tells which write it shows, and later says whether
 * what a recovery point shows is a cut of those writes.
 *
 *   oracle write LOG SECONDS THREADS SEED IMAGE...   until the time is over, LOG.stop exists, or
 *                                                    a write or sync fails (exit code 1)
 *   oracle share LOG SECONDS THREADS SEED IMAGE...   the same, all threads on the same blocks, each
 *                                                    of which is read before it is written: one
 *                                                    that has become older fails as well
 *   oracle check LOG SINCE_MS IMAGE...               images in the same order; SINCE_MS: every
 *                                                    write acknowledged before that wall clock
 *                                                    time must be shown (0: no such claim);
 *                                                    of images that have grown since, and others
 *                                                    write to, ORACLE_BLOCKS are looked at
 *
 * A block holds (disk, block, number of the write, by which the log knows its thread) and bytes
 * that follow from them, so a torn or foreign block is told from an old one. Threads own disjoint
 * blocks, unless they share them: then writes to a block that were under way at the same time may
 * be shown in any order. Even threads write at random, odd ones in sequence, in 4 KiB steps and now
 * and then a slice at once, of 64 KiB, or 1 MiB when they share; every 64th write is followed by
 * fdatasync. The log says when each was issued and acknowledged. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK       4096u
#define IMAGES_MAX  8u
#define THREADS_MAX 32u
#define SLICE       16u  /* blocks */
#define SLICE_SHARE 256u /* the most that one request to the mount takes */
#define RECORDS_MAX (8u << 20)
#define MAGIC       0x66617273686f7265u /* "farshore" */

struct record {
    uint64_t issued_ns, acked_ns; /* CLOCK_MONOTONIC; acked 0: never */
    uint64_t acked_ms;            /* wall clock */
    uint64_t block;
    uint32_t disk;
    uint32_t number; /* index + 1 in the log */
};

struct stamp {
    uint64_t magic, disk, block, number, check;
};

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void fill(uint8_t *out, uint64_t disk, uint64_t block, uint64_t number)
{
    struct stamp s = {MAGIC, disk, block, number, mix(disk ^ mix(block ^ mix(number)))};
    memcpy(out, &s, sizeof s);
    uint64_t state = s.check;
    for (size_t at = sizeof s; at + 8 <= BLOCK; at += 8) {
        /* Half of a block compresses, half does not. */
        if (at % 16 == 0)
            state = mix(state);
        memcpy(out + at, &state, 8);
    }
}

static uint64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void die(const char *what, const char *path)
{
    fprintf(stderr, "oracle: %s %s: %s\n", what, path, strerror(errno));
    exit(1);
}

struct run {
    struct record *records;
    _Atomic uint32_t count;
    int fds[IMAGES_MAX];
    uint64_t blocks[IMAGES_MAX];
    unsigned images, threads;
    unsigned owners; /* threads, or 1 when they share all blocks */
    _Atomic bool failed;
    _Atomic uint64_t *newest[IMAGES_MAX]; /* by block: when the newest acknowledged was issued */
    uint64_t seed, end_ns;
    const char *log;
};

struct writer {
    struct run *run;
    unsigned index;
};

/* The run is over; what was acknowledged until then is in the log. */
static void fail(struct run *r, const char *what)
{
    fprintf(stderr, "oracle: %s: %s\n", what, strerror(errno));
    atomic_store(&r->failed, true);
}

static void note_acked(struct run *r, uint32_t disk, uint64_t block, uint64_t issued)
{
    uint64_t seen = atomic_load(&r->newest[disk][block]);
    while (seen < issued && !atomic_compare_exchange_weak(&r->newest[disk][block], &seen, issued))
        ;
}

/* The block must not show what was over before a write was issued that is acknowledged by now. */
static void read_at(struct run *r, uint32_t disk, uint64_t block, uint8_t *data)
{
    uint64_t newest = atomic_load(&r->newest[disk][block]);
    struct stamp s;
    if (pread(r->fds[disk], data, BLOCK, (off_t)(block * BLOCK)) != BLOCK) {
        fail(r, "a read failed");
        return;
    }
    memcpy(&s, data, sizeof s);
    uint64_t acked = 1;
    if (s.magic == MAGIC && s.number <= RECORDS_MAX)
        acked = __atomic_load_n(&r->records[s.number - 1].acked_ns, __ATOMIC_ACQUIRE);
    if (newest == 0 || acked == 0 || acked >= newest)
        return;
    printf("oracle: BAD disk %u block %llu has become older: it shows %llu\n", disk,
           (unsigned long long)block, (unsigned long long)s.number);
    errno = ESTALE;
    fail(r, "an old write over a newer one");
}

static void write_at(struct run *r, uint32_t disk, uint64_t block, unsigned count, uint8_t *data)
{
    uint32_t first = atomic_fetch_add(&r->count, count);
    if (first + count > RECORDS_MAX) {
        atomic_fetch_sub(&r->count, count);
        r->end_ns = 0;
        return;
    }
    uint64_t issued = now_ns(CLOCK_MONOTONIC);
    for (unsigned i = 0; i < count; i++) {
        fill(data + i * BLOCK, disk, block + i, first + i + 1);
        r->records[first + i] = (struct record){
            .issued_ns = issued, .block = block + i, .disk = disk, .number = first + i + 1};
    }
    ssize_t n = pwrite(r->fds[disk], data, count * BLOCK, (off_t)(block * BLOCK));
    if (n != (ssize_t)(count * BLOCK)) {
        fail(r, "a write failed");
        return;
    }
    uint64_t acked = now_ns(CLOCK_MONOTONIC);
    uint64_t acked_ms = now_ns(CLOCK_REALTIME) / 1000000;
    for (unsigned i = 0; i < count; i++) {
        __atomic_store_n(&r->records[first + i].acked_ns, acked, __ATOMIC_RELEASE);
        r->records[first + i].acked_ms = acked_ms;
        note_acked(r, disk, block + i, issued);
    }
}

static void *writer(void *context)
{
    struct writer *w = context;
    struct run *r = w->run;
    uint64_t state = mix(r->seed + w->index);
    uint64_t at = 0;
    uint8_t *data;
    char stop[4096];
    snprintf(stop, sizeof stop, "%s.stop", r->log);
    uint64_t slice_blocks = r->owners == 1 ? SLICE_SHARE : SLICE;
    if (posix_memalign((void **)&data, BLOCK, slice_blocks * BLOCK) != 0)
        exit(1);
    for (uint64_t i = 0; now_ns(CLOCK_MONOTONIC) < r->end_ns && !atomic_load(&r->failed); i++) {
        state = mix(state);
        uint32_t disk = (uint32_t)(state % r->images);
        /* A thread owns every OWNERS-th slice. */
        uint64_t slices = r->blocks[disk] / slice_blocks / r->owners;
        uint64_t slice = w->index % 2 == 0 ? (state >> 8) % slices : at++ / slice_blocks % slices;
        uint64_t block = (slice * r->owners + w->index % r->owners) * slice_blocks;
        bool whole = (state >> 60) == 0;
        block += whole ? 0 : (state >> 40) % slice_blocks;
        if (r->owners == 1)
            read_at(r, disk, block, data);
        write_at(r, disk, block, whole ? (unsigned)slice_blocks : 1, data);
        if (i % 64 == 63) {
            if (fdatasync(r->fds[disk]) != 0)
                fail(r, "fdatasync failed");
            if (access(stop, F_OK) == 0)
                break;
        }
        struct timespec pause = {.tv_nsec = 200000};
        nanosleep(&pause, NULL);
    }
    free(data);
    return NULL;
}

static int open_image(const char *path, int flags, uint64_t *blocks)
{
    struct stat st;
    int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        die("cannot open", path);
    *blocks = (uint64_t)st.st_size / BLOCK;
    return fd;
}

static int do_write(int argc, char **argv, bool share)
{
    static struct run r;
    pthread_t threads[THREADS_MAX];
    struct writer writers[THREADS_MAX];
    r.log = argv[0];
    r.threads = (unsigned)strtoul(argv[2], NULL, 10);
    r.owners = share ? 1 : r.threads;
    r.seed = strtoull(argv[3], NULL, 10);
    r.images = (unsigned)(argc - 4);
    r.records = calloc(RECORDS_MAX, sizeof *r.records);
    if (r.records == NULL || r.threads == 0 || r.threads > THREADS_MAX || r.images > IMAGES_MAX)
        return 2;
    for (unsigned i = 0; i < r.images; i++) {
        r.fds[i] = open_image(argv[4 + i], O_RDWR | O_DIRECT, &r.blocks[i]);
        r.newest[i] = calloc(r.blocks[i] + 1, sizeof *r.newest[i]);
        if (r.newest[i] == NULL)
            return 1;
    }
    r.end_ns = now_ns(CLOCK_MONOTONIC) + strtoull(argv[1], NULL, 10) * 1000000000u;
    for (unsigned i = 0; i < r.threads; i++) {
        writers[i] = (struct writer){&r, i};
        if (pthread_create(&threads[i], NULL, writer, &writers[i]) != 0)
            return 1;
    }
    for (unsigned i = 0; i < r.threads; i++)
        pthread_join(threads[i], NULL);
    FILE *f = fopen(r.log, "wb");
    uint32_t count = atomic_load(&r.count);
    if (f == NULL || fwrite(r.records, sizeof *r.records, count, f) != count || fclose(f) != 0)
        die("cannot write", r.log);
    printf("oracle: %u writes, seed %llu\n", count, (unsigned long long)r.seed);
    return atomic_load(&r.failed);
}

static struct record *load_log(const char *path, uint32_t *count)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    if (f == NULL || fstat(fileno(f), &st) != 0)
        die("cannot open", path);
    *count = (uint32_t)((size_t)st.st_size / sizeof(struct record));
    struct record *records = calloc(*count + 1, sizeof *records);
    if (records == NULL || fread(records, sizeof *records, *count, f) != *count)
        die("cannot read", path);
    fclose(f);
    return records;
}

/* Which write each block shows; false when one shows what was never written there. */
static bool read_shown(int fd, uint32_t disk, uint64_t blocks, const struct record *records,
                       uint32_t count, uint32_t *shown)
{
    static const uint8_t zero[BLOCK];
    uint8_t data[BLOCK], want[BLOCK];
    for (uint64_t b = 0; b < blocks; b++) {
        if (pread(fd, data, BLOCK, (off_t)(b * BLOCK)) != BLOCK)
            die("cannot read", "image");
        shown[b] = 0;
        if (memcmp(data, zero, BLOCK) == 0)
            continue;
        struct stamp s;
        memcpy(&s, data, sizeof s);
        bool ours = s.magic == MAGIC && s.disk == disk && s.block == b && s.number > 0 &&
                    s.number <= count && records[s.number - 1].disk == disk &&
                    records[s.number - 1].block == b;
        if (ours)
            fill(want, disk, b, s.number);
        if (!ours || memcmp(data, want, BLOCK) != 0) {
            printf("oracle: BAD disk %u block %llu shows what was never written there\n", disk,
                   (unsigned long long)b);
            return false;
        }
        shown[b] = (uint32_t)s.number;
    }
    return true;
}

/* Whether a block that shows write `number` is as if `w` had been done: it shows that one, or one
 * that was not over when `w` was issued. */
static bool contains(const struct record *records, uint32_t number, const struct record *w)
{
    if (number == 0 || number == w->number)
        return number == w->number;
    return records[number - 1].acked_ns == 0 || records[number - 1].acked_ns >= w->issued_ns;
}

static int do_check(int argc, char **argv)
{
    uint32_t count, images = (uint32_t)(argc - 2);
    struct record *records = load_log(argv[0], &count);
    uint64_t since_ms = strtoull(argv[1], NULL, 10);
    uint32_t *shown[IMAGES_MAX];
    uint64_t newest_issue = 0, contained = 0;
    const char *bound = getenv("ORACLE_BLOCKS");
    if (images > IMAGES_MAX)
        return 2;
    for (uint32_t i = 0; i < images; i++) {
        uint64_t blocks;
        int fd = open_image(argv[2 + i], O_RDONLY, &blocks);
        if (bound != NULL && strtoull(bound, NULL, 10) < blocks)
            blocks = strtoull(bound, NULL, 10);
        shown[i] = calloc(blocks + 1, sizeof **shown);
        if (shown[i] == NULL || !read_shown(fd, i, blocks, records, count, shown[i]))
            return 1;
        close(fd);
        for (uint64_t b = 0; b < blocks; b++)
            if (shown[i][b] != 0 && records[shown[i][b] - 1].issued_ns > newest_issue)
                newest_issue = records[shown[i][b] - 1].issued_ns;
    }
    /* With any write it shows every write acknowledged before that one was issued, and every write
     * acknowledged before the cut began. */
    for (uint32_t i = 0; i < count; i++) {
        const struct record *w = &records[i];
        bool is = contains(records, shown[w->disk][w->block], w);
        bool must = w->acked_ns != 0 &&
                    (w->acked_ns < newest_issue || (since_ms != 0 && w->acked_ms < since_ms));
        contained += is;
        if (must && !is) {
            printf("oracle: BAD write %u (disk %u block %llu) is missing; the block shows %u\n",
                   w->number, w->disk, (unsigned long long)w->block, shown[w->disk][w->block]);
            return 1;
        }
    }
    printf("oracle: good, %llu of %u writes\n", (unsigned long long)contained, count);
    for (uint32_t i = 0; i < images; i++)
        free(shown[i]);
    free(records);
    return 0;
}

int main(int argc, char **argv)
{
    bool share = argc >= 2 && strcmp(argv[1], "share") == 0;
    if (argc >= 7 && (share || strcmp(argv[1], "write") == 0))
        return do_write(argc - 2, argv + 2, share);
    if (argc >= 5 && strcmp(argv[1], "check") == 0)
        return do_check(argc - 2, argv + 2);
    fprintf(stderr, "usage: oracle write|share LOG SECONDS THREADS SEED IMAGE...\n"
                    "       oracle check LOG SINCE_MS IMAGE...\n");
    return 2;
}
