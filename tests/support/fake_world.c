/* SPDX-License-Identifier: MIT */
#include "tests/support/fake_world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

#define PAGE_BYTES 4096u
#define START_NS   1767225600000000000ull /* 2026-01-01T00:00:00Z */
#define NAME_BYTES 256u

static void *must(void *pointer)
{
    if (pointer == NULL)
        abort();
    return pointer;
}

/* --- images: the content of a file, by pages; NULL is a hole --- */

struct image {
    uint8_t **pages;
    size_t page_count;
    uint64_t size;
};

static void image_release(struct image *m)
{
    for (size_t i = 0; i < m->page_count; i++)
        free(m->pages[i]);
    free(m->pages);
    *m = (struct image){0};
}

static void image_reach(struct image *m, uint64_t end)
{
    size_t count = (size_t)((end + PAGE_BYTES - 1) / PAGE_BYTES);
    if (count > m->page_count) {
        m->pages = must(realloc(m->pages, count * sizeof *m->pages));
        memset(m->pages + m->page_count, 0, (count - m->page_count) * sizeof *m->pages);
        m->page_count = count;
    }
    if (end > m->size)
        m->size = end;
}

static size_t part_of_page(uint64_t offset, uint64_t length)
{
    uint64_t left = PAGE_BYTES - offset % PAGE_BYTES;
    return (size_t)(length < left ? length : left);
}

static void image_write(struct image *m, uint64_t offset, const uint8_t *data, size_t length)
{
    image_reach(m, offset + length);
    while (length > 0) {
        size_t part = part_of_page(offset, length);
        uint8_t **page = &m->pages[offset / PAGE_BYTES];
        if (*page == NULL)
            *page = must(calloc(1, PAGE_BYTES));
        memcpy(*page + offset % PAGE_BYTES, data, part);
        offset += part;
        data += part;
        length -= part;
    }
}

static void image_zero(struct image *m, uint64_t offset, uint64_t length)
{
    if (offset >= m->size)
        return;
    if (length > m->size - offset)
        length = m->size - offset;
    while (length > 0) {
        size_t part = part_of_page(offset, length);
        uint8_t **page = &m->pages[offset / PAGE_BYTES];
        if (part == PAGE_BYTES) {
            free(*page);
            *page = NULL;
        } else if (*page != NULL) {
            memset(*page + offset % PAGE_BYTES, 0, part);
        }
        offset += part;
        length -= part;
    }
}

static void image_truncate(struct image *m, uint64_t size)
{
    if (size < m->size)
        image_zero(m, size, m->size - size);
    image_reach(m, size);
    m->size = size;
}

static void image_read(const struct image *m, uint64_t offset, uint8_t *out, size_t length)
{
    while (length > 0) {
        size_t part = part_of_page(offset, length);
        const uint8_t *page = m->pages[offset / PAGE_BYTES];
        if (page != NULL)
            memcpy(out, page + offset % PAGE_BYTES, part);
        else
            memset(out, 0, part);
        offset += part;
        out += part;
        length -= part;
    }
}

static void image_copy(struct image *to, const struct image *from)
{
    image_release(to);
    image_reach(to, from->size);
    for (size_t i = 0; i < to->page_count; i++)
        if (from->pages[i] != NULL) {
            to->pages[i] = must(malloc(PAGE_BYTES));
            memcpy(to->pages[i], from->pages[i], PAGE_BYTES);
        }
}

/* --- inodes --- */

enum change_kind { CHANGE_WRITE, CHANGE_ZERO, CHANGE_TRUNCATE };

/* One unsynced change of a file. */
struct change {
    enum change_kind kind;
    uint64_t offset; /* CHANGE_TRUNCATE: the new size */
    uint64_t length;
    uint8_t *data; /* CHANGE_WRITE */
};

struct entry {
    char name[NAME_BYTES];
    struct inode *inode;
};

struct folder {
    struct entry *entries;
    size_t count;
};

struct inode {
    struct inode *next; /* of all */
    uint64_t number;
    bool directory;
    unsigned references; /* entries, unsynced name changes, open files */
    int64_t mtime_ns, ctime_ns;
    struct image now, durable; /* file */
    struct change *changes;
    size_t change_count;
    struct folder names_now, names_durable; /* folder */
};

/* name := inode (NULL: none). */
struct naming {
    struct inode *folder;
    char name[NAME_BYTES];
    struct inode *inode;
};

/* One unsynced change of names: a rename is two namings that stay or go together. */
struct name_change {
    struct naming namings[2];
    size_t count;
    bool picked; /* while it is decided which are synced */
};

struct failure {
    uint64_t nth; /* counts down; 0 = none */
    int errnum;
    bool for_ever;
};

struct fake_world {
    struct world world;
    pthread_mutex_t lock; /* guards all below, and all inodes */
    struct inode *inodes;
    struct inode *root;
    uint64_t inodes_made;
    struct name_change *name_changes;
    size_t name_change_count;
    struct failure failures[FAKE_ANY + 1];
    uint64_t calls[FAKE_ANY + 1];
    uint64_t stop; /* calls until the machine is dead; 0 = lives */
    bool died;     /* it has refused one since */
    bool short_transfers;
    uint64_t boots;
    uint64_t real_ns, boot_ns;
    uint64_t random;
};

struct fake_file {
    struct world_file head;
    struct inode *inode;
    int flags;
    uint64_t boot;
};

static struct fake_world *fake_of(struct world *w)
{
    return (struct fake_world *)w;
}

/* splitmix64, by Sebastiano Vigna's description. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

static struct inode *inode_make(struct fake_world *fw, bool directory)
{
    struct inode *i = must(calloc(1, sizeof *i));
    i->number = ++fw->inodes_made;
    i->directory = directory;
    i->mtime_ns = i->ctime_ns = (int64_t)fw->real_ns;
    i->next = fw->inodes;
    fw->inodes = i;
    return i;
}

static void forget_changes(struct inode *i)
{
    for (size_t c = 0; c < i->change_count; c++)
        free(i->changes[c].data);
    free(i->changes);
    i->changes = NULL;
    i->change_count = 0;
}

static void inode_release(struct inode *i)
{
    forget_changes(i);
    image_release(&i->now);
    image_release(&i->durable);
    free(i->names_now.entries);
    free(i->names_durable.entries);
    free(i);
}

/* Frees the inodes that nothing reaches, and what only they held. */
static void sweep_locked(struct fake_world *fw)
{
    for (bool again = true; again;) {
        again = false;
        for (struct inode **at = &fw->inodes; *at != NULL;) {
            struct inode *i = *at;
            if (i->references > 0) {
                at = &i->next;
                continue;
            }
            for (size_t e = 0; e < i->names_now.count; e++)
                i->names_now.entries[e].inode->references--;
            for (size_t e = 0; e < i->names_durable.count; e++)
                i->names_durable.entries[e].inode->references--;
            again = again || i->directory;
            *at = i->next;
            inode_release(i);
        }
    }
}

/* --- names --- */

static struct inode *folder_find(const struct folder *f, const char *name)
{
    for (size_t e = 0; e < f->count; e++)
        if (strcmp(f->entries[e].name, name) == 0)
            return f->entries[e].inode;
    return NULL;
}

static void folder_set(struct folder *f, const char *name, struct inode *inode)
{
    if (inode != NULL)
        inode->references++;
    for (size_t e = 0; e < f->count; e++) {
        if (strcmp(f->entries[e].name, name) != 0)
            continue;
        f->entries[e].inode->references--;
        if (inode != NULL)
            f->entries[e].inode = inode;
        else
            f->entries[e] = f->entries[--f->count];
        return;
    }
    if (inode == NULL)
        return;
    f->entries = must(realloc(f->entries, (f->count + 1) * sizeof *f->entries));
    f->entries[f->count].inode = inode;
    memcpy(f->entries[f->count++].name, name, strlen(name) + 1);
}

static void folder_copy(struct folder *to, const struct folder *from)
{
    while (to->count > 0)
        folder_set(to, to->entries[0].name, NULL);
    for (size_t e = 0; e < from->count; e++)
        folder_set(to, from->entries[e].name, from->entries[e].inode);
}

/* Steps over one part of `*path` into `name`; 1, 0 at the end, or a negative errno. */
static int take_part(const char **path, char name[NAME_BYTES])
{
    for (;;) {
        while (**path == '/')
            (*path)++;
        size_t length = strcspn(*path, "/");
        if (length == 0)
            return 0;
        if (length >= NAME_BYTES)
            return -ENAMETOOLONG;
        memcpy(name, *path, length);
        name[length] = '\0';
        *path += length;
        if (strcmp(name, ".") != 0)
            return 1;
    }
}

/* The folder that holds the last part of `path`, and that part ("" for the root itself). */
static int find_parent_locked(struct fake_world *fw, const char *path, struct inode **folder,
                              char name[NAME_BYTES])
{
    char next[NAME_BYTES];
    int result = take_part(&path, name);
    *folder = fw->root;
    if (result == 0)
        name[0] = '\0';
    if (result <= 0)
        return result;
    while ((result = take_part(&path, next)) == 1) {
        struct inode *inode = folder_find(&(*folder)->names_now, name);
        if (inode == NULL)
            return -ENOENT;
        if (!inode->directory)
            return -ENOTDIR;
        *folder = inode;
        memcpy(name, next, sizeof next);
    }
    return result;
}

/* *inode is NULL, without an error, when only the last part is missing. */
static int find_locked(struct fake_world *fw, const char *path, struct inode **folder,
                       char name[NAME_BYTES], struct inode **inode)
{
    *inode = NULL;
    int result = find_parent_locked(fw, path, folder, name);
    if (result == 0)
        *inode = name[0] == '\0' ? fw->root : folder_find(&(*folder)->names_now, name);
    return result;
}

/* Makes the change visible now and remembers that it is not yet synced. */
static void rename_locked(struct fake_world *fw, const struct naming *namings, size_t count)
{
    fw->name_changes =
        must(realloc(fw->name_changes, (fw->name_change_count + 1) * sizeof *fw->name_changes));
    struct name_change *change = &fw->name_changes[fw->name_change_count++];
    *change = (struct name_change){.count = count};
    for (size_t n = 0; n < count; n++) {
        change->namings[n] = namings[n];
        namings[n].folder->references++;
        if (namings[n].inode != NULL)
            namings[n].inode->references++;
    }
    for (size_t n = 0; n < count; n++) {
        folder_set(&namings[n].folder->names_now, namings[n].name, namings[n].inode);
        namings[n].folder->mtime_ns = namings[n].folder->ctime_ns = (int64_t)fw->real_ns;
    }
}

static struct naming naming_of(struct inode *folder, const char *name, struct inode *inode)
{
    struct naming n = {.folder = folder, .inode = inode};
    memcpy(n.name, name, strlen(name) + 1);
    return n;
}

/* The change leaves the list, and reaches the disk or not. */
static void settle_name_change(struct name_change *change, bool stays)
{
    for (size_t n = 0; n < change->count; n++) {
        struct naming *naming = &change->namings[n];
        if (stays)
            folder_set(&naming->folder->names_durable, naming->name, naming->inode);
        naming->folder->references--;
        if (naming->inode != NULL)
            naming->inode->references--;
    }
}

static bool same_name(const struct name_change *a, const struct name_change *b)
{
    for (size_t i = 0; i < a->count; i++)
        for (size_t j = 0; j < b->count; j++)
            if (a->namings[i].folder == b->namings[j].folder &&
                strcmp(a->namings[i].name, b->namings[j].name) == 0)
                return true;
    return false;
}

static bool touches(const struct name_change *change, const struct inode *folder)
{
    return change->namings[0].folder == folder ||
           (change->count > 1 && change->namings[1].folder == folder);
}

/* All changes in `folder` reach the disk, and those before them that concern the same names:
 * an older name never comes back over a newer one. */
static void sync_names_locked(struct fake_world *fw, const struct inode *folder)
{
    size_t kept = 0;
    for (size_t c = fw->name_change_count; c-- > 0;) {
        struct name_change *change = &fw->name_changes[c];
        change->picked = touches(change, folder);
        for (size_t later = c + 1; later < fw->name_change_count && !change->picked; later++)
            change->picked =
                fw->name_changes[later].picked && same_name(change, &fw->name_changes[later]);
    }
    for (size_t c = 0; c < fw->name_change_count; c++) {
        if (fw->name_changes[c].picked)
            settle_name_change(&fw->name_changes[c], true);
        else
            fw->name_changes[kept++] = fw->name_changes[c];
    }
    fw->name_change_count = kept;
}

/* --- content --- */

static void apply_part(struct image *m, const struct change *c, uint64_t offset, uint64_t length)
{
    if (c->kind == CHANGE_WRITE)
        image_write(m, offset, c->data + (offset - c->offset), (size_t)length);
    else
        image_zero(m, offset, length);
}

/* Any part of the change, by sectors; the whole when `random` is NULL. */
static void apply(struct image *m, const struct change *c, uint64_t *random)
{
    if (c->kind == CHANGE_TRUNCATE) {
        if (random == NULL || (next_random(random) & 1) != 0)
            image_truncate(m, c->offset);
        return;
    }
    if (random == NULL) {
        apply_part(m, c, c->offset, c->length);
        return;
    }
    for (uint64_t at = c->offset, end = c->offset + c->length; at < end;) {
        uint64_t sector_end = (at / FAKE_SECTOR + 1) * FAKE_SECTOR;
        uint64_t part = (sector_end < end ? sector_end : end) - at;
        if ((next_random(random) & 1) != 0)
            apply_part(m, c, at, part);
        at += part;
    }
}

static void settle_changes(struct inode *i, uint64_t *random)
{
    for (size_t c = 0; c < i->change_count; c++)
        apply(&i->durable, &i->changes[c], random);
    forget_changes(i);
}

static void change_locked(struct fake_world *fw, struct inode *i, struct change change)
{
    i->changes = must(realloc(i->changes, (i->change_count + 1) * sizeof *i->changes));
    i->changes[i->change_count++] = change;
    apply(&i->now, &change, NULL);
    i->mtime_ns = i->ctime_ns = (int64_t)fw->real_ns;
}

/* --- failures --- */

static bool strikes(struct failure *f)
{
    if (f->nth == 0 || --f->nth > 0)
        return false;
    if (f->for_ever)
        f->nth = 1;
    return true;
}

/* 0, or the negative errno that this call shall return. */
static int begin_locked(struct fake_world *fw, enum fake_call which)
{
    int errnum = 0;
    fw->calls[which]++;
    fw->calls[FAKE_ANY]++;
    if (fw->stop == 1) {
        fw->died = true;
        return -EIO;
    }
    if (fw->stop > 0)
        fw->stop--;
    if (strikes(&fw->failures[which]))
        errnum = fw->failures[which].errnum;
    if (strikes(&fw->failures[FAKE_ANY]))
        errnum = fw->failures[FAKE_ANY].errnum;
    return -errnum;
}

static struct fake_file *file_of(struct world_file *f)
{
    return (struct fake_file *)f;
}

/* The same for a call on an open file, which also needs `access` (O_RDONLY: none in particular). */
static int begin_file_locked(struct world_file *f, enum fake_call which, int access)
{
    struct fake_world *fw = fake_of(f->world);
    int result = begin_locked(fw, which);
    int mode = file_of(f)->flags & O_ACCMODE;
    if (result != 0)
        return result;
    if (file_of(f)->boot != fw->boots)
        return -EIO;
    if (access != O_RDONLY && mode != O_RDWR && mode != access)
        return -EBADF;
    return 0;
}

static size_t shortened(struct fake_world *fw, size_t length)
{
    if (!fw->short_transfers || length < 2)
        return length;
    return 1 + (size_t)(next_random(&fw->random) % length);
}

/* --- the calls --- */

static int open_locked(struct fake_world *fw, const char *path, int flags, struct inode **out)
{
    struct inode *folder, *inode;
    char name[NAME_BYTES];
    int result = begin_locked(fw, FAKE_OPEN);
    if (result == 0)
        result = find_locked(fw, path, &folder, name, &inode);
    if (result != 0)
        return result;
    if (inode == NULL) {
        if ((flags & O_CREAT) == 0)
            return -ENOENT;
        inode = inode_make(fw, false);
        struct naming naming = naming_of(folder, name, inode);
        rename_locked(fw, &naming, 1);
    } else if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
        return -EEXIST;
    }
    if (inode->directory && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT) != 0))
        return -EISDIR;
    if (!inode->directory && (flags & O_DIRECTORY) != 0)
        return -ENOTDIR;
    if ((flags & O_TRUNC) != 0 && inode->now.size > 0)
        change_locked(fw, inode, (struct change){.kind = CHANGE_TRUNCATE});
    *out = inode;
    return 0;
}

static int fake_open(struct world *w, const char *path, int flags, mode_t mode,
                     struct world_file **out)
{
    struct fake_world *fw = fake_of(w);
    struct inode *inode;
    (void)mode;
    LOCK_SCOPE(&fw->lock);
    int result = open_locked(fw, path, flags, &inode);
    if (result != 0)
        return result;
    struct fake_file *f = must(calloc(1, sizeof *f));
    f->head = (struct world_file){.world = w, .path = must(strdup(path))};
    f->inode = inode;
    f->flags = flags;
    f->boot = fw->boots;
    inode->references++;
    *out = &f->head;
    return 0;
}

static void fake_close(struct world_file *f)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    file_of(f)->inode->references--;
    sweep_locked(fw);
    free(f->path);
    free(f);
}

static ssize_t fake_pread(struct world_file *f, void *out, size_t length, uint64_t offset)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    int result = begin_file_locked(f, FAKE_PREAD, O_RDONLY);
    const struct inode *i = file_of(f)->inode;
    if (result != 0)
        return result;
    if ((file_of(f)->flags & O_ACCMODE) == O_WRONLY)
        return -EBADF;
    if (i->directory)
        return -EISDIR;
    if (offset >= i->now.size)
        return 0;
    if (length > i->now.size - offset)
        length = (size_t)(i->now.size - offset);
    length = shortened(fw, length);
    image_read(&i->now, offset, out, length);
    return (ssize_t)length;
}

static ssize_t fake_pwrite(struct world_file *f, const void *data, size_t length, uint64_t offset)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    int result = begin_file_locked(f, FAKE_PWRITE, O_WRONLY);
    if (result != 0 || length == 0)
        return result;
    length = shortened(fw, length);
    struct change change = {
        .kind = CHANGE_WRITE, .offset = offset, .length = length, .data = must(malloc(length))};
    memcpy(change.data, data, length);
    change_locked(fw, file_of(f)->inode, change);
    return (ssize_t)length;
}

static int fake_sync(struct world_file *f)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    int result = begin_file_locked(f, FAKE_SYNC, O_RDONLY);
    if (file_of(f)->boot == fw->boots && (result == 0 || fw->stop != 1))
        settle_changes(file_of(f)->inode, result == 0 ? NULL : &fw->random);
    return result;
}

static int fake_punch(struct world_file *f, uint64_t offset, uint64_t length)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    int result = begin_file_locked(f, FAKE_PUNCH, O_WRONLY);
    const struct image *m = &file_of(f)->inode->now;
    if (result != 0 || length == 0 || offset >= m->size)
        return result;
    if (length > m->size - offset)
        length = m->size - offset;
    change_locked(fw, file_of(f)->inode,
                  (struct change){.kind = CHANGE_ZERO, .offset = offset, .length = length});
    return 0;
}

static int fake_truncate(struct world_file *f, uint64_t size)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    int result = begin_file_locked(f, FAKE_TRUNCATE, O_WRONLY);
    if (result != 0)
        return result;
    change_locked(fw, file_of(f)->inode, (struct change){.kind = CHANGE_TRUNCATE, .offset = size});
    return 0;
}

static int fake_next_data(struct world_file *f, uint64_t from, uint64_t *start, uint64_t *end)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    int result = begin_file_locked(f, FAKE_NEXT_DATA, O_RDONLY);
    const struct image *m = &file_of(f)->inode->now;
    if (result != 0)
        return result;
    size_t pages = (size_t)((m->size + PAGE_BYTES - 1) / PAGE_BYTES);
    size_t first = from < m->size ? (size_t)(from / PAGE_BYTES) : pages;
    while (first < pages && m->pages[first] == NULL)
        first++;
    if (first == pages)
        return -ENXIO;
    size_t last = first;
    while (last < pages && m->pages[last] != NULL)
        last++;
    uint64_t data = (uint64_t)first * PAGE_BYTES, hole = (uint64_t)last * PAGE_BYTES;
    *start = data > from ? data : from;
    *end = hole < m->size ? hole : m->size;
    return 0;
}

static int fake_stat(struct world_file *f, struct world_stat *out)
{
    struct fake_world *fw = fake_of(f->world);
    LOCK_SCOPE(&fw->lock);
    int result = begin_file_locked(f, FAKE_STAT, O_RDONLY);
    const struct inode *i = file_of(f)->inode;
    if (result != 0)
        return result;
    *out = (struct world_stat){.size = i->now.size,
                               .inode = i->number,
                               .device = 1,
                               .mtime_ns = i->mtime_ns,
                               .ctime_ns = i->ctime_ns,
                               .directory = i->directory};
    for (size_t p = 0; p < i->now.page_count; p++)
        out->allocated += i->now.pages[p] != NULL ? PAGE_BYTES : 0;
    return 0;
}

static int fake_rename(struct world *w, const char *from, const char *to)
{
    struct fake_world *fw = fake_of(w);
    struct inode *folders[2], *inodes[2];
    char names[2][NAME_BYTES];
    LOCK_SCOPE(&fw->lock);
    int result = begin_locked(fw, FAKE_RENAME);
    if (result == 0)
        result = find_locked(fw, from, &folders[0], names[0], &inodes[0]);
    if (result == 0)
        result = inodes[0] != NULL ? 0 : -ENOENT;
    if (result == 0)
        result = find_locked(fw, to, &folders[1], names[1], &inodes[1]);
    if (result != 0 || inodes[0] == inodes[1])
        return result;
    if (inodes[1] != NULL && inodes[1]->directory)
        return inodes[1]->names_now.count > 0 ? -ENOTEMPTY : -EISDIR;
    struct naming namings[] = {naming_of(folders[0], names[0], NULL),
                               naming_of(folders[1], names[1], inodes[0])};
    inodes[0]->ctime_ns = (int64_t)fw->real_ns;
    rename_locked(fw, namings, 2);
    return 0;
}

static int fake_unlink(struct world *w, const char *path)
{
    struct fake_world *fw = fake_of(w);
    struct inode *folder, *inode;
    char name[NAME_BYTES];
    LOCK_SCOPE(&fw->lock);
    int result = begin_locked(fw, FAKE_UNLINK);
    if (result == 0)
        result = find_locked(fw, path, &folder, name, &inode);
    if (result != 0)
        return result;
    if (inode == NULL || inode->directory)
        return inode == NULL ? -ENOENT : -EISDIR;
    struct naming naming = naming_of(folder, name, NULL);
    rename_locked(fw, &naming, 1);
    return 0;
}

static int fake_mkdir(struct world *w, const char *path, mode_t mode)
{
    struct fake_world *fw = fake_of(w);
    struct inode *folder, *inode;
    char name[NAME_BYTES];
    (void)mode;
    LOCK_SCOPE(&fw->lock);
    int result = begin_locked(fw, FAKE_MKDIR);
    if (result == 0)
        result = find_locked(fw, path, &folder, name, &inode);
    if (result != 0)
        return result;
    if (inode != NULL)
        return -EEXIST;
    struct naming naming = naming_of(folder, name, inode_make(fw, true));
    rename_locked(fw, &naming, 1);
    return 0;
}

static int fake_link(struct world *w, const char *from, const char *to)
{
    struct fake_world *fw = fake_of(w);
    struct inode *folder, *inode, *there;
    char name[NAME_BYTES];
    LOCK_SCOPE(&fw->lock);
    int result = begin_locked(fw, FAKE_LINK);
    if (result == 0)
        result = find_locked(fw, from, &folder, name, &inode);
    if (result == 0)
        result = inode != NULL ? 0 : -ENOENT;
    if (result == 0)
        result = find_locked(fw, to, &folder, name, &there);
    if (result != 0)
        return result;
    if (there != NULL || inode->directory)
        return there != NULL ? -EEXIST : -EPERM;
    struct naming naming = naming_of(folder, name, inode);
    rename_locked(fw, &naming, 1);
    return 0;
}

static int fake_sync_dir(struct world *w, const char *path)
{
    struct fake_world *fw = fake_of(w);
    struct inode *folder, *inode;
    char name[NAME_BYTES];
    LOCK_SCOPE(&fw->lock);
    int result = begin_locked(fw, FAKE_SYNC_DIR);
    if (result == 0)
        result = find_locked(fw, path, &folder, name, &inode);
    if (result != 0)
        return result;
    if (inode == NULL || !inode->directory)
        return inode == NULL ? -ENOENT : -ENOTDIR;
    sync_names_locked(fw, inode);
    sweep_locked(fw);
    return 0;
}

static int list_locked(struct fake_world *fw, const char *path, struct entry **out, size_t *count)
{
    struct inode *folder, *inode;
    char name[NAME_BYTES];
    LOCK_SCOPE(&fw->lock);
    int result = begin_locked(fw, FAKE_LIST_DIR);
    if (result == 0)
        result = find_locked(fw, path, &folder, name, &inode);
    if (result != 0)
        return result;
    if (inode == NULL || !inode->directory)
        return inode == NULL ? -ENOENT : -ENOTDIR;
    *count = inode->names_now.count;
    *out = must(calloc(*count + 1, sizeof **out));
    if (*count > 0)
        memcpy(*out, inode->names_now.entries, *count * sizeof **out);
    for (size_t e = 0; e < *count; e++)
        if (!(*out)[e].inode->directory)
            (*out)[e].inode = NULL; /* which of the two is all that is asked behind the lock */
    return 0;
}

static int fake_list_dir(struct world *w, const char *path, world_dir_fn *each, void *context)
{
    struct entry *entries AUTO_FREE = NULL;
    size_t count = 0;
    int result = list_locked(fake_of(w), path, &entries, &count);
    for (size_t e = 0; e < count; e++)
        if (!each(context, entries[e].name, entries[e].inode != NULL))
            break;
    return result;
}

static uint64_t fake_realtime_ns(struct world *w)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    return fake_of(w)->real_ns;
}

static uint64_t fake_boottime_ns(struct world *w)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    return fake_of(w)->boot_ns;
}

static void fake_boot(struct world *w, uint8_t out[WORLD_BOOT_BYTES])
{
    LOCK_SCOPE(&fake_of(w)->lock);
    memset(out, 1, WORLD_BOOT_BYTES);
    memcpy(out, &fake_of(w)->boots, sizeof fake_of(w)->boots);
}

static int fake_random(struct world *w, void *out, size_t length)
{
    struct fake_world *fw = fake_of(w);
    LOCK_SCOPE(&fw->lock);
    int result = begin_locked(fw, FAKE_RANDOM);
    for (size_t i = 0; result == 0 && i < length; i++)
        ((uint8_t *)out)[i] = (uint8_t)next_random(&fw->random);
    return result;
}

static const struct world_ops fake_ops = {
    .open = fake_open,
    .close = fake_close,
    .pread = fake_pread,
    .pwrite = fake_pwrite,
    .sync = fake_sync,
    .punch = fake_punch,
    .truncate = fake_truncate,
    .next_data = fake_next_data,
    .stat = fake_stat,
    .rename = fake_rename,
    .unlink = fake_unlink,
    .mkdir = fake_mkdir,
    .link = fake_link,
    .sync_dir = fake_sync_dir,
    .list_dir = fake_list_dir,
    .realtime_ns = fake_realtime_ns,
    .boottime_ns = fake_boottime_ns,
    .boot = fake_boot,
    .random = fake_random,
};

/* --- what tests call --- */

struct world *fake_world_make(uint64_t seed)
{
    struct fake_world *fw = must(calloc(1, sizeof *fw));
    fw->world.ops = &fake_ops;
    fw->real_ns = START_NS;
    fw->random = seed;
    pthread_mutex_init(&fw->lock, NULL);
    fw->root = inode_make(fw, true);
    fw->root->references = 1;
    return &fw->world;
}

void fake_world_release(struct world **w)
{
    struct fake_world *fw = *w != NULL ? fake_of(*w) : NULL;
    *w = NULL;
    if (fw == NULL)
        return;
    while (fw->inodes != NULL) {
        struct inode *i = fw->inodes;
        fw->inodes = i->next;
        inode_release(i);
    }
    free(fw->name_changes);
    pthread_mutex_destroy(&fw->lock);
    free(fw);
}

void fake_world_advance(struct world *w, uint64_t ns)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    fake_of(w)->real_ns += ns;
    fake_of(w)->boot_ns += ns;
}

void fake_world_jump(struct world *w, int64_t ns)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    fake_of(w)->real_ns += (uint64_t)ns;
}

void fake_world_copy_random(struct world *w, struct world *from)
{
    uint64_t random;
    {
        LOCK_SCOPE(&fake_of(from)->lock);
        random = fake_of(from)->random;
    }
    LOCK_SCOPE(&fake_of(w)->lock);
    fake_of(w)->random = random;
}

void fake_world_fail(struct world *w, enum fake_call which, uint64_t nth, int errnum, bool for_ever)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    fake_of(w)->failures[which] =
        (struct failure){.nth = nth, .errnum = errnum, .for_ever = for_ever};
}

uint64_t fake_world_calls(struct world *w, enum fake_call which)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    return fake_of(w)->calls[which];
}

void fake_world_short_transfers(struct world *w, bool on)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    fake_of(w)->short_transfers = on;
}

/* What was not synced is decided on: what is on the disk is all there is. */
static void boot_locked(struct fake_world *fw)
{
    for (struct inode *i = fw->inodes; i != NULL; i = i->next) {
        image_copy(&i->now, &i->durable);
        folder_copy(&i->names_now, &i->names_durable);
    }
    memset(fw->failures, 0, sizeof fw->failures);
    fw->stop = 0;
    fw->died = false;
    fw->boots++;
    fw->boot_ns = 0;
    sweep_locked(fw);
}

void fake_world_power_cut(struct world *w, uint64_t seed)
{
    struct fake_world *fw = fake_of(w);
    LOCK_SCOPE(&fw->lock);
    for (size_t c = 0; c < fw->name_change_count; c++)
        settle_name_change(&fw->name_changes[c], (next_random(&seed) & 1) != 0);
    fw->name_change_count = 0;
    for (struct inode *i = fw->inodes; i != NULL; i = i->next)
        settle_changes(i, &seed);
    boot_locked(fw);
}

void fake_world_stop(struct world *w, uint64_t nth)
{
    struct fake_world *fw = fake_of(w);
    LOCK_SCOPE(&fw->lock);
    fw->stop = nth;
}

bool fake_world_died(struct world *w)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    return fake_of(w)->died;
}

bool fake_world_stopped(struct world *w)
{
    LOCK_SCOPE(&fake_of(w)->lock);
    return fake_of(w)->stop == 1;
}

static size_t change_units(const struct change *c)
{
    if (c->kind == CHANGE_TRUNCATE)
        return 1;
    if (c->length == 0)
        return 0;
    return (size_t)((c->offset + c->length - 1) / PAGE_BYTES - c->offset / PAGE_BYTES + 1);
}

size_t fake_world_units(struct world *w)
{
    struct fake_world *fw = fake_of(w);
    LOCK_SCOPE(&fw->lock);
    size_t count = fw->name_change_count;
    for (const struct inode *i = fw->inodes; i != NULL; i = i->next)
        for (size_t c = 0; c < i->change_count; c++)
            count += change_units(&i->changes[c]);
    return count;
}

/* The part of `c` in its page `index`, up to so many sectors of that page. */
static void apply_page(struct image *m, const struct change *c, size_t index, unsigned sectors)
{
    uint64_t page = (c->offset / PAGE_BYTES + index) * PAGE_BYTES;
    uint64_t from = page < c->offset ? c->offset : page;
    uint64_t until = page + (uint64_t)sectors * FAKE_SECTOR;
    if (until > c->offset + c->length)
        until = c->offset + c->length;
    if (from < until)
        apply_part(m, c, from, until - from);
}

void fake_world_power_cut_by(struct world *w, fake_keep_fn *keep, void *context)
{
    struct fake_world *fw = fake_of(w);
    LOCK_SCOPE(&fw->lock);
    size_t unit = 0;
    for (size_t c = 0; c < fw->name_change_count; c++)
        settle_name_change(&fw->name_changes[c], keep(context, unit++) != 0);
    fw->name_change_count = 0;
    for (struct inode *i = fw->inodes; i != NULL; i = i->next) {
        for (size_t c = 0; c < i->change_count; c++) {
            const struct change *change = &i->changes[c];
            for (size_t p = 0; p < change_units(change); p++, unit++) {
                unsigned sectors = keep(context, unit);
                if (change->kind != CHANGE_TRUNCATE)
                    apply_page(&i->durable, change, p, sectors);
                else if (sectors != 0)
                    image_truncate(&i->durable, change->offset);
            }
        }
        forget_changes(i);
    }
    boot_locked(fw);
}

size_t fake_world_unsynced(struct world *w)
{
    struct fake_world *fw = fake_of(w);
    LOCK_SCOPE(&fw->lock);
    size_t count = fw->name_change_count;
    for (const struct inode *i = fw->inodes; i != NULL; i = i->next)
        count += i->change_count;
    return count;
}
