/* A real model, where models/ has it: the plan holds (resident memory of a run against the plan's sum), resume at the program
 * gives the same bytes, answers are the same every time, one by one and side by side, in training and by `lorat generate`, and
 * stop at an end token. P1: a signal while the model loads or answers prompts ends the run with exit code 75. */
#include <signal.h>
#include <unistd.h>

#include "tests/e2e/e2e.h"
#include "trainer/base/json.h"

static char model[700];

static const char *const questions[] = {"What is the capital of France?", "Say hello.", "Name three colours."};
enum { QUESTIONS = 3, ANSWER = 24 };

struct answer {
    char text[1024];
    bool ended;
};

/* Line `i` of some JSON lines. */
static struct answer answer_at(const char *lines, int i)
{
    struct answer a = {{0}, false};
    struct json *j;
    for (; i > 0 && lines != NULL; i--) {
        lines = strchr(lines, '\n');
        lines = lines != NULL ? lines + 1 : NULL;
    }
    if (lines == NULL || json_parse(lines, strcspn(lines, "\n"), "an answer", ERR_DATA, &j, NULL) != 0) {
        CHECK(!"a line of JSON");
        return a;
    }
    const char *text = json_text(json_get(j, "answer"), NULL);
    snprintf(a.text, sizeof a.text, "%s", text != NULL ? text : "");
    json_bool(json_get(j, "ended"), &a.ended);
    json_free(j);
    return a;
}

static void write_job(void)
{
    char text[2048];
    snprintf(
        text, sizeof text,
        "name: q\nmodel:\n  path: %s\ndata:\n  train: q.h5\n  sequence_length: 128\ntrain:\n  max_steps: 2\n  batch: 2\n  "
        "micro_batch: 1\n"
        "  warmup_steps: 1\ncompute:\n  device: cpu\n  precision: f32\n  threads: 1\neval:\n  every: 100\n  max_tokens: 200\n"
        "  prompts: [\"%s\", \"%s\"]\n  answer_tokens: %d\n",
        model, questions[0], questions[1], ANSWER);
    e2e_write("q.yaml", text);
}

static void test_train(struct answer asked[2])
{
    E2E_RUN(0, "data build --model %s --input %s/datasets/samples/quickstart.jsonl --validation 5%% -o q.h5", model, e2e_root);
    write_job();
    E2E_RUN(0, "train q.yaml");
    char *answers = e2e_read("runs/q/answers.jsonl", NULL);
    for (int i = 0; i < 2; i++)
        asked[i] = answer_at(answers, i);
    free(answers);
    double peak = e2e_summary("q", "peak_bytes"), plan = e2e_summary("q", "plan_bytes");
    printf("resident at most %.1f MB, planned %.1f MB (%.3f)\n", peak / 1e6, plan / 1e6, peak / plan);
#if !defined(__SANITIZE_ADDRESS__) /* which has memory of its own */
    CHECK(fabs(peak - plan) <= 0.05 * plan);
#endif
    E2E_RUN(75, "train q.yaml --set name=r --set eval.prompts=[] --stop-after 1");
    E2E_RUN(0, "train q.yaml --set name=r --set eval.prompts=[] --resume");
    CHECK(e2e_same_state("q", "r", 2));
}

static void test_generate(const struct answer asked[2])
{
    struct answer side[QUESTIONS];
    char text[512];
    snprintf(text, sizeof text, "%s\n%s\n%s\n", questions[0], questions[1], questions[2]);
    e2e_write("prompts.txt", text);
    E2E_RUN(0, "generate --model %s --prompts prompts.txt --precision f32 --threads 1 --max-new %d --json", model, ANSWER);
    for (int i = 0; i < QUESTIONS; i++)
        side[i] = answer_at(strchr(e2e_out, '{'), i);
    for (int i = 0; i < QUESTIONS; i++) {
        E2E_RUN(0, "generate --model %s --prompt '%s' --precision f32 --threads 1 --max-new %d --json", model, questions[i],
                ANSWER);
        struct answer alone = answer_at(strchr(e2e_out, '{'), 0);
        CHECK_STR(alone.text, side[i].text);
        CHECK_INT(alone.ended, side[i].ended);
        if (i < 2)
            CHECK_STR(asked[i].text, side[i].text); /* before the first step B is zero: the base's answer */
    }
    E2E_RUN(0, "generate --model %s --prompts prompts.txt --precision f32 --threads 1 --max-new %d --json --placement host", model,
            ANSWER);
    for (int i = 0; i < QUESTIONS; i++) {
        struct answer streamed = answer_at(strchr(e2e_out, '{'), i);
        CHECK_STR(streamed.text, side[i].text);
        CHECK_INT(streamed.ended, side[i].ended);
    }
    CHECK(side[0].ended && !side[2].ended); /* one is short and stops at its end token, one is cut */
    CHECK(strstr(side[0].text, "Paris") != NULL && strstr(side[0].text, "<|") == NULL);
}

/* Stopped once `word` stands in the output. */
static void stop_at(const char *name, const char *word, const char *more)
{
    bool seen = false;
    pid_t child = e2e_start(&(struct e2e_how){0}, "train q.yaml --set name=%s %s", name, more);
    for (double start = e2e_now(); !seen && e2e_now() - start < 60;) {
        char *text = e2e_read(".output", NULL);
        seen = text != NULL && strstr(text, word) != NULL;
        free(text);
        e2e_sleep(0.005);
    }
    CHECK(seen);
    double start = e2e_now();
    kill(child, SIGTERM);
    CHECK_INT(e2e_wait(child), 75);
    printf("%s: left %.2f s after the signal: %s", name, e2e_now() - start, strstr(e2e_out, "lorat: stopped: "));
}

static void test_signals(void)
{
    bool rejected;
    stop_at("loading", "plan  ", "");
    CHECK_HAS(e2e_out, "nothing had changed");
    CHECK_INT(e2e_found("loading", &rejected), -1);
    stop_at(
        "answering", "evaluation loss",
        "--set eval.answer_tokens=2000 --set eval.prompts='[\"Tell me a long story about the sea.\", \"Count to a thousand.\"]'");
    CHECK_HAS(e2e_out, "stopped: at step 0 of 2, saved");
    E2E_RUN(0, "train q.yaml --set name=answering --set eval.prompts=[] --resume");
    CHECK(e2e_same_state("q", "answering", 2));
}

int main(int argc, char **argv)
{
    struct answer asked[2];
    e2e_begin(argc, argv);
    snprintf(model, sizeof model, "%s/models/SmolLM2-135M-Instruct.Q4_1.gguf", e2e_root);
    if (access(model, R_OK) != 0) {
        e2e_end();
        CHECK_SKIP("models/SmolLM2-135M-Instruct.Q4_1.gguf is not there");
    }
    test_train(asked);
    test_generate(asked);
    test_signals();
    return e2e_end();
}
