/* names.h - names that come from files: finding them, and showing them safely. */
#ifndef LORAT_NAMES_H
#define LORAT_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/err.h"

struct name_slot {
    const char *name; /* NULL = free */
    size_t n, value;
};
/* Names -> numbers. Zero is empty. The hash is keyed by a random seed, so that no file can make it slow. */
struct names {
    struct name_slot *slots;
    size_t n, cap; /* cap is 0 or a power of two */
    uint64_t seed;
};
/* Add a name (borrowed: it must outlive the index). *already = true, and nothing is added, when it is there. */
int names_add(struct names *s, const char *name, size_t n, size_t value, bool *already, struct err *e);
bool names_find(const struct names *s, const char *name, size_t n, size_t *value);
void names_free(struct names *s);

enum { NAME_TEXT = 96 };
/* For messages: at most 80 bytes, anything that is not printable ASCII as '?'. Returns text. */
const char *name_text(const char *name, size_t n, char text[NAME_TEXT]);

#endif
