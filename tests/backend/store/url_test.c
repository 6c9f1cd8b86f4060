/* SPDX-License-Identifier: MIT */
#include "backend/store/url.h"

#include "tests/support/check.h"

#include <stdio.h>

static const char *const names[] = {"endpoint", "region", "style", "ca", NULL};

static void check_refused(const char *url, const char *word)
{
    struct store_url u;
    struct err err;
    check_fails(store_url_parse(url, "s3://", names, &u, &err), err, ERR_INVALID);
    check_says(err, word);
}

static void names_path_and_options_are_taken_apart(void **state)
{
    (void)state;
    struct store_url u;
    struct err err = ERR_NONE;
    check_ok(store_url_parse("s3://My-bucket.1_x/a/b?endpoint=http://127.0.0.1:7480&style=path",
                             "s3://", names, &u, &err),
             err);
    assert_string_equal(u.authority, "My-bucket.1_x");
    assert_string_equal(u.path, "a/b");
    assert_string_equal(store_url_option(&u, "endpoint"), "http://127.0.0.1:7480");
    assert_string_equal(store_url_option(&u, "style"), "path");
    assert_null(store_url_option(&u, "region"));
}

static void path_and_options_may_be_missing(void **state)
{
    (void)state;
    static const char *const urls[] = {"s3://b", "s3://b/", "s3://b//", "s3://b?", "s3://b/?&&"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        struct store_url u;
        struct err err = ERR_NONE;
        check_ok(store_url_parse(urls[i], "s3://", names, &u, &err), err);
        assert_string_equal(u.authority, "b");
        assert_string_equal(u.path, "");
        assert_int_equal(u.option_count, 0);
    }
}

static void slashes_at_the_ends_of_the_path_do_not_count(void **state)
{
    (void)state;
    struct store_url u;
    struct err err = ERR_NONE;
    check_ok(store_url_parse("s3://b//a/c//", "s3://", names, &u, &err), err);
    assert_string_equal(u.path, "a/c");
}

static void escapes_are_read_in_either_case(void **state)
{
    (void)state;
    struct store_url u;
    struct err err = ERR_NONE;
    check_ok(
        store_url_parse("s3://%62/%61%2Fb?%72egion=x%26y%3dz%2f%C3%A4", "s3://", names, &u, &err),
        err);
    assert_string_equal(u.authority, "b");
    assert_string_equal(u.path, "a/b");
    assert_string_equal(store_url_option(&u, "region"), "x&y=z/\xc3\xa4");
}

static void half_and_forbidden_escapes_are_refused(void **state)
{
    (void)state;
    static const char *const parts[] = {"%", "%4", "%zz", "%00", "%0a", "%7f", "%1F"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char url[64];
        snprintf(url, sizeof url, "s3://b%s/p", parts[i]);
        check_refused(url, "a name");
        snprintf(url, sizeof url, "s3://b/p%s", parts[i]);
        check_refused(url, "its path");
        snprintf(url, sizeof url, "s3://b/p?region=%s", parts[i]);
        check_refused(url, "the value of region");
        snprintf(url, sizeof url, "s3://b/p?%s=x", parts[i]);
        check_refused(url, "?NAME=VALUE");
    }
}

static void a_name_is_needed_and_holds_no_other_characters(void **state)
{
    (void)state;
    check_refused("s3://", "a name");
    check_refused("s3:///p", "a name");
    check_refused("s3://?region=x", "a name");
    check_refused("s3://a:9000/p", "a name");
    check_refused("s3://a b/p", "a name");
    check_refused("s3://a%2fb/p", "a name");
}

static void a_path_follows_the_rule_of_keys(void **state)
{
    (void)state;
    check_refused("s3://b/a//c", "its path");
    check_refused("s3://b/../c", "its path");
    check_refused("s3://b/a c", "its path");
    check_refused("s3://b/a#c", "its path");
    check_refused("s3://b#c", "its path");
    check_refused("s3://b/a%3fc", "its path");
}

static void what_is_too_long_is_refused(void **state)
{
    (void)state;
    char url[2048], many[600];
    memset(many, 'a', sizeof many);
    many[sizeof many - 1] = '\0';
    snprintf(url, sizeof url, "s3://%s/p", many);
    check_refused(url, "a name");
    snprintf(url, sizeof url, "s3://b/%s", many);
    check_refused(url, "longer than 512");
    snprintf(url, sizeof url, "s3://b/p?region=%s", many);
    check_refused(url, "the value of region is too long");
    snprintf(url, sizeof url, "s3://b/p?%s=x", many);
    check_refused(url, "?NAME=VALUE");
}

static void options_are_known_once_each_and_have_a_value(void **state)
{
    (void)state;
    check_refused("s3://b/p?regoin=x", "\"regoin\"");
    check_refused("s3://b/p?regoin=x", "endpoint, region, style, ca");
    check_refused("s3://b/p?region=x&region=x", "twice");
    check_refused("s3://b/p?region", "?NAME=VALUE");
    check_refused("s3://b/p?=x", "?NAME=VALUE");
}

static void more_options_than_there_is_room_for_are_refused(void **state)
{
    (void)state;
    static const char *const many[] = {"a", "b", "c", "d", "e", "f", "g",
                                       "h", "i", "j", "l", "m", "n", NULL};
    struct store_url u;
    struct err err = ERR_NONE;
    assert_int_equal(URL_OPTIONS_MAX, 12);
    check_ok(store_url_parse("s3://x?a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&l=&m=", "s3://", many, &u, &err),
             err);
    check_fails(
        store_url_parse("s3://x?a=&b=&c=&d=&e=&f=&g=&h=&i=&j=&l=&m=&n=", "s3://", many, &u, &err),
        err, ERR_INVALID);
    check_says(err, "more than 12");
}

/* Each holds SeCrEt where somebody put one. */
static const char *const with_secrets[] = {
    "s3://AKID:SeCrEt@b/p",
    "s3://SeCrEt@b",
    "s3://AKID:Se/CrEt@b/p",
    "s3://b%40SeCrEt/p",
    "s3://b/p?sig=SeCrEt",
    "s3://b/p?SIG=SeCrEt",
    "s3://b/p?sas=SeCrEt",
    "s3://b/p?s%69g=SeCrEt",
    "s3://b/p?key=SeCrEt",
    "s3://b/p?secret_access_key=SeCrEt",
    "s3://b/p?AccountKey=SeCrEt",
    "s3://b/p?session_token=SeCrEt",
    "s3://b/p?Token=SeCrEt",
    "s3://b/p?password=SeCrEt",
    "s3://b/p?sv=2021-12-02&ss=b&sig=SeCrEt%3D",
    "s3://b/p?region=eu&endpoint=https://x.example/?sv=1&sig=SeCrEt",
    "s3://b/p?endpoint=https://x.example/%3Fsv=1%26sig%3DSeCrEt",
    "s3://b/p?endpoint=https://x.example/%3FSig%3DSeCrEt",
    "s3://b/p?endpoint=https://user:SeCrEt@x.example",
    "s3://b/p?endpoint=https%3A//user%3ASeCrEt%40x.example",
    "s3://b/p?region=SeCrEt%",
    "s3://b/p?other=SeCrEt",
    "s3://b/p?SeCrEt",
};

static void a_secret_is_refused_and_not_shown(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof with_secrets / sizeof *with_secrets; i++) {
        struct store_url u;
        struct err err;
        check_fails(store_url_parse(with_secrets[i], "s3://", names, &u, &err), err, ERR_INVALID);
        if (strstr(err.text, "SeCrEt") != NULL || strstr(err.text, "CrEt") != NULL)
            fail_msg("%s: %s", with_secrets[i], err.text);
    }
}

static void who_gives_a_secret_is_told_where_it_belongs(void **state)
{
    (void)state;
    check_refused("s3://AKID:SeCrEt@b/p", "CONFIG/credentials");
    check_refused("s3://b/p?sv=2021-12-02&sig=SeCrEt", "CONFIG/credentials");
    check_refused("s3://b/p?AccountKey=SeCrEt", "CONFIG/credentials");
    check_refused("s3://b/p?session_token=SeCrEt", "CONFIG/credentials");
    check_refused("s3://b/p?client_secret=SeCrEt", "CONFIG/credentials");
    check_refused("s3://b/p?password=SeCrEt", "CONFIG/credentials");
    check_refused("s3://b/p?endpoint=https://u:SeCrEt@h", "CONFIG/credentials");
    check_refused("s3://b/p?ca=sig%3DSeCrEt", "CONFIG/credentials");
}

static void a_refusal_names_the_store(void **state)
{
    (void)state;
    check_refused("s3://bucket/p?x=y", "store s3://bucket");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_path_and_options_are_taken_apart),
        cmocka_unit_test(path_and_options_may_be_missing),
        cmocka_unit_test(slashes_at_the_ends_of_the_path_do_not_count),
        cmocka_unit_test(escapes_are_read_in_either_case),
        cmocka_unit_test(half_and_forbidden_escapes_are_refused),
        cmocka_unit_test(a_name_is_needed_and_holds_no_other_characters),
        cmocka_unit_test(a_path_follows_the_rule_of_keys),
        cmocka_unit_test(what_is_too_long_is_refused),
        cmocka_unit_test(options_are_known_once_each_and_have_a_value),
        cmocka_unit_test(more_options_than_there_is_room_for_are_refused),
        cmocka_unit_test(a_secret_is_refused_and_not_shown),
        cmocka_unit_test(who_gives_a_secret_is_told_where_it_belongs),
        cmocka_unit_test(a_refusal_names_the_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
