/* SPDX-License-Identifier: MIT */
#include "backend/store/secrets.h"

#include "common/file.h"

#include <fcntl.h>
#include <stdio.h>

#define PLACE_MAX         320u
#define NAME_MAX_CHARS    64u
#define SECRETS_BYTES_MAX (SECRETS_FILE_BYTES_MAX + 2u) /* of a file, with the NULs of its end */

/* systemd lets the unit's user read a credential of root's by an access list, whose mask stands
 * where the group's bits are. */
#define PRIVATE_MODE    0700u
#define CREDENTIAL_MODE 0740u

void secrets_release(struct secrets *s)
{
    buf_wipe(&s->text);
}

const char *secrets_value(const struct secrets *s, const char *name)
{
    const char *found = NULL; /* of several the last, as systemd takes it */
    for (size_t at = 0; at < s->text.length;) {
        const char *key = (const char *)s->text.data + at;
        const char *value = key + strlen(key) + 1;
        if (strcmp(key, name) == 0)
            found = value;
        at += strlen(key) + strlen(value) + 2;
    }
    return found;
}

/* Room is reserved first: a buffer that grows would leave a copy behind, unwiped. */
static void add(struct secrets *s, const char *name, const char *value, size_t length)
{
    buf_put(&s->text, name, strlen(name) + 1);
    buf_put(&s->text, value, length);
    buf_put_u8(&s->text, 0);
}

static bool load_file(struct world *w, const char *path, uint32_t mode_max, struct buf *out,
                      struct err *err)
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
    if ((st.mode & ~mode_max) != 0 || (st.uid != geteuid() && st.uid != 0))
        return err_set(err, ERR_DENIED,
                       "%s holds credentials, but others than its user may read or change it: "
                       "chown it and `chmod 600 %s`, and renew what was in it if others were there",
                       path, path);
    uint8_t *data = buf_extend(out, (size_t)st.size);
    return buf_ok(out, err) && file_read(f, mspan_of(data, (size_t)st.size), 0, err);
}

bool secrets_file_load(struct world *w, const char *path, struct buf *out, struct err *err)
{
    return load_file(w, path, PRIVATE_MODE, out, err);
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

static void trim(struct span *s)
{
    while (s->length > 0 && blank((char)s->data[0]))
        *s = span_part(*s, 1, s->length - 1);
    while (s->length > 0 && blank((char)s->data[s->length - 1]))
        s->length--;
}

static bool name_valid(struct span name)
{
    for (size_t i = 0; i < name.length; i++) {
        uint8_t c = name.data[i];
        if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
            c != '_')
            return false;
    }
    return name.length > 0 && name.length < NAME_MAX_CHARS;
}

/* Values become headers of requests: a line end in one would be a header of its own. */
static bool value_valid(struct span value)
{
    for (size_t i = 0; i < value.length; i++)
        if (value.data[i] < ' ' || value.data[i] == 0x7f)
            return false;
    return true;
}

/* Takes the quotes off; false: there is one without its twin. */
static bool unquote(struct span *value)
{
    if (value->length == 0 || (value->data[0] != '"' && value->data[0] != '\''))
        return true;
    if (value->length < 2 || value->data[value->length - 1] != value->data[0])
        return false;
    *value = span_part(*value, 1, value->length - 2);
    return true;
}

/* One line: NAME=VALUE, a comment, or nothing. False: it is none of these. */
static bool take_line(struct secrets *s, struct span line, const char *const *names)
{
    char text[NAME_MAX_CHARS];
    trim(&line);
    if (line.length == 0 || line.data[0] == '#' || line.data[0] == ';')
        return true;
    const uint8_t *equals = memchr(line.data, '=', line.length);
    if (equals == NULL)
        return false;
    struct span name = span_part(line, 0, (size_t)(equals - line.data));
    struct span value = span_part(line, name.length + 1, line.length - name.length - 1);
    trim(&name);
    trim(&value);
    if (!name_valid(name) || !unquote(&value) || !value_valid(value))
        return false;
    if (!wanted((const char *)name.data, name.length, names))
        return true;
    memcpy(text, name.data, name.length);
    text[name.length] = '\0';
    add(s, text, (const char *)value.data, value.length);
    return true;
}

bool secrets_parse(struct span text, const char *const *names, struct secrets *out, unsigned *line)
{
    for (*line = 1; text.length > 0; (*line)++) {
        const uint8_t *stop = memchr(text.data, '\n', text.length);
        size_t length = stop != NULL ? (size_t)(stop - text.data) : text.length;
        if (!take_line(out, span_part(text, 0, length), names))
            return false;
        length += stop != NULL;
        text = span_part(text, length, text.length - length);
    }
    return true;
}

/* ERR_NOT_FOUND when there is no such file. */
static bool take_file(struct world *w, const char *path, uint32_t mode_max,
                      const char *const *names, struct secrets *out, struct err *err)
{
    unsigned line;
    struct secrets file AUTO_SECRETS = {.text = BUF_NONE}; /* wiped as one */
    if (!buf_reserve(&file.text, SECRETS_FILE_BYTES_MAX) ||
        !buf_reserve(&out->text, SECRETS_BYTES_MAX))
        return err_set(err, ERR_FULL, "out of memory");
    if (!load_file(w, path, mode_max, &file.text, err))
        return false;
    if (!secrets_parse(buf_span(&file.text), names, out, &line))
        return err_set(err, ERR_INVALID, "%s, line %u: not NAME=VALUE", path, line);
    snprintf(out->place, sizeof out->place, "%s", path);
    return buf_ok(&out->text, err);
}

static bool take_environment(const struct store_host *host, const char *const *names,
                             struct secrets *out, struct err *err)
{
    if (!buf_reserve(&out->text, SECRETS_BYTES_MAX))
        return err_set(err, ERR_FULL, "out of memory");
    for (; *names != NULL; names++) {
        const char *value = host->env(*names);
        if (value == NULL || *value == '\0')
            continue;
        if (!value_valid(span_of_text(value)))
            return err_set(err, ERR_INVALID,
                           "%s in the environment holds a line end or another control character",
                           *names);
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
        uint32_t mode_max = i == 0 ? CREDENTIAL_MODE : PRIVATE_MODE;
        bool good = take_file(host->world, path, mode_max, names, out, &why);
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

void secrets_where(const struct store_host *host, const char *store, char out[SECRETS_WHERE_MAX])
{
    const char *folders[] = {host->env("CREDENTIALS_DIRECTORY"), host->credentials};
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < 2; i++)
        if (folders[i] != NULL && *folders[i] != '\0' && used < SECRETS_WHERE_MAX)
            used += (size_t)snprintf(out + used, SECRETS_WHERE_MAX - used, "%s%s/%s",
                                     used > 0 ? ", " : "", folders[i], store);
    if (used == 0)
        snprintf(out, SECRETS_WHERE_MAX, "a file (no folder for them is set)");
}
