/* verb_export.c - `lorat export`: a trained adapter for other programs, alone or merged into its base. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/adapter.h"
#include "checkpoints/run.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/merge.h"
#include "trainer/options.h"
#include "trainer/verbs.h"

static const struct option_row rows[] = {
    {"format", "NAME", "peft: the adapter's two files as PEFT loads them (the default); hf: base and adapter merged into a folder that transformers loads", 0, false},
    {"output", "DIR", "a new folder", 'o', false},
    {"model", "PATH", "hf: the base model (default: the one the adapter names)", 0, false},
    {"dtype", "NAME", "hf: auto (the base's own; bf16 for a quantized base), bf16, f16 or f32", 0, false},
};
static const struct option_table table = {
    .verb = "export",
    .args = "RUN",
    .about = "Write what a run learned. RUN is a run's folder (its newest checkpoint that verifies is used), a checkpoint folder or an adapter folder.",
    .example = "lorat export runs/quickstart --format hf -o merged/quickstart",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = 1,
};

static bool has(const char *dir, const char *name)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return io_exists(path);
}

/* The folder with the adapter's two files behind what the user named; checkpoints are verified first. */
static int find_adapter(const char *what, char dir[1024], struct err *e)
{
    struct run_found found = {.step = -1};
    int rc = 0;
    snprintf(dir, 1024, "%s", what);
    if (!io_is_dir(what))
        FAIL(e, ERR_IO, "%s: is not there, expected a run's folder such as runs/quickstart, a checkpoint or an adapter folder", what);
    if (has(what, "manifest.json"))
        return run_verify(what, e);
    if (has(what, "adapter_config.json"))
        return 0;
    TRY(run_find(what, &found, e));
    if (found.rejected != NULL)
        fprintf(stderr, "lorat: warning: %s: refused, the newest good checkpoint is used:\n%s\n", what, found.rejected);
    if (found.dir == NULL)
        rc = err_set(e, ERR_STATE, "%s: has no checkpoint that verifies, expected at least one. Train first, or name an adapter folder", what);
    else
        snprintf(dir, 1024, "%s", found.dir);
    run_found_free(&found);
    return rc;
}

static int copy_file(const char *from, const char *to, const char *name, struct err *e)
{
    char path[2200], *bytes;
    size_t n;
    snprintf(path, sizeof path, "%s/%s", from, name);
    TRY(io_read_file(path, ERR_MODEL, (size_t)1 << 34, &bytes, &n, e));
    snprintf(path, sizeof path, "%s/%s", to, name);
    int rc = io_write_file_atomic(path, bytes, n, e);
    free(bytes);
    return rc;
}

static int export_peft(const char *adapter, const char *out, struct err *e)
{
    struct adapter_config c;
    struct tensor_list t = {0};
    TRY(adapter_open(adapter, &c, &t, e));
    size_t n = t.n;
    tensor_list_close(&t);
    if (has(out, "adapter_config.json"))
        FAIL(e, ERR_IO, "%s: holds an adapter already, expected a new folder. Choose another -o", out);
    TRY(io_mkdirs(out, e));
    TRY(copy_file(adapter, out, "adapter_model.safetensors", e));
    TRY(copy_file(adapter, out, "adapter_config.json", e));
    printf("%s: adapter of rank %d for %s, %zu tensors (F32), from %s\n", out, c.rank, c.base, n, adapter);
    return 0;
}

static int export_hf(const struct options *o, const char *adapter, const char *out, struct err *e)
{
    struct adapter_config c;
    struct tensor_list t = {0};
    struct merge_facts facts;
    const char *dtype = options_value(o, "dtype"), *base = options_value(o, "model");
    TRY(adapter_open(adapter, &c, &t, e));
    tensor_list_close(&t);
    if (base == NULL)
        base = c.base;
    TRY(merge_export(base, adapter, out, dtype != NULL ? dtype : "auto", &facts, e));
    printf("%s: %s merged with %s: %lld tensors (%s), %lld of them changed; rounding to %s moved no value by more than %.2g of its tensor's largest\n",
           out, base, adapter, (long long)facts.tensors, tensor_type_name(facts.type), (long long)facts.changed, tensor_type_name(facts.type),
           facts.max_rounding);
    return 0;
}

static int export_run(const struct options *o, struct err *e)
{
    char adapter[1024];
    const char *format = options_value(o, "format"), *out = options_value(o, "output");
    if (out == NULL)
        FAIL(e, ERR_USAGE, "lorat export: found no -o, expected the folder to write");
    if (format != NULL && strcmp(format, "peft") != 0 && strcmp(format, "hf") != 0)
        FAIL(e, ERR_USAGE, "--format %s: unknown, expected peft or hf", format);
    TRY(find_adapter(o->args[0], adapter, e));
    if (format == NULL || strcmp(format, "peft") == 0)
        return export_peft(adapter, out, e);
    return export_hf(o, adapter, out, e);
}

int verb_export(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0)
        rc = export_run(&o, e);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
