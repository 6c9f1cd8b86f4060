/* SPDX-License-Identifier: MIT
 * Byte 0: 0 means that the rest is a file of credentials, else it is a shared credentials file of
 * the AWS tools. */
#include "backend/store/s3_identity.h"
#include "backend/store/secrets.h"
#include "tests/fuzz/fuzz.h"

static const char *const names[] = {"A", "AWS_ACCESS_KEY_ID", "AZURE_STORAGE_KEY", NULL};

/* They become headers. */
static void check_printable(const char *text, char lowest)
{
    for (; *text != '\0'; text++)
        FUZZ_CHECK((unsigned char)*text >= (unsigned char)lowest && *text != 0x7f);
}

static void put_text(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

/* What was understood is understood the same when it is written out again. */
static void check_again(const struct secrets *s, size_t room)
{
    struct secrets again AUTO_SECRETS = {.text = BUF_NONE};
    struct buf text AUTO_BUF = BUF_NONE;
    unsigned line;
    FUZZ_CHECK(buf_reserve(&again.text, room));
    for (size_t i = 0; names[i] != NULL; i++) {
        const char *value = secrets_value(s, names[i]);
        if (value == NULL)
            continue;
        check_printable(value, ' ');
        put_text(&text, names[i]);
        put_text(&text, "=\"");
        put_text(&text, value);
        put_text(&text, "\"\n");
    }
    FUZZ_CHECK(secrets_parse(buf_span(&text), names, &again, &line));
    for (size_t i = 0; names[i] != NULL; i++) {
        const char *value = secrets_value(s, names[i]), *other = secrets_value(&again, names[i]);
        FUZZ_CHECK(value == NULL ? other == NULL : other != NULL && strcmp(value, other) == 0);
    }
}

static void read_secrets(struct span text)
{
    struct secrets s AUTO_SECRETS = {.text = BUF_NONE};
    size_t lines = 1;
    unsigned line;
    FUZZ_CHECK(buf_reserve(&s.text, text.length + 2));
    size_t room = s.text.capacity;
    for (size_t i = 0; i < text.length; i++)
        lines += text.data[i] == '\n';
    if (secrets_parse(text, names, &s, &line))
        check_again(&s, room);
    else
        FUZZ_CHECK(line >= 1 && line <= lines);
    FUZZ_CHECK(s.text.capacity == room); /* grown, it would leave secrets behind */
}

static void read_profile(struct span text)
{
    static struct s3_credentials c;
    bool found;
    bool good = s3_profile_parse(text, "default", &c, &found);
    check_printable(c.key_id, '!');
    check_printable(c.secret, '!');
    check_printable(c.token, '!');
    FUZZ_CHECK(found || !good || (c.key_id[0] == '\0' && c.secret[0] == '\0'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct span rest = span_of(data + 1, size - 1);
    if (data[0] == 0)
        read_secrets(rest);
    else
        read_profile(rest);
    return 0;
}
