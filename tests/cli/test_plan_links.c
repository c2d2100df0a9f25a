/* The model of links behind `lorat plan` (plan_links.h): hand arithmetic, limits, monotonicity; what theory says of two RTX 3090s and
 * of copies from host memory; and published figures of another program on two RTX 3090s, with the bounds that the model must keep.
 * docs/nvlink.md tabulates the same. And what it goes by: the table of cards, and the ways of described machines. */
#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/machine.h"
#include "trainer/plan.h"

/* 3 passes of 96 tokens, 5 blocks; a block takes 1 s forward and 2 s back, the head 0.5 s. */
static struct plan_work by_hand(void)
{
    return (struct plan_work){.ranks = 2, .passes = 3, .tokens = 96, .blocks = 5, .forward = 5, .backward = 10, .head = 0.5,
                              .fetch_bytes = 30, .sum_bytes = 8, .flop_s = 100, .tokens_half = 4};
}

static void test_by_hand(void)
{
    struct plan_work w = by_hand();
    CHECK_NEAR(plan_link_pass_s(&w, w.forward, 30), 5, 1e-12);             /* a fetch of 1 s: just hidden */
    CHECK_NEAR(plan_link_pass_s(&w, w.forward, 20), 2 + 3 * 1.5, 1e-12);   /* three fetches of 1.5 s behind two blocks */
    CHECK_NEAR(plan_link_pass_s(&w, w.backward, 20), 10, 1e-12);
    CHECK_NEAR(plan_link_sum_s(&w, 4), 2, 1e-12);                          /* 2 (2-1)/2 8 bytes */
    CHECK_NEAR(plan_link_step_s(&w, 20, 4), 3 * (6.5 + 0.5 + 10) + 2, 1e-12);
    CHECK_NEAR(plan_link_tokens_s(&w, 20, 4), 2 * 3 * 96 / 53.0, 1e-12);
    CHECK_NEAR(plan_link_hidden(&w, 30), 96, 1e-12);
    CHECK_NEAR(plan_link_hidden(&w, 20), 146, 1e-12);                      /* 1.5 s of 100 FLOP/s, 1 FLOP a token and block, less 4 */
    w.ranks = 4;
    CHECK_NEAR(plan_link_sum_s(&w, 4), 3, 1e-12);
}

static void test_limits(void)
{
    struct plan_work w = by_hand();
    double alone = 3 * (5 + 0.5 + 10);
    CHECK_NEAR(plan_link_step_s(&w, INFINITY, INFINITY), alone, 1e-12);
    CHECK(plan_link_hidden(&w, INFINITY) == 0);
    w.ranks = 1; /* one rank has nobody to sum with */
    CHECK_NEAR(plan_link_step_s(&w, INFINITY, 1), alone, 1e-12);
    w.fetch_bytes = 0; /* resident */
    CHECK_NEAR(plan_link_step_s(&w, 1, 1), alone, 1e-12);
    w = by_hand();
    w.blocks = 2; /* both stand, nothing is ever fetched */
    CHECK_NEAR(plan_link_pass_s(&w, w.forward, 1e-9), 5, 1e-12);
    CHECK(plan_link_hidden(&w, 1) == 0);
}

/* A faster link is never slower; a step is never less than computing nor than fetching; where fetches are hidden nothing is gained. */
static void test_monotone(void)
{
    struct plan_work w = by_hand();
    for (w.tokens = 1; w.tokens < 4000; w.tokens = w.tokens * 3 / 2 + 1) {
        double last = INFINITY, alone = plan_link_step_s(&w, INFINITY, INFINITY);
        for (double rate = 0.1; rate < 1e6; rate *= 1.3) {
            double step = plan_link_step_s(&w, rate, rate);
            CHECK(step <= last);
            CHECK(step >= alone);
            CHECK(step >= w.passes * 2 * (w.blocks - PLAN_SLOTS) * w.fetch_bytes / rate);
            bool hidden = w.tokens >= plan_link_hidden(&w, rate);
            CHECK(hidden == !(plan_link_step_s(&w, rate, INFINITY) > alone * (1 + 1e-12)));
            last = step;
        }
    }
}

/* A model as facts.md tabulates it: parameters of blocks and head, adapter, layers, heads x head size, width. FLOP by docs/plan.md
 * with every block made again in whole, as other programs do. */
struct model_figures {
    double blocks, head, adapter, d_att;
    int32_t layers;
};
static const struct model_figures llama7b = {6.476e9, 0.131e9, 40.0e6, 4096, 32}, llama70b = {68.451e9, 1.051e9, 207e6, 8192, 80},
                                  qwen14b = {13.212e9, 0.778e9, 64.2e6, 5120, 40}, llama8b = {6.979e9, 0.525e9, 41.9e6, 4096, 32};

static struct plan_work work_of(const struct model_figures *m, int32_t row, int32_t tokens, double flop_s, double bytes_parameter)
{
    double attention = m->layers * m->d_att * row;
    struct plan_work w = {.ranks = 2, .passes = 1, .tokens = tokens, .blocks = m->layers, .head = 4 * m->head,
                          .forward = 2 * m->blocks + 2 * attention + 2 * m->adapter,
                          .backward = 4 * m->blocks + 7 * attention + 6 * m->adapter,
                          .fetch_bytes = bytes_parameter * m->blocks / m->layers, .sum_bytes = 4 * m->adapter, .flop_s = flop_s,
                          .tokens_half = 256};
    return w;
}

static struct plan_device card(const char *name)
{
    struct plan_device d = {0};
    struct err e = {0};
    CHECK_OK(plan_card(name, &d, &e), &e);
    return d;
}

/* "1.00-1.02x" for data parallel; for a sharded 14B "1.0x at 8,192 tokens a pass, up to 1.2x at 2,048, about 3x near 512". */
static void test_two_3090s(void)
{
    struct plan_device d = card("2x3090");
    static const struct {
        int32_t tokens;
        double low, high;
    } sharded[] = {{512, 2.7, 3.3}, {2048, 1.0, 1.2}, {8192, 1.0, 1.005}};
    CHECK_NEAR(d.ways.nvlink, 56.25e9, 1);
    for (size_t i = 0; i < sizeof sharded / sizeof *sharded; i++) {
        struct plan_work w = work_of(&qwen14b, 512, sharded[i].tokens, d.gemm_rate, 1); /* half of 2 bytes a parameter */
        double gain = plan_link_step_s(&w, d.ways.staged, d.ways.staged) / plan_link_step_s(&w, d.ways.nvlink, d.ways.nvlink);
        printf("sharded 14B, %d tokens a pass: %.3f\n", sharded[i].tokens, gain);
        CHECK(gain >= sharded[i].low && gain <= sharded[i].high);
    }
    for (int32_t tokens = 512; tokens <= 8192; tokens *= 2) {
        struct plan_work w = work_of(&llama8b, 512, tokens, d.gemm_rate, 0);
        double gain = plan_link_step_s(&w, d.ways.staged, d.ways.staged) / plan_link_step_s(&w, d.ways.nvlink, d.ways.nvlink);
        printf("data parallel 8B, %d tokens a step: %.4f\n", tokens, gain);
        CHECK(gain >= 1 && gain <= (tokens >= 2048 ? 1.02 : 1.05)); /* a step of one pass: the sum weighs most */
    }
}

/* "about 2,400-2,800 tokens on a 3090 at x16, 14,400 on an H200 at Gen5 x16" is FLOP/s over bytes a second: products alone, 2 FLOP
 * for each parameter of 2 bytes. 71 and 60 TFLOP/s over 25 GB/s; 794 over 55. The plan's own rule, slower products of few tokens, takes
 * 256 off; its rate of a Gen5 slot is twice that of a Gen4 one. */
static void test_from_host(void)
{
    struct plan_device d = card("3090"), h = card("h200");
    struct plan_work w = {.ranks = 1, .passes = 1, .tokens = 1, .blocks = 32, .forward = 2 * 7e9, .backward = 4 * 7e9,
                          .fetch_bytes = 2 * 7e9 / 32, .flop_s = d.gemm_rate};
    CHECK_NEAR(plan_link_hidden(&w, d.ways.host), 2414, 1);
    w.flop_s = 71e12;
    CHECK_NEAR(plan_link_hidden(&w, d.ways.host), 2840, 1);
    w.tokens_half = 256;
    CHECK_NEAR(plan_link_hidden(&w, d.ways.host), 2840 - 256, 1);
    w.tokens_half = 0;
    w.flop_s = 794e12;
    CHECK_NEAR(plan_link_hidden(&w, 55e9), 14436, 1);
    CHECK_NEAR(plan_link_hidden(&w, h.ways.host), 14400, 0.11 * 14400);
}

/* What fsdp_qlora's authors measured on two RTX 3090s of 280 W without a bridge, "older motherboard and slow PCIe lanes": 1,024 rows of
 * 2,048 tokens (512 in one case), BF16 LoRA, in seconds (AnswerDotAI/fsdp_qlora, benchmarks_03_2024.md). */
enum { ROWS = 1024, WATTS_280 = 280, WATTS_350 = 350 };
static double step_of(double total_s, int batch) { return total_s / (ROWS / (2.0 * batch)); }

static void test_published(void)
{
    struct plan_device d = card("2x3090");

    /* Data parallel, 4 rows: 881 s. At 350 W and with nothing but products the model is faster, by no more than the power. */
    struct plan_work w = work_of(&llama7b, 2048, 4 * 2048, d.gemm_rate, 0);
    double ddp = step_of(881, 4), share = plan_link_step_s(&w, INFINITY, d.ways.staged) / ddp;
    CHECK_NEAR(2 * 4 * 2048 / ddp, 2380, 2);
    printf("7B, data parallel: %.2f s, model %.2f s, %.2f of it\n", ddp, share * ddp, share);
    CHECK(share <= 1 && share >= (double)WATTS_280 / WATTS_350);

    /* Sharded, 1 row: 679 tokens a second. With the link of a x16 slot the model says three times as much: that link was another. */
    w = work_of(&llama7b, 2048, 2048, d.gemm_rate, 1);
    double sharded = step_of(3090, 1);
    CHECK_NEAR(2 * 2048 / sharded, 679, 5);
    CHECK(plan_link_tokens_s(&w, d.ways.staged, d.ways.staged) > 3 * 679);

    /* The link's rate from the case with least work (1 row of 512: 2,597 s, all of it fetching), the card's from data parallel. Each of
     * the others then lies between the model, where every fetch overlaps, and fetching and computing one after the other. */
    double rate = 2 * 1.0 * llama7b.blocks / step_of(2597, 1);
    printf("the link: %.2f GB/s\n", rate / 1e9);
    CHECK(rate > 1e9 && rate < d.ways.staged);
    static const struct {
        int batch;
        double total_s;
    } cases[] = {{1, 3090}, {4, 1366}, {6, 1199}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        w = work_of(&llama7b, 2048, cases[i].batch * 2048, share * d.gemm_rate, 1);
        double seen = step_of(cases[i].total_s, cases[i].batch), least = plan_link_step_s(&w, rate, rate),
               most = plan_link_step_s(&w, INFINITY, INFINITY) + 2 * llama7b.blocks / rate;
        printf("7B, sharded, %d rows: %.2f s, model %.2f s, without overlap %.2f s\n", cases[i].batch, seen, least, most);
        CHECK(seen >= least && seen <= most);
    }

    /* 70B in 4 bits from host memory, 2 rows: 11,795 s. Computing alone, without unpacking the 4 bits, is the least; the most has each
     * half fetched from host memory and then by the other card, nothing overlapped. */
    w = work_of(&llama70b, 2048, 2 * 2048, share * d.gemm_rate, 0);
    double seen = step_of(11795, 2), least = plan_link_step_s(&w, INFINITY, INFINITY), half = 0.5 * llama70b.blocks / 2;
    double most = least + 2 * (half + half) / rate;
    CHECK_NEAR(2 * 2 * 2048 / seen, 178, 1);
    printf("70B, 4 bits, offloaded: %.1f s, computing alone %.1f s, without overlap %.1f s\n", seen, least, most);
    CHECK(seen >= least && seen <= most);
}

/* The driver's name of a card finds its row, a relative's does not; a card without a known rate has memory and no time. */
static void test_cards(void)
{
    static const struct {
        const char *on, *driver;
        double peak, gib;
    } cards[] = {{"3090", "NVIDIA GeForce RTX 3090", 71e12, 24},
                 {"4090", "NVIDIA GeForce RTX 4090, 8.9", 165e12, 24},
                 {"5080", "NVIDIA GeForce RTX 5080", 112e12, 16},
                 {"5090", "NVIDIA GeForce RTX 5090", 209.5e12, 32},
                 {"4500-ada", "NVIDIA RTX 4500 Ada Generation", 0, 24},
                 {"pro-4000", "NVIDIA RTX PRO 4000 Blackwell", 0, 24},
                 {"gb10", "NVIDIA GB10", 0, 119},
                 {"l40", "NVIDIA L40", 181e12, 48},
                 {"h100", "NVIDIA H100 80GB HBM3, 9.0", 989e12, 79},
                 {"h200", "NVIDIA H200", 989e12, 140}};
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        struct plan_device d = card(cards[i].on);
        struct plan_ways ways = plan_card_ways(cards[i].driver, 1);
        CHECK_NEAR(plan_card_peak(cards[i].driver), cards[i].peak, 1);
        CHECK_NEAR(d.gemm_rate, 0.85 * cards[i].peak, 1);
        CHECK_NEAR((double)d.total / (1 << 30), cards[i].gib, 1e-9);
        CHECK(ways.nvlink == d.ways.nvlink && ways.peer == d.ways.peer && ways.staged == d.ways.staged &&
              ways.host == d.ways.host);
        CHECK_NEAR(plan_card_rate(cards[i].driver), d.gemm_rate, 1);
        CHECK((ways.host > 0) == (strcmp(cards[i].on, "gb10") != 0));
    }
    /* A bridge joins two cards, switches join eight. */
    CHECK(card("2x3090").ways.nvlink > 0 && card("3x3090").ways.nvlink == 0 && card("8xh100").ways.nvlink > 0);
    CHECK(plan_card_ways("NVIDIA GeForce RTX 3090", 4).nvlink == 0);
    CHECK_INT(card("4x3090").cards, 4);
    CHECK_STR(card("4x3090").name, "4 x RTX 3090");
    static const char *const wrong[] = {"0x3090", "17x3090", "02x3090", "2xx3090", "2x", "x3090", "-2x3090", "rtx", "", "3090ti"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct plan_device d;
        struct err e = {0};
        CHECK_INT(plan_card(wrong[i], &d, &e), -1);
        CHECK_HAS(e.text, "unknown card");
    }
    static const struct {
        const char *said, *text;
        int cards;
    } spelled[] = {{"RTX3090", "RTX 3090", 1},
                   {"RTX 3090", "RTX 3090", 1},
                   {"1x3090", "RTX 3090", 1},
                   {"H100", "H100 80GB HBM3", 1},
                   {"2xRTX-3090", "2 x RTX 3090", 2},
                   {"2 X rtx 5090", "2 x RTX 5090", 2},
                   {"4500ada", "RTX 4500 Ada Generation", 1},
                   {"RTX PRO 4000 Blackwell", "RTX PRO 4000 Blackwell", 1},
                   {"NVIDIA GeForce RTX 4090", "RTX 4090", 1}};
    for (size_t i = 0; i < sizeof spelled / sizeof *spelled; i++) {
        CHECK_STR(card(spelled[i].said).name, spelled[i].text);
        CHECK_INT(card(spelled[i].said).cards, spelled[i].cards);
    }
    struct err near = {0};
    struct plan_device none;
    CHECK_INT(plan_card("2x RTX 4500 Adda", &none, &near), -1);
    CHECK_HAS(near.text, "Did you mean 4500-ada?");
    static const char *const others[] = {"NVIDIA H100 PCIe", "NVIDIA H100 NVL", "NVIDIA RTX PRO 4000 Blackwell SFF Edition", "NVIDIA L40S",
                                         "NVIDIA GeForce RTX 3090 Ti"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        CHECK(plan_card_peak(others[i]) == 0);
        CHECK(plan_card_ways(others[i], 1).host == 0);
    }
}

static void read_machine(const char *name, struct machine *m)
{
    char path[256], *text;
    size_t n;
    struct err e = {0};
    snprintf(path, sizeof path, "tests/machines/%s.json", name);
    CHECK_OK(io_read_file(path, ERR_DATA, 1 << 20, &text, &n, &e), &e);
    CHECK_OK(machine_parse(text, n, path, m, &e), &e);
    mem_free(text);
}

static struct plan_ways ways_of_cards(const char *machine, const char *card)
{
    static struct machine m;
    struct plan_ways w = plan_card_ways(card, 2);
    read_machine(machine, &m);
    plan_ways_machine(&m, (int[]){0, 1}, 2, &w);
    return w;
}

static struct plan_ways ways_of(const char *machine) { return ways_of_cards(machine, "NVIDIA GeForce RTX 3090"); }

/* Four cards, 0 and 1 bridged and 2 and 3: among four the slowest pair counts, among the bridged two the bridge. others: what the
 * driver says of peer access between the pairs. */
static struct plan_ways ways_of_four(int64_t others, int n)
{
    static struct machine m;
    struct plan_ways w = plan_card_ways("NVIDIA GeForce RTX 3090", 2);
    read_machine("bridged", &m);
    m.n_cards = 4;
    m.n_pairs = 0;
    for (int i = 2; i < 4; i++) {
        m.card[i] = m.card[i - 2];
        m.card[i].index = i;
        m.card[i].pci[9] = '8'; /* 00000000:01:00.0 and :21: become :82: and :83: */
        m.card[i].pci[10] = (char)('0' + i);
    }
    for (int i = 0; i < m.card[2].n_links; i++) {
        snprintf(m.card[2].link[i].remote, sizeof m.card[2].link[i].remote, "%s", m.card[3].pci);
        snprintf(m.card[3].link[i].remote, sizeof m.card[3].link[i].remote, "%s", m.card[2].pci);
    }
    struct link_pair usual = m.pair[0];
    for (int a = 0; a < 4; a++)
        for (int b = a + 1; b < 4; b++) {
            struct link_pair *p = &m.pair[m.n_pairs++];
            *p = usual;
            p->a = a;
            p->b = b;
            if (a / 2 != b / 2)
                p->peer = p->cuda_peer = others;
        }
    plan_ways_machine(&m, (int[]){0, 1, 2, 3}, n, &w);
    return w;
}

/* A machine's two cards have the ways that doctor sees, at the rates of their slots. */
static void test_machines(void)
{
    struct plan_ways usual = plan_card_ways("NVIDIA GeForce RTX 3090", 2), w = ways_of("bridged");
    CHECK(w.nvlink == usual.nvlink && w.peer == 0 && w.staged == usual.staged && w.host == usual.host && w.own == WAY_NVLINK);
    w = ways_of("unbridged");
    CHECK(w.nvlink == 0 && w.peer == 0 && w.staged == usual.staged && w.own == WAY_HOST);
    w = ways_of("peer_pcie");
    CHECK(w.nvlink == 0 && w.peer == usual.peer && w.staged == usual.staged && w.own == WAY_PEER);
    w = ways_of("half_bridged");
    CHECK(w.nvlink > 0 && w.nvlink < usual.nvlink);
    w = ways_of("bridged_elsewhere");
    CHECK(w.nvlink == 0);
    w = ways_of_cards("switched", "NVIDIA H100 80GB HBM3");
    CHECK(w.nvlink == plan_card_ways("NVIDIA H100 80GB HBM3", 8).nvlink && w.nvlink > 0 && w.own == WAY_NVLINK);
    w = ways_of("slot_x4"); /* the narrower of the two sets the pace */
    CHECK_NEAR(w.staged, usual.staged / 4, 1);
    CHECK_NEAR(w.host, usual.host / 4, 1);
    w = ways_of_four(1, 4);
    CHECK(w.nvlink == 0 && w.peer == usual.peer && w.own == WAY_PEER);
    w = ways_of_four(0, 4);
    CHECK(w.nvlink == 0 && w.peer == 0 && w.own == WAY_HOST);
    w = ways_of_four(0, 2);
    CHECK(w.nvlink == usual.nvlink && w.own == WAY_NVLINK);
    CHECK_NEAR(plan_ways_pcie(3, 16).host, usual.host / 2, 1);
    CHECK_NEAR(plan_ways_pcie(5, 8).host, usual.host, 1);
}

int main(void)
{
    test_machines();
    test_by_hand();
    test_limits();
    test_monotone();
    test_two_3090s();
    test_from_host();
    test_published();
    test_cards();
    return check_done();
}
