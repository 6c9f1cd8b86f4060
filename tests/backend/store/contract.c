/* SPDX-License-Identifier: MIT */
#include "tests/backend/store/contract.h"

#include <stdatomic.h>
#include <stdio.h>

#include "common/digest.h"
#include "tests/support/check.h"

#define RACERS_MAX 16u
#define KEYS_MAX   64u

struct fixture {
    const struct contract *contract;
    struct store *store;
    char prefix[64]; /* with a slash at the end */
};

static const char *key_of(const struct fixture *f, const char *name)
{
    static _Thread_local char keys[8][STORE_KEY_MAX + 1];
    static _Thread_local unsigned next;
    char *key = keys[next++ % 8];
    snprintf(key, sizeof keys[0], "%s%s", f->prefix, name);
    return key;
}

static int set_up(void **state)
{
    const struct contract *c = *state;
    struct fixture *f = calloc(1, sizeof *f);
    uint8_t random[8];
    char hex[17];
    if (f == NULL || world_real()->ops->random(world_real(), random, sizeof random) != 0)
        return -1;
    hex_of(random, sizeof random, hex);
    f->contract = c;
    f->store = c->open(c->context);
    snprintf(f->prefix, sizeof f->prefix, "contract-%s/", hex);
    *state = f;
    return f->store != NULL ? 0 : -1;
}

struct keys_seen {
    char keys[KEYS_MAX][STORE_KEY_MAX + 1];
    uint64_t bytes[KEYS_MAX];
    size_t count;
    size_t stop_at;
};

static bool see(void *context, const char *key, uint64_t bytes)
{
    struct keys_seen *seen = context;
    assert_true(seen->count < KEYS_MAX);
    snprintf(seen->keys[seen->count], sizeof seen->keys[0], "%s", key);
    seen->bytes[seen->count++] = bytes;
    return seen->count != seen->stop_at;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct keys_seen *seen = calloc(1, sizeof *seen);
    struct err err;
    int result = seen != NULL && store_list(f->store, f->prefix, NULL, see, seen, &err) ? 0 : -1;
    for (size_t i = 0; result == 0 && i < seen->count; i++)
        result = store_remove(f->store, seen->keys[i], &err) ? 0 : -1;
    free(seen);
    store_close(&f->store);
    free(f);
    return result;
}

static void put_text(struct fixture *f, const char *name, const char *text)
{
    struct err err = ERR_NONE;
    check_ok(store_put(f->store, key_of(f, name), span_of_text(text), &err), err);
}

static void check_holds(struct store *s, const char *key, const char *text)
{
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(store_load(s, key, 1000, &out, &err), err);
    assert_true(span_equal(buf_span(&out), span_of_text(text)));
}

static void what_was_put_is_found_by_every_store_on_the_same_objects(void **state)
{
    struct fixture *f = *state;
    put_text(f, "a/b", "hello");
    check_holds(f->store, key_of(f, "a/b"), "hello");
    struct store *other AUTO_STORE = f->contract->open(f->contract->context);
    check_holds(other, key_of(f, "a/b"), "hello");
}

static void a_put_never_replaces(void **state)
{
    struct fixture *f = *state;
    struct err err;
    put_text(f, "k", "first");
    check_fails(store_put(f->store, key_of(f, "k"), span_of_text("second"), &err), err, ERR_EXISTS);
    check_fails(store_put(f->store, key_of(f, "k"), span_of_text("first"), &err), err, ERR_EXISTS);
    check_holds(f->store, key_of(f, "k"), "first");
}

static void an_empty_object_is_an_object(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t bytes = 1;
    check_ok(store_put(f->store, key_of(f, "empty"), span_of(NULL, 0), &err), err);
    check_ok(store_size(f->store, key_of(f, "empty"), &bytes, &err), err);
    assert_int_equal(bytes, 0);
    check_holds(f->store, key_of(f, "empty"), "");
    check_fails(store_put(f->store, key_of(f, "empty"), span_of(NULL, 0), &err), err, ERR_EXISTS);
}

static void parts_are_read_from_any_offset(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint8_t out[10] = {0};
    put_text(f, "k", "0123456789");
    check_ok(store_get(f->store, key_of(f, "k"), 3, mspan_of(out, 4), &err), err);
    assert_memory_equal(out, "3456\0", 5);
    check_ok(store_get(f->store, key_of(f, "k"), 9, mspan_of(out, 1), &err), err);
    assert_int_equal(out[0], '9');
    check_ok(store_get(f->store, key_of(f, "k"), 0, mspan_of(out, 10), &err), err);
    assert_memory_equal(out, "0123456789", 10);
}

static void a_read_past_the_end_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct err err;
    uint8_t out[10];
    put_text(f, "k", "0123456789");
    check_fails(store_get(f->store, key_of(f, "k"), 1, mspan_of(out, 10), &err), err, ERR_CORRUPT);
    check_fails(store_get(f->store, key_of(f, "k"), 10, mspan_of(out, 1), &err), err, ERR_CORRUPT);
    check_fails(store_get(f->store, key_of(f, "k"), 4000, mspan_of(out, 1), &err), err,
                ERR_CORRUPT);
    check_fails(store_get(f->store, key_of(f, "k"), UINT64_MAX, mspan_of(out, 10), &err), err,
                ERR_CORRUPT);
}

static void what_is_missing_is_not_found(void **state)
{
    struct fixture *f = *state;
    struct err err;
    uint8_t out[1];
    uint64_t bytes;
    put_text(f, "there", "x");
    check_fails(store_get(f->store, key_of(f, "gone"), 0, mspan_of(out, 1), &err), err,
                ERR_NOT_FOUND);
    check_says(err, "gone");
    check_fails(store_size(f->store, key_of(f, "no/such/key"), &bytes, &err), err, ERR_NOT_FOUND);
}

static void remove_frees_the_name_and_succeeds_when_nothing_is_there(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    uint64_t bytes;
    put_text(f, "a/k", "one");
    check_ok(store_remove(f->store, key_of(f, "a/k"), &err), err);
    check_fails(store_size(f->store, key_of(f, "a/k"), &bytes, &err), err, ERR_NOT_FOUND);
    check_ok(store_remove(f->store, key_of(f, "a/k"), &err), err);
    check_ok(store_remove(f->store, key_of(f, "never/was"), &err), err);
    put_text(f, "a/k", "two");
    check_holds(f->store, key_of(f, "a/k"), "two");
}

static void check_list(struct fixture *f, const char *prefix, const char *after, size_t stop_at,
                       const char *const *wanted)
{
    struct keys_seen *seen = calloc(1, sizeof *seen);
    struct err err = ERR_NONE;
    assert_non_null(seen);
    seen->stop_at = stop_at;
    check_ok(store_list(f->store, key_of(f, prefix), after != NULL ? key_of(f, after) : NULL, see,
                        seen, &err),
             err);
    for (size_t i = 0; wanted[i] != NULL || i < seen->count; i++) {
        if (wanted[i] == NULL || i >= seen->count)
            fail_msg("list of %s after %s: %zu keys", prefix, after, seen->count);
        assert_string_equal(seen->keys[i], key_of(f, wanted[i]));
        assert_int_equal(seen->bytes[i], strlen(wanted[i]));
    }
    free(seen);
}

#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})
#define EMPTY     ((const char *const[]){NULL})

/* '-' and '.' come before '/' in byte order, '0' and letters behind it. */
static const char *const listed[] = {"a-b", "a.b", "a/0", "a/b/c", "a/b/d", "a/b0", "a0", "b/x"};

static void put_listed(struct fixture *f)
{
    static const size_t order[] = {5, 2, 7, 0, 4, 1, 6, 3};
    for (size_t i = 0; i < 8; i++)
        put_text(f, listed[order[i]], listed[order[i]]);
}

static void a_list_is_in_byte_order_of_whole_keys(void **state)
{
    struct fixture *f = *state;
    put_listed(f);
    check_list(f, "", NULL, 0,
               LIST(listed[0], listed[1], listed[2], listed[3], listed[4], listed[5], listed[6],
                    listed[7]));
}

static void a_list_shows_the_prefix_and_nothing_else(void **state)
{
    struct fixture *f = *state;
    put_listed(f);
    check_list(f, "a/", NULL, 0, LIST("a/0", "a/b/c", "a/b/d", "a/b0"));
    check_list(f, "a/b", NULL, 0, LIST("a/b/c", "a/b/d", "a/b0"));
    check_list(f, "a/b/", NULL, 0, LIST("a/b/c", "a/b/d"));
    check_list(f, "a/b/c", NULL, 0, LIST("a/b/c"));
    check_list(f, "a/b/c/", NULL, 0, EMPTY);
    check_list(f, "none/such/", NULL, 0, EMPTY);
    check_list(f, "c", NULL, 0, EMPTY);
}

static void a_list_goes_on_behind_a_key_there_or_not(void **state)
{
    struct fixture *f = *state;
    put_listed(f);
    check_list(f, "", "a/b/c", 0, LIST("a/b/d", "a/b0", "a0", "b/x"));
    check_list(f, "", "a/b/cc", 0, LIST("a/b/d", "a/b0", "a0", "b/x"));
    check_list(f, "", "a/b", 0, LIST("a/b/c", "a/b/d", "a/b0", "a0", "b/x"));
    check_list(f, "a/b/", "a/b/c", 0, LIST("a/b/d"));
    check_list(f, "a/", "a.b", 0, LIST("a/0", "a/b/c", "a/b/d", "a/b0"));
    check_list(f, "", "b/x", 0, EMPTY);
}

static void a_list_stops_when_told(void **state)
{
    struct fixture *f = *state;
    put_listed(f);
    check_list(f, "", NULL, 4, LIST("a-b", "a.b", "a/0", "a/b/c"));
    check_list(f, "", NULL, 1, LIST("a-b"));
}

static void a_large_object_reads_back(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    size_t length = f->contract->large_bytes;
    uint8_t *bytes AUTO_FREE = malloc(length);
    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    check_ok(store_put(f->store, key_of(f, "large"), span_of(bytes, length), &err), err);
    check_ok(store_load(f->store, key_of(f, "large"), length, &out, &err), err);
    assert_true(span_equal(buf_span(&out), span_of(bytes, length)));
    check_fails(store_load(f->store, key_of(f, "large"), length - 1, &out, &err), err, ERR_CORRUPT);
}

struct race {
    struct fixture *fixture;
    struct store *store;
    atomic_uint *ready;
    unsigned number;
    unsigned racers;
    enum err_kind kind;
};

static void *race_put(void *context)
{
    struct race *r = context;
    struct err err = ERR_NONE;
    char body[2048];
    memset(body, 'a' + (int)r->number, sizeof body);
    atomic_fetch_add(r->ready, 1);
    while (atomic_load(r->ready) < r->racers)
        sched_yield();
    (void)!store_put(r->store, key_of(r->fixture, "race/here"), span_of(body, sizeof body), &err);
    r->kind = err.kind;
    return NULL;
}

static void of_racing_puts_exactly_one_wins(void **state)
{
    struct fixture *f = *state;
    unsigned racers = f->contract->racers;
    struct race races[RACERS_MAX];
    pthread_t threads[RACERS_MAX];
    atomic_uint ready = 0;
    unsigned winner = racers;
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;

    assert_true(racers <= RACERS_MAX);
    for (unsigned i = 0; i < racers; i++) {
        /* Half of them share a store, the others have one of their own. */
        struct store *s = i % 2 == 0 ? f->store : f->contract->open(f->contract->context);
        races[i] =
            (struct race){.fixture = f, .store = s, .ready = &ready, .number = i, .racers = racers};
        assert_int_equal(pthread_create(&threads[i], NULL, race_put, &races[i]), 0);
    }
    for (unsigned i = 0; i < racers; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        if (i % 2 == 1)
            store_close(&races[i].store);
    }
    for (unsigned i = 0; i < racers; i++) {
        if (races[i].kind == ERR_OK) {
            assert_int_equal(winner, racers);
            winner = i;
        } else {
            assert_int_equal(races[i].kind, ERR_EXISTS);
        }
    }
    assert_true(winner < racers);
    check_ok(store_load(f->store, key_of(f, "race/here"), 2048, &out, &err), err);
    assert_int_equal(out.length, 2048);
    for (size_t i = 0; i < out.length; i++)
        assert_int_equal(out.data[i], 'a' + winner);
}

static void the_check_on_attaching_passes_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    check_ok(store_check(f->store, world_real(), f->prefix, STORE_ROLE_PROCESSOR, NULL, &err), err);
    check_list(f, "", NULL, 0, EMPTY);
}

static void the_longest_key_works(void **state)
{
    struct fixture *f = *state;
    struct err err = ERR_NONE;
    char key[STORE_KEY_MAX + 1];
    uint64_t bytes;
    size_t length = strlen(f->prefix);
    memset(key, 'k', sizeof key);
    memcpy(key, f->prefix, length);
    for (size_t i = length + 200; i < STORE_KEY_MAX - 1; i += 200)
        key[i] = '/';
    key[STORE_KEY_MAX] = '\0';
    check_ok(store_put(f->store, key, span_of_text("x"), &err), err);
    check_ok(store_size(f->store, key, &bytes, &err), err);
    assert_int_equal(bytes, 1);
}

/* --- copies, where the store can --- */

/* segments/HEX of what `text` holds, and its digest. */
static const char *digest_key(const struct fixture *f, const char *text, struct sha256 *digest)
{
    char name[2 * SHA256_BYTES + 16] = "segments/";
    *digest = sha256_of(span_of_text(text));
    hex_of(digest->bytes, SHA256_BYTES, name + strlen(name));
    return key_of(f, name);
}

/* The store that copies come from; NULL where there is none, and then the store says so. */
static struct store *source_of(struct fixture *f)
{
    if (f->contract->open_source == NULL) {
        assert_false(store_can_copy(f->store, f->store));
        return NULL;
    }
    struct store *s = f->contract->open_source(f->contract->context);
    assert_true(store_can_copy(f->store, s));
    return s;
}

static void a_copy_is_the_whole_object_and_leaves_the_source(void **state)
{
    struct fixture *f = *state;
    struct store *from AUTO_STORE = source_of(f);
    struct err err = ERR_NONE;
    struct sha256 digest;
    bool proved;
    const char *key = digest_key(f, "to be copied", &digest);
    if (from == NULL)
        return;
    check_ok(store_put(from, key_of(f, "a/part"), span_of_text("to be copied"), &err), err);
    check_ok(store_copy(f->store, key, from, key_of(f, "a/part"), &digest, &proved, &err), err);
    check_holds(f->store, key, "to be copied");
    check_holds(from, key_of(f, "a/part"), "to be copied");
    check_ok(store_remove(from, key_of(f, "a/part"), &err), err);
    check_holds(f->store, key, "to be copied");
}

static void a_copy_leaves_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct store *from AUTO_STORE = source_of(f);
    struct err err = ERR_NONE;
    struct sha256 digest;
    bool proved = true;
    const char *key = digest_key(f, "to be copied", &digest);
    if (from == NULL)
        return;
    check_ok(store_put(from, key_of(f, "a/part"), span_of_text("to be copied"), &err), err);
    check_ok(store_put(f->store, key, span_of_text("of another"), &err), err);
    check_fails(store_copy(f->store, key, from, key_of(f, "a/part"), &digest, &proved, &err), err,
                ERR_EXISTS);
    assert_false(proved);
    check_holds(f->store, key, "of another");
    check_ok(store_remove(from, key_of(f, "a/part"), &err), err);
}

static void a_copy_of_nothing_is_an_error_and_makes_nothing(void **state)
{
    struct fixture *f = *state;
    struct store *from AUTO_STORE = source_of(f);
    struct err err = ERR_NONE;
    struct sha256 digest;
    bool proved;
    uint64_t bytes;
    const char *key = digest_key(f, "gone", &digest);
    if (from == NULL)
        return;
    check_fails(store_copy(f->store, key, from, key_of(f, "gone"), &digest, &proved, &err), err,
                ERR_NOT_FOUND);
    check_fails(store_size(f->store, key, &bytes, &err), err, ERR_NOT_FOUND);
}

static void a_copy_of_other_bytes_is_never_proved(void **state)
{
    struct fixture *f = *state;
    struct store *from AUTO_STORE = source_of(f);
    struct err err = ERR_NONE;
    struct sha256 digest;
    bool proved = true;
    const char *key = digest_key(f, "to be copied", &digest);
    if (from == NULL)
        return;
    check_ok(store_put(from, key_of(f, "a/part"), span_of_text("of other bytes"), &err), err);
    (void)!store_copy(f->store, key, from, key_of(f, "a/part"), &digest, &proved, &err);
    assert_false(proved);
    check_ok(store_remove(from, key_of(f, "a/part"), &err), err);
}

int contract_run(const char *name, const struct contract *c)
{
#define EACH(test) cmocka_unit_test_prestate_setup_teardown(test, set_up, tear_down, (void *)c)
    const struct CMUnitTest tests[] = {
        EACH(what_was_put_is_found_by_every_store_on_the_same_objects),
        EACH(a_put_never_replaces),
        EACH(an_empty_object_is_an_object),
        EACH(parts_are_read_from_any_offset),
        EACH(a_read_past_the_end_is_corrupt),
        EACH(what_is_missing_is_not_found),
        EACH(remove_frees_the_name_and_succeeds_when_nothing_is_there),
        EACH(a_list_is_in_byte_order_of_whole_keys),
        EACH(a_list_shows_the_prefix_and_nothing_else),
        EACH(a_list_goes_on_behind_a_key_there_or_not),
        EACH(a_list_stops_when_told),
        EACH(a_large_object_reads_back),
        EACH(of_racing_puts_exactly_one_wins),
        EACH(the_check_on_attaching_passes_and_leaves_nothing),
        EACH(the_longest_key_works),
        EACH(a_copy_is_the_whole_object_and_leaves_the_source),
        EACH(a_copy_leaves_what_is_there),
        EACH(a_copy_of_nothing_is_an_error_and_makes_nothing),
        EACH(a_copy_of_other_bytes_is_never_proved),
    };
#undef EACH
    return cmocka_run_group_tests_name(name, tests, NULL, NULL);
}
