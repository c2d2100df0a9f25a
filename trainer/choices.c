#include "trainer/choices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/links.h"
#include "trainer/base/io.h"
#include "trainer/base/log.h"
#include "trainer/base/mem.h"
#include "trainer/device.h"
#include "trainer/git_version.h"
#include "trainer/placement.h"
#include "trainer/ranks.h"

#define CHOICES_FILE "choices.txt"
#define PART         "from step "
#define HEAD         "# What the bits of this run hang on beside its job.yaml, and from which step on. Written by lorat train.\n"
enum { PATH_BYTES = 256, MOST_BYTES = 1 << 20, VALUE = 512 };

/* ---- the text ---- */

static const char *next_line(const char *at)
{
    const char *end = strchr(at, '\n');
    return end != NULL ? end + 1 : at + strlen(at);
}

const char *choices_value(const char *lines, const char *key, size_t *n)
{
    size_t length = strlen(key);
    for (const char *at = lines; *at != '\0' && strncmp(at, PART, strlen(PART)) != 0; at = next_line(at))
        if (strncmp(at, key, length) == 0 && strncmp(at + length, ": ", 2) == 0) {
            *n = strcspn(at + length + 2, "\n");
            return at + length + 2;
        }
    return NULL;
}

void choices_compare(const char *before, const char *now, struct buf *bits, struct buf *rounding)
{
    static const char *const keys[] = {"lorat",     "device", "driver", "libraries",  "products",
                                       "attention", "sums",   "ranks",  "micro_batch"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        size_t n_was, n_is;
        const char *was = choices_value(before, keys[i], &n_was), *is = choices_value(now, keys[i], &n_is);
        if (was == NULL || is == NULL || (n_was == n_is && memcmp(was, is, n_is) == 0))
            continue;
        bool free_key = strcmp(keys[i], "ranks") == 0 || strcmp(keys[i], "micro_batch") == 0;
        buf_printf(free_key ? rounding : bits, "\n  %s: %.*s -> %.*s", keys[i], (int)n_was, was, (int)n_is, is);
    }
}

const char *choices_part(const char *record, int64_t step, size_t *keep)
{
    const char *found = NULL;
    *keep = 0;
    for (const char *at = record; *at != '\0'; at = next_line(at)) {
        char *end;
        if (strncmp(at, PART, strlen(PART)) != 0)
            continue;
        errno = 0;
        const char *number = at + strlen(PART);
        long long from = strtoll(number, &end, 10);
        if (*number < '0' || *number > '9' || errno != 0 || *end != '\n' || from >= step) {
            *keep = (size_t)(at - record);
            return found;
        }
        found = end + 1;
    }
    *keep = strlen(record);
    return found;
}

/* ---- the run ---- */

static void put(struct buf *b, const char *key, const char *value)
{
    char line[VALUE];
    snprintf(line, sizeof line, "%s", value);
    for (char *p = line; (p = strpbrk(p, "\r\n")) != NULL;)
        *p = ' ';
    buf_printf(b, "%s: %s\n", key, line);
}

/* "580.95.05". The driver turns the kernels of libraries that are not made for just this card into its code. */
static void put_driver(struct buf *b)
{
    char release[32] = "";
    struct links *l = links_open();
    if (l != NULL)
        links_driver(l, release);
    links_close(l);
    if (release[0] != '\0')
        put(b, "driver", release);
}

/* How gradients are added up over ranks on cards. With NCCL the order hangs on these two settings, which are made by now (nccl.cu). */
static void put_sums(struct buf *b, const struct comm *comm)
{
    static const char *const settings[] = {"NCCL_ALGO", "NCCL_PROTO"};
    char text[VALUE];
    int n = snprintf(text, sizeof text, "%s", comm->device != NULL ? "NCCL" : "through the host's memory, in rank order");
    for (int i = 0; i < 2 && comm->device != NULL; i++) {
        const char *value = getenv(settings[i]);
        n += snprintf(text + n, sizeof text - (size_t)n, ", %s=%.64s", settings[i], value != NULL ? value : "");
    }
    put(b, "sums", text);
}

static void put_lines(struct buf *b, struct ops *o, const struct choices_facts *f)
{
    char libraries[256];
    device_libraries(o, libraries, sizeof libraries);
    put(b, "lorat", LORAT_GIT[0] != '\0' ? LORAT_VERSION " (" LORAT_GIT ")" : LORAT_VERSION);
    put(b, "device", o->device);
    if (!o->unified && f->comm->rank == 0)
        put_driver(b);
    put(b, "libraries", libraries);
    if (o->set_tuned != NULL)
        put(b, "products", f->tuned[0] != '\0' ? f->tuned : "the library's own choice");
    if (!o->unified && f->comm->ranks > 1)
        put_sums(b, f->comm);
    buf_printf(b, "ranks: %d\nmicro_batch: %d\nplacement: %s\n", f->comm->ranks, f->micro_batch, placement_name(f->place));
}

/* "attention: ..." behind the lines; "none" where nothing was chosen. False when the backend chooses nothing or, yet, has not. */
static bool put_attention(struct buf *b, struct ops *o, bool at_last)
{
    struct buf text = {0};
    if (o->chosen == NULL)
        return false;
    o->chosen(o, &text);
    bool there = text.n > 0 || at_last;
    if (there)
        put(b, "attention", text.n > 0 ? text.data : "none");
    b->failed |= text.failed;
    buf_free(&text);
    return there;
}

static void say(const struct choices *c, const struct buf *bits, const struct buf *rounding)
{
    if (c->lead && bits->n > 0)
        log_warn("%s: goes on with something else than its steps so far were made with, so other bits than those of an unbroken "
                 "run may follow:%s",
                 c->run_dir, bits->data);
    if (c->lead && rounding->n > 0)
        log_note("resumed with another division of a step, which may round otherwise:%s", rounding->data);
}

static bool same_value(const char *before, const char *now, const char *key)
{
    size_t n_was, n_is;
    const char *was = choices_value(before, key, &n_was), *is = choices_value(now, key, &n_is);
    return was != NULL && is != NULL && n_was == n_is && memcmp(was, is, n_is) == 0;
}

/* $LORAT_ATTENTION=plain or mma: one word for all classes of shapes. */
static bool is_wish(const char *attention, size_t n)
{
    return memchr(attention, '/', n) == NULL && (n != strlen("none") || memcmp(attention, "none", n) != 0);
}

/* What was recorded for the steps so far, against this process; c->record is cut to what stays. */
static void hold_against(struct choices *c, struct ops *o)
{
    struct buf bits = {0}, rounding = {0};
    size_t keep, n;
    const char *before = choices_part(c->record, c->from, &keep);
    c->record[keep] = '\0';
    if (before == NULL)
        return;
    choices_compare(before, c->lines.data, &bits, &rounding);
    c->attention = choices_value(before, "attention", &n);
    if (c->attention != NULL && is_wish(c->attention, n) && o->chosen != NULL) {
        if (!c->attention_said)
            buf_printf(&bits, "\n  attention: %.*s -> what the first step chooses (LORAT_ATTENTION=%.*s keeps it)", (int)n, c->attention,
                       (int)n, c->attention);
        c->attention = NULL; /* all is said, and there is nothing to keep */
    }
    say(c, &bits, &rounding);
    /* Also where another rank's card is not like rank 0's: it then chooses for itself, as it did before. */
    if (c->attention != NULL && o->set_chosen != NULL && same_value(before, c->lines.data, "device") &&
        same_value(before, c->lines.data, "libraries")) {
        char text[VALUE];
        snprintf(text, sizeof text, "%.*s", (int)n, c->attention);
        o->set_chosen(o, text);
    }
    buf_free(&bits);
    buf_free(&rounding);
}

static const char *path_of(const struct choices *c, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/" CHOICES_FILE, c->run_dir);
    return path;
}

int choices_open(struct choices *c, struct ops *o, const struct choices_facts *f, struct err *e)
{
    char path[PATH_BYTES];
    size_t n;
    struct err why = {0};
    *c = (struct choices){.from = f->step, .lead = f->comm->rank == 0};
    snprintf(c->run_dir, sizeof c->run_dir, "%s", f->run_dir);
    put_lines(&c->lines, o, f);
    c->attention_said = put_attention(&c->lines, o, false);
    if (c->lines.failed)
        return mem_fail(e, path_of(c, path), c->lines.n);
    if (f->step == 0 || !io_exists(path_of(c, path)))
        return 0;
    if (io_read_file(path, ERR_STATE, MOST_BYTES, &c->record, &n, &why) == 0) {
        hold_against(c, o);
        return 0;
    }
    if (c->lead)
        log_warn("%s. What this run was made with so far is not known", why.text);
    return 0;
}

/* The step of the newest checkpoint's folder, whether or not it verifies; 0: there is none. */
static int64_t newest_step(const char *run_dir)
{
    char path[PATH_BYTES], **names, *end;
    size_t n;
    int64_t newest = 0;
    snprintf(path, sizeof path, "%s/checkpoints", run_dir);
    if (io_list(path, &names, &n, NULL) != 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        long long step = strncmp(names[i], "step-", 5) == 0 ? strtoll(names[i] + 5, &end, 10) : 0;
        if (step > newest && *end == '\0')
            newest = step;
    }
    io_list_free(names, n);
    return newest;
}

static struct plan_before read_before(const char *part)
{
    struct plan_before b = {0};
    size_t n;
    const char *rows = choices_value(part, "micro_batch", &n);
    long v = rows != NULL ? strtol(rows, NULL, 10) : 0;
    b.micro_batch = v > 0 && v <= 65536 ? (int32_t)v : 0;
    const char *place = choices_value(part, "placement", &n);
    for (enum frozen_kind k = FROZEN_RESIDENT; k <= FROZEN_HOST && place != NULL; k++)
        if (n == strlen(placement_name(k)) && memcmp(place, placement_name(k), n) == 0) {
            b.placed = true;
            b.place = k;
        }
    return b;
}

struct plan_before choices_before(const char *run_dir)
{
    char path[PATH_BYTES], *record;
    size_t n;
    struct plan_before before = {0};
    int64_t step = newest_step(run_dir);
    snprintf(path, sizeof path, "%s/" CHOICES_FILE, run_dir);
    if (step == 0 || io_read_file(path, ERR_STATE, MOST_BYTES, &record, &n, NULL) != 0)
        return before;
    const char *part = choices_part(record, step, &n);
    if (part != NULL)
        before = read_before(part);
    free(record);
    return before;
}

/* The attention, which is chosen with the first step, against the one before it. */
static void hold_attention(struct choices *c)
{
    struct buf bits = {0}, none = {0};
    size_t n;
    const char *is = choices_value(c->lines.data, "attention", &n);
    if (c->attention != NULL && is != NULL) {
        size_t was = strcspn(c->attention, "\n");
        if (was != n || memcmp(c->attention, is, n) != 0)
            buf_printf(&bits, "\n  attention: %.*s -> %.*s", (int)was, c->attention, (int)n, is);
    }
    say(c, &bits, &none);
    buf_free(&bits);
}

/* The parts that stay, and this process's where it differs from the last of them. */
static int write_record(const struct choices *c, struct err *e)
{
    struct buf text = {0};
    char path[PATH_BYTES];
    size_t keep, n = c->lines.n;
    const char *before = c->record != NULL ? choices_part(c->record, c->from, &keep) : NULL;
    int rc = 0;
    if (before != NULL && strlen(before) == n && memcmp(before, c->lines.data, n) == 0)
        return 0;
    buf_puts(&text, before != NULL ? c->record : HEAD);
    buf_printf(&text, PART "%lld\n%s", (long long)c->from, c->lines.data);
    rc = text.failed ? mem_fail(e, path_of(c, path), text.n) : io_write_file_atomic(path_of(c, path), text.data, text.n, e);
    buf_free(&text);
    return rc;
}

/* A rank's card and its attention. Rank r's to all; a character is a number that the others add nothing to. */
struct seen {
    char device[96], attention[VALUE];
};
static int share_seen(struct comm *comm, int r, const struct seen *mine, struct seen *out, struct err *e)
{
    double v[sizeof *out] = {0};
    for (size_t i = 0; i < sizeof *out && comm->rank == r; i++)
        v[i] = ((const unsigned char *)mine)[i];
    TRY(comm->sum_host(comm, v, (int)sizeof *out, e));
    for (size_t i = 0; i < sizeof *out; i++)
        ((unsigned char *)out)[i] = (unsigned char)v[i];
    return 0;
}

/* Each rank's card has chosen for itself, and only rank 0's choice is recorded: on cards that are alike they must be one, or a resume
 * would give a rank another attention than it had. Cards that are not alike choose by what they are. */
static int hold_ranks(const struct choices *c, struct ops *o, struct comm *comm, struct err *e)
{
    struct seen mine = {0}, all[RANKS_MAX];
    size_t n = 0;
    const char *attention = choices_value(c->lines.n > 0 ? c->lines.data : "", "attention", &n);
    snprintf(mine.device, sizeof mine.device, "%s", o->device);
    snprintf(mine.attention, sizeof mine.attention, "%.*s", (int)n, attention != NULL ? attention : "");
    for (int r = 0; r < comm->ranks; r++) {
        TRY(share_seen(comm, r, &mine, &all[r], e));
        for (int k = 0; k < r; k++)
            if (strcmp(all[k].device, all[r].device) == 0 && strcmp(all[k].attention, all[r].attention) != 0)
                FAIL(e, ERR_DEVICE,
                     "attention: rank %d chose '%.200s' and rank %d '%.200s', expected one choice on cards that are alike. A warning above "
                     "says why cuDNN's was refused. Look at that card with lorat doctor, or set LORAT_ATTENTION=mma, which all have",
                     k, all[k].attention, r, all[r].attention);
    }
    return 0;
}

int choices_settle(struct choices *c, struct ops *o, struct comm *comm, struct err *e)
{
    struct err why = {0};
    if (c->settled)
        return 0;
    c->settled = true;
    if (!c->attention_said)
        put_attention(&c->lines, o, true);
    if (comm->ranks > 1 && o->chosen != NULL)
        TRY(hold_ranks(c, o, comm, e));
    if (!c->attention_said && !c->lines.failed)
        hold_attention(c);
    if (c->lead && !c->lines.failed && write_record(c, &why) != 0)
        log_warn("%s. A later --resume will not know what this run was made with", why.text);
    return 0;
}

void choices_close(struct choices *c)
{
    buf_free(&c->lines);
    free(c->record);
    *c = (struct choices){0};
}
