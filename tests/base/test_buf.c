#include "trainer/base/buf.h"

#include "tests/check.h"
#include "trainer/base/mem.h"

int main(void)
{
    struct buf b = {0};
    buf_puts(&b, "");
    CHECK(b.data != NULL && b.data[0] == '\0');
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%03d,", i);
    CHECK_INT(b.n, 4000);
    CHECK_INT(strlen(b.data), 4000);
    CHECK(memcmp(b.data + 4 * 517, "517,", 4) == 0);
    buf_clear(&b);
    CHECK_INT(b.n, 0);
    CHECK_STR(b.data, "");
    buf_add(&b, "a\0b", 3);
    buf_add(&b, NULL, 0);
    CHECK_INT(b.n, 3);
    CHECK(memcmp(b.data, "a\0b", 4) == 0);

    /* A failed growth: remembered, what was there stays, later appends do nothing. */
    static char many[5000];
    mem_fail_at(1);
    size_t before = b.cap;
    buf_add(&b, many, before);
    CHECK(b.failed);
    CHECK_INT(b.n, 3);
    buf_puts(&b, "x");
    CHECK_INT(b.n, 3);
    buf_add(&b, many, SIZE_MAX);
    CHECK_INT(b.n, 3);
    buf_clear(&b);
    buf_add(&b, many, SIZE_MAX - 1);
    CHECK(b.failed);
    buf_free(&b);
    CHECK(b.data == NULL && b.n == 0 && !b.failed);
    return check_done();
}
