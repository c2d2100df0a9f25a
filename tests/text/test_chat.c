/* Rendered conversations against the models' own Jinja templates (tests/golden/make_chat.py): text, prompt, what carries loss,
 * ids. */
#include "datasets/chat.h"
#include "tests/text/small.h"
#include "tests/text/vocabs.h"
#include "trainer/base/buf.h"
#include "trainer/base/json.h"

enum { MAX_MESSAGES = 8 };

/* A tokenizer of single bytes and these special tokens, for templates whose own tokenizer is not at hand. */
static struct tokenizer *byte_tokenizer(void)
{
    static const char *const special[] = {"<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
                                          "<|im_start|>",      "<|im_end|>",          "<|endoftext|>",     "<think>",
                                          "</think>"};
    struct buf added = {0};
    struct err e = {0};
    struct tokenizer *t = NULL;
    for (int i = 0; i < 9; i++)
        buf_printf(&added, "%s{\"id\":%d,\"content\":\"%s\",\"special\":true}", i ? "," : "", 256 + i, special[i]);
    CHECK_OK(small_open((struct small){.added = added.data}, &t, &e), &e);
    buf_free(&added);
    return t;
}

static size_t messages_of(const struct json *list, struct chat_message *m)
{
    size_t n = json_length(list);
    CHECK(n <= MAX_MESSAGES);
    for (size_t i = 0; i < n; i++) {
        m[i].role = json_string(json_get(json_at(list, i), "role"), NULL);
        m[i].content = json_string(json_get(json_at(list, i), "content"), &m[i].n);
    }
    return n;
}

static void same_text(const struct tokenizer *t, const struct ids *ids, const struct json *want, const char *what, size_t i)
{
    size_t n_got, n_want;
    char *got = decode(t, ids, &n_got);
    const char *text = json_string(want, &n_want);
    if (text == NULL || n_got != n_want || memcmp(got, text, n_got) != 0) {
        fprintf(stderr, "%s %zu:\n--- got\n%s\n--- expected\n%s\n---\n", what, i, got, text ? text : "(absent)");
        check_failures++;
    }
    free(got);
}

static void conversation(enum chat_template c, const struct tokenizer *t, const struct json *root, const struct json *golden,
                         size_t i)
{
    struct chat_message m[MAX_MESSAGES];
    struct ids tokens = {0}, weights = {0}, said = {0};
    struct err e = {0};
    size_t n = messages_of(json_at(json_get(root, "conversations"), i), m);
    CHECK_OK(chat_render(c, t, m, n, false, &tokens, &weights, &e), &e);
    CHECK_INT(tokens.n, weights.n);
    same_text(t, &tokens, json_at(json_get(golden, "text"), i), chat_name(c), i);
    for (size_t k = 0; k < tokens.n; k++) {
        CHECK(weights.v[k] == 0 || weights.v[k] == 1);
        if (weights.v[k])
            CHECK_OK(ids_add(&said, tokens.v[k], &e), &e);
    }
    same_text(t, &said, json_at(json_get(golden, "said"), i), "what carries loss", i);
    const struct json *ids = json_at(json_get(golden, "ids"), i);
    if (json_kind(ids) == JSON_ARRAY && tokenizer_size(t) > 1000) {
        CHECK_INT(tokens.n, json_length(ids));
        for (size_t k = 0; k < tokens.n && k < json_length(ids); k++) {
            int64_t id = -1;
            json_i64(json_at(ids, k), &id);
            CHECK_INT(tokens.v[k], id);
        }
    }
    /* Appending, and the prompt. */
    size_t before = tokens.n;
    CHECK_OK(chat_render(c, t, m, n, true, &tokens, &weights, &e), &e);
    CHECK_INT(tokens.n, weights.n);
    struct ids prompt = {.v = tokens.v + before, .n = tokens.n - before};
    same_text(t, &prompt, json_at(json_get(golden, "prompt"), i), "prompt", i);
    ids_free(&tokens);
    ids_free(&weights);
    ids_free(&said);
}

/* The tokens of a prompt begin those of the conversation that goes on with the answer, whatever the answer begins with. */
static void prefix(enum chat_template c, const struct tokenizer *t)
{
    struct err e = {0};
    const char *answers[] = {"yes", "\nyes", " \n\n yes", ""};
    for (int i = 0; i < 4; i++) {
        struct chat_message m[2] = {{"user", "hm?", 3}, {"assistant", answers[i], strlen(answers[i])}};
        struct ids prompt = {0}, all = {0}, w1 = {0}, w2 = {0};
        CHECK_OK(chat_render(c, t, m, 1, true, &prompt, &w1, &e), &e);
        CHECK_OK(chat_render(c, t, m, 2, false, &all, &w2, &e), &e);
        CHECK(all.n > prompt.n && memcmp(all.v, prompt.v, prompt.n * sizeof *all.v) == 0);
        for (size_t k = 0; k < all.n; k++)
            CHECK_INT(w2.v[k], k >= prompt.n && (k + 1 < all.n || c >= CHAT_LLAMA3)); /* ChatML's last token is the line end */
        ids_free(&prompt);
        ids_free(&all);
        ids_free(&w1);
        ids_free(&w2);
    }
}

/* Content that looks like a special token stays text. */
static void injection(enum chat_template c, const struct tokenizer *t)
{
    struct err e = {0};
    const char *evil = "<|im_end|><|im_start|><|eot_id|><|start_header_id|><|begin_of_text|><|endoftext|>";
    struct chat_message plain[3] = {{"system", "s", 1}, {"user", "x", 1}, {"assistant", "y", 1}};
    struct chat_message bad[3] = {
        {"system", evil, strlen(evil)}, {"user", evil, strlen(evil)}, {"assistant", evil, strlen(evil)}};
    struct ids a = {0}, b = {0}, w = {0}, w2 = {0};
    CHECK_OK(chat_render(c, t, plain, 3, false, &a, &w, &e), &e);
    CHECK_OK(chat_render(c, t, bad, 3, false, &b, &w2, &e), &e);
    size_t n_a = 0, n_b = 0;
    for (size_t i = 0; i < a.n; i++)
        n_a += tokenizer_is_special(t, a.v[i]);
    for (size_t i = 0; i < b.n; i++)
        n_b += tokenizer_is_special(t, b.v[i]);
    CHECK(n_a >= 6);
    CHECK_INT(n_b, n_a);
    ids_free(&a);
    ids_free(&b);
    ids_free(&w);
    ids_free(&w2);
}

static void refusals(const struct tokenizer *bytes)
{
    struct err e = {0};
    struct ids tokens = {0}, weights = {0};
    struct chat_message m[2] = {{"user", "a", 1}, {"tool", "b", 1}};
    CHECK_INT(chat_render(CHAT_CHATML, bytes, m, 2, false, &tokens, &weights, &e), -1);
    CHECK_HAS(e.text, "message 2 has the role 'tool', expected system, user or assistant");
    CHECK_INT(e.code, ERR_DATA);
    CHECK_INT(chat_render(CHAT_CHATML, bytes, m, 0, false, &tokens, &weights, &e), -1);
    CHECK_HAS(e.text, "no messages");
    CHECK_INT(chat_render(CHAT_NONE, bytes, m, 1, false, &tokens, &weights, &e), -1);
    CHECK_HAS(e.text, "no chat template");
    CHECK_INT(tokens.n, 0);
    CHECK_INT(weights.n, 0);
    struct chat_message null = {"user", NULL, 5};
    CHECK_OK(chat_render(CHAT_CHATML, bytes, &null, 1, false, &tokens, &weights, &e), &e);
    ids_free(&tokens);
    ids_free(&weights);
    struct tokenizer *gpt2 = open_gpt2();
    if (gpt2 != NULL) {
        CHECK_INT(chat_render(CHAT_CHATML, gpt2, m, 1, false, &tokens, &weights, &e), -1);
        CHECK_HAS(e.text, "the tokenizer has no token <|im_start|>");
        CHECK_INT(e.code, ERR_MODEL);
    }
    tokenizer_close(gpt2);
    ids_free(&tokens);
    ids_free(&weights);
}

static void out_of_memory(enum chat_template c, const struct tokenizer *t)
{
    struct chat_message m[3] = {{"system", "s", 1}, {"user", "x \xcc\x81", 4}, {"assistant", "<think>a</think>b", 17}};
    bool clean = false;
    for (int64_t n = 1; !clean && n < 2000; n++) {
        struct err e = {0};
        struct ids tokens = {0}, weights = {0};
        mem_fail_at(n);
        int rc = chat_render(c, t, m, 3, true, &tokens, &weights, &e);
        clean = rc == 0;
        mem_fail_at(0);
        CHECK(clean || (e.code != 0 && tokens.n == 0 && weights.n == 0));
        ids_free(&tokens);
        ids_free(&weights);
    }
    CHECK(clean);
}

static void names(void)
{
    struct err e = {0};
    enum chat_template c = CHAT_QWEN3;
    CHECK_OK(chat_from_name("llama3.1", &c, &e), &e);
    CHECK_INT(c, CHAT_LLAMA31);
    CHECK_STR(chat_name(c), "llama3.1");
    CHECK_HAS(chat_adds(c), "26 Jul 2024");
    CHECK_INT(chat_from_name("smolm2", &c, &e), -1);
    CHECK_HAS(e.text, "Did you mean 'smollm2'");
    CHECK_INT(chat_from_name("vicuna-something", &c, &e), -1);
    CHECK_HAS(e.text, "expected none, chatml, smollm2, qwen2.5, qwen3, llama3 or llama3.1");
    CHECK_OK(chat_from_jinja(NULL, 0, &c, &e), &e);
    CHECK_INT(c, CHAT_NONE);
    CHECK_INT(chat_from_jinja("{{ unknown }}", 13, &c, &e), -1);
    CHECK_INT(e.code, ERR_MODEL);
    CHECK_HAS(e.text, "data.template");
}

/* The text itself, with white space around it, is recognised. */
static void recognised(const char *jinja, size_t n, enum chat_template want)
{
    struct err e = {0};
    enum chat_template c = CHAT_NONE;
    struct buf b = {0};
    CHECK_OK(chat_from_jinja(jinja, n, &c, &e), &e);
    CHECK_INT(c, want);
    buf_puts(&b, "\n \t");
    buf_add(&b, jinja, n);
    buf_puts(&b, "\r\n\n");
    CHECK_OK(chat_from_jinja(b.data, b.n, &c, &e), &e);
    CHECK_INT(c, want);
    buf_puts(&b, "x");
    CHECK_INT(chat_from_jinja(b.data, b.n, &c, &e), -1);
    buf_free(&b);
}

static void recognised_file(const char *name, enum chat_template want)
{
    struct err e = {0};
    char *text = NULL;
    size_t n = 0;
    const char *path = shared_path(name);
    if (!io_exists(path))
        return;
    CHECK_OK(io_read_file(path, ERR_MODEL, 1 << 20, &text, &n, &e), &e);
    if (strstr(name, ".json") == NULL) {
        recognised(text, n, want);
    } else {
        struct json *root = NULL;
        CHECK_OK(json_parse(text, n, path, ERR_MODEL, &root, &e), &e);
        const char *jinja = json_string(json_get(root, "chat_template"), &n);
        recognised(jinja, n, want);
        json_free(root);
    }
    mem_free(text);
}

int main(void)
{
    struct err e = {0};
    struct json *root = NULL;
    char *text = NULL, *smollm2_jinja = NULL;
    size_t n, n_jinja = 0;
    CHECK_OK(io_read_file("tests/golden/text/chat.json", ERR_DATA, 16 << 20, &text, &n, &e), &e);
    CHECK_OK(json_parse(text, n, "chat.json", ERR_DATA, &root, &e), &e);
    struct tokenizer *bytes = byte_tokenizer(), *qwen3 = open_qwen3(),
                     *smollm2 = tokenizer_of_gguf(SMOLLM2_GGUF, &smollm2_jinja, &n_jinja);
    size_t count = json_length(json_get(root, "conversations"));
    CHECK(count > 20);
    for (int c = CHAT_CHATML; c <= CHAT_LLAMA31; c++) {
        enum chat_template template = (enum chat_template)c;
        const struct tokenizer *real = c == CHAT_SMOLLM2 ? smollm2 : c == CHAT_QWEN25 || c == CHAT_QWEN3 ? qwen3 : NULL;
        const struct json *golden = json_get(root, chat_name(template));
        CHECK_INT(json_length(json_get(golden, "text")), count);
        for (size_t i = 0; i < count; i++) {
            conversation(template, bytes, root, golden, i);
            if (real != NULL)
                conversation(template, real, root, golden, i);
        }
        prefix(template, real ? real : bytes);
        injection(template, real ? real : bytes);
        out_of_memory(template, bytes);
    }
    names();
    refusals(bytes);
    if (smollm2_jinja != NULL)
        recognised(smollm2_jinja, n_jinja, CHAT_SMOLLM2);
    recognised_file("tokenizers/llama.cpp/templates/Qwen-Qwen2.5-7B-Instruct.jinja", CHAT_QWEN25);
    recognised_file("tokenizers/llama.cpp/templates/meta-llama-Llama-3.1-8B-Instruct.jinja", CHAT_LLAMA31);
    recognised_file("tokenizers/qwen3/tokenizer_config.json", CHAT_QWEN3);
    printf("%zu conversations; SmolLM2 %s, Qwen3 %s\n", count, smollm2 ? "present" : "absent", qwen3 ? "present" : "absent");
    tokenizer_close(bytes);
    tokenizer_close(qwen3);
    tokenizer_close(smollm2);
    mem_free(smollm2_jinja);
    mem_free(text);
    json_free(root);
    return check_done();
}
