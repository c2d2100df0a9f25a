/* Text to ids: added tokens are cut out first, the rest is normalized, split into pieces, and each piece merged by rank. */
#include <string.h>

#include "datasets/nfc.h"
#include "datasets/tokenizer_parts.h"
#include "trainer/base/buf.h"
#include "trainer/base/mem.h"

struct symbol { /* a doubly linked list inside an array, in text order */
    int32_t id;
    int32_t prev, next; /* -1 = none */
};
struct candidate { /* a possible merge of symbol `at` with the one after it, valid while the two ids are still those */
    int64_t rank;
    int32_t at, left, right;
};
struct encoder {
    const struct tokenizer *t;
    struct pretokenizer_scratch *scratch;
    struct symbol *symbols;
    struct candidate *heap; /* smallest (rank, at) first */
    size_t room_symbols, room_heap, n_heap;
    struct ids *out;
    struct err *e;
};

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void heap_push(struct encoder *c, struct candidate x)
{
    size_t i = c->n_heap++;
    while (i > 0 && before(&x, &c->heap[(i - 1) / 2])) {
        c->heap[i] = c->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    c->heap[i] = x;
}

static struct candidate heap_pop(struct encoder *c)
{
    struct candidate top = c->heap[0], x = c->heap[--c->n_heap];
    size_t i = 0;
    for (size_t k; (k = 2 * i + 1) < c->n_heap; i = k) {
        if (k + 1 < c->n_heap && before(&c->heap[k + 1], &c->heap[k]))
            k++;
        if (!before(&c->heap[k], &x))
            break;
        c->heap[i] = c->heap[k];
    }
    c->heap[i] = x;
    return top;
}

static void consider(struct encoder *c, int32_t at)
{
    const struct symbol *s = &c->symbols[at];
    if (s->next < 0)
        return;
    int32_t right = c->symbols[s->next].id;
    int64_t rank = tokenizer_rank(c->t, s->id, right);
    if (rank >= 0)
        heap_push(c, (struct candidate){rank, at, s->id, right});
}

/* n symbols give at most n - 1 candidates at first, and every merge removes a symbol and adds at most two. */
static int reserve(struct encoder *c, size_t n)
{
    if (n <= c->room_symbols)
        return 0;
    if (n > INT32_MAX / 4)
        return err_set(c->e, ERR_DATA, "text: a piece of %zu bytes without a break, expected less than %d", n, INT32_MAX / 4);
    size_t room = n < 256 ? 256 : n + n / 2;
    struct symbol *symbols = mem_realloc(c->symbols, room, sizeof *symbols);
    if (symbols == NULL)
        return mem_fail(c->e, "encoding", room * sizeof *symbols);
    c->symbols = symbols;
    struct candidate *heap = mem_realloc(c->heap, room * 3, sizeof *heap);
    if (heap == NULL)
        return mem_fail(c->e, "encoding", room * 3 * sizeof *heap);
    c->heap = heap;
    c->room_symbols = room;
    return 0;
}

static int encode_piece(struct encoder *c, const char *text, size_t n)
{
    const struct tokenizer *t = c->t;
    if (t->ignore_merges) {
        int32_t whole = tokenizer_lookup(t, text, n);
        if (whole >= 0)
            return ids_add(c->out, whole, c->e);
    }
    TRY(reserve(c, n));
    /* A byte without a token is left out, as the models' own tokenizers do: SmolLM2 lacks six control characters. */
    int32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(unsigned char)text[i]];
        if (id >= 0) {
            c->symbols[count] = (struct symbol){id, count - 1, count + 1};
            count++;
        }
    }
    if (count == 0)
        return 0;
    c->symbols[count - 1].next = -1;
    c->n_heap = 0;
    for (int32_t i = 0; i + 1 < count; i++)
        consider(c, i);
    while (c->n_heap > 0) {
        struct candidate m = heap_pop(c);
        struct symbol *s = &c->symbols[m.at];
        if (s->id != m.left || s->next < 0 || c->symbols[s->next].id != m.right)
            continue; /* one of the two has been merged meanwhile */
        struct symbol *gone = &c->symbols[s->next];
        s->id = t->merges[m.rank].result;
        s->next = gone->next;
        gone->id = -1;
        if (s->next >= 0)
            c->symbols[s->next].prev = m.at;
        consider(c, m.at);
        if (s->prev >= 0)
            consider(c, s->prev);
    }
    for (int32_t i = 0; i >= 0; i = c->symbols[i].next)
        TRY(ids_add(c->out, c->symbols[i].id, c->e));
    return 0;
}

static int encode_plain(struct encoder *c, const char *text, size_t n)
{
    for (size_t at = 0, end; at < n; at = end) {
        TRY(pretokenizer_next(c->t->split, c->scratch, text, n, at, &end, c->e));
        TRY(encode_piece(c, text + at, end - at));
    }
    return 0;
}

typedef int (*part_fn)(struct encoder *c, const char *text, size_t n);

/* Leftmost, longest: the added tokens in the text, and `rest` on what is between them. */
static int cut_added(struct encoder *c, const struct added *a, const char *text, size_t n, part_fn rest)
{
    bool first[256] = {false};
    for (size_t i = 0; i < a->n; i++)
        first[(unsigned char)c->t->bytes[c->t->tokens[a->ids[i]].at]] = true;
    size_t from = 0;
    for (size_t at = 0; at < n;) {
        int32_t id = first[(unsigned char)text[at]] ? tokenizer_match_added(c->t, a, text + at, n - at) : -1;
        if (id < 0) {
            at++;
            continue;
        }
        TRY(rest(c, text + from, at - from));
        TRY(ids_add(c->out, id, c->e));
        at += c->t->tokens[id].n;
        from = at;
    }
    return rest(c, text + from, n - from);
}

static int encode_normalized(struct encoder *c, const char *text, size_t n, bool special)
{
    if (special && c->t->added[1].n > 0)
        return cut_added(c, &c->t->added[1], text, n, encode_plain);
    return encode_plain(c, text, n);
}

static int encode_valid(struct encoder *c, const char *text, size_t n, bool special)
{
    if (n == 0 || !c->t->nfc)
        return encode_normalized(c, text, n, special);
    struct buf nfc = {0};
    int rc = nfc_append(text, n, &nfc, c->e);
    if (rc == 0)
        rc = encode_normalized(c, nfc.data, nfc.n, special);
    buf_free(&nfc);
    return rc;
}

/* Bytes that are not UTF-8 stand alone: they part the text as an added token would. */
static int encode_any(struct encoder *c, const char *text, size_t n, bool special)
{
    for (size_t at = 0; at < n;) {
        size_t valid = utf8_valid(text + at, n - at);
        TRY(encode_valid(c, text + at, valid, special));
        at += valid;
        if (at < n && c->t->byte_id[(unsigned char)text[at]] >= 0)
            TRY(ids_add(c->out, c->t->byte_id[(unsigned char)text[at]], c->e));
        at += at < n;
    }
    return 0;
}

static int encode_content(struct encoder *c, const char *text, size_t n) { return encode_any(c, text, n, false); }
static int encode_around(struct encoder *c, const char *text, size_t n) { return encode_any(c, text, n, true); }

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, bool special, struct ids *out, struct err *e)
{
    struct encoder c = {.t = t, .out = out, .e = e};
    size_t n_before = out->n;
    int rc = pretokenizer_scratch_new(t->split, &c.scratch, e);
    if (rc == 0)
        rc = special ? cut_added(&c, &t->added[0], text, n, encode_around) : encode_content(&c, text, n);
    if (rc != 0)
        out->n = n_before; /* nothing half done */
    pretokenizer_scratch_free(c.scratch);
    mem_free(c.symbols);
    mem_free(c.heap);
    return rc;
}
