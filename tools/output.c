/* SPDX-License-Identifier: MIT */
#include "tools/output.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#define COLUMNS_MAX   16u
#define CELL_MAX      256u
#define SHOW_EVERY_NS 200000000ull

void shell_quote(const char *word, char *out, size_t size)
{
    bool plain = word[0] != '\0';
    size_t used = 0;
    for (const char *p = word; *p; p++)
        plain &= isalnum((unsigned char)*p) || strchr("%+,-./:=@_", *p);
    if (plain) {
        snprintf(out, size, "%s", word);
        return;
    }
    used += (size_t)snprintf(out, size, "'");
    for (const char *p = word; *p && used < size; p++)
        used += *p == '\'' ? (size_t)snprintf(out + used, size - used, "'\\''")
                           : (size_t)snprintf(out + used, size - used, "%c", *p);
    if (used < size)
        snprintf(out + used, size - used, "'");
}

struct table {
    const char *const *heads;
    size_t columns;
    size_t cells, room;
    char (*text)[CELL_MAX];
};

struct table *table_make(const char *const *heads)
{
    struct table *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->heads = heads;
    while (heads[t->columns])
        t->columns++;
    assert(t->columns > 0 && t->columns <= COLUMNS_MAX);
    return t;
}

void table_release(struct table **t)
{
    if (*t)
        free((*t)->text);
    free(TAKE(*t));
}

bool table_cell(struct table *t, const char *format, ...)
{
    if (t->cells == t->room) {
        size_t room = t->room ? 2 * t->room : 64;
        void *more = realloc(t->text, room * CELL_MAX);
        if (more == NULL)
            return false;
        t->text = more;
        t->room = room;
    }
    char *cell = t->text[t->cells++];
    va_list args;
    va_start(args, format);
    vsnprintf(cell, CELL_MAX, format, args);
    va_end(args);
    for (; *cell; cell++)
        if ((unsigned char)*cell < 0x20 || *cell == 0x7f)
            *cell = '?';
    return true;
}

static void print_cell(const struct table *t, size_t column, const char *text, int width, FILE *out)
{
    bool right = t->heads[column][0] == '>';
    bool last = column + 1 == t->columns;
    if (right)
        fprintf(out, "%*s", width, text);
    else
        fprintf(out, "%-*s", last ? 0 : width, text);
    fputs(last ? "\n" : "  ", out);
}

void table_print(const struct table *t, FILE *out)
{
    int width[COLUMNS_MAX];
    size_t rows = t->cells / t->columns;
    for (size_t c = 0; c < t->columns; c++) {
        width[c] = (int)strlen(t->heads[c] + (t->heads[c][0] == '>'));
        for (size_t r = 0; r < rows; r++) {
            int length = (int)strlen(t->text[r * t->columns + c]);
            if (length > width[c])
                width[c] = length;
        }
    }
    for (size_t c = 0; c < t->columns; c++)
        print_cell(t, c, t->heads[c] + (t->heads[c][0] == '>'), width[c], out);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < t->columns; c++)
            print_cell(t, c, t->text[r * t->columns + c], width[c], out);
}

bool json_print(const cJSON *j, struct err *err)
{
    struct buf text AUTO_BUF = BUF_NONE;
    if (!json_write(j, true, &text, err))
        return false;
    fwrite(text.data, 1, text.length, stdout);
    putchar('\n');
    return true;
}

struct progress progress_begin(struct world *w, FILE *out, const char *what)
{
    return (struct progress){.out = isatty(fileno(out)) ? out : NULL,
                             .world = w,
                             .what = what,
                             .begun_ns = w->ops->boottime_ns(w)};
}

void progress_format(const char *what, uint64_t done, uint64_t total, uint64_t elapsed_ns,
                     char out[160])
{
    char a[OUTPUT_TEXT_MAX], b[OUTPUT_TEXT_MAX], rate[OUTPUT_TEXT_MAX], left[OUTPUT_TEXT_MAX];
    double seconds = (double)elapsed_ns / 1e9;
    double per_second = seconds > 0 ? (double)done / seconds : 0;

    size_format(done, a);
    size_format(total, b);
    size_format((uint64_t)per_second, rate);
    if (per_second < 1 || total < done)
        snprintf(left, sizeof left, "?");
    else
        age_format((uint64_t)((double)(total - done) / per_second), left);
    snprintf(out, 160, "%s: %s of %s, %s/s, %s left", what, a, b, rate, left);
}

void progress_show(void *context, uint64_t done, uint64_t total)
{
    struct progress *p = context;
    if (p->out == NULL)
        return;
    uint64_t now = p->world->ops->boottime_ns(p->world);
    if (now - p->shown_ns < SHOW_EVERY_NS)
        return;
    char text[160];
    p->shown_ns = now;
    progress_format(p->what, done, total, now - p->begun_ns, text);
    fprintf(p->out, "\r%s\033[K", text);
    fflush(p->out);
}

void progress_end(struct progress *p)
{
    if (p->out && p->shown_ns)
        fputs("\r\033[K", p->out);
}
