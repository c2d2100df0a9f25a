/* plan_json.c - the plan for a program: what plan_print.c says in words. Null is "not known"; docs/plan.md describes the keys. */
#include <math.h>
#include <string.h>

#include "trainer/base/json.h"
#include "trainer/placement.h"
#include "trainer/plan.h"

/* What begins an object begins with its first member. */
static void put_text(struct buf *b, const char *before, const char *key, const char *text)
{
    buf_printf(b, "%s\"%s\": ", before, key);
    json_put_string(b, text, strlen(text));
}

static void put(struct buf *b, const char *before, const char *key, double v)
{
    buf_printf(b, "%s\"%s\": ", before, key);
    json_put_f64(b, v);
}

static double known(double v) { return v > 0 ? v : NAN; }

static void put_model(struct buf *b, const struct plan *p, const struct config *c, const struct facts *f)
{
    const struct {
        const char *key;
        int64_t n;
    } shape[] = {{"layers", f->l},          {"width", f->d},     {"feed_forward", f->f}, {"heads", f->h},
                 {"key_value_heads", f->k}, {"head_size", f->q}, {"vocabulary", f->v},   {"parameters", facts_n_total(f)}};
    put_text(b, ",\n  \"model\": {", "architecture", f->arch);
    for (size_t i = 0; i < sizeof shape / sizeof *shape; i++)
        buf_printf(b, ", \"%s\": %lld", shape[i].key, (long long)shape[i].n);
    buf_printf(b, "},\n  \"adapter\": {\"rank\": %d, \"parameters\": %lld}", c->lora.rank, (long long)p->parameters);
}

static void put_choice(struct buf *b, const struct plan *p, const struct config *c)
{
    put_text(b, ",\n  ", "precision", p->device.act == DT_BF16 ? "bf16" : "f32");
    buf_printf(
        b, ",\n  \"batch\": {\"rows\": %d, \"sequence_length\": %d, \"passes\": %d, \"micro_batch\": %d, \"recompute\": \"%s\"}",
        c->train.batch, c->data.sequence_length, p->accumulation, p->micro_batch, plan_recompute_name(p->recompute));
    buf_printf(b, ",\n  \"base\": {\"placement\": \"%s\"", placement_name(p->shape.place.kind));
    put_text(b, ", ", "text", p->base);
    buf_puts(b, "}");
}

static void put_memory(struct buf *b, const struct plan *p)
{
    bool first = true;
    buf_puts(b, ",\n  \"memory\": {\"arenas\": [");
    for (int i = 0; i < ARENAS; i++) {
        const struct arena *a = &p->arenas[i];
        if (a->used == 0)
            continue;
        put_text(b, first ? "\n    {" : ",\n    {", "name", a->name);
        bool here = !p->device.cuda || i < ARENAS_DEVICE;
        buf_printf(b, ", \"bytes\": %zu, \"in_total\": %s, \"parts\": [", a->used, here ? "true" : "false");
        for (int k = 0; k < a->n_parts; k++) {
            put_text(b, k > 0 ? ", {" : "{", "name", a->parts[k].name);
            buf_printf(b, ", \"bytes\": %zu}", a->parts[k].bytes);
        }
        buf_puts(b, "]}");
        first = false;
    }
    buf_puts(b, "],\n    ");
    if (!p->device.cuda)
        buf_printf(b, "\"reader_bytes\": %lld, ", (long long)p->loader_bytes);
    buf_printf(b, "\"reserve_bytes\": %lld, \"total_bytes\": %lld, \"available_bytes\": %lld}", (long long)p->device.reserve,
               (long long)p->total_bytes, (long long)p->device.available);
}

static void put_time(struct buf *b, const struct plan *p, int64_t steps, int64_t tokens)
{
    put(b, ",\n  \"work\": {", "flop_token", p->flop_token);
    put(b, ", ", "flop_token_without_recomputation", p->flop_token_min);
    put(b, "},\n  \"time\": {", "tokens_s", known(p->tokens_s));
    if (p->way != WAY_UNKNOWN)
        put_text(b, ", ", "way", machine_way_name(p->way));
    else
        buf_puts(b, ", \"way\": null");
    put(b, ", ", "steps", known((double)steps));
    put(b, ", ", "tokens", known((double)tokens));
    put(b, ", ", "seconds", p->tokens_s > 0 ? known((double)tokens / p->tokens_s) : NAN);
    buf_puts(b, "}");
}

static void put_links(struct buf *b, const struct plan *p)
{
    struct plan_row rows[PLAN_ROWS];
    struct plan_bridge bridge;
    int n = plan_rows(p, rows);
    buf_puts(b, ",\n  \"links\": [");
    for (int i = 0; i < n; i++) {
        const struct plan_row *r = &rows[i];
        bool counts = isfinite(r->rate) && p->work.fetch_bytes > 0;
        put_text(b, i > 0 ? ",\n    {" : "\n    {", "name", r->name);
        put(b, ", ", "bytes_s", r->rate);
        put(b, ", ", "step_s", r->step_s);
        put(b, ", ", "tokens_s", r->tokens_s);
        put(b, ", ", "sum_s", r->sum_s);
        put(b, ", ", "hidden_tokens", counts ? r->hidden : NAN);
        put(b, ", ", "hidden_micro_batch", counts ? r->hidden_rows : NAN);
        buf_puts(b, "}");
    }
    buf_puts(b, "]");
    if (plan_bridge(p, &bridge)) {
        put(b, ",\n  \"bridge\": {", "worth", bridge.worth);
        put(b, ", ", "until_tokens", known(bridge.until));
        buf_puts(b, "}");
    } else
        buf_puts(b, ",\n  \"bridge\": null");
}

void plan_json(const struct plan *p, const struct config *c, const struct facts *f, int64_t steps, int64_t tokens,
               struct buf *out)
{
    buf_puts(out, "{\n  \"version\": 1");
    put_text(out, ",\n  ", "job", c->name);
    put_text(out, ",\n  ", "device", p->device.name);
    buf_printf(out, ",\n  \"ranks\": %d", p->device.cards);
    put_model(out, p, c, f);
    put_choice(out, p, c);
    put_memory(out, p);
    put_time(out, p, steps, tokens);
    put_links(out, p);
    buf_puts(out, "\n}\n");
}
