#include "trainer/base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static int fill(struct err *e, enum err_code code, const char *format, va_list args)
{
    if (e == NULL)
        return -1;
    e->code = code;
    vsnprintf(e->text, sizeof e->text, format, args);
    return -1;
}

int err_set(struct err *e, enum err_code code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(e, code, format, args);
    va_end(args);
    return -1;
}

int err_errno(struct err *e, enum err_code code, int saved_errno, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fill(e, code, format, args);
    va_end(args);
    if (e == NULL)
        return -1;
    size_t n = strlen(e->text);
    const char *advice = saved_errno == ENOSPC || saved_errno == EDQUOT ? ". The disk is full: free some space" : "";
    snprintf(e->text + n, sizeof e->text - n, ": %s%s", strerror(saved_errno), advice);
    return -1;
}

int err_prefix(struct err *e, const char *format, ...)
{
    if (e == NULL)
        return -1;
    char was[sizeof e->text];
    memcpy(was, e->text, sizeof was);
    va_list args;
    va_start(args, format);
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    size_t n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ": %s", was);
    return -1;
}

const char *err_meaning(enum err_code code)
{
    switch (code) {
#define X(name, number, text) \
    case name:                \
        return text;
        ERR_LIST(X)
#undef X
    }
    return "unknown";
}
