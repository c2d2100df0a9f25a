#include "trainer/source.h"

#include <stdio.h>
#include <string.h>

#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/source_internal.h"

static const struct {
    bool layered, bias, qk_norm; /* bias, qk_norm: only in models that have them */
    const char *hf, *gguf;       /* after "model.layers.N." and "blk.N." when layered */
} roles[ROLE_COUNT] = {
    [ROLE_EMBED] = {false, false, false, "model.embed_tokens.weight", "token_embd.weight"},
    [ROLE_FINAL_NORM] = {false, false, false, "model.norm.weight", "output_norm.weight"},
    [ROLE_HEAD] = {false, false, false, "lm_head.weight", "output.weight"},
    [ROLE_NORM1] = {true, false, false, "input_layernorm.weight", "attn_norm.weight"},
    [ROLE_Q] = {true, false, false, "self_attn.q_proj.weight", "attn_q.weight"},
    [ROLE_K] = {true, false, false, "self_attn.k_proj.weight", "attn_k.weight"},
    [ROLE_V] = {true, false, false, "self_attn.v_proj.weight", "attn_v.weight"},
    [ROLE_Q_BIAS] = {true, true, false, "self_attn.q_proj.bias", "attn_q.bias"},
    [ROLE_K_BIAS] = {true, true, false, "self_attn.k_proj.bias", "attn_k.bias"},
    [ROLE_V_BIAS] = {true, true, false, "self_attn.v_proj.bias", "attn_v.bias"},
    [ROLE_Q_NORM] = {true, false, true, "self_attn.q_norm.weight", "attn_q_norm.weight"},
    [ROLE_K_NORM] = {true, false, true, "self_attn.k_norm.weight", "attn_k_norm.weight"},
    [ROLE_O] = {true, false, false, "self_attn.o_proj.weight", "attn_output.weight"},
    [ROLE_NORM2] = {true, false, false, "post_attention_layernorm.weight", "ffn_norm.weight"},
    [ROLE_GATE] = {true, false, false, "mlp.gate_proj.weight", "ffn_gate.weight"},
    [ROLE_UP] = {true, false, false, "mlp.up_proj.weight", "ffn_up.weight"},
    [ROLE_DOWN] = {true, false, false, "mlp.down_proj.weight", "ffn_down.weight"},
};

void source_hf_name(enum role r, int layer, char name[96])
{
    if (roles[r].layered)
        snprintf(name, 96, "model.layers.%d.%s", layer, roles[r].hf);
    else
        snprintf(name, 96, "%s", roles[r].hf);
}

void source_own_name(const struct source *s, enum role r, int layer, char name[96])
{
    if (!s->is_gguf)
        source_hf_name(r, layer, name);
    else if (roles[r].layered)
        snprintf(name, 96, "blk.%d.%s", layer, roles[r].gguf);
    else
        snprintf(name, 96, "%s", roles[r].gguf);
}

bool source_has(const struct source *s, enum role r)
{
    return !(r == ROLE_HEAD && s->facts.tied) && !(roles[r].bias && !s->facts.qkv_bias) &&
           !(roles[r].qk_norm && !s->facts.qk_norm);
}

void source_shape(const struct facts *f, enum role r, int64_t shape[2], int *rank)
{
    int64_t d = f->d, hq = (int64_t)f->h * f->q, kq = (int64_t)f->k * f->q;
    shape[1] = 1;
    *rank = 1;
    switch (r) {
    case ROLE_FINAL_NORM:
    case ROLE_NORM1:
    case ROLE_NORM2:
        shape[0] = d;
        return;
    case ROLE_Q_BIAS:
        shape[0] = hq;
        return;
    case ROLE_K_BIAS:
    case ROLE_V_BIAS:
        shape[0] = kq;
        return;
    case ROLE_Q_NORM:
    case ROLE_K_NORM:
        shape[0] = f->q;
        return;
    default:
        break;
    }
    *rank = 2;
    shape[0] = r == ROLE_EMBED || r == ROLE_HEAD ? f->v
               : r == ROLE_Q                     ? hq
               : r == ROLE_K || r == ROLE_V      ? kq
               : r == ROLE_GATE || r == ROLE_UP  ? f->f
                                                 : d;
    shape[1] = r == ROLE_O ? hq : r == ROLE_DOWN ? f->f : d;
}

/* Not used, but known: what follows from the rest. */
static bool derivable(const struct source *s, const struct tensor *t, struct err *e)
{
    int64_t shape[2];
    int rank;
    size_t n = strlen(t->name);
    if (s->is_gguf)
        return strcmp(t->name, "rope_freqs.weight") == 0; /* read with the facts */
    if (s->facts.tied && strcmp(t->name, roles[ROLE_HEAD].hf) == 0) {
        source_shape(&s->facts, ROLE_HEAD, shape, &rank);
        return tensor_require(&s->tensors, t->name, rank, shape, &t, e) == 0;
    }
    static const char table[] = ".self_attn.rotary_emb.inv_freq"; /* Llama files of 2023 */
    return n >= sizeof table && strncmp(t->name, "model.layers.", 13) == 0 &&
           strcmp(t->name + n - (sizeof table - 1), table) == 0;
}

int source_check_tensors(const struct source *s, struct err *e)
{
    size_t n = s->tensors.n;
    char name[96], text[128];
    int64_t shape[2];
    int rank, rc = 0;
    bool *used = mem_alloc(n + 1, sizeof *used);
    if (used == NULL)
        return mem_fail(e, "a list of tensors", n);
    for (enum role r = 0; r < ROLE_COUNT; r++) {
        if (!source_has(s, r))
            continue;
        source_shape(&s->facts, r, shape, &rank);
        for (int layer = 0; layer < (roles[r].layered ? s->facts.l : 1); layer++) {
            const struct tensor *t;
            source_own_name(s, r, layer, name);
            TRY_DONE(tensor_require(&s->tensors, name, rank, shape, &t, e));
            if (t->type == TT_OTHER) {
                rc = err_set(e, ERR_MODEL,
                             "%s: tensor \"%s\" is of type %s, expected F32, F16, BF16, Q8_0, Q4_0 or Q4_1. Other types are not"
                             " supported",
                             s->tensors.files[t->file].path, name, t->type_text);
                goto done;
            }
            used[t - s->tensors.tensors] = true;
        }
    }
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = &s->tensors.tensors[i];
        struct err why = {0};
        if (used[i] || derivable(s, t, &why))
            continue;
        if (why.code != ERR_OK) {
            rc = err_set(e, why.code, "%s", why.text);
            goto done;
        }
        rc = err_set(e, ERR_MODEL,
                     "%s: tensor \"%.96s\" %s is not part of a %s model of %d layers, expected only tensors that are used",
                     s->tensors.files[t->file].path, t->name, tensor_shape_text(t, text), s->facts.arch, s->facts.l);
        goto done;
    }
done:
    mem_free(used);
    return rc;
}

static int folder_facts(struct source *s, struct err *e)
{
    char path[SOURCE_MAX_PATH], *config = NULL, *generation = NULL;
    size_t n, n_generation;
    int rc = 0;
    TRY_DONE(source_read_optional(s->path, "config.json", &config, &n, e));
    if (config == NULL) {
        if (io_exists(source_join(s->path, "adapter_config.json", path))) {
            rc = err_set(e, ERR_MODEL,
                         "%s: this is an adapter, expected a model. Name the adapter's base model here, and the adapter in"
                         " lora.start_from",
                         s->path);
            goto done;
        }
        err_set(e, ERR_MODEL, "%s: there is no config.json, expected a model folder", s->path);
        rc = source_add_command(s->path, e);
        goto done;
    }
    TRY_DONE(source_read_optional(s->path, "generation_config.json", &generation, &n_generation, e));
    TRY_DONE(facts_from_hf(config, n, generation, n_generation, source_join(s->path, "config.json", path), &s->facts, e));
done:
    mem_free(config);
    mem_free(generation);
    return rc;
}

static int open_any(struct source *s, bool plan_only, struct err *e)
{
    if (!io_exists(s->path))
        return source_missing(s->path, e);
    if (io_is_dir(s->path)) {
        TRY(folder_facts(s, e));
        if (plan_only)
            return 0;
        TRY(source_open_shards(s->path, &s->tensors, e));
        return source_check_tensors(s, e);
    }
    size_t n = strlen(s->path);
    if (n > 12 && strcmp(s->path + n - 12, ".safetensors") == 0)
        FAIL(e, ERR_MODEL, "%s: a file of weights alone, expected the folder that it lies in, with its config.json", s->path);
    s->is_gguf = true;
    TRY(gguf_open(s->path, &s->gguf, &s->tensors, e));
    TRY(facts_from_gguf(s->gguf, &s->tensors, s->path, &s->facts, e));
    TRY(source_check_tensors(s, e));
    if (plan_only)
        tensor_list_close(&s->tensors);
    return 0;
}

int source_open(const char *path, bool plan_only, struct source *out, struct err *e)
{
    *out = (struct source){.facts.bos = -1};
    char *expanded = io_expand_home(path);
    if (expanded == NULL)
        return mem_fail(e, "a path", strlen(path) + 1);
    size_t n = strlen(expanded);
    int rc;
    if (n == 0 || n >= sizeof out->path)
        rc = err_set(e, ERR_MODEL, "the model's path has %zu bytes, expected 1 to %zu", n, sizeof out->path - 1);
    else {
        memcpy(out->path, expanded, n + 1);
        rc = open_any(out, plan_only, e);
    }
    mem_free(expanded);
    if (rc != 0)
        source_close(out);
    return rc;
}

void source_close(struct source *s)
{
    facts_free(&s->facts);
    tensor_list_close(&s->tensors);
    gguf_close(s->gguf);
    *s = (struct source){.facts.bos = -1};
}
