/* SPDX-License-Identifier: MIT
 * The beginning of a VM's vault and of its first generation. Each step is create-if-absent and
 * looks at what it finds, so that a repeat goes on where the last one stopped. */
#include "backend/history/begin_internal.h"
#include "backend/history/logs.h"
#include "backend/history/processor.h"

struct beginning {
    struct world *world;
    struct store *target;
    struct store *cache;
    const struct vault *vault;
    struct generation generation;
    const struct keys *keys;
};

#define VAULT_BYTES_MAX (1u << 20)

static bool salt_for(const struct beginning *b, uint64_t epoch, uint64_t attempt,
                     struct seal_salt *salt, struct err *err)
{
    struct sha256 content = sha256_of(span_of(b->vault->vm, VM_ID_BYTES));
    return salt_make(b->keys, SEAL_HISTORY, b->world, b->generation.id, epoch, attempt, &content,
                     salt, err);
}

static bool enabled_already(const struct beginning *b, struct err *err)
{
    return err_set(err, ERR_EXISTS,
                   "%s is enabled already in %s; join that vault, or disable with --purge first",
                   b->vault->name, b->target->url);
}

/* The salt of a vault differs from call to call: the same salt for both makes bytes comparable. */
static bool vault_same(const struct beginning *b, const struct vault *found, bool *same,
                       struct err *err)
{
    struct seal_salt salt = {{0}};
    struct buf ours AUTO_BUF = BUF_NONE;
    struct buf theirs AUTO_BUF = BUF_NONE;

    if (!salt_for(b, 0, 0, &salt, err) || !vault_encode(b->vault, b->keys, &salt, &ours, err) ||
        !vault_encode(found, b->keys, &salt, &theirs, err))
        return false;
    *same = span_equal(buf_span(&ours), buf_span(&theirs));
    return true;
}

static bool vault_begin(const struct beginning *b, struct err *err)
{
    struct seal_salt salt = {{0}};
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct vault found;
    char key[KEY_MAX];
    bool same = false;

    key_vault(key, b->vault->name);
    if (!salt_for(b, 0, 0, &salt, err) || !vault_encode(b->vault, b->keys, &salt, &bytes, err))
        return false;
    if (store_put(b->target, key, buf_span(&bytes), err))
        return true;
    if (err->kind != ERR_EXISTS)
        return false;
    if (!store_load(b->target, key, VAULT_BYTES_MAX, &bytes, err))
        return false;
    if (!vault_decode(buf_span(&bytes), b->keys, &found, err))
        return err->kind == ERR_WRONG_KEY ? enabled_already(b, err) : false;
    if (!vault_same(b, &found, &same, err))
        return false;
    return same || enabled_already(b, err);
}

/* True when slot `n` now holds our bytes or another's, which is then in `found`. */
static bool slot_filled(enum numlog_result result, const char *what, struct err *err)
{
    switch (result) {
    case NUMLOG_DONE:
    case NUMLOG_TAKEN:
        return true;
    case NUMLOG_OVERTAKEN:
        return err_set(err, ERR_EXISTS, "%s: somebody else began this history meanwhile", what);
    default:
        return err_wrap(err, "%s", what);
    }
}

/* Puts record r->number, or takes what lies there; *digest is that of the stored one and `*r`
 * what it says. */
static bool record_begin(const struct beginning *b, struct record *r, struct sha256 *digest,
                         struct err *err)
{
    struct record_log records;
    struct seal_salt salt = {{0}};
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct buf found AUTO_BUF = BUF_NONE;

    record_log_init(&records, b->target, b->vault->name);
    if (!salt_for(b, 0, r->number, &salt, err) || !record_encode(r, b->keys, &salt, &bytes, err))
        return false;
    const struct sha256 *previous = r->number > 0 ? &r->previous : NULL;
    enum numlog_result result =
        numlog_put(&records.log, r->number, buf_span(&bytes), previous, &found, err);
    if (!slot_filled(result, "history record", err))
        return false;
    struct span stored = buf_span(result == NUMLOG_TAKEN ? &found : &bytes);
    *digest = sha256_of(stored);
    return record_decode(stored, b->keys, b->vault->vm, r->number, r, err);
}

static struct record record_of(const struct beginning *b, enum record_kind kind, uint64_t number)
{
    struct record r = {
        .kind = kind,
        .number = number,
        .written_ms = b->world->ops->realtime_ns(b->world) / 1000000,
        .generation = b->generation,
        .disk_count = b->vault->disk_count,
    };
    memcpy(r.vm, b->vault->vm, VM_ID_BYTES);
    memcpy(r.disks, b->vault->disks, sizeof r.disks);
    return r;
}

bool log_open_put(const struct log_opening *o, struct err *err)
{
    struct epoch_log epochs;
    struct seal_salt salt = {{0}};
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct buf found AUTO_BUF = BUF_NONE;
    struct epoch_decoded there AUTO_EPOCH = {.memory = BUF_NONE};
    struct sha256 content = sha256_of(span_of(o->vm_id, VM_ID_BYTES));
    struct epoch_entry e = {
        .kind = EPOCH_OPEN,
        .generation = o->generation,
        .clock_ms = o->world->ops->realtime_ns(o->world) / 1000000,
        .disk_count = o->disk_count,
    };

    memcpy(e.vm, o->vm_id, VM_ID_BYTES);
    memcpy(e.disks, o->disks, o->disk_count * sizeof *o->disks);
    epoch_log_init(&epochs, o->cache, o->vm, o->generation);
    if (!salt_make(o->keys, SEAL_HISTORY, o->world, o->generation.id, 0, 0, &content, &salt, err) ||
        !epoch_encode(&e, o->keys, &salt, &bytes, err))
        return false;
    enum numlog_result result = numlog_put(&epochs.log, 0, buf_span(&bytes), NULL, &found, err);
    if (!slot_filled(result, "entry 0 of the generation", err))
        return false;
    struct span stored = buf_span(result == NUMLOG_TAKEN ? &found : &bytes);
    if (!epoch_decode(stored, o->keys, o->vm_id, o->generation, 0, &there, err))
        return false;
    if (there.entry.kind != EPOCH_OPEN)
        return err_set(err, ERR_CORRUPT, "entry 0 of the generation does not open a log");
    return true;
}

static bool entry0_begin(const struct beginning *b, struct err *err)
{
    struct log_opening o = {.world = b->world,
                            .cache = b->cache,
                            .vm = b->vault->name,
                            .vm_id = b->vault->vm,
                            .generation = b->generation,
                            .keys = b->keys,
                            .disks = b->vault->disks,
                            .disk_count = b->vault->disk_count};
    return log_open_put(&o, err);
}

/* Whether record 1 is there already; ERR_EXISTS when it names another generation. A repeat long
 * after success must not look at entry 0: it was removed when epochs were applied, and a removed
 * slot is a free slot. */
static bool begun_already(const struct beginning *b, const struct sha256 *record0, bool *begun,
                          struct err *err)
{
    struct record_log records;
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct record r CLEANUP(record_release) = {.epochs = NULL};

    record_log_init(&records, b->target, b->vault->name);
    enum numlog_result result = numlog_read(&records.log, 1, record0, &bytes, err);
    *begun = result == NUMLOG_DONE;
    if (result == NUMLOG_ABSENT)
        return true;
    if (result != NUMLOG_DONE)
        return err_wrap(err, "history record 1");
    if (!record_decode(buf_span(&bytes), b->keys, b->vault->vm, 1, &r, err))
        return false;
    if (r.kind == RECORD_GENERATION && r.generation.id == b->generation.id &&
        r.generation.number == b->generation.number)
        return true;
    return enabled_already(b, err);
}

bool history_begin(struct world *w, struct store *target, struct store *cache,
                   const struct vault *vault, struct generation generation, const struct keys *keys,
                   struct err *err)
{
    struct err unused;
    struct beginning b = {.world = w,
                          .target = target,
                          .cache = cache,
                          .vault = vault,
                          .generation = generation,
                          .keys = keys};
    struct record opening CLEANUP(record_release) = record_of(&b, RECORD_OPEN, 0);
    struct record naming CLEANUP(record_release) = record_of(&b, RECORD_GENERATION, 1);
    bool begun = false;

    if (!err)
        err = &unused;
    if (!vault_begin(&b, err) || !record_begin(&b, &opening, &naming.previous, err) ||
        !begun_already(&b, &naming.previous, &begun, err))
        return false;
    if (begun)
        return true;
    struct sha256 digest;
    if (!entry0_begin(&b, err) || !record_begin(&b, &naming, &digest, err))
        return false;
    if (naming.kind != RECORD_GENERATION || naming.generation.id != generation.id)
        return enabled_already(&b, err);
    return true;
}

bool history_entry0(struct store *cache, const char *vm, const uint8_t vm_id[VM_ID_BYTES],
                    struct generation generation, const struct keys *keys, struct sha256 *digest,
                    struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct epoch_decoded entry AUTO_EPOCH = {.memory = BUF_NONE};
    char key[KEY_MAX];

    key_epoch(key, vm, generation, 0);
    if (!store_load(cache, key, EPOCH_BYTES_MAX, &bytes, err) ||
        !epoch_decode(buf_span(&bytes), keys, vm_id, generation, 0, &entry, err))
        return false;
    if (entry.entry.kind != EPOCH_OPEN)
        return err_set(err, ERR_CORRUPT, "%s does not open a log", key);
    *digest = entry.digest;
    return true;
}
