/* SPDX-License-Identifier: MIT */
#include "tools/histories.h"

static void forget(struct histories *h, size_t i)
{
    vm_release(&h->all[i]);
    h->all[i] = h->all[--h->count];
}

bool histories_read(struct histories *h, const struct verb_call *call,
                    const struct settings *settings, struct history **out, struct err *err)
{
    for (size_t i = 0; i < h->count; i++) {
        if (strcmp(h->all[i].settings.name, settings->name) != 0)
            continue;
        *out = h->all[i].history;
        if (settings_same_vault(&h->all[i].settings, settings)) {
            if (history_refresh(*out, err))
                return true;
            if (err->kind == ERR_TRANSIENT)
                return false;
        }
        forget(h, i);
        break;
    }
    struct vm *all = realloc(h->all, (h->count + 1) * sizeof *all);
    if (all == NULL)
        return err_set(err, ERR_FULL, "out of memory");
    h->all = all;
    struct vm *vm = &all[h->count++];
    *vm = VM_NONE;
    *err = ERR_NONE;
    if (!vm_load(call, settings->name, vm, err) || !vm_open_targets(vm, VM_GLANCES, err) ||
        !vm_open_history(vm, err)) {
        forget(h, h->count - 1);
        return false;
    }
    *out = vm->history;
    return true;
}

void histories_release(struct histories *h)
{
    while (h->count > 0)
        forget(h, h->count - 1);
    free(TAKE(h->all));
}
