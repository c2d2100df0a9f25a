/* gpu_model.c SHAPE DIR - a model folder with seeded random weights, at a shape of `lorat bench`: what `lorat train` needs to run
 * at a real model's size where that model is not. BF16, one file. Real numbers and not zeros: products of zeros take less power
 * and run faster. */
#include <math.h>
#include <stdio.h>

#include "checkpoints/hf_export.h"
#include "trainer/base/mem.h"
#include "trainer/base/rng.h"
#include "trainer/bench_shape.h"
#include "trainer/source.h"

enum { POOL = 1048573 }; /* a prime: no width divides it, so rows of a matrix differ */
struct making {
    struct source source; /* nothing but its facts */
    struct hf_tensor *tensors;
    char (*names)[96];
    enum role *roles;
    size_t n;
    float *pool; /* (POOL) in -1..1 */
};

/* Uniform with variance gain / in, as `lorat bench` fills a model (trainer/bench_data.c); norms are one. */
static float bound_of(const struct making *m, size_t i)
{
    const struct hf_tensor *t = &m->tensors[i];
    bool residual = m->roles[i] == ROLE_O || m->roles[i] == ROLE_DOWN;
    return t->rank == 1 ? 0 : (float)sqrt(3 * (residual ? 1.0 / (2 * m->source.facts.l) : 1) / (double)t->shape[1]);
}

static int fill(void *user, size_t i, const struct hf_tensor *t, int64_t row0, int64_t rows, float *dst, struct err *e)
{
    const struct making *m = user;
    float bound = bound_of(m, i), one = t->rank == 1;
    int64_t width = t->rank == 2 ? t->shape[1] : 1;
    size_t at = (size_t)(i * 7919 + (size_t)(row0 * width)) % POOL;
    for (int64_t k = 0; k < rows * width; k++) {
        dst[k] = one + bound * m->pool[at];
        at = at + 1 < POOL ? at + 1 : 0;
    }
    return 0;
}

/* Every tensor of the shape; counted where the tables are not there yet. */
static void list(struct making *m)
{
    const struct facts *f = &m->source.facts;
    m->n = 0;
    for (enum role r = 0; r < ROLE_COUNT; r++) {
        bool one = r == ROLE_EMBED || r == ROLE_FINAL_NORM || r == ROLE_HEAD;
        for (int32_t l = 0; source_has(&m->source, r) && l < (one ? 1 : f->l); l++, m->n++) {
            if (m->tensors == NULL)
                continue;
            struct hf_tensor *t = &m->tensors[m->n];
            source_hf_name(r, l, m->names[m->n]);
            *t = (struct hf_tensor){.name = m->names[m->n], .type = TT_BF16};
            source_shape(f, r, t->shape, &t->rank);
            m->roles[m->n] = r;
        }
    }
}

static int make(struct making *m, const char *shape, const char *dir, struct err *e)
{
    struct buf config = {0};
    TRY(bench_shape(shape, &m->source.facts, e));
    list(m);
    m->tensors = mem_alloc(m->n, sizeof *m->tensors);
    m->names = mem_alloc(m->n, sizeof *m->names);
    m->roles = mem_alloc(m->n, sizeof *m->roles);
    m->pool = mem_alloc(POOL, sizeof *m->pool);
    if (m->tensors == NULL || m->names == NULL || m->roles == NULL || m->pool == NULL)
        return mem_fail(e, "the list of tensors", m->n * sizeof *m->tensors);
    list(m);
    for (uint32_t i = 0; i < POOL; i++)
        m->pool[i] = 2 * rng_unit(rng_at(1, RNG_INIT, i, 0, 0).v[0]) - 1;
    bench_shape_config(&m->source.facts, &config);
    const struct hf_file file = {"config.json", config.data, config.n};
    int rc = config.failed ? mem_fail(e, "a config.json", config.n)
                           : hf_export(dir, m->tensors, m->n, &file, 1, UINT64_MAX, fill, m, NULL, e);
    buf_free(&config);
    return rc;
}

int main(int argc, char **argv)
{
    struct making m = {0};
    struct err e = {0};
    if (argc != 3) {
        fprintf(stderr, "gpu_model SHAPE DIR\n");
        return 2;
    }
    int rc = make(&m, argv[1], argv[2], &e);
    if (rc != 0)
        fprintf(stderr, "%s\n", e.text);
    mem_free(m.tensors);
    mem_free(m.names);
    mem_free(m.roles);
    mem_free(m.pool);
    facts_free(&m.source.facts);
    return rc != 0;
}
