/* SPDX-License-Identifier: MIT */
#include "tools/failover/findings.h"

#include <stdarg.h>
#include <stdio.h>

void finding_add(struct findings *f, bool error, const char *format, ...)
{
    va_list arguments;
    if (f->count == FINDINGS_MAX)
        return;
    struct finding *row = &f->rows[f->count++];
    row->error = error;
    va_start(arguments, format);
    vsnprintf(row->text, sizeof row->text, format, arguments);
    va_end(arguments);
}

size_t findings_errors(const struct findings *f)
{
    size_t errors = 0;
    for (size_t i = 0; i < f->count; i++)
        errors += f->rows[i].error;
    return errors;
}

bool findings_refuse(const struct findings *f, const char *vm, struct err *err)
{
    size_t errors = findings_errors(f), i = 0;
    if (errors == 0)
        return true;
    while (!f->rows[i].error)
        i++;
    if (errors == 1)
        return err_set(err, ERR_INVALID, "%s", f->rows[i].text);
    return err_set(err, ERR_INVALID, "%s (and %zu more: farshore validate %s)", f->rows[i].text,
                   errors - 1, vm);
}

bool findings_write(cJSON *object, const char *name, const struct findings *f, struct err *err)
{
    cJSON *array, *row;
    if (!json_add_array(object, name, &array, err))
        return false;
    for (size_t i = 0; i < f->count; i++)
        if (!json_append_object(array, &row, err) ||
            !json_add_bool(row, "error", f->rows[i].error, err) ||
            !json_add_text(row, "text", f->rows[i].text, err))
            return false;
    return true;
}

bool findings_read(const cJSON *object, const char *name, struct findings *out, struct err *err)
{
    const cJSON *array, *row;
    if (!json_array(object, name, &array, err))
        return false;
    cJSON_ArrayForEach(row, array)
    {
        const char *text;
        bool error;
        if (!json_bool(row, "error", &error, err) || !json_text(row, "text", &text, err))
            return false;
        finding_add(out, error, "%s", text);
    }
    return true;
}
