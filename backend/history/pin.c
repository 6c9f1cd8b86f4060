/* SPDX-License-Identifier: MIT */
#include "backend/history/pin.h"

#include "backend/history/codec_internal.h"
#include "backend/history/history.h"

#include <stdio.h>

static struct envelope_kind pin_envelope(const uint8_t vm[VM_ID_BYTES])
{
    return (struct envelope_kind){
        .noun = "pin", .magic = "FSPIN", .bytes_max = PIN_BYTES_MAX, .vm = vm};
}

static bool pin_name_valid(const char *name)
{
    return strnlen(name, PIN_NAME_MAX + 1) <= PIN_NAME_MAX && strchr(name, '/') == NULL &&
           store_key_valid(name);
}

/* What holds of every pin, ours and the world's. */
static bool pin_valid(const struct pin *pin)
{
    bool ends = pin->end_ms != 0;
    return pin_name_valid(pin->name) && pin->generation.number != 0 && pin->generation.id != 0 &&
           ((pin->kind == PIN_HOLD && !ends) || (pin->kind == PIN_LEASE && ends));
}

bool pin_encode(const struct pin *pin, const struct keys *keys, const struct seal_salt *salt,
                struct buf *out, struct err *err)
{
    struct buf body AUTO_BUF = BUF_NONE;
    struct envelope_kind kind = pin_envelope(pin->vm);
    if (!pin_valid(pin))
        return err_set(err, ERR_INVALID, "\"%s\" is no valid pin", pin->name);
    buf_put_u8(&body, (uint8_t)pin->kind);
    buf_put_text(&body, pin->name);
    generation_put(&body, pin->generation);
    buf_put_u64(&body, pin->epoch);
    buf_put_u64(&body, pin->point_ms);
    buf_put_u64(&body, pin->placed_ms);
    buf_put_u64(&body, pin->end_ms);
    return buf_ok(&body, err) &&
           envelope_seal(&kind, keys, salt, buf_span(&body), span_of(NULL, 0), out, err);
}

static bool parse_body(struct span body, struct pin *out)
{
    struct reader r = reader_of(body);
    out->kind = (enum pin_kind)read_u8(&r);
    read_text(&r, out->name, sizeof out->name);
    out->generation = generation_read(&r);
    out->epoch = read_u64(&r);
    out->point_ms = read_u64(&r);
    out->placed_ms = read_u64(&r);
    out->end_ms = read_u64(&r);
    return !r.failed && reader_left(&r) == 0 && pin_valid(out);
}

bool pin_decode(struct span stored, const struct keys *keys, const uint8_t vm[VM_ID_BYTES],
                const char *name, struct pin *out, struct err *err)
{
    struct buf body AUTO_BUF = BUF_NONE;
    struct span tail;
    struct envelope_kind kind = pin_envelope(vm);
    *out = (struct pin){.kind = 0};
    memcpy(out->vm, vm, VM_ID_BYTES);
    if (!envelope_open(&kind, keys, stored, &body, &tail, err))
        return err_wrap(err, "pin %s", name);
    if (!parse_body(buf_span(&body), out))
        return err_set(err, ERR_CORRUPT, "pin %s is damaged behind its seal", name);
    if (strcmp(out->name, name) != 0)
        return err_set(err, ERR_CORRUPT, "the object of pin %s holds pin %s: it was moved", name,
                       out->name);
    return true;
}

static bool pin_load(struct store *target, const char *vm, const uint8_t vm_id[VM_ID_BYTES],
                     const struct keys *keys, const char *name, struct pin *out, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    char key[KEY_MAX];
    key_pin(key, vm, name);
    return store_load(target, key, PIN_BYTES_MAX, &stored, err) &&
           pin_decode(buf_span(&stored), keys, vm_id, name, out, err);
}

static bool check_same(const struct pin *wanted, const struct pin *found, struct err *err)
{
    if (found->kind == wanted->kind && found->generation.number == wanted->generation.number &&
        found->generation.id == wanted->generation.id && found->epoch == wanted->epoch &&
        found->end_ms >= wanted->end_ms)
        return true;
    return err_set(err, ERR_EXISTS, "pin %s is taken and keeps another point", wanted->name);
}

bool pin_put(struct world *w, struct store *target, const char *vm, const struct keys *keys,
             const struct pin *pin, struct err *err)
{
    struct buf stored AUTO_BUF = BUF_NONE;
    struct pin placed = *pin, found;
    struct sha256 content;
    struct seal_salt salt;
    struct err why = ERR_NONE;
    char key[KEY_MAX];

    placed.placed_ms = w->ops->realtime_ns(w) / 1000000;
    content = sha256_of(span_of_text(placed.name));
    if (!salt_make(keys, SEAL_HISTORY, w, placed.generation.id, placed.epoch, 0, &content, &salt,
                   err) ||
        !pin_encode(&placed, keys, &salt, &stored, err))
        return false;
    key_pin(key, vm, placed.name);
    if (store_put(target, key, buf_span(&stored), &why))
        return true;
    /* In doubt or taken: what lies there decides. */
    if (why.kind != ERR_EXISTS && why.kind != ERR_TRANSIENT) {
        *err = why;
        return err_wrap(err, "cannot place pin %s", placed.name);
    }
    if (pin_load(target, vm, placed.vm, keys, placed.name, &found, err))
        return check_same(&placed, &found, err);
    if (err && err->kind == ERR_NOT_FOUND)
        *err = why;
    return err_wrap(err, "cannot place pin %s", placed.name);
}

struct pin_listing {
    struct store *target;
    const char *vm;
    const uint8_t *vm_id;
    const struct keys *keys;
    size_t prefix_length;
    pin_list_fn *each;
    void *context;
    struct err err;
};

static bool list_one(void *context, const char *key, uint64_t bytes)
{
    struct pin_listing *l = context;
    const char *name = key + l->prefix_length;
    struct pin pin;
    (void)bytes; /* store_load bounds what it reads */
    if (!pin_name_valid(name))
        return err_set(&l->err, ERR_CORRUPT, "%s is no pin's name: remove that object", key);
    if (pin_load(l->target, l->vm, l->vm_id, l->keys, name, &pin, &l->err))
        return l->each(l->context, &pin);
    if (l->err.kind != ERR_NOT_FOUND)
        return false;
    l->err = ERR_NONE; /* removed since the list was made */
    return true;
}

bool pin_list(struct store *target, const char *vm, const uint8_t vm_id[VM_ID_BYTES],
              const struct keys *keys, pin_list_fn *each, void *context, struct err *err)
{
    char prefix[KEY_MAX];
    int length = snprintf(prefix, sizeof prefix, "%s/pins/", vm);
    struct pin_listing l = {.target = target,
                            .vm = vm,
                            .vm_id = vm_id,
                            .keys = keys,
                            .prefix_length = (size_t)length,
                            .each = each,
                            .context = context,
                            .err = ERR_NONE};
    assert(vm_name_valid(vm));
    if (!store_list(target, prefix, NULL, list_one, &l, err))
        return err_wrap(err, "cannot list the pins of %s", vm);
    if (l.err.kind == ERR_OK)
        return true;
    if (err)
        *err = l.err;
    return false;
}

bool pin_remove(struct store *target, const char *vm, const char *name, struct err *err)
{
    char key[KEY_MAX];
    key_pin(key, vm, name);
    return store_remove(target, key, err) || err_wrap(err, "cannot remove pin %s", name);
}

bool point_leaves(struct err *err)
{
    return err_set(err, ERR_NOT_FOUND,
                   "the recovery point is leaving: retention is about to thin it out");
}

bool pin_hold(struct world *w, struct store *target, struct history *h, const struct keys *keys,
              const char *name, const struct history_point *point, struct err *err)
{
    const struct vault *vault = history_vault(h);
    struct history_point now;
    struct err why = ERR_NONE;
    struct pin pin = {.kind = PIN_HOLD,
                      .generation = point->generation,
                      .epoch = point->epoch,
                      .point_ms = point->ms};
    memcpy(pin.vm, vault->vm, sizeof pin.vm);
    snprintf(pin.name, sizeof pin.name, "%s", name);
    if (!pin_put(w, target, vault->name, keys, &pin, err))
        return false;
    /* Pin, then read the head again: who thinned before the pin was seen has said so there. */
    if (!history_refresh(h, err))
        return err_wrap(err, "holding the point");
    if (history_point_at(h, point->generation, point->epoch, &now, err) &&
        (!now.leaving || point_leaves(err)))
        return true;
    if (!pin_remove(target, vault->name, name, &why))
        return err_wrap(err, "pin %s stays behind", name);
    return false;
}
