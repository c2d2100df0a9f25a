#include "trainer/base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/num.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UNDER_ASAN 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#endif
#ifdef UNDER_ASAN
/* An absurd size from a damaged file is answered with NULL, as without the sanitizer, and not with an abort. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }
#endif

static _Atomic int64_t n_allocations, fail_at;

static int told_to_fail(void)
{
    int64_t n = atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed) + 1;
    return n == atomic_load_explicit(&fail_at, memory_order_relaxed);
}

/* At least one byte: nothing asked for is not a failure, NULL always means out of memory. */
static int bytes_of(size_t count, size_t size, size_t *bytes)
{
    if (__builtin_mul_overflow(count, size, bytes) || *bytes > PTRDIFF_MAX)
        return -1;
    if (*bytes == 0)
        *bytes = 1;
    return 0;
}

void *mem_alloc(size_t count, size_t size)
{
    size_t bytes;
    return told_to_fail() || bytes_of(count, size, &bytes) != 0 ? NULL : calloc(1, bytes);
}

void *mem_realloc(void *p, size_t count, size_t size)
{
    size_t bytes;
    return told_to_fail() || bytes_of(count, size, &bytes) != 0 ? NULL : realloc(p, bytes);
}

char *mem_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *copy = mem_alloc(n, 1);
    if (copy != NULL)
        memcpy(copy, s, n);
    return copy;
}

void mem_free(void *p) { free(p); }

int mem_fail(struct err *e, const char *what, size_t bytes)
{
    char text[32];
    return err_set(e, ERR_DEVICE, "%s: out of memory, %s asked for. Free some host memory and run again", what,
                   num_format_bytes(text, bytes));
}

void mem_fail_at(int64_t n)
{
    atomic_store(&n_allocations, 0);
    atomic_store(&fail_at, n);
}

int64_t mem_count(void) { return atomic_load(&n_allocations); }

static struct arena_part *part_of(struct arena *a, const char *name)
{
    for (int i = 0; i < a->n_parts; i++)
        if (a->parts[i].name == name || strcmp(a->parts[i].name, name) == 0)
            return &a->parts[i];
    if (a->n_parts == ARENA_MAX_PARTS)
        return NULL;
    struct arena_part *part = &a->parts[a->n_parts++];
    *part = (struct arena_part){.name = name};
    return part;
}

void *arena_take(struct arena *a, const char *name, int64_t count, size_t size)
{
    uint64_t bytes, end;
    struct arena_part *part = part_of(a, name);
    if (part == NULL || count < 0 || !num_mul((uint64_t)count, size, &bytes) || !num_add(bytes, ARENA_ALIGN - 1, &end)) {
        a->overflow = 1;
        return NULL;
    }
    bytes = end / ARENA_ALIGN * ARENA_ALIGN;
    if (!num_add(a->used, bytes, &end) || end > INT64_MAX || (a->base != NULL && end > a->size)) {
        a->overflow = 1;
        return NULL;
    }
    void *at = a->base == NULL ? NULL : a->base + a->used;
    a->used = end;
    part->bytes += bytes;
    return at;
}

int arena_check(const struct arena *a, struct err *e)
{
    if (a->overflow)
        FAIL(e, ERR_INTERNAL, "arena %s: a part did not fit behind %zu of %zu bytes (%d parts), expected the counted layout",
             a->name, a->used, a->size, a->n_parts);
    if ((uintptr_t)a->base % ARENA_ALIGN != 0)
        FAIL(e, ERR_INTERNAL, "arena %s: its memory starts at %p, expected a multiple of %d", a->name, (void *)a->base,
             ARENA_ALIGN);
    return 0;
}

void arena_place(struct arena *a, void *base)
{
    a->base = base;
    a->size = a->used;
    a->used = 0;
    a->n_parts = 0;
}
