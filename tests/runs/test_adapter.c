/* Adapter folders: one that PEFT wrote is read, refusals by tensor, what is written is read back, and PEFT loads it. */
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoints/adapter.h"
#include "tests/check.h"
#include "tests/runs/runs.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"

#define GOLDEN "tests/golden/adapter"

static void test_golden(void)
{
    struct err e = {0};
    struct adapter_config c;
    struct tensor_list l;
    struct json *expected = NULL;
    char *text = NULL;
    size_t n = 0, seen = 0;
    double want = 0;
    CHECK_OK(io_read_file(GOLDEN "/expected.json", ERR_IO, 1 << 20, &text, &n, &e), &e);
    CHECK_OK(json_parse(text != NULL ? text : "", n, "expected.json", ERR_IO, &expected, &e), &e);
    if (adapter_open(GOLDEN, &c, &l, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    CHECK_STR(c.base, "examples/tiny \"llama\"");
    CHECK_INT(c.rank, 3);
    CHECK_NEAR(c.alpha, 7, 0);
    CHECK_NEAR(c.dropout, 0.05, 0);
    CHECK(c.rslora);
    CHECK_INT(c.n_targets, 3);
    CHECK(json_f64(json_get(expected, "scale"), &want));
    CHECK_NEAR(adapter_scale(&c), want, 1e-12);
    const struct json *tensors = json_get(expected, "tensors");
    for (void *it = json_first(tensors); it != NULL; it = json_next(tensors, it), seen++) {
        const struct tensor *t = tensor_find(&l, json_key(it));
        int64_t rows = 0, cols = 0;
        double sum = 0, weighted = 0;
        float values[64 * 64];
        CHECK(json_i64(json_at(json_get(json_value(it), "shape"), 0), &rows));
        CHECK(json_i64(json_at(json_get(json_value(it), "shape"), 1), &cols));
        CHECK(t != NULL && rows * cols <= 64 * 64);
        if (t == NULL)
            continue;
        CHECK_INT(t->shape[0], rows);
        CHECK_INT(t->shape[1], cols);
        CHECK_OK(tensor_read(&l, t, 0, rows, DT_F32, values, &e), &e);
        for (int64_t i = 0; i < rows * cols; i++) {
            sum += values[i];
            weighted += values[i] * (double)(i % 7 + 1);
        }
        CHECK(json_f64(json_get(json_value(it), "sum"), &want));
        CHECK_NEAR(sum, want, 1e-9);
        CHECK(json_f64(json_get(json_value(it), "weighted"), &want));
        CHECK_NEAR(weighted, want, 1e-9);
    }
    CHECK_INT(seen, 12);
    CHECK_INT(l.n, 12);
    tensor_list_close(&l);
    json_free(expected);
    mem_free(text);
}

enum { R = 3, D = 24, LD = 32, MATRICES = 8 };
static float memory[MATRICES][D * LD];
static char names[MATRICES][128];

/* The matrices that check_adapter.py expects, with padding between the rows that must not get out. */
static void make(struct adapter_matrix m[MATRICES])
{
    for (int k = 0; k < MATRICES; k++) {
        int layer = k / 4, b = k % 2, rows = b ? D : R, cols = b ? R : D, ld = k < 6 ? LD : cols;
        snprintf(names[k], sizeof names[k], "base_model.model.model.layers.%d.self_attn.%s.lora_%s.weight", layer,
                 k / 2 % 2 ? "o_proj" : "q_proj", b ? "B" : "A");
        for (int i = 0; i < D * LD; i++)
            memory[k][i] = NAN;
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < cols; j++)
                memory[k][i * ld + j] = (float)((i * cols + j) % 251 - 125) / 64 + (float)layer + (b ? 0.5f : 0);
        m[k] = (struct adapter_matrix){names[k], memory[k], rows, cols, ld};
    }
}

static void write_folder(const char *dir, const struct adapter_config *c, const struct adapter_matrix *m, size_t n)
{
    struct err e = {0};
    struct buf b = {0};
    CHECK_OK(io_mkdirs(dir, &e), &e);
    CHECK_OK(adapter_config_write(c, &b, &e), &e);
    runs_write(runs_path("%s/adapter_config.json", dir), b.data, b.n);
    buf_clear(&b);
    CHECK_OK(adapter_tensors_write(m, n, &b, &e), &e);
    runs_write(runs_path("%s/adapter_model.safetensors", dir), b.data, b.n);
    buf_free(&b);
}

static const struct adapter_config config = {
    .base = "examples/tiny", .rank = R, .alpha = 12, .dropout = 0.25, .targets = {"q_proj", "o_proj"}, .n_targets = 2};

static void check_refused(const char *dir, const char *part)
{
    struct adapter_config c;
    struct tensor_list l;
    struct err e = {0};
    CHECK(adapter_open(dir, &c, &l, &e) != 0);
    CHECK_INT(e.code, ERR_MODEL);
    CHECK_HAS(e.text, part);
    CHECK(l.n == 0 && l.n_files == 0);
}

static void test_refusals(const char *dir)
{
    struct adapter_matrix m[MATRICES + 1];
    struct adapter_config c = config;
    float one[R * D] = {0};
    make(m);
    check_refused(dir, "adapter_config.json: not found, expected an adapter folder");
    write_folder(dir, &config, m, MATRICES - 1);
    check_refused(dir, "layers.1.self_attn.o_proj.lora_A.weight: found without its lora_B");
    m[MATRICES] = (struct adapter_matrix){"base_model.model.lm_head.weight", one, R, D, D};
    write_folder(dir, &config, m, MATRICES + 1);
    check_refused(dir, "base_model.model.lm_head.weight: found a tensor that is not a LoRA matrix");
    c.rank = 4;
    write_folder(dir, &c, m, MATRICES);
    check_refused(dir, "found the shape (3, 24), expected (r, in) with r = 4");
    c = config;
    c.n_targets = 1;
    write_folder(dir, &c, m, MATRICES);
    check_refused(dir, "found a matrix of o_proj");
    c.n_targets = 3;
    strcpy(c.targets[2], "up_proj");
    write_folder(dir, &c, m, MATRICES);
    check_refused(dir, "found no matrix of up_proj");
    CHECK(unlink(runs_path("%s/adapter_model.safetensors", dir)) == 0);
    check_refused(dir, "adapter_model.safetensors");
    runs_write(runs_path("%s/adapter_model.bin", dir), "x", 1);
    check_refused(dir, "found a pickle");

    struct err e = {0};
    struct buf b = {0};
    m[0].ld = m[0].cols - 1;
    CHECK(adapter_tensors_write(m, 1, &b, &e) != 0);
    buf_free(&b);
}

static void test_round_trip(const char *dir)
{
    struct adapter_matrix m[MATRICES];
    struct adapter_config c;
    struct tensor_list l;
    struct err e = {0};
    make(m);
    write_folder(dir, &config, m, MATRICES);
    CHECK_OK(adapter_open(dir, &c, &l, &e), &e);
    CHECK(memcmp(&c, &config, sizeof c) == 0);
    CHECK_INT(l.n, MATRICES);
    for (int k = 0; k < MATRICES; k++) {
        const struct tensor *t = tensor_find(&l, m[k].name);
        float back[R * D];
        CHECK(t != NULL);
        if (t == NULL)
            continue;
        CHECK_OK(tensor_read(&l, t, 0, m[k].rows, DT_F32, back, &e), &e);
        for (int64_t i = 0; i < m[k].rows; i++)
            CHECK(memcmp(back + i * m[k].cols, m[k].data + i * m[k].ld, (size_t)m[k].cols * 4) == 0);
    }
    tensor_list_close(&l);

    /* "all-linear" becomes what is there */
    const char *text = "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 12, \"target_modules\": \"all-linear\"}";
    runs_write(runs_path("%s/adapter_config.json", dir), text, strlen(text));
    CHECK_OK(adapter_open(dir, &c, &l, &e), &e);
    CHECK_INT(c.n_targets, 2);
    CHECK_STR(c.targets[1], "o_proj");
    tensor_list_close(&l);

    for (int64_t n = 1;; n++) {
        struct buf b = {0};
        mem_fail_at(n);
        int rc = adapter_tensors_write(m, MATRICES, &b, &e) != 0;
        if (rc == 0 && (rc = adapter_open(dir, &c, &l, &e) != 0) == 0)
            tensor_list_close(&l);
        bool hit = mem_count() >= n;
        mem_fail_at(0);
        buf_free(&b);
        CHECK(rc == 0 || hit);
        CHECK(rc == 0 || strstr(e.text, "out of memory") != NULL);
        if (!hit || check_failures > 0)
            break;
    }
}

/* PEFT itself, where Python has it. 0, 1, 77. */
static int test_peft(const char *dir)
{
    struct adapter_matrix m[MATRICES];
    const char *python = getenv("LORAT_PYTHON");
    make(m);
    write_folder(dir, &config, m, MATRICES);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        unsetenv("LD_PRELOAD");
        python = python != NULL && python[0] != 0 ? python : "python3";
        execlp(python, python, "tests/golden/check_adapter.py", dir, (char *)NULL);
        printf("skipped: no %s\n", python);
        fflush(stdout);
        _exit(77);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
    char *base = runs_folder(), dir[1100];
    if (argc > 1 && strcmp(argv[1], "peft") == 0) {
        snprintf(dir, sizeof dir, "%s/written", base);
        int rc = test_peft(dir);
        runs_remove(base);
        return rc != 0 ? rc : check_done();
    }
    test_golden();
    snprintf(dir, sizeof dir, "%s/refused", base);
    test_refusals(dir);
    snprintf(dir, sizeof dir, "%s/written", base);
    test_round_trip(dir);
    runs_remove(base);
    return check_done();
}
