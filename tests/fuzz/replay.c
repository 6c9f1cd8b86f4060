/* SPDX-License-Identifier: MIT
 * Runs a fuzz target over every file of a corpus folder, for builds without libFuzzer. */
#include <dirent.h>

#include "common/file.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_BYTES_MAX (1u << 20)

static bool replay_file(const char *path, struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    if (!file_load(world_real(), path, INPUT_BYTES_MAX, &bytes, err))
        return false;
    /* A block of its own: a sanitizer sees a read past the end. */
    uint8_t *copy AUTO_FREE = malloc(bytes.length + (bytes.length == 0));
    if (copy == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    if (bytes.length > 0)
        memcpy(copy, bytes.data, bytes.length);
    LLVMFuzzerTestOneInput(copy, bytes.length);
    return true;
}

int main(int argc, char **argv)
{
    struct err err = ERR_NONE;
    unsigned count = 0;
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (folder == NULL) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER (it must exist)\n", argv[0]);
        return 2;
    }
    for (struct dirent *d; (d = readdir(folder)) != NULL;) {
        char path[4096];
        if (d->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], d->d_name);
        if (!replay_file(path, &err)) {
            fprintf(stderr, "%s\n", err.text);
            closedir(folder);
            return 1;
        }
        count++;
    }
    closedir(folder);
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1;
}
