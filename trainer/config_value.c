#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/nearest.h"
#include "trainer/base/num.h"
#include "trainer/config_table.h"

enum { SHOWN = 60, N_TARGETS = CONFIG_MAX_TARGETS, ALL_TARGETS = (1 << CONFIG_MAX_TARGETS) - 1, ATTENTION_TARGETS = 0x0f };
static const char *const target_names[N_TARGETS] = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
static const char *const target_groups[] = {"all-linear", "attention", "mlp"};
static const uint32_t group_bits[] = {ALL_TARGETS, ATTENTION_TARGETS, ALL_TARGETS & ~ATTENTION_TARGETS};

const char *config_target_name(int bit) { return bit >= 0 && bit < N_TARGETS ? target_names[bit] : NULL; }

/* The shortest text that reads back to the same double. Always with a point before an exponent: YAML 1.1 readers take 1e-08 for a
 * text. */
static const char *format_number(double v, char text[32])
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 32, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    char *exponent = strchr(text, 'e');
    if (exponent != NULL && fabs(v) >= 1 && fabs(v) < 9007199254740992.0 && v == floor(v)) {
        snprintf(text, 32, "%.0f", v);
    } else if (exponent != NULL && strchr(text, '.') == NULL) {
        memmove(exponent + 2, exponent, strlen(exponent) + 1);
        memcpy(exponent, ".0", 2);
    }
    return text;
}

/* ---- messages ---- */

static bool is_null(const struct yaml_item *item)
{
    return item->kind == YAML_IS_SCALAR && !item->quoted &&
           (item->text[0] == '\0' || strcmp(item->text, "~") == 0 || strcasecmp(item->text, "null") == 0);
}

/* What stands in the file, for a message: cut short, control characters shown as '?'. */
static const char *found(const struct yaml_item *item, char out[SHOWN + 16])
{
    if (item->kind != YAML_IS_SCALAR) {
        snprintf(out, SHOWN + 16, "%s", item->kind == YAML_IS_LIST ? "a list" : "a mapping");
    } else if (is_null(item)) {
        snprintf(out, SHOWN + 16, "%s", item->text[0] == '\0' ? "nothing" : "null");
    } else {
        size_t n = strlen(item->text), cut = n > SHOWN ? SHOWN : n;
        while (cut < n && cut > 0 && ((unsigned char)item->text[cut] & 0xc0) == 0x80)
            cut--;
        snprintf(out, SHOWN + 16, "\"%.*s%s\"", (int)cut, item->text, cut < n ? "..." : "");
        for (char *p = out; *p != '\0'; p++)
            if ((unsigned char)*p < 0x20)
                *p = '?';
    }
    return out;
}

static void add_words(const char *const *words, struct buf *out)
{
    for (int i = 0; words[i] != NULL; i++)
        buf_printf(out, "%s%s", i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ", words[i]);
}

void config_expected(const struct config_key *key, struct buf *out)
{
    char low[32], high[32];
    format_number(key->min, low);
    format_number(key->max, high);
    switch (key->type) {
    case TYPE_TEXT:
        buf_printf(out, "text of 1 to %zu bytes", key->size - 1);
        break;
    case TYPE_NAME:
        buf_printf(out, "1 to %zu letters, digits, '.', '_' or '-', a letter or digit first", key->size - 1);
        break;
    case TYPE_WORD:
    case TYPE_CHOICE:
        add_words(key->choices, out);
        break;
    case TYPE_BOOL:
        buf_puts(out, "true or false");
        break;
    case TYPE_INT32:
    case TYPE_INT64:
        buf_printf(out, "a whole number between %s and %s", low, high);
        break;
    case TYPE_NUMBER:
        buf_printf(out, "a number between %s and %s", low, high);
        break;
    case TYPE_BYTES:
        buf_puts(out, "a size such as 22GiB, from 1MiB to 1024TiB");
        break;
    case TYPE_EVERY:
        buf_puts(out, "a number of steps, or a time such as 30s, 10min or 1h");
        break;
    case TYPE_TARGETS:
        buf_puts(out,
                 "all-linear, attention, mlp, or a list of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj");
        break;
    case TYPE_CARDS:
        buf_printf(out, "a list of different cards, each 0 to %d, such as [1]", CONFIG_MAX_CARDS - 1);
        break;
    case TYPE_PROMPTS:
        buf_printf(out, "a list of at most %d texts of 1 to %d bytes", CONFIG_MAX_PROMPTS, CONFIG_TEXT - 1);
        break;
    }
    if (key->zero != NULL)
        buf_printf(out, ", or %s", key->zero);
}

/* "found X, expected Y[, advice]" */
static int fail(const struct config_key *key, const struct yaml_item *item, const char *advice, struct err *e)
{
    char text[SHOWN + 16];
    struct buf expected = {0};
    config_expected(key, &expected);
    err_set(e, ERR_CONFIG, "found %s, expected %s.%s%s", found(item, text), expected.n > 0 ? expected.data : "another value",
            advice[0] != '\0' ? " " : "", advice);
    buf_free(&expected);
    return -1;
}

/* ---- reading ---- */

/* Plain text that YAML itself reads as something else than text. */
static const char *other_type(const char *text)
{
    static const char *const bools[] = {"true", "false", "yes", "no", "on", "off"};
    double number;
    for (size_t i = 0; i < sizeof bools / sizeof bools[0]; i++)
        if (strcasecmp(text, bools[i]) == 0)
            return "a true-or-false value";
    return num_parse_f64(text, &number) ? "a number" : NULL;
}

static int read_text(const struct config_key *key, const struct yaml_item *item, char *out, size_t size, struct err *e)
{
    const char *other;
    if (item->kind != YAML_IS_SCALAR || is_null(item))
        return fail(key, item, "", e);
    if (!item->quoted && (other = other_type(item->text)) != NULL) {
        char advice[96];
        snprintf(advice, sizeof advice, "Without quotes it is %s: put it in quotes if you mean the text.", other);
        return fail(key, item, advice, e);
    }
    size_t n = strlen(item->text);
    if (n == 0 || n >= size)
        return fail(key, item, "", e);
    memcpy(out, item->text, n);
    return 0;
}

static int read_name(const struct config_key *key, const struct yaml_item *item, char *out, struct err *e)
{
    TRY(read_text(key, item, out, key->size, e));
    for (const char *p = out; *p != '\0'; p++) {
        bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');
        if (!plain && (p == out || strchr("._-", *p) == NULL))
            return fail(key, item, "It becomes the folder runs/<name>/.", e);
    }
    return 0;
}

static int read_choice(const struct config_key *key, const struct yaml_item *item, int *index, struct err *e)
{
    size_t n = 0;
    char advice[64] = "";
    while (key->choices[n] != NULL)
        n++;
    if (item->kind == YAML_IS_SCALAR && !is_null(item)) {
        for (*index = 0; *index < (int)n; ++*index)
            if (strcmp(item->text, key->choices[*index]) == 0)
                return 0;
        const char *near = nearest_word(item->text, key->choices, n);
        if (near != NULL)
            snprintf(advice, sizeof advice, "Did you mean %s?", near);
    }
    return fail(key, item, advice, e);
}

static int read_bool(const struct config_key *key, const struct yaml_item *item, bool *out, struct err *e)
{
    if (item->kind != YAML_IS_SCALAR || is_null(item))
        return fail(key, item, "", e);
    if (item->quoted)
        return fail(key, item, "Remove the quotes.", e);
    bool yes = strcmp(item->text, "true") == 0;
    if (!yes && strcmp(item->text, "false") != 0) {
        bool like_true = strcasecmp(item->text, "yes") == 0 || strcasecmp(item->text, "on") == 0 ||
                         strcasecmp(item->text, "y") == 0 || strcasecmp(item->text, "true") == 0;
        bool like_false = strcasecmp(item->text, "no") == 0 || strcasecmp(item->text, "off") == 0 ||
                          strcasecmp(item->text, "n") == 0 || strcasecmp(item->text, "false") == 0;
        return fail(key, item,
                    like_true    ? "YAML versions read this word differently: write true."
                    : like_false ? "YAML versions read this word differently: write false."
                                 : "",
                    e);
    }
    *out = yes;
    return 0;
}

/* The text of a plain number; leading zeros are refused because YAML 1.1 reads them as octal. */
static int number_text(const struct config_key *key, const struct yaml_item *item, const char **out, struct err *e)
{
    if (item->kind != YAML_IS_SCALAR || is_null(item))
        return fail(key, item, "", e);
    double number;
    if (item->quoted)
        return fail(key, item, num_parse_f64(item->text, &number) ? "Remove the quotes." : "", e);
    const char *digits = item->text + (item->text[0] == '-' || item->text[0] == '+');
    if (digits[0] == '0' && isdigit((unsigned char)digits[1]))
        return fail(key, item, "Remove the leading zero: some readers take it for an octal number.", e);
    if (strchr(item->text, '_') != NULL)
        return fail(key, item, "Remove the underscores.", e);
    *out = item->text;
    return 0;
}

static int read_int(const struct config_key *key, const struct yaml_item *item, int64_t *out, struct err *e)
{
    const char *text;
    TRY(number_text(key, item, &text, e));
    if (!num_parse_i64(text, out) || !((double)*out >= key->min && (double)*out <= key->max))
        return fail(key, item, "", e);
    return 0;
}

static int read_number(const struct config_key *key, const struct yaml_item *item, double *out, struct err *e)
{
    const char *text;
    TRY(number_text(key, item, &text, e));
    if (!num_parse_f64(text, out) || !(*out >= key->min && *out <= key->max))
        return fail(key, item, "", e);
    if (*out == 0)
        *out = 0; /* -0.0 */
    return 0;
}

static int read_bytes(const struct config_key *key, const struct yaml_item *item, int64_t *out, struct err *e)
{
    if (item->kind != YAML_IS_SCALAR || is_null(item) || !num_parse_bytes(item->text, out) ||
        !((double)*out >= key->min && (double)*out <= key->max))
        return fail(key, item, "", e);
    return 0;
}

static int read_every(const struct config_key *key, const struct yaml_item *item, struct cfg_every *out, struct err *e)
{
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"s", 1}, {"min", 60}, {"h", 3600}};
    const char *text;
    char number[32];
    TRY(number_text(key, item, &text, e));
    if (num_parse_i64(text, &out->steps)) {
        if (out->steps >= 1 && out->steps <= 1000000000)
            return 0;
        return fail(key, item, out->steps == 0 ? "Write null for never." : "", e);
    }
    size_t n = strspn(text, "0123456789.");
    if (n > 0 && n < sizeof number) {
        memcpy(number, text, n);
        number[n] = '\0';
        for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
            if (strcmp(text + n, units[i].unit) == 0 && num_parse_f64(number, &out->seconds)) {
                out->seconds *= units[i].seconds;
                if (out->seconds >= 1 && out->seconds <= 1e8)
                    return 0;
            }
    }
    return fail(key, item, strcmp(text + n, "m") == 0 ? "For minutes write min." : "", e);
}

static uint32_t target_bit(const char *text)
{
    for (int i = 0; i < N_TARGETS; i++) {
        size_t stem = strlen(target_names[i]) - strlen("_proj");
        if (strcmp(text, target_names[i]) == 0 || (strlen(text) == stem && strncmp(text, target_names[i], stem) == 0))
            return UINT32_C(1) << i;
    }
    return 0;
}

static int read_targets(const struct config_key *key, const struct yaml_item *item, uint32_t *out, const struct yaml_item **at,
                        struct err *e)
{
    if (item->kind == YAML_IS_SCALAR) {
        for (size_t i = 0; i < sizeof group_bits / sizeof group_bits[0]; i++)
            if (strcmp(item->text, target_groups[i]) == 0) {
                *out = group_bits[i];
                return 0;
            }
        char advice[96] = "";
        const char *near = nearest_word(item->text, target_groups, 3);
        if (target_bit(item->text) != 0)
            snprintf(advice, sizeof advice, "For one module write a list: [%s].", item->text);
        else if (near != NULL)
            snprintf(advice, sizeof advice, "Did you mean %s?", near);
        return fail(key, item, advice, e);
    }
    if (item->kind == YAML_IS_MAP || item->first == NULL)
        return fail(key, item, item->kind == YAML_IS_LIST ? "The list is empty." : "", e);
    for (const struct yaml_item *it = item->first; it != NULL; it = it->next) {
        *at = it;
        uint32_t bit = it->kind == YAML_IS_SCALAR ? target_bit(it->text) : 0;
        const char *near = it->kind == YAML_IS_SCALAR ? nearest_word(it->text, target_names, N_TARGETS) : NULL;
        char advice[96] = "";
        if (bit == 0 && near != NULL)
            snprintf(advice, sizeof advice, "Did you mean %s?", near);
        if (bit == 0)
            return fail(key, it, advice, e);
        if (*out & bit)
            return fail(key, it, "It stands twice in the list.", e);
        *out |= bit;
    }
    return 0;
}

static int read_cards(const struct config_key *key, const struct yaml_item *item, uint32_t *out, const struct yaml_item **at,
                      struct err *e)
{
    int64_t card;
    if (item->kind != YAML_IS_LIST || item->first == NULL) {
        bool one = item->kind == YAML_IS_SCALAR && num_parse_i64(item->text, &card);
        return fail(key, item, one ? "For one card write a list, as in [1]." : item->kind == YAML_IS_LIST ? "The list is empty." : "", e);
    }
    for (const struct yaml_item *it = item->first; it != NULL; it = it->next) {
        const char *text;
        *at = it;
        TRY(number_text(key, it, &text, e));
        if (!num_parse_i64(text, &card) || card < 0 || card >= CONFIG_MAX_CARDS)
            return fail(key, it, "", e);
        if (*out >> card & 1)
            return fail(key, it, "It stands twice in the list.", e);
        *out |= UINT32_C(1) << card;
    }
    return 0;
}

static int read_prompts(const struct config_key *key, const struct yaml_item *item, struct config *out,
                        const struct yaml_item **at, struct err *e)
{
    if (item->kind != YAML_IS_LIST)
        return fail(key, item, item->kind == YAML_IS_SCALAR && !is_null(item) ? "For one prompt write a list: [\"...\"]." : "",
                    e);
    out->eval.n_prompts = 0;
    for (const struct yaml_item *it = item->first; it != NULL; it = it->next) {
        if (out->eval.n_prompts == CONFIG_MAX_PROMPTS)
            return fail(key, item, "The list is longer.", e);
        *at = it;
        TRY(read_text(key, it, out->eval.prompts[out->eval.n_prompts], CONFIG_TEXT, e));
        out->eval.n_prompts++;
    }
    return 0;
}

int config_value_read(const struct config_key *key, const struct yaml_item *item, struct config *out, const struct yaml_item **at,
                      struct err *e)
{
    *at = item;
    void *field = (char *)out + key->offset;
    int64_t whole = 0;
    int index = 0;
    memset(field, 0, key->size);
    if (key->zero != NULL &&
        (strcmp(key->zero, "null") == 0 ? is_null(item)
                                        : item->kind == YAML_IS_SCALAR && !item->quoted && strcmp(item->text, key->zero) == 0))
        return 0;
    switch (key->type) {
    case TYPE_TEXT:
        return read_text(key, item, field, key->size, e);
    case TYPE_NAME:
        return read_name(key, item, field, e);
    case TYPE_WORD:
        TRY(read_choice(key, item, &index, e));
        memcpy(field, key->choices[index], strlen(key->choices[index]));
        return 0;
    case TYPE_CHOICE:
        TRY(read_choice(key, item, &index, e));
        memcpy(field, &index, sizeof index);
        return 0;
    case TYPE_BOOL:
        return read_bool(key, item, field, e);
    case TYPE_INT32:
        TRY(read_int(key, item, &whole, e));
        *(int32_t *)field = (int32_t)whole;
        return 0;
    case TYPE_INT64:
        return read_int(key, item, field, e);
    case TYPE_NUMBER:
        return read_number(key, item, field, e);
    case TYPE_BYTES:
        return read_bytes(key, item, field, e);
    case TYPE_EVERY:
        return read_every(key, item, field, e);
    case TYPE_TARGETS:
        return read_targets(key, item, field, at, e);
    case TYPE_CARDS:
        return read_cards(key, item, field, at, e);
    case TYPE_PROMPTS:
        return read_prompts(key, item, out, at, e);
    }
    FAIL(e, ERR_INTERNAL, "%s: a key of unknown type", key->name);
}

/* ---- writing ---- */

static void write_quoted(const char *text, struct buf *out)
{
    buf_puts(out, "\"");
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            buf_printf(out, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            buf_printf(out, "\\x%02x", *p);
        else if (p[0] == 0xc2 && (p[1] & 0xe0) == 0x80) /* U+0080..U+009F */
            buf_printf(out, "\\x%02x", *++p);
        else if (p[0] == 0xe2 && p[1] == 0x80 && (p[2] == 0xa8 || p[2] == 0xa9)) { /* U+2028, U+2029: line breaks to YAML */
            buf_printf(out, "\\u20%02x", p[2] - 0x80);
            p += 2;
        } else if (p[0] == 0xef && p[1] == 0xbb && p[2] == 0xbf) {
            buf_puts(out, "\\ufeff");
            p += 2;
        } else if (p[0] == 0xef && p[1] == 0xbf && p[2] >= 0xbe) { /* U+FFFE, U+FFFF */
            buf_printf(out, "\\uff%02x", p[2] + 0x40);
            p += 2;
        } else
            buf_add(out, p, 1);
    }
    buf_puts(out, "\"");
}

static void write_bytes(int64_t bytes, struct buf *out)
{
    static const char *const units[] = {"TiB", "GiB", "MiB", "KiB"};
    for (int i = 0, shift = 40; i < 4; i++, shift -= 10)
        if (bytes % (INT64_C(1) << shift) == 0) {
            buf_printf(out, "%lld%s", (long long)(bytes >> shift), units[i]);
            return;
        }
    buf_printf(out, "%lld", (long long)bytes);
}

static void write_every(const struct cfg_every *every, struct buf *out)
{
    char text[32];
    double s = every->seconds;
    if (every->steps > 0)
        buf_printf(out, "%lld", (long long)every->steps);
    else if (fmod(s, 3600) == 0)
        buf_printf(out, "%.0fh", s / 3600);
    else if (fmod(s, 60) == 0)
        buf_printf(out, "%.0fmin", s / 60);
    else
        buf_printf(out, "%ss", format_number(s, text));
}

static void write_targets(uint32_t targets, struct buf *out)
{
    for (size_t i = 0; i < sizeof group_bits / sizeof group_bits[0]; i++)
        if (targets == group_bits[i]) {
            buf_puts(out, target_groups[i]);
            return;
        }
    const char *comma = "[";
    for (int i = 0; i < N_TARGETS; i++)
        if (targets >> i & 1) {
            buf_printf(out, "%s%s", comma, target_names[i]);
            comma = ", ";
        }
    buf_puts(out, "]");
}

static void write_cards(uint32_t cards, struct buf *out)
{
    const char *comma = "[";
    for (int i = 0; i < CONFIG_MAX_CARDS; i++)
        if (cards >> i & 1) {
            buf_printf(out, "%s%d", comma, i);
            comma = ", ";
        }
    buf_puts(out, "]");
}

static bool is_zero(const struct config_key *key, const void *field)
{
    const char *p = field;
    if (key->type == TYPE_TEXT)
        return p[0] == '\0';
    for (size_t i = 0; i < key->size; i++)
        if (p[i] != 0)
            return false;
    return true;
}

void config_value_write(const struct config_key *key, const struct config *c, struct buf *out)
{
    const void *field = (const char *)c + key->offset;
    char text[32];
    int index;
    if (key->zero != NULL && is_zero(key, field)) {
        buf_puts(out, key->zero);
        return;
    }
    switch (key->type) {
    case TYPE_TEXT:
    case TYPE_NAME:
        write_quoted(field, out);
        break;
    case TYPE_WORD:
        buf_puts(out, field);
        break;
    case TYPE_CHOICE:
        memcpy(&index, field, sizeof index);
        buf_puts(out, key->choices[index]);
        break;
    case TYPE_BOOL:
        buf_puts(out, *(const bool *)field ? "true" : "false");
        break;
    case TYPE_INT32:
        buf_printf(out, "%d", *(const int32_t *)field);
        break;
    case TYPE_INT64:
        buf_printf(out, "%lld", (long long)*(const int64_t *)field);
        break;
    case TYPE_NUMBER:
        buf_puts(out, format_number(*(const double *)field, text));
        break;
    case TYPE_BYTES:
        write_bytes(*(const int64_t *)field, out);
        break;
    case TYPE_EVERY:
        write_every(field, out);
        break;
    case TYPE_TARGETS:
        write_targets(*(const uint32_t *)field, out);
        break;
    case TYPE_CARDS:
        write_cards(*(const uint32_t *)field, out);
        break;
    case TYPE_PROMPTS:
        buf_puts(out, "[");
        for (int i = 0; i < c->eval.n_prompts; i++) {
            buf_puts(out, i > 0 ? ", " : "");
            write_quoted(c->eval.prompts[i], out);
        }
        buf_puts(out, "]");
        break;
    }
}
