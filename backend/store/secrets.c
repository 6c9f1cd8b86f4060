/* SPDX-License-Identifier: MIT */
#include "backend/store/secrets.h"

#include "common/file.h"

#include <fcntl.h>
#include <stdio.h>

#define PLACE_MAX 320u

void secrets_release(struct secrets *s)
{
    buf_wipe(&s->text);
}

const char *secrets_value(const struct secrets *s, const char *name)
{
    for (size_t at = 0; at < s->text.length;) {
        const char *key = (const char *)s->text.data + at;
        const char *value = key + strlen(key) + 1;
        if (strcmp(key, name) == 0)
            return value;
        at += strlen(key) + strlen(value) + 2;
    }
    return NULL;
}

/* Room is reserved first: a buffer that grows would leave a copy behind, unwiped. */
static void add(struct secrets *s, const char *name, const char *value, size_t length)
{
    buf_put(&s->text, name, strlen(name) + 1);
    buf_put(&s->text, value, length);
    buf_put_u8(&s->text, 0);
}

bool secrets_file_load(struct world *w, const char *path, struct buf *out, struct err *err)
{
    struct world_file *f AUTO_FILE = NULL;
    struct world_stat st;

    buf_clear(out);
    if (!file_open(w, path, O_RDONLY | O_NONBLOCK, 0, &f, err))
        return false;
    int result = w->ops->stat(f, &st);
    if (result < 0)
        return err_errno(err, -result, "%s", path);
    if (st.directory || st.size > SECRETS_FILE_BYTES_MAX)
        return err_set(err, ERR_INVALID, "%s is no file of credentials", path);
    if ((st.mode & 077) != 0 || (st.uid != geteuid() && st.uid != 0))
        return err_set(err, ERR_DENIED,
                       "%s holds credentials, but others than its user may read or change it: "
                       "chown it and `chmod 600 %s`, and renew what was in it if others were there",
                       path, path);
    uint8_t *data = buf_extend(out, (size_t)st.size);
    return buf_ok(out, err) && file_read(f, mspan_of(data, (size_t)st.size), 0, err);
}

static bool wanted(const char *name, size_t length, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strlen(*names) == length && memcmp(*names, name, length) == 0)
            return true;
    return false;
}

static bool blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* One line: NAME=VALUE, a comment, or nothing. False: it is none of these. */
static bool take_line(struct secrets *s, const char *line, size_t length, const char *const *names)
{
    char name[64];
    while (length > 0 && blank(*line))
        line++, length--;
    while (length > 0 && blank(line[length - 1]))
        length--;
    if (length == 0 || *line == '#' || *line == ';')
        return true;
    const char *equals = memchr(line, '=', length);
    if (equals == NULL || equals == line || (size_t)(equals - line) >= sizeof name)
        return false;
    size_t name_length = (size_t)(equals - line);
    const char *value = equals + 1;
    length -= name_length + 1;
    if (length >= 2 && (*value == '"' || *value == '\'') && value[length - 1] == *value)
        value++, length -= 2;
    if (memchr(value, '\0', length) != NULL)
        return false;
    if (!wanted(line, name_length, names))
        return true;
    memcpy(name, line, name_length);
    name[name_length] = '\0';
    add(s, name, value, length);
    return true;
}

/* ERR_NOT_FOUND when there is no such file. */
static bool take_file(struct world *w, const char *path, const char *const *names,
                      struct secrets *out, struct err *err)
{
    struct secrets file AUTO_SECRETS = {.text = BUF_NONE}; /* wiped as one */
    if (!buf_reserve(&file.text, SECRETS_FILE_BYTES_MAX) ||
        !buf_reserve(&out->text, SECRETS_FILE_BYTES_MAX))
        return err_set(err, ERR_FULL, "out of memory");
    if (!secrets_file_load(w, path, &file.text, err))
        return false;
    const char *text = (const char *)file.text.data, *end = text + file.text.length;
    for (unsigned number = 1; text < end; number++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t length = (size_t)((stop != NULL ? stop : end) - text);
        if (!take_line(out, text, length, names))
            return err_set(err, ERR_INVALID, "%s, line %u: not NAME=VALUE", path, number);
        text += length + 1;
    }
    snprintf(out->place, sizeof out->place, "%s", path);
    return buf_ok(&out->text, err);
}

static bool take_environment(const struct store_host *host, const char *const *names,
                             struct secrets *out, struct err *err)
{
    if (!buf_reserve(&out->text, SECRETS_FILE_BYTES_MAX))
        return err_set(err, ERR_FULL, "out of memory");
    for (; *names != NULL; names++) {
        const char *value = host->env(*names);
        if (value != NULL && *value != '\0')
            add(out, *names, value, strlen(value));
    }
    snprintf(out->place, sizeof out->place, "the environment");
    return buf_ok(&out->text, err);
}

bool secrets_find(const struct store_host *host, const char *store, const char *const *names,
                  struct secrets *out, struct err *err)
{
    const char *folders[] = {host->env("CREDENTIALS_DIRECTORY"), host->credentials};
    char path[PLACE_MAX];

    *out = (struct secrets){.text = BUF_NONE};
    if (strchr(store, '/') != NULL)
        return err_set(err, ERR_INVALID, "credential=%s: a file's name without a folder", store);
    for (size_t i = 0; i < 2; i++) {
        struct err why = ERR_NONE;
        if (folders[i] == NULL || *folders[i] == '\0')
            continue;
        if (snprintf(path, sizeof path, "%s/%s", folders[i], store) >= (int)sizeof path)
            return err_set(err, ERR_INVALID, "%s/%s: too long a path", folders[i], store);
        bool good = take_file(host->world, path, names, out, &why);
        if (good && out->text.length > 0)
            return true;
        if (!good && why.kind != ERR_NOT_FOUND) {
            secrets_release(out);
            if (err != NULL)
                *err = why;
            return false;
        }
    }
    return take_environment(host, names, out, err);
}
