/* SPDX-License-Identifier: MIT
 * Reading a run: the root stays in memory, pages are fetched as they are needed. */
#include "backend/history/run_internal.h"

#include <inttypes.h>

/* The first fetch: head and root of most runs come in one, and a run that is no longer stays in
 * memory whole. */
#define RUN_OPEN_BYTES  16384u
#define RUN_CACHE_PAGES 32u /* decoded pages kept by an open run: up to 112 KiB each */

struct page {
    uint32_t number;
    uint32_t count;
    unsigned users; /* guarded by run.cache_lock; the cache itself is one */
    uint64_t used;  /* run.clock at the last use */
    struct run_mark *marks;
    struct buf plain;
};

struct run {
    const struct keys *keys;
    struct run_source source;
    uint8_t head[RUN_HEAD_BYTES]; /* part of every AAD */
    struct seal_salt salt;
    struct run_root root;
    struct buf whole; /* the run, when it is short; else empty */

    /* Never held during a fetch, an unseal or a parse. */
    pthread_mutex_t cache_lock;
    struct page *cache[RUN_CACHE_PAGES]; /* NULL: a free slot */
    size_t cache_pages;                  /* of them in use */
    uint64_t clock;
};

/* --- parsing the root --- */

static bool root_corrupt(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the root of a run has bad %s", what);
}

/* How many items the reader can still hold, so that no count allocates more than it brought. */
static bool count_fits(const struct reader *r, uint32_t count, uint32_t count_max, size_t bytes)
{
    return !r->failed && count <= count_max && count <= reader_left(r) / bytes;
}

static bool array_make(void *out, size_t count, size_t size, struct err *err)
{
    void *array = calloc(count + 1, size);
    if (array == NULL)
        return err_set(err, ERR_FULL, "out of memory for the root of a run");
    memcpy(out, &array, sizeof array);
    return true;
}

static bool root_read_segments(struct reader *r, struct run_root *root, struct err *err)
{
    uint32_t count = read_u32(r);
    if (!count_fits(r, count, RUN_SEGMENTS_MAX, 2 + 1))
        return root_corrupt(err, "segments");
    root->segment_count = count;
    size_t start = r->offset;
    size_t names_bytes = 0;
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        char name[RUN_SEGMENT_NAME_MAX];
        read_text(r, name, sizeof name);
        if (!object_name_valid(name))
            r->failed = true;
        names_bytes += strlen(name) + 1;
    }
    if (r->failed)
        return root_corrupt(err, "segments");
    if (!array_make(&root->names, names_bytes, 1, err) ||
        !array_make(&root->name_offsets, count, sizeof *root->name_offsets, err))
        return false;
    r->offset = start;
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        root->name_offsets[i] = (uint32_t)at;
        read_text(r, root->names + at, RUN_SEGMENT_NAME_MAX);
        at += strlen(root->names + at) + 1;
    }
    return true;
}

static bool root_read_salts(struct reader *r, struct run_root *root, struct err *err)
{
    uint32_t count = read_u32(r);
    if (!count_fits(r, count, RUN_SALTS_MAX, SEAL_SALT_BYTES))
        return root_corrupt(err, "salts");
    if (!array_make(&root->salts, count, sizeof *root->salts, err))
        return false;
    root->salt_count = count;
    read_bytes(r, root->salts, (size_t)count * SEAL_SALT_BYTES);
    return true;
}

static bool page_ref_follows(const struct run_page_ref *p, const struct run_page_ref *before)
{
    return p->disk > before->disk ||
           (p->disk == before->disk && p->first_block > before->first_block);
}

/* Pages lie one after another behind the root, and fill the run to its end. */
static bool root_read_pages(struct reader *r, uint32_t page_count, uint64_t total_bytes,
                            uint64_t offset, struct run_root *root, struct err *err)
{
    if (!count_fits(r, page_count, UINT32_MAX - 1, RUN_PAGE_REF_BYTES))
        return root_corrupt(err, "pages");
    if (!array_make(&root->pages, page_count, sizeof *root->pages, err))
        return false;
    root->page_count = page_count;
    uint64_t entries = 0;
    for (uint32_t i = 0; i < page_count; i++) {
        struct run_page_ref *p = &root->pages[i];
        p->disk = read_u16(r);
        p->first_block = read_u64(r);
        p->entries = read_u32(r);
        p->bytes = read_u32(r);
        p->first_entry = entries;
        p->offset = offset;
        if (p->entries < 1 || p->entries > RUN_PAGE_ENTRIES_MAX || p->bytes < 1 ||
            p->bytes > RUN_PAGE_BYTES_MAX || p->first_block >= DISK_BLOCKS_MAX ||
            (i > 0 && !page_ref_follows(p, p - 1)))
            return root_corrupt(err, "pages");
        entries += p->entries;
        offset += p->bytes + SEAL_TAG_BYTES;
    }
    if (entries != root->entries || offset != total_bytes)
        return root_corrupt(err, "pages");
    return true;
}

static bool root_read_filter(struct reader *r, struct run_root *root, struct err *err)
{
    root->filter_shift = read_u8(r);
    uint32_t count = read_u32(r);
    if (root->filter_shift > RUN_FILTER_SHIFT_MAX ||
        !count_fits(r, count, RUN_FILTER_RANGES_MAX, 3))
        return root_corrupt(err, "filter");
    if (!array_make(&root->ranges, count, sizeof *root->ranges, err))
        return false;
    root->range_count = count;
    uint64_t units = 1ull << (RUN_FILTER_SHIFT_MAX - root->filter_shift);
    uint64_t disk = 0;
    uint64_t end = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t disks = read_varint(r);
        uint64_t gap = read_varint(r);
        uint64_t length = read_varint(r);
        if (disks > 0)
            end = 0;
        bool touches = i > 0 && disks == 0 && gap == 0;
        if (r->failed || disks > UINT16_MAX - disk || touches || length < 1 || gap >= units ||
            length > units || end + gap + length > units)
            return root_corrupt(err, "filter");
        disk += disks;
        root->ranges[i] = (struct run_range){
            .disk = (uint16_t)disk, .first = (uint32_t)(end + gap), .count = (uint32_t)length};
        end += gap + length;
    }
    return true;
}

bool run_root_parse(struct span plain, uint32_t page_count, uint64_t total_bytes,
                    struct run_root *root, struct err *err)
{
    struct reader r = reader_of(plain);
    *root = (struct run_root){.entries = 0};
    read_bytes(&r, root->head.vm, VM_ID_BYTES);
    root->head.generation_id = read_u64(&r);
    root->head.epoch_first = read_u64(&r);
    root->head.epoch_last = read_u64(&r);
    root->entries = read_u64(&r);
    bool ok = (root->head.epoch_first <= root->head.epoch_last || root_corrupt(err, "epochs")) &&
              root_read_segments(&r, root, err) && root_read_salts(&r, root, err) &&
              root_read_pages(&r, page_count, total_bytes,
                              RUN_HEAD_BYTES + plain.length + SEAL_TAG_BYTES, root, err) &&
              root_read_filter(&r, root, err) &&
              ((!r.failed && reader_left(&r) == 0) || root_corrupt(err, "length"));
    if (!ok)
        run_root_release(root);
    return ok;
}

void run_root_release(struct run_root *root)
{
    free(root->names);
    free(root->name_offsets);
    free(root->salts);
    free(root->pages);
    free(root->ranges);
    *root = (struct run_root){.entries = 0};
}

/* --- parsing a page --- */

static void data_read(struct reader *r, const struct run_root *root, struct run_entry *e)
{
    uint8_t counts = read_u8(r);
    uint8_t place = read_u8(r);
    uint64_t salt = read_varint(r);
    uint64_t counter = read_varint(r);
    uint64_t segment = read_varint(r);
    uint64_t offset = read_varint(r);
    uint64_t stored_bytes = read_varint(r);
    uint64_t before = place & 15u; /* blocks of the frame in front of the live ones */
    if (r->failed || salt >= root->salt_count || segment >= root->segment_count ||
        counter > UINT32_MAX || offset > STORE_OBJECT_MAX || stored_bytes > FRAME_SEALED_MAX ||
        before > e->first) {
        r->failed = true;
        return;
    }
    e->count = (counts & 15u) + 1;
    e->frame.disk = e->disk;
    e->frame.flags = place >> 4;
    e->frame.blocks = (uint8_t)((counts >> 4) + 1);
    e->frame.first = e->first - before;
    e->frame.seal.salt = root->salts[salt];
    e->frame.seal.counter = (uint32_t)counter;
    memcpy(e->frame.vm, root->head.vm, VM_ID_BYTES);
    e->segment = (uint32_t)segment;
    e->offset = (uint32_t)offset;
    e->stored_bytes = (uint32_t)stored_bytes;
    read_bytes(r, e->sealed_digest.bytes, BLOCK_DIGEST_BYTES);
    read_bytes(r, e->digests, (size_t)e->count * BLOCK_DIGEST_BYTES);
}

void run_entry_read(struct reader *r, const struct run_root *root, struct run_position *at,
                    struct run_entry *e)
{
    memset(e, 0, sizeof *e);
    uint8_t bits = read_u8(r);
    bool next_disk = bits & RUN_ENTRY_NEXT_DISK;
    uint64_t disks = next_disk ? read_varint(r) : 0;
    uint64_t gap = read_varint(r);
    uint64_t base = next_disk ? 0 : at->block;
    if ((bits & ~(RUN_ENTRY_KIND | RUN_ENTRY_NEXT_DISK)) != 0 || (next_disk && disks == 0) ||
        disks > (uint64_t)UINT16_MAX - at->disk || gap >= DISK_BLOCKS_MAX)
        r->failed = true;
    if (r->failed)
        return;
    e->kind = (enum run_kind)(bits & RUN_ENTRY_KIND);
    e->disk = (uint16_t)(at->disk + disks);
    e->first = base + gap;
    if (e->kind == RUN_DATA)
        data_read(r, root, e);
    else
        e->count = read_varint(r);
    if (r->failed || !run_entry_valid(e)) {
        r->failed = true;
        return;
    }
    *at = (struct run_position){.disk = e->disk, .block = e->first + e->count};
}

static bool page_fits(const struct run_root *root, uint32_t number, const struct run_mark *marks)
{
    const struct run_page_ref *p = &root->pages[number];
    const struct run_mark *last = &marks[p->entries - 1];
    if (marks[0].disk != p->disk || marks[0].first != p->first_block)
        return false;
    return number + 1 == root->page_count || last->disk < p[1].disk ||
           (last->disk == p[1].disk && last->end <= p[1].first_block);
}

bool run_page_parse(const struct run_root *root, uint32_t number, struct span plain,
                    struct run_mark *marks, struct err *err)
{
    struct reader r = reader_of(plain);
    struct run_position at = {.disk = 0};
    for (uint32_t i = 0; i < root->pages[number].entries && !r.failed; i++) {
        struct run_entry e;
        marks[i].offset = (uint32_t)r.offset;
        run_entry_read(&r, root, &at, &e);
        marks[i].disk = e.disk;
        marks[i].first = e.first;
        marks[i].end = e.first + e.count;
    }
    if (r.failed || reader_left(&r) != 0 || !page_fits(root, number, marks))
        return err_set(err, ERR_CORRUPT, "page %u of a run is not well-formed", number);
    return true;
}

/* --- fetching and caching pages --- */

static bool part_open(const struct run *r, uint32_t counter, struct span sealed, struct buf *plain,
                      struct err *err)
{
    struct sealer *s AUTO_SEALER = NULL;
    uint8_t aad[RUN_AAD_BYTES];
    run_aad(r->head, r->root.head.vm, counter, aad);
    if (!sealer_make(r->keys, SEAL_HISTORY, &r->salt, &s, err))
        return false;
    uint8_t *out = buf_extend(plain, sealed.length - SEAL_TAG_BYTES);
    if (out == NULL)
        return err_set(err, ERR_FULL, "out of memory for a run");
    return unseal(s, counter, span_of(aad, sizeof aad), sealed,
                  mspan_of(out, sealed.length - SEAL_TAG_BYTES), err);
}

static bool run_fetch(const struct run *r, uint64_t offset, struct mspan out, struct err *err)
{
    if (r->whole.length > 0) {
        memcpy(out.data, r->whole.data + offset, out.length);
        return true;
    }
    return r->source.fetch(r->source.context, offset, out, err);
}

static void page_free(struct page *p)
{
    buf_release(&p->plain);
    free(p->marks);
    free(p);
}

static void cleanup_page(struct page **p)
{
    if (*p != NULL)
        page_free(*p);
}

static bool page_load(const struct run *r, uint32_t number, struct page **out, struct err *err)
{
    const struct run_page_ref *ref = &r->root.pages[number];
    struct buf sealed AUTO_BUF = BUF_NONE;
    struct page *p CLEANUP(cleanup_page) = calloc(1, sizeof *p);
    uint8_t *bytes = buf_extend(&sealed, ref->bytes + SEAL_TAG_BYTES);
    if (p != NULL)
        p->marks = calloc(ref->entries, sizeof *p->marks);
    if (p == NULL || p->marks == NULL || bytes == NULL)
        return err_set(err, ERR_FULL, "out of memory for a page of a run");
    p->number = number;
    p->count = ref->entries;
    if (!run_fetch(r, ref->offset, mspan_of(bytes, sealed.length), err))
        return err_wrap(err, "cannot fetch page %u of a run", number);
    if (!part_open(r, number + 1, buf_span(&sealed), &p->plain, err))
        return err_wrap(err, "page %u of a run", number);
    if (!run_page_parse(&r->root, number, buf_span(&p->plain), p->marks, err))
        return false;
    *out = TAKE(p);
    return true;
}

static void page_put_locked(struct page *p)
{
    if (--p->users == 0)
        page_free(p);
}

static void page_put(struct run *r, struct page *p)
{
    LOCK_SCOPE(&r->cache_lock);
    page_put_locked(p);
}

static struct page *cache_get_locked(struct run *r, uint32_t number)
{
    for (size_t i = 0; i < r->cache_pages; i++) {
        struct page *p = r->cache[i];
        if (p != NULL && p->number == number) {
            p->users++;
            p->used = ++r->clock;
            return p;
        }
    }
    return NULL;
}

/* Puts `p` in place of the page that was used longest ago. */
static void cache_add_locked(struct run *r, struct page *p)
{
    size_t oldest = 0;
    for (size_t i = 0; i < r->cache_pages && r->cache[oldest] != NULL; i++)
        if (r->cache[i] == NULL || r->cache[i]->used < r->cache[oldest]->used)
            oldest = i;
    if (r->cache[oldest] != NULL)
        page_put_locked(r->cache[oldest]);
    r->cache[oldest] = p;
    p->users++;
    p->used = ++r->clock;
}

/* The caller gives the page back with page_put. Two threads may load one page at once; the second
 * then takes the first's. */
static bool page_get(struct run *r, uint32_t number, struct page **out, struct err *err)
{
    {
        LOCK_SCOPE(&r->cache_lock);
        *out = cache_get_locked(r, number);
    }
    if (*out != NULL)
        return true;
    struct page *loaded CLEANUP(cleanup_page) = NULL;
    if (!page_load(r, number, &loaded, err))
        return false;
    LOCK_SCOPE(&r->cache_lock);
    *out = cache_get_locked(r, number);
    if (*out == NULL) {
        cache_add_locked(r, loaded);
        loaded->users++;
        *out = TAKE(loaded);
    }
    return true;
}

/* --- opening --- */

/* The clear head. Nothing of it is believed but as a bound, until the root's seal has fitted. */
struct clear_head {
    uint32_t root_bytes;
    uint32_t page_count;
};

static bool head_parse(struct run *r, struct span first, struct clear_head *out, struct err *err)
{
    struct reader in = reader_of(first);
    if (!head_check(&in, "run", RUN_MAGIC, r->keys, err))
        return false;
    read_bytes(&in, r->salt.bytes, sizeof r->salt.bytes);
    out->root_bytes = read_u32(&in);
    out->page_count = read_u32(&in);
    uint64_t total_bytes = read_u64(&in);
    if (in.failed || total_bytes != r->source.bytes || out->root_bytes > RUN_ROOT_BYTES_MAX ||
        total_bytes < RUN_HEAD_BYTES + out->root_bytes + SEAL_TAG_BYTES)
        return err_set(err, ERR_CORRUPT, "the run has not the length that it claims");
    memcpy(r->head, first.data, RUN_HEAD_BYTES);
    return true;
}

/* The sealed root, from what was fetched first or by a second fetch of what is missing. */
static bool root_fetch(struct run *r, const struct clear_head *head, struct buf *bytes,
                       struct err *err)
{
    size_t end = RUN_HEAD_BYTES + head->root_bytes + SEAL_TAG_BYTES;
    size_t have = bytes->length;
    if (end <= have)
        return true;
    uint8_t *rest = buf_extend(bytes, end - have);
    return rest == NULL ? buf_ok(bytes, err) : run_fetch(r, have, mspan_of(rest, end - have), err);
}

static bool run_load(struct run *r, const uint8_t vm[VM_ID_BYTES], struct err *err)
{
    struct buf bytes AUTO_BUF = BUF_NONE;
    struct buf plain AUTO_BUF = BUF_NONE;
    struct clear_head head;
    uint64_t first = r->source.bytes < RUN_OPEN_BYTES ? r->source.bytes : RUN_OPEN_BYTES;
    uint8_t *start = buf_extend(&bytes, (size_t)first);
    if (start == NULL)
        return buf_ok(&bytes, err);
    if (!run_fetch(r, 0, mspan_of(start, (size_t)first), err) ||
        !head_parse(r, buf_span(&bytes), &head, err) || !root_fetch(r, &head, &bytes, err))
        return false;
    memcpy(r->root.head.vm, vm, VM_ID_BYTES);
    struct span sealed =
        span_part(buf_span(&bytes), RUN_HEAD_BYTES, head.root_bytes + SEAL_TAG_BYTES);
    if (!part_open(r, RUN_ROOT_COUNTER, sealed, &plain, err))
        return err_wrap(err, "the root of a run");
    if (!run_root_parse(buf_span(&plain), head.page_count, r->source.bytes, &r->root, err))
        return false;
    if (memcmp(r->root.head.vm, vm, VM_ID_BYTES) != 0)
        return err_set(err, ERR_CORRUPT, "the run is of another VM");
    if (bytes.length == r->source.bytes) {
        struct sha256 digest = sha256_of(buf_span(&bytes));
        if (r->source.digest != NULL && !digests_equal(&digest, r->source.digest, sizeof digest))
            return err_set(err, ERR_CORRUPT, "it is another run than the one that was put there");
        r->source.digest = NULL;
        r->whole = bytes;
        bytes = BUF_NONE;
    }
    return true;
}

static bool span_fetch(void *context, uint64_t offset, struct mspan out, struct err *err)
{
    const struct span *run = context;
    if (offset > run->length || out.length > run->length - offset)
        return err_set(err, ERR_CORRUPT, "the run is shorter than its root says");
    if (out.length > 0)
        memcpy(out.data, run->data + offset, out.length);
    return true;
}

struct run_source run_in_memory(const struct span *encoded)
{
    return (struct run_source){
        .fetch = span_fetch, .context = (void *)encoded, .bytes = encoded->length};
}

bool run_open(const struct keys *keys, const uint8_t vm[VM_ID_BYTES], struct run_source source,
              struct run **out, struct err *err)
{
    if (source.bytes < RUN_HEAD_BYTES + SEAL_TAG_BYTES || source.bytes > RUN_BYTES_MAX)
        return err_set(err, ERR_CORRUPT, "%" PRIu64 " bytes is no length for a run", source.bytes);
    struct run *r AUTO_RUN = calloc(1, sizeof *r);
    if (r == NULL)
        return err_set(err, ERR_FULL, "out of memory for a run");
    pthread_mutex_init(&r->cache_lock, NULL);
    r->keys = keys;
    r->source = source;
    r->cache_pages = RUN_CACHE_PAGES;
    if (!run_load(r, vm, err))
        return false;
    *out = TAKE(r);
    return true;
}

void run_close(struct run **run)
{
    struct run *r = *run;
    if (r != NULL) {
        for (size_t i = 0; i < RUN_CACHE_PAGES; i++)
            if (r->cache[i] != NULL)
                page_free(r->cache[i]);
        run_root_release(&r->root);
        buf_release(&r->whole);
        pthread_mutex_destroy(&r->cache_lock);
    }
    free(r);
    *run = NULL;
}

/* --- asking --- */

const struct run_head *run_head(const struct run *r)
{
    return &r->root.head;
}

uint32_t run_segments(const struct run *r)
{
    return r->root.segment_count;
}

const char *run_segment_name(const struct run *r, uint32_t index)
{
    assert(index < r->root.segment_count);
    return r->root.names + r->root.name_offsets[index];
}

uint64_t run_entries(const struct run *r)
{
    return r->root.entries;
}

/* The first row of the filter that ends behind `unit`, or NULL when none on this disk does. */
static const struct run_range *filter_find(const struct run_root *root, uint16_t disk,
                                           uint64_t unit)
{
    uint32_t low = 0;
    uint32_t high = root->range_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct run_range *m = &root->ranges[middle];
        if (m->disk < disk || (m->disk == disk && (uint64_t)m->first + m->count <= unit))
            low = middle + 1;
        else
            high = middle;
    }
    return low < root->range_count && root->ranges[low].disk == disk ? &root->ranges[low] : NULL;
}

bool run_may_touch(const struct run *r, uint16_t disk, uint64_t region)
{
    uint64_t unit = region >> r->root.filter_shift;
    const struct run_range *range = filter_find(&r->root, disk, unit);
    return range != NULL && range->first <= unit;
}

/* The last page that starts at or before (disk, block), or the first page of all. */
static uint32_t page_of_block(const struct run_root *root, uint16_t disk, uint64_t block)
{
    uint32_t low = 0;
    uint32_t high = root->page_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        const struct run_page_ref *p = &root->pages[middle];
        if (p->disk < disk || (p->disk == disk && p->first_block <= block))
            low = middle;
        else
            high = middle;
    }
    return low;
}

static uint32_t page_of_entry(const struct run_root *root, uint64_t index)
{
    uint32_t low = 0;
    uint32_t high = root->page_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (root->pages[middle].first_entry <= index)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* Index in the page of the first entry that ends behind (disk, block); p->count when none does. */
static uint32_t mark_find(const struct page *p, uint16_t disk, uint64_t block)
{
    uint32_t low = 0;
    uint32_t high = p->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct run_mark *m = &p->marks[middle];
        if (m->disk < disk || (m->disk == disk && m->end <= block))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The page was checked whole when it was loaded. */
static void entry_decode(const struct run *r, const struct page *p, uint32_t i,
                         struct run_entry *out)
{
    struct reader in = reader_of(buf_span(&p->plain));
    struct run_position at = {.disk = 0};
    in.offset = p->marks[i].offset;
    if (i > 0)
        at = (struct run_position){.disk = p->marks[i - 1].disk, .block = p->marks[i - 1].end};
    run_entry_read(&in, &r->root, &at, out);
    assert(!in.failed);
}

bool run_find(struct run *r, uint16_t disk, uint64_t block, struct run_entry *out, bool *found,
              struct err *err)
{
    *found = false;
    uint64_t unit = block >> (REGION_SHIFT - BLOCK_SHIFT + r->root.filter_shift);
    if (r->root.page_count == 0 || filter_find(&r->root, disk, unit) == NULL)
        return true;
    uint32_t number = page_of_block(&r->root, disk, block);
    struct page *p = NULL;
    if (!page_get(r, number, &p, err))
        return false;
    uint32_t i = mark_find(p, disk, block);
    if (i == p->count) { /* the next page starts behind the block, perhaps on another disk */
        page_put(r, p);
        if (++number == r->root.page_count || r->root.pages[number].disk != disk)
            return true;
        if (!page_get(r, number, &p, err))
            return false;
        i = 0;
    }
    *found = p->marks[i].disk == disk;
    if (*found)
        entry_decode(r, p, i, out);
    page_put(r, p);
    return true;
}

void run_in_order(struct run *r)
{
    LOCK_SCOPE(&r->cache_lock);
    r->cache_pages = 1;
}

bool run_next(struct run_cursor *c, struct run_entry *out, bool *found, struct err *err)
{
    struct run *r = c->run;
    *found = c->next < r->root.entries;
    if (!*found)
        return true;
    uint32_t number = page_of_entry(&r->root, c->next);
    struct page *p = NULL;
    if (!page_get(r, number, &p, err))
        return false;
    entry_decode(r, p, (uint32_t)(c->next - r->root.pages[number].first_entry), out);
    page_put(r, p);
    c->next++;
    return true;
}

bool run_entry_clip(struct run_entry *e, uint64_t first, uint64_t count)
{
    uint64_t end = first > UINT64_MAX - count ? UINT64_MAX : first + count;
    uint64_t from = e->first > first ? e->first : first;
    uint64_t to = e->first + e->count < end ? e->first + e->count : end;
    if (from >= to)
        return false;
    if (e->kind == RUN_DATA && from > e->first)
        memmove(e->digests, e->digests + (from - e->first),
                (size_t)(to - from) * sizeof e->digests[0]);
    e->first = from;
    e->count = to - from;
    return true;
}
