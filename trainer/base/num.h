/* num.h - arithmetic on sizes that come from files: overflow is an answer, never a wrap. */
#ifndef LORAT_NUM_H
#define LORAT_NUM_H

#include <stdbool.h>
#include <stdint.h>

static inline bool num_mul(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool num_add(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline int64_t num_round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t num_div_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

/* The whole of a decimal text as a number, nothing before or behind it, no overflow; false otherwise. */
bool num_parse_i64(const char *text, int64_t *out);
bool num_parse_f64(const char *text, double *out); /* no hex, inf or nan */
/* "24GiB", "900MB", "1024" as bytes. */
bool num_parse_bytes(const char *text, int64_t *out);
/* "1.5 GiB"; returns buf. */
const char *num_format_bytes(char buf[32], uint64_t bytes);

#endif
