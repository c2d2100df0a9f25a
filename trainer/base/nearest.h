/* nearest.h - "did you mean": the known word nearest to a mistyped one. */
#ifndef LORAT_NEAREST_H
#define LORAT_NEAREST_H

#include <stddef.h>

/* The candidate with the smallest Damerau-Levenshtein distance, if it is at most max(2, len/3); and less than their length; else NULL.
 * The first one wins among equals. */
const char *nearest_word(const char *word, const char *const *candidates, size_t n);

#endif
