/* onednn_version.h - the one place that knows that oneDNN's C API changed between 2.x and 3.x: descriptors became opaque handles,
 * operation descriptors went, and post-operations lost or gained arguments. */
#ifndef LORAT_ONEDNN_VERSION_H
#define LORAT_ONEDNN_VERSION_H

#include <dnnl.h>
#include <stdbool.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t matrix_desc;
typedef const_dnnl_memory_desc_t matrix_desc_in;
static inline matrix_desc_in matrix_in(const matrix_desc *d) { return *d; }
static inline dnnl_status_t matrix_init(matrix_desc *d, const dnnl_dims_t dims, const dnnl_dims_t strides, dnnl_data_type_t type)
{
    return dnnl_memory_desc_create_with_strides(d, 2, dims, type, strides);
}
static inline void matrix_free(matrix_desc *d) { dnnl_memory_desc_destroy(*d); }
static inline dnnl_status_t matmul_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const matrix_desc *a,
                                        const matrix_desc *b, const matrix_desc *bias, const matrix_desc *c,
                                        const_dnnl_primitive_attr_t attr)
{
    return dnnl_matmul_primitive_desc_create(out, engine, *a, *b, bias ? *bias : NULL, *c, attr);
}
static inline dnnl_status_t post_scale(dnnl_post_ops_t ops, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, dnnl_eltwise_linear, alpha, 0);
}
static inline dnnl_status_t post_sum(dnnl_post_ops_t ops, float scale)
{
    return dnnl_post_ops_append_sum(ops, scale, 0, dnnl_data_type_undef);
}
#else
typedef dnnl_memory_desc_t matrix_desc;
typedef const dnnl_memory_desc_t *matrix_desc_in;
static inline matrix_desc_in matrix_in(const matrix_desc *d) { return d; }
static inline dnnl_status_t matrix_init(matrix_desc *d, const dnnl_dims_t dims, const dnnl_dims_t strides, dnnl_data_type_t type)
{
    return dnnl_memory_desc_init_by_strides(d, 2, dims, type, strides);
}
static inline void matrix_free(matrix_desc *d) { (void)d; }
static inline dnnl_status_t matmul_desc(dnnl_primitive_desc_t *out, dnnl_engine_t engine, const matrix_desc *a,
                                        const matrix_desc *b, const matrix_desc *bias, const matrix_desc *c,
                                        const_dnnl_primitive_attr_t attr)
{
    dnnl_matmul_desc_t desc;
    dnnl_status_t status = dnnl_matmul_desc_init(&desc, a, b, bias, c);
    return status != dnnl_success ? status : dnnl_primitive_desc_create(out, &desc, attr, engine, NULL);
}
static inline dnnl_status_t post_scale(dnnl_post_ops_t ops, float alpha)
{
    return dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_linear, alpha, 0);
}
static inline dnnl_status_t post_sum(dnnl_post_ops_t ops, float scale) { return dnnl_post_ops_append_sum(ops, scale); }
#endif

#endif
