/* open.c - choose the instruction set, fill the table, size the workspace. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cpu/onednn.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

enum { MAX_THREADS = 1024 };

static const char *const isa_names[ISA_COUNT] = {"plain", "AVX2", "AVX-512", "AVX-512 BF16"};
const char *cpu_isa_name(enum cpu_isa isa) { return isa_names[isa]; }

enum cpu_isa cpu_best_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd");
    if (avx512)
        return ops_cpu_has_bf16() ? ISA_AVX512BF16 : ISA_AVX512;
    return avx2 ? ISA_AVX2 : ISA_BASE;
#else
    return ISA_BASE;
#endif
}

static void fill_table(struct ops *o, enum cpu_isa isa)
{
    switch (isa) {
#if defined(__x86_64__)
    case ISA_AVX512BF16:
        table_avx512bf16(o);
        break;
    case ISA_AVX512:
        table_avx512(o);
        break;
    case ISA_AVX2:
        table_avx2(o);
        break;
#endif
    default:
        table_base(o);
    }
}

/* "model name : AMD EPYC" of /proc/cpuinfo. */
static void cpu_model(char *out, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "re");
    snprintf(out, size, "CPU");
    while (f && fgets(line, sizeof(line), f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon && colon[1] == ' ') {
            colon[2 + strcspn(colon + 2, "\n")] = 0;
            snprintf(out, size, "%s", colon + 2);
            break;
        }
    }
    if (f)
        fclose(f);
}

/* The widest form of attention's scratch: F32 slots. See attention_forward.c and attention_backward.c. */
static size_t attention_bytes(const struct cpu *c, const struct ops_dims *d)
{
    if (d->h <= 0 || d->k <= 0 || d->q <= 0)
        return 0;
    size_t row = (size_t)num_round_up(d->q, 16), group = (size_t)(d->h / d->k), block = 64, pad = 64 * 20;
    size_t blocks = (size_t)num_div_up(d->max_span, 64), threads = (size_t)c->threads;
    size_t forward = 4 * (2 * group * block * row + 3 * block * row + 2 * block * block + 2 * group * block) + pad;
    size_t backward = 4 * (11 * block * row + 5 * block * block + 2 * block + group * blocks * row * block) + pad;
    /* Split spans have more than 64 tokens, so at most a block per 32 tokens, in up to 8 parts and no more than threads. */
    size_t parts = threads < 8 ? threads : 8;
    size_t split = parts > 1 ? 4 * (size_t)(d->n / 32 + 1) * (size_t)d->h * parts * row * block : 0;
    return forward * threads > backward * threads + split ? forward * threads : backward * threads + split;
}

static size_t workspace_bytes(const struct ops *o, const struct ops_dims *d)
{
    struct cpu *c = cpu_of(o);
    size_t most = (size_t)1 << 20, attention = attention_bytes(c, d), products = onednn_scratch(c, d);
    size_t rows = (size_t)(d->n > d->head_chunk ? d->n : d->head_chunk) * sizeof(float);
    most = attention > most ? attention : most;
    most = products > most ? products : most;
    most = rows > most ? rows : most;
    return (size_t)num_round_up((int64_t)most, 4096);
}

static void set_workspace(struct ops *o, void *p, size_t bytes)
{
    cpu_of(o)->workspace = p;
    cpu_of(o)->workspace_size = bytes;
}

static void cpu_close(struct ops *o)
{
    struct cpu *c = o ? cpu_of(o) : NULL;
    if (!c)
        return;
    onednn_close(c);
    mem_free(c);
}

int ops_cpu_open_isa(enum dtype act, int threads, enum cpu_isa isa, struct ops **out, struct err *e)
{
    if (act != DT_BF16 && act != DT_F32)
        FAIL(e, ERR_INTERNAL, "cpu: activations of type %s, expected bf16 or f32", dtype_name(act));
    if (threads < 0 || threads > MAX_THREADS)
        FAIL(e, ERR_CONFIG, "cpu: %d threads, expected 0 (all cores) to %d", threads, (int)MAX_THREADS);
    struct cpu *c = mem_alloc(1, sizeof(*c));
    if (!c)
        return mem_fail(e, "the CPU backend", sizeof(*c));
    struct ops *o = &c->ops;
    char model[64];
    c->threads = threads ? threads : omp_get_num_procs();
    o->name = "cpu";
    o->act = act;
    o->state = c;
    cpu_model(model, sizeof(model));
    snprintf(o->device, sizeof(o->device), "%s, %d thread%s, %s", model, c->threads, c->threads == 1 ? "" : "s", isa_names[isa]);
    o->alloc = cpu_alloc;
    o->release = cpu_release;
    o->memory = cpu_memory;
    o->workspace_bytes = workspace_bytes;
    o->set_workspace = set_workspace;
    o->upload = cpu_upload;
    o->download = cpu_download;
    o->alloc_host = cpu_alloc;
    o->release_host = cpu_release;
    o->fetch = cpu_fetch;
    o->fetch_wait = cpu_fetch_wait;
    o->sync = cpu_check;
    o->check = cpu_check;
    o->close = cpu_close;
    o->unified = true;
    o->gather_rows = gather_rows;
    o->scatter_rows = scatter_rows;
    o->linear_forward = linear_forward;
    o->linear_backward = linear_backward;
    o->gemm = gemm;
    fill_table(o, isa);
    if (onednn_open(c, e) != 0) {
        cpu_close(o);
        return -1;
    }
    *out = o;
    return 0;
}

int ops_cpu_open(enum dtype act, int threads, struct ops **out, struct err *e)
{
    return ops_cpu_open_isa(act, threads, cpu_best_isa(), out, e);
}
