/* verb_data_info.c - `lorat data info`: facts, and what a sequence length does to the documents. */
#include <stdio.h>
#include <string.h>

#include "datasets/loader.h"
#include "trainer/base/log.h"
#include "trainer/base/stop.h"
#include "trainer/verb_data.h"

static const struct option_row rows[] = {
    {"sequence-length", "N", "also count what rows of N tokens do to it", 0, false},
    {"too-long", "HOW", "with it: auto, split, drop or truncate; default auto", 0, false},
    {"allow-unsealed", NULL, "accept a file without a seal, after probing it in a child process", 0, false},
};
static const struct option_table table = {
    .verb = "data info",
    .args = "FILE",
    .about = "Print what is in a dataset and what is odd about it.",
    .example = "lorat data info data/train.h5 --sequence-length 2048",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = 1,
};

static int read_too_long(const struct options *o, enum too_long *out, struct err *e)
{
    static const char *const names[4] = {"auto", "split", "drop", "truncate"};
    const char *name = options_value(o, "too-long");
    *out = TOO_LONG_AUTO;
    if (name == NULL)
        return 0;
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0) {
            *out = (enum too_long)i;
            return 0;
        }
    FAIL(e, ERR_USAGE, "lorat data info: --too-long: \"%.60s\", expected auto, split, drop or truncate", name);
}

static int print_rows(struct loader_options *o, const char *name, struct err *e)
{
    struct loader *l;
    int64_t packed = 0;
    TRY(loader_open(o, &l, e));
    const struct loader_counts *c = loader_counts(l);
    int rc = loader_epoch_steps(l, 0, &packed, e); /* a step of one row */
    if (rc == 0)
        printf("%-11s in rows of %d: %lld pieces of %lld documents (%lld split, %lld truncated, %lld dropped, %lld without a "
               "target left)\n"
               "%-11s %lld tokens, %lld of them trained; %lld rows when packed (%.1f %% full), %lld when not (%.1f %%)\n",
               name, o->sequence_length, (long long)c->pieces, (long long)c->documents, (long long)c->split,
               (long long)c->truncated, (long long)c->dropped, (long long)c->no_target, "", (long long)c->tokens,
               (long long)c->targets, (long long)packed, 100.0 * (double)c->tokens / ((double)packed * o->sequence_length),
               (long long)c->pieces, 100.0 * (double)c->tokens / ((double)c->pieces * o->sequence_length));
    loader_close(l);
    return rc;
}

static int run_info(const struct options *o, struct err *e)
{
    struct dataset *d;
    int64_t length = 0;
    struct loader_options l = {.path = o->args[0],
                               .cache_dir = DATA_CACHE,
                               .unsealed = options_given(o, "allow-unsealed"),
                               .packing = true,
                               .shuffle = true,
                               .batch = 1,
                               .micro_batch = 1,
                               .ranks = 1};
    TRY(options_i64(o, "sequence-length", 2, 1 << 24, &length, e));
    TRY(read_too_long(o, &l.too_long, e));
    stop_install();
    TRY(dataset_open(o->args[0], l.unsealed, l.cache_dir, &d, e));
    struct dataset_facts f = *dataset_facts(d);
    dataset_close(d);
    data_print_facts(&f);
    l.sequence_length = (int32_t)length;
    for (int g = 0; g < 2 && length > 0; g++)
        if (f.group[g].present) {
            l.group = (enum dataset_group)g;
            TRY(print_rows(&l, g == DATASET_TRAIN ? "train" : "validation", e));
        }
    return 0;
}

int data_info(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0)
        rc = run_info(&o, e);
    if (rc == 0)
        rc = log_output_done(e);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
