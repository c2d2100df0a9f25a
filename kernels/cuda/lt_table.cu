/* lt_table.cu - cuBLASLt's measured algorithms as text, and back. No CUDA in it: a pure parser and its writer.
 *
 *   lorat products 1 NVIDIA GeForce RTX 3090, 8.6; cuBLASLt 130100 #5f0e1c2d
 *   attention mma #...
 *   # comments, and shapes that could not be measured
 *   8192 48 4096 4096 4096 48 nt=- bf16 bf16 16 16 16 0 85.120 102.400 0123...ef #2a90b11c
 *   end 1
 *
 * A line: m n k lda ldb ldc; A and B (n, t), = or +, bias (- or b); types of A, B and of C; alignments of A, B, C and the bias;
 * microseconds of this algorithm and of the library's choice; the algorithm. Behind # stands a check (FNV-1a) of the head and of
 * the line, so that neither a changed line nor one of another card's table passes. */
#include "kernels/cuda/lt_table.h"

#include <stdio.h>
#include <string.h>

extern "C" {
#include "trainer/base/mem.h"
#include "trainer/base/num.h"
}

static const char first_words[] = "lorat products 1 ", between[] = "; cuBLASLt ";

static uint32_t hash(uint32_t h, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 16777619u;
    return h;
}
enum : uint32_t { HASH_START = 2166136261u };

void lt_table_free(struct lt_table *t)
{
    mem_free(t->rows);
    t->rows = NULL;
    t->n = 0;
}

const char *lt_shape_text(const struct lt_shape *s, char *out, size_t size)
{
    snprintf(out, size, "%d x %d x %d, %s into %s%s%s%s%s", s->m, s->n, s->k, dtype_name((enum dtype)s->type),
             dtype_name((enum dtype)s->c_type), s->trans_a ? ", A transposed" : "", s->trans_b ? ", B transposed" : "",
             s->accumulate ? ", +=" : "", s->bias ? ", bias" : "");
    return out;
}

/* ---- writing ---- */

/* A line ends with the check of all that stands between its beginning and here; the head's own is the check of every other. */
static void close_line(struct buf *out, size_t from)
{
    if (out->failed)
        return;
    const char *end = (const char *)memchr(out->data, '\n', out->n);
    uint32_t h = hash(HASH_START, out->data, from > 0 && end ? (size_t)(end - out->data) : 0);
    buf_printf(out, " #%08x\n", hash(h, out->data + from, out->n - from));
}

void lt_table_head(struct buf *out, const char *gpu, int64_t version, const char *attention)
{
    buf_printf(out, "%s%s%s%lld", first_words, gpu, between, (long long)version);
    close_line(out, 0);
    if (attention[0] != '\0') {
        size_t from = out->n;
        buf_printf(out, "attention %s", attention);
        close_line(out, from);
    }
}

static void put_us(struct buf *out, int64_t ns) { buf_printf(out, " %lld.%03d", (long long)(ns / 1000), (int)(ns % 1000)); }

void lt_table_row(struct buf *out, const struct lt_row *row)
{
    const struct lt_shape *s = &row->shape;
    size_t from = out->n;
    buf_printf(out, "%d %d %d %d %d %d %c%c%c%c %s %s %d %d %d %d", s->m, s->n, s->k, s->lda, s->ldb, s->ldc,
               s->trans_a ? 't' : 'n', s->trans_b ? 't' : 'n', s->accumulate ? '+' : '=', s->bias ? 'b' : '-',
               dtype_name((enum dtype)s->type), dtype_name((enum dtype)s->c_type), s->align_a, s->align_b, s->align_c,
               s->align_bias);
    put_us(out, row->ns);
    put_us(out, row->heuristic_ns);
    buf_puts(out, " ");
    for (int i = 0; i < LT_ALGO_BYTES; i++)
        buf_printf(out, "%02x", row->algo[i]);
    close_line(out, from);
}

void lt_table_comment(struct buf *out, const struct lt_shape *shape, const char *why)
{
    char text[128];
    buf_printf(out, "# %s: %s\n", lt_shape_text(shape, text, sizeof(text)), why);
}

void lt_table_end(struct buf *out, size_t n_rows)
{
    size_t from = out->n;
    buf_printf(out, "end %zu", n_rows);
    close_line(out, from);
}

/* ---- reading ---- */

struct line {
    const char *at, *end;
};
static bool word(struct line *l, const char *w)
{
    size_t n = strlen(w);
    if ((size_t)(l->end - l->at) < n || memcmp(l->at, w, n) != 0)
        return false;
    l->at += n;
    return true;
}
static bool number(struct line *l, int64_t most, int64_t *out)
{
    int64_t v = 0;
    const char *from = l->at;
    for (; l->at < l->end && *l->at >= '0' && *l->at <= '9'; l->at++) {
        v = v * 10 + (*l->at - '0');
        if (v > most)
            return false;
    }
    *out = v;
    return l->at > from && (l->at == from + 1 || *from != '0');
}
static bool microseconds(struct line *l, int64_t *ns)
{
    int64_t whole, part = 0;
    if (!word(l, " ") || !number(l, (int64_t)1 << 40, &whole) || !word(l, ".") || l->end - l->at < 3)
        return false;
    for (int i = 0; i < 3; i++, l->at++) {
        if (*l->at < '0' || *l->at > '9')
            return false;
        part = part * 10 + (*l->at - '0');
    }
    *ns = whole * 1000 + part;
    return true;
}
/* One of two letters: 0 for the first. */
static bool letter(struct line *l, const char *two, uint8_t *out)
{
    if (l->at == l->end || (*l->at != two[0] && *l->at != two[1]))
        return false;
    *out = *l->at++ == two[1];
    return true;
}
static bool type(struct line *l, uint8_t *out)
{
    *out = DT_BF16;
    if (word(l, " bf16"))
        return true;
    *out = DT_F32;
    return word(l, " f32");
}
static bool alignment(struct line *l, uint8_t *out)
{
    int64_t v;
    if (!word(l, " ") || !number(l, 16, &v) || (v & (v - 1)) != 0)
        return false;
    *out = (uint8_t)v;
    return true;
}
static bool hex(struct line *l, uint8_t *out, int n)
{
    static const char digits[] = "0123456789abcdef";
    if (l->end - l->at < 2 * n)
        return false;
    for (int i = 0; i < 2 * n; i++) {
        const char *d = (const char *)memchr(digits, *l->at++, 16);
        if (!d)
            return false;
        out[i / 2] = (uint8_t)((i % 2 ? out[i / 2] << 4 : 0) | (d - digits));
    }
    return true;
}

static bool parse_row(struct line l, struct lt_row *row)
{
    struct lt_shape *s = &row->shape;
    int32_t *sizes[] = {&s->m, &s->n, &s->k, &s->lda, &s->ldb, &s->ldc};
    memset(row, 0, sizeof(*row));
    for (int i = 0; i < 6; i++) {
        int64_t v;
        if ((i > 0 && !word(&l, " ")) || !number(&l, INT32_MAX, &v) || v == 0)
            return false;
        *sizes[i] = (int32_t)v;
    }
    return word(&l, " ") && letter(&l, "nt", &s->trans_a) && letter(&l, "nt", &s->trans_b) && letter(&l, "=+", &s->accumulate) &&
           letter(&l, "-b", &s->bias) && type(&l, &s->type) && type(&l, &s->c_type) && alignment(&l, &s->align_a) &&
           alignment(&l, &s->align_b) && alignment(&l, &s->align_c) && alignment(&l, &s->align_bias) &&
           microseconds(&l, &row->ns) && microseconds(&l, &row->heuristic_ns) && word(&l, " ") &&
           hex(&l, row->algo, LT_ALGO_BYTES) && l.at == l.end;
}

static bool parse_head(struct line l, struct lt_table *out)
{
    size_t n = sizeof(between) - 1;
    if (!word(&l, first_words))
        return false;
    for (const char *p = l.at; p + n <= l.end; p++)
        if (memcmp(p, between, n) == 0 && (size_t)(p - l.at) < sizeof(out->gpu)) {
            memcpy(out->gpu, l.at, (size_t)(p - l.at));
            out->gpu[p - l.at] = '\0';
            struct line rest = {p + n, l.end};
            return number(&rest, INT64_MAX / 16, &out->version) && rest.at == rest.end && strlen(out->gpu) == (size_t)(p - l.at);
        }
    return false;
}

/* Take the check off the end of a line; the head's whole line is the beginning of every other's. */
static bool checked(struct line *l, const struct line *head)
{
    uint8_t stored[4];
    uint32_t h = head ? hash(HASH_START, head->at, (size_t)(head->end - head->at)) : (uint32_t)HASH_START;
    if (l->end - l->at < 10)
        return false;
    struct line tail = {l->end - 8, l->end};
    l->end -= 10;
    if (l->end[0] != ' ' || l->end[1] != '#' || !hex(&tail, stored, 4))
        return false;
    h = hash(h, l->at, (size_t)(l->end - l->at));
    return h == ((uint32_t)stored[0] << 24 | (uint32_t)stored[1] << 16 | (uint32_t)stored[2] << 8 | stored[3]);
}

struct parsing {
    struct lt_table *out;
    struct line head; /* the whole line */
    size_t capacity;
    bool ended;
};

/* 0; or what is wrong. */
static const char *parse_line(struct parsing *p, struct line l, int64_t number_of)
{
    struct lt_table *t = p->out;
    struct line whole = l;
    if (p->ended)
        return "something behind the end";
    if (number_of > 1 && word(&l, "#"))
        return NULL;
    if (!checked(&l, number_of > 1 ? &p->head : NULL))
        return number_of > 1 ? "damaged (its check differs)" : "not the head of a table of products, or damaged";
    if (number_of == 1) {
        p->head = whole;
        return parse_head(l, t) ? NULL : "not the head of a table of products";
    }
    if (word(&l, "attention ")) {
        if (l.at == l.end || t->n > 0 || (size_t)(l.end - l.at) >= sizeof(t->attention) || t->attention[0] != '\0' ||
            memchr(l.at, '\0', (size_t)(l.end - l.at)))
            return "not one choice of an attention before all products";
        memcpy(t->attention, l.at, (size_t)(l.end - l.at));
        return NULL;
    }
    if (word(&l, "end ")) {
        int64_t n;
        p->ended = true;
        return number(&l, LT_MAX_ROWS, &n) && l.at == l.end && (size_t)n == t->n ? NULL
                                                                                 : "another number of lines than there are";
    }
    if (t->n == p->capacity) {
        size_t more = p->capacity ? p->capacity * 2 : 64;
        struct lt_row *rows = more <= LT_MAX_ROWS ? (struct lt_row *)mem_realloc(t->rows, more, sizeof(*rows)) : NULL;
        if (!rows)
            return "more lines than fit";
        t->rows = rows;
        p->capacity = more;
    }
    if (!parse_row(l, &t->rows[t->n]))
        return "not a product and its algorithm";
    t->n++;
    return NULL;
}

int lt_table_parse(const char *bytes, size_t n, struct lt_table *out, struct err *e)
{
    struct parsing p = {};
    int64_t number_of = 0;
    memset(out, 0, sizeof(*out));
    p.out = out;
    for (const char *at = bytes, *all = bytes + n; at < all;) {
        const char *end = (const char *)memchr(at, '\n', (size_t)(all - at)), *wrong;
        number_of++;
        wrong = end ? parse_line(&p, line{at, end}, number_of) : "cut off";
        if (wrong) {
            lt_table_free(out);
            FAIL(e, ERR_STATE, "tuned products: line %lld: %s, expected what lorat tune wrote",
                 (long long)number_of, wrong);
        }
        at = end + 1;
    }
    if (!p.ended) {
        lt_table_free(out);
        FAIL(e, ERR_STATE, "tuned products: %lld lines without an end, expected what lorat tune wrote",
             (long long)number_of);
    }
    return 0;
}
