/* SPDX-License-Identifier: MIT */
#include "tools/host_config.h"

#include "common/json.h"

#include <stdio.h>
#include <unistd.h>

#define HOST_BYTES_MAX 4096u

static void path_host(const struct paths *p, char out[PATH_BYTES_MAX])
{
    snprintf(out, PATH_BYTES_MAX, "%s/host.json", p->config);
}

/* The rule of VM names does for hosts as well. */
bool host_name_valid(const char *name)
{
    return vm_name_valid(name);
}

static bool own_name(char out[HOST_NAME_CHARS_MAX + 1], struct err *err)
{
    char full[256] = "";
    if (gethostname(full, sizeof full - 1) != 0)
        full[0] = '\0';
    size_t length = 0;
    for (; full[length] != '\0' && full[length] != '.' && length < HOST_NAME_CHARS_MAX; length++) {
        char c = full[length];
        out[length] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
    out[length] = '\0';
    return host_name_valid(out) ||
           err_set(err, ERR_INVALID,
                   "this host's name \"%s\" is none that farshore takes: farshore host NAME gives "
                   "it one",
                   full);
}

bool host_config_parse(struct span text, struct host_config *out, struct err *err)
{
    static const char *const known[] = {"name", "libvirt", NULL};
    cJSON *j AUTO_JSON = NULL;
    const char *name, *libvirt;
    if (!json_parse(text, &j, err) || !json_only(j, known, err) ||
        !json_text(j, "name", &name, err) || !json_text(j, "libvirt", &libvirt, err))
        return false;
    if (!host_name_valid(name))
        return err_set(err, ERR_INVALID, "\"name\" is no host name");
    if (*libvirt == '\0' || strlen(libvirt) >= LIBVIRT_URI_MAX)
        return err_set(err, ERR_INVALID, "\"libvirt\" has 1 to %u characters", LIBVIRT_URI_MAX - 1);
    snprintf(out->name, sizeof out->name, "%s", name);
    snprintf(out->libvirt, sizeof out->libvirt, "%s", libvirt);
    return true;
}

bool host_config_load(struct world *w, const struct paths *p, struct host_config *out,
                      struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    struct err why = ERR_NONE;

    *out = (struct host_config){.libvirt = LIBVIRT_URI_DEFAULT};
    path_host(p, path);
    if (file_load(w, path, HOST_BYTES_MAX, &text, &why))
        return host_config_parse(buf_span(&text), out, err) || err_wrap(err, "%s", path);
    if (why.kind == ERR_NOT_FOUND)
        return own_name(out->name, err);
    if (err != NULL)
        *err = why;
    return false;
}

bool host_config_save(struct world *w, const struct paths *p, const struct host_config *c,
                      struct err *err)
{
    char path[PATH_BYTES_MAX];
    struct buf text AUTO_BUF = BUF_NONE;
    cJSON *j AUTO_JSON = NULL;

    if (!host_name_valid(c->name))
        return err_set(err, ERR_INVALID,
                       "%.80s is no host name: lower-case letters, digits, and . _ - within, at "
                       "most %u",
                       c->name, HOST_NAME_CHARS_MAX);
    if (!json_make(&j, err) || !json_add_text(j, "name", c->name, err) ||
        !json_add_text(j, "libvirt", c->libvirt, err) || !json_write(j, true, &text, err) ||
        !dir_make(w, p->config, 0700, err))
        return false;
    buf_put(&text, "\n", 1);
    path_host(p, path);
    return buf_ok(&text, err) && file_replace(w, path, 0600, buf_span(&text), err);
}
