/* check.h - a test program is a main() that calls checks; a failed check prints where and what, and the program exits 1.
 * Exit code 77 = skipped (ctest knows it). Numbers are compared with !(diff <= tol), so that NaN fails. */
#ifndef LORAT_CHECK_H
#define LORAT_CHECK_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((weak)) int check_failures; /* one for all files of a test program */
#define CHECK(cond)                                                                                     \
    do {                                                                                                \
        if (!(cond)) {                                                                                  \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #cond);                          \
            check_failures++;                                                                           \
        }                                                                                               \
    } while (0)
#define CHECK_INT(got, want)                                                                            \
    do {                                                                                                \
        long long g_ = (long long)(got), w_ = (long long)(want);                                        \
        if (g_ != w_) {                                                                                 \
            fprintf(stderr, "%s:%d: %s is %lld, expected %lld\n", __FILE__, __LINE__, #got, g_, w_);    \
            check_failures++;                                                                           \
        }                                                                                               \
    } while (0)
#define CHECK_STR(got, want)                                                                            \
    do {                                                                                                \
        const char *g_ = (got), *w_ = (want);                                                           \
        if (g_ == NULL || strcmp(g_, w_) != 0) {                                                        \
            fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__, #got, g_ ? g_ : "(null)", w_); \
            check_failures++;                                                                           \
        }                                                                                               \
    } while (0)
#define CHECK_HAS(text, part)                                                                           \
    do {                                                                                                \
        const char *t_ = (text), *p_ = (part);                                                          \
        if (t_ == NULL || strstr(t_, p_) == NULL) {                                                     \
            fprintf(stderr, "%s:%d: \"%s\" does not contain \"%s\"\n", __FILE__, __LINE__, t_ ? t_ : "(null)", p_); \
            check_failures++;                                                                           \
        }                                                                                               \
    } while (0)
#define CHECK_NEAR(got, want, tol)                                                                      \
    do {                                                                                                \
        double g_ = (double)(got), w_ = (double)(want), t_ = (double)(tol);                             \
        if (!(fabs(g_ - w_) <= t_)) {                                                                   \
            fprintf(stderr, "%s:%d: %s is %.9g, expected %.9g within %.3g\n", __FILE__, __LINE__, #got, g_, w_, t_); \
            check_failures++;                                                                           \
        }                                                                                               \
    } while (0)
#define CHECK_OK(call, e)                                                                               \
    do {                                                                                                \
        if ((call) != 0) {                                                                              \
            fprintf(stderr, "%s:%d: %s failed: %s\n", __FILE__, __LINE__, #call, (e)->text);            \
            check_failures++;                                                                           \
        }                                                                                               \
    } while (0)
#define CHECK_SKIP(why)                                                                                 \
    do {                                                                                                \
        printf("skipped: %s\n", why);                                                                   \
        exit(77);                                                                                       \
    } while (0)
static inline int check_done(void)
{
    if (check_failures)
        fprintf(stderr, "%d failed\n", check_failures);
    return check_failures ? 1 : 0;
}

#endif
