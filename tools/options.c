/* SPDX-License-Identifier: MIT */
#include "tools/options.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct option_spec *find_spec(const struct option_spec *specs, const char *name,
                                           size_t length)
{
    for (; specs->name; specs++)
        if (strlen(specs->name) == length && memcmp(specs->name, name, length) == 0)
            return specs;
    return NULL;
}

static bool add_operand(struct options *o, const char *word, struct err *err)
{
    if (o->operand_count == OPERANDS_MAX)
        return err_set(err, ERR_INVALID, "more than %u names: give fewer at once", OPERANDS_MAX);
    o->operands[o->operand_count++] = word;
    return true;
}

static bool add_option(struct options *o, const struct option_spec *spec, const char *value,
                       struct err *err)
{
    if (!spec->many && option_given(o, spec->name))
        return err_set(err, ERR_INVALID, "--%s is given twice: give it once", spec->name);
    if (o->given_count == OPTIONS_GIVEN_MAX)
        return err_set(err, ERR_INVALID, "more than %u options: give fewer at once",
                       OPTIONS_GIVEN_MAX);
    o->given[o->given_count].spec = spec;
    o->given[o->given_count++].value = value;
    return true;
}

/* Takes the option argv[*at], and its value with it. */
static bool take_option(struct options *o, int argc, char **argv, int *at, struct err *err)
{
    const char *word = argv[*at] + 2;
    const char *equals = strchr(word, '=');
    size_t length = equals ? (size_t)(equals - word) : strlen(word);
    const struct option_spec *spec = find_spec(o->specs, word, length);

    if (spec == NULL)
        return err_set(err, ERR_INVALID, "unknown option --%.*s: see --help", (int)length, word);
    if (spec->value == NULL && equals)
        return err_set(err, ERR_INVALID, "--%s takes no value", spec->name);
    const char *value = equals ? equals + 1 : NULL;
    if (spec->value && value == NULL && !spec->value_optional) {
        if (*at + 1 >= argc)
            return err_set(err, ERR_INVALID, "--%s needs a value: --%s %s", spec->name, spec->name,
                           spec->value);
        value = argv[++*at];
    }
    if (value && *value == '\0')
        return err_set(err, ERR_INVALID, "--%s is empty: give a %s", spec->name, spec->value);
    return add_option(o, spec, value, err);
}

bool options_parse(const struct option_spec *specs, int argc, char **argv, struct options *out,
                   struct err *err)
{
    *out = (struct options){.specs = specs};
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            out->help = true;
            return true;
        }
    bool ended = false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (ended || word[0] != '-' || word[1] == '\0') {
            if (!add_operand(out, word, err))
                return false;
        } else if (strcmp(word, "--") == 0) {
            ended = true;
        } else if (word[1] != '-') {
            return err_set(err, ERR_INVALID, "unknown option %s: options are long, see --help",
                           word);
        } else if (!take_option(out, argc, argv, &i, err)) {
            return false;
        }
    }
    return true;
}

size_t option_count(const struct options *o, const char *name)
{
    const struct option_spec *spec = find_spec(o->specs, name, strlen(name));
    size_t count = 0;
    assert(spec);
    for (size_t i = 0; i < o->given_count; i++)
        count += o->given[i].spec == spec;
    return count;
}

bool option_given(const struct options *o, const char *name)
{
    return option_count(o, name) > 0;
}

const char *option_value(const struct options *o, const char *name, size_t index)
{
    assert(find_spec(o->specs, name, strlen(name)));
    for (size_t i = 0; i < o->given_count; i++)
        if (strcmp(o->given[i].spec->name, name) == 0 && index-- == 0)
            return o->given[i].value;
    return NULL;
}

static bool number_of(const char *text, uint64_t *out)
{
    *out = 0;
    for (; *text; text++)
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(*out, 10u, out) ||
            __builtin_add_overflow(*out, (uint64_t)(*text - '0'), out))
            return false;
    return true;
}

bool option_number(const struct options *o, const char *name, uint64_t fallback, uint64_t least,
                   uint64_t most, uint64_t *out, struct err *err)
{
    const char *text = option_value(o, name, 0);
    *out = fallback;
    if (text == NULL)
        return true;
    if (!number_of(text, out) || *out < least || *out > most)
        return err_set(err, ERR_INVALID,
                       "--%s %s: give a whole number from %" PRIu64 " to %" PRIu64, name, text,
                       least, most);
    return true;
}

bool size_parse(const char *text, uint64_t most, uint64_t *out, struct err *err)
{
    static const char units[] = "KMGT";
    char *end;

    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    const char *unit = *end ? strchr(units, *end) : NULL;
    unsigned shift = unit ? 10u * (unsigned)(unit - units + 1) : 0;
    bool good = text[0] >= '1' && text[0] <= '9' && errno == 0 &&
                (*end == '\0' || (unit && end[1] == '\0')) && n <= most >> shift;
    *out = good ? (uint64_t)n << shift : 0;
    return good || err_set(err, ERR_INVALID,
                           "size %.40s: give bytes, or a whole number with K, M, G or T", text);
}

void options_print(const struct option_spec *specs, FILE *out)
{
    for (; specs->name; specs++) {
        char left[64];
        if (specs->value == NULL)
            snprintf(left, sizeof left, "--%s", specs->name);
        else if (specs->value_optional)
            snprintf(left, sizeof left, "--%s[=%s]", specs->name, specs->value);
        else
            snprintf(left, sizeof left, "--%s %s", specs->name, specs->value);
        fprintf(out, "  %-24s %s\n", left, specs->help);
    }
    fprintf(out, "  %-24s %s\n", "--help", "Print this help.");
}
