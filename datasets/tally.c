#include "datasets/tally.h"

void tally_token(struct tally *t, int32_t token, float weight)
{
    bool first = t->length++ == 0, counts = weight > 0 && !first;
    if (token > t->facts->max_token)
        t->facts->max_token = token;
    t->facts->group[t->group].targets += counts;
    t->target |= counts;
    t->masked |= !first && !counts;
    for (int i = 0; i < t->n_end_ids; i++)
        if (token == t->end_ids[i]) {
            t->end = true;
            t->end_trained |= counts;
        }
}

void tally_document(struct tally *t)
{
    struct dataset_facts *f = t->facts;
    f->group[t->group].present = true;
    f->group[t->group].documents++;
    f->group[t->group].tokens += t->length;
    f->group[t->group].without_targets += !t->target;
    f->group[t->group].masked += t->masked;
    f->group[t->group].ends += t->end;
    f->group[t->group].ends_trained += t->end_trained;
    if (t->length > f->group[t->group].longest)
        f->group[t->group].longest = t->length;
    t->length = 0;
    t->target = t->masked = t->end = t->end_trained = false;
}
