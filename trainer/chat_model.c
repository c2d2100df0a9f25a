#include "trainer/chat_model.h"

#include <stdio.h>
#include <string.h>

#include "checkpoints/adapter.h"
#include "trainer/base/log.h"
#include "trainer/base/num.h"
#include "trainer/placement.h"
#include "trainer/state.h"

int chat_adapter_config(const char *dir, struct config *c, struct err *e)
{
    struct adapter_config a;
    struct tensor_list tensors = {0};
    TRY(adapter_open(dir, &a, &tensors, e));
    tensor_list_close(&tensors);
    c->lora.rank = a.rank;
    c->lora.alpha = a.alpha;
    c->lora.dropout = 0;
    c->lora.scaling = a.rslora ? SCALING_RSLORA : SCALING_STANDARD;
    c->lora.targets = 0;
    for (int i = 0; i < a.n_targets; i++) {
        int bit = 0;
        while (bit < CONFIG_MAX_TARGETS && strcmp(config_target_name(bit), a.targets[i]) != 0)
            bit++;
        if (bit == CONFIG_MAX_TARGETS)
            FAIL(e, ERR_MODEL, "%s/adapter_config.json: target_modules: %s, expected linear layers that lorat adapts (q_proj ... down_proj)", dir,
                 a.targets[i]);
        c->lora.targets |= 1u << bit;
    }
    return 0;
}

static int encode(struct chat_model *m, struct chat_prompt *p, struct err *e)
{
    struct job *j = &m->job;
    struct ids weights = {0};
    size_t n = strlen(p->text);
    int rc;
    if (j->template == CHAT_NONE) {
        rc = tokenizer_encode(j->tokenizer, p->text, n, false, &p->tokens, e);
    } else {
        struct chat_message turns[2] = {{.role = "system", .content = m->options.system, .n = m->options.system ? strlen(m->options.system) : 0},
                                        {.role = "user", .content = p->text, .n = n}};
        int skip = m->options.system == NULL;
        rc = chat_render(j->template, j->tokenizer, turns + skip, (size_t)(2 - skip), true, &p->tokens, &weights, e);
    }
    ids_free(&weights);
    return rc;
}

static int open_text(struct chat_model *m, const char *const *prompts, int n, struct err *e)
{
    m->prompts = mem_alloc((size_t)n, sizeof *m->prompts);
    m->list = mem_alloc((size_t)n, sizeof *m->list);
    if (m->prompts == NULL || m->list == NULL)
        return mem_fail(e, "the prompts", (size_t)n * sizeof *m->prompts);
    m->n = n;
    TRY(source_tokenizer(&m->job.source, &m->job.tokenizer, e));
    if (m->job.tokenizer == NULL)
        FAIL(e, ERR_MODEL, "%s: has no tokenizer, expected tokenizer.json beside the weights. Bring it from where the model came from",
             m->options.model);
    TRY(source_template(&m->job.source, m->options.tmpl, &m->job.template, e));
    for (int i = 0; i < n; i++) {
        m->prompts[i].text = prompts[i];
        TRY(encode(m, &m->prompts[i], e));
        m->prompts[i].answer = mem_alloc((size_t)m->options.max_new, sizeof(int32_t));
        if (m->prompts[i].answer == NULL)
            return mem_fail(e, "an answer", (size_t)m->options.max_new * sizeof(int32_t));
        m->list[i] = (struct prompt){.tokens = m->prompts[i].tokens.v, .n = (int32_t)m->prompts[i].tokens.n, .answer = m->prompts[i].answer};
    }
    return 0;
}

/* The smallest training geometry, with room for the cache of as many prompts as run side by side. */
static struct model_shape shape_for(const struct chat_model *m, int32_t *slots, int32_t *context)
{
    int32_t longest = 1;
    *slots = m->n < GENERATE_SLOTS ? m->n : GENERATE_SLOTS;
    for (int i = 0; i < m->n; i++)
        longest = m->list[i].n > longest ? m->list[i].n : longest;
    *context = longest + m->options.max_new;
    if (*context > m->job.source.facts.context)
        *context = (int32_t)m->job.source.facts.context;
    return (struct model_shape){.n = BATCH_ROUND, .sequence_length = BATCH_ROUND, .positions = *context > BATCH_ROUND ? *context : BATCH_ROUND,
                                .head_chunk = BATCH_ROUND, .recompute = RECOMPUTE_FULL};
}

/* Laid out with the base in that place; *need: bytes of the device, on the CPU with those of the host. */
static int lay_out(struct chat_model *m, enum frozen_kind kind, int64_t *need, struct err *e)
{
    struct job *j = &m->job;
    int32_t slots, context;
    struct model_shape shape = shape_for(m, &slots, &context);
    shape.place.kind = kind;
    TRY(model_layout(&j->model, j->ops, &j->source.facts, &j->lora, &shape, e));
    shape.least_activations = generate_bytes(&j->model, slots, context);
    model_close(&j->model);
    TRY(model_layout(&j->model, j->ops, &j->source.facts, &j->lora, &shape, e));
    *need = 0;
    for (int i = 0; i < ARENAS; i++)
        if (i != ARENA_HOST || j->ops->unified)
            *need += (int64_t)j->model.arenas[i].used;
    return 0;
}

/* Where the base lies: as asked; auto is the first that fits, and says so where that is not plain. On the CPU both are the same memory. */
static int open_model(struct chat_model *m, struct err *e)
{
    struct job *j = &m->job;
    enum chat_placement asked = m->options.placement;
    int64_t free_bytes, total_bytes, need;
    char needs[32], has[32];
    TRY(j->ops->memory(j->ops, &free_bytes, &total_bytes, e));
    TRY(lay_out(m, asked == CHAT_PLACEMENT_HOST ? FROZEN_HOST : FROZEN_RESIDENT, &need, e));
    if (need > free_bytes && asked == CHAT_PLACEMENT_AUTO && !j->ops->unified) {
        log_note("base     in host memory, two blocks at a time on the card: resident it needs %s, and %s are free",
                 num_format_bytes(needs, (uint64_t)need), num_format_bytes(has, (uint64_t)free_bytes));
        model_close(&j->model);
        TRY(lay_out(m, FROZEN_HOST, &need, e));
    }
    if (need > free_bytes)
        FAIL(e, ERR_DEVICE, "%s: answering needs %s, expected at most the %s that are free. %s", m->options.model,
             num_format_bytes(needs, (uint64_t)need), num_format_bytes(has, (uint64_t)free_bytes),
             asked == CHAT_PLACEMENT_RESIDENT && !j->ops->unified ? "--placement host keeps the base in host memory"
                                                                  : "Choose a smaller model or fewer prompts at once");
    if (j->model.arenas[ARENA_HOST].used > 0 && !j->ops->unified)
        TRY(placement_room(PLACEMENT_OF_GENERATE, (int64_t)j->model.arenas[ARENA_HOST].used, 1, "", e));
    TRY(model_allocate(&j->model, e));
    return model_load(&j->model, &j->source, NULL, NULL, e);
}

static int load_adapter(struct chat_model *m, struct err *e)
{
    struct job *j = &m->job;
    if (m->options.adapter == NULL)
        return 0;
    float *params = mem_alloc((size_t)j->lora.count, sizeof *params);
    if (params == NULL)
        return mem_fail(e, "the adapter", (size_t)j->lora.count * sizeof *params);
    int rc = state_load_adapter(m->options.adapter, &j->lora, &j->c, params, e);
    if (rc == 0)
        rc = model_set_params(&j->model, params, e);
    mem_free(params);
    return rc;
}

int chat_model_open(struct chat_model *m, const struct chat_options *o, const char *const *prompts, int n, struct err *e)
{
    struct job *j = &m->job;
    *m = (struct chat_model){.options = *o};
    comm_solo(&j->comm);
    j->c.compute.device = o->device;
    j->c.compute.precision = o->precision;
    j->c.compute.threads = o->threads;
    j->c.lora.rank = 1;
    j->c.lora.alpha = 1;
    if (o->adapter != NULL)
        TRY(chat_adapter_config(o->adapter, &j->c, e));
    TRY(source_open(o->model, false, &j->source, e));
    TRY(lora_plan(&j->source.facts, &j->c, &j->lora, e));
    TRY(open_text(m, prompts, n, e));
    TRY(device_open(&j->c, &j->ops, &j->card, e));
    TRY(open_model(m, e));
    return load_adapter(m, e);
}

int chat_model_answer(struct chat_model *m, int (*on_token)(void *arg, int prompt, int32_t id, struct err *e), void *arg, struct err *e)
{
    struct generate_options g = {.max_new = m->options.max_new, .on_token = on_token, .arg = arg};
    return generate(&m->job.model, m->list, m->n, &g, e);
}

void chat_model_text(const struct chat_model *m, int i, struct buf *out)
{
    for (int32_t k = 0; k < m->list[i].n_answer; k++) {
        size_t n;
        const char *bytes = tokenizer_token(m->job.tokenizer, m->list[i].answer[k], &n);
        if (bytes != NULL)
            buf_add(out, bytes, n);
    }
}

void chat_model_close(struct chat_model *m)
{
    for (int i = 0; i < m->n; i++) {
        ids_free(&m->prompts[i].tokens);
        mem_free(m->prompts[i].answer);
    }
    mem_free(m->prompts);
    mem_free(m->list);
    job_close(&m->job);
}
