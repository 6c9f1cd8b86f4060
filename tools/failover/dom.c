/* SPDX-License-Identifier: MIT */
#include "tools/failover/dom.h"

#include <libxml/parser.h>
#include <pthread.h>
#include <stdio.h>

/* Once, before threads parse at the same time: by itself libxml2 begins at the first document, and
 * two that are the first at once race. */
static void dom_start(void)
{
    xmlInitParser();
}

void dom_release(xmlDocPtr *doc)
{
    if (*doc != NULL)
        xmlFreeDoc(*doc);
    *doc = NULL;
}

/* The first element at or behind `node`, of that name if one is given. */
static xmlNodePtr element_at(xmlNodePtr node, const char *name)
{
    while (node != NULL &&
           (node->type != XML_ELEMENT_NODE || (name != NULL && !dom_is(node, name))))
        node = node->next;
    return node;
}

static bool depth_ok(xmlNodePtr root)
{
    size_t depth = 1;
    for (xmlNodePtr n = root; n != NULL;) {
        if (n->type == XML_ELEMENT_NODE && n->children != NULL) {
            if (++depth > DOM_DEPTH_MAX)
                return false;
            n = n->children;
            continue;
        }
        while (n != root && n->next == NULL) {
            n = n->parent;
            depth--;
        }
        n = n == root ? NULL : n->next;
    }
    return true;
}

static const char *read_doc(struct span text, const char *root, xmlDocPtr *out)
{
    if (text.length == 0 || text.length > DOM_BYTES_MAX)
        return text.length == 0 ? "it is empty" : "it is too long";
    /* Read as UTF-8 whatever it declares, so that these cannot hide behind another encoding. */
    if (memchr(text.data, 0, text.length) != NULL ||
        memmem(text.data, text.length, "<!DOCTYPE", 9) != NULL)
        return "it declares entities";
    xmlParserCtxtPtr parser = xmlNewParserCtxt();
    if (parser == NULL)
        return "there is no memory to read it";
    *out = xmlCtxtReadMemory(parser, (const char *)text.data, (int)text.length, NULL, "UTF-8",
                             XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                 XML_PARSE_NOBLANKS | XML_PARSE_COMPACT);
    xmlFreeParserCtxt(parser);
    if (*out == NULL)
        return "it is no well-formed XML";
    xmlNodePtr top = xmlDocGetRootElement(*out);
    if (top == NULL || (*out)->intSubset != NULL || !dom_is(top, root))
        return "its root is another";
    return depth_ok(top) ? NULL : "it is too deep";
}

bool dom_parse(struct span text, const char *root, const char *what, xmlDocPtr *out,
               struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    xmlDocPtr doc AUTO_DOM = NULL;

    *out = NULL;
    pthread_once(&once, dom_start);
    const char *wrong = read_doc(text, root, &doc);
    if (wrong != NULL)
        return err_set(err, ERR_CORRUPT, "the XML of %s cannot be read: %s", what, wrong);
    *out = TAKE(doc);
    return true;
}

bool dom_write(xmlDocPtr doc, char **out, struct err *err)
{
    xmlBufferPtr b = xmlBufferCreate();
    bool good = b != NULL && xmlNodeDump(b, doc, xmlDocGetRootElement(doc), 0, 1) >= 0;
    *out = good ? strdup((const char *)xmlBufferContent(b)) : NULL;
    if (b != NULL)
        xmlBufferFree(b);
    return *out != NULL || err_set(err, ERR_FULL, "out of memory");
}

/* --- looking --- */

bool dom_is(xmlNodePtr node, const char *name)
{
    return node != NULL && node->type == XML_ELEMENT_NODE &&
           strcmp((const char *)node->name, name) == 0;
}

xmlNodePtr dom_child(xmlNodePtr node, const char *name)
{
    return node == NULL ? NULL : element_at(node->children, name);
}

xmlNodePtr dom_next(xmlNodePtr node, const char *name)
{
    return node == NULL ? NULL : element_at(node->next, name);
}

xmlNodePtr dom_path(xmlNodePtr node, const char *path)
{
    char name[64];
    while (node != NULL && *path != '\0') {
        size_t length = strcspn(path, "/");
        snprintf(name, sizeof name, "%.*s", (int)length, path);
        node = dom_child(node, name);
        path += length + (path[length] == '/');
    }
    return node;
}

/* Takes `value`. */
static bool copy_out(xmlChar *value, char *out, size_t size)
{
    size_t length = value != NULL ? strlen((const char *)value) : 0;
    bool fits = length < size;
    if (fits && value != NULL)
        memcpy(out, value, length + 1);
    else
        out[0] = '\0';
    xmlFree(value);
    return fits;
}

bool dom_attr(xmlNodePtr node, const char *name, char *out, size_t size)
{
    return copy_out(node != NULL ? xmlGetNoNsProp(node, (const xmlChar *)name) : NULL, out, size);
}

bool dom_text(xmlNodePtr node, char *out, size_t size)
{
    return copy_out(node != NULL ? xmlNodeGetContent(node) : NULL, out, size);
}

bool dom_attr_is(xmlNodePtr node, const char *name, const char *value)
{
    char have[128];
    return dom_attr(node, name, have, sizeof have) && strcmp(have, value) == 0;
}

/* --- changing --- */

static bool no_memory(struct err *err)
{
    return err_set(err, ERR_FULL, "out of memory");
}

bool dom_set_attr(xmlNodePtr node, const char *name, const char *value, struct err *err)
{
    return xmlSetProp(node, (const xmlChar *)name, (const xmlChar *)value) != NULL ||
           no_memory(err);
}

void dom_unset_attr(xmlNodePtr node, const char *name)
{
    if (node != NULL)
        xmlUnsetProp(node, (const xmlChar *)name);
}

bool dom_set_text(xmlNodePtr node, const char *text, struct err *err)
{
    while (node->children != NULL) {
        xmlNodePtr child = node->children;
        xmlUnlinkNode(child);
        xmlFreeNode(child);
    }
    xmlNodePtr content = xmlNewDocText(node->doc, (const xmlChar *)text);
    if (content == NULL)
        return no_memory(err);
    xmlAddChild(node, content);
    return true;
}

bool dom_add(xmlNodePtr parent, const char *name, xmlNodePtr *out, struct err *err)
{
    *out = xmlNewDocNode(parent->doc, NULL, (const xmlChar *)name, NULL);
    if (*out == NULL)
        return no_memory(err);
    xmlAddChild(parent, *out);
    return true;
}

bool dom_ensure(xmlNodePtr parent, const char *name, xmlNodePtr *out, struct err *err)
{
    *out = dom_child(parent, name);
    return *out != NULL || dom_add(parent, name, out, err);
}

void dom_remove(xmlNodePtr node)
{
    if (node == NULL)
        return;
    xmlUnlinkNode(node);
    xmlFreeNode(node);
}

void dom_remove_all(xmlNodePtr parent, const char *name)
{
    for (xmlNodePtr n; (n = dom_child(parent, name)) != NULL;)
        dom_remove(n);
}

/* --- farshore's own --- */

xmlNodePtr dom_farshore(xmlNodePtr root, const char *name)
{
    xmlNodePtr n = dom_child(dom_child(root, "metadata"), name);
    while (n != NULL && (n->ns == NULL || n->ns->href == NULL ||
                         strcmp((const char *)n->ns->href, DOM_FARSHORE_NS) != 0))
        n = dom_next(n, name);
    return n;
}

bool dom_farshore_ensure(xmlNodePtr root, const char *name, xmlNodePtr *out, struct err *err)
{
    xmlNodePtr metadata;
    *out = dom_farshore(root, name);
    if (*out != NULL)
        return true;
    if (!dom_ensure(root, "metadata", &metadata, err) || !dom_add(metadata, name, out, err))
        return false;
    xmlNsPtr ns =
        xmlNewNs(*out, (const xmlChar *)DOM_FARSHORE_NS, (const xmlChar *)DOM_FARSHORE_PREFIX);
    if (ns == NULL)
        return no_memory(err);
    xmlSetNs(*out, ns);
    return true;
}

bool dom_text_ok(const char *text)
{
    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    return xmlCheckUTF8((const xmlChar *)text) == 1;
}
