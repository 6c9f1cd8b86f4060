/* SPDX-License-Identifier: MIT */
#include "common/json.h"

#include <stdio.h>

void json_release(cJSON **j)
{
    cJSON_Delete(*j);
    *j = NULL;
}

static bool refuse(struct err *err, size_t offset, const char *what)
{
    return err_set(err, ERR_INVALID, "not valid JSON: %s at byte %zu", what, offset);
}

/* Steps over a string whose opening quote is behind `*at`. */
static bool scan_string(struct span text, size_t *at, struct err *err)
{
    for (; *at < text.length; (*at)++) {
        uint8_t c = text.data[*at];
        if (c == '"')
            return true;
        if (c < 0x20)
            return refuse(err, *at, "a control character in a string");
        if (c != '\\')
            continue;
        if (text.length - *at >= 6 && memcmp(text.data + *at, "\\u0000", 6) == 0)
            return refuse(err, *at, "a NUL character in a string");
        (*at)++;
    }
    return refuse(err, *at, "a string without an end");
}

/* What cJSON would let pass: depth (it recurses 1000 levels), control characters in strings, and
 * NUL, which would cut a string short without a word. */
static bool scan(struct span text, struct err *err)
{
    size_t depth = 0;
    for (size_t at = 0; at < text.length; at++) {
        uint8_t c = text.data[at];
        if (c == '[' || c == '{')
            depth++;
        else if ((c == ']' || c == '}') && depth > 0)
            depth--;
        else if (c == 0)
            return refuse(err, at, "a NUL byte");
        if (depth > JSON_DEPTH_MAX)
            return refuse(err, at, "nested too deeply");
        if (c == '"') {
            at++;
            if (!scan_string(text, &at, err))
                return false;
        }
    }
    return true;
}

bool json_parse(struct span text, cJSON **out, struct err *err)
{
    if (text.length > JSON_BYTES_MAX)
        return err_set(err, ERR_INVALID, "not valid JSON: %zu bytes, more than %u", text.length,
                       JSON_BYTES_MAX);
    if (!scan(text, err))
        return false;
    const char *start = (const char *)text.data;
    const char *end = start;
    cJSON *j AUTO_JSON =
        text.length > 0 ? cJSON_ParseWithLengthOpts(start, text.length, &end, 0) : NULL;
    size_t at = (size_t)(end - start);
    if (j == NULL)
        return refuse(err, at, "a syntax error");
    for (; at < text.length; at++)
        if (strchr(" \t\r\n", start[at]) == NULL)
            return refuse(err, at, "something behind the value");
    *out = TAKE(j);
    return true;
}

static const cJSON *find(const cJSON *object, const char *name, bool *twice)
{
    const cJSON *found = NULL;
    const cJSON *member;
    *twice = false;
    cJSON_ArrayForEach(member, object)
    {
        if (member->string == NULL || strcmp(member->string, name) != 0)
            continue;
        *twice = found != NULL;
        if (*twice)
            break;
        found = member;
    }
    return found;
}

bool json_has(const cJSON *object, const char *name)
{
    bool twice;
    return find(object, name, &twice) != NULL;
}

static bool member(const cJSON *object, const char *name, const cJSON **out, struct err *err)
{
    bool twice;
    if (!cJSON_IsObject(object))
        return err_set(err, ERR_INVALID, "an object with member \"%s\" was expected", name);
    *out = find(object, name, &twice);
    if (*out == NULL)
        return err_set(err, ERR_INVALID, "member \"%s\" is missing", name);
    if (twice)
        return err_set(err, ERR_INVALID, "member \"%s\" is given twice", name);
    return true;
}

static bool wrong_type(struct err *err, const char *name, const char *wanted)
{
    return err_set(err, ERR_INVALID, "member \"%s\" must be %s", name, wanted);
}

bool json_text(const cJSON *object, const char *name, const char **out, struct err *err)
{
    const cJSON *j;
    if (!member(object, name, &j, err))
        return false;
    if (!cJSON_IsString(j))
        return wrong_type(err, name, "a string");
    *out = j->valuestring;
    return true;
}

bool json_copy(const cJSON *object, const char *name, char *out, size_t size, struct err *err)
{
    const char *text;
    if (!json_text(object, name, &text, err))
        return false;
    if (strlen(text) >= size)
        return err_set(err, ERR_INVALID, "member \"%s\" is longer than %zu characters", name,
                       size - 1);
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool u64_of_digits(const char *text, uint64_t *out)
{
    uint64_t v = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0'))
        return false;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9' || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*text - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

bool json_u64(const cJSON *object, const char *name, uint64_t *out, struct err *err)
{
    const cJSON *j;
    if (!member(object, name, &j, err))
        return false;
    if (cJSON_IsString(j) && u64_of_digits(j->valuestring, out))
        return true;
    if (!cJSON_IsNumber(j) || !(j->valuedouble >= 0))
        return wrong_type(err, name, "a whole number, 0 or more");
    if (j->valuedouble >= (double)JSON_NUMBER_MAX)
        return wrong_type(err, name, "written as a string of digits, to be exact from 2^53 on");
    *out = (uint64_t)j->valuedouble;
    if ((double)*out < j->valuedouble)
        return wrong_type(err, name, "a whole number, 0 or more");
    return true;
}

bool json_bool(const cJSON *object, const char *name, bool *out, struct err *err)
{
    const cJSON *j;
    if (!member(object, name, &j, err))
        return false;
    if (!cJSON_IsBool(j))
        return wrong_type(err, name, "true or false");
    *out = cJSON_IsTrue(j);
    return true;
}

bool json_array(const cJSON *object, const char *name, const cJSON **out, struct err *err)
{
    if (!member(object, name, out, err))
        return false;
    return cJSON_IsArray(*out) || wrong_type(err, name, "an array");
}

bool json_object(const cJSON *object, const char *name, const cJSON **out, struct err *err)
{
    if (!member(object, name, out, err))
        return false;
    return cJSON_IsObject(*out) || wrong_type(err, name, "an object");
}

bool json_only(const cJSON *object, const char *const *names, struct err *err)
{
    const cJSON *j;
    cJSON_ArrayForEach(j, object)
    {
        size_t i = 0;
        while (names[i] != NULL && j->string != NULL && strcmp(names[i], j->string) != 0)
            i++;
        if (names[i] == NULL)
            return err_set(err, ERR_INVALID, "member \"%.64s\" is unknown",
                           j->string != NULL ? j->string : "");
    }
    return true;
}

static bool made(const void *pointer, struct err *err)
{
    return pointer != NULL || err_set(err, ERR_FULL, "out of memory");
}

bool json_make(cJSON **object, struct err *err)
{
    *object = cJSON_CreateObject();
    return made(*object, err);
}

bool json_add_text(cJSON *object, const char *name, const char *text, struct err *err)
{
    return made(cJSON_AddStringToObject(object, name, text), err);
}

/* As raw digits: cJSON prints large numbers with 15 of them. */
bool json_add_u64(cJSON *object, const char *name, uint64_t v, struct err *err)
{
    char digits[24];
    snprintf(digits, sizeof digits, "%llu", (unsigned long long)v);
    if (v >= JSON_NUMBER_MAX)
        return json_add_text(object, name, digits, err);
    return made(cJSON_AddRawToObject(object, name, digits), err);
}

bool json_add_bool(cJSON *object, const char *name, bool v, struct err *err)
{
    return made(cJSON_AddBoolToObject(object, name, v), err);
}

bool json_add_array(cJSON *object, const char *name, cJSON **array, struct err *err)
{
    *array = cJSON_AddArrayToObject(object, name);
    return made(*array, err);
}

bool json_add_object(cJSON *object, const char *name, cJSON **child, struct err *err)
{
    *child = cJSON_AddObjectToObject(object, name);
    return made(*child, err);
}

bool json_append_object(cJSON *array, cJSON **object, struct err *err)
{
    cJSON *fresh AUTO_JSON = cJSON_CreateObject();
    if (!made(fresh, err))
        return false;
    if (!cJSON_AddItemToArray(array, fresh))
        return err_set(err, ERR_FULL, "out of memory");
    *object = TAKE(fresh);
    return true;
}

bool json_write(const cJSON *j, bool pretty, struct buf *out, struct err *err)
{
    char *text AUTO_FREE = pretty ? cJSON_Print(j) : cJSON_PrintUnformatted(j);
    if (!made(text, err))
        return false;
    buf_put(out, text, strlen(text));
    return buf_ok(out, err);
}
