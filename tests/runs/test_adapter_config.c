/* adapter_config.json: what PEFT writes is read, what changes the result is refused by name, what is written is read back. */
#include "checkpoints/adapter.h"
#include "tests/check.h"
#include "trainer/base/mem.h"

#define HEAD "{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": [\"q_proj\"]"

static int parse(const char *text, struct adapter_config *c, struct err *e)
{
    return adapter_config_parse(text, strlen(text), "adapter_config.json", c, e);
}

static void test_refusals(void)
{
    static const struct {
        const char *text, *part;
    } bad[] = {
        {HEAD ", \"use_dora\": true}", "use_dora: found true"},
        {HEAD ", \"rank_pattern\": {\"q_proj\": 4}}", "rank_pattern"},
        {HEAD ", \"alpha_pattern\": {\"q_proj\": 4}}", "alpha_pattern"},
        {HEAD ", \"modules_to_save\": [\"lm_head\"]}", "modules_to_save"},
        {HEAD ", \"bias\": \"all\"}", "bias: found \"all\""},
        {HEAD ", \"lora_bias\": true}", "lora_bias"},
        {HEAD ", \"layers_to_transform\": [0, 1]}", "layers_to_transform"},
        {HEAD ", \"layers_to_transform\": 0}", "layers_to_transform"},
        {HEAD ", \"layer_replication\": [[0, 4], [2, 5]]}", "layer_replication"},
        {HEAD ", \"fan_in_fan_out\": true}", "fan_in_fan_out"},
        {HEAD ", \"trainable_token_indices\": [3]}", "trainable_token_indices"},
        {HEAD ", \"exclude_modules\": [\"x\"]}", "exclude_modules"},
        {HEAD ", \"target_parameters\": [\"x\"]}", "target_parameters"},
        {HEAD ", \"a_new_switch\": true}", "a_new_switch"},
        {HEAD ", \"init_lora_weights\": \"pissa\"}", "init_lora_weights: found \"pissa\""},
        {HEAD ", \"task_type\": \"SEQ_CLS\"}", "task_type: found \"SEQ_CLS\""},
        {HEAD ", \"use_rslora\": 1}", "use_rslora"},
        {HEAD ", \"lora_dropout\": -0.5}", "lora_dropout"},
        {HEAD ", \"base_model_name_or_path\": 3}", "base_model_name_or_path"},
        {HEAD ", \"r\": 8}", "adapter_config.json"},
        {"{\"peft_type\": \"IA3\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": [\"q_proj\"]}", "peft_type: found \"IA3\""},
        {"{\"r\": 8, \"lora_alpha\": 16, \"target_modules\": [\"q_proj\"]}", "peft_type"},
        {"{\"peft_type\": \"LORA\", \"r\": 0, \"lora_alpha\": 16, \"target_modules\": [\"q_proj\"]}", "r: found 0"},
        {"{\"peft_type\": \"LORA\", \"r\": 2.5, \"lora_alpha\": 16, \"target_modules\": [\"q_proj\"]}", "r: found 2.5"},
        {"{\"peft_type\": \"LORA\", \"r\": 1e30, \"lora_alpha\": 16, \"target_modules\": [\"q_proj\"]}", "r: found 1e+30"},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"target_modules\": [\"q_proj\"]}", "lora_alpha"},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": \"16\", \"target_modules\": [\"q_proj\"]}",
         "lora_alpha: found \"16\""},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16}", "target_modules"},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": []}", "an empty list"},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": [3]}", "found 3 in the list"},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": [\"a.\"]}", "found \"a.\""},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": "
         "[\"0123456789012345678901234567890_proj\"]}",
         "target_modules"},
        {"{\"peft_type\": \"LORA\", \"r\": 8, \"lora_alpha\": 16, \"target_modules\": \".*(q|v)_proj\"}",
         "the pattern \".*(q|v)_proj\", expected a list of names. Replace it"},
        {"[1]", "adapter_config.json"},
        {"", "adapter_config.json"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct adapter_config c;
        struct err e = {0};
        if (parse(bad[i].text, &c, &e) == 0) {
            fprintf(stderr, "accepted: %s\n", bad[i].text);
            check_failures++;
        }
        CHECK_INT(e.code, ERR_MODEL);
        CHECK_HAS(e.text, bad[i].part);
    }
}

static void test_accepted(void)
{
    struct adapter_config c;
    struct err e = {0};
    CHECK_OK(parse(HEAD "}", &c, &e), &e);
    CHECK_INT(c.rank, 8);
    CHECK_NEAR(adapter_scale(&c), 2, 0);
    CHECK_STR(c.base, "");
    CHECK_OK(
        parse(HEAD
              ", \"a_new_switch\": false, \"another\": null, \"more\": {}, \"list\": [], \"text\": \"\", \"task_type\": null,"
              " \"init_lora_weights\": \"gaussian\", \"use_rslora\": true, \"peft_version\": \"9\", \"lora_dropout\": 0.5}",
              &c, &e),
        &e);
    CHECK_NEAR(adapter_scale(&c), 16 / sqrt(8), 1e-15);
    CHECK_NEAR(c.dropout, 0.5, 0);
    /* paths as the end of which PEFT matches; named twice is named once */
    CHECK_OK(
        parse("{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 0.5, \"target_modules\": [\"model.layers.0.self_attn.q_proj\","
              " \"self_attn.q_proj\", \"up_proj\"]}",
              &c, &e),
        &e);
    CHECK_INT(c.n_targets, 2);
    CHECK_STR(c.targets[0], "q_proj");
    CHECK_STR(c.targets[1], "up_proj");
    CHECK_OK(parse("{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 1, \"target_modules\": \"all-linear\"}", &c, &e), &e);
    CHECK_INT(c.n_targets, 0);
}

static void test_write(void)
{
    struct adapter_config c = {.base = "a \"b\"\\c\n\xc3\xa9",
                               .rank = 16,
                               .alpha = 32,
                               .dropout = 0.1,
                               .rslora = true,
                               .targets = {"q_proj", "down_proj"},
                               .n_targets = 2},
                          back;
    struct err e = {0};
    struct buf b = {0};
    CHECK_OK(adapter_config_write(&c, &b, &e), &e);
    CHECK_HAS(b.data, "\"lora_alpha\": 32,");
    CHECK_OK(adapter_config_parse(b.data, b.n, "back", &back, &e), &e);
    CHECK(memcmp(&c, &back, sizeof c) == 0);
    for (size_t n = 0; n + 1 < b.n; n++) { /* all but the last newline are needed */
        char *exact = malloc(n + 1);
        if (exact == NULL)
            exit(1);
        memcpy(exact, b.data, n);
        exact = realloc(exact, n > 0 ? n : 1);
        CHECK(exact == NULL || adapter_config_parse(exact, n, "cut", &back, &e) != 0);
        free(exact);
    }
    buf_clear(&b);
    c.alpha = 1.0 / 3;
    c.base[0] = 0;
    memset(c.base, 0, sizeof c.base);
    CHECK_OK(adapter_config_write(&c, &b, &e), &e);
    CHECK_OK(adapter_config_parse(b.data, b.n, "back", &back, &e), &e);
    CHECK(memcmp(&c, &back, sizeof c) == 0);
    c.n_targets = 0;
    CHECK(adapter_config_write(&c, &b, &e) != 0);
    CHECK_INT(e.code, ERR_INTERNAL);
    for (int64_t n = 1;; n++) {
        c.n_targets = 2;
        buf_free(&b);
        mem_fail_at(n);
        int rc = adapter_config_write(&c, &b, &e) != 0 || adapter_config_parse(b.data, b.n, "back", &back, &e) != 0;
        bool hit = mem_count() >= n;
        mem_fail_at(0);
        CHECK_INT(rc, hit);
        CHECK(rc == 0 || strstr(e.text, "out of memory") != NULL);
        if (!hit || check_failures > 0)
            break;
    }
    buf_free(&b);
}

int main(void)
{
    test_refusals();
    test_accepted();
    test_write();
    return check_done();
}
