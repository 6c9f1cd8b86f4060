/* SPDX-License-Identifier: MIT */
#include "tools/failover/protection.h"

#include "common/base64.h"
#include "common/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CHANGE_PAUSE_MS 50u

static const char *const state_names[PROTECTION_STATES] = {
    "none", "test-running", "failed-over", "committed", "reprotecting", "failing-back"};

const char *protection_state_name(enum protection_state s)
{
    return state_names[s];
}

bool protection_state_parse(const char *name, enum protection_state *out)
{
    for (int i = 0; i < PROTECTION_STATES; i++)
        if (strcmp(name, state_names[i]) == 0) {
            *out = (enum protection_state)i;
            return true;
        }
    return false;
}

bool protection_make(struct protection **out, struct err *err)
{
    *out = calloc(1, sizeof **out);
    if (*out == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    (*out)->number = DOCLOG_NONE;
    return true;
}

void protection_release(struct protection **p)
{
    if (*p == NULL)
        return;
    buf_release(&(*p)->xml);
    buf_release(&(*p)->nvram);
    for (size_t i = 0; i < (*p)->network_count; i++)
        buf_release(&(*p)->networks[i].xml);
    free(TAKE(*p));
}

/* --- rows of texts, by table --- */

struct text_field {
    const char *name;
    size_t offset, size;
};
#define TEXT(type, member)                                                                         \
    {                                                                                              \
#member, offsetof(struct type, member), sizeof(((struct type *)NULL)->member)              \
    }
#define TEXTS_END                                                                                  \
    {                                                                                              \
        .name = NULL                                                                               \
    }

static const struct text_field head_texts[] = {TEXT(protection, home_host),
                                               TEXT(protection, source_host),
                                               TEXT(protection, target_host), TEXTS_END};
static const struct text_field nic_texts[] = {
    TEXT(protection_nic, network), TEXT(protection_nic, subnet), TEXT(protection_nic, mac),
    TEXT(protection_nic, address), TEXTS_END};
static const struct text_field mapping_texts[] = {
    TEXT(protection_mapping, home_network), TEXT(protection_mapping, home_subnet),
    TEXT(protection_mapping, away_network), TEXT(protection_mapping, away_subnet), TEXTS_END};
static const struct text_field test_texts[] = {
    TEXT(protection_test, id),     TEXT(protection_test, host),  TEXT(protection_test, point),
    TEXT(protection_test, domain), TEXT(protection_test, mount), TEXTS_END};
static const struct text_field disk_texts[] = {TEXT(protection_disk, name),
                                               TEXT(protection_disk, path), TEXTS_END};
static const struct text_field failover_texts[] = {
    TEXT(protection_failover, host), TEXT(protection_failover, from),
    TEXT(protection_failover, point), TEXT(protection_failover, job), TEXTS_END};
static const struct text_field leaving_texts[] = {TEXT(protection_leaving, host),
                                                  TEXT(protection_leaving, job), TEXTS_END};
static const struct text_field store_texts[] = {TEXT(vault_stores, cache),
                                                TEXT(vault_stores, target), TEXTS_END};

static bool read_texts(const cJSON *j, const struct text_field *fields, void *row, struct err *err)
{
    for (; fields->name != NULL; fields++) {
        char *to = (char *)row + fields->offset;
        if (!json_copy(j, fields->name, to, fields->size, err))
            return false;
        if (!label_valid(to))
            return err_set(err, ERR_INVALID, "member \"%s\" has control characters", fields->name);
    }
    return true;
}

static bool add_texts(cJSON *j, const struct text_field *fields, const void *row, struct err *err)
{
    for (; fields->name != NULL; fields++)
        if (!json_add_text(j, fields->name, (const char *)row + fields->offset, err))
            return false;
    return true;
}

static bool only(const cJSON *j, const struct text_field *fields, const char *const *others,
                 struct err *err)
{
    const char *known[32];
    size_t count = 0;
    for (; fields->name != NULL; fields++)
        known[count++] = fields->name;
    for (; others != NULL && *others != NULL; others++)
        known[count++] = *others;
    assert(count < sizeof known / sizeof *known);
    known[count] = NULL;
    return json_only(j, known, err);
}

/* An array of objects, each read by `one` into the next row. */
typedef bool row_fn(const cJSON *j, void *row, struct err *err);

static bool read_rows(const cJSON *parent, const char *name, row_fn *one, void *rows,
                      size_t row_bytes, size_t rows_max, uint16_t *count, struct err *err)
{
    const cJSON *array, *j;
    if (!json_array(parent, name, &array, err))
        return false;
    cJSON_ArrayForEach(j, array)
    {
        if (*count == rows_max)
            return err_set(err, ERR_INVALID, "\"%s\" has more than %zu", name, rows_max);
        if (!one(j, (char *)rows + *count * row_bytes, err))
            return err_wrap(err, "\"%s\", number %u", name, *count);
        (*count)++;
    }
    return true;
}

/* --- reading --- */

static bool host_or_none(const char *what, const char *name, struct err *err)
{
    return *name == '\0' || host_name_valid(name) ||
           err_set(err, ERR_INVALID, "\"%s\" is no host name", what);
}

static bool read_nic(const cJSON *j, void *row, struct err *err)
{
    return only(j, nic_texts, NULL, err) && read_texts(j, nic_texts, row, err);
}

/* Counted only when it is whole: what is counted is released. */
static bool read_network(const cJSON *j, void *row, struct err *err)
{
    static const char *const known[] = {"name", "xml", NULL};
    struct protection_network *n = row;
    const char *xml;
    if (!json_only(j, known, err) || !json_copy(j, "name", n->name, sizeof n->name, err) ||
        !json_text(j, "xml", &xml, err))
        return false;
    if (strlen(xml) > PROTECTION_XML_MAX || !label_valid(n->name))
        return err_set(err, ERR_INVALID, "it is no network");
    buf_put(&n->xml, xml, strlen(xml));
    if (buf_ok(&n->xml, err))
        return true;
    buf_release(&n->xml);
    return false;
}

static bool read_mapping(const cJSON *j, void *row, struct err *err)
{
    return only(j, mapping_texts, NULL, err) && read_texts(j, mapping_texts, row, err);
}

static bool read_disk(const cJSON *j, void *row, struct err *err)
{
    struct protection_disk *d = row;
    if (!only(j, disk_texts, NULL, err) || !read_texts(j, disk_texts, d, err))
        return false;
    return disk_name_valid(d->name) || err_set(err, ERR_INVALID, "\"name\" is no disk name");
}

/* Its id becomes a part of paths. */
static bool read_test(const cJSON *j, void *row, struct err *err)
{
    static const char *const others[] = {"started_ms", NULL};
    struct protection_test *t = row;
    if (!only(j, test_texts, others, err) || !read_texts(j, test_texts, t, err) ||
        !json_u64(j, "started_ms", &t->started_ms, err) || !host_or_none("host", t->host, err))
        return false;
    return vm_name_valid(t->id) || err_set(err, ERR_INVALID, "\"id\" is none");
}

static bool tests_unique(const struct protection *p, struct err *err)
{
    for (size_t i = 0; i < p->test_count; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(p->tests[i].id, p->tests[k].id) == 0)
                return err_set(err, ERR_INVALID, "\"tests\" has %s twice", p->tests[i].id);
    return true;
}

/* "" is no generation. */
static bool read_generation(const cJSON *j, const char *name, struct generation *out,
                            struct err *err)
{
    const char *text;
    if (!json_text(j, name, &text, err))
        return false;
    *out = (struct generation){.number = 0};
    return *text == '\0' || generation_parse(text, out) ||
           err_set(err, ERR_INVALID, "\"%s\" is no generation's name", name);
}

static bool read_failover(const cJSON *parent, struct protection_failover *f, struct err *err)
{
    static const char *const others[] = {
        "planned",       "generation",   "parent",     "begun_ms",
        "fence_pending", "parent_epoch", "started_ms", "lost_seconds",
        "disks",         "ends",         NULL};
    const cJSON *j;
    return json_object(parent, "failover", &j, err) && only(j, failover_texts, others, err) &&
           read_texts(j, failover_texts, f, err) && host_or_none("host", f->host, err) &&
           host_or_none("from", f->from, err) && json_bool(j, "planned", &f->planned, err) &&
           read_generation(j, "generation", &f->generation, err) &&
           read_generation(j, "parent", &f->parent, err) &&
           read_generation(j, "ends", &f->ends, err) &&
           json_u64(j, "parent_epoch", &f->parent_epoch, err) &&
           json_u64(j, "begun_ms", &f->begun_ms, err) &&
           json_u64(j, "started_ms", &f->started_ms, err) &&
           json_bool(j, "fence_pending", &f->fence_pending, err) &&
           json_u64(j, "lost_seconds", &f->lost_seconds, err) &&
           read_rows(j, "disks", read_disk, f->disks, sizeof *f->disks, VM_DISKS_MAX,
                     &f->disk_count, err);
}

/* A document without one is the usual case, and what older ones are. */
static bool read_leaving(const cJSON *parent, struct protection_leaving *l, struct err *err)
{
    const cJSON *j;
    if (!json_has(parent, "leaving"))
        return true;
    return json_object(parent, "leaving", &j, err) &&
           only(j, leaving_texts, (const char *const[]){"asked", NULL}, err) &&
           read_texts(j, leaving_texts, l, err) && host_or_none("host", l->host, err) &&
           (!json_has(j, "asked") || json_u64(j, "asked", &l->asked, err)) &&
           (l->job[0] != '\0' || err_set(err, ERR_INVALID, "\"leaving\" has no job"));
}

static bool read_machine(const cJSON *parent, struct protection *p, struct err *err)
{
    static const char *const known[] = {"xml", "nvram", NULL};
    const cJSON *j;
    const char *xml, *nvram;
    if (!json_object(parent, "machine", &j, err) || !json_only(j, known, err) ||
        !json_text(j, "xml", &xml, err) || !json_text(j, "nvram", &nvram, err))
        return false;
    if (strlen(xml) > PROTECTION_XML_MAX ||
        strlen(nvram) > BASE64_CHARS((size_t)PROTECTION_NVRAM_MAX))
        return err_set(err, ERR_INVALID, "\"machine\" is larger than any machine");
    buf_put(&p->xml, xml, strlen(xml));
    if (*nvram != '\0' && !base64_parse(nvram, &p->nvram))
        return err_set(err, ERR_INVALID, "\"nvram\" is no base64");
    return buf_ok(&p->xml, err);
}

static bool read_head(const cJSON *j, struct protection *p, struct err *err)
{
    static const char *const others[] = {
        "version", "state",    "changed_ms", "machine",  "nics",    "settings", "mappings",
        "tests",   "failover", "successor",  "networks", "leaving", NULL};
    const char *state;
    uint64_t version;
    if (!json_u64(j, "version", &version, err))
        return false;
    if (version != 1)
        return err_set(err, ERR_INVALID,
                       "it is of version %llu, which this farshore does not know; if a newer one "
                       "wrote it, update this one",
                       (unsigned long long)version);
    if (!only(j, head_texts, others, err) || !read_texts(j, head_texts, p, err) ||
        !json_text(j, "state", &state, err) || !json_u64(j, "changed_ms", &p->changed_ms, err))
        return false;
    if (!protection_state_parse(state, &p->state))
        return err_set(err, ERR_INVALID, "\"state\" is none of the states");
    return host_or_none("home_host", p->home_host, err) &&
           host_or_none("source_host", p->source_host, err) &&
           host_or_none("target_host", p->target_host, err);
}

bool protection_parse(struct span text, struct protection *p, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    const cJSON *settings, *successor;
    return json_parse(text, &j, err) && read_head(j, p, err) && read_machine(j, p, err) &&
           read_rows(j, "nics", read_nic, p->nics, sizeof *p->nics, PROTECTION_NICS_MAX,
                     &p->nic_count, err) &&
           read_rows(j, "networks", read_network, p->networks, sizeof *p->networks,
                     PROTECTION_NETWORKS_MAX, &p->network_count, err) &&
           json_object(j, "settings", &settings, err) &&
           target_settings_read(settings, &p->settings, err) &&
           read_rows(j, "mappings", read_mapping, p->mappings, sizeof *p->mappings,
                     PROTECTION_MAPPINGS_MAX, &p->mapping_count, err) &&
           read_rows(j, "tests", read_test, p->tests, sizeof *p->tests, PROTECTION_TESTS_MAX,
                     &p->test_count, err) &&
           tests_unique(p, err) && read_failover(j, &p->failover, err) &&
           read_leaving(j, &p->leaving, err) && json_object(j, "successor", &successor, err) &&
           only(successor, store_texts, NULL, err) &&
           read_texts(successor, store_texts, &p->successor, err);
}

/* --- writing --- */

static bool add_rows(cJSON *parent, const char *name, const struct text_field *fields,
                     const void *rows, size_t row_bytes, size_t count, struct err *err)
{
    cJSON *array, *j;
    if (!json_add_array(parent, name, &array, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!json_append_object(array, &j, err) ||
            !add_texts(j, fields, (const char *)rows + i * row_bytes, err))
            return false;
    return true;
}

/* JSON wants a text with an end. */
static bool add_text_of(cJSON *j, const char *name, const struct buf *bytes, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    buf_put(&text, bytes->data, bytes->length);
    buf_put_u8(&text, 0);
    return buf_ok(&text, err) && json_add_text(j, name, (const char *)text.data, err);
}

static bool add_networks(cJSON *parent, const struct protection *p, struct err *err)
{
    cJSON *array, *j;
    if (!json_add_array(parent, "networks", &array, err))
        return false;
    for (size_t i = 0; i < p->network_count; i++)
        if (!json_append_object(array, &j, err) ||
            !json_add_text(j, "name", p->networks[i].name, err) ||
            !add_text_of(j, "xml", &p->networks[i].xml, err))
            return false;
    return true;
}

static bool add_tests(cJSON *parent, const struct protection *p, struct err *err)
{
    cJSON *array, *j;
    if (!json_add_array(parent, "tests", &array, err))
        return false;
    for (size_t i = 0; i < p->test_count; i++)
        if (!json_append_object(array, &j, err) || !add_texts(j, test_texts, &p->tests[i], err) ||
            !json_add_u64(j, "started_ms", p->tests[i].started_ms, err))
            return false;
    return true;
}

static bool add_generation(cJSON *j, const char *name, struct generation g, struct err *err)
{
    char text[GENERATION_NAME_MAX] = "";
    if (g.number != 0)
        generation_name(g, text);
    return json_add_text(j, name, text, err);
}

static bool add_failover(cJSON *parent, const struct protection_failover *f, struct err *err)
{
    cJSON *j;
    return json_add_object(parent, "failover", &j, err) && add_texts(j, failover_texts, f, err) &&
           json_add_bool(j, "planned", f->planned, err) &&
           add_generation(j, "generation", f->generation, err) &&
           add_generation(j, "parent", f->parent, err) && add_generation(j, "ends", f->ends, err) &&
           json_add_u64(j, "parent_epoch", f->parent_epoch, err) &&
           json_add_u64(j, "begun_ms", f->begun_ms, err) &&
           json_add_u64(j, "started_ms", f->started_ms, err) &&
           json_add_bool(j, "fence_pending", f->fence_pending, err) &&
           json_add_u64(j, "lost_seconds", f->lost_seconds, err) &&
           add_rows(j, "disks", disk_texts, f->disks, sizeof *f->disks, f->disk_count, err);
}

static bool add_leaving(cJSON *parent, const struct protection_leaving *l, struct err *err)
{
    cJSON *j;
    return l->job[0] == '\0' ||
           (json_add_object(parent, "leaving", &j, err) && add_texts(j, leaving_texts, l, err) &&
            json_add_u64(j, "asked", l->asked, err));
}

static bool add_machine(cJSON *parent, const struct protection *p, struct err *err)
{
    struct buf nvram AUTO_BUF = BUF_NONE;
    cJSON *j;
    if (p->xml.length > PROTECTION_XML_MAX || p->nvram.length > PROTECTION_NVRAM_MAX)
        return err_set(err, ERR_FULL,
                       "a machine of %zu bytes XML and %zu bytes firmware variables is more than a "
                       "protection document holds",
                       p->xml.length, p->nvram.length);
    uint8_t *text = buf_extend(&nvram, BASE64_CHARS(p->nvram.length) + 1);
    if (text == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    base64_write(buf_span(&p->nvram), (char *)text);
    return json_add_object(parent, "machine", &j, err) && add_text_of(j, "xml", &p->xml, err) &&
           json_add_text(j, "nvram", (const char *)text, err);
}

bool protection_write(const struct protection *p, struct buf *out, struct err *err)
{
    cJSON *j AUTO_JSON = NULL;
    cJSON *successor;
    return json_make(&j, err) && json_add_u64(j, "version", 1, err) &&
           json_add_text(j, "state", protection_state_name(p->state), err) &&
           add_texts(j, head_texts, p, err) && json_add_u64(j, "changed_ms", p->changed_ms, err) &&
           add_rows(j, "nics", nic_texts, p->nics, sizeof *p->nics, p->nic_count, err) &&
           target_settings_add(j, "settings", &p->settings, err) &&
           add_rows(j, "mappings", mapping_texts, p->mappings, sizeof *p->mappings,
                    p->mapping_count, err) &&
           add_networks(j, p, err) && add_tests(j, p, err) && add_failover(j, &p->failover, err) &&
           add_leaving(j, &p->leaving, err) && json_add_object(j, "successor", &successor, err) &&
           add_texts(successor, store_texts, &p->successor, err) && add_machine(j, p, err) &&
           json_write(j, false, out, err);
}

bool protection_copy(struct protection *to, const struct protection *from, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct protection *copy AUTO_PROTECTION = NULL;
    if (!protection_write(from, &text, err) || !protection_make(&copy, err) ||
        !protection_parse(buf_span(&text), copy, err))
        return false;
    copy->number = to->number;
    struct protection was = *to; /* what it owned goes with the copy */
    *to = *copy;
    *copy = was;
    return true;
}

void protection_asked(const struct protection_leaving *l, char out[PROTECTION_ASKED_MAX])
{
    snprintf(out, PROTECTION_ASKED_MAX, "%s/%llu", l->job, (unsigned long long)l->asked);
}

const struct buf *protection_network(const struct protection *p, const char *name)
{
    for (size_t i = 0; i < p->network_count; i++)
        if (strcmp(p->networks[i].name, name) == 0)
            return &p->networks[i].xml;
    return NULL;
}

bool protection_network_add(struct protection *p, const char *name, struct span xml,
                            struct err *err)
{
    struct buf *there = (struct buf *)protection_network(p, name);
    if (there == NULL) {
        if (p->network_count == PROTECTION_NETWORKS_MAX || strlen(name) >= PROTECTION_NAME_MAX)
            return err_set(err, ERR_FULL, "more than %u networks", PROTECTION_NETWORKS_MAX);
        struct protection_network *n = &p->networks[p->network_count++];
        snprintf(n->name, sizeof n->name, "%s", name);
        there = &n->xml;
    }
    buf_clear(there);
    buf_put(there, xml.data, xml.length);
    return buf_ok(there, err);
}

/* --- in the vault --- */

static bool load(struct doclog *l, struct protection **out, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct protection *p AUTO_PROTECTION = NULL;
    struct err why = ERR_NONE;

    if (!protection_make(&p, err))
        return false;
    bool found = doclog_newest(l, &text, &why);
    if (!found && why.kind != ERR_NOT_FOUND) {
        if (err != NULL)
            *err = why;
        return false;
    }
    if (found && !protection_parse(buf_span(&text), p, &why))
        return err_set(err, ERR_CORRUPT, "the protection document of %s, entry %llu: %s",
                       l->vault->vm, (unsigned long long)l->newest, why.text);
    p->number = l->newest;
    *out = TAKE(p);
    return true;
}

/* Checked before it goes: what is put must be read by all. */
static bool append(struct doclog *l, struct protection *p, struct err *err)
{
    struct world *w = l->vault->world;
    struct buf text AUTO_BUF = BUF_NONE;
    struct protection *again AUTO_PROTECTION = NULL;

    p->changed_ms = w->ops->realtime_ns(w) / 1000000;
    if (!protection_write(p, &text, err) || !protection_make(&again, err) ||
        !protection_parse(buf_span(&text), again, err))
        return err_wrap(err, "the protection document of %s", l->vault->vm);
    if (!doclog_append(l, buf_span(&text), err))
        return false;
    p->number = l->newest;
    if (p->number % DOCLOG_KEEP == 0) {
        struct err unused; /* what is left behind goes with the next time */
        (void)!doclog_tidy(l, &unused);
    }
    return true;
}

bool protection_load(const struct doclog_vault *v, struct protection **out, struct err *err)
{
    struct doclog l;
    doclog_begin(&l, v, PROTECTION_LOG);
    return load(&l, out, err);
}

bool protection_append(const struct doclog_vault *v, struct protection *p, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;
    struct doclog l;

    doclog_begin(&l, v, PROTECTION_LOG);
    if (!doclog_newest(&l, &text, &why) && why.kind != ERR_NOT_FOUND) {
        if (err != NULL)
            *err = why;
        return false;
    }
    if (l.newest != p->number)
        return err_set(err, ERR_EXISTS, "the protection document of %s was changed meanwhile",
                       v->vm);
    return append(&l, p, err);
}

bool protection_change(const struct doclog_vault *v, protection_change_fn *change, void *context,
                       struct protection **out, struct err *err)
{
    struct doclog l;
    struct err why = ERR_NONE;

    doclog_begin(&l, v, PROTECTION_LOG);
    for (unsigned tries = 0; tries < PROTECTION_CHANGES_MAX; tries++) {
        struct protection *p AUTO_PROTECTION = NULL;
        bool same = false;
        if (!load(&l, &p, err) || !change(context, p, &same, err))
            return false;
        if (same || append(&l, p, &why)) {
            if (out != NULL)
                *out = TAKE(p);
            return true;
        }
        if (why.kind != ERR_EXISTS) {
            if (err != NULL)
                *err = why;
            return false;
        }
        nanosleep(&(struct timespec){.tv_nsec = CHANGE_PAUSE_MS * 1000000l}, NULL);
    }
    return err_set(err, ERR_BUSY, "too many hosts change the protection document of %s", v->vm);
}

/* --- drills --- */

struct protection_test *protection_test_find(struct protection *p, const char *id)
{
    for (size_t i = 0; i < p->test_count; i++)
        if (strcmp(p->tests[i].id, id) == 0)
            return &p->tests[i];
    return NULL;
}

bool protection_test_add(struct protection *p, const struct protection_test *t, struct err *err)
{
    if (protection_test_find(p, t->id) != NULL)
        return err_set(err, ERR_EXISTS, "there is a test failover %s already", t->id);
    if (p->test_count == PROTECTION_TESTS_MAX)
        return err_set(err, ERR_FULL, "%u test failovers run: farshore cleanup ends them",
                       PROTECTION_TESTS_MAX);
    p->tests[p->test_count++] = *t;
    if (p->state == PROTECTION_NONE)
        p->state = PROTECTION_TEST_RUNNING;
    return true;
}

void protection_test_remove(struct protection *p, const char *id)
{
    struct protection_test *t = protection_test_find(p, id);
    if (t == NULL)
        return;
    size_t after = p->test_count - (size_t)(t - p->tests) - 1;
    memmove(t, t + 1, after * sizeof *t);
    p->test_count--;
    if (p->state == PROTECTION_TEST_RUNNING && p->test_count == 0)
        p->state = PROTECTION_NONE;
}

void protection_settle(struct protection *p)
{
    p->state = p->test_count > 0 ? PROTECTION_TEST_RUNNING : PROTECTION_NONE;
}

bool protection_reverts(const struct protection *p, const char *host)
{
    const struct protection_failover *o = &p->failover;
    return p->state == PROTECTION_NONE && o->started_ms == 0 && strcmp(o->host, host) == 0 &&
           strcmp(o->from, host) == 0;
}
