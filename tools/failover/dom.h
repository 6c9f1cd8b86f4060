/* SPDX-License-Identifier: MIT
 * XML documents that are changed: libvirt's domains and networks, by libxml2 with its network,
 * entities and DTDs off, bounded in bytes and depth. Names are matched without their namespace
 * prefix. One thread per document. */
#ifndef TOOLS_FAILOVER_DOM_H
#define TOOLS_FAILOVER_DOM_H

#include <libxml/tree.h>

#include "common/buf.h"

#define DOM_BYTES_MAX (1u << 20)
#define DOM_DEPTH_MAX 48u

/* farshore's own elements inside <metadata>. */
#define DOM_FARSHORE_NS     "urn:farshore:1"
#define DOM_FARSHORE_PREFIX "farshore"

/* ERR_CORRUPT when the bytes are no such document, or their root is not `root`; `what` names them.
 */
bool dom_parse(struct span text, const char *root, const char *what, xmlDocPtr *out,
               struct err *err) MUST_CHECK;
void dom_release(xmlDocPtr *doc); /* NULL inside is fine; leaves NULL */
#define AUTO_DOM CLEANUP(dom_release)
/* The root element as text, indented, without a declaration; to be freed. */
bool dom_write(xmlDocPtr doc, char **out, struct err *err) MUST_CHECK;

/* Elements. `node` may be NULL, which has nothing. */
xmlNodePtr dom_child(xmlNodePtr node, const char *name); /* the first; NULL: none */
xmlNodePtr dom_next(xmlNodePtr node, const char *name);  /* its next sibling of that name */
xmlNodePtr dom_path(xmlNodePtr node, const char *path);  /* "os/loader": the first of each */
bool dom_is(xmlNodePtr node, const char *name);

/* Attributes and text; "" when there is none. False: it does not fit, and `out` is "". */
bool dom_attr(xmlNodePtr node, const char *name, char *out, size_t size);
bool dom_text(xmlNodePtr node, char *out, size_t size);
bool dom_attr_is(xmlNodePtr node, const char *name, const char *value);

/* Changes fail with ERR_FULL alone, when memory is short. */
bool dom_set_attr(xmlNodePtr node, const char *name, const char *value, struct err *err) MUST_CHECK;
void dom_unset_attr(xmlNodePtr node, const char *name);
bool dom_set_text(xmlNodePtr node, const char *text, struct err *err) MUST_CHECK;
/* A new element at the end. */
bool dom_add(xmlNodePtr parent, const char *name, xmlNodePtr *out, struct err *err) MUST_CHECK;
/* The first of that name, made when there is none. */
bool dom_ensure(xmlNodePtr parent, const char *name, xmlNodePtr *out, struct err *err) MUST_CHECK;
void dom_remove(xmlNodePtr node); /* NULL is fine */
void dom_remove_all(xmlNodePtr parent, const char *name);

/* metadata/farshore:NAME, or NULL. */
xmlNodePtr dom_farshore(xmlNodePtr root, const char *name);
bool dom_farshore_ensure(xmlNodePtr root, const char *name, xmlNodePtr *out,
                         struct err *err) MUST_CHECK;

/* Text that may stand in a document: UTF-8 without control characters. */
bool dom_text_ok(const char *text);

#endif
