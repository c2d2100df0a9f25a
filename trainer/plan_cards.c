/* plan_cards.c - the one table of cards: what plans for a card that is not here, shares of a card's peak and rates of links go by. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/nearest.h"
#include "trainer/plan.h"

#define MIB (1 << 20)

/* TFLOP/s: dense BF16 with F32 sums, by the makers' tables; 0 where none of the maker's says it. nvlink: GB/s in each direction
 * of a bridge (3090: four links of 14.0625; H100 and H200: 900 both ways together); 0 = has none. joins: cards that NVLink joins,
 * two by a bridge, eight by switches. PCIe: generation of its 16 lanes; 0 = shares the host's memory. */
static const struct {
    const char *name, *text; /* of --on; as the driver ends its name */
    double gib, tflops, nvlink;
    int joins, pcie;
} CARDS[] = {
    {"3090", "RTX 3090", 24, 71, 56.25, 2, 4},
    {"4090", "RTX 4090", 24, 165, 0, 0, 4},
    {"5080", "RTX 5080", 16, 112, 0, 0, 5},
    {"5090", "RTX 5090", 32, 209.5, 0, 0, 5},
    {"4500-ada", "RTX 4500 Ada Generation", 24, 0, 0, 0, 4},
    {"pro-4000", "RTX PRO 4000 Blackwell", 24, 0, 0, 0, 5},
    {"gb10", "GB10", 119, 0, 0, 0, 0},
    {"l40", "L40", 48, 181, 0, 0, 4},
    {"h100", "H100 80GB HBM3", 79, 989, 450, 8, 5},
    {"h200", "H200", 140, 989, 450, 8, 5},
};
enum { N_CARDS = sizeof CARDS / sizeof *CARDS, BARE = 64 };

/* The maker's rates are reached to about this share by large products: docs/plan.md. */
#define LARGE_PRODUCTS 0.85

static struct plan_ways ways_of(int i, int cards)
{
    struct plan_ways w = plan_ways_pcie(CARDS[i].pcie, 16);
    w.nvlink = cards > CARDS[i].joins ? 0 : 1e9 * CARDS[i].nvlink;
    return w;
}

static int refuse(const char *name, const char *card, struct err *e)
{
    const char *known[N_CARDS];
    struct buf list = {0};
    for (int i = 0; i < N_CARDS; i++) {
        known[i] = CARDS[i].name;
        buf_printf(&list, "%s%s", i > 0 ? ", " : "", known[i]);
    }
    const char *near = nearest_word(card, known, N_CARDS);
    err_set(e, ERR_USAGE, "--on %s: unknown card, expected one of %s, with 2x to %dx before it for several%s%s%s", name,
            list.n > 0 ? list.data : "", CONFIG_MAX_CARDS, near ? ". Did you mean " : "", near ? near : "", near ? "?" : "");
    buf_free(&list);
    return -1;
}

/* "2x", "4 x", ... before a name: how long that is, and how many. */
static size_t several(const char *name, int *cards)
{
    char *end;
    long n = name[0] >= '1' && name[0] <= '9' ? strtol(name, &end, 10) : 0;
    if (n < 1 || n > CONFIG_MAX_CARDS)
        return 0;
    end += strspn(end, " ");
    if (*end != 'x' && *end != 'X')
        return 0;
    *cards = (int)n;
    return (size_t)(end - name) + 1;
}

/* Letters and digits alone, in lower case, without the maker's words before them. */
static void bare(const char *name, char out[BARE])
{
    static const char *const makers[] = {"nvidia", "geforce", "rtx"};
    size_t n = 0;
    for (; *name != '\0' && n + 1 < BARE; name++) {
        char c = *name >= 'A' && *name <= 'Z' ? (char)(*name - 'A' + 'a') : *name;
        if (c != ' ' && c != '-' && c != '_')
            out[n++] = c;
    }
    out[n] = '\0';
    for (size_t i = 0; i < sizeof makers / sizeof *makers; i++) {
        size_t word = strlen(makers[i]);
        if (strncmp(out, makers[i], word) == 0)
            memmove(out, out + word, strlen(out) - word + 1);
    }
}

static bool is_named(const char *word, const char *name)
{
    char text[BARE];
    bare(name, text);
    return strcmp(word, text) == 0;
}

int plan_card(const char *name, struct plan_device *out, struct err *e)
{
    int cards = 1;
    char card[BARE];
    bare(name + several(name, &cards), card);
    for (int i = 0; i < N_CARDS; i++) {
        if (!is_named(card, CARDS[i].name) && !is_named(card, CARDS[i].text))
            continue;
        *out = (struct plan_device){.cuda = true,
                                    .cards = cards,
                                    .total = (int64_t)(CARDS[i].gib * (1 << 30)),
                                    .reserve = 700 * (int64_t)MIB,
                                    .gemm_rate = LARGE_PRODUCTS * 1e12 * CARDS[i].tflops,
                                    .tokens_enough = 8192,
                                    .tokens_half = 256,
                                    .act = DT_BF16,
                                    .ways = ways_of(i, cards)};
        out->available = out->total / 100 * 98; /* the driver keeps some for itself */
        if (cards > 1)
            snprintf(out->name, sizeof out->name, "%d x %s", cards, CARDS[i].text);
        else
            snprintf(out->name, sizeof out->name, "%s", CARDS[i].text);
        return 0;
    }
    return refuse(name, card, e);
}

/* A Ti, a Laptop GPU or an L40S is another card than the one whose name begins its own. */
static int find(const char *device)
{
    for (int i = 0; i < N_CARDS; i++) {
        const char *at = strstr(device, CARDS[i].text);
        char next = at != NULL ? at[strlen(CARDS[i].text)] : 'x';
        if (next == '\0' || next == ',')
            return i;
    }
    return -1;
}

double plan_card_peak(const char *device)
{
    int i = find(device);
    return i < 0 ? 0 : 1e12 * CARDS[i].tflops;
}

double plan_card_rate(const char *device) { return LARGE_PRODUCTS * plan_card_peak(device); }

struct plan_ways plan_card_ways(const char *device, int cards)
{
    int i = find(device);
    return i < 0 ? (struct plan_ways){0} : ways_of(i, cards);
}
