/* buf.h - a growing byte buffer, always NUL-terminated behind its last byte. A failed growth is remembered (`failed`) and later
 * appends do nothing, so that a writer checks once at the end. */
#ifndef LORAT_BUF_H
#define LORAT_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* owned; may be NULL while n == 0 */
    size_t n, cap;
    bool failed;
};
void buf_free(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
void buf_add(struct buf *b, const void *bytes, size_t n);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
