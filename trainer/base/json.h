/* json.h - JSON read as a tree and written as text. The one door to the JSON library (jansson), which stays in json.c.
 * Strict: UTF-8 checked, duplicate keys refused, at most 64 levels deep, nothing behind the value. */
#ifndef LORAT_JSON_H
#define LORAT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"

struct json; /* a node; borrowed from its document, NULL is a legal argument everywhere ("absent") */
enum json_kind { JSON_ABSENT, JSON_NULL, JSON_BOOL, JSON_INT, JSON_REAL, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Parse n bytes. `where` begins the message: "config.json" becomes "config.json:<line>:<column>: ...", a line of JSONL given as
 * "train.jsonl:12" becomes "train.jsonl:12:<column>: ...". Any value may stand at the top. Integers beyond 64 bits are read as
 * reals. Free the root with json_free. */
int json_parse(const char *bytes, size_t n, const char *where, enum err_code code, struct json **out, struct err *e);
void json_free(struct json *root);

enum json_kind json_kind(const struct json *j);
const char *json_kind_name(enum json_kind k);             /* "a number", "a list", ... for messages */
const struct json *json_get(const struct json *object, const char *key);  /* NULL when absent or not an object */
const struct json *json_at(const struct json *array, size_t i);           /* NULL when absent or not an array */
size_t json_length(const struct json *j);                                 /* members or elements; 0 otherwise */
const char *json_text(const struct json *j, size_t *n_out); /* NULL when not a string; NUL-terminated, may hold NULs; n_out may be NULL */
#define json_string json_text /* jansson exports a json_string of its own, and the two must not meet in the linker */
bool json_i64(const struct json *j, int64_t *out);        /* an integer (a real without fraction counts) */
bool json_f64(const struct json *j, double *out);         /* a number */
bool json_bool(const struct json *j, bool *out);
/* Members of an object in file order: for (it = json_first(o); it; it = json_next(o, it)) */
void *json_first(const struct json *object);
void *json_next(const struct json *object, void *it);
const char *json_key(void *it);
const struct json *json_value(void *it);

/* Writing: append to a buffer. Strings are escaped; invalid UTF-8 becomes U+FFFD. Doubles round-trip (%.17g shortened); a value
 * that is not finite is written as null. */
void json_put_string(struct buf *b, const char *s, size_t n);
void json_put_f64(struct buf *b, double v);

#endif
