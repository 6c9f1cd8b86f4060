/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is a command line, each word ended by a NUL; 1 that it is a size; 2
 * the path of a mount point, 3 a setting KEY=VALUE of the target, else text as a shell takes it. */
#include "tests/fuzz/fuzz.h"
#include "tools/failover/target_settings.h"
#include "tools/mounts.h"
#include "tools/options.h"
#include "tools/output.h"

#define WORDS_MAX 400u

static const struct option_spec specs[] = {
    {"flag", NULL, false, false, "A flag."},
    {"number", "N", false, false, "A number."},
    {"maybe", "TEXT", true, false, "A value or none."},
    {"many", "TEXT", false, true, "Several."},
    OPTIONS_END,
};

static void read_line(char *text, size_t length)
{
    char *words[WORDS_MAX];
    static struct options o;
    struct err err = ERR_NONE;
    uint64_t number;
    int count = 0;
    for (size_t at = 0; at < length && count < (int)WORDS_MAX; at += strlen(text + at) + 1)
        words[count++] = text + at;
    if (!options_parse(specs, count, words, &o, &err)) {
        FUZZ_CHECK(err.kind == ERR_INVALID && err.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(o.given_count <= OPTIONS_GIVEN_MAX && o.operand_count <= OPERANDS_MAX);
    FUZZ_CHECK(option_count(&o, "flag") <= 1 || o.help);
    if (option_number(&o, "number", 7, 1, 1000, &number, &err))
        FUZZ_CHECK(number >= 1 && number <= 1000);
    for (size_t i = 0; i < option_count(&o, "many"); i++)
        FUZZ_CHECK(option_value(&o, "many", i) != NULL);
}

static void read_size(const char *text)
{
    struct err err = ERR_NONE;
    uint64_t bytes;
    if (size_parse(text, 1ull << 50, &bytes, &err))
        FUZZ_CHECK(bytes >= 1 && bytes <= 1ull << 50);
    else
        FUZZ_CHECK(err.kind == ERR_INVALID);
}

static void read_mount(const char *text)
{
    char path[PATH_MAX];
    struct err err = ERR_NONE;
    if (strlen(text) < 64 && mount_path(text, path, &err)) /* longer ones are looked up for ever */
        FUZZ_CHECK(path[0] == '/');
}

static void read_setting(char *text)
{
    static struct target_settings s;
    struct err err = ERR_NONE;
    char *equal = strchr(text, '=');
    if (equal == NULL)
        return;
    *equal = '\0';
    memset(&s, 0, sizeof s);
    if (!target_setting_set(&s, text, equal + 1, &err)) {
        FUZZ_CHECK(err.kind != ERR_OK && s.count == 0);
        return;
    }
    const char *value = target_setting(&s, text);
    FUZZ_CHECK(equal[1] == '\0' ? value == NULL : value != NULL && strcmp(value, equal + 1) == 0);
}

/* What a shell makes of the quoted word is the word. */
static void quote(const char *text)
{
    char quoted[4096];
    size_t used = 0;
    bool inside = false;
    if (strlen(text) > 1000)
        return;
    shell_quote(text, quoted, sizeof quoted);
    for (const char *c = quoted; *c != '\0'; c++) {
        if (*c == '\'') {
            inside = !inside;
            continue;
        }
        if (!inside && *c == '\\')
            c++;
        FUZZ_CHECK(text[used++] == *c);
    }
    FUZZ_CHECK(!inside && text[used] == '\0' && quoted[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf copy AUTO_BUF = BUF_NONE;
    if (size < 1)
        return 0;
    buf_put(&copy, data + 1, size - 1);
    buf_put_u8(&copy, 0);
    char *text = (char *)copy.data;
    switch (data[0]) {
    case 0:
        read_line(text, copy.length);
        break;
    case 1:
        read_size(text);
        break;
    case 2:
        read_mount(text);
        break;
    case 3:
        read_setting(text);
        break;
    default:
        quote(text);
    }
    return 0;
}
