/* cpu.h - the CPU backend's own state, shared by its files.
 *
 * Files whose loops are worth vector instructions are compiled once per instruction set (see CMakeLists.txt): CPU(name) gives
 * each copy a name of its own, and table.c fills the table of operations with the copies of one set. cpu_open picks the set. */
#ifndef LORAT_CPU_H
#define LORAT_CPU_H

#include "kernels/ops.h"

struct onednn;
struct cpu {
    struct ops ops;
    int threads;
    char *workspace;
    size_t workspace_size;
    bool failed; /* sticky: see `check` in ops.h */
    struct err error;
    struct onednn *onednn;
};
static inline struct cpu *cpu_of(const struct ops *o) { return o->state; }

/* Remember the first failure. */
void cpu_fail(struct cpu *c, enum err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The first `bytes` of the workspace; NULL (and a remembered failure) when it is too small. `where` is the operation. */
void *cpu_scratch(struct cpu *c, const char *where, size_t bytes);

/* Work below this many elements is not worth waking threads for. The bits never depend on it. */
enum { CPU_PARALLEL = 8192 };

/* Instruction sets, the best last. */
enum cpu_isa { ISA_BASE, ISA_AVX2, ISA_AVX512, ISA_AVX512BF16, ISA_COUNT };
enum cpu_isa cpu_best_isa(void);
const char *cpu_isa_name(enum cpu_isa isa);
void table_base(struct ops *o);
void table_avx2(struct ops *o);
void table_avx512(struct ops *o);
void table_avx512bf16(struct ops *o);

/* ops_cpu_open with a lesser instruction set than the best, for tests. */
int ops_cpu_open_isa(enum dtype act, int threads, enum cpu_isa isa, struct ops **out, struct err *e);

/* What oneDNN's products of these shapes need, for workspace_bytes. */
size_t onednn_scratch(struct cpu *c, const struct ops_dims *d);

/* memory.c */
int cpu_alloc(struct ops *o, size_t bytes, void **out, struct err *e);
void cpu_release(struct ops *o, void *p);
int cpu_memory(struct ops *o, int64_t *free_bytes, int64_t *total_bytes, struct err *e);
void cpu_upload(struct ops *o, void *dst, const void *src_host, size_t bytes);
int cpu_download(struct ops *o, void *dst_host, const void *src, size_t bytes, struct err *e);
int cpu_check(struct ops *o, struct err *e);
void cpu_fetch(struct ops *o, int slot, void *dst, const void *src_host, size_t bytes);
void cpu_fetch_wait(struct ops *o, int slot);

/* rows.c */
void gather_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols);
void scatter_rows(struct ops *o, void *y, int32_t ld_y, const void *x, int32_t ld_x, const int32_t *index, int32_t n, int32_t cols);

/* linear.c, gemm.c */
void linear_forward(struct ops *o, void *y, const void *x, const struct weight *w, const void *bias, int32_t n);
void linear_backward(struct ops *o, void *dx, const void *dy, const struct weight *w, int32_t n, bool accumulate);
void gemm(struct ops *o, const struct gemm *g);

#define CPU_JOIN_(name, isa) name##_##isa
#define CPU_JOIN(name, isa) CPU_JOIN_(name, isa)
#define CPU(name) CPU_JOIN(name, CPU_ISA)

#endif
