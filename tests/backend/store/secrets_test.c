/* SPDX-License-Identifier: MIT */
#include "backend/store/secrets.h"

#include "tests/support/check.h"
#include "tests/support/fake_env.h"
#include "tests/support/tmp_dir.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static const char *const names[] = {"AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", NULL};

/* --- an environment, a folder, and a world with other owners --- */

struct place {
    struct tmp_dir dir;
    char systemd[PATH_MAX]; /* $CREDENTIALS_DIRECTORY */
    struct store_host host;
};

static int setup(void **state)
{
    static struct place p;
    fake_env_clear();
    tmp_dir_make(&p.dir);
    snprintf(p.systemd, sizeof p.systemd, "%s", tmp_dir_path(&p.dir, "systemd"));
    assert_int_equal(mkdir(p.systemd, 0700), 0);
    p.host = (struct store_host){.world = world_real(), .credentials = p.dir.path, .env = fake_env};
    *state = &p;
    return 0;
}

static int teardown(void **state)
{
    struct place *p = *state;
    tmp_dir_remove(&p->dir);
    return 0;
}

static void write_file(const char *folder, const char *name, const char *text, size_t length,
                       mode_t mode)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), length);
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void write_ours(const struct place *p, const char *text)
{
    write_file(p->dir.path, "azure.acct", text, strlen(text), 0600);
}

static bool find(const struct place *p, struct secrets *out, struct err *err)
{
    return secrets_find(&p->host, "azure.acct", names, out, err);
}

static void check_value(const struct place *p, const char *wanted)
{
    struct secrets s AUTO_SECRETS;
    struct err err = ERR_NONE;
    check_ok(find(p, &s, &err), err);
    const char *value = secrets_value(&s, "AZURE_STORAGE_KEY");
    if (wanted == NULL)
        assert_null(value);
    else
        assert_string_equal(value, wanted);
}

/* --- places --- */

static void nothing_anywhere_is_an_empty_set(void **state)
{
    struct secrets s AUTO_SECRETS;
    struct err err = ERR_NONE;
    check_ok(find(*state, &s, &err), err);
    assert_int_equal(s.text.length, 0);
    assert_null(secrets_value(&s, "AZURE_STORAGE_KEY"));
}

static void the_units_credential_comes_before_the_file_and_that_before_the_environment(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS = {.text = BUF_NONE};
    struct err err = ERR_NONE;
    fake_env_set("AZURE_STORAGE_KEY", "of-environment");
    fake_env_set("CREDENTIALS_DIRECTORY", p->systemd);
    check_value(p, "of-environment");
    write_ours(p, "AZURE_STORAGE_KEY=of-file\n");
    check_value(p, "of-file");
    write_file(p->systemd, "azure.acct", "AZURE_STORAGE_KEY=of-unit\n", 26, 0400);
    check_value(p, "of-unit");
    check_ok(find(p, &s, &err), err);
    assert_non_null(strstr(s.place, "/systemd/azure.acct"));
}

/* Half of one set and half of another would be a signature of nobody's. */
static void a_set_is_taken_whole_from_one_place(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS;
    struct err err = ERR_NONE;
    fake_env_set("AZURE_STORAGE_KEY", "of-environment");
    write_ours(p, "AZURE_STORAGE_SAS_TOKEN=of-file\n");
    check_ok(find(p, &s, &err), err);
    assert_string_equal(secrets_value(&s, "AZURE_STORAGE_SAS_TOKEN"), "of-file");
    assert_null(secrets_value(&s, "AZURE_STORAGE_KEY"));
}

static void a_file_without_any_of_the_names_is_passed_over(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS;
    struct err err = ERR_NONE;
    fake_env_set("AZURE_STORAGE_KEY", "of-environment");
    write_ours(p, "AWS_ACCESS_KEY_ID=of-file\n# AZURE_STORAGE_KEY=no\n");
    check_ok(find(p, &s, &err), err);
    assert_string_equal(secrets_value(&s, "AZURE_STORAGE_KEY"), "of-environment");
    assert_string_equal(s.place, "the environment");
}

static void an_empty_variable_is_none(void **state)
{
    fake_env_set("AZURE_STORAGE_KEY", "");
    check_value(*state, NULL);
}

static void a_credentials_name_is_no_path(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS;
    struct err err;
    check_fails(secrets_find(&p->host, "../azure.acct", names, &s, &err), err, ERR_INVALID);
    check_says(err, "credential=../azure.acct");
}

static void a_folder_in_a_files_place_is_refused(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS;
    struct err err;
    check_fails(secrets_find(&p->host, "..", names, &s, &err), err, ERR_INVALID);
    check_says(err, "no file of credentials");
}

static void a_path_that_is_too_long_is_refused_and_not_cut(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS;
    struct err err;
    char store[400];
    memset(store, 'a', sizeof store);
    store[sizeof store - 1] = '\0';
    check_fails(secrets_find(&p->host, store, names, &s, &err), err, ERR_INVALID);
    check_says(err, "too long a path");
}

/* --- who may read them --- */

static void a_file_that_others_may_touch_is_refused_with_the_chmod(void **state)
{
    struct place *p = *state;
    static const mode_t modes[] = {0640, 0604, 0660, 0602, 0610, 0601, 0666};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct secrets s AUTO_SECRETS;
        struct err err;
        write_file(p->dir.path, "azure.acct", "AZURE_STORAGE_KEY=x\n", 20, modes[i]);
        check_fails(find(p, &s, &err), err, ERR_DENIED);
        check_says(err, "chmod 600 ");
        check_says(err, "/azure.acct");
    }
    write_file(p->dir.path, "azure.acct", "AZURE_STORAGE_KEY=x\n", 20, 0400);
    check_value(p, "x");
}

/* An access list of systemd's for the unit's user shows as the group's right to read. */
static void a_units_credential_may_have_an_access_list_to_read_and_no_more(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS;
    struct err err;
    fake_env_set("CREDENTIALS_DIRECTORY", p->systemd);
    write_file(p->systemd, "azure.acct", "AZURE_STORAGE_KEY=x\n", 20, 0440);
    check_value(p, "x");
    write_file(p->systemd, "azure.acct", "AZURE_STORAGE_KEY=x\n", 20, 0460);
    check_fails(find(p, &s, &err), err, ERR_DENIED);
    write_file(p->systemd, "azure.acct", "AZURE_STORAGE_KEY=x\n", 20, 0444);
    check_fails(find(p, &s, &err), err, ERR_DENIED);
}

static uint32_t owner;

static int stat_with_owner(struct world_file *f, struct world_stat *out)
{
    int result = world_real()->ops->stat(f, out);
    out->uid = owner;
    return result;
}

static void only_its_users_and_roots_files_are_taken(void **state)
{
    struct place *p = *state;
    struct world_ops ops = *world_real()->ops;
    struct world w = {.ops = &ops};
    struct secrets s AUTO_SECRETS;
    struct err err;
    ops.stat = stat_with_owner;
    p->host.world = &w;
    write_ours(p, "AZURE_STORAGE_KEY=x\n");
    owner = 0;
    check_value(p, "x");
    owner = geteuid();
    check_value(p, "x");
    owner = geteuid() + 1000;
    check_fails(find(p, &s, &err), err, ERR_DENIED);
    check_says(err, "chown");
}

static void a_file_that_is_too_large_is_refused(void **state)
{
    struct place *p = *state;
    struct secrets s AUTO_SECRETS;
    struct err err;
    static char text[SECRETS_FILE_BYTES_MAX + 1];
    memset(text, '\n', sizeof text);
    memcpy(text, "AZURE_STORAGE_KEY=x", 19);
    write_file(p->dir.path, "azure.acct", text, sizeof text - 1, 0600);
    check_value(p, "x");
    write_file(p->dir.path, "azure.acct", text, sizeof text, 0600);
    check_fails(find(p, &s, &err), err, ERR_INVALID);
}

/* --- lines --- */

static void comments_blanks_quotes_and_line_ends_are_taken_as_systemd_does(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *text, *value;
    } cases[] = {
        {"AZURE_STORAGE_KEY=abc==", "abc=="},
        {"# one\n\n; two\n \t\nAZURE_STORAGE_KEY=abc\n", "abc"},
        {"\t AZURE_STORAGE_KEY=abc \t\r\n", "abc"},
        {"AZURE_STORAGE_KEY = abc\n", "abc"},
        {"AZURE_STORAGE_KEY=\"a b\"\n", "a b"},
        {"AZURE_STORAGE_KEY='a\"b#c'\n", "a\"b#c"},
        {"AZURE_STORAGE_KEY=\" abc \"\n", " abc "},
        {"AZURE_STORAGE_KEY=a\"b\n", "a\"b"},
        {"AZURE_STORAGE_KEY=\n", ""},
        {"AZURE_STORAGE_KEY=''\n", ""},
        {"AZURE_STORAGE_KEY=old\nAZURE_STORAGE_KEY=new\n", "new"},
        {"AZURE_STORAGE_KEYS=x\nAZURE_STORAGE_KE=y\nAZURE_STORAGE_KEY=abc\n", "abc"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_ours(p, cases[i].text);
        check_value(p, cases[i].value);
    }
}

static void check_line_refused(struct place *p, const char *text, size_t length, const char *word)
{
    struct secrets s AUTO_SECRETS;
    struct err err;
    write_file(p->dir.path, "azure.acct", text, length, 0600);
    check_fails(find(p, &s, &err), err, ERR_INVALID);
    check_says(err, word);
    if (strstr(err.text, "SeCrEt") != NULL)
        fail_msg("%s", err.text);
    assert_int_equal(s.text.length, 0);
}

static void a_wrong_line_is_named_by_its_number_and_not_shown(void **state)
{
    struct place *p = *state;
    static const char *const lines[] = {"SeCrEt",
                                        "=SeCrEt",
                                        "export AZURE_STORAGE_KEY=SeCrEt",
                                        "AZURE-STORAGE-KEY=SeCrEt",
                                        "AZURE_STORAGE_KEY=\"SeCrEt",
                                        "AZURE_STORAGE_KEY='SeCrEt\"",
                                        "AZURE_STORAGE_KEY=\"",
                                        "AZURE_STORAGE_KEY=Se\rCrEt",
                                        "AZURE_STORAGE_KEY=SeCrEt\x7f",
                                        "OTHER=SeCrEt\x01"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        char text[256];
        int length =
            snprintf(text, sizeof text, "AZURE_STORAGE_SAS_TOKEN=SeCrEt\n#\n%s\nX=1\n", lines[i]);
        check_line_refused(p, text, (size_t)length, "line 3: not NAME=VALUE");
    }
}

static void a_nul_in_a_name_or_a_value_is_refused(void **state)
{
    struct place *p = *state;
    static const char in_value[] = "AZURE_STORAGE_KEY=Se\0CrEt\n", in_name[] = "AZ\0URE=SeCrEt\n";
    check_line_refused(p, in_value, sizeof in_value - 1, "line 1");
    check_line_refused(p, in_name, sizeof in_name - 1, "line 1");
}

static void a_name_longer_than_any_is_refused(void **state)
{
    struct place *p = *state;
    char text[80];
    memset(text, 'A', 64);
    strcpy(text + 64, "=SeCrEt");
    check_line_refused(p, text, strlen(text), "line 1");
    check_line_refused(p, "=", 1, "line 1");
}

/* It would be a header of its own. */
static void a_line_end_in_a_variable_is_refused_by_its_name(void **state)
{
    struct secrets s AUTO_SECRETS;
    struct err err;
    fake_env_set("AZURE_STORAGE_KEY", "SeCrEt\n");
    check_fails(find(*state, &s, &err), err, ERR_INVALID);
    check_says(err, "AZURE_STORAGE_KEY in the environment");
    assert_null(strstr(err.text, "SeCrEt"));
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(nothing_anywhere_is_an_empty_set),
        TEST(the_units_credential_comes_before_the_file_and_that_before_the_environment),
        TEST(a_set_is_taken_whole_from_one_place),
        TEST(a_file_without_any_of_the_names_is_passed_over),
        TEST(an_empty_variable_is_none),
        TEST(a_credentials_name_is_no_path),
        TEST(a_folder_in_a_files_place_is_refused),
        TEST(a_path_that_is_too_long_is_refused_and_not_cut),
        TEST(a_file_that_others_may_touch_is_refused_with_the_chmod),
        TEST(a_units_credential_may_have_an_access_list_to_read_and_no_more),
        TEST(only_its_users_and_roots_files_are_taken),
        TEST(a_file_that_is_too_large_is_refused),
        TEST(comments_blanks_quotes_and_line_ends_are_taken_as_systemd_does),
        TEST(a_wrong_line_is_named_by_its_number_and_not_shown),
        TEST(a_nul_in_a_name_or_a_value_is_refused),
        TEST(a_name_longer_than_any_is_refused),
        TEST(a_line_end_in_a_variable_is_refused_by_its_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
