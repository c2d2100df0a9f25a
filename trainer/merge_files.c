#include "trainer/merge_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

static const char *type_name(enum tensor_type t) { return t == TT_F32 ? "float32" : t == TT_F16 ? "float16" : "bfloat16"; }

static void take(struct merge_files *f, const char *name, char *bytes, size_t n)
{
    f->list[f->n++] = (struct hf_file){.name = name, .bytes = bytes, .n = n};
}

static int take_buf(struct merge_files *f, const char *name, struct buf *b, struct err *e)
{
    if (b->failed) {
        buf_free(b);
        return mem_fail(e, name, b->n);
    }
    take(f, name, b->data, b->n);
    return 0;
}

/* config.json with "torch_dtype" or "dtype" saying what is written now. */
static int patched_config(const char *text, const char *dtype, struct buf *out)
{
    static const char *const keys[] = {"\"torch_dtype\"", "\"dtype\""};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
        const char *at = strstr(text, keys[k]);
        const char *open = at != NULL ? strchr(at + strlen(keys[k]), '"') : NULL;
        const char *close = open != NULL ? strchr(open + 1, '"') : NULL;
        if (close == NULL)
            continue;
        buf_add(out, text, (size_t)(open + 1 - text));
        buf_puts(out, dtype);
        buf_puts(out, close);
        return 0;
    }
    buf_puts(out, text);
    return 0;
}

static int collect_folder(const struct source *s, enum tensor_type type, struct merge_files *f, struct err *e)
{
    static const char *const names[] = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                        "chat_template.jinja", "vocab.json", "merges.txt", "tokenizer.model", "added_tokens.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1200], *text;
        size_t n;
        snprintf(path, sizeof path, "%s/%s", s->path, names[i]);
        if (!io_exists(path))
            continue;
        TRY(io_read_file(path, ERR_MODEL, 256 << 20, &text, &n, e));
        if (i > 0) {
            take(f, names[i], text, n);
            continue;
        }
        struct buf patched = {0};
        patched_config(text, type_name(type), &patched);
        free(text);
        TRY(take_buf(f, names[i], &patched, e));
    }
    return 0;
}

static void put_rope(const struct facts *f, struct buf *b)
{
    if (f->rope.kind == ROPE_LINEAR)
        buf_printf(b, "  \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": %.17g},\n", f->rope.factor);
    else if (f->rope.kind == ROPE_LLAMA3)
        buf_printf(b, "  \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": %.17g, \"low_freq_factor\": %.17g, \"high_freq_factor\": %.17g, "
                      "\"original_max_position_embeddings\": %lld},\n",
                   f->rope.factor, f->rope.low_freq_factor, f->rope.high_freq_factor, (long long)f->rope.original_context);
}

static void put_ids(const struct facts *f, struct buf *b)
{
    buf_puts(b, "  \"eos_token_id\": [");
    for (int i = 0; i < f->n_eos; i++)
        buf_printf(b, "%s%d", i > 0 ? ", " : "", f->eos[i]);
    buf_puts(b, "]");
    if (f->bos >= 0)
        buf_printf(b, ",\n  \"bos_token_id\": %d", f->bos);
}

static void config_of(const struct facts *f, enum tensor_type type, struct buf *b)
{
    const char *family = strcmp(f->arch, "qwen3") == 0 ? "Qwen3" : strcmp(f->arch, "qwen2") == 0 ? "Qwen2" : "Llama";
    const char *model_type = strcmp(family, "Llama") == 0 ? "llama" : f->arch;
    buf_printf(b, "{\n  \"architectures\": [\"%sForCausalLM\"],\n  \"model_type\": \"%s\",\n", family, model_type);
    buf_printf(b, "  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n  \"num_hidden_layers\": %d,\n", f->d, f->f, f->l);
    buf_printf(b, "  \"num_attention_heads\": %d,\n  \"num_key_value_heads\": %d,\n  \"head_dim\": %d,\n", f->h, f->k, f->q);
    buf_printf(b, "  \"vocab_size\": %d,\n  \"max_position_embeddings\": %lld,\n", f->v, (long long)f->context);
    buf_printf(b, "  \"rms_norm_eps\": %.9g,\n  \"rope_theta\": %.17g,\n", (double)f->norm_eps, f->rope.theta);
    put_rope(f, b);
    buf_printf(b, "  \"hidden_act\": \"silu\",\n  \"attention_bias\": false,\n  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n",
               f->tied ? "true" : "false", type_name(type));
    put_ids(f, b);
    buf_puts(b, "\n}\n");
}

static int tokenizer_config_of(const struct source *s, const struct tokenizer *t, struct buf *b)
{
    size_t n;
    const char *chat = gguf_string(s->gguf, "tokenizer.chat_template", &n);
    buf_puts(b, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\"");
    if (s->facts.n_eos > 0) {
        size_t length;
        const char *eos = tokenizer_token(t, s->facts.eos[0], &length);
        buf_puts(b, ",\n  \"eos_token\": ");
        json_put_string(b, eos != NULL ? eos : "", eos != NULL ? length : 0);
    }
    if (s->facts.bos >= 0) {
        size_t length;
        const char *bos = tokenizer_token(t, s->facts.bos, &length);
        buf_puts(b, ",\n  \"bos_token\": ");
        json_put_string(b, bos != NULL ? bos : "", bos != NULL ? length : 0);
    }
    if (chat != NULL) {
        buf_puts(b, ",\n  \"chat_template\": ");
        json_put_string(b, chat, n);
    }
    buf_printf(b, ",\n  \"clean_up_tokenization_spaces\": false,\n  \"model_max_length\": %lld\n}\n", (long long)s->facts.context);
    return 0;
}

static int collect_gguf(const struct source *s, enum tensor_type type, struct merge_files *f, struct err *e)
{
    struct buf config = {0}, generation = {0}, tokens = {0}, tokenizer = {0};
    struct tokenizer *t = NULL;
    if (s->facts.rope.kind == ROPE_FACTORS)
        FAIL(e, ERR_MODEL, "%s: has rope_freqs, whose scaling config.json cannot name exactly. Merge with the Hugging Face folder of this model instead", s->path);
    config_of(&s->facts, type, &config);
    TRY(take_buf(f, "config.json", &config, e));
    buf_puts(&generation, "{\n");
    put_ids(&s->facts, &generation);
    buf_puts(&generation, "\n}\n");
    TRY(take_buf(f, "generation_config.json", &generation, e));
    TRY(source_tokenizer(s, &t, e));
    if (t == NULL)
        return 0;
    int rc = tokenizer_write_json(t, &tokens, e);
    if (rc == 0)
        rc = take_buf(f, "tokenizer.json", &tokens, e);
    if (rc == 0)
        rc = tokenizer_config_of(s, t, &tokenizer);
    if (rc == 0)
        rc = take_buf(f, "tokenizer_config.json", &tokenizer, e);
    tokenizer_close(t);
    return rc;
}

int merge_files_collect(const struct source *s, enum tensor_type type, struct merge_files *out, struct err *e)
{
    *out = (struct merge_files){0};
    return s->is_gguf ? collect_gguf(s, type, out, e) : collect_folder(s, type, out, e);
}

void merge_files_free(struct merge_files *f)
{
    for (size_t i = 0; i < f->n; i++)
        free((void *)(uintptr_t)f->list[i].bytes);
    *f = (struct merge_files){0};
}
