#include "trainer/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/check.h"
#include "tests/fault/io_fault.h"
#include "trainer/base/mem.h"

static char folder[64];

/* A path below the test's folder; four may be in use at once. */
static const char *in(const char *name)
{
    static char paths[4][256];
    static int next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    struct err e = {0};
    CHECK_OK(io_write_file_atomic(in(name), text, strlen(text), &e), &e);
}

static bool holds(const char *name, const char *text)
{
    struct err e = {0};
    char *bytes;
    size_t n;
    if (io_read_file(in(name), ERR_IO, 1 << 20, &bytes, &n, &e) != 0)
        return false;
    bool same = n == strlen(text) && memcmp(bytes, text, n) == 0;
    free(bytes);
    return same;
}

static size_t n_names(void)
{
    struct err e = {0};
    char **names;
    size_t n;
    CHECK_OK(io_list(folder, &names, &n, &e), &e);
    io_list_free(names, n);
    return n;
}

static void spoil(void)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(folder, &e), &e);
    CHECK_OK(io_mkdirs(folder, &e), &e);
}

static void refused(const char *path, const char *part)
{
    struct err e = {0};
    int fd = 7;
    CHECK_INT(io_open_regular(path, ERR_MODEL, &fd, NULL, &e), -1);
    CHECK_INT(e.code, ERR_MODEL);
    CHECK_INT(fd, -1);
    CHECK_HAS(e.text, part);
    CHECK_HAS(e.text, path);
}

static void test_open(void)
{
    struct err e = {0};
    int fd;
    int64_t size = 0;
    write_file("file", "hello");
    CHECK_OK(io_open_regular(in("file"), ERR_MODEL, &fd, &size, &e), &e);
    CHECK_INT(size, 5);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    refused(in("nothing"), "not found");
    refused(in("file/below"), "not a folder");
    refused(folder, "a folder, expected a regular file");
    refused("", "empty path");
    refused("/dev/null", "a device");
    CHECK_INT(mkfifo(in("pipe"), 0666), 0);
    refused(in("pipe"), "a pipe"); /* and does not wait for a writer */
    CHECK_INT(symlink("gone", in("link")), 0);
    refused(in("link"), "symbolic link");
    if (geteuid() != 0) {
        CHECK_INT(chmod(in("file"), 0), 0);
        refused(in("file"), "no permission");
    }
    char *bytes;
    size_t n;
    CHECK_INT(io_read_file(in("nothing"), ERR_CONFIG, 10, &bytes, &n, &e), -1);
    CHECK_INT(e.code, ERR_CONFIG);
    spoil();
}

static void test_read(void)
{
    struct err e = {0};
    char *bytes, part[8] = {0};
    size_t n;
    int fd;
    write_file("file", "0123456789");
    CHECK_OK(io_read_file(in("file"), ERR_IO, 10, &bytes, &n, &e), &e);
    CHECK_INT(n, 10);
    CHECK_STR(bytes, "0123456789");
    free(bytes);
    CHECK_INT(io_read_file(in("file"), ERR_DATA, 9, &bytes, &n, &e), -1);
    CHECK_INT(e.code, ERR_DATA);
    CHECK_HAS(e.text, "larger than 9 bytes");
    CHECK(bytes == NULL);
    write_file("empty", "");
    CHECK_OK(io_read_file(in("empty"), ERR_IO, 0, &bytes, &n, &e), &e);
    CHECK_INT(n, 0);
    CHECK_STR(bytes, "");
    free(bytes);
    /* States a size of 0 but holds bytes. */
    CHECK_OK(io_read_file("/proc/self/status", ERR_IO, 1 << 20, &bytes, &n, &e), &e);
    CHECK(n > 100 && strlen(bytes) == n);
    free(bytes);
    CHECK_INT(io_read_file("/proc/self/status", ERR_IO, 10, &bytes, &n, &e), -1);

    CHECK_OK(io_open_regular(in("file"), ERR_IO, &fd, NULL, &e), &e);
    CHECK_OK(io_pread_all(fd, "file", part, 4, 3, &e), &e);
    CHECK_STR(part, "3456");
    CHECK_INT(io_pread_all(fd, "file", part, 4, 8, &e), -1);
    CHECK_HAS(e.text, "file: ends at byte 10");
    CHECK_OK(io_pread_all(fd, "file", part, 0, 1000, &e), &e);
    close(fd);
    CHECK_INT(io_pread_all(fd, "file", part, 4, 0, &e), -1);
    CHECK_INT(e.code, ERR_IO);

    /* Out of memory at every allocation. */
    for (int64_t at = 1;; at++) {
        mem_fail_at(at);
        int rc = io_read_file(in("file"), ERR_IO, 100, &bytes, &n, &e);
        bool hit = mem_count() >= at;
        mem_fail_at(0);
        CHECK_INT(rc, hit ? -1 : 0);
        free(bytes);
        if (!hit)
            break;
    }
    spoil();
}

/* Interrupted or short calls change nothing; other failures of reading are reported. */
static void test_read_faults(void)
{
    static const struct {
        enum fault_kind kind;
        int errno_value;
        bool harmless;
    } cases[] = {{FAULT_SHORT, 0, true}, {FAULT_ERRNO, EINTR, true}, {FAULT_ERRNO, EIO, false}};
    struct err e = {0};
    write_file("file", "0123456789");
    for (int i = 0; i < 3; i++)
        for (int64_t at = 1, hit = 1; hit; at++) {
            char *bytes, part[5] = {0};
            size_t n = 0;
            int fd;
            fault_install(cases[i].kind, at, cases[i].errno_value);
            int rc = io_read_file(in("file"), ERR_IO, 10, &bytes, &n, &e);
            if (io_open_regular(in("file"), ERR_IO, &fd, NULL, &e) == 0) {
                if (io_pread_all(fd, "file", part, 4, 2, &e) == 0)
                    CHECK_STR(part, "2345");
                else
                    rc = -1;
                io->close(fd);
            } else {
                rc = -1;
            }
            hit = fault_hit();
            fault_remove();
            if (cases[i].harmless || !hit)
                CHECK_INT(rc, 0);
            if (bytes != NULL)
                CHECK_STR(bytes, "0123456789");
            free(bytes);
        }
    spoil();
}

static void test_write_faults(void)
{
    static const struct {
        enum fault_kind kind;
        int errno_value;
    } cases[] = {
        {FAULT_SHORT, 0},      {FAULT_ERRNO, EINTR},  {FAULT_ERRNO, EIO},
        {FAULT_ERRNO, ENOSPC}, {FAULT_ERRNO, EDQUOT}, {FAULT_FULL, ENOSPC},
    };
    struct err e = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int64_t at = 1, hit = 1; hit; at++) {
            spoil();
            write_file("file", "old text");
            fault_install(cases[i].kind, at, cases[i].errno_value);
            int rc = io_write_file_atomic(in("file"), "new text", 8, &e);
            hit = fault_hit();
            fault_remove();
            CHECK(holds("file", "new text") || (rc != 0 && holds("file", "old text")));
            CHECK_INT(n_names(), 1);
            if (cases[i].kind == FAULT_SHORT || cases[i].errno_value == EINTR || !hit)
                CHECK_INT(rc, 0);
            /* Nine calls; only the last, the close of the synced folder, cannot matter. */
            if (cases[i].errno_value == EIO && at < 9)
                CHECK_INT(rc, -1);
            if (rc != 0) {
                CHECK_INT(e.code, ERR_IO);
                if (cases[i].errno_value == ENOSPC)
                    CHECK_HAS(e.text, "disk is full");
            }
        }
    for (int64_t at = 1;; at++) {
        spoil();
        mem_fail_at(at);
        int rc = io_write_file_atomic(in("file"), "new text", 8, &e);
        bool hit = mem_count() >= at;
        mem_fail_at(0);
        CHECK_INT(rc, hit ? -1 : 0);
        CHECK_INT(n_names(), rc == 0);
        if (!hit)
            break;
    }
    spoil();
}

static void test_write_places(void)
{
    struct err e = {0};
    char here[4096];
    CHECK_INT(io_write_file_atomic(in("no/such/file"), "x", 1, &e), -1);
    CHECK_HAS(e.text, "no/such/file");
    CHECK_INT(io_write_file_atomic(in("slash/"), "x", 1, &e), -1);
    CHECK_INT(io_write_file_atomic("", "x", 1, &e), -1);
    CHECK_OK(io_mkdirs(in("taken"), &e), &e);
    CHECK_INT(io_write_file_atomic(in("taken"), "x", 1, &e), -1);
    CHECK_HAS(e.text, "taken: a folder, expected a new name or a regular file");
    CHECK_INT(n_names(), 1);
    /* A pipe or a device stays what it is, also behind a link, as /dev/stdout is one. */
    struct stat st;
    char pipe_path[sizeof here];
    snprintf(pipe_path, sizeof pipe_path, "%s", in("pipe"));
    CHECK_INT(mkfifo(pipe_path, 0600), 0);
    CHECK_INT(symlink("pipe", in("link")), 0);
    CHECK_INT(io_write_file_atomic(in("link"), "x", 1, &e), -1);
    CHECK_HAS(e.text, "link: a pipe, expected a new name");
    CHECK_INT(io_write_file_atomic(pipe_path, "x", 1, &e), -1);
    CHECK(lstat(pipe_path, &st) == 0 && S_ISFIFO(st.st_mode));
    CHECK(lstat(in("link"), &st) == 0 && S_ISLNK(st.st_mode));
    /* A name without a folder is one of the current folder. */
    CHECK(getcwd(here, sizeof here) != NULL);
    CHECK_INT(chdir(folder), 0);
    CHECK_OK(io_write_file_atomic("plain", "x", 1, &e), &e);
    CHECK_INT(chdir(here), 0);
    CHECK(holds("plain", "x"));
    size_t n = 5 << 20;
    char *large = calloc(n, 1), *bytes;
    CHECK_OK(io_write_file_atomic(in("large"), large, n, &e), &e);
    CHECK_OK(io_read_file(in("large"), ERR_IO, n, &bytes, &n, &e), &e);
    CHECK_INT(n, 5 << 20);
    free(bytes);
    free(large);
    /* A path of more than one part with a failing folder sync is still told as that. */
    CHECK_INT(io_fsync_dir(in("plain"), &e), -1);
    CHECK_INT(io_fsync_dir(in("nothing"), &e), -1);
    CHECK_INT(symlink("nothing", in("dangling")), 0);
    CHECK_INT(io_mkdirs(in("dangling/below"), &e), -1);
    CHECK_HAS(e.text, "dangling: a symbolic link whose target is missing, expected a folder");
    spoil();
}

static void test_folders(void)
{
    struct err e = {0};
    char **names;
    size_t n;
    CHECK_OK(io_mkdirs(in("a//b/c/"), &e), &e);
    CHECK_OK(io_mkdirs(in("a/b/c"), &e), &e);
    CHECK(io_is_dir(in("a/b/c")));
    CHECK_OK(io_mkdirs("/", &e), &e);
    CHECK_INT(io_mkdirs("", &e), -1);
    write_file("a/file", "x");
    CHECK_INT(io_mkdirs(in("a/file"), &e), -1);
    CHECK_HAS(e.text, "a file, expected a folder");
    CHECK_INT(io_mkdirs(in("a/file/below"), &e), -1);
    CHECK(io_exists(in("a/file")) && !io_is_dir(in("a/file")) && !io_exists(in("a/other")));
    CHECK_INT(symlink("b", in("a/to_b")), 0);
    CHECK_OK(io_mkdirs(in("a/to_b/d"), &e), &e);
    CHECK(io_is_dir(in("a/b/d")));

    CHECK_OK(io_list(in("a"), &names, &n, &e), &e);
    CHECK_INT(n, 3);
    CHECK_STR(names[0], "b");
    CHECK_STR(names[1], "file");
    CHECK_STR(names[2], "to_b");
    io_list_free(names, n);
    CHECK_INT(io_list(in("nothing"), &names, &n, &e), -1);
    CHECK(names == NULL && n == 0);
    for (int64_t at = 1;; at++) {
        mem_fail_at(at);
        int rc = io_list(in("a"), &names, &n, &e);
        bool hit = mem_count() >= at;
        mem_fail_at(0);
        CHECK_INT(rc, hit ? -1 : 0);
        io_list_free(names, n);
        if (!hit)
            break;
    }

    /* A link inside is removed, what it points to stays. */
    write_file("outside", "stays");
    CHECK_OK(io_mkdirs(in("kept"), &e), &e);
    write_file("kept/inner", "stays");
    CHECK_INT(symlink("../kept", in("a/away")), 0);
    CHECK_INT(symlink("../outside", in("a/away_file")), 0);
    CHECK_OK(io_remove_tree(in("a"), &e), &e);
    CHECK(!io_exists(in("a")));
    CHECK(holds("outside", "stays") && holds("kept/inner", "stays"));
    CHECK_INT(symlink("kept", in("link")), 0);
    CHECK_OK(io_remove_tree(in("link"), &e), &e);
    CHECK(holds("kept/inner", "stays") && !io_exists(in("link")));
    CHECK_OK(io_remove_tree(in("a"), &e), &e);
    CHECK_OK(io_remove_tree(in("outside"), &e), &e);
    spoil();
}

static void test_home(void)
{
    static const char *const cases[][2] = {
        {"~", "/home/me"}, {"~/x/y", "/home/me/x/y"}, {"~other/x", "~other/x"}, {"a/~", "a/~"}, {"", ""}};
    setenv("HOME", "/home/me", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *out = io_expand_home(cases[i][0]);
        CHECK_STR(out, cases[i][1]);
        free(out);
    }
    unsetenv("HOME");
    char *out = io_expand_home("~/x");
    CHECK_STR(out, "~/x");
    free(out);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/lorat-io-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    test_open();
    test_read();
    test_read_faults();
    test_write_faults();
    test_write_places();
    test_folders();
    test_home();
    struct err e = {0};
    CHECK_OK(io_remove_tree(folder, &e), &e);
    return check_done();
}
