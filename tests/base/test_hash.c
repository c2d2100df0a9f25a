/* Vectors of FIPS 180-2, appendix B, and the empty message. */
#include "trainer/base/hash.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

static const char *hex_of(const void *bytes, size_t n)
{
    static char hex[HASH_HEX];
    uint8_t hash[HASH_BYTES];
    hash_bytes(bytes, n, hash);
    return hash_hex(hash, hex);
}

static char million[1000000];

static void test_file(void)
{
    char path[] = "/tmp/lorat-hash-XXXXXX", hex[HASH_HEX];
    uint8_t hash[HASH_BYTES];
    struct err e = {0};
    int fd = mkstemp(path);
    size_t n = 3 << 20;
    char *bytes = malloc(n);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    CHECK_OK(io_write_all(fd, path, bytes, n, &e), &e);
    CHECK_OK(hash_file(fd, path, 0, -1, hash, &e), &e);
    CHECK_STR(hash_hex(hash, hex), hex_of(bytes, n));
    CHECK_OK(hash_file(fd, path, 5, (int64_t)n - 9, hash, &e), &e);
    CHECK_STR(hash_hex(hash, hex), hex_of(bytes + 5, n - 9));
    CHECK_OK(hash_file(fd, path, 77, 0, hash, &e), &e);
    CHECK_STR(hash_hex(hash, hex), hex_of("", 0));
    CHECK_INT(hash_file(fd, path, 5, (int64_t)n, hash, &e), -1);
    CHECK_INT(e.code, ERR_IO);
    CHECK_HAS(e.text, "cut short");
    CHECK_INT(hash_file(-1, "closed", 0, -1, hash, &e), -1);
    mem_fail_at(1);
    CHECK_INT(hash_file(fd, path, 0, -1, hash, &e), -1);
    CHECK_INT(e.code, ERR_DEVICE);
    mem_fail_at(0);
    free(bytes);
    close(fd);
    unlink(path);
}

int main(void)
{
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    memset(million, 'a', sizeof million);
    CHECK_STR(hex_of("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK_STR(hex_of("abc", 3), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK_STR(hex_of(two_blocks, 56), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    CHECK_STR(hex_of(million, sizeof million), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");

    for (size_t step = 1; step < 200; step += 17) {
        struct hash *h = hash_new();
        uint8_t hash[HASH_BYTES];
        char hex[HASH_HEX];
        for (size_t i = 0; i < 5000; i += step)
            hash_add(h, million + i, i + step > 5000 ? 5000 - i : step);
        hash_finish(h, hash);
        CHECK_STR(hash_hex(hash, hex), hex_of(million, 5000));
    }
    hash_abandon(hash_new());
    hash_abandon(NULL);
    mem_fail_at(1);
    CHECK(hash_new() == NULL);
    mem_fail_at(0);
    test_file();
    return check_done();
}
