#include "trainer/plan.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "trainer/base/num.h"
#include "trainer/frozen_stream.h"
#include "trainer/placement.h"

_Static_assert((int)PLAN_SLOTS == (int)FETCH_SLOTS, "the plan's blocks in flight are those of the fetch");

#define MIB (1 << 20)

/* A card: what was free before lorat came is available, and what the context took of it is the first part of the reserve. So
 * compute.memory_limit is on all that this process takes, as nvidia-smi shows it. */
static int plan_here_card(struct ops *o, const struct cuda_card *card, struct plan_device *out, struct err *e)
{
    int64_t free_now;
    *out = (struct plan_device){.cuda = true,
                                .cards = 1,
                                .tokens_enough = 8192,
                                .tokens_half = 256,
                                .act = o->act,
                                .gemm_rate = plan_card_rate(o->device),
                                .ways = plan_card_ways(o->device, 1)};
    TRY(o->memory(o, &free_now, &out->total, e));
    int64_t context = card->free > free_now ? card->free - free_now : 0;
    out->available = free_now + context;
    out->reserve = context + o->later_bytes;
    snprintf(out->holder, sizeof out->holder, "%s", card->holder);
    return 0;
}

static int plan_here_cpu(struct ops *o, const struct facts *f, struct plan_device *out, struct err *e)
{
    *out = (struct plan_device){.cards = 1, .reserve = 48 * (int64_t)MIB + 512 * (int64_t)f->v, .tokens_enough = 1024, .tokens_half = 32, .act = o->act};
    return o->memory(o, &out->available, &out->total, e);
}

int plan_here(struct ops *o, const struct cuda_card *card, const struct config *c, const struct facts *f, struct plan_device *out, struct err *e)
{
    TRY(o->unified ? plan_here_cpu(o, f, out, e) : plan_here_card(o, card, out, e));
    if (c->compute.memory_limit > 0 && c->compute.memory_limit < out->available)
        out->available = c->compute.memory_limit;
    snprintf(out->name, sizeof out->name, "%s", o->device);
    return 0;
}

const char *plan_recompute_name(enum cfg_recompute r)
{
    static const char *const names[] = {"auto", "none", "selective", "full"};
    return names[r];
}

double plan_flop(const struct facts *f, const struct lora *l, enum cfg_recompute r, double span)
{
    double blocks = (double)facts_n_blocks(f), head = (double)facts_n_head(f), adapters = (double)l->n_parameters;
    double attention = (double)f->l * f->h * f->q * span, ffn = (double)f->l * f->d * f->f;
    double none = 4 * (blocks + head) + 7 * attention + 6 * adapters;
    double again = (double)(f->l - 1) / f->l; /* the last block's working set still stands when its turn comes */
    if (r == RECOMPUTE_FULL)
        return none + again * (2 * blocks - 2 * ffn + 2 * attention + 2 * adapters);
    if (r == RECOMPUTE_SELECTIVE)
        return none + again * (4 * ffn + adapters);
    return none;
}

void plan_estimate(struct plan *p)
{
    p->tokens_s = p->work.flop_s > 0 ? plan_link_tokens_s(&p->work, p->fetch_rate, p->sum_rate) : 0;
}

/* What blocks and sums travel by. */
static void count_rates(const struct config *c, struct plan *p)
{
    const struct plan_ways *w = &p->device.ways;
    enum machine_way way = p->device.cards > 1 ? plan_ways_taken(w, c->compute.interconnect) : WAY_UNKNOWN;
    double between = plan_ways_rate(w, way);
    p->way = between > 0 ? way : WAY_UNKNOWN;
    p->sum_rate = between > 0 ? between : INFINITY;
    p->fetch_rate = INFINITY;
    if (p->shape.place.kind == FROZEN_SHARDED)
        p->fetch_rate = p->sum_rate;
    if (p->shape.place.kind == FROZEN_HOST && w->host > 0)
        p->fetch_rate = w->host;
}

static size_t plan_workspace(const struct ops *o, const struct ops_dims *d) { return 64 * (size_t)MIB; }

int32_t plan_head_chunk(const struct facts *f, enum dtype act, int32_t n)
{
    int64_t rows = (128 * (int64_t)MIB) / ((int64_t)f->v * (int64_t)dtype_size(act)) / BATCH_ROUND * BATCH_ROUND;
    rows = rows < BATCH_ROUND ? BATCH_ROUND : rows > 1024 ? 1024 : rows;
    return rows < n ? (int32_t)rows : n;
}

struct candidate {
    const struct config *c;
    const struct facts *f;
    const struct lora *l;
    struct ops *o;
    const struct plan_device *d;
    int64_t loader_bytes;
    struct frozen_place place;
};

/* What a step of p computes, fetches and sums. m: laid out. */
static void count_work(const struct candidate *k, const struct model *m, struct plan *p)
{
    const struct facts *f = k->f;
    double span = k->c->data.sequence_length;
    const struct frozen_stream *s = m->frozen.stream;
    int64_t senders = k->place.kind == FROZEN_SHARDED ? k->d->cards - 1 : 1;
    p->flop_token = plan_flop(f, k->l, p->recompute, span);
    p->flop_token_min = plan_flop(f, k->l, RECOMPUTE_NONE, span);
    p->work = (struct plan_work){
        .ranks = k->d->cards, .passes = p->accumulation, .tokens = p->shape.n, .blocks = f->l,
        .forward = 2 * (double)facts_n_blocks(f) + 2 * (double)f->l * f->h * f->q * span + 2 * (double)k->l->n_parameters,
        .head = 4 * (double)facts_n_head(f), .fetch_bytes = s != NULL ? (double)s->share_bytes * (double)senders : 0,
        .sum_bytes = (double)(k->l->count + TAIL_SUMMED) * sizeof(float), .flop_s = k->d->gemm_rate, .tokens_half = k->d->tokens_half};
    p->work.backward = p->flop_token - p->work.forward - p->work.head;
    count_rates(k->c, p);
    plan_estimate(p);
}

/* Count one variant into p. */
static int count(const struct candidate *k, int32_t micro_batch, enum cfg_recompute r, struct plan *p, struct err *e)
{
    struct ops other = {.act = k->d->act, .workspace_bytes = plan_workspace};
    struct model m;
    int64_t n = num_round_up((int64_t)micro_batch * k->c->data.sequence_length, BATCH_ROUND);
    if (n > INT32_MAX / 4)
        FAIL(e, ERR_CONFIG, "train.micro_batch x data.sequence_length: %lld tokens, expected at most %d", (long long)n, INT32_MAX / 4);
    p->device = *k->d;
    p->micro_batch = micro_batch;
    p->accumulation = k->c->train.batch / (micro_batch * k->d->cards);
    p->recompute = r;
    p->shape = (struct model_shape){.n = (int32_t)n, .sequence_length = k->c->data.sequence_length, .recompute = r,
                                    .dropout = k->c->lora.dropout > 0, .positions = k->c->data.sequence_length, .place = k->place};
    if (p->shape.positions < 2048)
        p->shape.positions = 2048 < k->f->context ? 2048 : (int32_t)k->f->context;
    if (p->shape.positions < k->c->data.sequence_length)
        p->shape.positions = k->c->data.sequence_length;
    p->shape.head_chunk = plan_head_chunk(k->f, k->d->act, p->shape.n);
    TRY(model_layout(&m, k->o != NULL ? k->o : &other, k->f, k->l, &p->shape, e));
    memcpy(p->arenas, m.arenas, sizeof p->arenas);
    count_work(k, &m, p);
    model_close(&m);
    p->loader_bytes = k->loader_bytes;
    p->parameters = k->l->n_parameters;
    p->total_bytes = k->d->reserve + (k->d->cuda ? 0 : k->loader_bytes);
    for (int i = 0; i < (k->d->cuda ? ARENAS_DEVICE : ARENAS); i++)
        p->total_bytes += (int64_t)p->arenas[i].used;
    return 0;
}

/* Between several cards something is left for what NCCL takes beside its allowance. */
static bool roomy(const struct plan *p)
{
    return p->device.cards == 1 || !p->device.cuda || p->device.available - p->total_bytes >= PLAN_SPARE_BYTES;
}

/* Does the step wait for blocks, and by how much is known? */
static bool fetches(const struct plan *p) { return p->work.flop_s > 0 && isfinite(p->fetch_rate); }

/* Of a step; to be compared among variants of one job and placement alone. The rates are a table's and the machine's own, nothing
 * that is measured: the same choice every time. */
static double cost(const struct plan *p)
{
    return fetches(p) ? plan_link_step_s(&p->work, p->fetch_rate, p->sum_rate)
                      : p->flop_token * (1 + (double)p->device.tokens_half / p->shape.n);
}

static bool better(const struct plan *a, const struct plan *b) { return roomy(a) != roomy(b) ? roomy(a) : cost(a) < cost(b); }

/* Would more tokens a pass still hide more of the fetches? */
static bool waits(const struct plan *p) { return fetches(p) && p->shape.n < plan_link_hidden(&p->work, p->fetch_rate); }

/* The longest sequence at which one row fits with full recomputation; 0 = none. */
static int32_t longest_fit(const struct candidate *k)
{
    struct config c = *k->c;
    struct candidate shorter = *k;
    struct err ignored;
    shorter.c = &c;
    for (c.data.sequence_length = k->c->data.sequence_length / 2; c.data.sequence_length >= 128; c.data.sequence_length /= 2) {
        struct plan p;
        if (count(&shorter, 1, RECOMPUTE_FULL, &p, &ignored) == 0 && p.total_bytes <= k->d->available)
            return c.data.sequence_length;
    }
    return 0;
}

static void advise(const struct candidate *k, const struct plan *p, struct buf *out)
{
    int32_t longest = longest_fit(k);
    if (k->c->compute.memory_limit > 0 && k->c->compute.memory_limit == k->d->available)
        buf_puts(out, "compute.memory_limit sets that: raise it, or lower data.sequence_length or train.micro_batch");
    else if (longest > 0)
        buf_printf(out, "Lower data.sequence_length (%d fits)%s", longest, p->micro_batch > 1 ? " or train.micro_batch" : "");
    else
        buf_puts(out, "Choose a smaller model or a device with more memory");
    if (k->place.kind == FROZEN_RESIDENT && k->d->cuda && k->d->cards == 1)
        buf_puts(out, "; model.placement: host keeps the blocks in host memory");
    if (k->d->holder[0] != '\0')
        buf_printf(out, "; %s holds memory of this card, ending it may be enough", k->d->holder);
}

static int refuse(const struct candidate *k, const struct plan *p, struct err *e)
{
    char need[32], have[32], w[32], t[32], a[32], rest[32];
    struct buf advice = {0};
    advise(k, p, &advice);
    err_set(e, ERR_DEVICE,
            "%s: the job needs %s, expected at most the %s that are available: frozen weights %s, trainable state %s, activations and scratch %s "
            "at micro_batch %d with recompute %s, %s %s. %.400s",
            k->d->name, num_format_bytes(need, (uint64_t)p->total_bytes), num_format_bytes(have, (uint64_t)k->d->available),
            num_format_bytes(w, p->arenas[0].used), num_format_bytes(t, p->arenas[1].used), num_format_bytes(a, p->arenas[2].used), p->micro_batch,
            plan_recompute_name(p->recompute), k->d->cuda ? "context and libraries" : "program and libraries",
            num_format_bytes(rest, (uint64_t)k->d->reserve), advice.n > 0 ? advice.data : "");
    buf_free(&advice);
    return -1;
}

/* The best variant of one placement that fits into best, the smallest of all into smallest. */
static int search(const struct candidate *k, struct plan *best, struct plan *smallest, bool *found, struct err *e)
{
    const struct config *c = k->c;
    const struct plan_device *d = k->d;
    bool fixed = c->train.micro_batch > 0, any = false;
    *found = false;
    for (enum cfg_recompute r = RECOMPUTE_NONE; r <= RECOMPUTE_FULL; r++) {
        if (c->compute.recompute != RECOMPUTE_AUTO && c->compute.recompute != r)
            continue;
        bool more = false;
        for (int32_t mb = 1; mb <= c->train.batch; mb++) {
            struct plan p = {0};
            if (fixed ? mb != c->train.micro_batch : c->train.batch % (mb * d->cards) != 0)
                continue;
            if (!fixed && mb > 1 && !more && (int64_t)mb * c->data.sequence_length > d->tokens_enough)
                break;
            TRY(count(k, mb, r, &p, e));
            more = waits(&p);
            if (!any || p.total_bytes < smallest->total_bytes)
                *smallest = p;
            any = true;
            if (p.total_bytes <= d->available && (!*found || better(&p, best))) {
                *best = p;
                *found = true;
            }
        }
    }
    if (!any)
        FAIL(e, ERR_INTERNAL, "train.micro_batch: none divides the %d rows of %d ranks", c->train.batch, d->cards);
    return 0;
}

/* Where the base lies; sharded although nobody asked for it: with the numbers that left no choice. */
static void say_base(struct plan *p, const struct plan *whole)
{
    char need[32], have[32];
    placement_words(&p->shape.place, p->device.cards, p->base, sizeof p->base);
    size_t n = strlen(p->base);
    if (whole != NULL)
        snprintf(p->base + n, sizeof p->base - n, " (whole, each would need %s of %s)", num_format_bytes(need, (uint64_t)whole->total_bytes),
                 num_format_bytes(have, (uint64_t)p->device.available));
}

/* The largest number of ranks that the rows divide into, below the one that they do not. */
static int fewer_ranks(int batch, int ranks)
{
    while (batch % ranks != 0)
        ranks--;
    return ranks;
}

int plan_make(const struct config *c, const struct facts *f, const struct lora *l, struct ops *o, const struct plan_device *d,
              int64_t loader_bytes, struct plan *out, struct err *e)
{
    struct candidate k = {.c = c, .f = f, .l = l, .o = o, .d = d, .loader_bytes = loader_bytes};
    struct frozen_place choices[PLACEMENT_CHOICES];
    struct plan smallest[PLACEMENT_CHOICES] = {0};
    int n;
    if (c->train.batch % d->cards != 0)
        FAIL(e, ERR_CONFIG, "train.batch: %d rows cannot be shared by %d ranks, expected a multiple of %d. Set it to %d, or take %d with %s",
             c->train.batch, d->cards, d->cards, (int)num_round_up(c->train.batch, d->cards), fewer_ranks(c->train.batch, d->cards),
             d->cuda ? "compute.gpus" : "compute.ranks");
    if (c->train.micro_batch > 0 && c->train.batch / d->cards % c->train.micro_batch != 0)
        FAIL(e, ERR_CONFIG, "train.micro_batch: found %d, expected a divisor of the %d rows of each of %d ranks. The nearest is %d; auto chooses one",
             c->train.micro_batch, c->train.batch / d->cards, d->cards, config_nearest_divisor(c->train.batch / d->cards, c->train.micro_batch));
    TRY(placement_choices(c, d->cards, d->unequal, choices, &n, e));
    for (int i = 0; i < n; i++) {
        bool found;
        k.place = choices[i];
        TRY(search(&k, out, &smallest[i], &found, e));
        if (!found)
            continue;
        say_base(out, i > 0 ? &smallest[0] : NULL);
        return 0;
    }
    return refuse(&k, &smallest[n - 1], e);
}
