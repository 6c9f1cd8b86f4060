/* SPDX-License-Identifier: MIT */
#include "tools/mounts.h"

#include "common/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#define TABLE_BYTES_MAX (16u << 20)

bool mount_path(const char *dir, char out[PATH_MAX], struct err *err)
{
    char parent[PATH_MAX], text[PATH_MAX];
    size_t length = strlen(dir);
    while (length > 1 && dir[length - 1] == '/')
        length--;
    if (length == 0 || length >= sizeof text)
        return err_set(err, ERR_INVALID, "no folder's name: %.80s", dir);
    memcpy(text, dir, length);
    text[length] = '\0';
    char *slash = strrchr(text, '/');
    const char *last = slash ? slash + 1 : text;
    if (*last == '\0' || strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
        return realpath(text, out) != NULL || err_errno(err, errno, "%s", text);
    const char *above = slash == NULL ? "." : slash == text ? "/" : text;
    if (slash && slash != text)
        *slash = '\0';
    if (realpath(above, parent) == NULL)
        return err_errno(err, errno, "%s", above);
    int n = snprintf(out, PATH_MAX, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, last);
    return (n > 0 && n < PATH_MAX) || err_set(err, ERR_INVALID, "%.80s... is too long", dir);
}

/* Copies one field of the table, its \ooo escapes undone; cut to `size`. */
static void copy_field(const char *field, size_t length, char *out, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < length && used + 1 < size; i++) {
        char c = field[i];
        if (c == '\\' && i + 3 < length) {
            c = (char)((field[i + 1] - '0') * 64 + (field[i + 2] - '0') * 8 + field[i + 3] - '0');
            i += 3;
        }
        out[used++] = c;
    }
    out[used] = '\0';
}

/* Field `index` of a line, fields being apart by one space; NULL when there are fewer. */
static const char *field_at(const char *line, const char *end, unsigned index, size_t *length)
{
    for (; index > 0; index--) {
        line = memchr(line, ' ', (size_t)(end - line));
        if (line == NULL)
            return NULL;
        line++;
    }
    const char *stop = memchr(line, ' ', (size_t)(end - line));
    *length = (size_t)((stop ? stop : end) - line);
    return line;
}

static bool parse_line(const char *line, const char *end, struct mount_entry *out)
{
    size_t length;
    const char *point = field_at(line, end, 4, &length);
    if (point == NULL)
        return false;
    copy_field(point, length, out->point, sizeof out->point);
    const char *dash = memmem(line, (size_t)(end - line), " - ", 3);
    if (dash == NULL)
        return false;
    const char *type = field_at(dash + 3, end, 0, &length);
    copy_field(type, length, out->type, sizeof out->type);
    const char *source = field_at(dash + 3, end, 1, &length);
    if (source == NULL)
        return false;
    copy_field(source, length, out->source, sizeof out->source);
    return true;
}

bool mount_find_in(struct span table, const char *point, struct mount_entry *out)
{
    const char *at = (const char *)table.data, *end = at + table.length;
    bool found = false;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        struct mount_entry e;
        if (stop == NULL)
            stop = end;
        if (parse_line(at, stop, &e) && strcmp(e.point, point) == 0) {
            *out = e; /* later lines lie above earlier ones */
            found = true;
        }
        at = stop + 1;
    }
    return found;
}

bool mount_find(const char *point, struct mount_entry *out)
{
    struct buf table AUTO_BUF = BUF_NONE;
    int fd AUTO_FD = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    while (table.length < TABLE_BYTES_MAX && buf_reserve(&table, 65536)) {
        ssize_t n = read(fd, table.data + table.length, 65536);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        table.length += (size_t)n;
    }
    return mount_find_in(buf_span(&table), point, out);
}

bool mount_is_ours(const struct mount_entry *e, const char **vm)
{
    *vm = "";
    if (strcmp(e->type, "fuse.farshore") != 0)
        return false;
    if (strncmp(e->source, "farshore:", 9) == 0)
        *vm = e->source + 9;
    return true;
}

bool mount_is_of(const char *point, const char *vm)
{
    struct mount_entry e;
    const char *mounted;
    return mount_find(point, &e) && mount_is_ours(&e, &mounted) && strcmp(mounted, vm) == 0;
}
