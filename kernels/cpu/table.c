/* table.c - fill the table of operations with the copies of one instruction set. */
#include "kernels/cpu/entries.h"

void CPU(table)(struct ops *o)
{
    o->zero = CPU(zero);
    o->cast = CPU(cast);
    o->copy_2d = CPU(copy_2d);
    o->add = CPU(add);
    o->embed_forward = CPU(embed_forward);
    o->rmsnorm_forward = CPU(rmsnorm_forward);
    o->rmsnorm_backward = CPU(rmsnorm_backward);
    o->head_norm_forward = CPU(head_norm_forward);
    o->head_norm_backward = CPU(head_norm_backward);
    o->rope = CPU(rope);
    o->attention_forward = CPU(attention_forward);
    o->attention_backward = CPU(attention_backward);
    o->swiglu_forward = CPU(swiglu_forward);
    o->swiglu_backward = CPU(swiglu_backward);
    o->dropout_apply = CPU(dropout_apply);
    o->cross_entropy = CPU(cross_entropy);
    o->weight_sum = CPU(weight_sum);
    o->argmax = CPU(argmax);
    o->grad_stats = CPU(grad_stats);
    o->adamw_update = CPU(adamw_update);
}
