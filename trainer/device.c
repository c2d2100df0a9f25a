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

int device_choose(const struct cuda_card *cards, int n, uint32_t gpus, const struct cuda_card **out, struct err *e)
{
    *out = NULL;
    if (n < 1)
        FAIL(e, ERR_DEVICE, "CUDA: found no card, expected at least one that the driver knows");
    for (int index = 0; index < DEVICE_MAX_CARDS; index++) {
        const struct cuda_card *named = NULL;
        if (!(gpus >> index & 1))
            continue;
        for (int i = 0; i < n; i++)
            if (cards[i].index == index)
                named = &cards[i];
        if (named == NULL)
            return not_there(cards, n, index, e);
        if (*out != NULL)
            FAIL(e, ERR_DEVICE,
                 "compute.gpus: found several cards, expected one: a second card needs a second rank, and this build trains with "
                 "one. "
                 "Name one card, as in compute.gpus: [%d]",
                 (*out)->index);
        *out = named;
    }
    if (*out == NULL)
        *out = most_free(cards, n);
    if (!is_usable(*out))
        FAIL(
            e, ERR_DEVICE,
            "card %d, %s: compute capability %d.%d, expected 8.0 or higher. There is no BF16 below 8.0: a Tesla P40 (6.1) cannot",
            (*out)->index, (*out)->name, (*out)->major, (*out)->minor);
    return 0;
}

static int list_cards(const struct cuda_plugin **plugin, struct cuda_card cards[DEVICE_MAX_CARDS], int *n, struct err *e)
{
    *n = 0;
    TRY(plugin_cuda(plugin, e));
    return (*plugin)->cards(cards, DEVICE_MAX_CARDS, n, e);
}

static int open_card(const struct config *c, struct ops **out, struct cuda_card *card, struct err *e)
{
    const struct cuda_plugin *plugin;
    struct cuda_card cards[DEVICE_MAX_CARDS] = {0};
    const struct cuda_card *chosen;
    int n;
    TRY(list_cards(&plugin, cards, &n, e));
    TRY(device_choose(cards, n, c->compute.gpus, &chosen, e));
    if (n > 1 && c->compute.gpus == 0) {
        char has[32];
        log_note("card     %d of %d cards, %s: the one with the most free memory, %s (compute.gpus chooses)", chosen->index, n,
                 chosen->name, num_format_bytes(has, (uint64_t)chosen->free));
    }
    *card = *chosen;
    return plugin->open(chosen->index, c->compute.precision == PRECISION_F32 ? DT_F32 : DT_BF16, out, e);
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
    if (c->compute.device == DEVICE_CPU || (c->compute.device == DEVICE_AUTO && !plugin_card_present()))
        return open_cpu(c, out, e);
    if (open_card(c, out, card, &why) == 0)
        return 0;
    *out = NULL;
    FAIL(e, why.code, "compute.device: %s: %.780s. To run on the CPU%s set compute.device: cpu (lorat generate: --device cpu)",
         c->compute.device == DEVICE_AUTO ? "auto, and an NVIDIA card is present" : "cuda", why.text,
         c->compute.device == DEVICE_AUTO ? " all the same" : "");
}

void device_libraries(const struct ops *o, char *out, size_t size)
{
    const struct cuda_plugin *plugin;
    struct err e;
    if (strcmp(o->name, "cpu") != 0 && plugin_cuda(&plugin, &e) == 0)
        plugin->versions(out, size);
    else
        snprintf(out, size, "%s%s", strstr(__VERSION__, "lang") != NULL ? "" : "gcc ", __VERSION__);
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
