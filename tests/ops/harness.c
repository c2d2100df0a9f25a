/* harness.c - see harness.h. */
#include "tests/ops/harness.h"

#include "trainer/base/rng.h"

int test_failures(void) { return check_failures; }

static uint64_t seed_now = 1, drawn;
void test_seed(uint64_t seed)
{
    seed_now = seed;
    drawn = 0;
}

/* Sum of 12 uniform numbers: close enough to normal, exact on every machine. */
double test_normal(void)
{
    double sum = -6;
    for (uint32_t i = 0; i < 3; i++) {
        struct rng4 r = rng_at(seed_now, RNG_INIT, (uint32_t)drawn, (uint32_t)(drawn >> 32), i);
        for (int j = 0; j < 4; j++)
            sum += rng_unit(r.v[j]);
    }
    drawn++;
    return sum;
}

void *test_upload(struct ops *o, const void *host, size_t bytes)
{
    struct err e = {0};
    void *dev = NULL;
    CHECK_OK(o->alloc(o, bytes, &dev, &e), &e);
    o->upload(o, dev, host, bytes);
    CHECK_OK(o->sync(o, &e), &e);
    return dev;
}

struct array array_new(struct ops *o, int64_t count, enum dtype type)
{
    struct array a = {o, NULL, calloc((size_t)count + 1, sizeof(double)), count, type};
    struct err e = {0};
    CHECK_OK(o->alloc(o, (size_t)count * dtype_size(type) + 1, &a.dev, &e), &e);
    array_put(&a);
    return a;
}

struct array array_random(struct ops *o, int64_t count, enum dtype type, double scale)
{
    struct array a = array_new(o, count, type);
    for (int64_t i = 0; i < count; i++)
        a.host[i] = test_normal() * scale;
    array_put(&a);
    return a;
}

void array_put(struct array *a)
{
    struct err e = {0};
    void *raw = malloc((size_t)a->count * 4 + 1);
    for (int64_t i = 0; i < a->count; i++) {
        a->host[i] = ref_round(a->host[i], a->type);
        if (a->type == DT_BF16)
            ((bf16 *)raw)[i] = bf16_from_f32((float)a->host[i]);
        else
            ((float *)raw)[i] = (float)a->host[i];
    }
    a->o->upload(a->o, a->dev, raw, (size_t)a->count * dtype_size(a->type));
    CHECK_OK(a->o->sync(a->o, &e), &e);
    free(raw);
}

void *array_raw(const struct array *a)
{
    struct err e = {0};
    void *raw = malloc((size_t)a->count * 4 + 1);
    CHECK_OK(a->o->download(a->o, raw, a->dev, (size_t)a->count * dtype_size(a->type), &e), &e);
    return raw;
}

double *array_get(const struct array *a)
{
    double *out = malloc(((size_t)a->count + 1) * sizeof(double));
    void *raw = array_raw(a);
    for (int64_t i = 0; i < a->count; i++)
        out[i] = a->type == DT_BF16 ? bf16_to_f32(((bf16 *)raw)[i]) : ((float *)raw)[i];
    free(raw);
    return out;
}

void array_free(struct array *a)
{
    a->o->release(a->o, a->dev);
    free(a->host);
}

void array_compare(const char *what, const struct array *got, const double *want, double relative, double absolute)
{
    double *g = array_get(got), worst = 0;
    int64_t at = -1;
    relative += got->type == DT_BF16 ? 0x1.01p-8 : 0x1.01p-24;
    for (int64_t i = 0; i < got->count; i++) {
        double off = fabs(g[i] - want[i]) / (relative * fabs(want[i]) + absolute);
        if (!(off <= 1) && (at < 0 || off > worst || isnan(off))) {
            worst = off;
            at = i;
        }
    }
    if (at >= 0) {
        fprintf(stderr, "%s (%s, %s): element %lld of %lld is %.9g, expected %.9g, %.3g times the tolerance\n", what, got->o->device,
                dtype_name(got->o->act), (long long)at, (long long)got->count, g[at], want[at], worst);
        check_failures++;
    }
    free(g);
}

void same_bits(const char *what, const struct array *a, const void *before)
{
    void *now = array_raw(a);
    if (memcmp(now, before, (size_t)a->count * dtype_size(a->type)) != 0) {
        fprintf(stderr, "%s (%s, %s): a second run gave other bits\n", what, a->o->device, dtype_name(a->o->act));
        check_failures++;
    }
    free(now);
}

void test_workspace(struct ops *o, const struct ops_dims *d)
{
    static void *held; /* one backend at a time: the last workspace is released by the next call or at exit */
    struct err e = {0};
    size_t bytes = d ? o->workspace_bytes(o, d) : 0;
    if (held)
        o->release(o, held);
    held = NULL;
    if (d)
        CHECK_OK(o->alloc(o, bytes, &held, &e), &e);
    o->set_workspace(o, held, bytes);
}

void test_no_failure(struct ops *o, const char *what)
{
    struct err e = {0};
    if (o->sync(o, &e) != 0) {
        fprintf(stderr, "%s (%s): %s\n", what, o->device, e.text);
        check_failures++;
    }
}
