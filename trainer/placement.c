#include "trainer/placement.h"

#include <stdio.h>
#include <string.h>

#include "trainer/base/host_memory.h"
#include "trainer/base/num.h"

static int refuse(const struct config *c, int ranks, const char *unequal, struct err *e)
{
    bool sharded = c->compute.parallel == PARALLEL_SHARDED;
    if (sharded && c->model.placement == PLACEMENT_HOST)
        FAIL(
            e, ERR_CONFIG,
            "compute.parallel: sharded with model.placement: host, expected one of the two. Leave model.placement at resident: a "
            "sharded base needs no room in host memory");
    if (sharded && ranks == 1)
        FAIL(e, ERR_CONFIG,
             "compute.parallel: sharded on one rank, expected several that share the base. Set compute.parallel: auto; for a "
             "base that one card cannot hold, model.placement: host");
    if (sharded && unequal[0] != '\0')
        FAIL(e, ERR_DEVICE,
             "compute.parallel: sharded on %.300s, expected cards that are alike: all would wait for the smaller and the slower "
             "at every block. Choose equal ones with compute.gpus, or set compute.parallel: data",
             unequal);
    return 0;
}

int placement_choices(const struct config *c, int ranks, const char *unequal, struct frozen_place out[PLACEMENT_CHOICES], int *n,
                      struct err *e)
{
    *n = 0;
    TRY(refuse(c, ranks, unequal, e));
    if (c->model.placement == PLACEMENT_HOST)
        out[(*n)++] = (struct frozen_place){.kind = FROZEN_HOST};
    else if (c->compute.parallel != PARALLEL_SHARDED)
        out[(*n)++] = (struct frozen_place){.kind = FROZEN_RESIDENT};
    if (*n == 0 ||
        (c->compute.parallel == PARALLEL_AUTO && c->model.placement != PLACEMENT_HOST && ranks > 1 && unequal[0] == '\0'))
        out[(*n)++] = (struct frozen_place){.kind = FROZEN_SHARDED, .ranks = ranks};
    return 0;
}

const char *placement_name(enum frozen_kind kind)
{
    static const char *const names[] = {[FROZEN_RESIDENT] = "resident", [FROZEN_SHARDED] = "sharded", [FROZEN_HOST] = "host"};
    return names[kind];
}

void placement_words(const struct frozen_place *p, int ranks, char *out, size_t size)
{
    if (p->kind == FROZEN_SHARDED)
        snprintf(out, size, "sharded, each of %d ranks holds 1/%d of every block", p->ranks, p->ranks);
    else if (p->kind == FROZEN_HOST)
        snprintf(out, size, "in host memory%s, two blocks at a time on the device", ranks > 1 ? " (once for each rank)" : "");
    else if (ranks > 1)
        snprintf(out, size, "whole on each of %d ranks (data parallel)", ranks);
    else
        snprintf(out, size, "resident");
}

enum { PROGRAM_BYTES = 256 << 20 }; /* lorat itself, its reader and NVIDIA's libraries in one process; an allowance, not measured */

/* Only a job has ranks, and only cards that are alike share a base. */
static const char *instead_of_host(enum placement_asker who, int ranks, const char *unequal)
{
    if (who != PLACEMENT_OF_JOB)
        return "--placement resident needs none, on a card that has room for the base";
    if (unequal[0] != '\0')
        return "fewer cards take less (compute.gpus)";
    return ranks > 1 ? "a base that the cards share needs none (compute.parallel: sharded with model.placement: resident)"
                     : "over several cards that are alike a shared base needs none (compute.parallel: sharded with model.placement: resident)";
}

int placement_room(enum placement_asker who, int64_t bytes, int ranks, const char *unequal, struct err *e)
{
    static const char *const where[] = {"model.placement: host", "generate", "bench step: --placement host"};
    char blocks[32], needs[32], has[32], all[32], each[64] = "";
    int64_t free_bytes, total_bytes, need = ranks * (bytes + PROGRAM_BYTES);
    struct err unknown;
    if (host_memory(&free_bytes, &total_bytes, &unknown) != 0 || need <= free_bytes)
        return 0;
    if (ranks > 1)
        snprintf(each, sizeof each, ", once for each of %d ranks", ranks);
    FAIL(e, ERR_DEVICE,
         "%s: the base's blocks take %s of host memory%s, %s with the program, expected at most the %s that are free of %s. End other "
         "programs or choose a smaller model; %s",
         where[who], num_format_bytes(blocks, (uint64_t)bytes), each, num_format_bytes(needs, (uint64_t)need),
         num_format_bytes(has, (uint64_t)free_bytes), num_format_bytes(all, (uint64_t)total_bytes), instead_of_host(who, ranks, unequal));
}

bool placement_unequal(const struct cuda_card *cards, int n, char *out, size_t size)
{
    out[0] = '\0';
    for (int i = 1; i < n; i++)
        if (strcmp(cards[i].name, cards[0].name) != 0 || cards[i].total != cards[0].total) {
            snprintf(out, size, "card %d, %s, and card %d, %s", cards[0].index, cards[0].name, cards[i].index, cards[i].name);
            return true;
        }
    return false;
}
