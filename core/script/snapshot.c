#include "script/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

/* The file: a head, then the records one behind the other. */
static const char MAGIC[8] = "OMADESN1";

struct head {
    char magic[8];
    uint64_t number;
    uint32_t count, app_name_size;
    char app_name[NAME_MAX + 1];
};

/* Where a file was found; modules are looked for in this order. */
enum place { IN_APP, IN_PARENT, IN_LUA };

struct record {
    uint32_t place, name_size, path_size, text_size;
};

struct snapshot {
    const char *bytes;
    size_t size;
    int users;
};

enum { FILES_MAX = 4000, DEPTH_MAX = 12, PARENT_FILES_MAX = 100 };
enum { EMPTY_US = 500000 };
static const size_t SIZE_LIMIT = 64u << 20;

/* ---- walking the folders --------------------------------------------------------- */

struct walk {
    enum place place;
    struct buf *out; /* records */
    struct buf *fault;
    uint32_t count;
    uint64_t fingerprint;
    int64_t newest_us;
    bool only_fingerprint;
    bool flat;
    size_t root_size; /* of the folder's path, with its slash */
    size_t home_size; /* what messages leave out */
};

static bool walk_file(struct walk *w, const char *path, const struct stat *st);

static bool fault(struct walk *w, const char *path, const char *why)
{
    buf_addf(w->fault, "%s: %s", path, why);
    return false;
}

static bool is_source(const char *name)
{
    const char *dot = strrchr(name, '.');

    return name[0] != '.' && dot != NULL &&
           (strcmp(dot, ".lua") == 0 || strcmp(dot, ".html") == 0 ||
            strcmp(dot, ".txt") == 0 || strcmp(dot, ".json") == 0 ||
            strcmp(dot, ".css") == 0 || strcmp(dot, ".svg") == 0);
}

static bool walk_folder(struct walk *w, const char *folder, int depth);

static bool walk_entry(struct walk *w, const char *folder, const char *name, int depth)
{
    char path[PATH_MAX];
    struct stat st;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);

    if (n < 0 || (size_t)n >= sizeof path) return fault(w, folder, "a path is too long");
    if (stat(path, &st) != 0) return true; /* deleted meanwhile, or a dangling link */
    if (S_ISDIR(st.st_mode)) return w->flat || walk_folder(w, path, depth + 1);
    return !S_ISREG(st.st_mode) || !is_source(name) || walk_file(w, path, &st);
}

static bool walk_folder(struct walk *w, const char *folder, int depth)
{
    struct dirent **names = NULL;
    int n = depth > DEPTH_MAX ? 0 : scandir(folder, &names, NULL, alphasort);
    bool ok = true;

    if (n < 0) return depth > 0 || fault(w, folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (ok && names[i]->d_name[0] != '.')
            ok = walk_entry(w, folder, names[i]->d_name, depth);
        free(names[i]);
    }
    free(names);
    return ok;
}

/* ---- one file --------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
    return hash * 0xff51afd7ed558ccdu;
}

static void add_fingerprint(struct walk *w, const char *path, const struct stat *st)
{
    uint64_t hash = mix(w->fingerprint, (uint64_t)st->st_ino);
    int64_t changed_us =
        (int64_t)st->st_ctim.tv_sec * 1000000 + st->st_ctim.tv_nsec / 1000;

    if (st->st_size == 0) changed_us += EMPTY_US;
    if (changed_us > w->newest_us) w->newest_us = changed_us;
    for (const char *p = path; *p != '\0'; p++) hash = mix(hash, (unsigned char)*p);
    hash = mix(hash, (uint64_t)st->st_size);
    hash = mix(hash, (uint64_t)st->st_mtim.tv_sec);
    w->fingerprint = mix(hash, (uint64_t)st->st_mtim.tv_nsec);
}

/* Adds the file's text; returns its size, or -1. */
static ssize_t read_text(struct walk *w, const char *path)
{
    size_t before = w->out->n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 0;

    if (fd < 0) return errno == ENOENT ? 0 : (fault(w, path, strerror(errno)), -1);
    while (w->out->n < SIZE_LIMIT) {
        char *room = buf_room(w->out, 65536);

        got = room == NULL ? -1 : read(fd, room, 65536);
        if (got <= 0) break;
        w->out->n += (size_t)got;
    }
    if (got < 0) fault(w, path, w->out->failed ? "out of memory" : strerror(errno));
    close(fd);
    if (got == 0) return (ssize_t)(w->out->n - before);
    if (got > 0) fault(w, path, "the scripts are larger than 64 MiB together");
    return -1;
}

static bool walk_file(struct walk *w, const char *path, const struct stat *st)
{
    struct record record = { .place = w->place };
    const char *name = path + w->root_size, *shown = path + w->home_size;
    size_t at = w->out == NULL ? 0 : w->out->n;
    ssize_t size;

    if (++w->count > (w->flat ? PARENT_FILES_MAX : FILES_MAX))
        return w->flat || fault(w, path, "too many files below the folder (4,000)");
    add_fingerprint(w, path, st);
    if (w->only_fingerprint) return true;

    record.name_size = (uint32_t)strlen(name);
    record.path_size = (uint32_t)strlen(shown);
    buf_add(w->out, &record, sizeof record);
    buf_add_text(w->out, name);
    buf_add_text(w->out, shown);
    size = read_text(w, path);
    if (size < 0) return false;
    if (w->out->failed) return fault(w, path, "out of memory");
    record.text_size = (uint32_t)size;
    memcpy(w->out->p + at, &record, sizeof record);
    return true;
}

/* ---- the three places ---------------------------------------------------------------- */

static bool walk_place(struct walk *w, const char *folder, const char *home,
                       enum place place)
{
    size_t home_n = strlen(home);

    w->place = place;
    w->root_size = strlen(folder) + 1;
    w->home_size =
        strncmp(folder, home, home_n) == 0 && folder[home_n] == '/' ? home_n + 1 : 0;
    w->flat = place == IN_PARENT;
    return walk_folder(w, folder, 0);
}

static bool walk_all(struct walk *w, const char *app, const char *home)
{
    char app_path[PATH_MAX], home_path[PATH_MAX], lua[PATH_MAX + 8], parent[PATH_MAX];
    char *slash;

    if (realpath(app, app_path) == NULL) return fault(w, app, strerror(errno));
    if (realpath(home, home_path) == NULL) return fault(w, home, strerror(errno));
    snprintf(lua, sizeof lua, "%s/lua", home_path);
    strcpy(parent, app_path);
    slash = strrchr(parent, '/');
    *slash = '\0';
    if (!walk_place(w, app_path, home_path, IN_APP)) return false;
    w->count = 0;
    if (*parent != '\0' && strcmp(parent, lua) != 0 &&
        !walk_place(w, parent, home_path, IN_PARENT))
        return false;
    w->count = 0;
    return walk_place(w, lua, home_path, IN_LUA);
}

uint64_t snapshot_fingerprint(const char *app, const char *home, int64_t *newest_us)
{
    struct buf ignored = { 0 };
    struct walk w = { .fault = &ignored, .only_fingerprint = true };
    bool ok = walk_all(&w, app, home);

    buf_free(&ignored);
    *newest_us = w.newest_us;
    return ok ? w.fingerprint | 1 : 0;
}

/* ---- writing ----------------------------------------------------------------------- */

static uint32_t count_records(const struct buf *out)
{
    uint32_t count = 0;
    size_t at = sizeof(struct head);

    while (at < out->n) {
        struct record record;

        memcpy(&record, out->p + at, sizeof record);
        at += sizeof record + record.name_size + record.path_size + record.text_size;
        count++;
    }
    return count;
}

static void fill_head(struct buf *out, const char *app, uint64_t number)
{
    struct head head = { .number = number, .count = count_records(out) };
    char path[PATH_MAX];

    memcpy(head.magic, MAGIC, sizeof head.magic);
    if (realpath(app, path) != NULL) {
        const char *name = strrchr(path, '/') + 1;

        head.app_name_size = (uint32_t)strnlen(name, NAME_MAX);
        memcpy(head.app_name, name, head.app_name_size);
    }
    memcpy(out->p, &head, sizeof head);
}

static int to_memfd(const struct buf *out, struct buf *fault_text)
{
    int fd = memfd_create("omade-scripts", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    size_t done = 0;

    while (fd >= 0 && done < out->n) {
        ssize_t n = write(fd, out->p + done, out->n - done);

        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += (size_t)n;
    }
    if (fd >= 0 && done == out->n &&
        fcntl(fd, F_ADD_SEALS,
              F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) == 0)
        return fd;
    buf_addf(fault_text, "the scripts' memory file: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

int snapshot_write(const char *app, const char *home, uint64_t number,
                   struct buf *fault_text)
{
    struct buf out = { 0 };
    struct walk w = { .out = &out, .fault = fault_text };
    struct head head = { 0 };
    int fd = -1;

    buf_add(&out, &head, sizeof head);
    if (out.failed) buf_add_text(fault_text, "out of memory");
    else if (walk_all(&w, app, home)) {
        fill_head(&out, app, number);
        fd = to_memfd(&out, fault_text);
    }
    buf_free(&out);
    return fd;
}

/* ---- reading ------------------------------------------------------------------------- */

struct snapshot *snapshot_map(int fd)
{
    struct snapshot *s = NULL;
    struct stat st;
    void *bytes;

    if (fstat(fd, &st) != 0 || (size_t)st.st_size < sizeof(struct head)) return NULL;
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) return NULL;
    if (memcmp(bytes, MAGIC, sizeof MAGIC) == 0) s = mem_get(sizeof *s);
    if (s == NULL) {
        munmap(bytes, (size_t)st.st_size);
        return NULL;
    }
    *s = (struct snapshot){ bytes, (size_t)st.st_size, 1 };
    return s;
}

struct snapshot *snapshot_hold(struct snapshot *s)
{
    if (s != NULL) s->users++;
    return s;
}

void snapshot_release(struct snapshot *s)
{
    if (s == NULL || --s->users > 0) return;
    munmap((void *)(uintptr_t)s->bytes, s->size);
    mem_free(s);
}

static struct head head_of(const struct snapshot *s)
{
    struct head head;

    memcpy(&head, s->bytes, sizeof head);
    return head;
}

uint64_t snapshot_number(const struct snapshot *s) { return head_of(s).number; }

static bool find(const struct snapshot *s, enum place place, struct slice name,
                 struct slice *path, struct slice *text)
{
    size_t at = sizeof(struct head);

    while (at + sizeof(struct record) <= s->size) {
        struct record record;
        const char *p = s->bytes + at + sizeof record;

        memcpy(&record, s->bytes + at, sizeof record);
        if (record.place == place &&
            slice_equal((struct slice){ p, record.name_size }, name)) {
            *path = (struct slice){ p + record.name_size, record.path_size };
            *text = (struct slice){ p + record.name_size + record.path_size,
                                    record.text_size };
            return true;
        }
        at += sizeof record + record.name_size + record.path_size + record.text_size;
    }
    return false;
}

bool snapshot_file(const struct snapshot *s, struct slice path, struct slice *text)
{
    struct slice shown;

    return find(s, IN_APP, path, &shown, text);
}

/* "a.b" to "a/b" + ending; false when it is no module name or too long. */
static bool module_path(struct slice name, const char *ending, char path[static PATH_MAX])
{
    size_t n = 0;

    if (name.n == 0 || name.n > 200) return false;
    for (; n < name.n; n++) {
        char c = name.p[n];

        if (c == '/' || c == '\\' || c == '\0') return false;
        path[n] = c == '.' ? '/' : c;
    }
    strcpy(path + n, ending);
    return true;
}

static bool find_module(const struct snapshot *s, struct slice name, const char *ending,
                        struct slice *path, struct slice *text)
{
    struct head head = head_of(s);
    char file[PATH_MAX];

    if (!module_path(name, ending, file)) return false;
    struct slice whole = slice_of(file);

    if (find(s, IN_APP, whole, path, text)) return true;
    if (whole.n > head.app_name_size && file[head.app_name_size] == '/' &&
        memcmp(file, head.app_name, head.app_name_size) == 0 &&
        find(s, IN_APP, slice_of(file + head.app_name_size + 1), path, text))
        return true;
    return find(s, IN_PARENT, whole, path, text) || find(s, IN_LUA, whole, path, text);
}

bool snapshot_module(const struct snapshot *s, struct slice name, struct slice *path,
                     struct slice *text)
{
    return find_module(s, name, ".lua", path, text) ||
           find_module(s, name, "/init.lua", path, text);
}
