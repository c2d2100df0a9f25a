/* attention_cudnn_none.cpp - for a build without cudnn-frontend's header: no cuDNN, and our own kernels do everything. */
#include "kernels/cuda/attention_cudnn.h"

int attention_cudnn_open(struct cuda *c, int major, int minor, struct attention_cudnn **out, struct err *e)
{
    (void)c, (void)major, (void)minor, (void)out;
    FAIL(e, ERR_DEVICE,
         "cuDNN: left out of this build, expected cudnn-frontend's header. Run sh scripts/setup-cuda.sh and build again");
}
void attention_cudnn_close(struct attention_cudnn *x) { (void)x; }
int64_t attention_cudnn_version(const struct attention_cudnn *x) { return (void)x, 0; }
size_t attention_cudnn_workspace(const struct attention_cudnn *x, const struct ops_dims *d) { return (void)x, (void)d, 0; }

static int none(struct err *e)
{
    FAIL(e, ERR_INTERNAL, "cuDNN: used without being open, expected attention_cudnn_open. Report this");
}
int attention_cudnn_forward(struct attention_cudnn *, const struct attention *, void *, float *, const void *, const void *,
                            const void *, struct err *e)
{
    return none(e);
}
int attention_cudnn_backward(struct attention_cudnn *, const struct attention *, void *, void *, void *, const void *,
                             const void *, const float *, const void *, const void *, const void *, struct err *e)
{
    return none(e);
}
int attention_cudnn_check(const struct attention *, int, bool, struct err *e) { return none(e); }
