/* SPDX-License-Identifier: MIT
 * Damaged and hostile stores (cases 9 and 22): every object that history reads is damaged at every
 * byte, and replaced by what an attacker has, who sees and changes all in both stores but lacks the
 * key. Each is refused by its own error, nothing is applied or listed, and memory stays bounded. */
#include "backend/history/codec_internal.h"
#include "backend/history/doclog.h"
#include "backend/history/pin.h"
#include "backend/history/progress.h"
#include "tests/support/check.h"
#include "tests/support/heap_peak.h"
#include "tests/support/made_vm.h"

#include <stdio.h>
#include <zstd.h>

#define GENERATION "vm1/g0001-0123456789abcdef/"
#define BLOCKS     64u

/* Ours, and another VM of the same name and key with stores of its own. */
struct fixture {
    struct made_vm ours, others;
    struct doclog_vault documents;
};

/* As made_vm_init, of another id. */
static void others_init(struct made_vm *vm)
{
    struct epoch_maker *m = &vm->maker;
    struct err err = ERR_NONE;
    made_vm_init(vm, 2, BLOCKS);
    store_close(&vm->cache);
    store_close(&vm->target);
    memory_bucket_release(&vm->cache_bucket);
    memory_bucket_release(&vm->target_bucket);
    vm->cache_bucket = memory_bucket_make();
    vm->target_bucket = memory_bucket_make();
    vm->cache = memory_store_open(vm->cache_bucket);
    vm->target = memory_store_open(vm->target_bucket);
    for (size_t i = 0; i <= VM_DISKS_MAX; i++)
        m->caches[i] = vm->cache;
    memset(m->vault.vm, 0x77, VM_ID_BYTES);
    check_ok(
        history_begin(vm->world, vm->target, vm->cache, &m->vault, m->generation, m->keys, &err),
        err);
    check_ok(
        history_entry0(vm->cache, MADE_VM, m->vault.vm, m->generation, m->keys, &m->previous, &err),
        err);
}

static struct doclog_vault documents_of(struct made_vm *vm)
{
    return (struct doclog_vault){.world = vm->world,
                                 .target = vm->target,
                                 .keys = vm->maker.keys,
                                 .vm = MADE_VM,
                                 .id = vm->maker.vault.vm};
}

static void append_document(struct made_vm *vm, const char *log, const char *text)
{
    struct doclog_vault vault = documents_of(vm);
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct doclog l;
    doclog_begin(&l, &vault, log);
    if (!doclog_newest(&l, &out, &err))
        assert_int_equal(err.kind, ERR_NOT_FOUND);
    check_ok(doclog_append(&l, span_of_text(text), &err), err);
}

static void put_pin(struct made_vm *vm, const char *name)
{
    struct err err = ERR_NONE;
    struct pin pin = {.kind = PIN_HOLD, .generation = vm->maker.generation, .epoch = 1};
    memcpy(pin.vm, vm->maker.vault.vm, VM_ID_BYTES);
    snprintf(pin.name, sizeof pin.name, "%s", name);
    check_ok(pin_put(vm->world, vm->target, MADE_VM, vm->maker.keys, &pin, &err), err);
}

/* Two epochs in the history, each with a record of its own; two that wait, one of them in parts. */
static void fill(struct made_vm *vm, uint32_t first)
{
    for (uint32_t i = 0; i < 2; i++) {
        epoch_maker_fill(&vm->maker, 0, i, first + i);
        epoch_maker_fill(&vm->maker, 1, i, first + 10 + i);
        epoch_maker_cut(&vm->maker);
        made_vm_apply(vm);
    }
    epoch_maker_fill(&vm->maker, 0, 3, first + 20);
    epoch_maker_cut(&vm->maker);
    vm->maker.inline_max = 0;
    epoch_maker_fill(&vm->maker, 0, 4, first + 30);
    epoch_maker_cut(&vm->maker);
    for (int i = 0; i < 3; i++)
        append_document(vm, "failover", i % 2 ? "{\"state\":1}" : "{\"state\":0}");
    append_document(vm, "other", "{\"state\":2}");
    put_pin(vm, "hold-a");
    put_pin(vm, "hold-b");
}

static int set_up(void **state)
{
    static struct fixture f;
    made_vm_init(&f.ours, 2, BLOCKS);
    others_init(&f.others);
    fill(&f.ours, 1);
    fill(&f.others, 101);
    f.documents = documents_of(&f.ours);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    made_vm_release(&f->ours);
    made_vm_release(&f->others);
    return 0;
}

/* --- who reads: each call is a process that was just started --- */

static bool read_history(struct fixture *f, struct err *err)
{
    struct history *h = NULL;
    bool good = history_open(f->ours.world, f->ours.target, MADE_VM, f->ours.maker.keys, &h, err) &&
                history_remember(h, f->ours.maker.vault.vm, NULL, err);
    history_close(&h);
    return good;
}

static struct processor *open_processor(struct fixture *f, struct store **cache,
                                        struct store **target, struct err *err)
{
    struct processor *p = NULL;
    struct processor_config config = {.world = f->ours.world,
                                      .vm = MADE_VM,
                                      .keys = f->ours.maker.keys,
                                      .targets = target,
                                      .caches = cache,
                                      .store_count = 1,
                                      .id = f->ours.maker.vault.vm};
    return processor_open(&config, &p, err) ? p : NULL;
}

/* Until nothing waits, or it fails. */
static bool process_with(struct fixture *f, struct store **cache, struct store **target,
                         struct err *err)
{
    struct processor *p = open_processor(f, cache, target, err);
    enum processor_result r = p != NULL ? PROCESSOR_APPLIED : PROCESSOR_FAILED;
    for (int i = 0; i < 20 && r != PROCESSOR_IDLE && r != PROCESSOR_FAILED; i++)
        r = processor_step(p, err);
    processor_close(&p);
    assert_true(r == PROCESSOR_IDLE || r == PROCESSOR_FAILED);
    return r == PROCESSOR_IDLE;
}

static bool process(struct fixture *f, struct err *err)
{
    return process_with(f, &f->ours.cache, &f->ours.target, err);
}

static bool see_pin(void *context, const struct pin *pin)
{
    (void)pin;
    ++*(unsigned *)context;
    return true;
}

static bool read_pins(struct fixture *f, struct err *err)
{
    unsigned count = 0;
    return pin_list(f->ours.target, MADE_VM, f->ours.maker.vault.vm, f->ours.maker.keys, see_pin,
                    &count, err);
}

static bool read_document(struct fixture *f, struct err *err)
{
    struct buf out AUTO_BUF = BUF_NONE;
    struct doclog l;
    doclog_begin(&l, &f->documents, "failover");
    return doclog_newest(&l, &out, err);
}

static bool read_progress(struct fixture *f, struct err *err)
{
    struct processor_progress p;
    return progress_read(f->ours.cache, MADE_VM, f->ours.maker.keys, &p, err);
}

static uint64_t applied(struct fixture *f)
{
    struct history *h = made_vm_history(&f->ours);
    uint64_t epoch = history_head(h).epoch;
    history_close(&h);
    return epoch;
}

/* --- case 9: every byte --- */

static void load(struct store *s, const char *key, struct buf *out)
{
    struct err err = ERR_NONE;
    check_ok(store_load(s, key, STORE_OBJECT_MAX, out, &err), err);
}

/* Its first object below the prefix. */
static bool take_first(void *context, const char *key, uint64_t bytes)
{
    (void)bytes;
    snprintf(context, KEY_MAX, "%s", key);
    return false;
}

static const char *first_of(struct store *s, const char *prefix)
{
    static char key[KEY_MAX];
    struct err err = ERR_NONE;
    key[0] = '\0';
    check_ok(store_list(s, prefix, NULL, take_first, key, &err), err);
    assert_true(key[0] != '\0');
    return key;
}

/* One bit of every byte flipped, another one each time; then cut to every length. Each is refused,
 * and when the object is whole again nothing has happened. */
static void check_each_byte(struct fixture *f, struct memory_bucket *bucket, struct store *store,
                            const char *key, bool (*read)(struct fixture *, struct err *))
{
    struct buf whole AUTO_BUF = BUF_NONE;
    struct err err;
    load(store, key, &whole);
    for (size_t at = 0; at < whole.length; at++) {
        assert_true(memory_bucket_damage(bucket, key, at, (uint8_t)(1u << at % 8)));
        err = ERR_NONE;
        if (read(f, &err))
            fail_msg("%s: a bit of byte %zu flipped is not found", key, at);
        if (err.kind != ERR_CORRUPT && err.kind != ERR_WRONG_KEY)
            fail_msg("%s: byte %zu: %s: %s", key, at, err_kind_name(err.kind), err.text);
        assert_true(memory_bucket_damage(bucket, key, at, (uint8_t)(1u << at % 8)));
    }
    for (size_t length = 0; length < whole.length; length++) {
        memory_bucket_set(bucket, key, span_of(whole.data, length));
        err = ERR_NONE;
        if (read(f, &err))
            fail_msg("%s: cut to %zu bytes is not found", key, length);
        if (err.kind != ERR_CORRUPT)
            fail_msg("%s: cut to %zu bytes: %s: %s", key, length, err_kind_name(err.kind),
                     err.text);
    }
    memory_bucket_set(bucket, key, buf_span(&whole));
}

static void damage_anywhere_in_an_epoch_entry_stops_the_processor_there(void **state)
{
    struct fixture *f = *state;
    check_each_byte(f, f->ours.cache_bucket, f->ours.cache, GENERATION "0000000000000003", process);
    assert_int_equal(applied(f), 2);
    made_vm_apply(&f->ours);
    assert_int_equal(applied(f), 4);
}

static void damage_anywhere_in_a_part_stops_the_processor_there(void **state)
{
    struct fixture *f = *state;
    made_vm_apply(&f->ours);
    epoch_maker_fill(&f->ours.maker, 0, 9, 9);
    epoch_maker_cut(&f->ours.maker);
    check_each_byte(f, f->ours.cache_bucket, f->ours.cache,
                    first_of(f->ours.cache, GENERATION "parts/"), process);
    assert_int_equal(applied(f), 4);
    made_vm_apply(&f->ours);
    assert_int_equal(applied(f), 5);
}

static void damage_anywhere_in_a_record_is_found(void **state)
{
    struct fixture *f = *state;
    static const char *const keys[] = {"vm1/history/0000000000000000",
                                       "vm1/history/0000000000000001",
                                       "vm1/history/0000000000000003"};
    for (size_t i = 0; i < 3; i++)
        check_each_byte(f, f->ours.target_bucket, f->ours.target, keys[i], read_history);
}

static void damage_anywhere_in_a_vault_is_found(void **state)
{
    struct fixture *f = *state;
    check_each_byte(f, f->ours.target_bucket, f->ours.target, "vm1/vault", read_history);
}

static void damage_anywhere_in_a_pin_is_found_by_who_deletes(void **state)
{
    struct fixture *f = *state;
    check_each_byte(f, f->ours.target_bucket, f->ours.target, "vm1/pins/hold-a", read_pins);
}

static void damage_anywhere_in_a_document_is_found(void **state)
{
    struct fixture *f = *state;
    check_each_byte(f, f->ours.target_bucket, f->ours.target, "vm1/failover/0000000000000002",
                    read_document);
}

/* Newest first. */
struct keys_seen {
    char key[8][KEY_MAX];
    size_t count;
};

static bool take_key(void *context, const char *key, uint64_t bytes)
{
    struct keys_seen *k = context;
    (void)bytes;
    assert_true(k->count < 8);
    snprintf(k->key[k->count++], KEY_MAX, "%s", key);
    return true;
}

static void of_progress_that_is_damaged_an_older_one_stands(void **state)
{
    struct fixture *f = *state;
    struct keys_seen k = {.count = 0};
    struct processor_progress before, p;
    struct err err = ERR_NONE;
    check_ok(store_list(f->ours.cache, "vm1/progress/", NULL, take_key, &k, &err), err);
    assert_true(k.count >= 2);
    check_ok(progress_read(f->ours.cache, MADE_VM, f->ours.maker.keys, &before, &err), err);
    assert_int_equal(before.applied_epoch, 2);
    memory_bucket_damage(f->ours.cache_bucket, k.key[k.count - 1], 100, 1);
    check_ok(progress_read(f->ours.cache, MADE_VM, f->ours.maker.keys, &p, &err), err);
    assert_int_equal(p.applied_epoch, 1);
    for (size_t i = 0; i < k.count; i++)
        memory_bucket_damage(f->ours.cache_bucket, k.key[i], 30, 1);
    check_fails(read_progress(f, &err), err, ERR_CORRUPT);
}

/* The nth answer with bytes comes with a bit flipped. */
struct hurt {
    uint64_t nth, seen;
};

static enum memory_fault hurt_one(void *context, const struct memory_call *call)
{
    struct hurt *h = context;
    return call->op == MEMORY_GET && ++h->seen == h->nth ? MEMORY_DAMAGE : MEMORY_PASS;
}

/* What is only hurt on the way is right when it is asked for again. */
static void a_bit_flipped_in_any_one_answer_delays_the_processor_and_no_more(void **state)
{
    struct fixture *f = *state;
    bool hurt = true;
    unsigned failed = 0;
    for (uint64_t nth = 1; hurt; nth++) {
        struct hurt h[2] = {{.nth = nth}, {.nth = nth}};
        struct err err = ERR_NONE;
        tear_down(state);
        set_up(state);
        struct store *cache = memory_store_open(f->ours.cache_bucket);
        struct store *target = memory_store_open(f->ours.target_bucket);
        memory_store_hook(cache, hurt_one, NULL, &h[0]);
        memory_store_hook(target, hurt_one, NULL, &h[1]);
        for (int tries = 0; !process_with(f, &cache, &target, &err); tries++) {
            if (tries == 2 || (err.kind != ERR_CORRUPT && err.kind != ERR_WRONG_KEY))
                fail_msg("answer %llu: %s", (unsigned long long)nth, err.text);
            failed++;
        }
        assert_int_equal(applied(f), 4);
        hurt = h[0].seen >= nth || h[1].seen >= nth;
        store_close(&cache);
        store_close(&target);
    }
    assert_true(failed > 5);
}

/* --- case 22: what an attacker can put there --- */

static void copy_to(struct store *from, const char *key, struct memory_bucket *bucket,
                    const char *to)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    load(from, key, &bytes);
    memory_bucket_set(bucket, to, buf_span(&bytes));
}

/* Objects exchanged, within a store or between VMs. */
static void exchange(struct store *a, struct memory_bucket *in_a, const char *key_a,
                     struct store *b, struct memory_bucket *in_b, const char *key_b)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    load(a, key_a, &bytes);
    copy_to(b, key_b, in_a, key_a);
    memory_bucket_set(in_b, key_b, buf_span(&bytes));
}

/* So many zeros behind what is there. */
static void lengthen(struct store *s, struct memory_bucket *bucket, const char *key, size_t bytes)
{
    struct buf longer AUTO_BUF = BUF_NONE;
    load(s, key, &longer);
    uint8_t *more = buf_extend(&longer, bytes);
    assert_non_null(more);
    memset(more, 0, bytes);
    memory_bucket_set(bucket, key, buf_span(&longer));
}

static void overwrite(struct store *s, struct memory_bucket *bucket, const char *key, size_t at,
                      const void *bytes, size_t length)
{
    struct buf changed AUTO_BUF = BUF_NONE;
    load(s, key, &changed);
    assert_true(at + length <= changed.length);
    memcpy(changed.data + at, bytes, length);
    memory_bucket_set(bucket, key, buf_span(&changed));
}

/* Where the envelope's head has its fields. */
#define AT_KEY_ID 12u
#define AT_SALT   20u
#define AT_BODY   52u
#define AT_TAIL   56u

#define E3 GENERATION "0000000000000003"
#define E4 GENERATION "0000000000000004"
#define R2 "vm1/history/0000000000000002"
#define R3 "vm1/history/0000000000000003"
#define D0 "vm1/failover/0000000000000000"
#define D1 "vm1/failover/0000000000000001"
#define D2 "vm1/failover/0000000000000002"
#define D3 "vm1/failover/0000000000000003"

#define OURS_CACHE    f->ours.cache, f->ours.cache_bucket
#define OURS_TARGET   f->ours.target, f->ours.target_bucket
#define OTHERS_CACHE  f->others.cache, f->others.cache_bucket
#define OTHERS_TARGET f->others.target, f->others.target_bucket

static const uint8_t huge[4] = {0xff, 0xff, 0xff, 0xff};

static void entries_swapped(struct fixture *f)
{
    exchange(OURS_CACHE, E3, OURS_CACHE, E4);
}

static void entry_of_another_vm(struct fixture *f)
{
    exchange(OURS_CACHE, E3, OTHERS_CACHE, E3);
}

static void entry_replayed(struct fixture *f)
{
    copy_to(f->ours.cache, GENERATION "0000000000000002", f->ours.cache_bucket, E3);
}

/* The same VM in another generation: the log as another host has begun it. */
static void entry_of_another_generation(struct fixture *f)
{
    struct epoch_maker *m = &f->ours.maker;
    struct buf entry AUTO_BUF = BUF_NONE;
    struct generation was = m->generation;
    uint64_t epoch = m->epoch;
    m->generation = (struct generation){.number = 2, .id = 99};
    m->epoch = 2;
    m->inline_max = EPOCH_INLINE_BYTES;
    epoch_maker_fill(m, 0, 3, 66);
    epoch_maker_entry(m, EPOCH_CUT, POINT_CRASH, NULL, &entry);
    m->generation = was;
    m->epoch = epoch;
    memory_bucket_set(f->ours.cache_bucket, E3, buf_span(&entry));
}

/* The frames of one entry behind the sealed body of another. */
static void entry_spliced(struct fixture *f)
{
    struct buf ours AUTO_BUF = BUF_NONE, theirs AUTO_BUF = BUF_NONE;
    load(f->ours.cache, E3, &ours);
    load(f->others.cache, E3, &theirs);
    size_t tail = load_u32(ours.data + AT_TAIL), other = load_u32(theirs.data + AT_TAIL);
    assert_true(tail > 0 && other > 0);
    size_t shared = tail < other ? tail : other;
    memcpy(ours.data + ours.length - tail, theirs.data + theirs.length - other, shared);
    memory_bucket_set(f->ours.cache_bucket, E3, buf_span(&ours));
}

static void entry_forged(struct fixture *f)
{
    struct epoch_maker *m = &f->ours.maker;
    struct buf entry AUTO_BUF = BUF_NONE;
    struct keys *own = m->keys;
    uint64_t epoch = m->epoch, id = keys_id(own);
    m->keys = made_keys(8);
    m->epoch = 2;
    epoch_maker_fill(m, 0, 3, 66);
    epoch_maker_entry(m, EPOCH_CUT, POINT_CRASH, NULL, &entry);
    keys_release(&m->keys);
    m->keys = own;
    m->epoch = epoch;
    store_u64(entry.data + AT_KEY_ID, id); /* it says that it is ours */
    memory_bucket_set(f->ours.cache_bucket, E3, buf_span(&entry));
}

static void entry_with_huge_lengths(struct fixture *f)
{
    overwrite(OURS_CACHE, E3, AT_BODY, huge, sizeof huge);
    overwrite(OURS_CACHE, E3, AT_TAIL, huge, sizeof huge);
}

static void entry_too_large(struct fixture *f)
{
    lengthen(OURS_CACHE, E3, EPOCH_BYTES_MAX);
}

static void part_of_another_vm(struct fixture *f)
{
    char part[KEY_MAX];
    snprintf(part, sizeof part, "%s", first_of(f->ours.cache, GENERATION "parts/"));
    copy_to(f->others.cache, first_of(f->others.cache, GENERATION "parts/"), f->ours.cache_bucket,
            part);
}

static void part_gone(struct fixture *f)
{
    memory_bucket_drop(f->ours.cache_bucket, first_of(f->ours.cache, GENERATION "parts/"));
}

/* Its entry says how long it is: nobody reads what lies behind. */
static void part_with_more_behind_it(struct fixture *f)
{
    char part[KEY_MAX];
    snprintf(part, sizeof part, "%s", first_of(f->ours.cache, GENERATION "parts/"));
    lengthen(OURS_CACHE, part, 32u << 20);
}

/* As it was before the newest applied entry came. */
static void log_rolled_back(struct fixture *f)
{
    memory_bucket_drop(f->ours.cache_bucket, GENERATION "0000000000000002");
    memory_bucket_drop(f->ours.cache_bucket, E3);
    memory_bucket_drop(f->ours.cache_bucket, E4);
}

static void records_swapped(struct fixture *f)
{
    exchange(OURS_TARGET, R2, OURS_TARGET, R3);
}

static void record_of_another_vm(struct fixture *f)
{
    exchange(OURS_TARGET, R3, OTHERS_TARGET, R3);
}

static void record_replayed(struct fixture *f)
{
    copy_to(f->ours.target, R3, f->ours.target_bucket, "vm1/history/0000000000000004");
}

static void record_with_huge_lengths(struct fixture *f)
{
    overwrite(OURS_TARGET, R3, AT_BODY, huge, sizeof huge);
}

static void record_too_large(struct fixture *f)
{
    lengthen(OURS_TARGET, R3, RECORD_BYTES_MAX);
}

static void record_under_another_key(struct fixture *f)
{
    static const uint8_t id[8] = {1};
    overwrite(OURS_TARGET, R3, AT_KEY_ID, id, sizeof id);
}

static void record_with_the_salt_of_another(struct fixture *f)
{
    struct buf other AUTO_BUF = BUF_NONE;
    load(f->ours.target, R2, &other);
    overwrite(OURS_TARGET, R3, AT_SALT, other.data + AT_SALT, SEAL_SALT_BYTES);
}

static bool copy_all(void *context, const char *key, uint64_t bytes)
{
    struct fixture *f = context;
    (void)bytes;
    copy_to(f->others.target, key, f->ours.target_bucket, key);
    return true;
}

/* All of it, as the vault of a former VM of this name and key would lie in a backup. */
static void vault_of_another_vm(struct fixture *f)
{
    struct err err = ERR_NONE;
    check_ok(store_list(f->others.target, "", NULL, copy_all, f, &err), err);
}

static void vault_too_large(struct fixture *f)
{
    lengthen(OURS_TARGET, "vm1/vault", 2u << 20);
}

static void pins_swapped(struct fixture *f)
{
    exchange(OURS_TARGET, "vm1/pins/hold-a", OURS_TARGET, "vm1/pins/hold-b");
}

static void pin_of_another_vm(struct fixture *f)
{
    exchange(OURS_TARGET, "vm1/pins/hold-a", OTHERS_TARGET, "vm1/pins/hold-a");
}

static void pin_replaced_by_a_document(struct fixture *f)
{
    copy_to(f->ours.target, D0, f->ours.target_bucket, "vm1/pins/hold-a");
}

static void pin_too_large(struct fixture *f)
{
    lengthen(OURS_TARGET, "vm1/pins/hold-a", 64u << 20);
}

static void documents_swapped(struct fixture *f)
{
    exchange(OURS_TARGET, D1, OURS_TARGET, D2);
}

static void document_replayed(struct fixture *f)
{
    copy_to(f->ours.target, D0, f->ours.target_bucket, D3);
}

static void document_of_another_vm(struct fixture *f)
{
    exchange(OURS_TARGET, D2, OTHERS_TARGET, D2);
}

static void document_of_another_log(struct fixture *f)
{
    copy_to(f->ours.target, "vm1/other/0000000000000000", f->ours.target_bucket, D2);
}

static void document_too_large(struct fixture *f)
{
    lengthen(OURS_TARGET, D2, 64u << 20);
}

static void progress_replayed(struct fixture *f)
{
    struct keys_seen k = {.count = 0};
    struct err err = ERR_NONE;
    check_ok(store_list(f->ours.cache, "vm1/progress/", NULL, take_key, &k, &err), err);
    for (size_t i = 1; i < k.count; i++)
        memory_bucket_drop(f->ours.cache_bucket, k.key[i]);
    copy_to(f->ours.cache, k.key[0], f->ours.cache_bucket, "vm1/progress/9999999999999998");
    memory_bucket_drop(f->ours.cache_bucket, k.key[0]);
}

static const struct attack {
    const char *name;
    void (*make)(struct fixture *f);
    bool (*read)(struct fixture *f, struct err *err);
    enum err_kind kind; /* ERR_OK: it does no harm */
    const char *says;   /* in the error: what it is about */
    size_t room;        /* bytes of memory that reading may take; 0: a MiB */
} attacks[] = {
    {"entries swapped", entries_swapped, process, ERR_CORRUPT, "epoch 3", 0},
    {"an entry of another VM", entry_of_another_vm, process, ERR_CORRUPT, "epoch 3", 0},
    {"an entry of another generation", entry_of_another_generation, process, ERR_CORRUPT, "epoch 3",
     0},
    {"an entry replayed", entry_replayed, process, ERR_CORRUPT, "epoch 3", 0},
    {"an entry spliced", entry_spliced, process, ERR_CORRUPT, "epoch 3", 0},
    {"an entry forged", entry_forged, process, ERR_CORRUPT, "epoch 3", 0},
    {"an entry with huge lengths", entry_with_huge_lengths, process, ERR_CORRUPT, "epoch 3", 0},
    {"an entry too large", entry_too_large, process, ERR_CORRUPT, "0000000000000003", 0},
    {"a part of another VM", part_of_another_vm, process, ERR_CORRUPT, "parts/", 0},
    {"a part gone", part_gone, process, ERR_CORRUPT, "parts/", 0},
    {"a part with more behind it", part_with_more_behind_it, process, ERR_OK, "", 0},
    {"a log rolled back", log_rolled_back, process, ERR_CORRUPT, "0000000000000002", 0},
    {"records swapped", records_swapped, read_history, ERR_CORRUPT, "record 2", 0},
    {"a record of another VM", record_of_another_vm, read_history, ERR_CORRUPT, "record 3", 0},
    {"a record replayed", record_replayed, read_history, ERR_CORRUPT, "record 4", 0},
    {"a record with huge lengths", record_with_huge_lengths, read_history, ERR_CORRUPT, "record 3",
     0},
    {"a record too large", record_too_large, read_history, ERR_CORRUPT, "0000000000000003", 0},
    {"a record under another key", record_under_another_key, read_history, ERR_WRONG_KEY,
     "record 3", 0},
    {"a record with another's salt", record_with_the_salt_of_another, read_history, ERR_CORRUPT,
     "record 3", 0},
    {"the vault of another VM", vault_of_another_vm, read_history, ERR_CORRUPT, "another VM's", 0},
    {"the same, processed", vault_of_another_vm, process, ERR_CORRUPT, "another VM's", 0},
    {"a vault too large", vault_too_large, read_history, ERR_CORRUPT, "vault", 0},
    {"pins swapped", pins_swapped, read_pins, ERR_CORRUPT, "hold-a", 0},
    {"a pin of another VM", pin_of_another_vm, read_pins, ERR_CORRUPT, "hold-a", 0},
    {"a document as a pin", pin_replaced_by_a_document, read_pins, ERR_CORRUPT, "hold-a", 0},
    {"a pin too large", pin_too_large, read_pins, ERR_CORRUPT, "hold-a", 0},
    {"documents swapped", documents_swapped, read_document, ERR_CORRUPT, "failover", 0},
    {"a document replayed", document_replayed, read_document, ERR_CORRUPT, "entry 3", 0},
    {"a document of another VM", document_of_another_vm, read_document, ERR_CORRUPT, "entry 2", 0},
    {"a document of another log", document_of_another_log, read_document, ERR_CORRUPT, "entry 2",
     0},
    {"a document too large", document_too_large, read_document, ERR_CORRUPT, "0000000000000002", 0},
    {"progress replayed", progress_replayed, read_progress, ERR_CORRUPT, "9999999999999998", 0},
};

static void every_attack_is_refused_by_its_own_error_in_bounded_memory(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof attacks / sizeof attacks[0]; i++) {
        const struct attack *a = &attacks[i];
        size_t room = a->room > 0 ? a->room : 1u << 20;
        struct err err = ERR_NONE;
        tear_down(state);
        set_up(state);
        a->make(f);
        heap_peak_begin();
        bool good = a->read(f, &err);
        size_t peak = heap_peak();
        if (good != (a->kind == ERR_OK))
            fail_msg("%s: taken or not: %s", a->name, err.text);
        if (!good && (err.kind != a->kind || strstr(err.text, a->says) == NULL))
            fail_msg("%s: %s: %s", a->name, err_kind_name(err.kind), err.text);
        if (peak > room)
            fail_msg("%s: %zu bytes of memory to refuse it", a->name, peak);
        if (!good && a->read == process && a->make != vault_of_another_vm && applied(f) > 3)
            fail_msg("%s: applied", a->name);
    }
}

/* The key's owner alone can make one: it is refused all the same. */
static void a_document_that_unpacks_to_more_than_it_says_is_refused_in_bounded_memory(void **state)
{
    struct fixture *f = *state;
    const struct doclog_vault *v = &f->documents;
    const struct envelope_kind kind = {
        .noun = "document", .magic = "FSDOC", .bytes_max = DOCLOG_BYTES_MAX, .vm = v->id};
    struct sha256 previous = {{1}};
    struct seal_salt salt = {{3}};
    struct buf stored AUTO_BUF = BUF_NONE, body AUTO_BUF = BUF_NONE, out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    size_t bytes = 512u << 20, room = ZSTD_compressBound(1u << 20);
    uint8_t *zeros AUTO_FREE = calloc(1, 1u << 20), *packed AUTO_FREE = malloc(room);
    ZSTD_CCtx *c = ZSTD_createCCtx();

    buf_put_text(&body, v->vm);
    buf_put_text(&body, "failover");
    buf_put_u64(&body, 3);
    buf_put(&body, previous.bytes, sizeof previous.bytes);
    buf_put_u64(&body, 9);
    buf_put_u32(&body, DOCLOG_DOCUMENT_MAX); /* it says as much as a document may have */
    for (size_t done = 0; done < bytes; done += 1u << 20) {
        ZSTD_inBuffer in = {.src = zeros, .size = 1u << 20};
        ZSTD_outBuffer to = {.dst = packed, .size = room};
        bool last = done + (1u << 20) == bytes;
        ZSTD_compressStream2(c, &to, &in, last ? ZSTD_e_end : ZSTD_e_flush);
        buf_put(&body, packed, to.pos);
    }
    ZSTD_freeCCtx(c);
    check_ok(envelope_seal(&kind, v->keys, &salt, buf_span(&body), span_of(NULL, 0), &stored, &err),
             err);
    heap_peak_begin();
    check_fails(doclog_decode(v, "failover", 3, buf_span(&stored), &previous, &out, &err), err,
                ERR_CORRUPT);
    assert_true(heap_peak() <= DOCLOG_DOCUMENT_MAX + (1u << 20));
    assert_true(heap_peak() >= DOCLOG_DOCUMENT_MAX); /* it is counted at all */
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(damage_anywhere_in_an_epoch_entry_stops_the_processor_there),
        T(damage_anywhere_in_a_part_stops_the_processor_there),
        T(damage_anywhere_in_a_record_is_found),
        T(damage_anywhere_in_a_vault_is_found),
        T(damage_anywhere_in_a_pin_is_found_by_who_deletes),
        T(damage_anywhere_in_a_document_is_found),
        T(of_progress_that_is_damaged_an_older_one_stands),
        T(a_bit_flipped_in_any_one_answer_delays_the_processor_and_no_more),
        T(every_attack_is_refused_by_its_own_error_in_bounded_memory),
        T(a_document_that_unpacks_to_more_than_it_says_is_refused_in_bounded_memory),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
