/* SPDX-License-Identifier: MIT */
#include "tools/failover/nvram.h"

#include "tests/support/check.h"
#include "tests/support/tmp_dir.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static void variables_arrive_as_they_were_with_rights_for_their_owner_alone(void **state)
{
    struct world *w = world_real();
    struct buf packed AUTO_BUF = BUF_NONE, back AUTO_BUF = BUF_NONE, bytes AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    struct stat st, folder;
    char from[PATH_MAX], to[PATH_MAX];

    snprintf(from, sizeof from, "%s", tmp_dir_path(*state, "web.fd"));
    snprintf(to, sizeof to, "%s", tmp_dir_path(*state, "deep/folder/web.fd"));
    for (int i = 0; i < 500000; i++)
        buf_put_u8(&bytes, i < 3000 ? (uint8_t)(i * 7 % 251) : 0xff);
    check_ok(file_replace(w, from, 0644, buf_span(&bytes), &err), err);
    check_ok(nvram_read(w, from, &packed, &err), err);
    assert_true(packed.length < 10000);
    check_ok(nvram_write(w, to, buf_span(&packed), &err), err);
    check_ok(file_load(w, to, NVRAM_BYTES_MAX, &back, &err), err);
    assert_true(span_equal(buf_span(&bytes), buf_span(&back)));
    assert_int_equal(stat(to, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    if (geteuid() == 0) { /* as libvirt's own folder belongs to its user */
        assert_int_equal(chown(tmp_dir_path(*state, "deep/folder"), 12345, 54321), 0);
        check_ok(nvram_write(w, to, buf_span(&packed), &err), err);
        assert_int_equal(stat(to, &st), 0);
        assert_int_equal(stat(tmp_dir_path(*state, "deep/folder"), &folder), 0);
        assert_int_equal(st.st_uid, folder.st_uid);
        assert_int_equal(st.st_gid, folder.st_gid);
    }
}

static void what_is_not_there_or_does_not_fit_is_told_apart(void **state)
{
    struct world *w = world_real();
    struct buf packed AUTO_BUF = BUF_NONE, bytes AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    const char *path = tmp_dir_path(*state, "noise");
    uint32_t x = 1;

    check_fails(nvram_read(w, tmp_dir_path(*state, "none"), &packed, &err), err, ERR_NOT_FOUND);
    for (size_t i = 0; i < NVRAM_PACKED_MAX + 1000; i++) {
        x = x * 1664525u + 1013904223u;
        buf_put_u8(&bytes, (uint8_t)(x >> 24));
    }
    check_ok(file_replace(w, path, 0600, buf_span(&bytes), &err), err);
    buf_put_u8(&packed, 7);
    check_fails(nvram_read(w, path, &packed, &err), err, ERR_FULL);
    assert_int_equal(packed.length, 1);
}

static void hostile_bytes_are_refused_and_the_file_stays(void **state)
{
    struct world *w = world_real();
    struct buf packed AUTO_BUF = BUF_NONE, back AUTO_BUF = BUF_NONE;
    struct err err = ERR_NONE;
    char path[PATH_MAX];

    snprintf(path, sizeof path, "%s", tmp_dir_path(*state, "web.fd"));
    check_ok(file_replace(w, path, 0600, span_of_text("the variables"), &err), err);
    check_ok(nvram_read(w, path, &packed, &err), err);
    check_fails(nvram_write(w, path, span_of_text("no zstd at all"), &err), err, ERR_CORRUPT);
    check_fails(nvram_write(w, path, span_of("", 0), &err), err, ERR_CORRUPT);
    check_fails(nvram_write(w, path, span_of(packed.data, packed.length - 1), &err), err,
                ERR_CORRUPT);
    for (size_t i = 0; i < packed.length; i++) { /* it says, or it is what it was */
        packed.data[i] ^= 0x10;
        err = ERR_NONE;
        if (!nvram_write(w, tmp_dir_path(*state, "other"), buf_span(&packed), &err))
            assert_int_equal(err.kind, ERR_CORRUPT);
        packed.data[i] ^= 0x10;
    }
    check_ok(file_load(w, path, 100, &back, &err), err);
    assert_true(span_equal(buf_span(&back), span_of_text("the variables")));
    check_fails(nvram_write(w, "relative", buf_span(&packed), &err), err, ERR_INVALID);
}

static int make_folder(void **state)
{
    *state = calloc(1, sizeof(struct tmp_dir));
    tmp_dir_make(*state);
    return 0;
}

static int remove_folder(void **state)
{
    tmp_dir_remove(*state);
    free(*state);
    return 0;
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(variables_arrive_as_they_were_with_rights_for_their_owner_alone),
        IN_FOLDER(what_is_not_there_or_does_not_fit_is_told_apart),
        IN_FOLDER(hostile_bytes_are_refused_and_the_file_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
