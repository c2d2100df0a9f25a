/* What compare_make and its words say of synthetic runs: measures, verdicts, refusals, runs of an older lorat. */
#include "tests/compare/compare_test.h"
#include "trainer/base/json.h"

static struct compare c;

static void make(double seconds_a, double seconds_b, bool old)
{
    struct buf a = {0}, b = {0};
    struct err e = {0};
    lines_add(&a, 1, 60, seconds_a, 3, old);
    lines_add(&b, 1, 60, seconds_b, 3, false);
    c = (struct compare){.n = 2, .price = NAN};
    run_from(&c.run[0], "a", &a);
    run_from(&c.run[1], "b", &b);
    for (int k = 0; k < 2; k++)
        c.run[k].job = job_of("m", 512);
    buf_free(&a);
    buf_free(&b);
    CHECK_OK(compare_make(&c, &e), &e);
}

static void again(void)
{
    struct err e = {0};
    CHECK_OK(compare_make(&c, &e), &e);
}

static void words(void (*say)(const struct compare *, int, struct buf *), const char *want)
{
    struct buf b = {0};
    say(&c, 1, &b);
    CHECK_HAS(b.data, want);
    buf_free(&b);
}

static void text_has(const char *want)
{
    struct buf b = {0};
    struct err e = {0};
    CHECK_OK(compare_text(&c, &b, &e), &e);
    CHECK_HAS(b.data, want);
    buf_free(&b);
}

static void test_measures(void)
{
    make(0.5, 0.5, false);
    for (int k = 0; k < 2; k++)
        c.run[k].ranks = 2;
    again();
    const struct compare_measures *m = &c.of[0];
    CHECK_INT(m->n_warm, 6);
    CHECK_INT(m->n_steady, 54);
    CHECK_NEAR(m->tok_s, 2000, 1e-3);
    CHECK_NEAR(m->tok_s_10, 1000 / 0.515, 1e-3);
    CHECK_NEAR(m->tok_s_90, 1000 / 0.485, 1e-3);
    CHECK_NEAR(m->step_s, 0.5, 1e-6);
    CHECK_NEAR(m->compute_s, 0.4, 1e-6);
    CHECK_NEAR(m->comm_s, 0.05, 1e-6);
    CHECK_NEAR(m->comm_bytes, 60 * 4e6, 1e-3);
    CHECK_NEAR(m->bus_rate, 2 * 0.5 * 4e6 / 0.05, 1);
    CHECK_NEAR(m->energy_j, 60 * 150, 1e-3);
    CHECK_NEAR(m->power_w, 300, 1e-6);
    CHECK_NEAR(m->tokens_joule, 60000 / 9000., 1e-6);
    for (int k = 0; k < 2; k++)
        c.run[k].ranks = 4;
    again();
    CHECK_NEAR(m->bus_rate, 2 * 0.75 * 4e6 / 0.05, 1);
    c.price = 0.25;
    snprintf(c.currency, sizeof c.currency, "GBP");
    text_has("0.000625 GBP"); /* 9000 J = 0.0025 kWh */
    text_has("0.4000 s (80.0 %)");
    compare_free(&c);
}

static void test_speed(void)
{
    make(0.5, 0.4, false);
    CHECK_STR(compare_verdict_name(c.pair[1].speed), "faster");
    CHECK_NEAR(c.pair[1].interval.difference, 0.25, 1e-3);
    CHECK(c.pair[1].interval.low <= 0.25 && c.pair[1].interval.high >= 0.25 - 1e-6);
    words(compare_words_speed, "faster: +25.0 % tokens a second, 95 % interval ");
    compare_free(&c);
    make(0.4, 0.5, false);
    words(compare_words_speed, "slower: -20.0 %");
    compare_free(&c);
    make(0.5, 0.4990, false);
    words(compare_words_speed, "no difference beyond noise");
    words(compare_words_loss, "Training: no difference in loss at all 60 common steps; evaluation: no common evaluation.");
    compare_free(&c);
}

static void refuses(const char *why)
{
    again();
    CHECK(c.pair[1].speed == COMPARE_INCOMPARABLE && isnan(c.pair[1].interval.difference));
    words(compare_words_speed, "no winner is named");
    words(compare_words_speed, why);
}

static void test_incomparable(void)
{
    make(0.5, 0.3, false);
    CHECK(c.pair[1].speed == COMPARE_FASTER);
    c.run[1].job->data.sequence_length = 1024;
    refuses("sequence_length");
    c.run[1].job->data.sequence_length = 512;
    snprintf(c.run[1].job->model.path, 16, "other");
    refuses("model.path");
    for (int k = 0; k < 2; k++)
        snprintf(c.run[k].base, 8, "abc");
    again(); /* the same weights under another path */
    CHECK(c.pair[1].speed == COMPARE_FASTER);
    snprintf(c.run[1].base, 8, "abd");
    refuses("by its weights");
    snprintf(c.run[1].base, 8, "abc");
    snprintf(c.run[1].dataset, 8, "x");
    snprintf(c.run[0].dataset, 8, "y");
    again();
    CHECK(c.pair[1].other_data && c.pair[1].speed == COMPARE_FASTER);
    words(compare_words_speed, "The data differ");
    words(compare_words_loss, "not of the same text");
    mem_free(c.run[1].job);
    c.run[1].job = NULL;
    refuses("the job of b is not recorded");
    compare_free(&c);
}

/* Three runs: a, b, and a again. What a and its repeat differ by is noise, also for b. */
static void repeat_case(double seconds_b, double seconds_repeat, const char *b_words, const char *repeat_words)
{
    struct buf lines = {0}, text = {0};
    make(0.5, seconds_b, false);
    lines_add(&lines, 1, 60, seconds_repeat, 3, false);
    run_from(&c.run[2], "again", &lines);
    c.run[2].job = job_of("m", 512);
    c.n = 3;
    for (int k = 0; k < 3; k++) {
        c.run[k].summed = true;
        c.run[k].ranks = 1;
        snprintf(c.run[k].devices, 8, "card");
    }
    snprintf(c.run[2].job->name, 8, "again");
    c.run[1].job->train.batch *= 2;
    again();
    words(compare_words_speed, b_words);
    compare_words_speed(&c, 2, &text);
    CHECK_HAS(text.data, repeat_words);
    buf_free(&text);
    buf_free(&lines);
}

static void test_repeat(void)
{
    repeat_case(0.46, 0.45, "no difference beyond noise: +8.7 %", "no verdict, the same job on the same machine");
    CHECK_NEAR(c.run_to_run, 0.5 / 0.45 - 1, 1e-6);
    CHECK(c.pair[2].speed == COMPARE_REPEAT);
    snprintf(c.run[2].devices, 8, "other"); /* another machine is no repeat */
    again();
    CHECK(isnan(c.run_to_run) && c.pair[1].speed == COMPARE_FASTER && c.pair[2].speed == COMPARE_FASTER);
    compare_free(&c);
    repeat_case(0.4, 0.49, "faster: +25.0 %", "no verdict, the same job");
    words(compare_words_speed, "Runs of one job are up to 2.0 % apart here.");
    compare_free(&c);
    repeat_case(0.4, 0.4999, "faster: +25.0 %", "no difference beyond noise");
    compare_free(&c);
}

static void test_few(void)
{
    make(0.5, 0.3, false);
    c.run[1].n_steps = 10; /* nine behind the warm-up */
    again();
    words(compare_words_speed, "too few steps");
    c.run[1].n_steps = 11;
    again();
    CHECK(c.pair[1].speed == COMPARE_FASTER);
    compare_free(&c);
}

/* A run of an older lorat: its speed can be compared, its split is "not recorded" and never zero. */
static void test_old(void)
{
    make(0.5, 0.4, true);
    CHECK(c.pair[1].speed == COMPARE_FASTER);
    CHECK_NEAR(c.of[0].step_s, 0.5, 1e-4);
    CHECK(isnan(c.of[0].compute_s) && isnan(c.of[0].comm_s) && isnan(c.of[0].energy_j) && isnan(c.of[0].comm_bytes));
    CHECK(isnan(c.of[0].tokens_joule) && isnan(c.of[0].bus_rate));
    text_has("a: the time split is not recorded.");
    compare_free(&c);
}

static void give(int k, int64_t step, const char *weights, const char *moments)
{
    struct compare_run *r = &c.run[k];
    r->checkpoints = mem_realloc(r->checkpoints, r->n_checkpoints + 1, sizeof *r->checkpoints);
    struct compare_checkpoint *p = &r->checkpoints[r->n_checkpoints++];
    *p = (struct compare_checkpoint){.step = step};
    snprintf(p->hex[0], HASH_HEX, "%s", weights);
    snprintf(p->hex[1], HASH_HEX, "%s", moments);
    snprintf(p->hex[2], HASH_HEX, "s");
}

static void test_bits(void)
{
    make(0.5, 0.5, false);
    words(compare_words_bits, "not compared");
    CHECK(!compare_same_bits(&c.pair[1]));
    snprintf(c.run[0].adapter, HASH_HEX, "1");
    snprintf(c.run[1].adapter, HASH_HEX, "1");
    again();
    words(compare_words_bits, "Same bits: the adapters.");
    give(0, 10, "w", "m");
    give(1, 10, "w", "m");
    give(0, 20, "w", "m");
    give(1, 30, "x", "x");
    again();
    CHECK_INT(c.pair[1].n_states, 1);
    words(compare_words_bits, "Same bits: the final adapter, and adapter, moments and counters at 1 common checkpoint.");
    give(0, 40, "w", "m");
    give(1, 40, "w", "n");
    again();
    words(compare_words_bits, "Other bits: 1 of 2 common checkpoints differ, the first at step 40 (optimizer.safetensors)");
    CHECK(!compare_same_bits(&c.pair[1]));
    c.run[1].checkpoints[2].hex[0][0] = '\0'; /* cannot be read: no evidence either way */
    again();
    CHECK_INT(c.pair[1].n_states, 1);
    c.run[1].adapter[0] = '2';
    again();
    words(compare_words_bits, "Other bits: the final adapters differ, although every common checkpoint is equal.");
    compare_free(&c);
}

static void test_json(void)
{
    struct buf b = {0};
    struct err e = {0};
    struct json *j = NULL;
    const char *speed;
    double rate;
    make(0.5, 0.4, true);
    CHECK_OK(compare_json(&c, &b, &e), &e);
    CHECK_OK(json_parse(b.data, b.n, "json", ERR_STATE, &j, &e), &e);
    const struct json *a = json_at(json_get(j, "runs"), 0), *pair = json_at(json_get(j, "pairs"), 0);
    CHECK_INT(json_length(json_get(j, "runs")), 2);
    CHECK_INT(json_kind(json_get(a, "compute_s")), JSON_NULL);
    CHECK(json_f64(json_get(a, "tok_s"), &rate) && fabs(rate - 2000) < 1);
    CHECK_INT(json_kind(json_get(pair, "same_bits")), JSON_NULL);
    speed = json_text(json_get(pair, "speed"), NULL);
    CHECK_STR(speed, "faster");
    json_free(j);
    buf_free(&b);
    compare_free(&c);
}

/* Text from files cannot leave its place in the page, whatever it is. */
static void test_page(void)
{
    static const char evil[] = "<script>alert(1)</script>&\"'\x01\x1b[2J\xff\xc0\x80 caf\xc3\xa9";
    struct buf b = {0};
    struct err e = {0};
    make(0.5, 0.4, false);
    snprintf(c.run[1].label, sizeof c.run[1].label, "%s", evil);
    snprintf(c.run[1].devices, sizeof c.run[1].devices, "%s", evil);
    snprintf(c.run[1].job->model.path, 100, "<b>m</b>");
    c.run[1].steps[3].loss = NAN;
    again();
    CHECK_OK(compare_html(&c, &b, &e), &e);
    CHECK(strstr(b.data, "<script") == NULL && strstr(b.data, "<b>") == NULL && strchr(b.data, '\x1b') == NULL &&
          strchr(b.data, '\xff') == NULL);
    CHECK_HAS(b.data, "&#60;script&#62;alert(1)&#60;/"
                      "script&#62;&#38;&#34;&#39;\xef\xbf\xbd\xef\xbf\xbd[2J\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd caf\xc3\xa9");
    CHECK(strstr(b.data, "nan") == NULL && strstr(b.data, "inf\"") == NULL && strstr(b.data, "://") == NULL);
    buf_clear(&b);
    c.run[1].n_steps = 16; /* shorter: its last step is a row of the tables */
    again();
    CHECK_OK(compare_html(&c, &b, &e), &e);
    CHECK_HAS(b.data, "<th scope=\"row\">16</th>");
    buf_clear(&b);
    snprintf(c.run[1].label, sizeof c.run[1].label, "b"); /* compare_read lets no other label through */
    CHECK_OK(compare_text(&c, &b, &e), &e);
    CHECK(strchr(b.data, '\x1b') == NULL && strchr(b.data, '\xff') == NULL);
    buf_free(&b);
    compare_free(&c);
}

int main(void)
{
    test_measures();
    test_speed();
    test_incomparable();
    test_repeat();
    test_few();
    test_old();
    test_bits();
    test_json();
    test_page();
    return check_done();
}
