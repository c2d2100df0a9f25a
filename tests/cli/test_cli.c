/* The program itself, run as a user runs it: exit codes, help of every verb, nearest verbs, `config`, `runs`, `version`, and a
 * standard output that is closed, full or a broken pipe. argv[1] is the lorat binary. */
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/check.h"
#include "tests/shell.h"

static const char *lorat;
static char dir[] = "/tmp/lorat-cli-XXXXXX";

static char out[65536];

static void expect(const char *command, int code, const char *part)
{
    int got = shell(command, out, sizeof out);
    if (got != code)
        fprintf(stderr, "%s\n%s\n", command, out);
    CHECK_INT(got, code);
    CHECK_HAS(out, part);
}

static void test_help(void)
{
    static const char *const verbs[] = {"train",  "plan", "config", "data",    "generate",
                                        "export", "runs", "verify", "bench", "doctor", "version", "help"};
    char command[256], usage[64];
    expect("$L --help 2>&1", 0, "exit codes:");
    CHECK_HAS(out, " 75  stopped on request");
    expect("$L help 2>&1", 0, "verbs:");
    expect("$L -h 2>&1", 0, "verbs:");
    expect("$L 2>&1", 2, "verbs:");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        snprintf(usage, sizeof usage, "\n  %s ", verbs[i]);
        expect("$L --help 2>&1", 0, usage);
        snprintf(command, sizeof command, "$L %s --help 2>&1", verbs[i]);
        if (shell(command, out, sizeof out) == 2 && strstr(out, "not in this build") != NULL)
            continue;
        snprintf(usage, sizeof usage, "usage: lorat %s", verbs[i]);
        expect(command, 0, usage);
        snprintf(command, sizeof command, "$L help %s 2>&1", verbs[i]);
        expect(command, 0, usage);
        if (strcmp(verbs[i], "help") == 0)
            continue;
        snprintf(command, sizeof command, "$L %s --no-such-option 2>&1", verbs[i]);
        expect(command, 2, "lorat: error: ");
    }
}

static void test_nearest(void)
{
    expect("$L tran 2>&1", 2, "lorat: error: tran: unknown verb, did you mean `lorat train`?\n");
    expect("$L confg x 2>&1", 2, "did you mean `lorat config`?");
    expect("$L qqqqqqqq 2>&1", 2, "lorat: error: qqqqqqqq: unknown verb. `lorat --help` lists them\n");
    expect("$L help tran 2>&1", 2, "did you mean `lorat train`?");
    expect("$L config --refrence 2>&1", 2, "did you mean --reference?");
}

static void test_config(void)
{
    expect("$L config configs/quickstart.yaml", 0, "  epochs: 2\n");
    expect("$L config configs/quickstart.yaml --set train.epochs=1 --set=lora.rank=8", 0, "  epochs: 1\n");
    CHECK_HAS(out, "  rank: 8\n");
    expect("$L config configs/quickstart.yaml --set train.epoch=1 2>&1", 3,
           "lorat: error: --set train.epoch: unknown key, did you mean train.epochs?\n");
    expect("$L config configs/none.yaml 2>&1", 3, "configs/none.yaml");
    expect("$L config 2>&1", 2, "found no job");
    expect("$L config a b 2>&1", 2, "found the argument \"b\"");
    expect("$L config --reference", 0, "train.learning_rate\n");
    expect("$L config --reference --markdown", 0, "# Job file reference\n");
    /* What it prints is a job again, and prints the same. */
    char command[512];
    snprintf(command, sizeof command,
             "$L config configs/quickstart.yaml > %s/a.yaml && $L config %s/a.yaml > %s/b.yaml && cmp %s/a.yaml %s/b.yaml && "
             "echo same",
             dir, dir, dir, dir, dir);
    expect(command, 0, "same\n");
}

static void test_streams(void)
{
    char text[512];
    expect("$L config configs/quickstart.yaml >&-; echo code $?", 0, "code 0");
    expect("$L --help >&-; echo code $?", 0, "code 0");
    expect("$L --help <&- >&- 2>&-; echo code $?", 0, "code 0");
    expect("$L tran >&- 2>&-; echo code $?", 0, "code 2");
    expect("$L config --reference | true; echo done", 0, "done");
    /* What is printed is the product of these: a full disk loses it. A reader that has left has what it wanted. */
    static const char *const printing[] = {"--help",
                                           "help plan",
                                           "config configs/quickstart.yaml",
                                           "config --reference",
                                           "runs",
                                           "version",
                                           "doctor --machine tests/machines/bridged.json --json"};
    for (size_t i = 0; i < sizeof printing / sizeof *printing && access("/dev/full", W_OK) == 0; i++) {
        snprintf(text, sizeof text, "$L %s 2>&1 > /dev/full; echo code $?", printing[i]);
        expect(text, 0, "lorat: error: standard output: ");
        CHECK_HAS(out, "code 9");
        snprintf(text, sizeof text, "(sleep 0.1; $L %s; echo code $? > %s/code) 2>&1 | true; cat %s/code", printing[i], dir, dir);
        expect(text, 0, "code 0");
    }
    if (access("/dev/full", W_OK) == 0)
        expect("$L train --help > /dev/full; echo code $?", 0, "code 0");
    char command[256]; /* a closed stdin, stdout and stderr: no message may end up inside a file that lorat opens */
    snprintf(command, sizeof command,
             "cp configs/quickstart.yaml %s/c.yaml; $L config %s/c.yaml <&- >&- 2>&-; cmp configs/quickstart.yaml "
             "%s/c.yaml && echo same",
             dir, dir, dir);
    expect(command, 0, "same");
}

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    CHECK(f != NULL);
    if (f == NULL)
        return;
    fputs(text, f);
    fclose(f);
}

static void make(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    CHECK_INT(mkdir(path, 0700), 0);
}

static void test_runs(void)
{
    char command[256], path[256];
    make("runs");
    snprintf(command, sizeof command, "$L runs %s/runs", dir);
    expect(command, 0, "no runs in");
    make("runs/one");
    put("runs/one/summary.json", "{\"name\":\"one\",\"state\":\"done\",\"step\":30,\"steps\":30,\"loss\":1.25,\"eval_loss\":1.5,"
                                 "\"seconds\":3725.5,\"tokens\":123456}");
    make("runs/two");
    put("runs/two/metrics.jsonl", "{\"step\":1,\"loss\":3.5,\"time\":1.5}\n{\"step\":2,\"eval_loss\":3.25}\n{\"step\":3,\"lo");
    make("runs/three");
    put("runs/three/metrics.jsonl", "{\"step\":9,\"loss\":2.5,\"time\":90}\n");
    put("runs/three/summary.json", "{\"state\":\"stopped\",\"step\":7,\"steps\":20,\"loss\":9}");
    put("runs/three/lock", "");
    make("runs/bad");
    put("runs/bad/summary.json", "{\"state\":");
    make("runs/odd");
    put("runs/odd/summary.json", "{\"state\":\"failed\",\"step\":\"x\",\"loss\":null,\"seconds\":1e300}");
    make("runs/esc");
    put("runs/esc/summary.json", "{\"state\":\"\\u001b[31m\"}");
    make("runs/empty");
    put("runs/a-file", "x");
    snprintf(path, sizeof path, "%s/runs/three/lock", dir);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK_INT(flock(fd, LOCK_EX | LOCK_NB), 0);
    expect(command, 0, "one     done                 30/30     1.2500     1.5000    123.5k    1h 02m\n");
    CHECK_HAS(out, "two     interrupted              2     3.5000     3.2500         -         -\n");
    CHECK_HAS(out, "three   running               9/20     2.5000          -         -         -\n");
    CHECK_HAS(out, "odd     failed                   -          -          -         -         -\n");
    CHECK_HAS(out, "bad     damaged                  -          -          -         -         -\n");
    CHECK(strstr(out, "empty") == NULL && strstr(out, "a-file") == NULL);
    CHECK(strchr(out, 0x1b) == NULL);
    close(fd);
    expect(command, 0, "three   stopped               7/20     9.0000");
    expect("$L runs /nonexistent/x 2>&1", 9, "/nonexistent/x");
}

static void test_version(void)
{
    expect("$L version", 0, "lorat 0.");
    CHECK_HAS(out, "libyaml: 0.");
    CHECK_HAS(out, "bf16 instructions: ");
    expect("$L --version", 0, "lorat 0.");
}

int main(int argc, char **argv)
{
    if (argc < 2)
        CHECK_SKIP("the path of the lorat binary is needed");
    lorat = argv[1];
    setenv("L", lorat, 1);
    CHECK(mkdtemp(dir) != NULL);
    test_help();
    test_nearest();
    test_config();
    test_streams();
    test_runs();
    test_version();
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", dir);
    CHECK_INT(system(command), 0);
    return check_done();
}
