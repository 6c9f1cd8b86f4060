/* SPDX-License-Identifier: MIT */
#include "tests/support/check.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/digest.h"

static void check_hex(struct sha256 digest, const char *wanted)
{
    char hex[2 * SHA256_BYTES + 1];
    hex_of(digest.bytes, sizeof digest.bytes, hex);
    assert_string_equal(hex, wanted);
}

static struct span filled(uint8_t *bytes, uint8_t value, size_t length)
{
    memset(bytes, value, length);
    return span_of(bytes, length);
}

/* FIPS 180-2, appendix B, and the empty message. */
static void sha256_gives_the_published_digests(void **state)
{
    (void)state;
    check_hex(sha256_of(span_of("", 0)),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hex(sha256_of(span_of(NULL, 0)),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    check_hex(sha256_of(span_of_text("abc")),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    check_hex(sha256_of(span_of_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

/* RFC 4231, test cases 1 to 4, 6 and 7. */
static void hmac_gives_the_digests_of_rfc_4231(void **state)
{
    (void)state;
    uint8_t key[131], data[50];
    check_hex(hmac_sha256(filled(key, 0x0b, 20), span_of_text("Hi There")),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    check_hex(hmac_sha256(span_of_text("Jefe"), span_of_text("what do ya want for nothing?")),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check_hex(hmac_sha256(filled(key, 0xaa, 20), filled(data, 0xdd, 50)),
              "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe");
    for (uint8_t i = 0; i < 25; i++)
        key[i] = (uint8_t)(i + 1);
    check_hex(hmac_sha256(span_of(key, 25), filled(data, 0xcd, 50)),
              "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b");
    check_hex(hmac_sha256(filled(key, 0xaa, 131),
                          span_of_text("Test Using Larger Than Block-Size Key - Hash Key First")),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    check_hex(hmac_sha256(filled(key, 0xaa, 131),
                          span_of_text("This is a test using a larger than block-size key and a "
                                       "larger than block-size data. The key needs to be hashed "
                                       "before being used by the HMAC algorithm.")),
              "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2");
}

static void an_empty_key_is_a_key_and_not_the_one_before(void **state)
{
    (void)state;
    (void)hmac_sha256(span_of_text("Jefe"), span_of_text("x"));
    check_hex(hmac_sha256(span_of(NULL, 0), span_of(NULL, 0)),
              "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void *digest_often(void *unused)
{
    (void)unused;
    uint8_t block[4096];
    struct span data = filled(block, 7, sizeof block);
    struct sha256 first = hmac_sha256(span_of_text("key"), data);
    for (int i = 0; i < 500; i++) {
        struct sha256 again = hmac_sha256(span_of_text("key"), data);
        if (!digests_equal(&first, &again, sizeof first))
            return "differs";
    }
    return NULL;
}

static void threads_may_digest_at_once(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, digest_often, NULL), 0);
    for (size_t i = 0; i < 4; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
}

static void equal_means_every_byte(void **state)
{
    (void)state;
    assert_true(digests_equal("abcd", "abcd", 4));
    assert_false(digests_equal("abcd", "abce", 4));
    assert_false(digests_equal("abcd", "bbcd", 4));
    assert_true(digests_equal("abcd", "abce", 3));
}

static void hex_reads_back_and_refuses_anything_else(void **state)
{
    (void)state;
    uint8_t out[2];
    char text[5];
    assert_true(hex_parse("0aFf", out, 2));
    assert_int_equal(out[0], 0x0a);
    assert_int_equal(out[1], 0xff);
    hex_of(out, 2, text);
    assert_string_equal(text, "0aff");
    static const char *const bad[] = {"", "0", "0af", "0afff", "0af ", "0agf", "x0af"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *exact = strdup(bad[i]); /* its end is seen by the address sanitizer */
        assert_false(hex_parse(exact, out, 2));
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sha256_gives_the_published_digests),
        cmocka_unit_test(hmac_gives_the_digests_of_rfc_4231),
        cmocka_unit_test(an_empty_key_is_a_key_and_not_the_one_before),
        cmocka_unit_test(threads_may_digest_at_once),
        cmocka_unit_test(equal_means_every_byte),
        cmocka_unit_test(hex_reads_back_and_refuses_anything_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
