/* SPDX-License-Identifier: MIT
 * Whom backend/store/http.c trusts. */
#include "backend/store/http.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "common/file.h"
#include "tests/support/check.h"
#include "tests/support/http_store.h"
#include "tests/support/tmp_dir.h"

struct certificate {
    char key[4096], text[4096]; /* PEM */
};

static void write_pem(BIO *from, char out[4096])
{
    int length = BIO_read(from, out, 4095);
    assert_true(length > 0);
    out[length] = '\0';
    BIO_free(from);
}

/* Signed by itself, for `name` ("IP:127.0.0.1"). */
static void certificate_make(struct certificate *c, const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    BIO *key_out = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name);
    X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints, "CA:TRUE");

    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    X509_add_ext(x, names, -1);
    X509_add_ext(x, ca, -1);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    PEM_write_bio_PrivateKey(key_out, key, NULL, NULL, 0, NULL, NULL);
    PEM_write_bio_X509(out, x);
    write_pem(key_out, c->key);
    write_pem(out, c->text);
    X509_EXTENSION_free(names);
    X509_EXTENSION_free(ca);
    X509_free(x);
    EVP_PKEY_free(key);
}

struct fixture {
    struct http_store *server;
    struct http *http;
};

static void end(struct fixture *f)
{
    http_release(&f->http);
    http_store_stop(&f->server);
}

/* A server with that certificate, and a client that trusts `trusted`; NULL: what the system does.
 */
static bool serve(struct fixture *f, struct tmp_dir *dir, const struct certificate *c,
                  const struct certificate *trusted)
{
    struct http_config config = {.world = world_real()};
    struct err err = ERR_NONE;
    const char *path = tmp_dir_path(dir, "ca.pem");
    end(f);
    f->server = http_store_start(
        &(struct http_store_config){.tls_key = c->key, .tls_certificate = c->text});
    if (trusted != NULL)
        check_ok(file_replace(world_real(), path, 0600, span_of_text(trusted->text), &err), err);
    config.ca_file = trusted != NULL ? path : NULL;
    check_ok(http_make(&config, &f->http, &err), err);
    return f->server != NULL;
}

static bool get(const struct fixture *f, struct err *err)
{
    struct http_answer answer AUTO_HTTP_ANSWER = HTTP_ANSWER_NONE;
    char url[80];
    snprintf(url, sizeof url, "https://127.0.0.1:%u/b/k", http_store_port(f->server));
    struct http_request request = {.method = "GET", .url = url, .headers = BUF_NONE};
    return http_call(f->http, &request, &answer, err);
}

static void only_a_trusted_certificate_for_the_right_name_will_do(void **state)
{
    struct fixture f CLEANUP(end) = {.http = NULL};
    (void)state;
    struct certificate ours, another, misnamed;
    struct tmp_dir dir CLEANUP(tmp_dir_remove);
    struct err err = ERR_NONE;
    tmp_dir_make(&dir);
    certificate_make(&ours, "IP:127.0.0.1");
    certificate_make(&another, "IP:127.0.0.1");
    certificate_make(&misnamed, "DNS:elsewhere.invalid");
    if (!serve(&f, &dir, &ours, &ours))
        cannot_run("this libmicrohttpd has no TLS");
    check_ok(get(&f, &err), err);
    assert_true(serve(&f, &dir, &ours, NULL));
    check_fails(get(&f, &err), err, ERR_DENIED);
    check_says(err, "ca=");
    assert_true(serve(&f, &dir, &ours, &another));
    check_fails(get(&f, &err), err, ERR_DENIED);
    assert_true(serve(&f, &dir, &misnamed, &misnamed));
    check_fails(get(&f, &err), err, ERR_DENIED);
    assert_int_equal(http_store_requests(f.server, NULL), 0);
}

static void a_ca_file_without_certificates_is_said(void **state)
{
    struct fixture f CLEANUP(end) = {.http = NULL};
    struct certificate ours, empty = {.text = "nothing\n"};
    struct tmp_dir dir CLEANUP(tmp_dir_remove);
    struct err err;
    (void)state;
    tmp_dir_make(&dir);
    certificate_make(&ours, "IP:127.0.0.1");
    if (!serve(&f, &dir, &ours, &empty))
        cannot_run("this libmicrohttpd has no TLS");
    check_fails(get(&f, &err), err, ERR_INVALID);
    check_says(err, "ca.pem");
}

static void a_ca_file_that_is_missing_is_said(void **state)
{
    struct http_config config = {.world = world_real(), .ca_file = "/nowhere/ca.pem"};
    struct http *http AUTO_HTTP = NULL;
    struct err err;
    (void)state;
    check_fails(http_make(&config, &http, &err), err, ERR_INVALID);
    check_says(err, "/nowhere/ca.pem");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_a_trusted_certificate_for_the_right_name_will_do),
        cmocka_unit_test(a_ca_file_without_certificates_is_said),
        cmocka_unit_test(a_ca_file_that_is_missing_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
