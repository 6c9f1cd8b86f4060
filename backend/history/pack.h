/* SPDX-License-Identifier: MIT
 * Packs: copies of old history records, a thousand in one object, so that a history of months opens
 * in seconds over a network. A pack is the records from the one of its name on, as they are stored,
 * one behind another. It is never an authority: each record says which one it follows, who reads
 * packs looks at the newest of their records in its own place, and when anything does not fit, the
 * records are read one by one as if there were no packs (history.c). A VM's packs follow on each
 * other from record 0; some may be missing from any place on. */
#ifndef BACKEND_HISTORY_PACK_H
#define BACKEND_HISTORY_PACK_H

#include "backend/history/history.h"

#define PACK_RECORDS   1024u
#define PACK_BYTES_MAX (16u << 20) /* a pack ends before it grows over this */

/* Whether history_pack has something to do: there are so many records behind the newest pack that
 * the next one can be made, or packs were of no use. */
bool history_pack_due(struct history *h);
/* Makes it: reads the records and puts what they are, in place of a pack that is another. When
 * packs were of no use, and all that can be are made anew, removes what lies behind them. One
 * thread at a time. */
bool history_pack(struct history *h, struct err *err) MUST_CHECK;

/* Takes the next record off the front of what is left of a pack; false: what is there is none. */
bool pack_next(struct span *left, struct span *record) MUST_CHECK;

#endif
