#include "trainer/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "trainer/base/buf.h"
#include "trainer/base/clock.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/log.h"
#include "trainer/git_version.h"

double metrics_now(void) { return clock_s(); }

int64_t metrics_peak_rss(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (int64_t)u.ru_maxrss * 1024 : 0;
}

void metrics_open(struct metrics *m, const char *run_dir)
{
    *m = (struct metrics){.started = metrics_now()};
    snprintf(m->path, sizeof m->path, "%s", run_dir);
}

void metrics_line(struct metrics *m, const char *name, const char *json, size_t n)
{
    char path[256];
    struct err e = {0};
    int rc = 0;
    if (m->path[0] == '\0') /* not this rank's */
        return;
    snprintf(path, sizeof path, "%s/%s", m->path, name);
    int fd = io->open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        rc = err_errno(&e, ERR_IO, errno, "%s", path);
    else {
        rc = io_write_all(fd, path, json, n, &e);
        if (io->close(fd) != 0 && rc == 0)
            rc = err_errno(&e, ERR_IO, errno, "%s", path);
    }
    if (rc != 0 && !m->failed) {
        m->failed = true;
        log_warn("%s. The run goes on without this log", e.text);
    }
}

void metrics_close(struct metrics *m)
{
    buf_free(&m->line);
}

static void put(struct buf *b, const char *key, double v)
{
    buf_printf(b, ", \"%s\": ", key);
    json_put_f64(b, v);
}

static void put_s(struct buf *b, const char *key, double v)
{
    put(b, key, round(v * 1e6) / 1e6);
}

static void put_text(struct buf *b, const char *key, const char *text)
{
    buf_printf(b, ", \"%s\": ", key);
    json_put_string(b, text, strlen(text));
}

static void put_split(struct buf *b, const struct metrics_split *s, double seconds)
{
    put_s(b, "compute_s", s->compute_s);
    put_s(b, "comm_s", s->comm_s);
    put_s(b, "wait_s", s->wait_s);
    put_s(b, "optim_s", s->optim_s);
    put_s(b, "save_s", s->save_s);
    buf_printf(b, ", \"comm_bytes\": %lld", (long long)s->comm_bytes);
    if (isnan(s->energy_j))
        return;
    put_s(b, "energy_j", s->energy_j);
    if (seconds > 0)
        put(b, "power_w", round(s->energy_j / seconds * 100) / 100);
}

static void seconds_text(char text[24], double s)
{
    if (s < 90)
        snprintf(text, 24, "%.0f s", s);
    else if (s < 5400)
        snprintf(text, 24, "%.0f min", s / 60);
    else
        snprintf(text, 24, "%.1f h", s / 3600);
}

static void show(struct metrics *m, const struct metrics_step *s, double tok_s, double share)
{
    char eta[24], gemm[32] = "";
    m->mean_s = m->mean_s == 0 ? s->seconds : 0.9 * m->mean_s + 0.1 * s->seconds;
    seconds_text(eta, m->mean_s * (double)(s->total - s->step));
    if (s->gemm_rate > 0)
        snprintf(gemm, sizeof gemm, "  %.0f%% of GEMM", 100 * share);
    log_progress(s->step == s->total, "step %lld/%lld  %.0f%%  loss %.4f  norm %.3g  lr %.2e  %.0f tok/s%s  ETA %s", (long long)s->step,
                 (long long)s->total, 100.0 * (double)s->step / (double)s->total, s->loss, s->norm, s->rate, tok_s, gemm, eta);
}

void metrics_step(struct metrics *m, const struct metrics_step *s)
{
    struct buf *b = &m->line;
    double tok_s = s->seconds > 0 ? (double)s->step_tokens / s->seconds : 0;
    double share = s->gemm_rate > 0 && s->seconds > 0 ? s->flop / s->seconds / s->gemm_rate : 0;
    buf_clear(b);
    buf_printf(b, "{\"step\": %lld", (long long)s->step);
    put(b, "loss", s->loss);
    put(b, "norm", s->norm);
    put(b, "lr", s->rate);
    buf_printf(b, ", \"tokens\": %lld, \"targets\": %lld", (long long)s->tokens, (long long)s->targets);
    put(b, "tok_s", round(tok_s * 10) / 10);
    put(b, "gemm_share", round(share * 1e4) / 1e4);
    put_s(b, "seconds", s->seconds);
    put_split(b, &s->split, s->seconds);
    buf_printf(b, ", \"time\": %lld%s}\n", (long long)time(NULL), s->finite ? "" : ", \"skipped\": true");
    metrics_line(m, "metrics.jsonl", b->data, b->n);
    show(m, s, tok_s, share);
}

void metrics_eval(struct metrics *m, int64_t step, double loss, double targets, double seconds)
{
    struct buf *b = &m->line;
    buf_clear(b);
    buf_printf(b, "{\"step\": %lld", (long long)step);
    put(b, "eval_loss", loss);
    put(b, "eval_targets", targets);
    put_s(b, "seconds", seconds);
    buf_printf(b, ", \"time\": %lld}\n", (long long)time(NULL));
    metrics_line(m, "metrics.jsonl", b->data, b->n);
}

static void put_machine(struct buf *b, const struct metrics_summary *s)
{
    put_s(b, "step_s", s->step_s);
    put_s(b, "eval_s", s->eval_s);
    put_split(b, &s->split, s->step_s);
    buf_printf(b, ", \"ranks\": %d, \"devices\": [", s->ranks);
    json_put_string(b, s->device, strlen(s->device));
    buf_puts(b, "]");
    put_text(b, "interconnect", s->interconnect);
    put_text(b, "precision", s->precision);
    put_text(b, "version", LORAT_VERSION);
    put_text(b, "git", LORAT_GIT);
    put_text(b, "libraries", s->libraries);
}

void metrics_summary(const char *run_dir, const struct metrics_summary *s)
{
    char path[256];
    struct err e = {0};
    struct buf b = {0};
    snprintf(path, sizeof path, "%s/summary.json", run_dir);
    buf_puts(&b, "{\"name\": ");
    json_put_string(&b, s->name, strlen(s->name));
    buf_printf(&b, ", \"state\": \"%s\", \"step\": %lld, \"steps\": %lld, \"tokens\": %lld, \"skipped\": %lld", s->state, (long long)s->step,
               (long long)s->steps, (long long)s->tokens, (long long)s->skipped);
    put(&b, "loss", s->loss);
    put(&b, "eval_loss_first", s->eval_first);
    put(&b, "eval_loss", s->eval_loss);
    put(&b, "seconds", s->seconds);
    put(&b, "ready_s", s->ready_s);
    put(&b, "tok_s", s->tok_s);
    put(&b, "gemm_share", s->gemm_share);
    put(&b, "wait_share", s->wait_share);
    put(&b, "peak_bytes", s->peak_bytes);
    put(&b, "plan_bytes", s->plan_bytes);
    put(&b, "device_bytes", s->device_bytes);
    put_machine(&b, s);
    buf_puts(&b, ", \"adapter\": ");
    if (s->adapter != NULL)
        json_put_string(&b, s->adapter, strlen(s->adapter));
    else
        buf_puts(&b, "null");
    buf_puts(&b, "}\n");
    if (b.failed || io_write_file_atomic(path, b.data, b.n, &e) != 0)
        log_warn("%s. The run itself is not affected", b.failed ? "summary.json: out of memory" : e.text);
    buf_free(&b);
}
