/* SPDX-License-Identifier: MIT
 * Published vectors. Of S3: the four examples of "Signature Calculations for the Authorization
 * Header" (https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html). Of the
 * algorithm: aws-sig-v4-test-suite, by the names of its folders. */
#include "backend/store/s3_sign.h"

#include "common/digest.h"
#include "tests/support/check.h"

#include <stdio.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const struct s3_credentials s3_page = {.key_id = "AKIAIOSFODNN7EXAMPLE",
                                              .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
static const struct s3_credentials suite = {.key_id = "AKIDEXAMPLE",
                                            .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"};

static void check_authorization(const struct cloud_call *call,
                                const struct s3_credentials *credentials, const char *service,
                                const char *digest, const char *wanted)
{
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(s3_authorization(call, credentials, "us-east-1", service, digest, &out, &err), err);
    assert_string_equal((const char *)out.data, wanted);
}

/* --- the examples of S3 --- */

#define PAGE_SCOPE                                                                                 \
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "        \
    "SignedHeaders="

static struct cloud_call page_call(const char *method, const char *path)
{
    struct cloud_call call = {.method = method, .path = path, .scratch = BUF_NONE};
    cloud_header(&call, "host", "examplebucket.s3.amazonaws.com");
    cloud_header(&call, "x-amz-date", "20130524T000000Z");
    return call;
}

static void the_example_of_a_ranged_get_is_signed_as_published(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = page_call("GET", "/test.txt");
    cloud_header(&call, "range", "bytes=0-9");
    cloud_header(&call, "x-amz-content-sha256", EMPTY);
    check_authorization(&call, &s3_page, "s3", EMPTY,
                        PAGE_SCOPE "host;range;x-amz-content-sha256;x-amz-date, Signature="
                                   "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb4"
                                   "1");
}

static void the_example_of_a_put_is_signed_as_published(void **state)
{
    (void)state;
    char hex[2 * SHA256_BYTES + 1];
    struct cloud_call call AUTO_CLOUD_CALL = page_call("PUT", "/test%24file.text");
    struct sha256 digest = sha256_of(span_of_text("Welcome to Amazon S3."));
    hex_of(digest.bytes, sizeof digest, hex);
    cloud_header(&call, "date", "Fri, 24 May 2013 00:00:00 GMT");
    cloud_header(&call, "x-amz-storage-class", "REDUCED_REDUNDANCY");
    cloud_header(&call, "x-amz-content-sha256", "%s", hex);
    check_authorization(&call, &s3_page, "s3", hex,
                        PAGE_SCOPE
                        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, Signature="
                        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void the_example_of_a_parameter_without_value_is_signed_as_published(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = page_call("GET", "/");
    cloud_query(&call, "lifecycle", "");
    cloud_header(&call, "x-amz-content-sha256", EMPTY);
    check_authorization(&call, &s3_page, "s3", EMPTY,
                        PAGE_SCOPE "host;x-amz-content-sha256;x-amz-date, Signature="
                                   "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a013678354"
                                   "3");
}

static void the_example_of_a_list_is_signed_as_published(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = page_call("GET", "/");
    cloud_query(&call, "max-keys", "2");
    cloud_query(&call, "prefix", "J");
    cloud_header(&call, "x-amz-content-sha256", EMPTY);
    check_authorization(&call, &s3_page, "s3", EMPTY,
                        PAGE_SCOPE "host;x-amz-content-sha256;x-amz-date, Signature="
                                   "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f"
                                   "7");
}

/* --- the test suite --- */

/* Up to two headers besides host and date, put in front of them or behind. */
static void check_suite(const char *method, const char *path, const char *const query[4],
                        const char *const headers[4], const char *digest, const char *names,
                        const char *signature)
{
    struct cloud_call call AUTO_CLOUD_CALL = {.method = method, .path = path, .scratch = BUF_NONE};
    char wanted[512];
    for (size_t i = 0; i < 4 && query != NULL && query[i] != NULL; i += 2)
        cloud_query(&call, query[i], query[i + 1]);
    cloud_header(&call, "x-amz-date", "20150830T123600Z");
    for (size_t i = 0; i < 4 && headers != NULL && headers[i] != NULL; i += 2)
        cloud_header(&call, headers[i], "%s", headers[i + 1]);
    cloud_header(&call, "host", "example.amazonaws.com");
    snprintf(wanted, sizeof wanted,
             "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
             "SignedHeaders=%s, Signature=%s",
             names, signature);
    check_authorization(&call, &suite, "service", digest, wanted);
}

static void the_suites_plain_requests_are_signed_as_published(void **state)
{
    (void)state;
    /* get-vanilla, post-vanilla, get-utf8, get-space (its path is escaped once, as S3 wants it) */
    check_suite("GET", "/", NULL, NULL, EMPTY, "host;x-amz-date",
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
    check_suite("POST", "/", NULL, NULL, EMPTY, "host;x-amz-date",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    check_suite("GET", "/%E1%88%B4", NULL, NULL, EMPTY, "host;x-amz-date",
                "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85");
    check_suite("GET", "/example%20space/", NULL, NULL, EMPTY, "host;x-amz-date",
                "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741");
}

static void the_suites_queries_are_signed_as_published(void **state)
{
    (void)state;
    static const char all[] = "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    /* get-vanilla-query-order-key-case, get-vanilla-query-unreserved */
    check_suite("GET", "/", (const char *[4]){"Param1", "value1", "Param2", "value2"}, NULL, EMPTY,
                "host;x-amz-date",
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
    check_suite("GET", "/", (const char *[4]){all, all}, NULL, EMPTY, "host;x-amz-date",
                "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197");
}

static void the_suites_headers_are_sorted_and_trimmed_as_published(void **state)
{
    (void)state;
    static const char body[] =
        "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e"; /* Param1=value1 */
    /* get-header-value-trim, post-header-key-sort, post-x-www-form-urlencoded */
    check_suite("GET", "/", NULL,
                (const char *[4]){"my-header2", " \"a   b   c\"", "my-header1", " value1 "}, EMPTY,
                "host;my-header1;my-header2;x-amz-date",
                "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
    check_suite("POST", "/", NULL, (const char *[4]){"my-header1", "value1"}, EMPTY,
                "host;my-header1;x-amz-date",
                "c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c");
    check_suite("POST", "/", NULL,
                (const char *[4]){"content-type", "application/x-www-form-urlencoded"}, body,
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a");
}

static void a_session_token_is_signed_as_published(void **state)
{
    (void)state;
    /* post-sts-header-before */
    check_suite(
        "POST", "/", NULL,
        (const char *[4]){
            "x-amz-security-token",
            "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRX"
            "mxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsbur"
            "EDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPk"
            "UL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="},
        EMPTY, "host;x-amz-date;x-amz-security-token",
        "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead");
}

static void a_moment_is_written_in_basic_form_and_utc(void **state)
{
    (void)state;
    char out[S3_DATE_CHARS + 1];
    s3_date(1369353600000, out);
    assert_string_equal(out, "20130524T000000Z");
    s3_date(1440938160999, out);
    assert_string_equal(out, "20150830T123600Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_a_ranged_get_is_signed_as_published),
        cmocka_unit_test(the_example_of_a_put_is_signed_as_published),
        cmocka_unit_test(the_example_of_a_parameter_without_value_is_signed_as_published),
        cmocka_unit_test(the_example_of_a_list_is_signed_as_published),
        cmocka_unit_test(the_suites_plain_requests_are_signed_as_published),
        cmocka_unit_test(the_suites_queries_are_signed_as_published),
        cmocka_unit_test(the_suites_headers_are_sorted_and_trimmed_as_published),
        cmocka_unit_test(a_session_token_is_signed_as_published),
        cmocka_unit_test(a_moment_is_written_in_basic_form_and_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
