/* `lorat doctor` as a program: exit codes, both forms of the report, this machine as it is. ARGS: the program. */
#include <unistd.h>

#include "tests/check.h"
#include "tests/shell.h"
#include "trainer/base/json.h"

static char out[1 << 17];

static int run(const char *program, const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "'%s' doctor %s 2>&1", program, arguments);
    return shell(command, out, sizeof out);
}

/* A description comes from another machine: nothing in its texts is obeyed by a terminal, or passes for a line of the report. */
static void test_control(const char *program)
{
    char path[] = "/tmp/lorat-doctor-XXXXXX", arguments[64];
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    CHECK(f != NULL);
    if (f == NULL)
        return;
    fputs("{\"label\": \"a\\u001b[31mb\\nstop c\\u009b1m\", \"kernel\": \"k\\r\\u007f\", \"cpu\": \"\\u00c4\", \"cards\": "
          "[{\"index\": 0, \"name\": "
          "\"x\\u0007y\"}]}",
          f);
    fclose(f);
    snprintf(arguments, sizeof arguments, "--machine %s", path);
    run(program, arguments);
    CHECK_HAS(out, "machine  a?[31mb?stop c??1m, kernel k??, cpu \xc3\x84");
    CHECK_HAS(out, "card 0   x?y");
    CHECK(strchr(out, 0x1b) == NULL && strchr(out, '\r') == NULL && strchr(out, 7) == NULL && strchr(out, 0x7f) == NULL);
    /* Nor do the words of a refusal. */
    f = fopen(path, "w");
    CHECK(f != NULL);
    if (f != NULL) {
        fputs("{\"k\\u001b[31mey\": 1}", f);
        fclose(f);
    }
    CHECK_INT(run(program, arguments), 4);
    CHECK(strchr(out, 0x1b) == NULL);
    unlink(path);
}

int main(int argc, char **argv)
{
    struct json *root;
    struct err e = {0};
    if (argc < 2)
        return 1;
    CHECK_INT(run(argv[1], "--machine tests/machines/bridged.json"), 0);
    CHECK_HAS(out, "NCCL will use: nvlink, because 4 NVLinks");
    CHECK_HAS(out, "Nothing to report.");
    CHECK_HAS(out, "Training can start.");
    CHECK_INT(run(argv[1], "--machine tests/machines/driver_old.json"), 7);
    CHECK_HAS(out, "stop     driver_old: ");
    CHECK_HAS(out, "lorat: error: doctor: 1 finding in the way");
    CHECK_HAS(out, "built with CUDA 13.0. See above");
    CHECK_INT(run(argv[1], "--machine tests/machines/none.json --json"), 0);
    CHECK_OK(json_parse(out, strlen(out), "doctor", ERR_DATA, &root, &e), &e);
    CHECK_STR(json_text(json_get(json_at(json_get(root, "findings"), 0), "id"), NULL), "no_card");
    json_free(root);
    CHECK_INT(run(argv[1], "--machine tests/machines/README.md"), 4);
    CHECK_INT(run(argv[1], "--machine tests/machines/absent.json"), 4);
    CHECK_INT(run(argv[1], "nonsense"), 2);
    test_control(argv[1]);
    /* This machine, whatever it is. */
    int rc = run(argv[1], "--json");
    CHECK(rc == 0 || rc == 7);
    if (rc == 0)
        CHECK_OK(json_parse(out, strlen(out), "doctor", ERR_DATA, &root, &e), &e);
    if (rc == 0 && e.code == ERR_OK) {
        int64_t total;
        CHECK(json_i64(json_get(json_get(root, "machine"), "host_total"), &total) && total > 0);
        json_free(root);
    }
    return check_done();
}
