/* train_resume.c - the run's folder and the state that the run stands at: that of step 0, or of the newest checkpoint that verifies, held
 * against this job before anything large is read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/train_internal.h"
#include "trainer/tuned.h"

int run_check_dir(const struct run *r, struct err *e)
{
    if (r->options->resume || r->options->fresh || !io_exists(r->job.run_dir) || tuned_alone(r->job.run_dir))
        return 0;
    FAIL(e, ERR_STATE, "%s: a run of this name exists, expected a new name or a word on what to do with it. Say --resume to continue it or --fresh "
                       "to rename it and start again",
         r->job.run_dir);
}

/* What a resumed run must have in common with its checkpoint. */
static int check_resume(struct run *r, const struct run_state *was, const char *job_text, const char *dir, struct err *e)
{
    struct config recorded;
    struct buf said = {0};
    char where[256];
    int rc = 0;
    snprintf(where, sizeof where, "%s/job.yaml", dir);
    TRY(config_parse(job_text, strlen(job_text), where, &recorded, e));
    TRY_DONE(config_compare(&recorded, &r->job.c, &said, e));
    if (said.n > 0)
        log_note("resumed with a changed job:\n%s", said.data);
    if (strcmp(was->dataset, r->state.dataset) != 0)
        rc = err_set(e, ERR_STATE,
                     "%s: another dataset than the one this run was trained on (seal %.12s..., expected %.12s...). Bring that one back, or "
                     "start again with --fresh",
                     r->job.c.data.train, r->state.dataset, was->dataset);
    else if (strcmp(was->base, r->state.base) != 0)
        rc = err_set(e, ERR_STATE,
                     "%s: another base model than the one this run was trained on (%.12s..., expected %.12s...). Bring that one back, or "
                     "start again with --fresh",
                     r->job.c.model.path, r->state.base, was->base);
done:
    buf_free(&said);
    return rc;
}

/* The newest checkpoint that verifies, held against this job before anything large is read. */
static int find_checkpoint(struct run *r, struct err *e)
{
    struct run_state was;
    char *job_text = NULL;
    TRY(run_find(r->job.run_dir, &r->found, e));
    if (r->found.dir == NULL && r->found.rejected != NULL)
        FAIL(e, ERR_STATE,
             "%s: none of its checkpoints verifies, expected at least one. Start again with --fresh, which keeps them under another "
             "name\n%.640s",
             r->job.run_dir, r->found.rejected);
    if (r->found.rejected != NULL)
        log_warn("%s: refused, the newest good one is used:\n%s", r->job.run_dir, r->found.rejected);
    if (r->found.dir == NULL)
        return 0;
    int rc = state_read(r->found.dir, &was, &job_text, e);
    if (rc == 0)
        rc = check_resume(r, &was, job_text, r->found.dir, e);
    free(job_text);
    return rc;
}

/* What io_write_file_atomic leaves beside summary.json or the adapter when a process is killed inside it: ".<name>.tmp-<pid>". Nobody else
 * writes there while this process holds the run's lock. */
static void remove_leftovers(const char *dir)
{
    char **names, path[512];
    size_t n;
    if (io_list(dir, &names, &n, NULL) != 0)
        return;
    for (size_t i = 0; i < n; i++) {
        const char *tail = strstr(names[i], ".tmp-");
        if (names[i][0] != '.' || tail == NULL || tail[5] == '\0' || tail[5 + strspn(tail + 5, "0123456789")] != '\0')
            continue;
        if (snprintf(path, sizeof path, "%s/%s", dir, names[i]) < (int)sizeof path)
            io->unlink(path);
    }
    io_list_free(names, n);
}

/* The old run gets another name; its table of algorithms serves the new one too. */
static int move_aside(struct run *r, struct err *e)
{
    char *moved = NULL, *table = tuned_keep(r->job.run_dir);
    int rc = tuned_alone(r->job.run_dir) ? 0 : run_move_aside(r->job.run_dir, &moved, e);
    if (rc == 0 && moved != NULL)
        log_note("the old run is now %s", moved);
    if (rc == 0 && moved != NULL && table != NULL) {
        rc = io_mkdirs(r->job.run_dir, e);
        if (rc == 0)
            rc = tuned_put_back(r->job.run_dir, table, e);
    }
    free(moved);
    free(table);
    return rc;
}

/* The run's folder is this process's from here on. */
static int enter_run(struct run *r, struct err *e)
{
    char adapter[192];
    if (r->options->fresh)
        TRY(move_aside(r, e));
    TRY(io_mkdirs(r->job.run_dir, e));
    TRY(run_lock_take(r->job.run_dir, &r->lock, e));
    snprintf(adapter, sizeof adapter, "%s/adapter", r->job.run_dir);
    remove_leftovers(r->job.run_dir);
    remove_leftovers(adapter);
    return r->options->resume ? find_checkpoint(r, e) : 0;
}

/* Rank 0 enters the run's folder; the others learn which checkpoint it goes on from. */
int run_enter(struct run *r, struct err *e)
{
    char dir[512] = "";
    if (r->lead)
        TRY(enter_run(r, e));
    if (r->found.dir != NULL)
        snprintf(dir, sizeof dir, "%s", r->found.dir);
    TRY(r->job.comm.share(&r->job.comm, dir, sizeof dir, e));
    if (r->lead || dir[0] == '\0')
        return 0;
    r->found.dir = mem_strdup(dir);
    return r->found.dir != NULL ? 0 : mem_fail(e, dir, sizeof dir);
}

int run_write_job(const struct run *r, struct err *e)
{
    char path[256];
    struct buf text = {0};
    if (!r->lead)
        return 0;
    snprintf(path, sizeof path, "%s/job.yaml", r->job.run_dir);
    config_write(&r->job.c, &text);
    int rc = text.failed ? mem_fail(e, path, text.n) : io_write_file_atomic(path, text.data, text.n, e);
    buf_free(&text);
    return rc;
}

static int load_checkpoint(struct run *r, struct err *e)
{
    struct run_state was;
    TRY(state_load(r->found.dir, &r->job.lora, &r->block, &was, NULL, e));
    r->state = was;
    r->saved = was.step;
    r->resumed = true;
    log_note("resuming %s at step %lld of %lld", r->job.run_dir, (long long)was.step, (long long)r->total);
    return 0;
}

/* The parameters of step 0: new, or those of another adapter. */
static int begin(struct run *r, struct err *e)
{
    const struct config *c = &r->job.c;
    r->state.best_step = r->state.evaluated = -1;
    lora_init(&r->job.lora, r->block.params);
    if (c->lora.start_from[0] != '\0') {
        TRY(state_load_adapter(c->lora.start_from, &r->job.lora, c, r->block.params, e));
        log_note("adapter: starts from %s", c->lora.start_from);
    }
    return 0;
}

int run_open_state(struct run *r, struct err *e)
{
    struct model *m = &r->job.model;
    int64_t count = r->job.lora.count;
    size_t bytes = (size_t)count * sizeof(float);
    r->block = (struct run_block){m->t.params, m->t.m, m->t.v};
    if (!m->o->unified) {
        r->stage = mem_alloc((size_t)count * 3, sizeof *r->stage);
        if (r->stage == NULL)
            return mem_fail(e, "the host's copy of the adapter", 3 * bytes);
        r->block = (struct run_block){r->stage, r->stage + count, r->stage + 2 * count};
    }
    TRY(r->found.dir != NULL ? load_checkpoint(r, e) : begin(r, e));
    if (!m->o->unified) {
        m->o->upload(m->o, m->t.params, r->block.params, bytes);
        m->o->upload(m->o, m->t.m, r->block.m, bytes);
        m->o->upload(m->o, m->t.v, r->block.v, bytes);
    }
    model_refresh(m);
    return m->o->sync(m->o, e);
}

int run_block(struct run *r, struct run_block *out, struct err *e)
{
    struct model *m = &r->job.model;
    size_t bytes = (size_t)r->job.lora.count * sizeof(float);
    *out = r->block;
    if (m->o->unified)
        return m->o->sync(m->o, e);
    TRY(m->o->download(m->o, out->params, m->t.params, bytes, e));
    TRY(m->o->download(m->o, out->m, m->t.m, bytes, e));
    return m->o->download(m->o, out->v, m->t.v, bytes, e);
}
