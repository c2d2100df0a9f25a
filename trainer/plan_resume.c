/* plan_resume.c - the plan of a run that goes on: what its steps so far were made with comes before what `auto` would choose now.
 *
 * First the base stays where it lay, with the same rows at a time, then with others (they may round otherwise), and only then does it
 * lie elsewhere (the same bits, but a base that is gathered block by block may take several times as long). */
#include <stdio.h>
#include <string.h>

#include "trainer/placement.h"
#include "trainer/plan.h"

/* One call of plan_make with other jobs. */
struct ask {
    const struct facts *f;
    const struct lora *l;
    struct ops *o;
    const struct plan_device *d;
    int64_t loader_bytes;
    int32_t rows; /* of the steps before */
};

static int make(const struct ask *a, const struct config *c, struct plan *out, struct err *e)
{
    return plan_make(c, a->f, a->l, a->o, a->d, a->loader_bytes, out, e);
}

static int with_rows(const struct ask *a, const struct config *c, struct plan *out, struct err *e)
{
    struct config kept = *c;
    struct err ignored;
    kept.train.micro_batch = a->rows;
    if (c->train.micro_batch == 0 && a->rows > 0 && make(a, &kept, out, &ignored) == 0)
        return 0;
    return make(a, c, out, e);
}

/* Why not as before: the first sentence of the refusal; and how to have it back. */
static void say_moved(const struct plan_before *before, const struct plan *p, const struct err *why, char *out, size_t size)
{
    char was[96], is[96], back[256];
    const struct plan_device *d = &p->device;
    const char *end = strstr(why->text, ". ");
    placement_words(&(struct frozen_place){.kind = before->place, .ranks = d->cards}, d->cards, was, sizeof was);
    placement_words(&p->shape.place, d->cards, is, sizeof is);
    if (d->unequal[0] != '\0')
        snprintf(back, sizeof back, "choose cards that are alike (compute.gpus)");
    else
        snprintf(back, sizeof back, "free memory of the cards%s%s%s, or raise compute.memory_limit where it is set",
                 d->holder[0] != '\0' ? " (" : "", d->holder, d->holder[0] != '\0' ? " holds some)" : "");
    snprintf(out, size,
             "the base was %s in the steps so far and is now %s, with the same bits at another speed. As before it is refused: %.*s. To go "
             "back %s, and resume with --set compute.parallel=%s",
             was, is, end != NULL ? (int)(end - why->text) : (int)strlen(why->text), why->text, back,
             before->place == FROZEN_SHARDED ? "sharded" : "data");
}

int plan_resume(const struct config *c, const struct facts *f, const struct lora *l, struct ops *o, const struct plan_device *d,
                int64_t loader_bytes, const struct plan_before *before, struct plan *out, char *said, size_t size, struct err *e)
{
    const struct ask a = {.f = f, .l = l, .o = o, .d = d, .loader_bytes = loader_bytes, .rows = before->micro_batch};
    bool choice = c->compute.parallel == PARALLEL_AUTO && c->model.placement != PLACEMENT_HOST && d->cards > 1;
    struct config same = *c;
    struct err why = {0};
    said[0] = '\0';
    if (!choice || !before->placed || before->place == FROZEN_HOST)
        return with_rows(&a, c, out, e);
    same.compute.parallel = before->place == FROZEN_SHARDED ? PARALLEL_SHARDED : PARALLEL_DATA;
    if (with_rows(&a, &same, out, &why) != 0) {
        TRY(with_rows(&a, c, out, e));
        say_moved(before, out, &why, said, size);
        return 0;
    }
    struct plan now;
    if (before->place == FROZEN_SHARDED && make(&a, c, &now, &why) == 0 && now.shape.place.kind == FROZEN_RESIDENT)
        snprintf(said, size,
                 "the base stays sharded, as in the steps so far; whole on each rank it would fit now, and steps may take less time: "
                 "--set compute.parallel=data");
    return 0;
}
