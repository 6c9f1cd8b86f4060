/* SPDX-License-Identifier: MIT
 * Does to a disk image all that a program may do to one, and the same to a model of it in an
 * ordinary file: writes of odd places and sizes, whole and torn over blocks, with and without
 * O_DIRECT and O_DSYNC, through a shared mapping, discards, zeroes, and two threads that write one
 * range at once (of which each byte must be one of the two's).
 *   exerciser run IMAGE MODEL SEED OPERATIONS   fails at the first read that differs from the model
 *   exerciser compare IMAGE MODEL               the bytes are equal, and where the model has a hole
 *                                               of a whole block, the image has one, too
 * The image's size is not changed; the model is made. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_BYTES 4096u
#define RANGE_MAX   (1u << 20)

struct run {
    const char *path;
    int fd, direct_fd, sync_fd, model;
    uint64_t size, random;
    uint8_t *data, *got; /* RANGE_MAX each, aligned to blocks */
};

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "exerciser: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void must(bool good, const char *what)
{
    if (!good)
        die(what);
}

static uint64_t below(struct run *r, uint64_t n)
{
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random % n;
}

static int open_or_die(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);
    must(fd >= 0, path);
    return fd;
}

static void put(int fd, const void *data, size_t length, uint64_t offset, const char *what)
{
    must(pwrite(fd, data, length, (off_t)offset) == (ssize_t)length, what);
}

static void get(int fd, void *out, size_t length, uint64_t offset, const char *what)
{
    must(pread(fd, out, length, (off_t)offset) == (ssize_t)length, what);
}

struct range {
    uint64_t offset, length;
};

/* Within the image, in units of `unit` bytes. Half of them in a corner that is written often. */
static struct range pick(struct run *r, uint64_t unit)
{
    static const uint64_t lengths[] = {600, 5000, 70000, RANGE_MAX};
    uint64_t units = (below(r, 2) == 0 ? r->size : r->size / 16) / unit;
    uint64_t most = lengths[below(r, 4)] / unit + 1;
    struct range g = {.offset = below(r, units)};
    g.length = 1 + below(r, most);
    if (g.length > units - g.offset)
        g.length = units - g.offset;
    if (g.length > RANGE_MAX / unit)
        g.length = RANGE_MAX / unit;
    return (struct range){g.offset * unit, g.length * unit};
}

static void fill(struct run *r, uint8_t *data, uint64_t length)
{
    uint64_t word = below(r, UINT64_MAX);
    for (uint64_t i = 0; i < length; i++)
        data[i] = (uint8_t)(word >> (8 * (i % 7)));
}

static void write_range(struct run *r, int fd, uint64_t unit)
{
    struct range g = pick(r, unit);
    fill(r, r->data, g.length);
    put(fd, r->data, g.length, g.offset, "write");
    put(r->model, r->data, g.length, g.offset, "write of the model");
}

static void write_mapped(struct run *r)
{
    struct range g = pick(r, BLOCK_BYTES);
    fill(r, r->data, g.length);
    uint8_t *map = mmap(NULL, g.length, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, (off_t)g.offset);
    must(map != MAP_FAILED, "mmap");
    memcpy(map, r->data, g.length);
    must(msync(map, g.length, MS_SYNC) == 0 && munmap(map, g.length) == 0, "msync");
    put(r->model, r->data, g.length, g.offset, "write of the model");
}

static void make_zero(struct run *r, int mode)
{
    struct range g = pick(r, below(r, 2) == 0 ? BLOCK_BYTES : 1);
    must(fallocate(r->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)g.offset, (off_t)g.length) == 0,
         "fallocate");
    must(fallocate(r->model, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)g.offset,
                   (off_t)g.length) == 0,
         "fallocate of the model");
}

struct writer {
    pthread_t thread;
    int fd;
    uint8_t byte;
    struct range range;
    bool good;
};

static void *write_all(void *argument)
{
    struct writer *w = argument;
    uint8_t *data = malloc(w->range.length);
    memset(data, w->byte, w->range.length);
    w->good =
        pwrite(w->fd, data, w->range.length, (off_t)w->range.offset) == (ssize_t)w->range.length;
    free(data);
    return NULL;
}

/* Two at once: of each block it is one of both; the model takes what came of it. */
static void race(struct run *r)
{
    struct writer w[2];
    struct range g = pick(r, BLOCK_BYTES);
    for (unsigned i = 0; i < 2; i++) {
        w[i] = (struct writer){.fd = r->fd, .byte = (uint8_t)(1 + below(r, 255)), .range = g};
        must(pthread_create(&w[i].thread, NULL, write_all, &w[i]) == 0, "pthread_create");
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(w[i].thread, NULL);
    must(w[0].good && w[1].good, "write beside another");
    get(r->fd, r->got, g.length, g.offset, "read after two writers");
    for (uint64_t i = 0; i < g.length; i++) {
        bool torn = r->got[i] != r->got[i - i % BLOCK_BYTES];
        if (torn || (r->got[i] != w[0].byte && r->got[i] != w[1].byte)) {
            fprintf(stderr, "exerciser: byte %" PRIu64 " is of neither writer's block\n",
                    g.offset + i);
            exit(1);
        }
    }
    put(r->model, r->got, g.length, g.offset, "write of the model");
}

static void check(struct run *r, int fd, struct range g)
{
    get(fd, r->got, g.length, g.offset, "read");
    get(r->model, r->data, g.length, g.offset, "read of the model");
    for (uint64_t i = 0; i < g.length; i++)
        if (r->got[i] != r->data[i]) {
            fprintf(stderr, "exerciser: byte %" PRIu64 " of %s differs from the model\n",
                    g.offset + i, r->path);
            exit(1);
        }
}

static void operate(struct run *r)
{
    switch (below(r, 12)) {
    case 0:
    case 1:
        write_range(r, r->fd, 1);
        break;
    case 2:
        write_range(r, r->direct_fd, 512);
        break;
    case 3:
        write_range(r, r->direct_fd, BLOCK_BYTES);
        break;
    case 4:
        write_range(r, r->sync_fd, 1);
        break;
    case 5:
        write_mapped(r);
        break;
    case 6:
        make_zero(r, FALLOC_FL_PUNCH_HOLE);
        break;
    case 7:
        make_zero(r, FALLOC_FL_ZERO_RANGE);
        break;
    case 8:
        race(r);
        break;
    case 9:
        must(fdatasync(r->fd) == 0, "fdatasync");
        break;
    case 10:
        check(r, r->direct_fd, pick(r, 512));
        break;
    default:
        check(r, r->fd, pick(r, 1));
        break;
    }
}

static uint8_t *blocks(size_t bytes)
{
    void *memory = NULL;
    must(posix_memalign(&memory, BLOCK_BYTES, bytes) == 0, "posix_memalign");
    return memory;
}

static void run(struct run *r, unsigned long operations)
{
    for (unsigned long i = 0; i < operations; i++)
        operate(r);
    must(fsync(r->fd) == 0, "fsync");
}

static bool is_hole(int fd, off_t block)
{
    off_t data = lseek(fd, block, SEEK_DATA);
    return data < 0 ? errno == ENXIO : data >= block + (off_t)BLOCK_BYTES;
}

/* Holes of the model are as long as its file system's blocks are. */
static void compare(struct run *r)
{
    for (uint64_t at = 0; at < r->size; at += RANGE_MAX) {
        uint64_t left = r->size - at;
        check(r, r->fd, (struct range){at, left < RANGE_MAX ? left : RANGE_MAX});
    }
    for (off_t at = 0;;) {
        off_t data = lseek(r->fd, at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        must(data >= 0, "SEEK_DATA");
        off_t end = lseek(r->fd, data, SEEK_HOLE);
        must(end > data, "SEEK_HOLE");
        for (off_t block = data / BLOCK_BYTES * BLOCK_BYTES; block < end; block += BLOCK_BYTES)
            if (is_hole(r->model, block)) {
                fprintf(stderr, "exerciser: block %" PRIu64 " of %s is no hole any more\n",
                        (uint64_t)block / BLOCK_BYTES, r->path);
                exit(1);
            }
        at = end;
    }
}

int main(int argc, char **argv)
{
    bool runs = argc == 6 && strcmp(argv[1], "run") == 0;
    if (!runs && !(argc == 4 && strcmp(argv[1], "compare") == 0)) {
        fprintf(stderr, "usage: exerciser run IMAGE MODEL SEED OPERATIONS | compare IMAGE MODEL\n");
        return 2;
    }
    struct run r = {.path = argv[2], .data = blocks(RANGE_MAX), .got = blocks(RANGE_MAX)};
    r.fd = open_or_die(argv[2], runs ? O_RDWR : O_RDONLY);
    off_t size = lseek(r.fd, 0, SEEK_END);
    must(size > 0, argv[2]);
    r.size = (uint64_t)size;
    r.model = open_or_die(argv[3], runs ? O_RDWR | O_CREAT : O_RDONLY);
    if (runs) {
        must(ftruncate(r.model, size) == 0, argv[3]);
        r.direct_fd = open_or_die(argv[2], O_RDWR | O_DIRECT);
        r.sync_fd = open_or_die(argv[2], O_RDWR | O_DSYNC);
        r.random = strtoull(argv[4], NULL, 10) * 0x9e3779b97f4a7c15u | 1;
        run(&r, strtoul(argv[5], NULL, 10));
    } else {
        compare(&r);
    }
    return 0;
}
