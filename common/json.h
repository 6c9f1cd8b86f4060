/* SPDX-License-Identifier: MIT
 * JSON settings and answers, by cJSON. Reading is strict: text from outside is bounded in length
 * and depth, and each call below takes one member of an object, required and of one type, with an
 * error that names the member. Nothing here is shared: one thread per tree.
 *
 * Numbers above 2^53 are not exact in JSON, so they are written, and must be given, as strings of
 * decimal digits. */
#ifndef COMMON_JSON_H
#define COMMON_JSON_H

#include <cjson/cJSON.h>

#include "common/buf.h"

#define JSON_BYTES_MAX  (4u << 20)
#define JSON_DEPTH_MAX  32u
#define JSON_NUMBER_MAX (1ull << 53)

void json_release(cJSON **j); /* NULL inside is fine; leaves NULL */
#define AUTO_JSON CLEANUP(json_release)

/* One value and nothing behind it but space. ERR_INVALID says at which byte it is wrong; deeper
 * than JSON_DEPTH_MAX, longer than JSON_BYTES_MAX, control characters and \u0000 are refused. */
bool json_parse(struct span text, cJSON **out, struct err *err) MUST_CHECK;

/* Whether `object` has the member at all, whatever its type. */
bool json_has(const cJSON *object, const char *name);

/* ERR_INVALID: missing, given twice, or of another type. Texts and trees are borrowed. */
bool json_text(const cJSON *object, const char *name, const char **out, struct err *err) MUST_CHECK;
/* The same, copied; ERR_INVALID when it does not fit in `size` with its NUL. */
bool json_copy(const cJSON *object, const char *name, char *out, size_t size,
               struct err *err) MUST_CHECK;
bool json_u64(const cJSON *object, const char *name, uint64_t *out, struct err *err) MUST_CHECK;
bool json_bool(const cJSON *object, const char *name, bool *out, struct err *err) MUST_CHECK;
bool json_array(const cJSON *object, const char *name, const cJSON **out,
                struct err *err) MUST_CHECK;
bool json_object(const cJSON *object, const char *name, const cJSON **out,
                 struct err *err) MUST_CHECK;
/* Refuses members that are not in `names` (NULL ends it): a misspelt setting is not ignored. */
bool json_only(const cJSON *object, const char *const *names, struct err *err) MUST_CHECK;

/* Building. All fail with ERR_FULL alone, when memory is short. */
bool json_make(cJSON **object, struct err *err) MUST_CHECK;
bool json_add_text(cJSON *object, const char *name, const char *text, struct err *err) MUST_CHECK;
bool json_add_u64(cJSON *object, const char *name, uint64_t v, struct err *err) MUST_CHECK;
bool json_add_bool(cJSON *object, const char *name, bool v, struct err *err) MUST_CHECK;
/* The new, empty array or object belongs to `object`. */
bool json_add_array(cJSON *object, const char *name, cJSON **array, struct err *err) MUST_CHECK;
bool json_add_object(cJSON *object, const char *name, cJSON **member, struct err *err) MUST_CHECK;
/* A new, empty object at the end of `array`, which owns it. */
bool json_append_object(cJSON *array, cJSON **object, struct err *err) MUST_CHECK;

/* Appends the text, on one line or (`pretty`) indented for people; no newline behind it. */
bool json_write(const cJSON *j, bool pretty, struct buf *out, struct err *err) MUST_CHECK;

#endif
