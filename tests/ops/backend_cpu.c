/* backend_cpu.c - runs ops_test on the CPU backend: both activation types, every instruction set that this machine has
 * (or, with the argument "best", only the one that is used: enough for products, which are oneDNN's). */
#include "kernels/cpu/cpu.h"
#include "tests/ops/harness.h"

int main(int argc, char **argv)
{
    int failures = 0;
    for (enum cpu_isa isa = argc > 1 && strcmp(argv[1], "best") == 0 ? cpu_best_isa() : ISA_BASE; isa <= cpu_best_isa(); isa++)
        for (int bf = 0; bf < 2; bf++) {
            struct ops *o = NULL;
            struct err e = {0};
            CHECK_OK(ops_cpu_open_isa(bf ? DT_BF16 : DT_F32, 2, isa, &o, &e), &e);
            if (!o)
                return check_done();
            test_seed(1);
            failures = ops_test(o);
            test_workspace(o, NULL);
            o->close(o);
        }
    check_failures += failures + test_failures();
    return check_done();
}
