/* A file that is not what was built is refused before HDF5 sees it: cut anywhere, any bit flipped, another file under the same
 * name. */
#include "datasets/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

#include "tests/data/data_util.h"
#include "trainer/base/mem.h"

static char *good;
static size_t good_n;

static int open_bytes(const char *bytes, size_t n, const char *cache, struct err *e)
{
    struct dataset *d = NULL;
    util_write(util_path("x.h5"), bytes, n);
    int rc = dataset_open(util_path("x.h5"), false, cache, &d, e);
    dataset_close(d);
    return rc;
}

static void parse(void)
{
    struct seal s = {.length = UINT64_C(0x0102030405060708)}, back;
    uint8_t bytes[SEAL_BYTES];
    struct err e = {0};
    for (int i = 0; i < HASH_BYTES; i++)
        s.hash[i] = (uint8_t)(i * 7);
    seal_format(&s, bytes);
    CHECK(memcmp(bytes, "\x8fLORATD\n\1\0\0\0\0\2\0\0\10\7\6\5\4\3\2\1", 24) == 0);
    CHECK_OK(seal_parse(bytes, sizeof bytes, "x", &back, &e), &e);
    CHECK(back.length == s.length && memcmp(back.hash, s.hash, HASH_BYTES) == 0);
    for (size_t n = 0; n < SEAL_BYTES; n++)
        CHECK(seal_parse(bytes, n, "x", &back, &e) != 0);
    for (int bit = 0; bit < SEAL_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(seal_parse(bytes, sizeof bytes, "x", &back, &e) != 0);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void damaged(void)
{
    struct err e = {0};
    char *copy = mem_alloc(good_n + 1, 1);
    memcpy(copy, good, good_n);
    CHECK_OK(open_bytes(good, good_n, NULL, &e), &e);
    for (size_t n = 0; n < good_n; n += n < 600 ? 37 : good_n / 40 + 1) {
        CHECK(open_bytes(good, n, NULL, &e) != 0);
        CHECK_INT(e.code, ERR_DATA);
        CHECK_HAS(e.text, "x.h5: ");
    }
    CHECK(open_bytes(good, good_n - 1, NULL, &e) != 0);
    CHECK_HAS(e.text, "cut short");
    CHECK(open_bytes(copy, good_n + 1, NULL, &e) != 0);
    CHECK_HAS(e.text, "longer than it was");
    for (size_t at = 0; at < good_n; at += good_n / 60 + 1) {
        copy[at] ^= 4;
        CHECK(open_bytes(copy, good_n, NULL, &e) != 0);
        CHECK_INT(e.code, ERR_DATA);
        copy[at] ^= 4;
    }
    copy[good_n - 1] ^= 1;
    CHECK(open_bytes(copy, good_n, NULL, &e) != 0);
    CHECK_HAS(e.text, "do not match its seal");
    memset(copy + good_n / 2, 0, good_n - good_n / 2);
    CHECK(open_bytes(copy, good_n, NULL, &e) != 0);
    mem_free(copy);
}

static void odd_paths(void)
{
    struct dataset *d = NULL;
    struct err e = {0};
    CHECK(open_bytes("not HDF5", 8, NULL, &e) != 0);
    CHECK_HAS(e.text, "no seal");
    CHECK(dataset_open(util_dir, false, NULL, &d, &e) != 0);
    CHECK_HAS(e.text, util_dir);
    CHECK_INT(mkfifo(util_path("fifo"), 0600), 0);
    CHECK(dataset_open(util_path("fifo"), false, NULL, &d, &e) != 0);
    CHECK(dataset_open(util_path("fifo"), true, NULL, &d, &e) != 0);
    CHECK(dataset_open("", false, NULL, &d, &e) != 0);
    CHECK_INT(e.code, ERR_DATA);
}

/* ---- the cache of verified files ---- */

static int n_reads;
static ssize_t counting_pread(int fd, void *buf, size_t n, off_t at)
{
    n_reads += n > SEAL_BYTES && at >= SEAL_BYTES; /* not the seal itself */
    return io_libc.pread(fd, buf, n, at);
}

static bool hashes(const char *path, struct err *e, int *rc)
{
    char identity[HASH_HEX];
    bool sealed;
    struct io_table counting = io_libc;
    counting.pread = counting_pread;
    int fd = open(path, O_RDONLY);
    n_reads = 0;
    io = &counting;
    *rc = seal_check(fd, path, false, util_path("cache"), &sealed, identity, e);
    io = &io_libc;
    close(fd);
    return n_reads > 0;
}

static void set_age(const char *path, int seconds)
{
    struct timespec times[2];
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= seconds;
    times[1] = times[0];
    CHECK_INT(utimensat(AT_FDCWD, path, times, 0), 0);
}

static void cached(void)
{
    struct err e = {0};
    int rc;
    const char *path = util_path("c.h5");
    util_write(path, good, good_n);
    CHECK(hashes(path, &e, &rc) && rc == 0);
    CHECK(hashes(path, &e, &rc) && rc == 0); /* too young to be remembered */
    usleep(3100000);
    CHECK(hashes(path, &e, &rc) && rc == 0);
    CHECK(!hashes(path, &e, &rc) && rc == 0); /* remembered */
    char *copy = mem_alloc(good_n, 1);
    memcpy(copy, good, good_n);
    copy[good_n - 5] ^= 1;
    int fd = open(path, O_WRONLY); /* the same inode and size, with the old time put back */
    CHECK_INT(write(fd, copy, good_n), good_n);
    close(fd);
    set_age(path, 3);
    CHECK(hashes(path, &e, &rc) && rc != 0);
    mem_free(copy);
    /* Whatever stands in the cache, the file decides. */
    char **names;
    size_t n;
    CHECK_OK(io_list(util_path("cache"), &names, &n, &e), &e);
    CHECK_INT(n, 1);
    char entry[200];
    snprintf(entry, sizeof entry, "%s/%s", util_path("cache"), names[0]);
    io_list_free(names, n);
    util_text(entry, "{\"path\":");
    util_write(path, good, good_n);
    CHECK(hashes(path, &e, &rc) && rc == 0);
    CHECK_INT(io->unlink(entry), 0);
    CHECK_INT(io->rmdir(util_path("cache")), 0);
    util_text(util_path("cache"), "a file in the way");
    CHECK(hashes(path, &e, &rc) && rc == 0);
    io->unlink(util_path("cache"));
}

int main(void)
{
    static const int32_t lengths[] = {300, 20, 5000, 7};
    struct err e = {0};
    util_begin();
    util_dataset(util_path("good.h5"), lengths, 4, true);
    CHECK_OK(io_read_file(util_path("good.h5"), ERR_IO, 1 << 24, &good, &good_n, &e), &e);
    parse();
    damaged();
    odd_paths();
    cached();
    mem_free(good);
    return util_end();
}
