/* SPDX-License-Identifier: MIT
 * What Azure Blob and S3 answer in XML, read by libxml2 with its network, entities and DTDs off,
 * bounded in bytes, depth and entries. The bytes are the world: whatever they hold, a call returns
 * and says what is wrong. Any thread may call. */
#ifndef BACKEND_STORE_XML_H
#define BACKEND_STORE_XML_H

#include "backend/store/store.h"

#define XML_BYTES_MAX  (8u << 20)
#define XML_DEPTH_MAX  16u
#define XML_MARKER_MAX 2048u

enum xml_dialect {
    XML_AZURE, /* EnumerationResults/Blobs/Blob{Name,Properties/Content-Length}, NextMarker */
    XML_S3,    /* ListBucketResult/Contents{Key,Size}, NextContinuationToken when IsTruncated */
};

/* One page of a list: `each` as for store_list, with names as they stand there, in that order.
 * *stopped: `each` said so. `marker` of the next page, "" when this was the last. ERR_CORRUPT. */
bool xml_list(enum xml_dialect dialect, struct span text, store_list_fn *each, void *context,
              bool *stopped, char marker[XML_MARKER_MAX], struct err *err) MUST_CHECK;

/* The text of the one element at `path` ("Error/Code", "InitiateMultipartUploadResult/UploadId"),
 * namespaces ignored. False when the bytes are not XML, or hold no such element, or it does not
 * fit: for texts that only explain, and for those whose lack the caller names. */
bool xml_text(struct span text, const char *path, char *out, size_t size) MUST_CHECK;

#endif
