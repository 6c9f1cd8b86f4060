/* SPDX-License-Identifier: MIT
 * Byte 0: which file of the tools the rest is: 0 the run of a plan, 1 what the last validation
 * found, else the table of mounts. */
#include "common/file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/fake_world.h"
#include "tools/failover/plan_run.h"
#include "tools/failover/plan_run_internal.h"
#include "tools/failover/validate.h"
#include "tools/mounts.h"

static const struct paths paths = {.config = "/c", .state = "/s", .run = "/r"};

static void put_file(struct world *w, const char *path, struct span bytes)
{
    struct err err = ERR_NONE;
    char folder[PATH_BYTES_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    FUZZ_CHECK(dir_make(w, folder, 0700, &err) && file_replace(w, path, 0600, bytes, &err));
}

/* What is taken is written and read again as the same. */
static void read_run(struct world *w, struct span bytes)
{
    const struct plan_runner x = {.world = w, .paths = &paths};
    struct plan_run *r AUTO_PLAN_RUN = NULL, *again AUTO_PLAN_RUN = NULL;
    struct buf once AUTO_BUF = BUF_NONE, twice AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    char path[PATH_BYTES_MAX];
    plan_run_path(&paths, "all", "json", path);
    put_file(w, path, bytes);
    if (!plan_run_load(&x, "all", &r, &err)) {
        fuzz_check_refusal(&err);
        return;
    }
    FUZZ_CHECK(r->row_count <= PLAN_ROWS_MAX && memchr(r->point, 0, sizeof r->point) != NULL);
    FUZZ_CHECK(plan_run_save(&x, r, &err) && file_load(w, path, 1u << 22, &once, &err));
    FUZZ_CHECK(plan_run_load(&x, "all", &again, &err) && plan_run_save(&x, again, &err) &&
               file_load(w, path, 1u << 22, &twice, &err));
    FUZZ_CHECK(span_equal(buf_span(&once), buf_span(&twice)));
}

static void read_validated(struct world *w, struct span bytes)
{
    const struct verb_call call = {.world = w, .paths = &paths};
    struct validated v = {.ms = 1};
    char path[PATH_BYTES_MAX], state[PATH_BYTES_MAX];
    path_state(&paths, "web", state);
    snprintf(path, sizeof path, "%.1000s/validated.json", state);
    put_file(w, path, bytes);
    validated_read(&call, "web", &v);
    if (validated_lately(&call, "web"))
        FUZZ_CHECK(v.ms != 0 && v.errors == 0);
}

static void read_mounts(struct span table)
{
    static const char *const points[] = {"/mnt", "/", "/a b", ""};
    struct mount_entry e;
    const char *vm;
    for (size_t i = 0; i < 4; i++)
        if (mount_find_in(table, points[i], &e)) {
            FUZZ_CHECK(strcmp(e.point, points[i]) == 0);
            FUZZ_CHECK(memchr(e.type, 0, sizeof e.type) && memchr(e.source, 0, sizeof e.source));
            if (mount_is_ours(&e, &vm))
                FUZZ_CHECK(vm[0] == '\0' || strstr(e.source, vm) != NULL);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] > 1) {
        read_mounts(rest);
        return 0;
    }
    struct world *w = fake_world_make(1);
    (data[0] == 0 ? read_run : read_validated)(w, rest);
    fake_world_release(&w);
    return 0;
}
