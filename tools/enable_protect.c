/* SPDX-License-Identifier: MIT */
#include "tools/enable_protect.h"

#include "tools/failover/dispatch.h"
#include "tools/failover/set_target.h"
#include "tools/failover/target_show.h"

/* --target-host NAME ..., each once, as the setting `hosts`. */
static bool take_hosts(const struct options *o, struct protection *p, struct err *err)
{
    char list[TARGET_VALUE_MAX] = "";
    size_t used = 0;
    for (size_t i = 0; i < option_count(o, "target-host"); i++) {
        int n = snprintf(list + used, sizeof list - used, "%s%s", used ? "," : "",
                         option_value(o, "target-host", i));
        if (n < 0 || (size_t)n >= sizeof list - used)
            return err_set(err, ERR_INVALID, "too many --target-host");
        used += (size_t)n;
    }
    return used == 0 || target_setting_set(&p->settings, "hosts", list, err) ||
           err_wrap(err, "--target-host");
}

static bool take_options(const struct options *o, struct protection *p, struct err *err)
{
    const char *set = option_value(o, "availability-set", 0);
    if (!take_hosts(o, p, err))
        return false;
    if (set && !target_setting_set(&p->settings, "availability-set", set, err))
        return err_wrap(err, "--availability-set");
    for (size_t i = 0; i < option_count(o, "set"); i++)
        if (!set_target_take(p, option_value(o, "set", i), err))
            return err_wrap(err, "--set");
    return true;
}

struct filling {
    const struct verb_call *call;
    const struct source_domain *source;
};

static bool fill(void *context, struct protection *p, bool *same, struct err *err)
{
    const struct filling *f = context;
    struct host_config host;
    *same = false;
    if (!host_config_load(f->call->world, f->call->paths, &host, err))
        return false;
    snprintf(p->home_host, sizeof p->home_host, "%s", host.name);
    snprintf(p->source_host, sizeof p->source_host, "%s", host.name);
    return (f->source == NULL || source_domain_register(f->source, p, err)) &&
           take_options(f->call->options, p, err);
}

bool enable_protect_plan(const struct verb_call *call, const struct source_domain *source,
                         struct protection **out, struct err *err)
{
    struct filling f = {.call = call, .source = source};
    bool same;
    return protection_make(out, err) && fill(&f, *out, &same, err);
}

bool enable_protect_register(struct vm *vm, const struct source_domain *source, struct err *err)
{
    struct filling f = {.call = vm->call, .source = source};
    struct doclog_vault vault = vm_vault(vm);
    return protection_change(&vault, fill, &f, NULL, err);
}

static void print_row(void *context, const char *name, const char *value)
{
    (void)context;
    printf("    %-16s %s\n", name, value);
}

void enable_protect_print(const struct protection *p, const struct settings *s)
{
    puts("  at the target");
    target_show(p, s, print_row, NULL);
}
