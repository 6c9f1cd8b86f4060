/* SPDX-License-Identifier: MIT
 * The epoch entry (end object): the log entry in the cache store that makes an epoch visible.
 * Head, chain, recovery point, disks, parts and the encoded run; a small epoch carries its only
 * part inside, so that it is one PUT. Everything but the inline part's frames is authenticated
 * with the history key. docs/FORMAT.md has the bytes; golden ones are in the tests.
 * Entry 0 opens the log (kind EPOCH_OPEN), and a fence entry closes it (EPOCH_FENCE). */
#ifndef BACKEND_HISTORY_EPOCH_H
#define BACKEND_HISTORY_EPOCH_H

#include "backend/history/generation.h"
#include "backend/history/run.h"

enum epoch_kind {
    EPOCH_OPEN = 1,  /* entry 0 */
    EPOCH_CUT,       /* a recovery point */
    EPOCH_PASS,      /* committed data without a point (initial replication, catching up) */
    EPOCH_HEARTBEAT, /* no data: the last point still holds at `point_ms` */
    EPOCH_FENCE,     /* written by who claimed the VM: nothing may follow */
};

enum point_kind { POINT_CRASH = 1, POINT_APPLICATION };

#define EPOCH_PARTS_MAX    4096u
#define EPOCH_PART_BYTES   (8u << 20)  /* parts close at about this size */
#define EPOCH_INLINE_BYTES (1u << 20)  /* frames up to this ride in the entry itself */
#define EPOCH_BYTES_MAX    (48u << 20) /* of a whole entry */
#define POINT_LABEL_MAX    128u
#define DISK_NAME_MAX      31u

/* Label of the passes of a seed (fs/disk/seed.h): tells them from a source's. */
#define EPOCH_SEED_LABEL "seed"

/* Well-formed UTF-8 without control characters. */
bool label_valid(const char *label);

struct epoch_disk {
    char name[DISK_NAME_MAX + 1];
    uint16_t disk;  /* number in runs and frames, constant for the disk's life */
    uint16_t store; /* 0 = the VM's cache and target stores, else index in the settings */
    uint64_t size_bytes;
};

struct epoch_part {
    uint64_t bytes;
    struct sha256 digest;
    uint16_t store; /* as epoch_disk.store */
};

/* Plain values; `parts` and `run` are borrowed from whoever built or decoded it. The run's segment
 * table names `part-0`, `part-1` ... in the order of `parts`. */
struct epoch_entry {
    enum epoch_kind kind;
    uint8_t vm[VM_ID_BYTES];
    struct generation generation;
    uint64_t epoch;
    uint64_t attempt;       /* random, part of the names of its parts */
    struct sha256 previous; /* SHA-256 of entry epoch - 1 as stored; zero in entry 0 */
    uint64_t point_ms;      /* EPOCH_CUT: the id; HEARTBEAT: until when the last point holds */
    uint64_t clock_ms;      /* the raw reading */
    enum point_kind point_kind;
    char label[POINT_LABEL_MAX + 1];
    uint8_t cut_id[16]; /* shared by a group's VMs; zero otherwise */
    uint16_t disk_count;
    struct epoch_disk disks[VM_DISKS_MAX];
    uint32_t part_count;
    const struct epoch_part *parts;
    bool has_inline; /* the only part is in the entry, behind the sealed head */
    struct span inline_part;
    struct span run; /* encoded; empty for kinds without data */
};

/* Appends the stored bytes. `salt` is fresh for this attempt. */
bool epoch_encode(const struct epoch_entry *e, const struct keys *keys,
                  const struct seal_salt *salt, struct buf *out, struct err *err) MUST_CHECK;

/* A decoded entry and the memory that it borrows from. */
struct epoch_decoded {
    struct epoch_entry entry;
    struct sha256 digest; /* of `stored`: what the next entry carries */
    struct buf memory;
};

/* `stored` may go away afterwards. ERR_WRONG_KEY: the key id differs; ERR_CORRUPT: anything else.
 * The caller compares vm, generation and epoch with the name it asked for: epoch_decode does it
 * for you from `vm`, `g`, `epoch`. */
bool epoch_decode(struct span stored, const struct keys *keys, const uint8_t vm[VM_ID_BYTES],
                  struct generation g, uint64_t epoch, struct epoch_decoded *out,
                  struct err *err) MUST_CHECK;
void epoch_decoded_release(struct epoch_decoded *d);
#define AUTO_EPOCH CLEANUP(epoch_decoded_release)

#endif
