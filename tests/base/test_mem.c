#include "trainer/base/mem.h"

#include <pthread.h>
#include <stdint.h>

#include "tests/check.h"

static void test_fail_at(void)
{
    struct err e = {0};
    mem_fail_at(3);
    void *a = mem_alloc(1, 10), *b = mem_strdup("two"), *c = mem_alloc(1, 1), *d = mem_realloc(a, 2, 10);
    CHECK(a != NULL && b != NULL && c == NULL && d != NULL);
    CHECK_INT(mem_count(), 4);
    CHECK_STR(b, "two");
    mem_fail_at(1);
    CHECK(mem_realloc(d, 100, 1) == NULL); /* d stays */
    mem_fail_at(0);
    mem_free(b);
    mem_free(d);
    mem_free(NULL);

    CHECK(mem_alloc(SIZE_MAX / 2, 3) == NULL);
    CHECK(mem_realloc(NULL, SIZE_MAX / 2, 3) == NULL);
    char *nothing = mem_alloc(0, 8), *zeroed = mem_alloc(100, 1);
    CHECK(nothing != NULL);
    for (int i = 0; i < 100; i++)
        CHECK_INT(zeroed[i], 0);
    mem_free(nothing);
    mem_free(zeroed);
    CHECK_INT(mem_fail(&e, "tokens", 3u << 20), -1);
    CHECK_HAS(e.text, "tokens");
    CHECK_HAS(e.text, "3.0 MiB");
    CHECK_INT(e.code, ERR_DEVICE); /* docs/exit-codes.md */
}

static void *allocate(void *arg)
{
    for (int i = 0; i < 10000; i++)
        mem_free(mem_alloc(1, 1));
    return arg;
}

static void test_threads(void)
{
    pthread_t threads[4];
    mem_fail_at(0);
    for (int i = 0; i < 4; i++)
        CHECK_INT(pthread_create(&threads[i], NULL, allocate, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(mem_count(), 40000);
}

struct layout {
    char *q, *k, *empty, *q2;
};
static void lay_out(struct arena *a, struct layout *l)
{
    l->q = arena_take(a, "q", 100, 4);
    l->k = arena_take(a, "k", 1, 1);
    l->empty = arena_take(a, "empty", 0, 4);
    l->q2 = arena_take(a, "q", 64, 4);
}

static void test_arena(void)
{
    struct arena a = {.name = "test"}, counted;
    struct layout l;
    struct err e = {0};
    lay_out(&a, &l);
    CHECK(l.q == NULL && l.k == NULL && l.q2 == NULL);
    CHECK_INT(a.used, 512 + 256 + 256);
    CHECK_INT(a.n_parts, 3);
    CHECK_STR(a.parts[0].name, "q");
    CHECK_INT(a.parts[0].bytes, 512 + 256);
    counted = a;

    char *memory = aligned_alloc(ARENA_ALIGN, a.used);
    arena_place(&a, memory);
    lay_out(&a, &l);
    CHECK_OK(arena_check(&a, &e), &e);
    CHECK(l.q == memory && l.k == memory + 512 && l.q2 == memory + 768);
    CHECK_INT(a.used, counted.used);
    CHECK_INT(a.size, counted.used);
    CHECK_INT(a.n_parts, counted.n_parts);
    for (int i = 0; i < a.n_parts; i++)
        CHECK_INT(a.parts[i].bytes, counted.parts[i].bytes);

    CHECK(arena_take(&a, "more", 1, 1) == NULL);
    CHECK_INT(arena_check(&a, &e), -1);
    CHECK_HAS(e.text, "test");

    struct arena crooked = counted;
    arena_place(&crooked, memory + 16);
    CHECK_INT(arena_check(&crooked, &e), -1);
    free(memory);

    struct arena huge = {.name = "huge"};
    arena_take(&huge, "x", INT64_MAX, 4);
    CHECK_INT(arena_check(&huge, &e), -1);
    huge = (struct arena){.name = "sum"};
    arena_take(&huge, "x", INT64_MAX / 2, 1);
    CHECK_INT(arena_check(&huge, &e), 0);
    arena_take(&huge, "y", INT64_MAX / 2 + 1, 1);
    arena_take(&huge, "z", INT64_MAX / 2, 2);
    CHECK_INT(arena_check(&huge, &e), -1);
    huge = (struct arena){.name = "negative"};
    arena_take(&huge, "x", -1, 1);
    CHECK_INT(arena_check(&huge, &e), -1);

    static char names[ARENA_MAX_PARTS + 1][8];
    struct arena many = {.name = "many"};
    for (int i = 0; i <= ARENA_MAX_PARTS; i++) {
        CHECK_INT(arena_check(&many, &e), 0);
        snprintf(names[i], sizeof names[i], "p%d", i);
        arena_take(&many, names[i], 1, 1);
    }
    CHECK_INT(arena_check(&many, &e), -1);
}

int main(void)
{
    test_fail_at();
    test_threads();
    test_arena();
    return check_done();
}
