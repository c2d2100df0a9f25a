/* choices.h - runs/<name>/choices.txt: what a run's bits hang on beside its job, and from which step on. This lorat, the device,
 * driver and libraries, the table of tuned products, the attention that was chosen, the rows at a time. A resume compares itself with
 * what the steps before it were made with and says what differs. Layout: docs/run-folder.md. */
#ifndef LORAT_CHOICES_H
#define LORAT_CHOICES_H

#include "trainer/comm.h"
#include "trainer/plan.h"

struct choices {
    struct buf lines;      /* "key: value" lines of this process */
    const char *attention; /* of the steps before, as recorded; NULL: not known. Owned, with `record` behind it */
    char *record;          /* the parts of the file that stay */
    char run_dir[160];
    int64_t from; /* the step this process goes on from */
    bool lead;    /* this process writes, and says */
    bool attention_said, settled;
};
struct choices_facts {
    const char *run_dir;
    int64_t step;      /* that the process goes on from; 0: nothing was made yet */
    const char *tuned; /* the table of products in use; "" none */
    const struct comm *comm;
    int micro_batch;
    enum frozen_kind place;
};

/* Before the first operation: compares, and has the backend keep what was chosen before where device and libraries are the same.
 * A file that cannot be read is a warning. */
int choices_open(struct choices *c, struct ops *o, const struct choices_facts *f, struct err *e);
/* After the first step, when everything is chosen: says what came out otherwise, and writes; a failure of that is a warning, and the
 * run goes on. ERR_DEVICE: ranks on cards that are alike have chosen differently. Collective. */
int choices_settle(struct choices *c, struct ops *o, struct comm *comm, struct err *e);
void choices_close(struct choices *c); /* zero is closed */

/* What a run's newest checkpoint was made with; zero: there is none, or it is not known. Reads only. */
struct plan_before choices_before(const char *run_dir);

/* Pure. The value of a key among lines, NULL when it is not there; n its length. */
const char *choices_value(const char *lines, const char *key, size_t *n);
/* Pure. Keys whose values differ, a line each ("  device: A -> B"): those that other bits follow from into `bits`, those of the
 * free keys ranks and micro_batch into `rounding`. Keys that one side lacks are not compared, and placement never: it changes no bit. */
void choices_compare(const char *before, const char *now, struct buf *bits, struct buf *rounding);
/* Pure. The part of a record that made the state after `step` steps (step > 0): its lines; *keep: how many bytes of the record
 * end with that part. NULL when there is none. */
const char *choices_part(const char *record, int64_t step, size_t *keep);

#endif
