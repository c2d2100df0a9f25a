#include "datasets/tokenizer.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "datasets/tokenizer_parts.h"
#include "trainer/base/mem.h"

/* ---- the byte alphabet of GPT-2: printable Latin-1 stands for itself, the other 68 bytes for U+0100 and up, in order ---- */

static int alphabet_code(int byte)
{
    if ((byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174)
        return byte;
    if (byte <= 32)
        return 256 + byte;
    return byte <= 160 ? 256 + 33 + (byte - 127) : 256 + 67; /* 127..160, then 173 */
}

static int alphabet_byte(int code)
{
    if (code < 256)
        return alphabet_code(code) == code ? code : -1;
    code -= 256;
    return code <= 32 ? code : code <= 66 ? code - 33 + 127 : code == 67 ? 173 : -1;
}

size_t alphabet_put(uint8_t byte, char out[2])
{
    int code = alphabet_code(byte);
    if (code < 128) {
        out[0] = (char)code;
        return 1;
    }
    out[0] = (char)(0xc0 | code >> 6);
    out[1] = (char)(0x80 | (code & 63));
    return 2;
}

int64_t alphabet_bytes(const char *text, size_t n, char *out)
{
    size_t made = 0;
    for (size_t i = 0; i < n; i++) {
        int code = (unsigned char)text[i];
        if (code >= 0xc2 && code <= 0xc5 && i + 1 < n && ((unsigned char)text[i + 1] & 0xc0) == 0x80)
            code = (code & 31) << 6 | ((unsigned char)text[++i] & 63);
        else if (code >= 128)
            return -1;
        int byte = alphabet_byte(code);
        if (byte < 0)
            return -1;
        out[made++] = (char)byte;
    }
    return (int64_t)made;
}

const char *tokenizer_quote(const char *text, size_t n, char buf[96])
{
    size_t at = 0;
    buf[at++] = '\'';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        if (at > 80 && ((c & 0xc0) != 0x80 || at > 86)) { /* not inside a character */
            at += (size_t)sprintf(buf + at, "...");
            break;
        }
        if (c < 32 || c == 127)
            at += (size_t)sprintf(buf + at, "\\x%02x", c);
        else
            buf[at++] = (char)c;
    }
    buf[at++] = '\'';
    buf[at] = 0;
    return buf;
}

/* ---- building ---- */

struct tokenizer *tokenizer_begin(size_t n_ids, struct err *e)
{
    struct tokenizer *t = mem_alloc(1, sizeof *t);
    if (t != NULL) {
        t->room = n_ids;
        t->tokens = mem_alloc(n_ids ? n_ids : 1, sizeof *t->tokens);
    }
    if (t == NULL || t->tokens == NULL) {
        tokenizer_close(t);
        mem_fail(e, "a tokenizer", n_ids * sizeof *t->tokens);
        return NULL;
    }
    memset(t->byte_id, -1, sizeof t->byte_id);
    return t;
}

void tokenizer_close(struct tokenizer *t)
{
    if (t == NULL)
        return;
    pretokenizer_close(t->split);
    mem_free(t->tokens);
    mem_free(t->bytes);
    mem_free(t->merges);
    mem_free(t->text_slots);
    mem_free(t->pair_slots);
    mem_free(t->added[0].ids);
    mem_free(t->added[1].ids);
    mem_free(t);
}

static char *bytes_reserve(struct tokenizer *t, size_t n)
{
    if (t->cap_bytes - t->n_bytes < n) {
        size_t cap = t->cap_bytes + t->cap_bytes / 2 + n + 65536;
        char *bytes = mem_realloc(t->bytes, cap, 1);
        if (bytes == NULL)
            return NULL;
        t->bytes = bytes;
        t->cap_bytes = cap;
    }
    return t->bytes + t->n_bytes;
}

int tokenizer_add(struct tokenizer *t, int64_t id, const char *text, size_t n, enum token_kind kind, bool normalized,
                  const char *where, struct err *e)
{
    char quoted[96];
    if (id < 0 || (uint64_t)id >= t->room)
        return err_set(e, ERR_MODEL, "%s: token %s has the id %lld, expected 0 to %lld", where, tokenizer_quote(text, n, quoted),
                       (long long)id, (long long)t->room - 1);
    struct token *k = &t->tokens[id];
    if (k->kind != TOKEN_ABSENT)
        return err_set(e, ERR_MODEL, "%s: two tokens have the id %lld, expected one", where, (long long)id);
    if (n == 0 || n > UINT32_MAX / 4)
        return err_set(e, ERR_MODEL, "%s: token %lld has %zu bytes, expected at least one", where, (long long)id, n);
    char *at = bytes_reserve(t, n);
    if (at == NULL)
        return mem_fail(e, "token texts", n);
    int64_t made = kind == TOKEN_NORMAL ? alphabet_bytes(text, n, at) : -1;
    if (made < 0) {
        memcpy(at, text, n);
        made = (int64_t)n;
        kind = kind == TOKEN_NORMAL ? TOKEN_RAW : kind;
    }
    *k = (struct token){.at = t->n_bytes, .n = (uint32_t)made, .kind = (uint8_t)kind, .normalized = normalized};
    t->n_bytes += (size_t)made;
    if (id >= t->size)
        t->size = (int32_t)id + 1;
    return 0;
}

static uint32_t hash_text(const char *s, size_t n)
{
    uint64_t h = 0xcbf29ce484222325u ^ n; /* FNV-1a, then mixed so that low bits serve as a slot */
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return (uint32_t)(h ^ h >> 32);
}

static uint32_t hash_pair(int32_t left, int32_t right)
{
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32) ^ (uint32_t)(h >> 15);
}

/* Slots for n entries, at most half full. */
static int slots_new(size_t n, uint32_t **slots, uint32_t *mask, struct err *e)
{
    size_t size = 16;
    while (size < n * 2)
        size *= 2;
    *slots = mem_alloc(size, sizeof **slots);
    if (*slots == NULL)
        return mem_fail(e, "a token table", size * sizeof **slots);
    *mask = (uint32_t)(size - 1);
    return 0;
}

int32_t tokenizer_lookup(const struct tokenizer *t, const char *bytes, size_t n)
{
    for (uint32_t i = hash_text(bytes, n) & t->text_mask; t->text_slots[i]; i = (i + 1) & t->text_mask) {
        const struct token *k = &t->tokens[t->text_slots[i] - 1];
        if (k->n == n && memcmp(t->bytes + k->at, bytes, n) == 0)
            return (int32_t)t->text_slots[i] - 1;
    }
    return -1;
}

int64_t tokenizer_rank(const struct tokenizer *t, int32_t left, int32_t right)
{
    for (uint32_t i = hash_pair(left, right) & t->pair_mask; t->pair_slots[i]; i = (i + 1) & t->pair_mask) {
        const struct merge *m = &t->merges[t->pair_slots[i] - 1];
        if (m->left == left && m->right == right)
            return (int64_t)t->pair_slots[i] - 1;
    }
    return -1;
}

/* qsort has no argument of ours: the texts travel beside the ids. */
struct sortable {
    const char *text;
    size_t n;
    int32_t id;
};
static int by_text(const void *a, const void *b)
{
    const struct sortable *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->n < y->n ? x->n : y->n);
    return order ? order : x->n < y->n ? -1 : x->n > y->n;
}

static int index_added(struct tokenizer *t, bool normalized, const char *where, struct err *e)
{
    struct added *a = &t->added[normalized];
    size_t n = 0;
    for (int32_t i = 0; i < t->size; i++)
        n += t->tokens[i].kind >= TOKEN_ADDED && t->tokens[i].normalized == normalized;
    struct sortable *list = mem_alloc(n + 1, sizeof *list);
    a->ids = mem_alloc(n + 1, sizeof *a->ids);
    if (list == NULL || a->ids == NULL) {
        mem_free(list);
        return mem_fail(e, "added tokens", n * sizeof *list);
    }
    for (int32_t i = 0; i < t->size; i++)
        if (t->tokens[i].kind >= TOKEN_ADDED && t->tokens[i].normalized == normalized)
            list[a->n++] = (struct sortable){t->bytes + t->tokens[i].at, t->tokens[i].n, i};
    qsort(list, n, sizeof *list, by_text);
    int rc = 0;
    for (size_t i = 0; i < n; i++) {
        char quoted[96];
        a->ids[i] = list[i].id;
        if (rc == 0 && i > 0 && by_text(&list[i - 1], &list[i]) == 0)
            rc = err_set(e, ERR_MODEL, "%s: the added token %s has the ids %d and %d, expected one", where,
                         tokenizer_quote(list[i].text, list[i].n, quoted), list[i - 1].id, list[i].id);
    }
    mem_free(list);
    return rc;
}

int tokenizer_index(struct tokenizer *t, size_t n_merges, const char *where, struct err *e)
{
    if (t->size == 0)
        return err_set(e, ERR_MODEL, "%s: there are no tokens, expected a vocabulary", where);
    TRY(slots_new((size_t)t->size, &t->text_slots, &t->text_mask, e));
    for (int32_t id = 0; id < t->size; id++) {
        const struct token *k = &t->tokens[id];
        if (k->kind != TOKEN_NORMAL)
            continue;
        const char *text = t->bytes + k->at;
        uint32_t i = hash_text(text, k->n) & t->text_mask;
        for (; t->text_slots[i]; i = (i + 1) & t->text_mask) {
            const struct token *other = &t->tokens[t->text_slots[i] - 1];
            char quoted[96];
            if (other->n == k->n && memcmp(t->bytes + other->at, text, k->n) == 0)
                return err_set(e, ERR_MODEL, "%s: the token %s has the ids %u and %d, expected one", where,
                               tokenizer_quote(text, k->n, quoted), t->text_slots[i] - 1, id);
        }
        t->text_slots[i] = (uint32_t)id + 1;
        if (k->n == 1)
            t->byte_id[(unsigned char)*text] = id;
    }
    TRY(index_added(t, false, where, e));
    TRY(index_added(t, true, where, e));
    t->room_merges = n_merges;
    t->merges = mem_alloc(n_merges + 1, sizeof *t->merges);
    if (t->merges == NULL)
        return mem_fail(e, "merges", n_merges * sizeof *t->merges);
    return slots_new(n_merges, &t->pair_slots, &t->pair_mask, e);
}

int tokenizer_add_merge(struct tokenizer *t, const char *left, size_t n_left, const char *right, size_t n_right,
                        const char *where, struct err *e)
{
    char q1[96], q2[96];
    if (t->n_merges == t->room_merges)
        return err_set(e, ERR_INTERNAL, "%s: more merges than announced", where);
    char *both = bytes_reserve(t, n_left + n_right + 1);
    if (both == NULL)
        return mem_fail(e, "merges", n_left + n_right);
    int64_t nl = alphabet_bytes(left, n_left, both), nr = nl < 0 ? -1 : alphabet_bytes(right, n_right, both + nl);
    struct merge m = {-1, -1, -1};
    if (nl > 0 && nr > 0) {
        m.left = tokenizer_lookup(t, both, (size_t)nl);
        m.right = tokenizer_lookup(t, both + nl, (size_t)nr);
        m.result = tokenizer_lookup(t, both, (size_t)(nl + nr));
    }
    if (m.left < 0 || m.right < 0 || m.result < 0)
        return err_set(e, ERR_MODEL, "%s: merge %zu joins %s and %s, expected both of them and the result among the tokens",
                       where, t->n_merges, tokenizer_quote(left, n_left, q1), tokenizer_quote(right, n_right, q2));
    uint32_t i = hash_pair(m.left, m.right) & t->pair_mask;
    for (; t->pair_slots[i]; i = (i + 1) & t->pair_mask) {
        const struct merge *other = &t->merges[t->pair_slots[i] - 1];
        if (other->left == m.left && other->right == m.right)
            return err_set(e, ERR_MODEL, "%s: merges %u and %zu both join %s and %s, expected each pair once", where,
                           t->pair_slots[i] - 1, t->n_merges, tokenizer_quote(left, n_left, q1),
                           tokenizer_quote(right, n_right, q2));
    }
    t->merges[t->n_merges++] = m;
    t->pair_slots[i] = (uint32_t)t->n_merges;
    return 0;
}

int tokenizer_add_merge_text(struct tokenizer *t, const char *text, size_t n, const char *where, struct err *e)
{
    const char *space = memchr(text, ' ', n);
    char quoted[96];
    size_t left = space ? (size_t)(space - text) : 0;
    if (space == NULL || memchr(space + 1, ' ', n - left - 1) != NULL)
        return err_set(e, ERR_MODEL, "%s: merge %zu is %s, expected two tokens with a space between them", where, t->n_merges,
                       tokenizer_quote(text, n, quoted));
    return tokenizer_add_merge(t, text, left, space + 1, n - left - 1, where, e);
}

static void hash_u32(struct hash *h, uint32_t v)
{
    uint8_t le[4] = {(uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16), (uint8_t)(v >> 24)};
    hash_add(h, le, sizeof le);
}

static int identity(struct tokenizer *t, struct err *e)
{
    struct hash *h = hash_new();
    if (h == NULL)
        return mem_fail(e, "a hash", 256);
    char head[128];
    int n = snprintf(head, sizeof head, "lorat tokenizer 1\n%s\n%s\n%s\n", pretokenizer_name(t->pre), t->nfc ? "nfc" : "none",
                     t->ignore_merges ? "ignore_merges" : "merges");
    hash_add(h, head, (size_t)n);
    for (int32_t id = 0; id < t->size; id++) {
        const struct token *k = &t->tokens[id];
        if (k->kind == TOKEN_ABSENT)
            continue;
        uint8_t kind = k->kind >= TOKEN_ADDED ? 1 : k->kind == TOKEN_RAW ? 2 : 0;
        hash_u32(h, (uint32_t)id);
        hash_add(h, &kind, 1);
        hash_u32(h, k->n);
        hash_add(h, t->bytes + k->at, k->n);
    }
    hash_u32(h, UINT32_MAX);
    hash_u32(h, (uint32_t)t->n_merges);
    for (size_t i = 0; i < t->n_merges; i++) {
        hash_u32(h, (uint32_t)t->merges[i].left);
        hash_u32(h, (uint32_t)t->merges[i].right);
    }
    hash_finish(h, t->hash);
    return 0;
}

int tokenizer_finish(struct tokenizer *t, enum pretokenizer_kind pre, bool nfc, bool ignore_merges, const char *where,
                     struct err *e)
{
    t->pre = pre;
    t->nfc = nfc;
    t->ignore_merges = ignore_merges;
    bool any = false;
    for (int b = 0; b < 256; b++)
        any = any || t->byte_id[b] >= 0;
    if (!any)
        return err_set(e, ERR_MODEL, "%s: not one token is a single byte, expected a byte-level vocabulary", where);
    TRY(pretokenizer_open(pre, &t->split, e));
    return identity(t, e);
}

/* ---- what others may ask ---- */

int32_t tokenizer_match_added(const struct tokenizer *t, const struct added *a, const char *text, size_t n)
{
    size_t low = 0, high = a->n; /* the tokens that agree with the first `depth` bytes */
    int32_t best = -1;
    for (size_t depth = 0; low < high; depth++) {
        const struct token *first = &t->tokens[a->ids[low]];
        if (first->n == depth) { /* sorted: the shorter one comes first */
            best = a->ids[low];
            if (++low == high)
                break;
        }
        if (depth == n)
            break;
        unsigned char c = (unsigned char)text[depth];
        size_t l = low, h = high;
        while (l < h) { /* first token with a byte >= c here */
            size_t mid = l + (h - l) / 2;
            if ((unsigned char)t->bytes[t->tokens[a->ids[mid]].at + depth] < c)
                l = mid + 1;
            else
                h = mid;
        }
        low = l;
        h = high;
        while (l < h) { /* first with a byte > c */
            size_t mid = l + (h - l) / 2;
            if ((unsigned char)t->bytes[t->tokens[a->ids[mid]].at + depth] <= c)
                l = mid + 1;
            else
                h = mid;
        }
        high = l;
    }
    return best;
}

static bool present(const struct tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->size && t->tokens[id].kind != TOKEN_ABSENT;
}

const char *tokenizer_token(const struct tokenizer *t, int32_t id, size_t *n_out)
{
    if (!present(t, id))
        return NULL;
    *n_out = t->tokens[id].n;
    return t->bytes + t->tokens[id].at;
}

bool tokenizer_is_special(const struct tokenizer *t, int32_t id) { return present(t, id) && t->tokens[id].kind == TOKEN_CONTROL; }

int32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    for (int i = 0; i < 2; i++) {
        int32_t id = tokenizer_match_added(t, &t->added[i], text, n);
        if (id >= 0 && t->tokens[id].n == n)
            return id;
    }
    return tokenizer_lookup(t, text, n);
}

int32_t tokenizer_size(const struct tokenizer *t) { return t->size; }
const uint8_t *tokenizer_hash(const struct tokenizer *t) { return t->hash; }
