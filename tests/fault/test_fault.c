/* The tables themselves: does the atomic write survive them, does a careless write not? */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/check.h"
#include "tests/fault/io_fault.h"
#include "trainer/base/io.h"

static char folder[64], path[128];

static void spoil(void)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(folder, &e), &e);
    CHECK_OK(io_mkdirs(folder, &e), &e);
}

/* Without sync and rename: what careful code must not do. */
static int careless_write(const char *text)
{
    struct err e = {0};
    int fd = io->open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    int rc = io_write_all(fd, path, text, strlen(text), &e);
    io->close(fd);
    return rc;
}

static const char *contents(void)
{
    static char text[64];
    struct err e = {0};
    char *bytes;
    size_t n;
    if (io_read_file(path, ERR_IO, 60, &bytes, &n, &e) != 0)
        return "missing";
    memcpy(text, bytes, n + 1);
    free(bytes);
    return text;
}

static void test_cut_of_careless(void)
{
    struct err e = {0};
    for (int cut = 0; cut < 3; cut++) {
        spoil();
        CHECK_OK(io_write_file_atomic(path, "old text", 8, &e), &e);
        CHECK_OK(fault_power_begin(folder, &e), &e);
        CHECK_INT(careless_write("new text"), 0);
        CHECK_STR(contents(), "new text");
        CHECK_OK(fault_power_cut((enum fault_cut)cut, &e), &e);
        if (cut == FAULT_CUT_GARBLED) {
            CHECK(strcmp(contents(), "old text") != 0 && strcmp(contents(), "new text") != 0 &&
                  strcmp(contents(), "missing") != 0);
        } else {
            CHECK_STR(contents(), "old text");
        }
    }
    /* A new file: its name was never synced, or it was and the contents were not. */
    spoil();
    CHECK_OK(fault_power_begin(folder, &e), &e);
    careless_write("new text");
    CHECK_OK(fault_power_cut(FAULT_CUT_ROLLBACK, &e), &e);
    CHECK_STR(contents(), "missing");
    CHECK_OK(fault_power_begin(folder, &e), &e);
    careless_write("new text");
    CHECK_OK(io_fsync_dir(folder, &e), &e);
    CHECK_OK(fault_power_cut(FAULT_CUT_ROLLBACK, &e), &e);
    CHECK_STR(contents(), "");
}

/* A rename whose folder was not synced is rolled back, also into another folder. */
static void test_rename(void)
{
    char other[128], moved[192];
    struct err e = {0};
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(moved, sizeof moved, "%s/moved", other);
    for (int synced = 0; synced < 2; synced++) {
        spoil();
        CHECK_OK(io_write_file_atomic(path, "old text", 8, &e), &e);
        CHECK_OK(fault_power_begin(folder, &e), &e);
        CHECK_OK(io_mkdirs(other, &e), &e);
        CHECK_INT(io->rename(path, moved), 0);
        if (synced) {
            CHECK_OK(io_fsync_dir(other, &e), &e);
            CHECK_OK(io_fsync_dir(folder, &e), &e);
        }
        CHECK_OK(fault_power_cut(FAULT_CUT_ROLLBACK, &e), &e);
        CHECK_STR(contents(), synced ? "missing" : "old text");
        CHECK_INT(io_exists(moved), synced);
        CHECK_INT(io_exists(other), synced);
    }
    /* Names kept, contents as synced. */
    spoil();
    CHECK_OK(io_write_file_atomic(path, "old text", 8, &e), &e);
    CHECK_OK(fault_power_begin(folder, &e), &e);
    CHECK_OK(io_mkdirs(other, &e), &e);
    CHECK_INT(io->rename(path, moved), 0);
    CHECK_OK(fault_power_cut(FAULT_CUT_EMPTY, &e), &e);
    CHECK(!io_exists(path));
    CHECK(io_exists(moved));
}

/* Crash at every call, every kind of cut: old or new, whole; new once the call had returned. */
static void test_atomic_write(void)
{
    struct err e = {0};
    for (int cut = 0; cut < 3; cut++) {
        bool hit = true;
        int n_new = 0;
        for (int64_t n = 1; hit; n++) {
            spoil();
            CHECK_OK(io_write_file_atomic(path, "old text", 8, &e), &e);
            CHECK_OK(fault_power_begin(folder, &e), &e);
            fault_install(FAULT_CRASH, n, 0);
            int rc = io_write_file_atomic(path, "new text", 8, &e);
            hit = fault_hit();
            fault_remove();
            CHECK_OK(fault_power_cut((enum fault_cut)cut, &e), &e);
            bool new = strcmp(contents(), "new text") == 0;
            CHECK(new || strcmp(contents(), "old text") == 0);
            CHECK(rc != 0 || new);
            n_new += new;
            CHECK(n < 100);
        }
        CHECK(n_new >= 1);
    }
}

static int in_child(const char *spec)
{
    pid_t child = fork();
    if (child == 0) {
        struct err e = {0};
        setenv("LORAT_FAULT", spec, 1);
        if (fault_install_env(&e) != 0)
            _exit(99);
        _exit(io_write_file_atomic(path, "new text", 8, &e) == 0 ? 0 : e.code);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_environment(void)
{
    struct err e = {0};
    char spec[256], log[160], *bytes;
    size_t n;
    snprintf(log, sizeof log, "%s/log", folder);
    spoil();
    CHECK_OK(io_write_file_atomic(path, "old text", 8, &e), &e);
    CHECK_INT(in_child("kill:2"), -SIGKILL);
    CHECK_STR(contents(), "old text");
    CHECK_INT(in_child("fail:3:ENOSPC"), ERR_IO);
    CHECK_INT(in_child("full:1"), ERR_IO);
    CHECK_STR(contents(), "old text");
    CHECK_INT(in_child("fail:2:EINTR"), 0);
    CHECK_STR(contents(), "new text");
    CHECK_INT(in_child("fail:2:EWHAT"), 99);
    CHECK_INT(in_child("kill"), 99);
    CHECK_INT(in_child("short:2"), 0);

    snprintf(spec, sizeof spec, "kill:4,log:%s", log);
    CHECK_INT(in_child(spec), -SIGKILL);
    CHECK_OK(io_read_file(log, ERR_IO, 100, &bytes, &n, &e), &e);
    CHECK_INT(atoi(bytes), 4);
    free(bytes);

    spoil();
    CHECK_OK(io_write_file_atomic(path, "old text", 8, &e), &e);
    snprintf(spec, sizeof spec, "cut:6:rollback:%s", folder);
    CHECK_INT(in_child(spec), -SIGKILL);
    CHECK_STR(contents(), "old text");
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/lorat-fault-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return 1;
    snprintf(path, sizeof path, "%s/file", folder);
    test_cut_of_careless();
    test_rename();
    test_atomic_write();
    test_environment();
    struct err e = {0};
    CHECK_OK(io_remove_tree(folder, &e), &e);
    return check_done();
}
