#include "datasets/nfc.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <utf8proc.h>

#include "trainer/base/mem.h"

size_t utf8_valid(const char *text, size_t n)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t i = 0;
    while (i < n) {
        unsigned c = s[i];
        if (c < 0x80) {
            i++;
            continue;
        }
        int more = c >= 0xc2 && c < 0xe0 ? 1 : c >= 0xe0 && c < 0xf0 ? 2 : c >= 0xf0 && c < 0xf5 ? 3 : 0;
        if (more == 0 || n - i <= (size_t)more)
            return i;
        unsigned low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80, high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
        if (s[i + 1] < low || s[i + 1] > high)
            return i;
        for (int k = 2; k <= more; k++)
            if ((s[i + (size_t)k] & 0xc0) != 0x80)
                return i;
        i += (size_t)more + 1;
    }
    return n;
}

static int combining_class(int32_t c) { return utf8proc_get_property(c)->combining_class; }

/* Stable order by combining class within every run of marks: a counting sort, since a run may be as long as the text. */
static void order_marks(int32_t *c, size_t n, int32_t *scratch)
{
    for (size_t i = 0; i < n;) {
        int class = combining_class(c[i]);
        if (class == 0) {
            i++;
            continue;
        }
        size_t end = i + 1;
        bool sorted = true;
        for (int next; end < n && (next = combining_class(c[end])) != 0; end++) {
            sorted = sorted && class <= next;
            class = next;
        }
        if (!sorted) {
            size_t at[256] = {0}, sum = 0;
            for (size_t k = i; k < end; k++)
                at[combining_class(c[k]) & 255]++;
            for (int k = 0; k < 256; k++) {
                size_t count = at[k];
                at[k] = sum;
                sum += count;
            }
            for (size_t k = i; k < end; k++)
                scratch[at[combining_class(c[k]) & 255]++] = c[k];
            memcpy(c + i, scratch, (end - i) * sizeof *c);
        }
        i = end;
    }
}

/* Canonical decomposition; returns the number of code points, at most `room`. */
static size_t decompose(const char *text, size_t n, int32_t *out, size_t room)
{
    size_t count = 0;
    int last = 0;
    for (size_t i = 0; i < n;) {
        int32_t c;
        ssize_t used = utf8proc_iterate((const uint8_t *)text + i, (ssize_t)(n - i), &c);
        if (used <= 0)
            break;
        i += (size_t)used;
        ssize_t made =
            utf8proc_decompose_char(c, out + count, (ssize_t)(room - count), UTF8PROC_STABLE | UTF8PROC_COMPOSE, &last);
        if (made <= 0) { /* cannot happen: a character never decomposes into more than `room` allows */
            out[count] = c;
            made = 1;
        }
        count += (size_t)made;
    }
    return count;
}

/* First bytes of characters below U+0300: NFC leaves these alone unless marks follow, and they never join what is before them. */
static bool plain_start(char byte)
{
    unsigned char c = (unsigned char)byte;
    return c < 0x80 || (c >= 0xc2 && c < 0xcc);
}

static int nfc_part(const char *text, size_t n, struct buf *out, struct err *e)
{
    size_t room = n * 2 + 8; /* a canonical decomposition never has more than 2 code points per byte of UTF-8 */
    int32_t *points = mem_alloc(room, sizeof *points), *scratch = mem_alloc(room, sizeof *scratch);
    int rc = 0;
    if (points == NULL || scratch == NULL) {
        rc = mem_fail(e, "normalized text", room * sizeof *points);
    } else {
        size_t count = decompose(text, n, points, room);
        order_marks(points, count, scratch);
        ssize_t composed = utf8proc_normalize_utf32(points, (ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        for (ssize_t i = 0; i < composed; i++) {
            uint8_t utf8[4];
            ssize_t k = utf8proc_encode_char(points[i], utf8);
            buf_add(out, utf8, k > 0 ? (size_t)k : 0);
        }
    }
    mem_free(points);
    mem_free(scratch);
    return rc;
}

int nfc_append(const char *text, size_t n, struct buf *out, struct err *e)
{
    for (size_t at = 0; at < n;) {
        size_t end = at;
        while (end < n && (unsigned char)text[end] < 0xcc)
            end++;
        if (end < n) /* the last plain character may compose with what follows */
            while (end > at && !plain_start(text[--end]))
                continue;
        if (end > at) {
            buf_add(out, text + at, end - at);
            at = end;
            continue;
        }
        end = n - at > 65536 ? at + 65536 : n;
        while (end < n && !plain_start(text[end]))
            end++;
        TRY(nfc_part(text + at, end - at, out, e));
        at = end;
    }
    return out->failed ? mem_fail(e, "normalized text", n) : 0;
}
