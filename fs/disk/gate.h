/* SPDX-License-Identifier: MIT
 * The gate that every write passes: it takes its epoch and counts in it in one atomic step. A cut
 * is one atomic increment of the epoch, for all disks of the VM; nobody waits for anybody. What was
 * acknowledged before another write was issued never has the later epoch.
 * The number here is the worker's own: the log's number is given when an entry is put. */
#ifndef FS_DISK_GATE_H
#define FS_DISK_GATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct gate {
    _Atomic uint64_t word;  /* epoch << 32 | writes of that epoch in flight */
    _Atomic int64_t before; /* writes of the epoch before still in flight */
};

/* `epoch`'s lowest bit selects the dirty map: start with the parity that the state word says. */
void gate_init(struct gate *g, uint32_t epoch);
/* The epoch that the caller's write belongs to. */
uint32_t gate_enter(struct gate *g);
void gate_leave(struct gate *g, uint32_t epoch);
uint32_t gate_epoch(const struct gate *g);
/* Closes the present epoch and returns its number. The epoch before it must have drained
 * (asserted): one frozen epoch at a time. */
uint32_t gate_cut(struct gate *g);
/* True when no write of the epoch before the present one is in flight. */
bool gate_drained(const struct gate *g);

#endif
