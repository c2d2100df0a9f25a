/* bench.h - what the three measurements of `lorat bench` share: the shape, the job made from the options, the device, rows of
 * output. All measure through ops.h alone and so run on every backend. */
#ifndef LORAT_TRAINER_BENCH_H
#define LORAT_TRAINER_BENCH_H

#include "kernels/bench.h"
#include "trainer/device.h"
#include "trainer/facts.h"
#include "trainer/lora.h"
#include "trainer/options.h"
#include "trainer/plan.h"

struct bench {
    const struct options *options;
    const char *shape;
    struct facts facts;
    struct config c; /* a job of this shape; its data and model are never opened */
    struct lora lora;
    struct ops *ops;
    struct cuda_card card; /* as it was before it was opened; zero on the CPU */
    int32_t n;             /* tokens of a micro-batch, rounded up */
    int32_t head_chunk;
    int64_t steps;    /* timed ones */
    int32_t document; /* length of a document; 0 = a seeded mix */
    double budget_s;  /* for one row */
    bool json, profile;
};

/* Does --only ask for this row? A part of the name is enough. */
bool bench_wanted(const struct bench *b, const char *name);

int bench_gemm(struct bench *b, struct err *e);
int bench_ops(struct bench *b, struct err *e);
int bench_step(struct bench *b, struct err *e);
int bench_comm(struct bench *b, struct err *e); /* before a device is opened */

/* One row under way: fields in order, printed as a line of JSON or as columns under a heading. */
struct bench_row {
    const struct bench *b;
    struct buf line;
};
void row_begin(struct bench_row *r, const struct bench *b, const char *kind, const char *name, int width);
/* A number with its JSON key; `format` (one double) is what stands in the column. NaN leaves the field out and the column blank.
 */
void row_number(struct bench_row *r, const char *key, const char *format, double v);
void row_text(struct bench_row *r, const char *key, const char *format, const char *v);
int row_end(struct bench_row *r, struct err *e);

/* Bytes of device memory that a set of operands may take: several sets, so that a cache does not hold what a job would read anew.
 */
enum { BENCH_SETS = 8, BENCH_MOST_OPERANDS = 8 };
/* A call that is timed over several sets of operands laid out in a pool. */
struct bench_pool {
    struct ops *o;
    char *base;
    size_t bytes;
    float low;
    int32_t *index;     /* (n) I32: 0..n-1 in a seeded order, for gathers */
    int32_t *tokens;    /* (n) I32 below V */
    int32_t *positions; /* (n) of documents as long as the sequence */
    struct span *spans; /* those documents */
    int32_t n_spans;
    double pairs; /* (query, key) pairs that see one another */
    void *workspace;
};
struct bench_call {
    const struct bench *b;
    const struct bench_pool *pool;
    void (*run)(const struct bench_call *c, char **p);
    size_t sizes[BENCH_MOST_OPERANDS]; /* bytes of each operand; 0 ends the list */
    const void *arg;                   /* the caller's */
};
/* A pool of at least `least` bytes, up to BENCH_SETS times that while half a GiB lasts. Each timed row begins with numbers of
 * ops->act in low..1 in it; read as F32 they are finite too, and not negative when low is 0. */
int pool_open(struct bench_pool *p, const struct bench *b, size_t least, float low, struct err *e);
void pool_close(struct bench_pool *p);
size_t pool_need(const struct bench_call *c); /* bytes of one set */
/* Numbers as every timed row finds them: see pool_open. */
void pool_fill(const struct bench_pool *p);
/* Run the call once, on set i. */
void pool_run(const struct bench_call *c, int64_t i);
int pool_time(const struct bench_call *c, struct bench_time *out, struct err *e);

/* The operations that are not products. Bytes: what must move once; flop: of attention, which is not bound by memory. */
struct bench_op {
    const char *name, *formula;
    void (*run)(const struct bench_call *c, char **p);
    double bytes, flop;
    size_t sizes[BENCH_MOST_OPERANDS];
};
enum { BENCH_MOST_OPS = 32 };
/* Those of this shape that --only wants; returns how many. */
int bench_list_ops(const struct bench *b, struct bench_op out[BENCH_MOST_OPS]);
struct bench_call bench_op_call(const struct bench_op *op, const struct bench *b, const struct bench_pool *pool);

/* The products of a training step. */
struct bench_product {
    char name[32];
    int32_t m, n, k; /* y (m, n), summed over k */
    double times;    /* in one micro-batch without recomputation */
    enum { LINEAR_FORWARD, LINEAR_BACKWARD, GEMM } kind;
    struct gemm gemm; /* without pointers */
};
enum { BENCH_MOST_PRODUCTS = 64 };
int bench_list_products(const struct bench *b, struct bench_product out[BENCH_MOST_PRODUCTS]);
/* `product` must outlive the call. */
struct bench_call bench_product_call(const struct bench_product *product, const struct bench *b, const struct bench_pool *pool);

#endif
