/* fuzz.h - what every fuzz target shares. A target gets any bytes and must return 0 without a sanitizer's report, a hang, a leak
 * or a large allocation. Run by libFuzzer (LORAT_FUZZ), and over its corpus by replay.c in every test run. */
#ifndef LORAT_TESTS_FUZZ_H
#define LORAT_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "trainer/base/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* A refusal carries a code and a sentence. */
static inline void fuzz_expect_message(const struct err *e)
{
    if (e->code == ERR_OK || e->text[0] == '\0')
        abort();
}

#endif
