/* err.h - one error value, filled once at the place that knows most, carried up by return codes.
 *
 * Functions that can fail return 0 or -1 and take a `struct err *` as their last argument. The message is one sentence:
 * "<where>: <found>, expected <what>. <what to do>". Only main prints it (as "lorat: error: ...") and only main exits. */
#ifndef LORAT_ERR_H
#define LORAT_ERR_H

/* X(name, exit code, meaning). The one list of exit codes; `lorat --help` and docs/exit-codes print it. */
#define ERR_LIST(X)                                                                                     \
    X(ERR_OK, 0, "done")                                                                                \
    X(ERR_INTERNAL, 1, "a fault in lorat itself")                                                       \
    X(ERR_USAGE, 2, "the command line cannot be understood")                                            \
    X(ERR_CONFIG, 3, "the job file is wrong")                                                           \
    X(ERR_DATA, 4, "a dataset or a text input is wrong")                                                \
    X(ERR_MODEL, 5, "a model, tokenizer or adapter file is wrong or not supported")                     \
    X(ERR_STATE, 6, "a run or checkpoint cannot be used (in use, damaged, or of another job)")          \
    X(ERR_DEVICE, 7, "the device cannot be used, or its memory or the host's is too small for the job")               \
    X(ERR_PEER, 8, "another rank died or did not answer")                                               \
    X(ERR_IO, 9, "reading or writing failed (disk full, permission, missing file)")                     \
    X(ERR_VERIFY, 10, "a verification found a difference")                                              \
    X(ERR_DIVERGED, 11, "training gave up: too many steps were not finite")                             \
    X(ERR_STOPPED, 75, "stopped on request and saved; run again with --resume to continue")

enum err_code {
#define X(name, code, text) name = code,
    ERR_LIST(X)
#undef X
};

struct err {
    enum err_code code; /* also the exit code */
    char text[1024];    /* one sentence or a few lines, no trailing newline */
};

/* Fill e (which may be NULL) and return -1. */
int err_set(struct err *e, enum err_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with ": <strerror(saved errno)>" appended; a message for ENOSPC and EDQUOT says that the disk is full. */
int err_errno(struct err *e, enum err_code code, int saved_errno, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Put "<context>: " before the message that e already holds. Returns -1. */
int err_prefix(struct err *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *err_meaning(enum err_code code);

#define FAIL(e, code, ...)                   \
    do {                                     \
        err_set((e), (code), __VA_ARGS__);   \
        return -1;                           \
    } while (0)
/* Forward a failure; for functions with nothing to release. */
#define TRY(call)              \
    do {                       \
        if ((call) != 0)       \
            return -1;         \
    } while (0)
/* Forward a failure through the one label `done`, which releases in reverse order; needs `int rc` in scope. */
#define TRY_DONE(call)         \
    do {                       \
        if ((call) != 0) {     \
            rc = -1;           \
            goto done;         \
        }                      \
    } while (0)

#endif
