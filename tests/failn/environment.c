/* SPDX-License-Identifier: MIT
 * farshore behind a gate: with FAILN_GATE=FILE in the environment, calls of this process and of all
 * that it starts pass the gate in that file (failn_gate_main.c makes it), in real time. */
#include "tests/failn/failn.h"

#include <stdlib.h>

static __attribute__((constructor)) void take_gate(void)
{
    const char *path = getenv("FAILN_GATE");
    if (path == NULL)
        return;
    failn_use(failn_gate_of(path));
    failn_arm(0);
}
