/* jansson's header takes names that json.h has for itself; they are renamed while it is read. */
#define JSON_OBJECT JANSSON_OBJECT
#define JSON_ARRAY  JANSSON_ARRAY
#define JSON_STRING JANSSON_STRING
#define JSON_REAL   JANSSON_REAL
#define JSON_NULL   JANSSON_NULL
#include <jansson.h>
#undef JSON_OBJECT
#undef JSON_ARRAY
#undef JSON_STRING
#undef JSON_REAL
#undef JSON_NULL

#include "trainer/base/json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/mem.h"

enum { MAX_DEPTH = 64 };

static const json_t *node(const struct json *j) { return (const json_t *)j; }
static bool is(const struct json *j, json_type type) { return j != NULL && json_typeof(node(j)) == type; }

/* "config.json" + 3:14 -> "config.json:3:14"; a line of JSONL ("train.jsonl:12") holds one line, so only the column is added. */
static int fail_at(const char *where, enum err_code code, int line, int column, const char *what, struct err *e)
{
    const char *colon = strrchr(where, ':');
    bool has_line = colon != NULL && colon[1] != '\0' && strspn(colon + 1, "0123456789") == strlen(colon + 1);
    if (has_line && line <= 1)
        FAIL(e, code, "%s:%d: not valid JSON: %s", where, column, what);
    FAIL(e, code, "%s:%d:%d: not valid JSON: %s", where, line, column, what);
}

static size_t string_end(const char *bytes, size_t n, size_t i)
{
    for (i++; i < n && bytes[i] != '"'; i++)
        if (bytes[i] == '\\')
            i++;
    return i;
}

/* Before jansson recurses: a bound of our own on its stack. */
static int check_depth(const char *bytes, size_t n, const char *where, enum err_code code, struct err *e)
{
    int depth = 0, line = 1;
    size_t line_start = 0;
    for (size_t i = 0; i < n; i++) {
        switch (bytes[i]) {
        case '"':
            i = string_end(bytes, n, i);
            break;
        case '\n':
            line++;
            line_start = i + 1;
            break;
        case '[':
        case '{':
            if (++depth > MAX_DEPTH)
                return fail_at(where, code, line, (int)(i - line_start) + 1, "nested deeper than 64 levels", e);
            break;
        case ']':
        case '}':
            depth--;
            break;
        default:
            break;
        }
    }
    return 0;
}

/* Integers beyond 64 bits do occur (tokenizer_config.json states "no limit" as 1e30 written out). jansson refuses them, so they
 * get a fraction and become reals. */
static void widen_integers(const char *bytes, size_t n, struct buf *out)
{
    size_t copied = 0;
    for (size_t i = 0; i < n; i++) {
        if (bytes[i] == '"') {
            i = string_end(bytes, n, i);
        } else if (isdigit((unsigned char)bytes[i])) {
            size_t from = i;
            while (i < n && isdigit((unsigned char)bytes[i]))
                i++;
            bool integer =
                from == 0 || (bytes[from - 1] != '.' && bytes[from - 1] != '+' && !isalpha((unsigned char)bytes[from - 1]));
            integer = integer && !(from > 1 && bytes[from - 1] == '-' && (bytes[from - 2] == 'e' || bytes[from - 2] == 'E'));
            if (integer && i - from > 18 && (i == n || (bytes[i] != '.' && bytes[i] != 'e' && bytes[i] != 'E'))) {
                buf_add(out, bytes + copied, i - copied);
                buf_puts(out, ".0");
                copied = i;
            }
            i--;
        }
    }
    if (copied < n)
        buf_add(out, bytes + copied, n - copied);
}

int json_parse(const char *bytes, size_t n, const char *where, enum err_code code, struct json **out, struct err *e)
{
    const size_t flags = JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
    json_error_t error;
    *out = NULL;
    TRY(check_depth(bytes, n, where, code, e));
    json_t *root = json_loadb(bytes, n, flags, &error);
    if (root == NULL && json_error_code(&error) == json_error_numeric_overflow) {
        struct buf wide = {0};
        widen_integers(bytes, n, &wide);
        if (!wide.failed)
            root = json_loadb(wide.data, wide.n, flags, &error);
        buf_free(&wide);
    }
    if (root == NULL && json_error_code(&error) == json_error_out_of_memory)
        return mem_fail(e, where, n);
    if (root == NULL)
        return fail_at(where, code, error.line < 1 ? 1 : error.line, error.column < 1 ? 1 : error.column, error.text, e);
    *out = (struct json *)root;
    return 0;
}

void json_free(struct json *root) { json_decref((json_t *)root); }

enum json_kind json_kind(const struct json *j)
{
    if (j == NULL)
        return JSON_ABSENT;
    switch (json_typeof(node(j))) {
    case JANSSON_OBJECT:
        return JSON_OBJECT;
    case JANSSON_ARRAY:
        return JSON_ARRAY;
    case JANSSON_STRING:
        return JSON_STRING;
    case JSON_INTEGER:
        return JSON_INT;
    case JANSSON_REAL:
        return JSON_REAL;
    case JSON_TRUE:
    case JSON_FALSE:
        return JSON_BOOL;
    case JANSSON_NULL:
        return JSON_NULL;
    }
    return JSON_ABSENT;
}

const char *json_kind_name(enum json_kind k)
{
    switch (k) {
    case JSON_ABSENT:
        return "nothing";
    case JSON_NULL:
        return "null";
    case JSON_BOOL:
        return "true or false";
    case JSON_INT:
        return "a whole number";
    case JSON_REAL:
        return "a number";
    case JSON_STRING:
        return "a text";
    case JSON_ARRAY:
        return "a list";
    case JSON_OBJECT:
        return "an object";
    }
    return "unknown";
}

const struct json *json_get(const struct json *object, const char *key)
{
    return is(object, JANSSON_OBJECT) ? (const struct json *)json_object_get(node(object), key) : NULL;
}

const struct json *json_at(const struct json *array, size_t i)
{
    return is(array, JANSSON_ARRAY) ? (const struct json *)json_array_get(node(array), i) : NULL;
}

size_t json_length(const struct json *j)
{
    if (is(j, JANSSON_OBJECT))
        return json_object_size(node(j));
    return is(j, JANSSON_ARRAY) ? json_array_size(node(j)) : 0;
}

const char *json_text(const struct json *j, size_t *n_out)
{
    if (!is(j, JANSSON_STRING))
        return NULL;
    if (n_out != NULL)
        *n_out = json_string_length(node(j));
    return json_string_value(node(j));
}

bool json_i64(const struct json *j, int64_t *out)
{
    if (is(j, JSON_INTEGER)) {
        *out = json_integer_value(node(j));
        return true;
    }
    if (!is(j, JANSSON_REAL))
        return false;
    double v = json_real_value(node(j));
    if (!(v >= -0x1p63 && v < 0x1p63) || v != floor(v))
        return false;
    *out = (int64_t)v;
    return true;
}

bool json_f64(const struct json *j, double *out)
{
    if (!is(j, JSON_INTEGER) && !is(j, JANSSON_REAL))
        return false;
    *out = json_number_value(node(j));
    return true;
}

bool json_bool(const struct json *j, bool *out)
{
    if (!is(j, JSON_TRUE) && !is(j, JSON_FALSE))
        return false;
    *out = is(j, JSON_TRUE);
    return true;
}

/* jansson's iterator calls take a non-const object but change nothing. */
void *json_first(const struct json *object) { return is(object, JANSSON_OBJECT) ? json_object_iter((json_t *)object) : NULL; }
void *json_next(const struct json *object, void *it) { return it == NULL ? NULL : json_object_iter_next((json_t *)object, it); }
const char *json_key(void *it) { return json_object_iter_key(it); }
const struct json *json_value(void *it) { return (const struct json *)json_object_iter_value(it); }

/* Length of the valid UTF-8 sequence at s (Unicode table 3-7), 0 when there is none. */
static size_t utf8_length(const unsigned char *s, size_t n)
{
    unsigned char c = s[0], low = 0x80, high = 0xbf;
    size_t length = c < 0x80 ? 1 : c >= 0xc2 && c <= 0xdf ? 2 : (c & 0xf0) == 0xe0 ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
    if (length <= 1 || length > n)
        return length > n ? 0 : length;
    if (c == 0xe0)
        low = 0xa0;
    else if (c == 0xed)
        high = 0x9f;
    else if (c == 0xf0)
        low = 0x90;
    else if (c == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

void json_put_string(struct buf *b, const char *s, size_t n)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    buf_puts(b, "\"");
    for (size_t i = 0, length; i < n; i += length == 0 ? 1 : length) {
        unsigned char c = (unsigned char)s[i];
        const char *found = c == 0 ? NULL : strchr(escaped, c);
        length = utf8_length((const unsigned char *)s + i, n - i);
        if (found != NULL)
            buf_add(b, (char[]){'\\', letter[found - escaped]}, 2);
        else if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else if (length == 0)
            buf_puts(b, "\xef\xbf\xbd");
        else
            buf_add(b, s + i, length);
    }
    buf_puts(b, "\"");
}

void json_put_f64(struct buf *b, double v)
{
    char text[40];
    if (!isfinite(v)) {
        buf_puts(b, "null");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    buf_puts(b, text);
}
