/* SPDX-License-Identifier: MIT
 * What a process of farshore may use, where a library leaves it to its caller. docs/LIMITS.md lists
 * these and all others, and what happens when one is reached. */
#ifndef TOOLS_LIMITS_H
#define TOOLS_LIMITS_H

/* The worker of a mount. More dirty data than the undo can keep ships as a pass. */
#define WORKER_UNDO_MEMORY_BYTES (16u << 20)
#define WORKER_UNDO_FILE_BYTES   (1ull << 30)
#define WORKER_UPLOADS           8u

/* A recovery mount's block cache, unless told less. */
#define RECOVERY_CACHE_BYTES (256ull << 20)
/* Of `verify`. */
#define VERIFY_CACHE_BYTES (64ull << 20)

#endif
