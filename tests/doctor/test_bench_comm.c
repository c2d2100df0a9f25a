/* `lorat bench comm` over CPU ranks: every size of both calls is there, its result right, its rates as nccl-tests defines them. A
 * sum that is off by its last bit and a gather that exchanges two words, on one rank, end it with exit code 10. ARGS: the
 * program, and the one whose ranks go wrong on request (tests/ranks/lorat_ranks.c). */
#include "tests/check.h"
#include "tests/shell.h"
#include "trainer/base/json.h"

static char out[1 << 16];

static int run(const char *program, const char *arguments)
{
    char command[1024];
    snprintf(command, sizeof command, "'%s' bench comm %s 2>&1", program, arguments);
    return shell(command, out, sizeof out);
}

static double number(const struct json *row, const char *key)
{
    double v = NAN;
    CHECK(json_f64(json_get(row, key), &v));
    return v;
}

static void check_row(const struct json *row, int ranks, int sums, int gathers)
{
    bool sum = strcmp(json_text(json_get(row, "name"), NULL), "all-reduce") == 0;
    double bytes = number(row, "bytes"), alg = number(row, "alg_gb_s");
    double size = 65536.0 * pow(4, sum ? sums : gathers);
    CHECK(bytes <= size && bytes > size - 4 * ranks); /* whole numbers for each rank */
    CHECK_INT(number(row, "ranks"), ranks);
    CHECK_NEAR(number(row, "wrong"), 0, 0);
    CHECK_NEAR(alg, 1e-9 * bytes / number(row, "seconds"), 1e-4 * alg);
    CHECK_NEAR(number(row, "bus_gb_s"), alg * (sum ? 2.0 : 1.0) * (ranks - 1) / ranks, 1e-4 * alg);
}

static void check_run(const char *program, int ranks)
{
    char arguments[128];
    struct err e = {0};
    int sums = 0, gathers = 0;
    bool way = false;
    snprintf(arguments, sizeof arguments, "--device cpu --threads 1 --ranks %d --most 1 --seconds 0 --json", ranks);
    CHECK_INT(run(program, arguments), 0);
    for (char *line = strtok(out, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        struct json *row;
        if (json_parse(line, strlen(line), "row", ERR_DATA, &row, &e) != 0) {
            CHECK_STR(line, "a row of JSON");
            return;
        }
        if (json_get(row, "interconnect") != NULL)
            way = strcmp(json_text(json_get(row, "interconnect"), NULL), "shared memory") == 0;
        else {
            check_row(row, ranks, sums, gathers);
            bool sum = strcmp(json_text(json_get(row, "name"), NULL), "all-reduce") == 0;
            sums += sum;
            gathers += !sum;
        }
        json_free(row);
    }
    CHECK(way && sums == 3 && gathers == 3); /* 64 KiB, 256 KiB, 1 MiB */
}

static void check_fault(const char *program, const char *fault, const char *says)
{
    setenv("LORAT_RANK_FAULT", fault, 1);
    CHECK_INT(run(program, "--device cpu --threads 1 --ranks 2 --most 1 --seconds 0"), 10);
    CHECK_HAS(out, says);
    CHECK_HAS(out, "NCCL_P2P_DISABLE=1");
    setenv("LORAT_RANK_FAULT", "none", 1);
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 1;
    check_fault(argv[2], "1:sum", "bench comm: all-reduce of 65536 bytes: 1 wrong elements over all ranks, expected none");
    check_fault(argv[2], "0:gather", "bench comm: all-gather of 65536 bytes: 2 wrong elements over all ranks, expected none");
    CHECK_INT(run(argv[2], "--device cpu --threads 1 --ranks 2 --most 1 --seconds 0"), 0);
    check_run(argv[1], 2);
    check_run(argv[1], 3);
    CHECK_INT(run(argv[1], "--device cpu --ranks 1"), 2);
    CHECK_HAS(out, "expected two or more");
    CHECK_INT(run(argv[1], "--device cpu --interconnect nvlink"), 3);
    CHECK_HAS(out, "the job runs on the CPU");
    CHECK_INT(run(argv[1], "--device cpu --gpus 0,1"), 2); /* no sums of the CPU for those of two cards */
    CHECK_HAS(out, "found --gpus, and this would run on the CPU");
    CHECK_INT(run(argv[1], "--device cpu --interconnect fast"), 2);
    CHECK_HAS(out, "expected auto, nvlink or pcie");
    return check_done();
}
