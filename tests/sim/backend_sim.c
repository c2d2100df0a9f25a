/* backend_sim.c - runs ops_test on the CUDA backend over a simulated card, with both activation types. */
#include "kernels/cuda/plugin.h"
#include "tests/ops/harness.h"

int main(void)
{
    int failures = 0;
    for (int bf = 0; bf < 2; bf++) {
        struct ops *o = NULL;
        struct err e = {0};
        CHECK_OK(lorat_cuda_plugin()->open(0, bf ? DT_BF16 : DT_F32, &o, &e), &e);
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
