/* SPDX-License-Identifier: MIT
 * What the tests' guest does with its disks, and how a host looks at them afterwards.
 *
 *   counter run PAUSE_MS MOST FILE...   counts on, from what the files hold: a record goes to the
 *       first file and is synced, then to the next; when all have it the guest says "GUEST ACK n"
 *       on its console, which is where a promise is kept or broken. First it says what it found:
 *       "GUEST WHOLE n boot=b", or "GUEST TORN FILE at n" and ends. MOST 0 is for ever.
 *   counter check FILE...               the number of whole records of each, on one line; exit 1
 *       when one is torn or they are no state that a running guest could have left.
 *
 * A record fills a sector and holds its number, so a file that lost one in the middle is found out
 * by what comes behind it. Files are disks, or files of a file system. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SECTOR    512u
#define BATCH     512u /* records read at once */
#define BEHIND    64u  /* records looked at behind the end */
#define FILES_MAX 16

static const char magic[8] = "FARCOUNT";

struct record {
    char magic[8];
    uint64_t number; /* from 1 */
    uint64_t boot;   /* from 1: how often somebody began to count */
    uint64_t time_ms;
    uint8_t filling[SECTOR - 40];
    uint64_t sum;
};

struct log {
    const char *path;
    int fd;
    uint64_t count; /* whole records from the start */
    uint64_t boot;  /* of the last one */
};

static uint64_t sum_of(const struct record *r)
{
    const uint8_t *p = (const uint8_t *)r;
    uint64_t a = 0x6a09e667f3bcc908ull, b = 0;
    for (size_t i = 0; i < sizeof *r - sizeof r->sum; i++) {
        a = (a + p[i]) * 0x9e3779b97f4a7c15ull;
        b ^= a >> 29;
    }
    return a ^ b;
}

static int whole(const struct record *r, uint64_t number)
{
    return memcmp(r->magic, magic, sizeof magic) == 0 && r->sum == sum_of(r) &&
           (number == 0 || r->number == number);
}

/* Counts the records of a file, and looks behind them for what must not be there. */
static int log_read(struct log *l)
{
    static struct record batch[BATCH];
    uint64_t behind = 0;
    for (uint64_t at = 0;;) {
        ssize_t n = pread(l->fd, batch, sizeof batch, (off_t)(at * SECTOR));
        if (n < 0) {
            printf("GUEST READ-ERROR %s: %s\n", l->path, strerror(errno));
            return 1;
        }
        size_t have = (size_t)n / SECTOR;
        for (size_t i = 0; i < have; i++, at++) {
            if (behind == 0 && whole(&batch[i], at + 1)) {
                l->count = at + 1;
                l->boot = batch[i].boot;
            } else if (++behind > BEHIND) {
                return 0;
            } else if (whole(&batch[i], 0)) {
                printf("GUEST TORN %s at %llu, there is %llu behind it\n", l->path,
                       (unsigned long long)l->count + 1, (unsigned long long)batch[i].number);
                return 1;
            }
        }
        if (have == 0)
            return 0;
    }
}

/* The first file is one record ahead of the last at most, never behind it. */
static int logs_read(struct log *logs, int count, int flags)
{
    for (int i = 0; i < count; i++) {
        logs[i].fd = open(logs[i].path, flags, 0644);
        if (logs[i].fd < 0) {
            printf("GUEST OPEN-ERROR %s: %s\n", logs[i].path, strerror(errno));
            return 1;
        }
        if (log_read(&logs[i]) != 0)
            return 1;
        if (i > 0 && logs[i].count > logs[i - 1].count) {
            printf("GUEST TORN %s has %llu, %s before it %llu\n", logs[i].path,
                   (unsigned long long)logs[i].count, logs[i - 1].path,
                   (unsigned long long)logs[i - 1].count);
            return 1;
        }
    }
    if (logs[0].count > logs[count - 1].count + 1) {
        printf("GUEST TORN %s is %llu records behind\n", logs[count - 1].path,
               (unsigned long long)(logs[0].count - logs[count - 1].count));
        return 1;
    }
    return 0;
}

static int put(const struct log *l, const struct record *r)
{
    if (pwrite(l->fd, r, sizeof *r, (off_t)((r->number - 1) * SECTOR)) == (ssize_t)sizeof *r &&
        fdatasync(l->fd) == 0)
        return 0;
    printf("GUEST WRITE-ERROR %s at %llu: %s\n", l->path, (unsigned long long)r->number,
           strerror(errno));
    return 1;
}

static int run(struct log *logs, int count, unsigned long pause_ms, uint64_t most)
{
    struct record r = {.number = 0};
    const struct timespec pause = {(time_t)(pause_ms / 1000), (long)(pause_ms % 1000) * 1000000L};
    if (logs_read(logs, count, O_RDWR | O_CREAT) != 0)
        return 1;
    uint64_t n = logs[count - 1].count; /* a record that not all have is written again */
    r.boot = logs[0].boot + 1;
    printf("GUEST WHOLE %llu boot=%llu\n", (unsigned long long)n, (unsigned long long)r.boot);
    while (most == 0 || n < most) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        memcpy(r.magic, magic, sizeof magic);
        r.number = ++n;
        r.time_ms = (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
        memset(r.filling, (int)(n & 0xff), sizeof r.filling);
        r.sum = sum_of(&r);
        for (int i = 0; i < count; i++)
            if (put(&logs[i], &r) != 0)
                return 1;
        printf("GUEST ACK %llu\n", (unsigned long long)n);
        if (pause_ms > 0)
            nanosleep(&pause, NULL);
    }
    printf("GUEST DONE %llu\n", (unsigned long long)n);
    return 0;
}

static int check(struct log *logs, int count)
{
    if (logs_read(logs, count, O_RDONLY) != 0)
        return 1;
    for (int i = 0; i < count; i++)
        printf("%s%llu", i > 0 ? " " : "", (unsigned long long)logs[i].count);
    printf("\n");
    return 0;
}

int main(int argc, char **argv)
{
    struct log logs[FILES_MAX] = {{.path = NULL}};
    int first = argc > 1 && strcmp(argv[1], "run") == 0 ? 4 : 2;
    int count = argc - first;

    _Static_assert(sizeof(struct record) == SECTOR, "a record is a sector");
    if (count < 1 || count > FILES_MAX || (first == 2 && strcmp(argv[1], "check") != 0)) {
        fprintf(stderr, "usage: counter run PAUSE_MS MOST FILE... | counter check FILE...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < count; i++)
        logs[i].path = argv[first + i];
    return first == 2 ? check(logs, count)
                      : run(logs, count, strtoul(argv[2], NULL, 10), strtoull(argv[3], NULL, 10));
}
