/* A file system that remembers what was synced. Two trees share their nodes: each folder has its names as they are (`live`) and
 * as they were when the folder was last synced (`durable`); each file has its bytes as of its last fsync. The real folder always
 * holds the live state, so reading needs no help; only a cut rewrites it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fault/io_fault.h"
#include "trainer/base/io.h"

enum { MAX_FD = 4096 };

struct entry {
    char *name;
    struct node *node;
};
struct names {
    struct entry *entries;
    size_t n;
};
struct node {
    struct node *next; /* all nodes ever seen, freed together */
    mode_t mode;
    struct names live, durable; /* of a folder */
    char *bytes;                /* durable contents of a file, target of a symbolic link */
    size_t n_bytes;
};

static struct {
    pthread_mutex_t lock;
    const struct io_table *below;
    char root_path[PATH_MAX];
    struct node *root, *all;
    struct node *open[MAX_FD];
} power = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *need(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

static struct node *node_new(mode_t mode)
{
    struct node *node = need(calloc(1, sizeof *node));
    node->mode = mode;
    node->next = power.all;
    return power.all = node;
}

static size_t names_find(const struct names *names, const char *name)
{
    size_t i = 0;
    while (i < names->n && strcmp(names->entries[i].name, name) != 0)
        i++;
    return i;
}

static void names_remove(struct names *names, size_t i)
{
    free(names->entries[i].name);
    names->entries[i] = names->entries[--names->n];
}

static void names_set(struct names *names, const char *name, struct node *node)
{
    size_t i = names_find(names, name);
    if (i == names->n) {
        names->entries = need(realloc(names->entries, (names->n + 1) * sizeof *names->entries));
        names->entries[names->n++].name = need(strdup(name));
    }
    names->entries[i].node = node;
}

static void names_clear(struct names *names)
{
    while (names->n > 0)
        names_remove(names, names->n - 1);
    free(names->entries);
    *names = (struct names){0};
}

static char *read_all(const char *path, size_t *n_out)
{
    char *bytes = NULL;
    size_t n = 0;
    ssize_t got = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    do {
        n += (size_t)got;
        bytes = need(realloc(bytes, n + 65536));
        got = read(fd, bytes + n, 65536);
    } while (got > 0);
    close(fd);
    *n_out = n;
    return bytes;
}

/* Bring the live names of a folder in line with the real one: new names become nodes with nothing durable. */
static void refresh(struct node *folder, const char *path)
{
    struct dirent *d;
    struct stat st;
    DIR *dir = opendir(path);
    if (dir == NULL)
        return;
    for (size_t i = folder->live.n; i-- > 0;)
        if (fstatat(dirfd(dir), folder->live.entries[i].name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            names_remove(&folder->live, i);
    while ((d = readdir(dir)) != NULL) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0 || names_find(&folder->live, d->d_name) < folder->live.n)
            continue;
        if (fstatat(dirfd(dir), d->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        struct node *node = node_new(st.st_mode);
        if (S_ISLNK(st.st_mode)) {
            node->bytes = need(calloc(1, PATH_MAX));
            ssize_t n = readlinkat(dirfd(dir), d->d_name, node->bytes, PATH_MAX - 1);
            node->n_bytes = n < 0 ? 0 : (size_t)n;
        }
        names_set(&folder->live, d->d_name, node);
    }
    closedir(dir);
}

/* Where a path stands in the tree. `node` is NULL when the name is not there (yet). */
struct place {
    struct node *folder, *node;
    char folder_path[PATH_MAX];
    char name[NAME_MAX + 1];
};

static bool find(const char *path, struct place *at)
{
    char copy[PATH_MAX], *rest = NULL;
    *at = (struct place){0};
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return false;
    size_t n = strlen(copy), n_root = strlen(power.root_path);
    while (n > 1 && copy[n - 1] == '/')
        copy[--n] = '\0';
    char *slash = strrchr(copy, '/');
    const char *name = slash == NULL ? copy : slash + 1;
    if (strlen(name) > NAME_MAX)
        return false;
    memcpy(at->name, name, strlen(name) + 1);
    if (slash != NULL)
        slash[slash == copy] = '\0';
    if (realpath(slash == NULL ? "." : copy, at->folder_path) == NULL)
        return false;
    if (strncmp(at->folder_path, power.root_path, n_root) != 0 ||
        (at->folder_path[n_root] != '\0' && at->folder_path[n_root] != '/')) {
        /* The root itself, named from outside. */
        char full[PATH_MAX];
        if (realpath(path, full) == NULL || strcmp(full, power.root_path) != 0)
            return false;
        at->node = power.root;
        return true;
    }
    memcpy(copy, at->folder_path + n_root, strlen(at->folder_path + n_root) + 1);
    char walked[PATH_MAX];
    memcpy(walked, power.root_path, n_root + 1);
    at->folder = power.root;
    for (char *part = strtok_r(copy, "/", &rest); part != NULL; part = strtok_r(NULL, "/", &rest)) {
        refresh(at->folder, walked);
        size_t i = names_find(&at->folder->live, part), length = strlen(walked);
        if (i == at->folder->live.n)
            return false;
        at->folder = at->folder->live.entries[i].node;
        if (snprintf(walked + length, sizeof walked - length, "/%s", part) >= (int)(sizeof walked - length))
            return false;
    }
    refresh(at->folder, at->folder_path);
    size_t i = names_find(&at->folder->live, at->name);
    at->node = i < at->folder->live.n ? at->folder->live.entries[i].node : NULL;
    return true;
}

static void keep_contents(struct node *node, const char *path)
{
    size_t n = 0;
    char *bytes = read_all(path, &n);
    if (bytes == NULL)
        return;
    free(node->bytes);
    node->bytes = bytes;
    node->n_bytes = n;
}

static void keep_names(struct node *folder)
{
    names_clear(&folder->durable);
    for (size_t i = 0; i < folder->live.n; i++)
        names_set(&folder->durable, folder->live.entries[i].name, folder->live.entries[i].node);
}

/* Everything as it stands becomes durable. */
static void keep_all(struct node *folder, const char *path)
{
    refresh(folder, path);
    keep_names(folder);
    for (size_t i = 0; i < folder->live.n; i++) {
        char below[PATH_MAX];
        struct node *node = folder->live.entries[i].node;
        if (snprintf(below, sizeof below, "%s/%s", path, folder->live.entries[i].name) >= (int)sizeof below)
            abort();
        if (S_ISDIR(node->mode))
            keep_all(node, below);
        else if (S_ISREG(node->mode))
            keep_contents(node, below);
    }
}

static int p_open(const char *path, int flags, mode_t mode)
{
    pthread_mutex_lock(&power.lock);
    int fd = power.below->open(path, flags, mode), saved = errno;
    struct place at;
    if (fd >= 0 && fd < MAX_FD)
        power.open[fd] = find(path, &at) ? at.node : NULL;
    pthread_mutex_unlock(&power.lock);
    errno = saved;
    return fd;
}

static int p_close(int fd)
{
    pthread_mutex_lock(&power.lock);
    if (fd >= 0 && fd < MAX_FD)
        power.open[fd] = NULL;
    int rc = power.below->close(fd);
    pthread_mutex_unlock(&power.lock);
    return rc;
}

static int p_fsync(int fd)
{
    char path[64];
    int rc = power.below->fsync(fd), saved = errno;
    pthread_mutex_lock(&power.lock);
    struct node *node = fd >= 0 && fd < MAX_FD ? power.open[fd] : NULL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (rc == 0 && node != NULL && S_ISDIR(node->mode)) {
        refresh(node, path);
        keep_names(node);
    } else if (rc == 0 && node != NULL) {
        keep_contents(node, path);
    }
    pthread_mutex_unlock(&power.lock);
    errno = saved;
    return rc;
}

static int p_rename(const char *from, const char *to)
{
    struct place source, target;
    pthread_mutex_lock(&power.lock);
    bool known = find(from, &source) && source.folder != NULL;
    int rc = power.below->rename(from, to), saved = errno;
    if (rc == 0 && known) {
        /* The target is looked up afterwards, so that a name that is new there exists; it must become the node that moved. */
        size_t i = names_find(&source.folder->live, source.name);
        if (i < source.folder->live.n)
            names_remove(&source.folder->live, i);
        if (find(to, &target) && target.folder != NULL && source.node != NULL)
            names_set(&target.folder->live, target.name, source.node);
    } else if (rc == 0 && find(to, &target) && target.folder != NULL) {
        names_set(&target.folder->live, target.name, node_new(target.node == NULL ? S_IFREG | 0644 : target.node->mode));
    }
    pthread_mutex_unlock(&power.lock);
    errno = saved;
    return rc;
}

static int p_remove(const char *path, int (*call)(const char *))
{
    struct place at;
    pthread_mutex_lock(&power.lock);
    bool known = find(path, &at) && at.folder != NULL;
    int rc = call(path), saved = errno;
    if (rc == 0 && known) {
        size_t i = names_find(&at.folder->live, at.name);
        if (i < at.folder->live.n)
            names_remove(&at.folder->live, i);
    }
    pthread_mutex_unlock(&power.lock);
    errno = saved;
    return rc;
}

static int p_unlink(const char *path) { return p_remove(path, power.below->unlink); }
static int p_rmdir(const char *path) { return p_remove(path, power.below->rmdir); }

static struct io_table table;

int fault_power_begin(const char *folder, struct err *e)
{
    struct stat st;
    if (realpath(folder, power.root_path) == NULL || stat(folder, &st) != 0 || !S_ISDIR(st.st_mode))
        return err_errno(e, ERR_IO, errno, "%s: not a folder", folder);
    power.root = node_new(st.st_mode);
    keep_all(power.root, power.root_path);
    power.below = io;
    table = *io;
    table.open = p_open;
    table.close = p_close;
    table.fsync = p_fsync;
    table.rename = p_rename;
    table.unlink = p_unlink;
    table.rmdir = p_rmdir;
    io = &table;
    return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind;
    return ftw->level == 0 ? 0 : remove(path);
}

/* Contents of live files that were not synced as they stand, replaced by noise of the same length. */
static void garble(struct node *folder, const char *path)
{
    refresh(folder, path);
    for (size_t i = 0; i < folder->live.n; i++) {
        char below[PATH_MAX];
        size_t n = 0;
        struct node *node = folder->live.entries[i].node;
        if (snprintf(below, sizeof below, "%s/%s", path, folder->live.entries[i].name) >= (int)sizeof below)
            abort();
        if (S_ISDIR(node->mode))
            garble(node, below);
        if (!S_ISREG(node->mode))
            continue;
        char *now = read_all(below, &n);
        if (now == NULL || (n == node->n_bytes && (n == 0 || memcmp(now, node->bytes, n) == 0))) {
            free(now);
            continue;
        }
        for (size_t k = 0; k < n; k++)
            now[k] = (char)(now[k] ^ (0x5a + k * 131));
        free(node->bytes);
        node->bytes = now;
        node->n_bytes = n;
    }
}

static int restore(const struct node *folder, bool live, const char *path, struct err *e)
{
    const struct names *names = live ? &folder->live : &folder->durable;
    for (size_t i = 0; i < names->n; i++) {
        char below[PATH_MAX];
        const struct node *node = names->entries[i].node;
        if (snprintf(below, sizeof below, "%s/%s", path, names->entries[i].name) >= (int)sizeof below)
            abort();
        if (S_ISDIR(node->mode)) {
            if (mkdir(below, node->mode & 07777) != 0)
                return err_errno(e, ERR_IO, errno, "%s: cannot be restored", below);
            TRY(restore(node, live, below, e));
        } else if (S_ISLNK(node->mode)) {
            if (symlink(node->bytes, below) != 0)
                return err_errno(e, ERR_IO, errno, "%s: cannot be restored", below);
        } else if (S_ISREG(node->mode)) {
            int fd = open(below, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, node->mode & 07777);
            if (fd < 0)
                return err_errno(e, ERR_IO, errno, "%s: cannot be restored", below);
            size_t done = 0;
            for (ssize_t put; done < node->n_bytes && (put = write(fd, node->bytes + done, node->n_bytes - done)) > 0;)
                done += (size_t)put;
            close(fd);
            if (done < node->n_bytes)
                FAIL(e, ERR_IO, "%s: cannot be restored", below);
        }
    }
    return 0;
}

int fault_power_cut(enum fault_cut cut, struct err *e)
{
    pthread_mutex_lock(&power.lock);
    if (cut == FAULT_CUT_GARBLED)
        garble(power.root, power.root_path);
    int rc = nftw(power.root_path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    if (rc != 0)
        err_errno(e, ERR_IO, errno, "%s: cannot be emptied", power.root_path);
    else
        rc = restore(power.root, cut != FAULT_CUT_ROLLBACK, power.root_path, e);
    pthread_mutex_unlock(&power.lock);
    fault_power_end();
    return rc;
}

void fault_power_end(void)
{
    pthread_mutex_lock(&power.lock);
    if (io == &table)
        io = power.below;
    while (power.all != NULL) {
        struct node *node = power.all;
        power.all = node->next;
        names_clear(&node->live);
        names_clear(&node->durable);
        free(node->bytes);
        free(node);
    }
    power.root = NULL;
    memset(power.open, 0, sizeof power.open);
    pthread_mutex_unlock(&power.lock);
}
