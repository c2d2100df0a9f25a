/* verbs.h - what lorat can be asked to do: one table for dispatch, --help and "did you mean". */
#ifndef LORAT_VERBS_H
#define LORAT_VERBS_H

#include <stdbool.h>

#include "trainer/base/err.h"

/* X(name, function, is what it prints its product?, one line of help). A function gets argv[0] = the verb's name and returns 0,
 * or -1 with e filled. Where the product is printed, a standard output that cannot be written is an error; else it is none. */
#define VERB_LIST(X)                                                                                                             \
    X("train", verb_train, false, "train the job of a YAML file")                                                                \
    X("plan", verb_plan, true, "what a job will take: memory, steps, time; nothing is loaded")                                   \
    X("config", verb_config, true, "check a job file and print it with every default; --reference")                              \
    X("data", verb_data, false, "build and look at datasets: data build, data show, data info")                                  \
    X("generate", verb_generate, true, "let a base model, with or without an adapter, answer")                                   \
    X("export", verb_export, false, "write a trained adapter for other programs, or merge it")                                   \
    X("runs", verb_runs, true, "list the runs and where they stand")                                                             \
    X("compare", verb_compare, true, "hold runs against the first of them: bits, loss, speed, memory")                           \
    X("verify", verb_verify, false, "prove a claim on this machine: verify resume JOB")                                          \
    X("tune", verb_tune, false, "choose the fastest algorithms for a job's products on this card")                               \
    X("bench", verb_bench, true, "measure this device: bench gemm, ops, step, comm")                                             \
    X("doctor", verb_doctor, true, "what of this machine stands in a run's way, and what to do")                                 \
    X("version", verb_version, true, "version, libraries and what this CPU can do")                                              \
    X("help", verb_help, true, "help on a verb")

#define X(name, function, prints, help) int function(int argc, char **argv, struct err *e);
VERB_LIST(X)
#undef X

struct verb {
    const char *name;
    int (*run)(int argc, char **argv, struct err *e);
    bool prints;
    const char *help;
};
extern const struct verb verbs[];
extern const int n_verbs;
/* By name, or NULL with ERR_USAGE and the nearest name in e. */
const struct verb *verb_find(const char *name, struct err *e);

#endif
