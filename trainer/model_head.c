/* model_head.c - final norm, head and cross-entropy over the rows that carry loss, a chunk at a time: logits are never stored whole,
 * and rows without a target cost nothing. */
#include "trainer/model_internal.h"

/* nf (c, D) = rmsnorm of the chunk's rows of the last residual, which stands in m->dn; logits (c, V) = nf head^T. */
static void chunk_logits(struct model *m, const int32_t *rows, int32_t c)
{
    const struct facts *f = m->facts;
    struct ops *o = m->o;
    o->gather_rows(o, m->xg, f->d, m->dn, f->d, rows, c, f->d);
    o->rmsnorm_forward(o, m->nf, NULL, m->xg, NULL, m->frozen.final_norm, c, f->d, f->norm_eps);
    o->linear_forward(o, m->logits, m->nf, &m->frozen.head, NULL, c);
    count_product(m, c, f->v, f->d);
}

/* The last residual x' = mid + tmp into m->dn, free until the blocks' backward. */
static void last_residual(struct model *m)
{
    const struct facts *f = m->facts;
    m->o->copy_2d(m->o, m->dn, f->d, m->acts[f->l - 1].mid, f->d, m->batch.n, f->d);
    m->o->add(m->o, m->dn, m->tmp, (int64_t)m->batch.n * f->d);
}

void head_loss(struct model *m, float *loss, bool backward)
{
    const struct facts *f = m->facts;
    struct ops *o = m->o;
    ops_mark(o, "head");
    last_residual(m);
    if (backward)
        o->zero(o, m->dx, (size_t)m->batch.n * (size_t)f->d * dtype_size(o->act));
    for (int32_t at = 0; at < m->batch.n_rows; at += m->shape.head_chunk) {
        int32_t left = m->batch.n_rows - at, c = left < m->shape.head_chunk ? left : m->shape.head_chunk;
        const int32_t *rows = m->batch.rows + at;
        chunk_logits(m, rows, c);
        o->cross_entropy(o, loss, NULL, m->logits, f->v, m->batch.targets + at, m->batch.weights + at, c, f->v, backward);
        if (!backward)
            continue;
        o->linear_backward(o, m->dnf, m->logits, &m->frozen.head, c, false);
        count_product(m, c, f->v, f->d);
        o->zero(o, m->dxg, (size_t)c * (size_t)f->d * dtype_size(o->act));
        o->rmsnorm_backward(o, m->dxg, m->dnf, m->xg, m->frozen.final_norm, c, f->d, f->norm_eps);
        o->scatter_rows(o, m->dx, f->d, m->dxg, f->d, rows, c, f->d);
    }
    ops_mark(o, NULL);
}

int head_logits(struct model *m, int32_t n_rows, float *logits, struct err *e)
{
    const struct facts *f = m->facts;
    struct ops *o = m->o;
    int rc = 0;
    size_t row = (size_t)f->v * dtype_size(o->act);
    char *host = mem_alloc((size_t)m->shape.head_chunk, row);
    if (host == NULL)
        return mem_fail(e, "logits on the host", row * (size_t)m->shape.head_chunk);
    last_residual(m);
    for (int32_t at = 0; at < n_rows; at += m->shape.head_chunk) {
        int32_t left = n_rows - at, c = left < m->shape.head_chunk ? left : m->shape.head_chunk;
        chunk_logits(m, m->batch.rows + at, c);
        TRY_DONE(o->download(o, host, m->logits, row * (size_t)c, e));
        for (int64_t i = 0; i < (int64_t)c * f->v; i++)
            logits[(int64_t)at * f->v + i] = o->act == DT_F32 ? ((float *)host)[i] : bf16_to_f32(((bf16 *)host)[i]);
    }
done:
    mem_free(host);
    return rc;
}

void head_next(struct model *m, int32_t n_rows, int32_t *ids)
{
    last_residual(m);
    chunk_logits(m, m->batch.rows, n_rows);
    m->o->argmax(m->o, ids, m->logits, m->facts->v, n_rows, m->facts->v);
}
