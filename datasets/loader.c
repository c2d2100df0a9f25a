#include "datasets/loader.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "datasets/pack.h"
#include "datasets/store.h"
#include "trainer/base/clock.h"
#include "trainer/base/mem.h"
#include "trainer/base/num.h"

enum { RING = 4, MAX_STEP_TOKENS = 1 << 30 };

struct slot {
    struct batch batch; /* first: loader_release gets its address */
    bool filled, lent;
};

struct loader {
    struct loader_options o; /* path and cache_dir are NULL once it is open */
    char *path;
    struct dataset *dataset;
    struct store *store;
    struct piece_index index;
    struct loader_counts counts;
    int32_t n_max; /* tokens in a micro-batch, at most */
    void *memory;  /* of all slots */
    float *row_weights;

    /* Steps of the epochs known so far; any thread. */
    pthread_mutex_t steps_lock;
    int64_t *steps;
    int64_t n_steps, cap_steps;

    /* The ring, under `lock`. The reader fills slots at `head`, the loop takes them at `tail`. */
    pthread_mutex_t lock;
    pthread_cond_t moved;
    struct slot ring[RING];
    int head, tail;
    bool ended;        /* nothing comes after what is in the ring */
    struct err failed; /* code 0 = none; valid once `ended` */
    atomic_bool cancel;
    bool running;
    pthread_t reader;
    int64_t start, epochs;
};

/* ---- opening ---- */

static int check_options(const struct loader_options *o, struct err *e)
{
    if (o->sequence_length < 2)
        FAIL(e, ERR_CONFIG, "data.sequence_length: %d, expected at least 2", o->sequence_length);
    if (o->batch < 1 || o->micro_batch < 1 || o->ranks < 1 || o->rank < 0 || o->rank >= o->ranks)
        FAIL(e, ERR_CONFIG, "train.batch: batch %d, micro_batch %d, rank %d of %d, expected positive numbers", o->batch,
             o->micro_batch, o->rank, o->ranks);
    if ((int64_t)o->batch % ((int64_t)o->micro_batch * o->ranks) != 0)
        FAIL(e, ERR_CONFIG, "train.batch: %d, expected a multiple of micro_batch x ranks = %lld", o->batch,
             (long long)o->micro_batch * o->ranks);
    if ((int64_t)o->batch * o->sequence_length > MAX_STEP_TOKENS)
        FAIL(e, ERR_CONFIG, "train.batch: %d rows of %d tokens, expected at most %d tokens in a step", o->batch,
             o->sequence_length, MAX_STEP_TOKENS);
    return 0;
}

static int32_t most_tokens(const struct loader_options *o)
{
    return (int32_t)num_round_up((int64_t)o->micro_batch * o->sequence_length, BATCH_ROUND);
}

enum { BYTES_PER_TOKEN = 5 * 4 + sizeof(struct span) };

int64_t loader_bytes(const struct loader_options *o)
{
    int64_t rows = (int64_t)PACK_OPEN_ROWS * 64 * (int64_t)sizeof(struct piece);
    int64_t lengths = (int64_t)PACK_CACHED_BLOCKS * (PACK_BLOCK + 1) * 8;
    return (int64_t)RING * most_tokens(o) * BYTES_PER_TOKEN + o->sequence_length * 4 + rows + lengths + 2 * STORE_CACHE_BYTES;
}

static int make_ring(struct loader *l, struct err *e)
{
    size_t n = (size_t)l->n_max;
    char *p = l->memory = mem_alloc(RING * n, BYTES_PER_TOKEN);
    l->row_weights = mem_alloc((size_t)l->o.sequence_length, sizeof *l->row_weights);
    if (p == NULL || l->row_weights == NULL)
        return mem_fail(e, "the prefetch ring", RING * n * BYTES_PER_TOKEN);
    for (int i = 0; i < RING; i++) {
        struct batch *b = &l->ring[i].batch;
        b->spans = (void *)p;
        b->tokens = (void *)(p += n * sizeof *b->spans);
        b->targets = (void *)(p += n * 4);
        b->weights = (void *)(p += n * 4);
        b->positions = (void *)(p += n * 4);
        b->keys = (void *)(p += n * 4);
        p += n * 4;
    }
    return 0;
}

static int open_parts(struct loader *l, struct err *e)
{
    const struct loader_options *o = &l->o;
    const char *name = o->group == DATASET_TRAIN ? "train" : "validation";
    TRY(check_options(o, e));
    TRY(dataset_open(o->path, o->unsealed, o->cache_dir, &l->dataset, e));
    const struct dataset_facts *f = dataset_facts(l->dataset);
    if (!f->group[o->group].present)
        FAIL(e, ERR_DATA, "%s: no group \"%s\", expected one. Build it with --validation 5%%", o->path, name);
    if (o->vocab > 0 && f->max_token >= o->vocab)
        FAIL(e, ERR_DATA, "%s: holds token %d, expected all below the model's vocabulary of %d. Build it for this model", o->path,
             f->max_token, o->vocab);
    l->store = dataset_store(l->dataset);
    if (index_build(l->store, f, o, &l->index, &l->counts, e) != 0)
        return err_prefix(e, "%s", o->path);
    if (l->index.pieces == 0)
        FAIL(e, ERR_DATA,
             "%s: every document of group \"%s\" is longer than data.sequence_length %d and left out, expected at least one that "
             "is kept",
             o->path, name, o->sequence_length);
    l->n_max = most_tokens(o);
    return make_ring(l, e);
}

int loader_open(const struct loader_options *o, struct loader **out, struct err *e)
{
    struct loader *l = mem_alloc(1, sizeof *l);
    if (l == NULL)
        return mem_fail(e, "a loader", sizeof *l);
    l->o = *o;
    pthread_mutex_init(&l->steps_lock, NULL);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->moved, NULL);
    l->path = mem_strdup(o->path);
    int rc = l->path != NULL ? open_parts(l, e) : mem_fail(e, "a loader", strlen(o->path));
    l->o.path = l->o.cache_dir = NULL; /* the caller's */
    if (rc != 0) {
        loader_close(l);
        return -1;
    }
    *out = l;
    return 0;
}

static void stop_reader(struct loader *l)
{
    if (!l->running)
        return;
    pthread_mutex_lock(&l->lock);
    atomic_store(&l->cancel, true);
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->reader, NULL);
    l->running = false;
}

void loader_close(struct loader *l)
{
    if (l == NULL)
        return;
    stop_reader(l);
    index_free(&l->index);
    dataset_close(l->dataset);
    pthread_mutex_destroy(&l->steps_lock);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->moved);
    mem_free(l->steps);
    mem_free(l->path);
    mem_free(l->row_weights);
    mem_free(l->memory);
    mem_free(l);
}

const struct dataset_facts *loader_facts(const struct loader *l) { return dataset_facts(l->dataset); }
const struct loader_counts *loader_counts(const struct loader *l) { return &l->counts; }

/* ---- how long epochs are ---- */

static int simulate_epoch(struct loader *l, int64_t epoch, const atomic_bool *cancel, int64_t *rows, struct err *e)
{
    struct packer *p;
    const struct row *row;
    int rc;
    TRY(packer_new(&l->index, &l->o, cancel, &p, e));
    packer_start(p, epoch);
    for (*rows = 0; (rc = packer_row(p, &row, e)) == 0 && row != NULL; ++*rows)
        ;
    packer_free(p);
    return rc;
}

static int count_steps(struct loader *l, int64_t epoch, const atomic_bool *cancel, int64_t *steps, struct err *e)
{
    int64_t rows = l->index.pieces;
    if (!l->o.packing && l->o.max_tokens == 0) {
        *steps = num_div_up(rows, l->o.batch);
        return 0;
    }
    if (!l->o.shuffle)
        epoch = 0; /* all alike */
    int rc = 0;
    pthread_mutex_lock(&l->steps_lock);
    if (epoch >= l->cap_steps) {
        int64_t cap = epoch + 16, *v = epoch < INT32_MAX ? mem_realloc(l->steps, (size_t)cap, sizeof *v) : NULL;
        if (v == NULL) {
            rc = mem_fail(e, "the lengths of epochs", (size_t)cap * 8);
        } else {
            memset(v + l->cap_steps, 0, (size_t)(cap - l->cap_steps) * sizeof *v); /* 0 = not known */
            l->steps = v;
            l->cap_steps = cap;
        }
    }
    if (rc == 0 && l->steps[epoch] == 0) {
        rc = simulate_epoch(l, epoch, cancel, &rows, e);
        if (rc != 0)
            err_prefix(e, "%s", l->path);
        l->steps[epoch] = rc == 0 ? num_div_up(rows, l->o.batch) : 0;
    }
    if (rc == 0)
        *steps = l->steps[epoch];
    pthread_mutex_unlock(&l->steps_lock);
    return rc;
}

int loader_epoch_steps(struct loader *l, int64_t epoch, int64_t *steps, struct err *e)
{
    if (epoch < 0 || epoch > UINT32_MAX)
        FAIL(e, ERR_CONFIG, "train.epochs: epoch %lld, expected fewer epochs", (long long)epoch);
    return count_steps(l, epoch, NULL, steps, e);
}

/* ---- the reader's side ---- */

static int add_piece(struct loader *l, struct batch *b, const struct piece *piece, int64_t row, int32_t column, struct err *e)
{
    int32_t at = b->n_real, n = piece->n;
    int32_t *tokens = b->tokens + at;
    float *w = l->row_weights;
    TRY(store_tokens(l->store, l->o.group, piece->first, n, tokens, e));
    TRY(store_weights(l->store, l->o.group, piece->first, n, w, e));
    for (int32_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (l->o.vocab > 0 && tokens[i] >= l->o.vocab))
            FAIL(e, ERR_DATA,
                 "%s: document %lld holds token %d, expected at least 0 and below the vocabulary of %d. Build it for this model",
                 l->path, (long long)piece->document, tokens[i], l->o.vocab);
        if (!(w[i] >= 0 && w[i] <= 1e6f))
            FAIL(e, ERR_DATA, "%s: document %lld holds weight %g, expected at least 0 and at most 1e6. Build it again", l->path,
                 (long long)piece->document, (double)w[i]);
        bool last = i == n - 1;
        b->targets[at + i] = last ? 0 : tokens[i + 1];
        b->weights[at + i] = last ? 0 : w[i + 1];
        b->weight_sum += (double)b->weights[at + i];
        b->positions[at + i] = i;
        b->keys[at + i] = (uint32_t)(row * l->o.sequence_length + column + i);
    }
    b->spans[b->n_spans++] = (struct span){at, n, at, n};
    b->max_span = n > b->max_span ? n : b->max_span;
    b->n_real += n;
    return 0;
}

static int add_row(struct loader *l, struct batch *b, const struct row *row, int64_t number, struct err *e)
{
    int32_t column = 0;
    for (int32_t i = 0; i < row->n; i++) {
        TRY(add_piece(l, b, &row->pieces[i], number, column, e));
        column += row->pieces[i].n;
    }
    return 0;
}

static void begin_batch(struct batch *b, int64_t first_row, int32_t n_rows)
{
    b->n = b->n_real = b->n_spans = b->max_span = 0;
    b->n_rows = n_rows;
    b->first_row = first_row;
    b->weight_sum = 0;
}

/* Round n up with dead tokens, which form one span; a batch without a row becomes BATCH_ROUND of them. */
static void end_batch(struct batch *b)
{
    b->n = b->n_real == 0 ? BATCH_ROUND : (int32_t)num_round_up(b->n_real, BATCH_ROUND);
    int32_t dead = b->n - b->n_real;
    for (int32_t i = 0; i < dead; i++) {
        b->tokens[b->n_real + i] = b->targets[b->n_real + i] = 0;
        b->weights[b->n_real + i] = 0;
        b->positions[b->n_real + i] = i;
        b->keys[b->n_real + i] = 0;
    }
    if (dead > 0)
        b->spans[b->n_spans++] = (struct span){b->n_real, dead, b->n_real, dead};
    b->max_span = dead > b->max_span ? dead : b->max_span;
}

/* The slot to fill next; NULL when told to stop. */
static struct slot *wait_free(struct loader *l)
{
    struct slot *s = &l->ring[l->head];
    pthread_mutex_lock(&l->lock);
    while ((s->filled || s->lent) && !atomic_load(&l->cancel))
        pthread_cond_wait(&l->moved, &l->lock);
    bool stop = atomic_load(&l->cancel);
    pthread_mutex_unlock(&l->lock);
    return stop ? NULL : s;
}

static void hand_over(struct loader *l, struct slot *s)
{
    pthread_mutex_lock(&l->lock);
    s->filled = true;
    l->head = (l->head + 1) % RING;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
}

/* One step: all rows are drawn, those of this rank are read. *end: the epoch had no row left. */
static int read_step(struct loader *l, struct packer *p, bool *end, struct err *e)
{
    const struct loader_options *o = &l->o;
    int64_t share = o->batch / o->ranks, mine = o->rank * share;
    struct slot *slot = NULL;
    bool over = false;
    for (int64_t r = 0; r < o->batch; r++) {
        const struct row *row = NULL;
        if (!over && packer_row(p, &row, e) != 0)
            return err_prefix(e, "%s", l->path);
        over = row == NULL;
        if (over && r == 0) {
            *end = true;
            return 0;
        }
        if (r < mine || r >= mine + share)
            continue;
        if ((r - mine) % o->micro_batch == 0) {
            if ((slot = wait_free(l)) == NULL)
                FAIL(e, ERR_STOPPED, "%s: its reader was told to stop", l->path);
            begin_batch(&slot->batch, r, o->micro_batch);
        }
        if (!over)
            TRY(add_row(l, &slot->batch, row, r, e));
        if ((r - mine) % o->micro_batch == o->micro_batch - 1) {
            end_batch(&slot->batch);
            hand_over(l, slot);
        }
    }
    return 0;
}

/* To the epoch and the row at which step l->start begins. */
static int seek(struct loader *l, struct packer *p, int64_t *epoch, struct err *e)
{
    int64_t left = l->start, steps;
    for (*epoch = 0; *epoch < l->epochs; ++*epoch) {
        TRY(count_steps(l, *epoch, &l->cancel, &steps, e));
        if (left < steps)
            break;
        left -= steps;
    }
    if (*epoch == l->epochs)
        return 0;
    packer_start(p, *epoch);
    if (!l->o.packing && l->o.max_tokens == 0) {
        packer_skip(p, left * l->o.batch);
        return 0;
    }
    for (int64_t i = 0; i < left * l->o.batch; i++) {
        const struct row *row;
        if (packer_row(p, &row, e) != 0)
            return err_prefix(e, "%s", l->path);
    }
    return 0;
}

static int read_all(struct loader *l, struct packer *p, struct err *e)
{
    int64_t epoch;
    TRY(seek(l, p, &epoch, e));
    while (epoch < l->epochs) {
        bool end = false;
        TRY(read_step(l, p, &end, e));
        if (end)
            packer_start(p, ++epoch);
    }
    return 0;
}

static void *reader_main(void *arg)
{
    struct loader *l = arg;
    struct err e = {0};
    struct packer *p = NULL;
    int rc = packer_new(&l->index, &l->o, &l->cancel, &p, &e);
    if (rc == 0)
        rc = read_all(l, p, &e);
    packer_free(p);
    pthread_mutex_lock(&l->lock);
    l->ended = true;
    if (rc != 0)
        l->failed = e;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

int loader_start(struct loader *l, int64_t step, int64_t epochs, struct err *e)
{
    stop_reader(l);
    if (step < 0 || epochs < 0 || epochs > UINT32_MAX)
        FAIL(e, ERR_CONFIG, "train.epochs: step %lld of %lld epochs, expected both at least 0", (long long)step,
             (long long)epochs);
    for (int i = 0; i < RING; i++)
        l->ring[i].filled = l->ring[i].lent = false;
    l->head = l->tail = 0;
    l->ended = false;
    l->failed = (struct err){0};
    atomic_store(&l->cancel, false);
    l->start = step;
    l->epochs = epochs;
    sigset_t all, was; /* signals are the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    int failed = pthread_create(&l->reader, NULL, reader_main, l);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    if (failed)
        return err_errno(e, ERR_INTERNAL, failed, "%s: no thread to read it", l->path);
    l->running = true;
    return 0;
}

/* ---- the loop's side ---- */

int loader_next(struct loader *l, struct batch **out, double *wait_s, struct err *e)
{
    *out = NULL;
    if (!l->running)
        FAIL(e, ERR_INTERNAL, "%s: loader_next before loader_start", l->path);
    struct slot *s = &l->ring[l->tail];
    int rc = 0;
    pthread_mutex_lock(&l->lock);
    if (!s->filled && !l->ended) {
        double before = clock_s();
        while (!s->filled && !l->ended)
            pthread_cond_wait(&l->moved, &l->lock);
        if (wait_s != NULL)
            *wait_s += clock_s() - before;
    }
    if (s->filled) {
        s->filled = false;
        s->lent = true;
        l->tail = (l->tail + 1) % RING;
        *out = &s->batch;
    } else if (l->failed.code != ERR_OK) {
        if (e != NULL)
            *e = l->failed;
        rc = -1;
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

void loader_release(struct loader *l, struct batch *b)
{
    if (b == NULL)
        return;
    struct slot *s = (struct slot *)b;
    pthread_mutex_lock(&l->lock);
    s->lent = false;
    pthread_cond_broadcast(&l->moved);
    pthread_mutex_unlock(&l->lock);
}
