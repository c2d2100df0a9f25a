/* verb_data_show.c - `lorat data show`: documents as the model will see them, and which tokens it learns to say. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/buf.h"
#include "trainer/base/hash.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/stop.h"
#include "trainer/source.h"
#include "trainer/verb_data.h"

static const struct option_row rows[] = {
    {"model", "DIR", "the model whose tokenizer turns ids into text; without it ids are printed", 'm', false},
    {"documents", "N", "how many documents; default 3", 'n', false},
    {"from", "N", "the first document, counted from 0; default 0", 0, false},
    {"group", "NAME", "train or validation; default train", 0, false},
    {"plain", NULL, "mark trained tokens as [[...]] even on a terminal", 0, false},
    {"allow-unsealed", NULL, "accept a file without a seal, after probing it in a child process", 0, false},
};
static const struct option_table table = {
    .verb = "data show",
    .args = "FILE",
    .about = "Print documents of a dataset. Tokens that carry loss are coloured on a terminal and stand in [[...]] elsewhere; a "
             "weight other "
             "than 1 is printed in front of them.",
    .example = "lorat data show data/train.h5 --model models/SmolLM2-135M-Instruct --documents 2",
    .rows = rows,
    .n_rows = sizeof rows / sizeof rows[0],
    .min_args = 1,
    .max_args = 1,
};

/* Text of a dataset may hold anything: control characters are shown, never sent to the terminal. */
static void put_text(struct buf *out, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
            buf_printf(out, "\\x%02x", c);
        else
            buf_add(out, s + i, 1);
    }
}

static void put_token(struct buf *out, const struct tokenizer *t, int32_t id, bool first_of_run)
{
    size_t n;
    const char *text = t != NULL ? tokenizer_token(t, id, &n) : NULL;
    if (text != NULL)
        put_text(out, text, n);
    else if (t != NULL)
        buf_printf(out, "<%d>", id);
    else
        buf_printf(out, "%s%d", first_of_run ? "" : " ", id);
}

static void put_document(struct buf *out, const struct document *d, const struct tokenizer *t, bool colour)
{
    for (size_t i = 0; i < d->n;) {
        float w = i == 0 ? 0 : d->weights[i];
        size_t end = i + 1;
        while (end < d->n && d->weights[end] == w)
            end++;
        if (t == NULL && i > 0)
            buf_puts(out, " ");
        if (w > 0)
            buf_puts(out, colour ? "\033[32m" : "[[");
        if (w > 0 && w != 1)
            buf_printf(out, "(%g) ", (double)w);
        for (size_t k = i; k < end; k++)
            put_token(out, t, d->tokens[k], k == i);
        if (w > 0)
            buf_puts(out, colour ? "\033[0m" : "]]");
        i = end;
    }
    if (out->n == 0 || out->data[out->n - 1] != '\n')
        buf_puts(out, "\n");
}

static int show(struct dataset *d, const struct options *o, const struct tokenizer *t, enum dataset_group g, struct err *e)
{
    int64_t n = 3, from = 0;
    const char *name = g == DATASET_TRAIN ? "train" : "validation";
    bool colour = !options_given(o, "plain") && log_colour(1);
    struct document doc = {0};
    struct buf out = {0};
    int rc = 0;
    TRY_DONE(options_i64(o, "documents", 1, INT64_MAX, &n, e));
    TRY_DONE(options_i64(o, "from", 0, INT64_MAX, &from, e));
    int64_t all = dataset_facts(d)->group[g].documents;
    if (!dataset_facts(d)->group[g].present)
        TRY_DONE(err_set(e, ERR_USAGE, "%s: no group \"%s\" in it, expected another --group", o->args[0], name));
    if (from >= all)
        TRY_DONE(err_set(e, ERR_USAGE, "lorat data show: --from: %lld, expected less than the %lld documents of group %s",
                         (long long)from, (long long)all, name));
    for (int64_t i = from; i < all && i - from < n && !stop_requested(); i++) {
        TRY_DONE(dataset_document(d, g, i, &doc, e));
        int64_t targets = 0;
        for (size_t k = 1; k < doc.n; k++)
            targets += doc.weights[k] > 0;
        buf_clear(&out);
        buf_printf(&out, "--- %s %lld: %zu tokens, %lld trained\n", name, (long long)i, doc.n, (long long)targets);
        put_document(&out, &doc, t, colour);
        if (out.failed)
            TRY_DONE(mem_fail(e, "a document", out.n));
        fwrite(out.data, 1, out.n, stdout);
    }
done:
    buf_free(&out);
    document_free(&doc);
    return rc;
}

static int run_show(const struct options *o, struct err *e)
{
    struct dataset *d = NULL;
    struct source source;
    struct tokenizer *t = NULL;
    enum dataset_group g = DATASET_TRAIN;
    const char *model = options_value(o, "model");
    bool open = false;
    int rc = 0;
    if (options_given(o, "group"))
        TRY(data_group(options_value(o, "group"), &g, e));
    stop_install();
    TRY_DONE(dataset_open(o->args[0], options_given(o, "allow-unsealed"), DATA_CACHE, &d, e));
    if (model != NULL) {
        TRY_DONE(source_open(model, true, &source, e));
        open = true;
        TRY_DONE(source_tokenizer(&source, &t, e));
    }
    char hex[HASH_HEX];
    if (t != NULL && strcmp(hash_hex(tokenizer_hash(t), hex), dataset_facts(d)->tokenizer) != 0)
        log_warn("%s: made with the tokenizer %.16s, and %s has %.16s: the text below may be wrong", o->args[0],
                 dataset_facts(d)->tokenizer, model, hex);
    if (t == NULL)
        log_note("token ids; --model DIR shows the text");
    rc = show(d, o, t, g, e);
done:
    tokenizer_close(t);
    if (open)
        source_close(&source);
    dataset_close(d);
    return rc;
}

int data_show(int argc, char **argv, struct err *e)
{
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    if (rc == 0)
        rc = run_show(&o, e);
    if (rc == 0)
        rc = log_output_done(e);
    options_free(&o);
    return rc < 0 ? -1 : 0;
}
