#include "datasets/pack.h"

#include "trainer/base/mem.h"
#include "trainer/base/num.h"
#include "trainer/base/rng.h"

/* Offsets of one block of documents, direct-mapped by block number: an epoch's order jumps about, and 256 blocks hold all lengths
 * of a dataset of 262,144 documents. */
struct cached_block {
    int64_t block; /* -1 = empty */
    uint64_t offsets[PACK_BLOCK + 1];
};

struct packer {
    const struct piece_index *ix;
    const atomic_bool *cancel;
    uint64_t seed;
    bool packing, shuffle;
    int64_t max_tokens;
    int64_t epoch, next;             /* next piece, counted in the epoch's order */
    int64_t given;                   /* tokens of the rows given out */
    struct row open[PACK_OPEN_ROWS]; /* in order of opening */
    int n_open;
    struct row out;
    struct cached_block *cache;
};

int packer_new(const struct piece_index *ix, const struct loader_options *o, const atomic_bool *cancel, struct packer **out,
               struct err *e)
{
    struct packer *p = mem_alloc(1, sizeof *p);
    if (p != NULL)
        p->cache = mem_alloc(PACK_CACHED_BLOCKS, sizeof *p->cache);
    if (p == NULL || p->cache == NULL) {
        mem_free(p);
        return mem_fail(e, "packing", PACK_CACHED_BLOCKS * sizeof *p->cache);
    }
    p->ix = ix;
    p->cancel = cancel;
    p->seed = o->seed;
    p->packing = o->packing;
    p->shuffle = o->shuffle;
    p->max_tokens = o->max_tokens;
    for (int i = 0; i < PACK_CACHED_BLOCKS; i++)
        p->cache[i].block = -1;
    *out = p;
    return 0;
}

void packer_free(struct packer *p)
{
    if (p == NULL)
        return;
    for (int i = 0; i < PACK_OPEN_ROWS; i++)
        mem_free(p->open[i].pieces);
    mem_free(p->out.pieces);
    mem_free(p->cache);
    mem_free(p);
}

void packer_start(struct packer *p, int64_t epoch)
{
    p->epoch = epoch;
    p->next = p->given = 0;
    p->n_open = 0;
}

void packer_skip(struct packer *p, int64_t n) { p->next = n < p->ix->pieces ? n : p->ix->pieces; }

/* ---- piece number -> place ---- */

static int block_offsets(struct packer *p, int64_t block, const uint64_t **out, struct err *e)
{
    struct cached_block *c = &p->cache[block % PACK_CACHED_BLOCKS];
    if (c->block != block) {
        int64_t first = block * PACK_BLOCK, left = p->ix->documents - first;
        c->block = -1;
        TRY(store_offsets(p->ix->store, p->ix->group, first, (left < PACK_BLOCK ? left : PACK_BLOCK) + 1, c->offsets, e));
        c->block = block;
    }
    *out = c->offsets;
    return 0;
}

static int64_t pieces_of(const struct piece_index *ix, int64_t document, int64_t length)
{
    if (length <= ix->sequence_length)
        return 1;
    if (ix->too_long == TOO_LONG_SPLIT)
        return num_div_up(length, ix->sequence_length);
    if (ix->too_long == TOO_LONG_DROP || (ix->without != NULL && ix->without[document / 64] >> (document % 64) & 1))
        return 0;
    return 1;
}

static int64_t find_block(const struct piece_index *ix, int64_t number)
{
    int64_t low = 0, high = num_div_up(ix->documents, PACK_BLOCK); /* before[low] <= number < before[high] */
    while (high - low > 1) {
        int64_t middle = (low + high) / 2;
        if (ix->before[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int find_piece(struct packer *p, int64_t number, struct piece *out, struct err *e)
{
    const struct piece_index *ix = p->ix;
    const uint64_t *offsets;
    int64_t block = ix->direct ? number / PACK_BLOCK : find_block(ix, number);
    TRY(block_offsets(p, block, &offsets, e));
    int64_t i = ix->direct ? number % PACK_BLOCK : 0, left = ix->direct ? 0 : number - ix->before[block],
            window = ix->sequence_length;
    for (; !ix->direct && i < PACK_BLOCK && block * PACK_BLOCK + i < ix->documents; i++) {
        int64_t n = pieces_of(ix, block * PACK_BLOCK + i, (int64_t)(offsets[i + 1] - offsets[i]));
        if (left < n)
            break;
        left -= n;
    }
    int64_t rest =
        i < PACK_BLOCK && block * PACK_BLOCK + i < ix->documents ? (int64_t)(offsets[i + 1] - offsets[i]) - left * window : 0;
    if (rest < 1)
        FAIL(e, ERR_DATA, "its offsets changed while it was in use. Leave the file alone while it is trained on");
    *out = (struct piece){.document = block * PACK_BLOCK + i,
                          .first = (int64_t)offsets[i] + left * window,
                          .n = (int32_t)(rest < window ? rest : window)};
    return 0;
}

static int take_piece(struct packer *p, struct piece *out, struct err *e)
{
    uint64_t stream = (uint64_t)RNG_ORDER << 32 | (uint32_t)p->epoch, n = (uint64_t)p->ix->pieces, i = (uint64_t)p->next++;
    return find_piece(p, (int64_t)(p->shuffle ? rng_permute(p->seed, stream, n, i) : i), out, e);
}

/* ---- rows ---- */

static int place(struct row *r, const struct piece *piece, struct err *e)
{
    if (r->n == r->cap) {
        int32_t cap = r->cap ? r->cap * 2 : 16;
        struct piece *v = mem_realloc(r->pieces, (size_t)cap, sizeof *v);
        if (v == NULL)
            return mem_fail(e, "a row", (size_t)cap * sizeof *v);
        r->pieces = v;
        r->cap = cap;
    }
    r->pieces[r->n++] = *piece;
    r->used += piece->n;
    return 0;
}

/* Row i leaves the open rows and becomes p->out; memory changes hands. */
static void close_row(struct packer *p, int i)
{
    struct row was = p->out;
    p->out = p->open[i];
    for (p->n_open--; i < p->n_open; i++)
        p->open[i] = p->open[i + 1];
    p->open[p->n_open] = was;
}

static int open_row(struct packer *p, const struct piece *piece, struct err *e)
{
    struct row *r = &p->open[p->n_open++];
    r->n = r->used = 0;
    return place(r, piece, e);
}

static int fullest(const struct packer *p)
{
    int best = 0;
    for (int i = 1; i < p->n_open; i++)
        if (p->open[i].used > p->open[best].used)
            best = i;
    return best;
}

static int first_fit(const struct packer *p, int32_t n)
{
    for (int i = 0; i < p->n_open; i++)
        if (p->open[i].used + n <= p->ix->sequence_length)
            return i;
    return -1;
}

/* Place pieces until a row closes: p->out, or *end. */
static int next_packed(struct packer *p, bool *end, struct err *e)
{
    for (;;) {
        int full = p->n_open > 0 ? fullest(p) : -1;
        bool done = p->next == p->ix->pieces;
        if (full >= 0 && (p->open[full].used == p->ix->sequence_length || done)) {
            close_row(p, p->open[full].used == p->ix->sequence_length ? full : 0);
            return 0;
        }
        if (done) {
            *end = true;
            return 0;
        }
        struct piece piece;
        TRY(take_piece(p, &piece, e));
        int fit = first_fit(p, piece.n);
        if (fit >= 0) {
            TRY(place(&p->open[fit], &piece, e));
        } else if (p->n_open < PACK_OPEN_ROWS) {
            TRY(open_row(p, &piece, e));
        } else {
            close_row(p, full);
            return open_row(p, &piece, e);
        }
    }
}

static int next_single(struct packer *p, bool *end, struct err *e)
{
    struct piece piece;
    if (p->next == p->ix->pieces) {
        *end = true;
        return 0;
    }
    TRY(take_piece(p, &piece, e));
    p->out.n = p->out.used = 0;
    return place(&p->out, &piece, e);
}

int packer_row(struct packer *p, const struct row **out, struct err *e)
{
    bool end = p->max_tokens > 0 && p->given >= p->max_tokens;
    if (p->cancel != NULL && atomic_load_explicit(p->cancel, memory_order_relaxed))
        FAIL(e, ERR_STOPPED, "its reader was told to stop");
    if (!end)
        TRY(p->packing ? next_packed(p, &end, e) : next_single(p, &end, e));
    p->given += end ? 0 : p->out.used;
    *out = end ? NULL : &p->out;
    return 0;
}
