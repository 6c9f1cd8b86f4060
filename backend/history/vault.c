/* SPDX-License-Identifier: MIT */
#include "backend/history/codec_internal.h"

#define VAULT_MAGIC "FSVAULT"

static bool url_valid(const char *url)
{
    size_t length = strnlen(url, STORE_URL_MAX);
    return length > 0 && length < STORE_URL_MAX && label_valid(url);
}

/* Names what is wrong with the vault; NULL when nothing is. */
static const char *vault_flaw(const struct vault *v)
{
    if (!vm_name_valid(v->name))
        return "VM name";
    if (!disks_valid(v->disks, v->disk_count))
        return "disk table";
    if (v->store_count < 1 || v->store_count > VM_DISKS_MAX + 1)
        return "store table";
    for (size_t i = 0; i < v->store_count; i++)
        if (!url_valid(v->stores[i].cache) || !url_valid(v->stores[i].target))
            return "store URL";
    for (size_t i = 0; i < v->disk_count; i++)
        if (v->disks[i].store >= v->store_count)
            return "store of a disk";
    return NULL;
}

static void body_put(struct buf *out, const struct vault *v)
{
    buf_put(out, v->vm, VM_ID_BYTES);
    buf_put_text(out, v->name);
    buf_put_u8(out, v->encrypted);
    buf_put_u64(out, v->created_ms);
    disks_put(out, v->disks, v->disk_count);
    buf_put_u16(out, v->store_count);
    for (size_t i = 0; i < v->store_count; i++) {
        buf_put_text(out, v->stores[i].cache);
        buf_put_text(out, v->stores[i].target);
    }
}

/* The VM is not bound in the AAD: who reads the vault learns the VM's id from it. */
static const struct envelope_kind vault_envelope = {
    .noun = "vault", .magic = VAULT_MAGIC, .bytes_max = VAULT_BYTES_MAX};

bool vault_encode(const struct vault *v, const struct keys *keys, const struct seal_salt *salt,
                  struct buf *out, struct err *err)
{
    const char *flaw = vault_flaw(v);
    if (flaw != NULL)
        return err_set(err, ERR_INVALID, "a vault cannot be written with this %s", flaw);
    struct buf body AUTO_BUF = BUF_NONE;
    body_put(&body, v);
    return buf_ok(&body, err) &&
           envelope_seal(&vault_envelope, keys, salt, buf_span(&body), span_of(NULL, 0), out, err);
}

bool vault_body_parse(struct span body, struct vault *v, struct err *err)
{
    struct reader r = reader_of(body);
    memset(v, 0, sizeof *v);
    read_bytes(&r, v->vm, VM_ID_BYTES);
    read_text(&r, v->name, sizeof v->name);
    uint8_t encrypted = read_u8(&r);
    v->encrypted = encrypted == 1;
    v->created_ms = read_u64(&r);
    v->disk_count = disks_read(&r, v->disks);
    v->store_count = read_u16(&r);
    if (encrypted > 1 || v->store_count > VM_DISKS_MAX + 1)
        r.failed = true;
    for (size_t i = 0; i < v->store_count && !r.failed; i++) {
        read_text(&r, v->stores[i].cache, STORE_URL_MAX);
        read_text(&r, v->stores[i].target, STORE_URL_MAX);
    }
    if (r.failed || reader_left(&r) != 0)
        return err_set(err, ERR_CORRUPT, "the vault is not well-formed");
    const char *flaw = vault_flaw(v);
    return flaw == NULL || err_set(err, ERR_CORRUPT, "the vault has a wrong %s", flaw);
}

bool vault_decode(struct span stored, const struct keys *keys, struct vault *out, struct err *err)
{
    struct buf body AUTO_BUF = BUF_NONE;
    struct span tail;
    return envelope_open(&vault_envelope, keys, stored, &body, &tail, err) &&
           vault_body_parse(buf_span(&body), out, err);
}
