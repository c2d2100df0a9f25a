/* test_cudnn_graph.cpp - the real cudnn-frontend's word about the graphs of attention_cudnn.cpp: its own checks pass for the
 * cards that the choice allows and refuse the others for the reason that attention_cudnn.h gives. Needs libcudnn.so.9 for its
 * version alone; no card is asked, nothing is compiled or run. What they compute is tested on a card. */
#include "kernels/cuda/attention_cudnn.h"
#include "tests/check.h"

/* What attention_cudnn.cpp queues of ours; nothing is queued here. */
void cuda_copy_2d(struct ops *, void *, int32_t, const void *, int32_t, int32_t, int32_t) {}
void attention_ragged_queue(struct cuda *, const char *, const struct attention *, int32_t, int32_t *) {}

static struct attention shape(int32_t heads, int32_t kv_heads, int32_t size)
{
    struct attention a = {};
    a.n = 8192;
    a.heads = heads;
    a.kv_heads = kv_heads;
    a.head_size = size;
    a.ld_q = a.ld_k = a.ld_v = (heads + 2 * kv_heads) * size;
    a.scale = 0.125f;
    a.n_spans = 37;
    a.max_span = 2048;
    a.square = true;
    return a;
}

int main(void)
{
    struct err e = {};
    struct attention a = shape(32, 8, 128);
    if (attention_cudnn_check(&a, 90, false, &e) != 0 && strstr(e.text, "libcudnn"))
        CHECK_SKIP(e.text);
    const int32_t shapes[][3] = {{32, 8, 128}, {16, 8, 128}, {9, 3, 64}, {8, 8, 64}, {32, 1, 64}};
    for (const int32_t *s : shapes)
        for (int sm : {90, 100, 103})
            for (int backward = 0; backward < 2; backward++) {
                a = shape(s[0], s[1], s[2]);
                CHECK_OK(attention_cudnn_check(&a, sm, backward, &e), &e);
            }
    a = shape(32, 8, 128);
    for (int sm : {80, 86, 89, 120}) {
        CHECK_OK(attention_cudnn_check(&a, sm, false, &e), &e);
        CHECK(attention_cudnn_check(&a, sm, true, &e) != 0);
        CHECK_HAS(e.text, "not supported for bprop thd on SM8X and SM12X");
    }
    a = shape(32, 8, 132); /* a head size that nobody takes: the checks do look */
    CHECK(attention_cudnn_check(&a, 90, true, &e) != 0);
    return check_done();
}
