/* SPDX-License-Identifier: MIT
 * The tree over a stand-in for a history (below): points made of numbers, none of them stored. */
#include "fs/mount/recovery_tree.h"

#include "common/json.h"
#include "common/rfc3339.h"
#include "tests/support/check.h"

#include <stdio.h>

/* --- a stand-in for backend/history/history.c --- */

#define FIRST_MS 1795377600000ull /* 2026-11-22T20:00:00.000Z */
#define STEP_MS  1500u

struct history {
    size_t points;
    size_t application; /* this point and every one before it are application-consistent */
    bool verified;      /* there is a verified point: the first */
    uint64_t looks;     /* at single points */
    size_t branch;      /* points that generation 1 left behind */
};

#define BRANCH_INDEX 1000000u /* of the first of them */
static const struct generation generations[] = {{.number = 1, .id = 0x111},
                                                {.number = 2, .id = 0xabcdef}};

size_t history_points(struct history *h)
{
    return h->points;
}

struct history_point history_point(struct history *h, size_t i)
{
    assert_true(i < h->points);
    h->looks++;
    struct history_point point = {
        .ms = FIRST_MS + i * STEP_MS,
        .generation = {.number = 2, .id = 0xabcdef},
        .epoch = i + 1,
        .kind = i < h->application ? POINT_APPLICATION : POINT_CRASH,
        .data_bytes = 1000 + i,
        .index = 2 * i, /* every other epoch has no point */
    };
    snprintf(point.label, sizeof point.label, "label \"%zu\"", i);
    return point;
}

size_t history_epochs(struct history *h)
{
    return h->branch > 0 ? BRANCH_INDEX + h->branch : 2 * h->points;
}

size_t history_generations(struct history *h)
{
    (void)h;
    return 2;
}

struct history_generation history_generation(struct history *h, size_t i)
{
    (void)h;
    return (struct history_generation){.generation = generations[i]};
}

bool history_branch_point(struct history *h, struct generation generation, size_t i,
                          struct history_point *out)
{
    if (generation.number != 1 || i >= h->branch)
        return false;
    *out = (struct history_point){.ms = FIRST_MS + 7 + i * STEP_MS,
                                  .generation = generations[0],
                                  .epoch = i + 1,
                                  .index = BRANCH_INDEX + i};
    return true;
}

bool history_find_in(struct history *h, struct generation generation, uint64_t ms,
                     struct history_point *out)
{
    for (size_t i = 0; history_branch_point(h, generation, i, out); i++)
        if (out->ms == ms)
            return true;
    return false;
}

bool history_point_at(struct history *h, struct generation generation, uint64_t epoch,
                      struct history_point *out, struct err *err)
{
    if (generation.number == 1)
        return history_branch_point(h, generation, (size_t)epoch - 1, out);
    if (epoch > h->points)
        return err_set(err, ERR_NOT_FOUND, "no such point");
    *out = history_point(h, (size_t)epoch - 1);
    return true;
}

struct record_epoch history_epoch(struct history *h, size_t index, struct generation *generation)
{
    if (index >= BRANCH_INDEX) {
        *generation = generations[0];
        return (struct record_epoch){.kind = EPOCH_CUT,
                                     .epoch = index - BRANCH_INDEX + 1,
                                     .point_ms = FIRST_MS + 7 + (index - BRANCH_INDEX) * STEP_MS};
    }
    assert_true(index < 2 * h->points);
    *generation = (struct generation){.number = 2, .id = 0xabcdef};
    return (struct record_epoch){.kind = index % 2 ? EPOCH_HEARTBEAT : EPOCH_CUT,
                                 .epoch = index / 2 + 1,
                                 .point_ms = FIRST_MS + index / 2 * STEP_MS};
}

/* The second disk appears with the third point; the first grows with the fourth. */
size_t history_disks(struct history *h, size_t index, struct epoch_disk out[VM_DISKS_MAX])
{
    size_t i = index >= BRANCH_INDEX ? 0 : index / 2;
    assert_true((index >= BRANCH_INDEX || index % 2 == 0) && i < h->points);
    memset(out, 0, 2 * sizeof *out);
    strcpy(out[0].name, "root");
    out[0].size_bytes = i < 3 ? 1 << 20 : 2 << 20;
    strcpy(out[1].name, "data");
    out[1].size_bytes = 5 << 20;
    return i < 2 ? 1 : 2;
}

bool history_find(struct history *h, uint64_t at_ms, bool exact, struct history_point *out)
{
    if (h->points == 0 || at_ms < FIRST_MS)
        return false;
    size_t i = (size_t)((at_ms - FIRST_MS) / STEP_MS);
    *out = history_point(h, i < h->points ? i : h->points - 1);
    return !exact || out->ms == at_ms;
}

bool history_resolve(struct history *h, const char *text, struct history_point *out,
                     struct err *err)
{
    size_t count = strcmp(text, "latest-application") == 0 ? h->application
                   : strcmp(text, "latest-verified") == 0  ? h->verified
                   : strcmp(text, "now-1m") == 0           ? (h->points ? 1 : 0)
                                                           : h->points;
    if (count == 0)
        return err_set(err, ERR_NOT_FOUND, "no such point");
    *out = history_point(h, count - 1);
    return true;
}

/* --- two VMs --- */

struct fixture {
    struct history histories[2];
    struct recovery_vm vms[2];
    struct recovery_tree tree;
};

static int set_up(void **state)
{
    static struct fixture f;
    f = (struct fixture){.histories = {{.points = 5, .application = 2}, {.points = 0}}};
    f.vms[0] = (struct recovery_vm){.name = "web1", .view = {.history = &f.histories[0]}};
    f.vms[1] = (struct recovery_vm){.name = "db", .view = {.history = &f.histories[1]}};
    f.tree = (struct recovery_tree){.vms = f.vms, .vm_count = 2};
    *state = &f;
    return 0;
}

static const struct recovery_node root = {.kind = RECOVERY_ROOT};

/* Walks a path from the root. */
static bool walk(struct fixture *f, const char *path, struct recovery_node *out)
{
    char copy[256];
    struct err err = ERR_NONE;
    snprintf(copy, sizeof copy, "%s", path);
    *out = root;
    for (char *save, *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
        if (!recovery_lookup(&f->tree, *out, name, out, &err)) {
            assert_int_equal(err.kind, ERR_NOT_FOUND);
            return false;
        }
    }
    return true;
}

static struct recovery_node must_walk(struct fixture *f, const char *path)
{
    struct recovery_node node;
    if (!walk(f, path, &node))
        fail_msg("no %s", path);
    return node;
}

static void check_absent(struct fixture *f, const char *path)
{
    struct recovery_node node;
    if (walk(f, path, &node))
        fail_msg("%s is there", path);
}

/* The entries of a folder, each followed by a space. */
static void check_lists(struct fixture *f, const char *path, const char *wanted)
{
    struct recovery_node folder = must_walk(f, path), node, found;
    char name[RECOVERY_NAME_MAX], all[1024] = "";
    struct err err = ERR_NONE;
    for (uint64_t i = 0; recovery_entry(&f->tree, folder, i, name, &node); i++) {
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s ", name);
        /* What is listed is found, and is the same. */
        check_ok(recovery_lookup(&f->tree, folder, name, &found, &err), err);
        assert_int_equal(recovery_inode(found), recovery_inode(node));
    }
    assert_string_equal(all, wanted);
}

static void check_link(struct fixture *f, const char *path, const char *wanted)
{
    char target[RECOVERY_LINK_MAX];
    struct recovery_attr attr;
    struct err err = ERR_NONE;
    struct recovery_node node = must_walk(f, path);
    check_ok(recovery_link(&f->tree, node, target, &err), err);
    assert_string_equal(target, wanted);
    check_ok(recovery_attr(&f->tree, node, &attr, &err), err);
    assert_int_equal(attr.type, RECOVERY_LINK);
    assert_int_equal(attr.bytes, strlen(wanted));
}

static struct recovery_attr attr_of(struct fixture *f, const char *path)
{
    struct recovery_attr attr;
    struct err err = ERR_NONE;
    check_ok(recovery_attr(&f->tree, must_walk(f, path), &attr, &err), err);
    return attr;
}

static void folders_list_what_is_there(void **state)
{
    struct fixture *f = *state;
    check_lists(f, "", "web1 db ");
    check_lists(f, "web1", "points at latest latest-application ");
    check_lists(f, "db", "points at ");
    check_lists(f, "web1/points",
                "2026-11-22T20:00:00.000Z 2026-11-22T20:00:01.500Z 2026-11-22T20:00:03.000Z "
                "2026-11-22T20:00:04.500Z 2026-11-22T20:00:06.000Z ");
    check_lists(f, "db/points", "");
    check_lists(f, "web1/at", "");
    check_lists(f, "web1/points/2026-11-22T20:00:00.000Z", "root.img point.json ");
    check_lists(f, "web1/points/2026-11-22T20:00:03.000Z", "root.img data.img point.json ");
}

static void points_left_behind_lie_under_their_generation(void **state)
{
    struct fixture *f = *state;
    f->histories[0].branch = 2;
    check_lists(f, "web1", "points at latest latest-application branches ");
    check_lists(f, "db", "points at ");
    check_lists(f, "web1/branches", "g0001-0000000000000111 ");
    check_lists(f, "web1/branches/g0001-0000000000000111",
                "2026-11-22T20:00:00.007Z 2026-11-22T20:00:01.507Z ");
    check_lists(f, "web1/branches/g0001-0000000000000111/2026-11-22T20:00:00.007Z",
                "root.img point.json ");
    check_absent(f, "web1/branches/g0002-0000000000abcdef");
    check_absent(f, "web1/branches/g0001-0000000000000111/2026-11-22T20:00:00.000Z");
    check_absent(f, "web1/points/2026-11-22T20:00:00.007Z");
    check_absent(f, "db/branches");
    struct recovery_node node = must_walk(f, "web1/branches/g0001-0000000000000111"), back;
    assert_true(recovery_node(&f->tree, recovery_inode(node), &back));
    f->histories[0].branch = 0;
    assert_false(recovery_node(&f->tree, recovery_inode(node), &back));
}

static void what_is_not_there_is_not_found(void **state)
{
    struct fixture *f = *state;
    check_absent(f, "web2");
    check_absent(f, "web1/point");
    check_absent(f, "web1/points/2026-11-22T20:00:01.000Z"); /* an id, not a moment */
    check_absent(f, "web1/points/2026-11-22T20:00:03Z");
    check_absent(f, "web1/points/latest");
    check_absent(f, "web1/points/2026-11-22T20:00:00.000Z/data.img");
    check_absent(f, "web1/points/2026-11-22T20:00:00.000Z/root");
    check_absent(f, "web1/points/2026-11-22T20:00:00.000Z/rootximg");
    check_absent(f, "web1/latest-verified");
    check_absent(f, "db/latest");
    check_absent(f, "web1/at/latest");
    check_absent(f, "web1/at/yesterday");
    check_absent(f, "web1/at/2026-11-22T19:59:59Z"); /* before the first point */
    check_absent(f, "db/at/2026-11-22T20:00:00Z");
}

static void at_leads_to_the_newest_point_at_or_before_a_moment(void **state)
{
    struct fixture *f = *state;
    check_link(f, "web1/at/2026-11-22T20:00:01.499Z", "../points/2026-11-22T20:00:00.000Z");
    check_link(f, "web1/at/2026-11-22T20:00:01.500Z", "../points/2026-11-22T20:00:01.500Z");
    check_link(f, "web1/at/2026-11-22T20:00:02Z", "../points/2026-11-22T20:00:01.500Z");
    check_link(f, "web1/at/2026-11-22T21:00:05+01:00", "../points/2026-11-22T20:00:04.500Z");
    check_link(f, "web1/at/2030-01-01T00:00:00Z", "../points/2026-11-22T20:00:06.000Z");
    check_link(f, "web1/at/now-1m", "../points/2026-11-22T20:00:00.000Z");
}

static void latest_follows_the_history(void **state)
{
    struct fixture *f = *state;
    uint64_t inode = recovery_inode(must_walk(f, "web1/latest"));
    check_link(f, "web1/latest", "points/2026-11-22T20:00:06.000Z");
    check_link(f, "web1/latest-application", "points/2026-11-22T20:00:01.500Z");
    f->histories[0].points++;
    f->histories[0].verified = true;
    check_link(f, "web1/latest", "points/2026-11-22T20:00:07.500Z");
    check_link(f, "web1/latest-verified", "points/2026-11-22T20:00:00.000Z");
    assert_int_equal(recovery_inode(must_walk(f, "web1/latest")), inode);
}

static void times_are_the_points(void **state)
{
    struct fixture *f = *state;
    const char *id = "web1/points/2026-11-22T20:00:03.000Z";
    char path[128];
    assert_int_equal(attr_of(f, id).mtime_ms, FIRST_MS + 2 * STEP_MS);
    snprintf(path, sizeof path, "%s/root.img", id);
    assert_int_equal(attr_of(f, path).mtime_ms, FIRST_MS + 2 * STEP_MS);
    assert_int_equal(attr_of(f, "web1/points").mtime_ms, FIRST_MS + 4 * STEP_MS);
    assert_int_equal(attr_of(f, "").mtime_ms, FIRST_MS + 4 * STEP_MS);
    assert_int_equal(attr_of(f, "db").mtime_ms, 0);
}

static void an_image_is_as_large_as_the_disk_was_then(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(attr_of(f, "web1/points/2026-11-22T20:00:03.000Z/root.img").bytes, 1 << 20);
    assert_int_equal(attr_of(f, "web1/points/2026-11-22T20:00:04.500Z/root.img").bytes, 2 << 20);
    assert_int_equal(attr_of(f, "web1/points/2026-11-22T20:00:04.500Z/data.img").bytes, 5 << 20);
}

static void point_json_says_what_the_point_is(void **state)
{
    struct fixture *f = *state;
    const char *path = "web1/points/2026-11-22T20:00:03.000Z/point.json", *text;
    struct buf json AUTO_BUF = BUF_NONE;
    cJSON *object AUTO_JSON = NULL;
    const cJSON *disks;
    struct err err = ERR_NONE;
    uint64_t number;
    check_ok(recovery_json(&f->tree, must_walk(f, path), &json, &err), err);
    assert_int_equal(attr_of(f, path).bytes, json.length);
    assert_int_equal(json.data[json.length - 1], '\n');
    check_ok(json_parse(buf_span(&json), &object, &err), err);
    check_ok(json_text(object, "id", &text, &err), err);
    assert_string_equal(text, "2026-11-22T20:00:03.000Z");
    check_ok(json_text(object, "time", &text, &err), err);
    assert_string_equal(text, "2026-11-22T20:00:03.000Z");
    check_ok(json_text(object, "generation", &text, &err), err);
    assert_string_equal(text, "g0002-0000000000abcdef");
    check_ok(json_text(object, "kind", &text, &err), err);
    assert_string_equal(text, "crash");
    check_ok(json_text(object, "label", &text, &err), err);
    assert_string_equal(text, "label \"2\"");
    check_ok(json_u64(object, "epoch", &number, &err), err);
    assert_int_equal(number, 3);
    check_ok(json_u64(object, "bytes", &number, &err), err);
    assert_int_equal(number, 1002);
    check_ok(json_array(object, "disks", &disks, &err), err);
    assert_int_equal(cJSON_GetArraySize(disks), 2);
    check_ok(json_text(cJSON_GetArrayItem(disks, 1), "name", &text, &err), err);
    assert_string_equal(text, "data");
    check_ok(json_u64(cJSON_GetArrayItem(disks, 1), "bytes", &number, &err), err);
    assert_int_equal(number, 5 << 20);
}

static void inode_numbers_are_distinct_and_lead_back(void **state)
{
    struct fixture *f = *state;
    const char *paths[] = {
        "",
        "web1",
        "db",
        "web1/points",
        "db/points",
        "web1/at",
        "web1/at/2026-11-22T20:00:02Z",
        "web1/latest",
        "web1/latest-application",
        "web1/points/2026-11-22T20:00:00.000Z",
        "web1/points/2026-11-22T20:00:01.500Z",
        "web1/points/2026-11-22T20:00:00.000Z/root.img",
        "web1/points/2026-11-22T20:00:03.000Z/root.img",
        "web1/points/2026-11-22T20:00:03.000Z/data.img",
        "web1/points/2026-11-22T20:00:03.000Z/point.json",
    };
    const size_t count = sizeof paths / sizeof paths[0];
    uint64_t inodes[sizeof paths / sizeof paths[0]];
    for (size_t i = 0; i < count; i++) {
        struct recovery_node node = must_walk(f, paths[i]), back;
        inodes[i] = recovery_inode(node);
        assert_true(recovery_node(&f->tree, inodes[i], &back));
        assert_int_equal(recovery_inode(back), inodes[i]);
        for (size_t k = 0; k < i; k++)
            assert_true(inodes[k] != inodes[i]);
    }
    assert_int_equal(inodes[0], 1);
}

static void numbers_that_no_node_has_are_refused(void **state)
{
    struct fixture *f = *state;
    struct recovery_node wrong[] = {
        {.kind = RECOVERY_VM, .vm = 2},
        {.kind = RECOVERY_POINT, .vm = 0, .point = 10},
        {.kind = RECOVERY_POINT, .vm = 0, .point = 3}, /* an epoch without a point */
        {.kind = RECOVERY_POINT, .vm = 1, .point = 0},
        {.kind = RECOVERY_DISK, .vm = 0, .point = 0, .disk = 1},
        {.kind = RECOVERY_POINTS, .vm = 0, .point = 1},
        {.kind = RECOVERY_ROOT, .vm = 1},
        {.kind = RECOVERY_POINT, .vm = 0, .disk = 1},
    };
    struct recovery_node node;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(recovery_node(&f->tree, recovery_inode(wrong[i]), &node));
    assert_false(recovery_node(&f->tree, 0, &node));
    assert_false(recovery_node(&f->tree, 15, &node));
}

static void ten_thousand_points_are_listed_once_each_and_found_quickly(void **state)
{
    struct fixture *f = *state;
    struct recovery_node points = must_walk(f, "web1/points"), node;
    char name[RECOVERY_NAME_MAX], last[RECOVERY_NAME_MAX] = "";
    struct err err = ERR_NONE;
    uint64_t i;
    f->histories[0].points = 10000;
    for (i = 0; recovery_entry(&f->tree, points, i, name, &node); i++) {
        assert_true(strcmp(last, name) < 0);
        strcpy(last, name);
    }
    assert_int_equal(i, 10000);
    f->histories[0].looks = 0;
    check_ok(recovery_lookup(&f->tree, points, last, &node, &err), err);
    assert_int_equal(node.point, 2 * 9999);
    assert_true(f->histories[0].looks < 20);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(folders_list_what_is_there),
        TEST(points_left_behind_lie_under_their_generation),
        TEST(what_is_not_there_is_not_found),
        TEST(at_leads_to_the_newest_point_at_or_before_a_moment),
        TEST(latest_follows_the_history),
        TEST(times_are_the_points),
        TEST(an_image_is_as_large_as_the_disk_was_then),
        TEST(point_json_says_what_the_point_is),
        TEST(inode_numbers_are_distinct_and_lead_back),
        TEST(numbers_that_no_node_has_are_refused),
        TEST(ten_thousand_points_are_listed_once_each_and_found_quickly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
