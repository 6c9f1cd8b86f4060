/* SPDX-License-Identifier: MIT
 * Strings to sign: the examples of "Authorize with Shared Key"
 * (https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key), which gives no
 * signatures. Those here are of the emulator's published key, made by
 *   printf TEXT | openssl dgst -sha256 -mac HMAC -macopt hexkey:$(base64 -d | xxd -p) -binary |
 * base64
 */
#include "backend/store/azure_sign.h"

#include "common/base64.h"
#include "tests/support/check.h"

#include <locale.h>

#define KEY                                                                                        \
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#define DATE "Fri, 26 Jun 2015 23:39:12 GMT"

static void check_string(const struct cloud_call *call, const char *account, const char *wanted)
{
    struct buf out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    check_ok(azure_string_to_sign(call, account, &out, &err), err);
    buf_put_u8(&out, 0);
    assert_string_equal((const char *)out.data, wanted);
}

static void check_authorization(const struct cloud_call *call, const char *account,
                                const char *wanted)
{
    struct buf key AUTO_BUF = BUF_NONE, out AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    assert_true(base64_parse(KEY, &key));
    check_ok(azure_authorization(call, account, buf_span(&key), &out, &err), err);
    assert_string_equal((const char *)out.data, wanted);
}

static void the_example_of_container_metadata_is_signed_as_published(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "GET", .path = "/mycontainer"};
    cloud_query(&call, "comp", "metadata");
    cloud_query(&call, "restype", "container");
    cloud_query(&call, "timeout", "20");
    cloud_header(&call, "x-ms-version", "2015-02-21");
    cloud_header(&call, "x-ms-date", DATE);
    check_string(&call, "myaccount",
                 "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" DATE "\nx-ms-version:2015-02-21\n"
                 "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20");
    check_authorization(&call, "myaccount",
                        "SharedKey myaccount:1u9lui2jDxj0+fpbHjQ5m5NnastJRSYM+PSmfi8TXx4=");
}

/* "PUT\n\n\n\n...": a body of nothing has an empty length, not 0, since version 2015-02-21. */
static void the_example_of_a_new_container_has_an_empty_length(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "PUT", .path = "/mycontainer"};
    cloud_query(&call, "restype", "container");
    cloud_query(&call, "timeout", "30");
    cloud_header(&call, "x-ms-date", DATE);
    cloud_header(&call, "x-ms-version", "2015-02-21");
    check_string(&call, "myaccount",
                 "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:" DATE "\nx-ms-version:2015-02-21\n"
                 "/myaccount/mycontainer\nrestype:container\ntimeout:30");
}

static void every_standard_header_has_its_line(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "PUT", .path = "/c/b", .body = span_of_text("hello world")};
    static const char *const names[] = {"content-encoding",
                                        "content-language",
                                        "content-md5",
                                        "content-type",
                                        "if-modified-since",
                                        "if-match",
                                        "if-none-match",
                                        "if-unmodified-since",
                                        "range",
                                        "date"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        cloud_header(&call, names[i], "<%s>", names[i]);
    check_string(&call, "a",
                 "PUT\n<content-encoding>\n<content-language>\n11\n<content-md5>\n<content-type>\n"
                 "\n<if-modified-since>\n<if-match>\n<if-none-match>\n<if-unmodified-since>\n"
                 "<range>\n/a/c/b");
}

static void headers_of_the_service_are_sorted_whatever_their_order(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = {
        .method = "PUT", .path = "/mycontainer/hello.txt", .body = span_of_text("hello world")};
    cloud_header(&call, "x-ms-version", "2021-12-02");
    cloud_header(&call, "if-none-match", "*");
    cloud_header(&call, "x-ms-meta-m2", "v2");
    cloud_header(&call, "content-type", "text/plain; charset=UTF-8");
    cloud_header(&call, "x-ms-blob-type", "BlockBlob");
    cloud_header(&call, "x-ms-meta-m1", "v1");
    cloud_header(&call, "x-ms-date", "Sun, 20 Sep 2009 20:36:40 GMT");
    cloud_header(&call, "content-md5", "3dQ3p1+cT8YVUWmJ6hWUqg==");
    check_string(&call, "testaccount1",
                 "PUT\n\n\n11\n3dQ3p1+cT8YVUWmJ6hWUqg==\ntext/plain; charset=UTF-8\n\n\n\n*\n\n\n"
                 "x-ms-blob-type:BlockBlob\nx-ms-date:Sun, 20 Sep 2009 20:36:40 GMT\n"
                 "x-ms-meta-m1:v1\nx-ms-meta-m2:v2\nx-ms-version:2021-12-02\n"
                 "/testaccount1/mycontainer/hello.txt");
    check_authorization(&call, "testaccount1",
                        "SharedKey testaccount1:pchqExyKM4u4gwrMt5CezxXVh0kSZO6kcDJvP2vpnsg=");
}

/* The emulator's URLs have the account in their path too: it is there twice. */
static void the_account_stands_before_the_path_as_it_is_sent(void **state)
{
    (void)state;
    struct cloud_call call AUTO_CLOUD_CALL = {.method = "HEAD",
                                              .path = "/devstoreaccount1/c/a%20b"};
    check_string(&call, "devstoreaccount1",
                 "HEAD\n\n\n\n\n\n\n\n\n\n\n\n/devstoreaccount1/devstoreaccount1/c/a%20b");
}

static void check_date(uint64_t seconds, const char *wanted)
{
    char out[AZURE_DATE_CHARS + 1];
    azure_date(seconds * 1000 + 999, out);
    assert_string_equal(out, wanted);
}

/* Each name of a day and a month; a locale that has others, where there is one, changes nothing. */
static void dates_are_in_english_and_utc(void **state)
{
    (void)state;
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ja_JP.UTF-8", ""};
    static const char *const wanted[] = {
        "Thu, 01 Jan 1970 00:00:00 GMT", "Sun, 01 Feb 1970 00:00:00 GMT",
        "Sun, 01 Mar 1970 00:00:00 GMT", "Wed, 01 Apr 1970 00:00:00 GMT",
        "Fri, 01 May 1970 00:00:00 GMT", "Mon, 01 Jun 1970 00:00:00 GMT",
        "Wed, 01 Jul 1970 00:00:00 GMT", "Sat, 01 Aug 1970 00:00:00 GMT",
        "Tue, 01 Sep 1970 00:00:00 GMT", "Thu, 01 Oct 1970 00:00:00 GMT",
        "Sun, 01 Nov 1970 00:00:00 GMT", "Tue, 01 Dec 1970 00:00:00 GMT"};
    static const unsigned days[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    for (size_t i = 0; i < sizeof locales / sizeof *locales; i++)
        if (setlocale(LC_ALL, locales[i]) != NULL)
            break;
    for (size_t i = 0; i < 12; i++)
        check_date(days[i] * 86400ull, wanted[i]);
    check_date(1435361952, DATE);
    setlocale(LC_ALL, "C");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_container_metadata_is_signed_as_published),
        cmocka_unit_test(the_example_of_a_new_container_has_an_empty_length),
        cmocka_unit_test(every_standard_header_has_its_line),
        cmocka_unit_test(headers_of_the_service_are_sorted_whatever_their_order),
        cmocka_unit_test(the_account_stands_before_the_path_as_it_is_sent),
        cmocka_unit_test(dates_are_in_english_and_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
