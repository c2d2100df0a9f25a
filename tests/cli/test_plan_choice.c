/* What `auto` chooses where blocks of the base travel (docs/plan.md, "The choice"): the variant whose step is shortest by the
 * link that the job may count on, found again by trying all of them; few tokens without recomputation by a fast link, many with
 * it by a slow one. Where nothing travels, links and rates change nothing. And which way a job counts on. */
#include "tests/check.h"
#include "trainer/job.h"

#define JOB                                                                                                                      \
    "name: t\nmodel: {path: tests/golden/shapes/%s, placement: %s}\n"                                                            \
    "data: {train: none.h5, sequence_length: %d}\nlora: {rank: 16, targets: all-linear}\n"                                       \
    "train: {epochs: 1, batch: 32, learning_rate: 1.0e-4}\ncompute: {parallel: %s}\n"

static void parse_job(struct job *j, const char *shape, const char *placement, int row, const char *parallel)
{
    char text[1024];
    struct err e = {0};
    *j = (struct job){0};
    int n = snprintf(text, sizeof text, JOB, shape, placement, row, parallel);
    CHECK_OK(config_parse(text, (size_t)n, "job", &j->c, &e), &e);
}

/* A job planned for a card of the table: *j has device and plan; both may be asked again. */
static void open_job(struct job *j, const char *shape, const char *placement, int row, const char *parallel, const char *on)
{
    struct err e = {0};
    parse_job(j, shape, placement, row, parallel);
    CHECK_OK(job_plan(j, on, true, &e), &e);
}

static int plan(const struct job *j, const struct config *c, const struct plan_device *d, struct plan *out)
{
    struct err e = {0};
    return plan_make(c, &j->source.facts, &j->lora, NULL, d, 0, out, &e);
}

/* The shortest step by `rate` of all variants that fit with room, each asked for by name. */
static double shortest(const struct job *j, const struct plan_device *d, double rate)
{
    double least = INFINITY;
    for (enum cfg_recompute r = RECOMPUTE_NONE; r <= RECOMPUTE_FULL; r++)
        for (int32_t mb = 1; mb * d->cards <= j->c.train.batch; mb++) {
            struct config c = j->c;
            struct plan p;
            c.compute.recompute = r;
            c.train.micro_batch = mb;
            if (c.train.batch % (mb * d->cards) == 0 && plan(j, &c, d, &p) == 0 &&
                (d->cards == 1 || d->available - p.total_bytes >= PLAN_SPARE_BYTES))
                least = fmin(least, plan_link_step_s(&p.work, rate, rate));
        }
    return least;
}

static void test_sharded(void)
{
    struct job j;
    struct plan fast, slow, p;
    open_job(&j, "Qwen3-14B", "resident", 768, "sharded", "2x3090");
    struct plan_device d = j.device;

    /* Nothing is known of the two slots: through host memory. */
    slow = j.plan;
    CHECK(slow.way == WAY_HOST && slow.fetch_rate == d.ways.staged && slow.sum_rate == d.ways.staged);
    j.c.compute.interconnect = INTERCONNECT_NVLINK;
    CHECK_INT(plan(&j, &j.c, &d, &fast), 0);
    CHECK(fast.way == WAY_NVLINK && fast.fetch_rate == d.ways.nvlink);
    printf("nvlink: micro_batch %d, recompute %s; host memory: %d, %s\n", fast.micro_batch, plan_recompute_name(fast.recompute),
           slow.micro_batch, plan_recompute_name(slow.recompute));
    /* The example of docs/plan.md. */
    CHECK_INT(fast.micro_batch, 1);
    CHECK_INT(fast.recompute, RECOMPUTE_NONE);
    CHECK_INT(slow.micro_batch, 8);
    CHECK_INT(slow.recompute, RECOMPUTE_FULL);
    CHECK(slow.tokens_s < fast.tokens_s);
    /* Each is the better one by its own link. */
    CHECK(plan_link_step_s(&slow.work, d.ways.staged, d.ways.staged) <
          plan_link_step_s(&fast.work, d.ways.staged, d.ways.staged));
    CHECK(plan_link_step_s(&fast.work, d.ways.nvlink, d.ways.nvlink) <
          plan_link_step_s(&slow.work, d.ways.nvlink, d.ways.nvlink));

    for (double rate = 1e9; rate < 1e12; rate *= 4) {
        d.ways.nvlink = rate;
        CHECK_INT(plan(&j, &j.c, &d, &p), 0);
        CHECK_NEAR(plan_link_step_s(&p.work, rate, rate) / shortest(&j, &d, rate), 1, 1e-12);
    }
    /* Not known, or no rate to weigh it by: by computing alone, as by a link without end. */
    d.ways.nvlink = 0;
    CHECK_INT(plan(&j, &j.c, &d, &p), 0);
    CHECK(p.micro_batch == fast.micro_batch && p.recompute == fast.recompute && p.way == WAY_UNKNOWN);
    d.ways.nvlink = 1e9;
    d.gemm_rate = 0;
    CHECK_INT(plan(&j, &j.c, &d, &p), 0);
    CHECK(p.micro_batch == fast.micro_batch && p.recompute == fast.recompute && p.tokens_s == 0);
    job_close(&j);
}

/* Copies that 8,192 tokens do not hide make more of them worth it; a slot without end does not. */
static void test_from_host(void)
{
    struct job j;
    struct plan p;
    open_job(&j, "Llama-3.1-8B", "host", 2048, "auto", "h200");
    CHECK(j.plan.shape.n > j.device.tokens_enough && j.plan.shape.n >= plan_link_hidden(&j.plan.work, j.device.ways.host));
    /* Rows beyond that are not tried: less than a hundredth more. */
    CHECK_NEAR(plan_link_step_s(&j.plan.work, j.device.ways.host, INFINITY) / shortest(&j, &j.device, j.device.ways.host), 1,
               0.01);
    struct plan_device d = j.device;
    d.ways.host = 1e15;
    CHECK_INT(plan(&j, &j.c, &d, &p), 0);
    CHECK_INT(p.shape.n, d.tokens_enough);
    job_close(&j);
}

/* A base that stays where it is: the choice is by computing alone, whatever link, slot or rate. */
static void test_resident(void)
{
    static const char *const on[] = {"3090", "2x3090", "h200"};
    static const double rates[] = {0, 1e6, 1e15};
    for (size_t i = 0; i < sizeof on / sizeof *on; i++) {
        struct job j;
        struct plan p;
        open_job(&j, "Llama-3.1-8B", "resident", 512, "auto", on[i]);
        CHECK(j.plan.shape.place.kind == FROZEN_RESIDENT);
        for (size_t k = 0; k < sizeof rates / sizeof *rates; k++) {
            struct plan_device d = j.device;
            d.ways =
                (struct plan_ways){.nvlink = rates[k], .peer = rates[k], .staged = rates[k], .host = rates[k], .own = WAY_PEER};
            d.gemm_rate = rates[(k + 1) % 3];
            CHECK_INT(plan(&j, &j.c, &d, &p), 0);
            CHECK(p.micro_batch == j.plan.micro_batch && p.recompute == j.plan.recompute && p.total_bytes == j.plan.total_bytes);
        }
        job_close(&j);
    }
}

/* Rows at a time of a resume: those of the steps before, those that the job names (0: auto). */
static int32_t rows_after(int32_t before, int32_t named)
{
    struct job j;
    struct err e = {0};
    parse_job(&j, "Qwen3-14B", "resident", 768, "sharded");
    j.before.micro_batch = before;
    j.c.train.micro_batch = named;
    CHECK_OK(job_plan(&j, "2x3090", true, &e), &e);
    CHECK_INT(j.c.train.micro_batch, named);
    int32_t rows = j.plan.micro_batch;
    job_close(&j);
    return rows;
}

/* A resume takes the rows at a time that the run was made with, where they still fit. */
static void test_kept(void)
{
    int32_t chosen = rows_after(0, 0);
    CHECK(chosen != 2);
    CHECK_INT(rows_after(2, 0), 2);
    CHECK_INT(rows_after(3, 0), chosen);  /* does not divide the rows of a rank */
    CHECK_INT(rows_after(16, 0), chosen); /* does not fit */
    CHECK_INT(rows_after(2, 4), 4);       /* what the job names wins */
}

/* The smallest plan of so many rows with the base in one place. */
static int64_t least(const struct job *j, enum cfg_parallel parallel, int32_t rows)
{
    struct config c = j->c;
    struct plan p = {0};
    c.compute.parallel = parallel;
    c.compute.recompute = RECOMPUTE_FULL;
    c.train.micro_batch = rows;
    CHECK_INT(plan(j, &c, &j->device, &p), 0);
    return p.total_bytes;
}

/* A resume on two cards that have `available` bytes each: where the base lies then, how many rows, and what is said. */
static void check_resume(const struct job *j, int64_t available, const struct plan_before *before, enum frozen_kind kind, bool same_rows,
                         const char *says)
{
    struct plan_device d = j->device;
    struct plan p;
    struct err e = {0};
    char said[1600];
    d.available = available;
    CHECK_OK(plan_resume(&j->c, &j->source.facts, &j->lora, NULL, &d, 0, before, &p, said, sizeof said, &e), &e);
    CHECK_INT(p.shape.place.kind, kind);
    CHECK_INT(p.micro_batch == before->micro_batch, same_rows);
    CHECK(says != NULL ? strstr(said, says) != NULL : said[0] == '\0');
}

/* The base stays where it lay, with other rows if need be; elsewhere only where that is all that is left, and that is said. */
static void test_stays(void)
{
    struct job j;
    struct plan_before whole = {.micro_batch = 8, .placed = true, .place = FROZEN_RESIDENT}, sharded = whole, unknown = whole;
    open_job(&j, "Llama-3.1-8B", "resident", 512, "auto", "2x3090");
    int64_t eight = least(&j, PARALLEL_DATA, 8), one = least(&j, PARALLEL_DATA, 1), enough = j.device.available;
    CHECK(one < eight && least(&j, PARALLEL_SHARDED, 8) < one);
    sharded.place = FROZEN_SHARDED;
    unknown.placed = false;
    check_resume(&j, enough, &whole, FROZEN_RESIDENT, true, NULL);
    check_resume(&j, eight - 1, &whole, FROZEN_RESIDENT, false, NULL);
    check_resume(&j, one - 1, &whole, FROZEN_SHARDED, true,
                 "the base was whole on each of 2 ranks (data parallel) in the steps so far and is now sharded, each of 2 ranks holds 1/2");
    check_resume(&j, one - 1, &whole, FROZEN_SHARDED, true, ": the job needs ");
    check_resume(&j, one - 1, &whole, FROZEN_SHARDED, true, "To go back free memory of the cards, or raise compute.memory_limit");
    check_resume(&j, one - 1, &whole, FROZEN_SHARDED, true, " and resume with --set compute.parallel=data");
    check_resume(&j, one - 1, &unknown, FROZEN_SHARDED, true, NULL);
    check_resume(&j, enough, &sharded, FROZEN_SHARDED, true, "whole on each rank it would fit now");
    check_resume(&j, one - 1, &sharded, FROZEN_SHARDED, true, NULL);
    snprintf(j.device.unequal, sizeof j.device.unequal, "card 0, A, and card 1, B");
    check_resume(&j, enough, &sharded, FROZEN_RESIDENT, true, "To go back choose cards that are alike (compute.gpus)");
    j.device.unequal[0] = '\0';
    j.c.compute.parallel = PARALLEL_SHARDED; /* what the job names wins */
    check_resume(&j, enough, &whole, FROZEN_SHARDED, true, NULL);
    job_close(&j);
}

static void test_way(void)
{
    static const struct {
        double nvlink;
        enum machine_way own, automatic, pcie;
    } cases[] = {{56e9, WAY_UNKNOWN, WAY_HOST, WAY_HOST},
                 {56e9, WAY_NVLINK, WAY_NVLINK, WAY_HOST},
                 {0, WAY_PEER, WAY_PEER, WAY_PEER},
                 {0, WAY_HOST, WAY_HOST, WAY_HOST},
                 {56e9, WAY_HOST, WAY_HOST, WAY_HOST}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct plan_ways w = {.nvlink = cases[i].nvlink, .peer = 27e9, .staged = 8e9, .host = 25e9, .own = cases[i].own};
        CHECK_INT(plan_ways_taken(&w, INTERCONNECT_AUTO), cases[i].automatic);
        CHECK_INT(plan_ways_taken(&w, INTERCONNECT_PCIE), cases[i].pcie);
        CHECK_INT(plan_ways_taken(&w, INTERCONNECT_NVLINK), WAY_NVLINK);
    }
}

int main(void)
{
    test_sharded();
    test_from_host();
    test_resident();
    test_kept();
    test_stays();
    test_way();
    return check_done();
}
