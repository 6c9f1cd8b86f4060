/* SPDX-License-Identifier: MIT
 * store_endpoint: where stores would connect to, told without connecting. */
#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

#include "backend/store/store.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char *no_env(const char *name)
{
    (void)name;
    return NULL;
}

static char *aws_env(const char *name)
{
    static char id[] = "AKIDEXAMPLE", secret[] = "secret", region[] = "eu-central-1";
    if (strcmp(name, "AWS_REGION") == 0)
        return region;
    if (strcmp(name, "AWS_ACCESS_KEY_ID") == 0)
        return id;
    return strcmp(name, "AWS_SECRET_ACCESS_KEY") == 0 ? secret : NULL;
}

static struct store_endpoint endpoint(char *(*env)(const char *name), const char *url)
{
    struct store_host host = {.world = world_real(), .env = env};
    struct store_endpoint e;
    struct err err = ERR_NONE;
    check_ok(store_endpoint(&host, url, &e, &err), err);
    return e;
}

static void an_endpoint_has_its_port_whether_the_url_names_it_or_not(void **state)
{
    (void)state;
    static const struct {
        const char *url, *endpoint;
    } rows[] = {
        {"azure://acc/box/p", "https://acc.blob.core.windows.net:443"},
        {"azure://acc/box?endpoint=https://own.example/acc", "https://own.example:443"},
        {"azure://acc/box?endpoint=http://127.0.0.1:10000/acc", "http://127.0.0.1:10000"},
        {"azure://acc/box?endpoint=http://[::1]/acc", "http://[::1]:80"},
        {"azure://acc/box?endpoint=https://[::1]:8443/acc", "https://[::1]:8443"},
        {"s3://box/p", "https://box.s3.us-east-1.amazonaws.com:443"},
        {"s3://box?region=eu-west-2", "https://box.s3.eu-west-2.amazonaws.com:443"},
        {"s3://box?style=path", "https://s3.us-east-1.amazonaws.com:443"},
        {"s3://box?endpoint=http://10.0.0.1:7480/&plain=yes", "http://10.0.0.1:7480"},
        {"s3://box?endpoint=https://ceph.example&style=host", "https://box.ceph.example:443"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_string_equal(endpoint(no_env, rows[i].url).store, rows[i].endpoint);
    assert_string_equal(endpoint(aws_env, "s3://box").store,
                        "https://box.s3.eu-central-1.amazonaws.com:443");
}

static void the_metadata_endpoint_is_told_only_when_no_credential_is_given(void **state)
{
    (void)state;
    assert_string_equal(endpoint(no_env, "s3://box").metadata, "http://169.254.169.254:80");
    assert_string_equal(endpoint(no_env, "azure://acc/box").metadata, "http://169.254.169.254:80");
    assert_string_equal(endpoint(no_env, "azure://acc/box?identity=http://127.0.0.1:81/x").metadata,
                        "http://127.0.0.1:81");
    assert_string_equal(endpoint(aws_env, "s3://box").metadata, "");
    assert_string_equal(endpoint(aws_env, "azure://acc/box").metadata, "http://169.254.169.254:80");
}

static void a_credential_that_is_known_by_its_name_needs_no_metadata(void **state)
{
    (void)state;
    struct tmp_dir folder CLEANUP(tmp_dir_remove);
    struct store_host host = {.world = world_real(), .env = no_env};
    struct store_endpoint e;
    struct err err = ERR_NONE;
    tmp_dir_make(&folder);
    host.credentials = folder.path;
    FILE *f = fopen(tmp_dir_path(&folder, "azure.acc"), "w");
    assert_non_null(f);
    fputs("AZURE_STORAGE_KEY=a2V5\n", f);
    assert_int_equal(fchmod(fileno(f), 0600), 0);
    assert_int_equal(fclose(f), 0);
    check_ok(store_endpoint(&host, "azure://acc/box", &e, &err), err);
    assert_string_equal(e.metadata, "");
    check_ok(store_endpoint(&host, "azure://other/box", &e, &err), err);
    assert_string_equal(e.metadata, "http://169.254.169.254:80");
}

static void a_store_in_a_folder_needs_no_network_and_need_not_be_there(void **state)
{
    (void)state;
    struct store_endpoint e = endpoint(no_env, "file:///no/such/folder");
    assert_string_equal(e.store, "");
    assert_string_equal(e.metadata, "");
}

static void a_url_that_no_store_takes_has_no_endpoint(void **state)
{
    (void)state;
    struct store_host host = {.world = world_real(), .env = no_env};
    struct store_endpoint e;
    struct err err = ERR_NONE;
    check_fails(store_endpoint(&host, "nfs://box", &e, &err), err, ERR_INVALID);
    check_fails(store_endpoint(&host, "s3://box?colour=red", &e, &err), err, ERR_INVALID);
    check_says(err, "colour");
    check_fails(store_endpoint(&host, "azure://acc/box?endpoint=gopher://x/acc", &e, &err), err,
                ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_endpoint_has_its_port_whether_the_url_names_it_or_not),
        cmocka_unit_test(the_metadata_endpoint_is_told_only_when_no_credential_is_given),
        cmocka_unit_test(a_credential_that_is_known_by_its_name_needs_no_metadata),
        cmocka_unit_test(a_store_in_a_folder_needs_no_network_and_need_not_be_there),
        cmocka_unit_test(a_url_that_no_store_takes_has_no_endpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
