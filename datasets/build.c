#include "datasets/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datasets/jsonl.h"
#include "datasets/seal.h"
#include "datasets/store.h"
#include "datasets/tally.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/base/rng.h"
#include "trainer/base/stop.h"

enum { MAX_ENDS = 16, PROGRESS_EVERY = 2000 };

struct builder {
    const struct build_options *o;
    struct dataset_facts *facts;
    struct store_writer *writer;
    struct jsonl_record record;
    struct jsonl_unknown unknown;
    struct ids tokens, flags;   /* of one rendered document */
    struct document held;       /* the latest document, until it is known whether it is the last */
    uint64_t held_number, next; /* documents are numbered over all inputs */
    bool has_held;
    int64_t empty; /* texts without a token */
    int32_t ends[MAX_ENDS];
    struct tally tally[2];
};

/* ---- one document ---- */

static bool in_validation(const struct builder *b, uint64_t number)
{
    uint32_t word = rng_at(b->o->seed, RNG_SPLIT, (uint32_t)number, (uint32_t)(number >> 32), 0).v[0];
    return (double)word < b->o->validation * 0x1p32;
}

static int write_held(struct builder *b, enum dataset_group g, struct err *e)
{
    struct document *d = &b->held;
    for (size_t i = 0; i < d->n; i++)
        tally_token(&b->tally[g], d->tokens[i], d->weights[i]);
    tally_document(&b->tally[g]);
    b->has_held = false;
    return store_append(b->writer, g, d->tokens, d->weights, d->n, e);
}

static int hold(struct builder *b, const int32_t *tokens, const int32_t *flags, const float *weights, size_t n, struct err *e)
{
    if (b->has_held)
        TRY(write_held(b, in_validation(b, b->held_number) ? DATASET_VALIDATION : DATASET_TRAIN, e));
    struct document *d = &b->held;
    if (n > d->cap) {
        document_free(d);
        d->tokens = mem_alloc(n, sizeof *d->tokens);
        d->weights = mem_alloc(n, sizeof *d->weights);
        if (d->tokens == NULL || d->weights == NULL)
            return mem_fail(e, "a document", n * 8);
        d->cap = n;
    }
    memcpy(d->tokens, tokens, n * sizeof *tokens);
    for (size_t i = 0; i < n; i++)
        d->weights[i] = weights != NULL ? weights[i] : flags != NULL ? (float)flags[i] : 1.0f;
    d->n = n;
    d->weights[0] = 0; /* nothing predicts it */
    b->held_number = b->next++;
    b->has_held = true;
    return 0;
}

/* With a validation group asked for and two documents or more, neither group is empty: the last document goes where none is. */
static int write_last(struct builder *b, struct err *e)
{
    if (!b->has_held)
        return 0;
    enum dataset_group g = in_validation(b, b->held_number) ? DATASET_VALIDATION : DATASET_TRAIN;
    if (b->facts->group[DATASET_TRAIN].documents == 0)
        g = DATASET_TRAIN;
    else if (b->o->validation > 0 && b->facts->group[DATASET_VALIDATION].documents == 0)
        g = DATASET_VALIDATION;
    return write_held(b, g, e);
}

static int check_vocab(const struct builder *b, const int32_t *tokens, size_t n, const char *where, struct err *e)
{
    for (size_t i = 0; b->o->vocab > 0 && i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= b->o->vocab)
            FAIL(e, ERR_DATA, "%s: tokens[%zu]: %d, expected below the vocabulary of %d. Were the tokens made for another model?",
                 where, i, tokens[i], b->o->vocab);
    return 0;
}

/* Raw text: tokens, and flags where not all are trained. */
static int encode_text(struct builder *b, bool *flagged, struct err *e)
{
    const struct jsonl_record *r = &b->record;
    const struct tokenizer *t = b->o->tokenizer;
    *flagged = r->kind == JSONL_PAIR;
    if (!*flagged) {
        TRY(tokenizer_encode(t, r->text.data != NULL ? r->text.data : "", r->text.n, false, &b->tokens, e));
    } else {
        TRY(tokenizer_encode(t, r->messages[0].content, r->messages[0].n, false, &b->tokens, e));
        while (b->flags.n < b->tokens.n)
            TRY(ids_add(&b->flags, 0, e));
        TRY(tokenizer_encode(t, r->messages[1].content, r->messages[1].n, false, &b->tokens, e));
    }
    if (b->tokens.n > 0 && b->o->eos >= 0)
        TRY(ids_add(&b->tokens, b->o->eos, e));
    while (*flagged && b->flags.n < b->tokens.n)
        TRY(ids_add(&b->flags, 1, e));
    return 0;
}

static int add_rendered(struct builder *b, const char *where, struct err *e)
{
    const struct jsonl_record *r = &b->record;
    bool chat = r->kind == JSONL_MESSAGES || (r->kind == JSONL_PAIR && b->o->chat_pairs), flagged = true;
    b->tokens.n = b->flags.n = 0;
    if (b->o->tokenizer == NULL)
        FAIL(e, ERR_DATA, "%s: %s: no tokenizer to encode it with, expected \"tokens\". Name a model", where,
             chat ? "messages" : "text");
    if (chat && b->o->template == CHAT_NONE)
        FAIL(e, ERR_DATA, "%s: messages: no chat template to render them with. Name a chat model or a template", where);
    int rc = chat ? chat_render(b->o->template, b->o->tokenizer, r->messages, r->n_messages, false, &b->tokens, &b->flags, e)
                  : encode_text(b, &flagged, e);
    if (rc != 0)
        return err_prefix(e, "%s", where);
    if (b->tokens.n == 0) {
        b->empty++;
        return 0;
    }
    TRY(check_vocab(b, b->tokens.v, b->tokens.n, where, e));
    return hold(b, b->tokens.v, flagged ? b->flags.v : NULL, NULL, b->tokens.n, e);
}

static int add_line(struct builder *b, const char *line, size_t n, const char *where, struct err *e)
{
    struct jsonl_record *r = &b->record;
    TRY(jsonl_parse_line(line, n, where, r, &b->unknown, e));
    if (r->kind != JSONL_TOKENS)
        return add_rendered(b, where, e);
    TRY(check_vocab(b, r->tokens, r->n_tokens, where, e));
    return hold(b, r->tokens, NULL, r->weights, r->n_tokens, e);
}

static int add_file(struct builder *b, const char *path, struct err *e)
{
    struct jsonl_file f;
    const char *line;
    char where[600];
    size_t n;
    int rc = 0;
    TRY(jsonl_open(path, &f, e));
    for (;;) {
        TRY_DONE(jsonl_next(&f, &line, &n, e));
        if (line == NULL)
            break;
        snprintf(where, sizeof where, "%.500s:%lld", path, (long long)f.line);
        TRY_DONE(add_line(b, line, n, where, e));
        if (stop_requested()) {
            rc = err_set(e, ERR_STOPPED, "%s: the dataset was being built; nothing was written", b->o->output);
            goto done;
        }
        if (b->next % PROGRESS_EVERY == 0 && b->next > 0 && log_terminal(2))
            log_progress(false, "%lld documents", (long long)b->next);
    }
done:
    jsonl_close(&f);
    return rc;
}

/* ---- the file ---- */

static void describe(struct builder *b)
{
    const struct build_options *o = b->o;
    struct dataset_facts *f = b->facts;
    snprintf(f->tokenizer, sizeof f->tokenizer, "unknown");
    if (o->tokenizer != NULL)
        hash_hex(tokenizer_hash(o->tokenizer), f->tokenizer);
    snprintf(f->template_name, sizeof f->template_name, "%s", o->tokenizer != NULL ? chat_name(o->template) : "none");
    f->vocab = o->vocab;
    size_t n = 0;
    for (int i = 0; i < o->n_inputs && n < sizeof f->source; i++)
        n += (size_t)snprintf(f->source + n, sizeof f->source - n, "%s%s", i > 0 ? ", " : "", o->inputs[i]);
}

static void write_notes(const struct builder *b)
{
    struct buf notes = {0};
    if (b->unknown.n > 0) {
        buf_puts(&notes, "keys that were ignored:");
        for (int i = 0; i < b->unknown.n; i++)
            buf_printf(&notes, "%s %s (%lld)", i > 0 ? "," : "", b->unknown.key[i].name, (long long)b->unknown.key[i].lines);
        if (b->unknown.others > 0)
            buf_printf(&notes, ", and %lld more", (long long)b->unknown.others);
        buf_puts(&notes, "\n");
    }
    if (b->empty > 0)
        buf_printf(&notes, "%lld texts without a token were left out\n", (long long)b->empty);
    if (b->o->validation > 0 && !b->facts->group[DATASET_VALIDATION].present)
        buf_puts(&notes, "only one document: it is in train, and there is no validation group\n");
    snprintf(b->facts->notes, sizeof b->facts->notes, "%s", notes.data != NULL ? notes.data : "");
    buf_free(&notes);
}

static int fill(struct builder *b, const char *temporary, struct err *e)
{
    for (int i = 0; i < b->o->n_inputs; i++)
        TRY(add_file(b, b->o->inputs[i], e));
    TRY(write_last(b, e));
    if (b->next == 0)
        FAIL(e, ERR_DATA, "%s: no document in it, expected at least one", b->facts->source);
    if (b->facts->group[DATASET_TRAIN].targets == 0)
        FAIL(e, ERR_DATA,
             "%s: no token of the training group carries loss, expected at least one. Train on something an assistant says",
             b->facts->source);
    struct store_writer *w = b->writer;
    b->writer = NULL;
    return store_finish(w, b->facts, e);
}

static int seal_and_rename(const char *temporary, const char *output, const char *folder, struct dataset_facts *f, struct err *e)
{
    int fd = io->open(temporary, O_RDWR | O_CLOEXEC, 0);
    if (fd < 0)
        return err_errno(e, ERR_IO, errno, "%s: could not be opened", temporary);
    int rc = seal_write(fd, temporary, f->seal, e);
    if (io->close(fd) != 0 && rc == 0)
        rc = err_errno(e, ERR_IO, errno, "%s: could not be written", temporary);
    if (rc == 0 && io->rename(temporary, output) != 0)
        rc = err_errno(e, ERR_IO, errno, "%s: could not be renamed to %s", temporary, output);
    return rc == 0 ? io_fsync_dir(folder, e) : -1;
}

static int check_options(const struct build_options *o, struct err *e)
{
    if (o->n_inputs < 1)
        FAIL(e, ERR_USAGE, "data build: no input, expected at least one file of JSON lines");
    if (!(o->validation >= 0 && o->validation < 1))
        FAIL(e, ERR_USAGE, "data build: a validation share of %g, expected at least 0 and below 1", o->validation);
    if (io_is_dir(o->output))
        FAIL(e, ERR_USAGE, "%s: is a folder, expected the name of a file to write", o->output);
    if (!o->replace && io_exists(o->output))
        FAIL(e, ERR_USAGE, "%s: exists already. Choose another name or say --replace", o->output);
    return 0;
}

static int build(struct builder *b, const char *output, const char *folder, const char *temporary, struct err *e)
{
    if (folder[0] != '\0')
        TRY(io_mkdirs(folder, e));
    io->unlink(temporary); /* of a process that had this number and was killed */
    int rc = store_create(temporary, &b->writer, e);
    if (rc == 0)
        rc = fill(b, temporary, e);
    store_abandon(b->writer);
    if (rc == 0)
        rc = seal_and_rename(temporary, output, folder[0] != '\0' ? folder : ".", b->facts, e);
    if (rc != 0)
        io->unlink(temporary);
    else
        write_notes(b);
    return rc;
}

int dataset_build(const struct build_options *o, struct dataset_facts *facts, struct err *e)
{
    struct builder b = {.o = o, .facts = facts};
    struct buf folder = {0}, temporary = {0};
    TRY(check_options(o, e));
    memset(facts, 0, sizeof *facts);
    int n_ends = 0;
    for (int i = 0; i < o->n_end_ids && n_ends < MAX_ENDS - 1; i++)
        b.ends[n_ends++] = o->end_ids[i];
    if (o->eos >= 0)
        b.ends[n_ends++] = o->eos;
    for (int g = 0; g < 2; g++)
        b.tally[g] = (struct tally){.facts = facts, .group = g, .end_ids = b.ends, .n_end_ids = n_ends};
    describe(&b);
    const char *slash = strrchr(o->output, '/'), *name = slash != NULL ? slash + 1 : o->output;
    buf_add(&folder, o->output, (size_t)(name - o->output));
    buf_add(&temporary, o->output, (size_t)(name - o->output));
    buf_printf(&temporary, ".%s.tmp-%ld", name, (long)getpid());
    int rc = folder.failed || temporary.failed ? mem_fail(e, o->output, temporary.n)
                                               : build(&b, o->output, folder.data != NULL ? folder.data : "", temporary.data, e);
    buf_free(&folder);
    buf_free(&temporary);
    jsonl_free(&b.record);
    ids_free(&b.tokens);
    ids_free(&b.flags);
    document_free(&b.held);
    return rc;
}
