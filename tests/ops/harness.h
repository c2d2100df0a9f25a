/* harness.h - what the operation tests share. A test file defines ops_test(o), which compares one backend with the reference; the
 * backend_*.c that it is linked with opens each variant of a backend and calls it. So another backend runs the same files. */
#ifndef LORAT_TESTS_HARNESS_H
#define LORAT_TESTS_HARNESS_H

#include "kernels/ops.h"
#include "tests/check.h"
#include "tests/ops/reference.h"

int ops_test(struct ops *o); /* defined by the test file; its own check_failures, which only ever grow */
int test_failures(void);     /* those of the functions below */

/* Numbers on the device and, as they were put there (already rounded to the type), on the host. */
struct array {
    struct ops *o;
    void *dev;
    double *host;
    int64_t count;
    enum dtype type;
};
struct array array_new(struct ops *o, int64_t count, enum dtype type);   /* zeros */
struct array array_random(struct ops *o, int64_t count, enum dtype type, double scale); /* about normal */
void array_put(struct array *a);          /* host (rounded first) to the device */
double *array_get(const struct array *a); /* the device's numbers; the caller frees them */
void *array_raw(const struct array *a);   /* the device's bytes; the caller frees them */
void array_free(struct array *a);
double test_normal(void);                 /* a fixed sequence, restarted by test_seed */
void test_seed(uint64_t seed);
void *test_upload(struct ops *o, const void *host, size_t bytes);

/* |got - want| <= relative * |want| + absolute, element by element, where relative gains half a unit in the last place of the
 * array's type. Prints the worst element under `what`. want is the reference, changed by the caller as it likes. */
void array_compare(const char *what, const struct array *got, const double *want, double relative, double absolute);
void same_bits(const char *what, const struct array *a, const void *before); /* array_raw of an earlier run */
void test_workspace(struct ops *o, const struct ops_dims *d); /* set a workspace of just the size the backend asks for */
void test_no_failure(struct ops *o, const char *what);

#endif
