/* SPDX-License-Identifier: MIT
 * A claim and nothing else, for tests of what others make of it:
 *
 *   claim VM TARGET CACHE KEY_FILE POINT LABEL   goes on from POINT in a new generation, whose name
 *                                                is printed; CACHE `-`: out of reach */
#include "backend/history/claim.h"

#include <stdio.h>
#include <stdlib.h>

static bool open_store(const char *url, struct store **out, struct err *err)
{
    struct store_host host = {.world = world_real(), .env = getenv};
    return strcmp(url, "-") == 0 || store_open(&host, url, false, out, err);
}

static bool go_on(char **argv, struct err *err)
{
    struct store *target = NULL, *cache = NULL;
    struct keys *keys = NULL;
    struct history *h = NULL;
    struct history_point p;
    struct claim claim = {.parent_epoch = 0};
    struct claim_result result = {.fence_pending = false};
    char name[GENERATION_NAME_MAX];
    if (!open_store(argv[2], &target, err) || !open_store(argv[3], &cache, err) ||
        !keys_file_load(world_real(), argv[4], &keys, err) ||
        !history_open(world_real(), target, argv[1], keys, &h, err) ||
        !history_resolve(h, argv[5], &p, err) || !claim_generation(h, &claim.generation, err))
        return false;
    claim.ends = history_head(h).generation;
    claim.parent = p.generation;
    claim.parent_epoch = p.epoch;
    struct claim_config config = {.world = world_real(),
                                  .target = target,
                                  .cache = cache,
                                  .vm = argv[1],
                                  .keys = keys,
                                  .label = argv[6]};
    if (!history_begin_generation(&config, &claim, &result, err))
        return false;
    generation_name(claim.generation, name);
    printf("%s %s tail %llu/%llu\n", name, result.fence_pending ? "pending" : "fenced",
           (unsigned long long)result.tail_epochs, (unsigned long long)result.tail_points);
    history_close(&h);
    keys_release(&keys);
    store_close(&target);
    store_close(&cache);
    return true;
}

int main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    if (argc != 7) {
        fprintf(stderr, "usage: claim VM TARGET CACHE KEY_FILE POINT LABEL\n");
        return 2;
    }
    if (go_on(argv, &err))
        return 0;
    fprintf(stderr, "claim: %s\n", err.text);
    return 1;
}
