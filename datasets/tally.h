/* tally.h - the facts of a dataset group, counted token by token. */
#ifndef LORAT_TALLY_H
#define LORAT_TALLY_H

#include "datasets/dataset.h"

struct tally { /* zero to begin; one for each group */
    struct dataset_facts *facts;
    enum dataset_group group;
    const int32_t *end_ids;
    int n_end_ids;
    int64_t length; /* of the document at hand */
    bool target, masked, end, end_trained;
};
void tally_token(struct tally *t, int32_t token, float weight);
void tally_document(struct tally *t); /* the document is complete */

#endif
