/* SPDX-License-Identifier: MIT */
#include "backend/store/xml.h"

#include <errno.h>
#include <libxml/xmlreader.h>
#include <pthread.h>
#include <stdio.h>

#define NAME_MAX_BYTES (STORE_KEY_MAX + 512u)
#define PATH_MAX_BYTES 128u
#define ENTRIES_MAX    10000u /* Azure and S3 give 5,000 and 1,000 a page */

static void quiet(void *context, xmlErrorPtr error)
{
    (void)context, (void)error;
}

static void cleanup_reader(xmlTextReaderPtr *r)
{
    if (*r != NULL)
        xmlFreeTextReader(*r);
}

/* Once, before threads parse at the same time: by itself libxml2 begins at the first reader, and
 * two that are the first at once race. */
static void xml_start(void)
{
    xmlInitParser();
}

/* No network, no DTD, no entities of the document's own: a DOCTYPE ends the reading. */
static xmlTextReaderPtr reader_open(struct span text)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (text.length == 0 || text.length > XML_BYTES_MAX)
        return NULL;
    pthread_once(&once, xml_start);
    xmlTextReaderPtr r = xmlReaderForMemory((const char *)text.data, (int)text.length, NULL, NULL,
                                            XML_PARSE_NONET | XML_PARSE_NOERROR |
                                                XML_PARSE_NOWARNING | XML_PARSE_COMPACT);
    if (r != NULL)
        xmlTextReaderSetStructuredErrorHandler(r, quiet, NULL);
    return r;
}

/* Walks the text of all elements. The path of the one at hand is "A/B/C". */
struct walk {
    char path[PATH_MAX_BYTES];
    size_t lengths[XML_DEPTH_MAX + 1]; /* of `path` at each depth */
    int depth;                         /* of the element at hand, from 1 */
    char text[XML_MARKER_MAX];
    size_t text_length;
    bool too_long; /* the text is */
};

/* `text` is NULL when it is longer than any that is wanted. */
typedef bool element_fn(void *context, const char *path, const char *text);

static bool enter(struct walk *w, xmlTextReaderPtr r)
{
    const char *name = (const char *)xmlTextReaderConstLocalName(r);
    int depth = xmlTextReaderDepth(r) + 1;
    if (name == NULL || depth < 1 || depth > (int)XML_DEPTH_MAX)
        return false;
    size_t used = w->lengths[depth - 1];
    int added = snprintf(w->path + used, sizeof w->path - used, "%s%s", used > 0 ? "/" : "", name);
    if (added < 0 || (size_t)added >= sizeof w->path - used)
        return false;
    w->lengths[depth] = used + (size_t)added;
    w->depth = depth;
    w->text_length = 0;
    w->text[0] = '\0';
    w->too_long = false;
    return true;
}

static void add_text(struct walk *w, xmlTextReaderPtr r)
{
    const char *value = (const char *)xmlTextReaderConstValue(r);
    size_t length = value != NULL ? strlen(value) : 0;
    w->too_long |= length >= sizeof w->text - w->text_length;
    if (length == 0 || w->too_long)
        return;
    memcpy(w->text + w->text_length, value, length);
    w->text_length += length;
    w->text[w->text_length] = '\0';
}

/* The element at hand ends: `each` gets it if it holds no other element. */
static bool leave(struct walk *w, int depth, element_fn *each, void *context)
{
    const char *text = depth != w->depth ? "" : w->too_long ? NULL : w->text;
    bool good = each(context, w->path, text);
    w->path[w->lengths[depth - 1]] = '\0';
    w->depth = 0;
    return good;
}

static bool step(struct walk *w, xmlTextReaderPtr r, element_fn *each, void *context)
{
    switch (xmlTextReaderNodeType(r)) {
    case XML_READER_TYPE_ELEMENT: {
        int depth = xmlTextReaderDepth(r) + 1;
        return enter(w, r) && (!xmlTextReaderIsEmptyElement(r) || leave(w, depth, each, context));
    }
    case XML_READER_TYPE_TEXT:
    case XML_READER_TYPE_CDATA:
    case XML_READER_TYPE_SIGNIFICANT_WHITESPACE:
        if (w->depth > 0)
            add_text(w, r);
        return true;
    case XML_READER_TYPE_END_ELEMENT:
        return leave(w, xmlTextReaderDepth(r) + 1, each, context);
    case XML_READER_TYPE_DOCUMENT_TYPE:
    case XML_READER_TYPE_ENTITY_REFERENCE:
        return false;
    default:
        return true;
    }
}

/* Calls `each` for every element at its end, inner ones first, until it says no. True: the whole
 * document was read and is well-formed. */
static bool walk(struct span text, element_fn *each, void *context)
{
    struct walk w = {.depth = 0};
    xmlTextReaderPtr r CLEANUP(cleanup_reader) = reader_open(text);
    int more;

    if (r == NULL)
        return false;
    while ((more = xmlTextReaderRead(r)) == 1)
        if (!step(&w, r, each, context))
            return false;
    return more == 0;
}

/* --- one text --- */

struct wanted {
    const char *path;
    char *out;
    size_t size;
    bool found;
};

static bool match(void *context, const char *path, const char *text)
{
    struct wanted *w = context;
    if (strcmp(path, w->path) != 0)
        return true;
    w->found = text != NULL && strlen(text) < w->size;
    if (w->found)
        memcpy(w->out, text, strlen(text) + 1);
    return false;
}

bool xml_text(struct span text, const char *path, char *out, size_t size)
{
    struct wanted w = {.path = path, .out = out, .size = size};
    out[0] = '\0';
    (void)walk(text, match, &w); /* ends early when it is found */
    return w.found;
}

/* --- a page of a list --- */

static const struct {
    const char *item, *name, *size, *marker, *truncated;
} dialects[] = {
    [XML_AZURE] = {"EnumerationResults/Blobs/Blob", "EnumerationResults/Blobs/Blob/Name",
                   "EnumerationResults/Blobs/Blob/Properties/Content-Length",
                   "EnumerationResults/NextMarker", NULL},
    [XML_S3] = {"ListBucketResult/Contents", "ListBucketResult/Contents/Key",
                "ListBucketResult/Contents/Size", "ListBucketResult/NextContinuationToken",
                "ListBucketResult/IsTruncated"},
};

struct page {
    enum xml_dialect dialect;
    struct buf entries; /* u64 size, u16 length and name, for each */
    size_t count;
    char name[NAME_MAX_BYTES + 1];
    bool named, sized, truncated, complete;
    bool foreign; /* its name is longer than any of ours: passed over */
    uint64_t size;
    char *marker;
    const char *wrong;
};

static bool wrong(struct page *p, const char *what)
{
    p->wrong = what;
    return false;
}

static bool take_size(struct page *p, const char *text)
{
    char *end;
    errno = 0;
    if (text == NULL)
        return wrong(p, "a size in it is no number");
    p->size = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0)
        return wrong(p, "a size in it is no number");
    p->sized = true;
    return true;
}

static bool take_name(struct page *p, const char *text)
{
    if (text != NULL && text[0] == '\0')
        return wrong(p, "a name in it is empty");
    p->named = true;
    p->foreign = text == NULL || strlen(text) > NAME_MAX_BYTES;
    if (!p->foreign)
        memcpy(p->name, text, strlen(text) + 1);
    return true;
}

static bool take_item(struct page *p)
{
    if (!p->named || !p->sized)
        return wrong(p, "an object in it has no name or no size");
    p->named = p->sized = false;
    if (p->foreign)
        return true;
    if (++p->count > ENTRIES_MAX)
        return wrong(p, "it holds too many objects");
    buf_put_u64(&p->entries, p->size);
    buf_put_text(&p->entries, p->name);
    return !p->entries.failed || wrong(p, "there is no memory to read it");
}

static bool take_element(void *context, const char *path, const char *text)
{
    struct page *p = context;
    size_t length = strlen(path);
    if (strcmp(path, dialects[p->dialect].name) == 0) {
        return take_name(p, text);
    } else if (strcmp(path, dialects[p->dialect].size) == 0) {
        return take_size(p, text);
    } else if (strcmp(path, dialects[p->dialect].item) == 0) {
        return take_item(p);
    } else if (strcmp(path, dialects[p->dialect].marker) == 0) {
        if (text == NULL)
            return wrong(p, "its marker is too long");
        memcpy(p->marker, text, strlen(text) + 1);
    } else if (dialects[p->dialect].truncated != NULL &&
               strcmp(path, dialects[p->dialect].truncated) == 0) {
        p->truncated = text != NULL && strcmp(text, "true") == 0;
    } else if (strchr(path, '/') == NULL) {
        p->complete = strncmp(path, dialects[p->dialect].name, length) == 0 &&
                      dialects[p->dialect].name[length] == '/';
    }
    return true;
}

static bool check_page(struct page *p, struct span text)
{
    if (!walk(text, take_element, p))
        return p->wrong != NULL ? false : wrong(p, "it is no well-formed XML");
    if (!p->complete)
        return wrong(p, "it is no list");
    if (p->dialect == XML_S3 && p->truncated && p->marker[0] == '\0')
        return wrong(p, "it goes on, but does not say where");
    if (p->dialect == XML_S3 && !p->truncated)
        p->marker[0] = '\0';
    return true;
}

bool xml_list(enum xml_dialect dialect, struct span text, store_list_fn *each, void *context,
              bool *stopped, char marker[XML_MARKER_MAX], struct err *err)
{
    struct page p = {.dialect = dialect, .entries = BUF_NONE, .marker = marker};
    struct buf entries AUTO_BUF = BUF_NONE;

    *stopped = false;
    marker[0] = '\0';
    bool good = check_page(&p, text);
    entries = p.entries;
    if (!good)
        return err_set(err, ERR_CORRUPT, "the store's list cannot be read: %s", p.wrong);
    struct reader r = reader_of(buf_span(&entries));
    for (size_t i = 0; i < p.count && !*stopped; i++) {
        uint64_t size = read_u64(&r);
        read_text(&r, p.name, sizeof p.name);
        *stopped = !each(context, p.name, size);
    }
    return true;
}
