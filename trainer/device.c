#include "trainer/device.h"

#include <stdio.h>
#include <string.h>

#include "trainer/base/log.h"
#include "trainer/base/num.h"

static bool is_usable(const struct cuda_card *card) { return card->major >= 8; }

static void list_card(const struct cuda_card *card, struct buf *out)
{
    char has[32], all[32];
    buf_printf(out, "%d: %s, compute capability %d.%d, %s of %s free", card->index, card->name, card->major, card->minor,
               num_format_bytes(has, (uint64_t)card->free), num_format_bytes(all, (uint64_t)card->total));
}

static int not_there(const struct cuda_card *cards, int n, int index, struct err *e)
{
    struct buf list = {0};
    for (int i = 0; i < n; i++) {
        buf_puts(&list, i > 0 ? "; " : "");
        list_card(&cards[i], &list);
    }
    err_set(e, ERR_DEVICE, "compute.gpus: found %d, expected one of the cards of this machine: %.700s", index,
            list.n > 0 ? list.data : "none");
    buf_free(&list);
    return -1;
}

static const struct cuda_card *most_free(const struct cuda_card *cards, int n)
{
    const struct cuda_card *best = &cards[0];
    for (int i = 1; i < n; i++)
        if (is_usable(&cards[i]) != is_usable(best) ? is_usable(&cards[i]) : cards[i].free > best->free)
            best = &cards[i];
    return best;
}

static int check_usable(const struct cuda_card *card, struct err *e)
{
    if (is_usable(card))
        return 0;
    FAIL(e, ERR_DEVICE, "card %d, %s: compute capability %d.%d, expected 8.0 or higher. There is no BF16 below 8.0: a Tesla P40 (6.1) cannot",
         card->index, card->name, card->major, card->minor);
}

static int choose_named(const struct cuda_card *cards, int n, uint32_t gpus, const struct cuda_card **out, int *n_out, struct err *e)
{
    for (int index = 0; index < DEVICE_MAX_CARDS; index++) {
        const struct cuda_card *named = NULL;
        if (!(gpus >> index & 1))
            continue;
        for (int i = 0; i < n; i++)
            if (cards[i].index == index)
                named = &cards[i];
        if (named == NULL)
            return not_there(cards, n, index, e);
        TRY(check_usable(named, e));
        out[(*n_out)++] = named;
    }
    return 0;
}

int device_choose(const struct cuda_card *cards, int n, uint32_t gpus, const struct cuda_card **out, int *n_out, struct err *e)
{
    *n_out = 0;
    if (n < 1)
        FAIL(e, ERR_DEVICE, "CUDA: found no card, expected at least one that the driver knows");
    if (gpus != 0)
        return choose_named(cards, n, gpus, out, n_out, e);
    const struct cuda_card *best = most_free(cards, n);
    TRY(check_usable(best, e));
    out[(*n_out)++] = best;
    for (int i = 0; i < n && *n_out < DEVICE_MAX_CARDS; i++)
        if (&cards[i] != best && is_usable(&cards[i]) && strcmp(cards[i].name, best->name) == 0)
            out[(*n_out)++] = &cards[i];
    return 0;
}

static int list_cards(const struct cuda_plugin **plugin, struct cuda_card cards[DEVICE_MAX_CARDS], int *n, struct err *e)
{
    *n = 0;
    TRY(plugin_cuda(plugin, e));
    return (*plugin)->cards(cards, DEVICE_MAX_CARDS, n, e);
}

bool device_is_cpu(const struct config *c)
{
    return c->compute.device == DEVICE_CPU || (c->compute.device == DEVICE_AUTO && !plugin_card_present());
}

static int unusable(const struct config *c, const struct err *why, struct err *e)
{
    const char *text = strncmp(why->text, "cuda: ", 6) == 0 ? why->text + 6 : why->text;
    size_t n = strlen(text);
    FAIL(e, why->code, "compute.device: %s: %.780s%s To run on the CPU%s set compute.device: cpu (lorat generate: --device cpu)",
         c->compute.device == DEVICE_AUTO ? "auto, and there are signs of an NVIDIA card" : "cuda", text,
         n > 0 && strchr(".?!", text[n - 1]) != NULL ? "" : ".", c->compute.device == DEVICE_AUTO ? " all the same" : "");
}

static bool is_chosen(const struct cuda_card *card, const struct cuda_card *const *chosen, int n)
{
    for (int i = 0; i < n; i++)
        if (chosen[i] == card)
            return true;
    return false;
}

int device_cards(const struct config *c, struct cuda_card out[DEVICE_MAX_CARDS], int *n, struct cuda_card *left_out, struct err *e)
{
    const struct cuda_plugin *plugin;
    struct cuda_card cards[DEVICE_MAX_CARDS] = {0};
    const struct cuda_card *chosen[DEVICE_MAX_CARDS];
    struct err why = {0};
    int all, rc = list_cards(&plugin, cards, &all, &why);
    if (rc == 0)
        rc = device_choose(cards, all, c->compute.gpus, chosen, n, &why);
    if (rc != 0)
        return unusable(c, &why, e);
    for (int i = 0; i < *n; i++)
        out[i] = *chosen[i];
    *left_out = (struct cuda_card){0};
    for (int i = 0; i < all && c->compute.gpus == 0 && left_out->total == 0; i++)
        if (is_usable(&cards[i]) && !is_chosen(&cards[i], chosen, *n))
            *left_out = cards[i];
    return 0;
}

static int open_card(const struct config *c, struct ops **out, struct cuda_card *card, struct err *e)
{
    const struct cuda_plugin *plugin;
    struct cuda_card cards[DEVICE_MAX_CARDS] = {0};
    const struct cuda_card *chosen[DEVICE_MAX_CARDS];
    int n, n_chosen;
    TRY(list_cards(&plugin, cards, &n, e));
    TRY(device_choose(cards, n, c->compute.gpus, chosen, &n_chosen, e));
    if (n > 1 && c->compute.gpus == 0) {
        char has[32];
        log_note("card     %d of %d cards, %s: the one with the most free memory, %s (compute.gpus chooses)", chosen[0]->index, n,
                 chosen[0]->name, num_format_bytes(has, (uint64_t)chosen[0]->free));
    }
    *card = *chosen[0];
    return plugin->open(card->index, c->compute.precision == PRECISION_F32 ? DT_F32 : DT_BF16, out, e);
}

static int open_cpu(const struct config *c, struct ops **out, struct err *e)
{
    bool half = c->compute.precision == PRECISION_BF16 || (c->compute.precision == PRECISION_AUTO && ops_cpu_has_bf16());
    return ops_cpu_open(half ? DT_BF16 : DT_F32, c->compute.threads, out, e);
}

int device_open(const struct config *c, struct ops **out, struct cuda_card *card, struct err *e)
{
    struct cuda_card ignored;
    struct err why = {0};
    card = card != NULL ? card : &ignored;
    *card = (struct cuda_card){0};
    if (device_is_cpu(c))
        return open_cpu(c, out, e);
    if (open_card(c, out, card, &why) == 0)
        return 0;
    *out = NULL;
    return unusable(c, &why, e);
}

void device_libraries(const struct ops *o, char *out, size_t size)
{
    const struct cuda_plugin *plugin;
    struct err e;
    if (strcmp(o->name, "cpu") != 0 && plugin_cuda(&plugin, &e) == 0)
        plugin->versions(out, size);
    else {
        char products[64];
        ops_cpu_versions(products, sizeof products);
        snprintf(out, size, "%s, %s%s", products, strstr(__VERSION__, "lang") != NULL ? "" : "gcc ", __VERSION__);
    }
}

void device_describe(struct buf *out)
{
    const struct cuda_plugin *plugin;
    struct cuda_card cards[DEVICE_MAX_CARDS] = {0};
    struct err e = {0};
    char versions[256] = "";
    int n;
    if (plugin_cuda(&plugin, &e) != 0) {
        buf_printf(out, "cuda: %s\n", e.text);
        return;
    }
    plugin->versions(versions, sizeof versions);
    buf_printf(out, "cuda: %s%s\n", versions, plugin->simulated ? " (simulated: runs on the CPU)" : "");
    if (plugin->cards(cards, DEVICE_MAX_CARDS, &n, &e) != 0 || n == 0) {
        buf_printf(out, "cards: none (%s)\n", e.text[0] != '\0' ? e.text : "the driver knows none");
        return;
    }
    for (int i = 0; i < n; i++) {
        buf_puts(out, "card ");
        list_card(&cards[i], out);
        buf_puts(out, is_usable(&cards[i]) ? "\n" : " (no BF16 below 8.0: cannot be used)\n");
    }
}
