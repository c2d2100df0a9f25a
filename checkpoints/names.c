#include "checkpoints/names.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "trainer/base/mem.h"

static uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t p = (__uint128_t)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t hash(uint64_t seed, const char *name, size_t n)
{
    uint64_t h = seed ^ n;
    for (; n > 0;) {
        uint64_t word = 0;
        size_t k = n < 8 ? n : 8;
        memcpy(&word, name, k);
        h = fold(h ^ word ^ 0x9e3779b97f4a7c15u, seed | 1u) + h * 0xd6e8feb86659fd93u;
        name += k;
        n -= k;
    }
    return fold(h ^ seed, 0xa0761d6478bd642fu);
}

static struct name_slot *slot_of(const struct names *s, const char *name, size_t n)
{
    size_t i = (size_t)hash(s->seed, name, n) & (s->cap - 1);
    while (s->slots[i].name != NULL && (s->slots[i].n != n || memcmp(s->slots[i].name, name, n) != 0))
        i = (i + 1) & (s->cap - 1);
    return &s->slots[i];
}

static int grow(struct names *s, struct err *e)
{
    struct names bigger = {.cap = s->cap ? s->cap * 2 : 64, .n = s->n, .seed = s->seed};
    if (s->cap == 0 && getrandom(&bigger.seed, sizeof bigger.seed, GRND_NONBLOCK) != (ssize_t)sizeof bigger.seed)
        bigger.seed = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15u;
    bigger.slots = mem_alloc(bigger.cap, sizeof *bigger.slots);
    if (bigger.slots == NULL)
        return mem_fail(e, "an index of names", bigger.cap * sizeof *bigger.slots);
    for (size_t i = 0; i < s->cap; i++)
        if (s->slots[i].name != NULL)
            *slot_of(&bigger, s->slots[i].name, s->slots[i].n) = s->slots[i];
    mem_free(s->slots);
    *s = bigger;
    return 0;
}

int names_add(struct names *s, const char *name, size_t n, size_t value, bool *already, struct err *e)
{
    if (s->n * 2 >= s->cap)
        TRY(grow(s, e));
    struct name_slot *slot = slot_of(s, name, n);
    *already = slot->name != NULL;
    if (!*already) {
        *slot = (struct name_slot){name, n, value};
        s->n++;
    }
    return 0;
}

bool names_find(const struct names *s, const char *name, size_t n, size_t *value)
{
    if (s->cap == 0)
        return false;
    const struct name_slot *slot = slot_of(s, name, n);
    if (slot->name == NULL)
        return false;
    *value = slot->value;
    return true;
}

void names_free(struct names *s)
{
    mem_free(s->slots);
    *s = (struct names){0};
}

const char *name_text(const char *name, size_t n, char text[NAME_TEXT])
{
    size_t k = n < 80 ? n : 80;
    for (size_t i = 0; i < k; i++)
        text[i] = name[i] >= 0x20 && name[i] < 0x7f ? name[i] : '?';
    strcpy(text + k, k < n ? "..." : "");
    return text;
}
