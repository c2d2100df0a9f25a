/* attention_select.h - our own attention or cuDNN's? The rule stands at the top of attention_select.cu. */
#ifndef LORAT_CUDA_ATTENTION_SELECT_H
#define LORAT_CUDA_ATTENTION_SELECT_H

#include "kernels/cuda/attention_cudnn.h"

/* major.minor is the card's compute capability. Fails (ERR_DEVICE) only where $LORAT_ATTENTION asks for a cuDNN that fails. */
int attention_select_open(struct cuda *c, int major, int minor, struct err *e);
void attention_select_close(struct cuda *c);
size_t attention_select_workspace(const struct cuda *c, const struct ops_dims *d); /* 0 without cuDNN */
/* Is this call cuDNN's? Decides at the first call of a class of shapes, and waits for the card then. `pointers`: all of BF16. */
bool attention_select_cudnn(struct cuda *c, const struct attention *a, std::initializer_list<const void *> pointers);
/* The two operations, for calls that attention_select_cudnn took. */
void attention_select_forward(struct cuda *c, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                              const void *v);
void attention_select_backward(struct cuda *c, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                               const void *out, const float *lse, const void *q, const void *k, const void *v);
/* Time both for every class seen so far, with operands in `scratch`, and keep the answers in the tuned table. Waits. */
int attention_select_tune(struct cuda *c, void *scratch, size_t bytes, struct err *e);
/* The entries of ops.h. */
void attention_select_chosen(struct ops *o, struct buf *out);
void attention_select_set_chosen(struct ops *o, const char *text);
/* Why the last decision was for our own kernel; "" when it was not, or none was made. */
const char *attention_select_why(const struct cuda *c);

/* attention.cu: our own, whatever is chosen. */
void attention_own_forward(struct cuda *c, const struct attention *a, void *out, float *lse, const void *q, const void *k,
                           const void *v);
void attention_own_backward(struct cuda *c, const struct attention *a, void *dq, void *dk, void *dv, const void *dout,
                            const void *out, const float *lse, const void *q, const void *k, const void *v, float *delta);

/* attention_selftest.cu: `x` forward and backward twice on random numbers at shape `a` (its pointers are not looked at): the same
 * bits, and ours within what BF16 explains. -1 with what was found as the message. scratch NULL: memory of its own while it runs.
 * us, when not NULL: microseconds of a forward and backward by ours and by cuDNN. Waits. */
enum attention_side { SIDE_OWN, SIDE_CUDNN };
int attention_selftest(struct cuda *c, struct attention_cudnn *x, const struct attention *a, void *scratch, size_t bytes,
                       float us[2], struct err *e);
size_t attention_selftest_bytes(struct cuda *c, const struct attention *a);

#endif
