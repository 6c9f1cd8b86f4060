/* SPDX-License-Identifier: MIT */
#include "backend/history/generation.h"

#include <inttypes.h>
#include <stdio.h>

#define DISK_NAME_CHARS_MAX 31u
#define HEX_DIGITS          16u

static bool name_valid(const char *name, size_t length_max, const char *marks)
{
    size_t length = strlen(name);
    if (length == 0 || length > length_max)
        return false;
    for (size_t i = 0; i < length; i++) {
        bool plain = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9');
        if (!plain && (i == 0 || strchr(marks, name[i]) == NULL))
            return false;
    }
    return true;
}

bool vm_name_valid(const char *name)
{
    return name_valid(name, VM_NAME_MAX, "._-");
}

bool disk_name_valid(const char *name)
{
    return name_valid(name, DISK_NAME_CHARS_MAX, "_-");
}

void generation_name(struct generation g, char out[GENERATION_NAME_MAX])
{
    snprintf(out, GENERATION_NAME_MAX, "g%04" PRIu32 "-%016" PRIx64, g.number, g.id);
}

static bool take_number(const char **p, uint32_t *out)
{
    uint32_t v = 0;
    for (; **p >= '0' && **p <= '9'; (*p)++)
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint32_t)(**p - '0'), &v))
            return false;
    *out = v;
    return v > 0;
}

bool generation_parse(const char *name, struct generation *out)
{
    static const char hex_digits[] = "0123456789abcdef";
    struct generation g = {.id = 0};
    char again[GENERATION_NAME_MAX];
    const char *p = name;

    if (*p++ != 'g' || !take_number(&p, &g.number) || *p++ != '-')
        return false;
    size_t digits = 0;
    for (; digits < HEX_DIGITS && p[digits] != '\0'; digits++) {
        const char *at = strchr(hex_digits, p[digits]);
        if (at == NULL)
            return false;
        g.id = g.id << 4 | (uint64_t)(at - hex_digits);
    }
    /* One name for one generation: what would be written otherwise is not its name. */
    generation_name(g, again);
    if (g.id == 0 || strcmp(again, name) != 0)
        return false;
    *out = g;
    return true;
}

/* All names are bounded by their rules, so every key fits. */
void key_epoch(char out[KEY_MAX], const char *vm, struct generation g, uint64_t epoch)
{
    char generation[GENERATION_NAME_MAX];
    generation_name(g, generation);
    snprintf(out, KEY_MAX, "%s/%s/%016" PRIu64, vm, generation, epoch);
}

void key_part(char out[KEY_MAX], const char *vm, struct generation g, uint64_t epoch,
              uint64_t attempt, uint32_t part)
{
    char generation[GENERATION_NAME_MAX];
    generation_name(g, generation);
    snprintf(out, KEY_MAX, "%s/%s/parts/%016" PRIu64 "-%016" PRIx64 "-%04" PRIu32, vm, generation,
             epoch, attempt, part);
}

void key_progress(char out[KEY_MAX], const char *vm, uint64_t number)
{
    snprintf(out, KEY_MAX, "%s/progress/%016" PRIu64, vm, number);
}

void key_vault(char out[KEY_MAX], const char *vm)
{
    snprintf(out, KEY_MAX, "%s/vault", vm);
}

void key_history(char out[KEY_MAX], const char *vm, uint64_t number)
{
    snprintf(out, KEY_MAX, "%s/history/%016" PRIu64, vm, number);
}

void key_pack(char out[KEY_MAX], const char *vm, uint64_t first)
{
    snprintf(out, KEY_MAX, "%s/packs/%016" PRIu64, vm, first);
}

void key_segment(char out[KEY_MAX], const char *vm, const char *sha256_hex)
{
    snprintf(out, KEY_MAX, "%s/segments/%s", vm, sha256_hex);
}

void key_document(char out[KEY_MAX], const char *vm, const char *log, uint64_t number)
{
    snprintf(out, KEY_MAX, "%s/%s/%016" PRIu64, vm, log, number);
}

void key_pin(char out[KEY_MAX], const char *vm, const char *name)
{
    snprintf(out, KEY_MAX, "%s/pins/%s", vm, name);
}
