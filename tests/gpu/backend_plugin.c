/* backend_plugin.c - runs ops_test on the CUDA backend of whatever plug-in lorat itself would load, with both activation types:
 * a real card's, or the simulated one that $LORAT_CUDA names. $LORAT_ATTENTION chooses the attention, as always. */
#include "kernels/plugin.h"
#include "tests/ops/harness.h"

int main(void)
{
    const struct cuda_plugin *plugin;
    struct err e = {0};
    int failures = 0;
    if (!plugin_card_present())
        CHECK_SKIP("no NVIDIA card");
    CHECK_OK(plugin_cuda(&plugin, &e), &e);
    if (check_failures)
        return check_done();
    for (int bf = 0; bf < 2; bf++) {
        struct ops *o = NULL;
        if (plugin->open(0, bf ? DT_BF16 : DT_F32, &o, &e) != 0 && strncmp(e.text, "LORAT_ATTENTION=cudnn", 21) == 0)
            CHECK_SKIP(e.text); /* cuDNN is optional */
        CHECK_OK(o ? 0 : -1, &e);
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
