/* The bytes are a table of tuned products; and then lines without their checks, which are given them so that the lines are looked
 * into. A table that is accepted is written back, comments apart, as the same bytes. */
#include "kernels/cuda/lt_table.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

static void write_back(const struct lt_table *t, const char *bytes, size_t n)
{
    struct buf again = {0};
    lt_table_head(&again, t->gpu, t->version, t->attention);
    for (size_t i = 0; i < t->n; i++)
        lt_table_row(&again, &t->rows[i]);
    lt_table_end(&again, t->n);
    if (!again.failed && !memmem(bytes, n, "\n#", 2) && (again.n != n || memcmp(again.data, bytes, n) != 0))
        abort();
    buf_free(&again);
}
static void parse(const char *bytes, size_t n)
{
    struct lt_table t;
    struct err e = {0};
    if (lt_table_parse(bytes, n, &t, &e) != 0) {
        fuzz_expect_message(&e);
        return;
    }
    write_back(&t, bytes, n);
    lt_table_free(&t);
}

static uint32_t hash(uint32_t h, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 16777619u;
    return h;
}
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    const char *at = (const char *)bytes, *all = at + n;
    struct buf text = {0};
    size_t head = 0;
    parse(at, n);
    while (at < all) {
        const char *end = memchr(at, '\n', (size_t)(all - at));
        size_t length = (size_t)((end ? end : all) - at);
        const char *stored = length > 10 && at[length - 9] == '#' ? at + length - 10 : NULL;
        length = stored ? (size_t)(stored - at) : length;
        uint32_t h = hash(hash(2166136261u, text.data ? text.data : "", head), at, length);
        buf_add(&text, at, length);
        if (length == 0 || at[0] != '#' || head == 0)
            buf_printf(&text, " #%08x", h);
        head = head ? head : text.n;
        buf_puts(&text, "\n");
        at = end ? end + 1 : all;
    }
    parse(text.data ? text.data : "", text.n);
    buf_free(&text);
    return 0;
}
