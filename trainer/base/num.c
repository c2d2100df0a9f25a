#include "trainer/base/num.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

bool num_parse_i64(const char *text, int64_t *out)
{
    const char *digits = text + (*text == '-' || *text == '+'), *end = skip_digits(digits);
    if (end == digits || *end != '\0')
        return false;
    errno = 0;
    long long v = strtoll(text, NULL, 10);
    if (errno != 0)
        return false;
    *out = v;
    return true;
}

/* The end of the decimal number (digits, fraction, exponent) at p, or NULL. */
static const char *decimal_end(const char *p)
{
    p += *p == '-' || *p == '+';
    const char *whole = p;
    p = skip_digits(p);
    size_t n_digits = (size_t)(p - whole);
    if (*p == '.') {
        const char *fraction = ++p;
        p = skip_digits(p);
        n_digits += (size_t)(p - fraction);
    }
    if (n_digits == 0)
        return NULL;
    if (*p == 'e' || *p == 'E') {
        const char *exponent = p + 1 + (p[1] == '-' || p[1] == '+');
        p = skip_digits(exponent);
        if (p == exponent)
            return NULL;
    }
    return p;
}

bool num_parse_f64(const char *text, double *out)
{
    const char *end = decimal_end(text);
    if (end == NULL || *end != '\0')
        return false;
    double v = strtod(text, NULL);
    if (!isfinite(v))
        return false;
    *out = v;
    return true;
}

bool num_parse_bytes(const char *text, int64_t *out)
{
    static const struct {
        const char *name;
        int64_t bytes;
    } units[] = {
        {"", 1},
        {"B", 1},
        {"kB", 1000},
        {"MB", 1000000},
        {"GB", 1000000000},
        {"TB", 1000000000000},
        {"KiB", INT64_C(1) << 10},
        {"MiB", INT64_C(1) << 20},
        {"GiB", INT64_C(1) << 30},
        {"TiB", INT64_C(1) << 40},
    };
    char number[40];
    size_t n = strspn(text, "0123456789."), n_whole = strspn(text, "0123456789");
    if (n == 0 || n >= sizeof number)
        return false;
    memcpy(number, text, n);
    number[n] = '\0';
    text += n;
    if (*text == ' ')
        text++;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        int64_t whole, product;
        double v;
        if (strcasecmp(text, units[i].name) != 0)
            continue;
        if (n == n_whole) {
            if (!num_parse_i64(number, &whole) || __builtin_mul_overflow(whole, units[i].bytes, &product))
                return false;
            *out = product;
            return true;
        }
        if (!num_parse_f64(number, &v) || !(v * (double)units[i].bytes < 0x1p63))
            return false;
        *out = (int64_t)(v * (double)units[i].bytes);
        return true;
    }
    return false;
}

const char *num_format_bytes(char buf[32], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    size_t unit = 0;
    /* 1023.95 would print as 1024.0 of the smaller unit. */
    while (v >= 1023.95 && unit + 1 < sizeof units / sizeof *units) {
        v /= 1024;
        unit++;
    }
    snprintf(buf, 32, unit == 0 ? "%.0f %s" : "%.1f %s", v, units[unit]);
    return buf;
}
