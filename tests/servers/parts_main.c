/* SPDX-License-Identifier: MIT
 * S3 uploads in parts on a real server (tests/servers/with.sh): also where the dialect does not use
 * them, because Complete does not keep the contract there. */
#include "backend/store/s3_objects.h"

#include <stdio.h>

#include "tests/support/check.h"

#define LARGE_BYTES (20u << 20)

static struct cloud *open_cache(void)
{
    struct store *s = NULL;
    struct err err = ERR_NONE;
    struct store_host host = {
        .world = world_real(), .credentials = getenv("FARSHORE_CREDENTIALS"), .env = getenv};
    check_ok(store_open(&host, getenv("FARSHORE_TEST_CACHE"), true, &s, &err), err);
    return (struct cloud *)s; /* its first member */
}

static void a_body_in_parts_reads_back(void **state)
{
    struct cloud *c = open_cache();
    struct err err = ERR_NONE;
    struct buf out AUTO_BUF = BUF_NONE;
    uint8_t *bytes AUTO_FREE = malloc(LARGE_BYTES);
    struct store *s AUTO_STORE = &c->head;
    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < LARGE_BYTES; i++)
        bytes[i] = (uint8_t)(i * 2654435761u >> 13);
    check_ok(s3_put_parts(c, "parts/large", span_of(bytes, LARGE_BYTES), &err), err);
    check_ok(store_load(s, "parts/large", LARGE_BYTES, &out, &err), err);
    assert_true(span_equal(buf_span(&out), span_of(bytes, LARGE_BYTES)));
    check_ok(store_remove(s, "parts/large", &err), err);
}

/* Whatever it does, it is known before a body of ours depends on it. */
static void the_proof_says_what_complete_does_to_a_taken_name(void **state)
{
    struct cloud *c = open_cache();
    struct store *s AUTO_STORE = &c->head;
    struct s3_parts proof CLEANUP(s3_parts_release);
    struct err err = ERR_NONE;
    (void)state;
    s3_parts_init(&proof);
    check_ok(store_put(s, "parts/taken", span_of_text("first"), &err), err);
    bool replaced = s3_put_parts(c, "parts/taken", span_of_text("second"), &err);
    assert_true(replaced || err.kind == ERR_EXISTS);
    assert_int_equal(s3_parts_safe(c, &proof, "parts/k"), !replaced);
    printf("Complete %s a taken name\n", replaced ? "REPLACES" : "refuses");
    check_ok(store_remove(s, "parts/taken", &err), err);
    check_ok(store_remove(s, "parts/check-parts", &err), err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_in_parts_reads_back),
        cmocka_unit_test(the_proof_says_what_complete_does_to_a_taken_name),
    };
    const char *url = getenv("FARSHORE_TEST_CACHE");
    if (url == NULL || strncmp(url, "s3://", 5) != 0) {
        puts("SKIP: run by tests/servers/with.sh radosgw");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
