/* entries.h - the operations of the CUDA backend; the same prototypes as the entries of struct ops. Included by cuda.h. */
#ifndef LORAT_CUDA_ENTRIES_H
#define LORAT_CUDA_ENTRIES_H

/* open.cu */
int cuda_open(int index, enum dtype act, struct ops **out, struct err *e);
void cuda_close(struct ops *o);

/* cards.cu */
void cuda_versions(char *out, size_t size);
int cuda_cards(struct cuda_card *out, int max, int *n, struct err *e);
int cuda_peer(int from, int to, bool *out, struct err *e);
const char *cuda_driver_wanted(void); /* "R580 or later (CUDA 13)" */

/* memory.cu */
int cuda_alloc(struct ops *o, size_t bytes, void **out, struct err *e);
void cuda_release(struct ops *o, void *p);
int cuda_memory(struct ops *o, int64_t *free_bytes, int64_t *total_bytes, struct err *e);
/* "3.1 GiB of 24.0 GiB are free", for a message about an error that the runtime then forgets: no later call must find it. */
const char *cuda_free_memory(char out[96]);
int cuda_sync(struct ops *o, struct err *e);
int cuda_check(struct ops *o, struct err *e);

/* staging.cu */
void cuda_upload(struct ops *o, void *dst, const void *src_host, size_t bytes);
int cuda_download(struct ops *o, void *dst_host, const void *src, size_t bytes, struct err *e);
int staging_open(struct cuda *c, struct err *e);
void staging_close(struct cuda *c);

/* fetch.cu. fetch_begin: the second queue, once everything queued on the first so far is done; NULL after a failure. fetch_end: the
 * slot's fetch is what was queued there since. */
int cuda_alloc_host(struct ops *o, size_t bytes, void **out, struct err *e);
void cuda_release_host(struct ops *o, void *p);
void cuda_fetch(struct ops *o, int slot, void *dst, const void *src_host, size_t bytes);
void cuda_fetch_wait(struct ops *o, int slot);
double cuda_fetch_waited(struct ops *o);
cudaStream_t fetch_begin(struct cuda *c, const char *where);
void fetch_end(struct cuda *c, int slot, const char *where);
int fetch_open(struct cuda *c, struct err *e);
void fetch_close(struct cuda *c);

/* nccl.cu */
extern const struct cuda_nccl cuda_nccl_table;

/* lt.cu, lt_tune.cu, gemm.cu, linear.cu */
int lt_open(struct cuda *c, struct err *e);
void lt_close(struct cuda *c);
int cuda_tune(struct ops *o, void *scratch, size_t bytes, double budget_s, struct err *e);
int cuda_tuned(struct ops *o, struct buf *out, struct err *e);
int cuda_set_tuned(struct ops *o, const char *text, size_t n, struct err *e);
void cuda_gemm(struct ops *o, const struct gemm *g);
void cuda_linear_forward(struct ops *o, void *y, const void *x, const struct weight *w, const void *bias, int32_t n);
void cuda_linear_backward(struct ops *o, void *dx, const void *dy, const struct weight *w, int32_t n, bool accumulate);

/* profile.cu */
void cuda_mark(struct ops *o, const char *name);

/* One file each, named after the operation; rows.cu holds gather_rows and scatter_rows. */
void cuda_zero(struct ops *o, void *p, size_t bytes);
void cuda_cast(struct ops *o, void *dst, enum dtype dst_type, const void *src, enum dtype src_type, int64_t count);
void cuda_copy_2d(struct ops *o, void *dst, int32_t ld_dst, const void *src, int32_t ld_src, int32_t rows, int32_t cols);
void cuda_gather_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols);
void cuda_scatter_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols);
void cuda_add(struct ops *o, void *y, const void *x, int64_t count);
void cuda_embed_forward(struct ops *o, void *x, const struct weight *w, const int32_t *tokens, int32_t n);
void cuda_rmsnorm_forward(struct ops *o, void *y, void *sum, const void *x, const void *delta, const void *w, int32_t n, int32_t d,
                          float eps);
void cuda_rmsnorm_backward(struct ops *o, void *dx, const void *dy, const void *x, const void *w, int32_t n, int32_t d, float eps);
void cuda_head_norm_forward(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const void *w, int32_t n, int32_t heads,
                            int32_t q, float eps);
void cuda_head_norm_backward(struct ops *o, void *dx, int32_t ld_dx, const void *dy, int32_t ld_dy, const void *x, int32_t ld_x,
                             const void *w, int32_t n, int32_t heads, int32_t q, float eps);
void cuda_rope(struct ops *o, void *x, int32_t ld_x, const int32_t *positions, const float *table, int32_t n, int32_t heads, int32_t q,
               bool backward);
void cuda_swiglu_forward(struct ops *o, void *a, const void *gu, int32_t n, int32_t f);
void cuda_swiglu_backward(struct ops *o, void *dgu, const void *da, const void *gu, int32_t n, int32_t f);
void cuda_dropout_apply(struct ops *o, void *y, const void *x, const uint32_t *keys, int32_t n, int32_t d, const struct dropout *drop,
                        bool accumulate);
void cuda_cross_entropy(struct ops *o, float *loss, float *nll, void *logits, int32_t ld_v, const int32_t *targets,
                        const float *weights, int32_t n, int32_t v, bool backward);
void cuda_weight_sum(struct ops *o, float *sum, const float *weights, int32_t n);
void cuda_argmax(struct ops *o, int32_t *out, const void *logits, int32_t ld_v, int32_t n, int32_t v);
void cuda_grad_stats(struct ops *o, float *out, const float *g, int64_t count);
void cuda_adamw_update(struct ops *o, float *p, const float *g, float *m, float *v, int64_t count, const struct adamw *a);

/* attention.cu chooses among attention_mma_*.cu (BF16, head size 64 and 128), attention_plain.cu (everything else, and the
 * reference of the fast path) and attention_cudnn.cpp. */
int attention_path_read(enum attention_path *out, struct err *e);
void cuda_attention_forward(struct ops *o, const struct attention *a, void *out, float *lse, const void *q, const void *k, const void *v);
void cuda_attention_backward(struct ops *o, const struct attention *a, void *dq, void *dk, void *dv, const void *dout, const void *out,
                             const float *lse, const void *q, const void *k, const void *v, float *delta);

/* What the operations want of the workspace; workspace_bytes (open.cu) takes the largest. */
size_t attention_workspace(const struct cuda *c, const struct ops_dims *d);
size_t lt_workspace(const struct cuda *c, const struct ops_dims *d);
size_t cross_entropy_workspace(const struct ops_dims *d);
size_t grad_stats_workspace(void);

#endif
