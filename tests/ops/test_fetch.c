/* test_fetch.c - the second queue: two slots are filled again and again while operations on the first read them. Each reader sees
 * the fetch that it waited for, no fetch overtakes the readers queued before it, and none waits for those queued after it. */
#include "tests/ops/harness.h"

enum { ROWS = 64, COLS = 96, LAYERS = 9 };

static void *block(struct ops *o, size_t bytes)
{
    struct err e = {0};
    void *p = NULL;
    CHECK_OK(o->alloc(o, bytes, &p, &e), &e);
    return p;
}

/* One walk over the layers as a model makes it: the next layer is asked for before this one is used. */
static void walk(struct ops *o, int from, int to, char *host, char *slots[FETCH_SLOTS], int held[FETCH_SLOTS], char *out,
                 size_t bytes)
{
    int step = to > from ? 1 : -1;
    for (int l = from; l != to + step; l += step) {
        for (int k = l; k == l || (k == l + step && k != to + step); k += step)
            if (held[k % 2] != k) {
                o->fetch(o, k % 2, slots[k % 2], host + (size_t)k * bytes, bytes);
                held[k % 2] = k;
            }
        o->fetch_wait(o, l % 2);
        o->copy_2d(o, out + (size_t)l * bytes, COLS, slots[l % 2], COLS, ROWS, COLS);
    }
}

int ops_test(struct ops *o)
{
    size_t bytes = ROWS * COLS * dtype_size(o->act);
    char *host, *slots[FETCH_SLOTS], *out = block(o, LAYERS * bytes), *back = malloc(LAYERS * bytes);
    int held[FETCH_SLOTS] = {-1, -1};
    struct err e = {0};
    CHECK_OK(o->alloc_host(o, LAYERS * bytes, (void **)&host, &e), &e);
    for (size_t i = 0; i < LAYERS * bytes; i++)
        host[i] = (char)(1 + (i / bytes * 7 + i % 53) % 63);
    for (int s = 0; s < FETCH_SLOTS; s++)
        slots[s] = block(o, bytes);
    for (int round = 0; round < 3; round++) {
        o->zero(o, out, LAYERS * bytes);
        walk(o, 0, LAYERS - 1, host, slots, held, out, bytes);
        if (round > 0) { /* forward, and back again over another output */
            o->zero(o, out, LAYERS * bytes);
            walk(o, LAYERS - 1, 0, host, slots, held, out, bytes);
        }
        CHECK_OK(o->download(o, back, out, LAYERS * bytes, &e), &e);
        CHECK(memcmp(back, host, LAYERS * bytes) == 0);
    }
    o->fetch_wait(o, 0);
    o->fetch_wait(o, 1);
    test_no_failure(o, "fetches");
    for (int s = 0; s < FETCH_SLOTS; s++)
        o->release(o, slots[s]);
    o->release(o, out);
    o->release_host(o, host);
    free(back);
    return check_failures;
}
