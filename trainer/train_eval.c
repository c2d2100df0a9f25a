/* train_eval.c - evaluation inside the training arenas, and the answers to eval.prompts. */
#include <math.h>
#include <string.h>

#include "trainer/base/json.h"
#include "trainer/base/log.h"
#include "trainer/base/stop.h"
#include "trainer/generate.h"
#include "trainer/ranks.h"
#include "trainer/train_internal.h"

/* With a sharded base no rank can run the model by itself: all give the same answers, and rank 0 shows them. */
static bool all_answer(const struct run *r) { return r->job.plan.shape.place.kind == FROZEN_SHARDED; }

static int answer_print(struct run *r, int i, const struct prompt *p, struct err *e)
{
    const char *question = r->job.c.eval.prompts[i];
    struct buf text = {0}, line = {0};
    for (int32_t k = 0; k < p->n_answer; k++) {
        size_t n;
        const char *bytes = tokenizer_token(r->job.tokenizer, p->answer[k], &n);
        if (bytes != NULL)
            buf_add(&text, bytes, n);
    }
    log_note("  > %s\n    %s", question, text.n > 0 ? text.data : "(nothing)");
    buf_printf(&line, "{\"step\": %lld, \"prompt\": ", (long long)r->state.step);
    json_put_string(&line, question, strlen(question));
    buf_puts(&line, ", \"answer\": ");
    json_put_string(&line, text.n > 0 ? text.data : "", text.n);
    buf_puts(&line, "}\n");
    if (!line.failed)
        metrics_line(&r->metrics, "answers.jsonl", line.data, line.n);
    buf_free(&text);
    buf_free(&line);
    return 0;
}

static int answer_tick(void *arg, int prompt, int32_t id, struct err *e)
{
    struct run *r = arg;
    double stopped = stop_requested();
    r->job.comm.alive(&r->job.comm, r->state.step, "answering");
    if (all_answer(r))
        TRY(r->job.comm.sum_host(&r->job.comm, &stopped, 1, e));
    if (stopped > 0)
        FAIL(e, ERR_STOPPED, "while answering eval.prompts");
    return 0;
}

static int answer_prompts(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    int n = c->eval.n_prompts, rc = 0;
    struct prompt prompts[CONFIG_MAX_PROMPTS] = {0};
    struct ids tokens[CONFIG_MAX_PROMPTS] = {0}, weights = {0};
    struct generate_options g = {.max_new = c->eval.answer_tokens, .on_token = answer_tick, .arg = r};
    for (int i = 0; i < n; i++) {
        struct chat_message user = {.role = "user", .content = c->eval.prompts[i], .n = strlen(c->eval.prompts[i])};
        weights.n = 0;
        if (r->job.template == CHAT_NONE)
            TRY_DONE(tokenizer_encode(r->job.tokenizer, user.content, user.n, false, &tokens[i], e));
        else
            TRY_DONE(chat_render(r->job.template, r->job.tokenizer, &user, 1, true, &tokens[i], &weights, e));
        prompts[i] = (struct prompt){.tokens = tokens[i].v, .n = (int32_t)tokens[i].n, .answer = mem_alloc((size_t)g.max_new, sizeof(int32_t))};
        if (prompts[i].answer == NULL)
            TRY_DONE(mem_fail(e, "an answer", (size_t)g.max_new * sizeof(int32_t)));
    }
    TRY_DONE(generate(&r->job.model, prompts, n, &g, e));
    for (int i = 0; i < n; i++)
        TRY_DONE(answer_print(r, i, &prompts[i], e));
done:
    for (int i = 0; i < n; i++) {
        ids_free(&tokens[i]);
        mem_free(prompts[i].answer);
    }
    ids_free(&weights);
    return rc;
}

static int evaluate_loss(struct run *r, double *loss, double *weight, struct err *e)
{
    struct batch *b;
    *loss = *weight = 0;
    TRY(loader_start(r->validation, 0, 1, e));
    for (;;) {
        struct comm *c = &r->job.comm;
        double got[2 * RANKS_MAX + 1] = {0}; /* loss and weight of each rank; how many were asked to stop */
        TRY(loader_next(r->validation, &b, NULL, e));
        if (b == NULL)
            return 0;
        int rc = model_evaluate(&r->job.model, b, &got[2 * c->rank], &got[2 * c->rank + 1], e);
        loader_release(r->validation, b);
        TRY(rc);
        c->alive(c, r->state.step, "evaluating");
        got[2 * c->ranks] = stop_requested();
        TRY(c->sum_host(c, got, 2 * c->ranks + 1, e));
        for (int k = 0; k < c->ranks; k++) { /* in the order of the micro-batches: the same bits for any number of ranks */
            *loss += got[2 * k];
            *weight += got[2 * k + 1];
        }
        if (got[2 * c->ranks] > 0)
            FAIL(e, ERR_STOPPED, "while evaluating");
    }
}

/* Rank 0 answers, the others wait for it or help; all learn whether it was stopped. */
static int answer_together(struct run *r, struct err *e)
{
    struct err why = {0};
    int rc = r->lead || all_answer(r) ? answer_prompts(r, &why) : 0;
    double stopped = rc != 0 && why.code == ERR_STOPPED;
    if (rc != 0 && !(stopped > 0)) {
        *e = why;
        return rc;
    }
    TRY(r->job.comm.sum_host(&r->job.comm, &stopped, 1, e));
    if (stopped > 0)
        FAIL(e, ERR_STOPPED, "while answering eval.prompts");
    return 0;
}

int run_evaluate(struct run *r, bool *better, struct err *e)
{
    double loss, weight, start = metrics_now();
    if (better != NULL)
        *better = false;
    if (r->validation != NULL) {
        TRY(evaluate_loss(r, &loss, &weight, e));
        double mean = weight > 0 && !isnan(loss) ? loss / weight : NAN;
        metrics_eval(&r->metrics, r->state.step, mean, weight, metrics_now() - start);
        log_note("step %lld: evaluation loss %.4f over %.0f target tokens", (long long)r->state.step, mean, weight);
        if (isnan(r->eval_first))
            r->eval_first = mean;
        r->eval_last = mean;
        if (isfinite(mean) && (r->state.best_step < 0 || mean < r->state.best_loss)) {
            r->state.best_loss = mean;
            r->state.best_step = r->state.step;
            if (better != NULL)
                *better = true;
        }
    }
    if (r->job.c.eval.n_prompts > 0)
        TRY(answer_together(r, e));
    return 0;
}
