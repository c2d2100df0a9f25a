/* The tokenizer and the chat template that come with a model. */
#include "tests/model/model_files.h"
#include "trainer/base/json.h"
#include "trainer/source.h"

#define SMOLLM2_GGUF "models/SmolLM2-135M-Instruct.Q4_1.gguf"
#define CHATML                                                                                                                   \
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% "     \
    "endfor %}"                                                                                                                  \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"

static enum chat_template template_of(const char *dir, const char *name, const char *says)
{
    struct source s;
    struct err e = {0};
    enum chat_template out = CHAT_NONE;
    CHECK_OK(source_open(dir, false, &s, &e), &e);
    int rc = source_template(&s, name, &out, &e);
    if (says == NULL)
        CHECK_OK(rc, &e);
    else {
        CHECK(rc != 0);
        CHECK_HAS(e.text, says);
    }
    source_close(&s);
    return out;
}

/* tokenizer_config.json with this value of "chat_template". */
static void write_config(const char *dir, const char *before, const char *jinja, const char *after)
{
    struct buf b = {0};
    buf_printf(&b, "{\"model_max_length\": 256, \"chat_template\": %s", before);
    if (jinja != NULL)
        json_put_string(&b, jinja, strlen(jinja));
    buf_printf(&b, "%s}", after);
    files_write(dir, "tokenizer_config.json", b.data, b.n);
    buf_free(&b);
}

static void test_templates(void)
{
    const char *dir = files_copy("tiny-llama", "text");
    CHECK_INT(template_of(dir, "auto", NULL), CHAT_NONE);
    CHECK_INT(template_of(dir, "qwen3", NULL), CHAT_QWEN3);
    template_of(dir, "qwen33", "qwen3");
    write_config(dir, "null", NULL, "");
    CHECK_INT(template_of(dir, "auto", NULL), CHAT_NONE);
    write_config(dir, "", CHATML, "");
    CHECK_INT(template_of(dir, "auto", NULL), CHAT_CHATML);
    CHECK_INT(template_of(dir, "none", NULL), CHAT_NONE);
    write_config(dir, "", "{{ mine }}", "");
    template_of(dir, "auto", "tokenizer_config.json");
    write_config(dir, "[{\"name\": \"tool_use\", \"template\": \"x\"}, {\"name\": \"default\", \"template\": ", CHATML, "}]");
    CHECK_INT(template_of(dir, "auto", NULL), CHAT_CHATML);
    write_config(dir, "[{\"name\": \"tool_use\", \"template\": ", CHATML, "}]");
    template_of(dir, "auto", "\"default\"");
    write_config(dir, "17", NULL, "");
    template_of(dir, "auto", "a text or a list");
    /* The file of its own comes first. */
    files_write_text(dir, "chat_template.jinja", CHATML "\n");
    CHECK_INT(template_of(dir, "auto", NULL), CHAT_CHATML);
    files_write_text(dir, "chat_template.jinja", "{{ mine }}");
    template_of(dir, "auto", "chat_template.jinja");
    files_remove(dir, "chat_template.jinja");
    files_write_text(dir, "tokenizer_config.json", "{\"chat_template\": ");
    template_of(dir, "auto", "tokenizer_config.json");
}

static void test_tokenizer_of_folder(void)
{
    struct source s;
    struct err e = {0};
    struct tokenizer *t;
    const char *dir = files_copy("tiny-llama", "tokens");
    CHECK_OK(source_open(dir, false, &s, &e), &e);
    CHECK_OK(source_tokenizer(&s, &t, &e), &e);
    CHECK(t == NULL);
    files_write_text(dir, "tokenizer.json", "{\"model\": ");
    CHECK(source_tokenizer(&s, &t, &e) != 0);
    CHECK_HAS(e.text, "tokenizer.json");
    const char *shared = getenv("LORAT_SHARED");
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/data/tokenizers/qwen3", shared ? shared : "../shared");
    if (!io_is_dir(from)) {
        printf("not checked, there is no %s\n", from);
        source_close(&s);
        return;
    }
    snprintf(to, sizeof to, "%s/tokenizer.json", dir);
    CHECK_INT(unlink(to), 0);
    size_t n;
    char *text = files_read(from, "tokenizer.json", &n);
    files_write(dir, "tokenizer.json", text, n);
    mem_free(text);
    text = files_read(from, "tokenizer_config.json", &n);
    files_write(dir, "tokenizer_config.json", text, n);
    mem_free(text);
    CHECK_OK(source_tokenizer(&s, &t, &e), &e);
    CHECK_INT(tokenizer_find(t, "<|im_end|>"), 151645);
    tokenizer_close(t);
    source_close(&s);
    CHECK_INT(template_of(dir, "auto", NULL), CHAT_QWEN3);
}

static void test_smollm2(void)
{
    struct source s;
    struct err e = {0};
    struct tokenizer *t;
    struct ids ids = {0};
    struct json *root = NULL;
    enum chat_template c = CHAT_NONE;
    size_t n;
    if (!io_exists(SMOLLM2_GGUF)) {
        printf("not checked, there is no " SMOLLM2_GGUF "\n");
        return;
    }
    CHECK_OK(source_open(SMOLLM2_GGUF, true, &s, &e), &e);
    CHECK_OK(source_template(&s, "auto", &c, &e), &e);
    CHECK_INT(c, CHAT_SMOLLM2);
    CHECK_OK(source_tokenizer(&s, &t, &e), &e);
    char *golden = files_read("tests/golden/smollm2", "expected.json", &n);
    CHECK_OK(json_parse(golden, n, "expected.json", ERR_DATA, &root, &e), &e);
    const struct json *generate = json_get(root, "generate"), *prompt = json_get(generate, "prompt");
    const char *text = json_string(json_get(generate, "text"), &n);
    CHECK_OK(tokenizer_encode(t, text, n, true, &ids, &e), &e);
    CHECK_INT(ids.n, json_length(prompt));
    for (size_t i = 0; i < ids.n && i < json_length(prompt); i++) {
        int64_t want = -1;
        CHECK(json_i64(json_at(prompt, i), &want));
        CHECK_INT(ids.v[i], want);
    }
    ids_free(&ids);
    json_free(root);
    mem_free(golden);
    tokenizer_close(t);
    source_close(&s);
}

int main(void)
{
    files_begin();
    test_templates();
    test_tokenizer_of_folder();
    test_smollm2();
    files_end();
    return check_done();
}
