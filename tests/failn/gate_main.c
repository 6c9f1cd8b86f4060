/* SPDX-License-Identifier: MIT
 * The gate in a file, from a script: failn_gate FILE COMMAND
 *   record           an empty gate that notes what comes by
 *   list             a line for each stack: HASH CLASS CALL
 *   once|ever HASH   that stack fails, from now on
 *   open             all passes
 *   failed           how many calls failed */
#include "tests/failn/failn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct failn_stack *find(const struct failn_gate *g, uint64_t hash)
{
    for (size_t i = 0; i < FAILN_STACKS_MAX; i++)
        if (g->stacks[i].hash == hash)
            return &g->stacks[i];
    return NULL;
}

static void list(const struct failn_gate *g)
{
    for (size_t i = 0; i < FAILN_STACKS_MAX; i++)
        if (g->stacks[i].hash)
            printf("%016llx %s %s\n", (unsigned long long)g->stacks[i].hash,
                   failn_class_names[g->stacks[i].kind], g->stacks[i].name);
}

static int fail_at(struct failn_gate *g, const char *hash, enum failn_mode mode)
{
    const struct failn_stack *s = find(g, strtoull(hash, NULL, 16));
    if (s == NULL)
        return 1;
    g->target = s->hash;
    g->kind = s->kind;
    atomic_store(&g->fired, false);
    atomic_store(&g->failed, 0);
    g->mode = mode;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 2;
    struct failn_gate *g = failn_gate_of(argv[1]);
    if (strcmp(argv[2], "record") == 0)
        *g = (struct failn_gate){.mode = FAILN_RECORD, .real_time = true};
    else if (strcmp(argv[2], "list") == 0)
        list(g);
    else if (strcmp(argv[2], "open") == 0)
        g->mode = FAILN_OPEN;
    else if (strcmp(argv[2], "failed") == 0)
        printf("%u\n", atomic_load(&g->failed));
    else if (argc == 4)
        return fail_at(g, argv[3], strcmp(argv[2], "once") == 0 ? FAILN_ONCE : FAILN_EVER);
    else
        return 2;
    return 0;
}
