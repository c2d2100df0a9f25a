/* nfc.h - UTF-8 checked and normalized. utf8proc is behind it, in nfc.c only. */
#ifndef LORAT_NFC_H
#define LORAT_NFC_H

#include <stddef.h>

#include "trainer/base/buf.h"
#include "trainer/base/err.h"

/* The length of the well-formed UTF-8 at the start of text (no surrogates, no overlong forms, nothing past U+10FFFF). */
size_t utf8_valid(const char *text, size_t n);
/* Append the NFC form of well-formed text. Effort grows as n, also on runs of combining marks. */
int nfc_append(const char *text, size_t n, struct buf *out, struct err *e);

#endif
