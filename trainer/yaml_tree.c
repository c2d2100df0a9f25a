#include "trainer/yaml_tree.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#include "trainer/base/mem.h"

struct reader {
    yaml_parser_t parser;
    const char *where;
    bool positions;
    int n_items;
    struct err *e;
};

__attribute__((format(printf, 4, 5))) static int fail_at(struct reader *r, int line, int column, const char *format, ...)
{
    char text[sizeof r->e->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (r->positions)
        FAIL(r->e, ERR_CONFIG, "%s:%d:%d: %s", r->where, line, column, text);
    FAIL(r->e, ERR_CONFIG, "%s: %s", r->where, text);
}

/* Decode the UTF-8 sequence at p (n bytes left) and return its length, 0 when it is not one: overlong forms, surrogates and
 * values past U+10FFFF are refused. */
static size_t utf8_decode(const unsigned char *p, size_t n, uint32_t *c)
{
    static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80 ? 1 : (p[0] & 0xe0) == 0xc0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : (p[0] & 0xf8) == 0xf0 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    *c = len == 1 ? p[0] : p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        *c = *c << 6 | (p[i] & 0x3f);
    }
    return *c < smallest[len] || *c > 0x10ffff || (*c >= 0xd800 && *c <= 0xdfff) ? 0 : len;
}

/* Not printable by YAML 1.1, chapter 5.1. */
static bool is_control(uint32_t c)
{
    return (c < 0x20 && c != '\n' && c != '\r' && c != '\t') || (c >= 0x7f && c < 0xa0 && c != 0x85) || c == 0xfeff ||
           c == 0xfffe || c == 0xffff;
}

/* libyaml reports a bad byte without its line, so the bytes are looked at before it sees them. */
static int check_bytes(struct reader *r, const unsigned char *p, size_t n)
{
    int line = 1, column = 1;
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t len = utf8_decode(p + i, n - i, &c);
        if (len == 0)
            return fail_at(r, line, column, "found the byte 0x%02x, expected UTF-8 text. Save the file as UTF-8", p[i]);
        if (is_control(c))
            return fail_at(r, line, column, "found the control character U+%04X, expected text. Remove it", (unsigned)c);
        if (c == '\n') {
            line++;
            column = 1;
        } else {
            column++;
        }
        i += len;
    }
    return 0;
}

static int next_event(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return 0;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR)
        return mem_fail(r->e, "reading YAML", 0);
    return fail_at(r, (int)p->problem_mark.line + 1, (int)p->problem_mark.column + 1, "not valid YAML: %s%s%s%s",
                   p->problem != NULL ? p->problem : "unreadable", p->context != NULL ? " (" : "",
                   p->context != NULL ? p->context : "", p->context != NULL ? ")" : "");
}

static int add_item(struct reader *r, const yaml_event_t *event, enum yaml_kind kind, struct yaml_item **out)
{
    int line = (int)event->start_mark.line + 1, column = (int)event->start_mark.column + 1;
    if (++r->n_items > YAML_MAX_ITEMS)
        return fail_at(r, line, column, "found more than %d values, expected a job file", YAML_MAX_ITEMS);
    struct yaml_item *item = mem_alloc(1, sizeof *item);
    if (item == NULL)
        return mem_fail(r->e, "a YAML value", sizeof *item);
    item->kind = kind;
    item->line = line;
    item->column = column;
    *out = item;
    return 0;
}

/* Anchors and tags would make a value mean something that is not written where it stands. */
static int check_plain(struct reader *r, const yaml_event_t *event, const yaml_char_t *anchor, const yaml_char_t *tag)
{
    int line = (int)event->start_mark.line + 1, column = (int)event->start_mark.column + 1;
    if (anchor != NULL)
        return fail_at(r, line, column, "found the anchor &%.40s, expected a plain value. Write each value where it is used",
                       (const char *)anchor);
    if (tag != NULL)
        return fail_at(r, line, column, "found the tag %.60s, expected a value without a tag. Remove it", (const char *)tag);
    return 0;
}

static int copy_scalar(struct reader *r, const yaml_event_t *event, char **out)
{
    const char *value = (const char *)event->data.scalar.value;
    if (strlen(value) != event->data.scalar.length)
        return fail_at(r, (int)event->start_mark.line + 1, (int)event->start_mark.column + 1,
                       "found a NUL character in a text, expected none. Remove it");
    *out = mem_strdup(value);
    return *out != NULL ? 0 : mem_fail(r->e, "a YAML text", event->data.scalar.length + 1);
}

static int read_value(struct reader *r, const yaml_event_t *event, int depth, struct yaml_item **out);

static int read_list(struct reader *r, int depth, struct yaml_item *list)
{
    for (struct yaml_item **tail = &list->first;; tail = &(*tail)->next) {
        yaml_event_t event;
        TRY(next_event(r, &event));
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        int rc = end ? 0 : read_value(r, &event, depth, tail);
        yaml_event_delete(&event);
        if (rc != 0 || end)
            return rc;
    }
}

static int read_key(struct reader *r, const yaml_event_t *event, const struct yaml_item *map, char **key)
{
    int line = (int)event->start_mark.line + 1, column = (int)event->start_mark.column + 1;
    if (event->type == YAML_ALIAS_EVENT)
        return fail_at(r, line, column, "found the alias *%.40s, expected a key. Write it out",
                       (const char *)event->data.alias.anchor);
    if (event->type != YAML_SCALAR_EVENT)
        return fail_at(r, line, column, "found a list or mapping as a key, expected a word");
    TRY(check_plain(r, event, event->data.scalar.anchor, event->data.scalar.tag));
    for (const struct yaml_item *it = map->first; it != NULL; it = it->next)
        if (it->key != NULL && strcmp(it->key, (const char *)event->data.scalar.value) == 0)
            return fail_at(r, line, column,
                           "found \"%.60s\" a second time (first in line %d), expected each key once. Remove one", it->key,
                           it->key_line);
    return copy_scalar(r, event, key);
}

static int read_map(struct reader *r, int depth, struct yaml_item *map)
{
    for (struct yaml_item **tail = &map->first;; tail = &(*tail)->next) {
        yaml_event_t event;
        TRY(next_event(r, &event));
        bool end = event.type == YAML_MAPPING_END_EVENT;
        char *key = NULL;
        int rc = end ? 0 : read_key(r, &event, map, &key);
        int line = (int)event.start_mark.line + 1, column = (int)event.start_mark.column + 1;
        yaml_event_delete(&event);
        if (rc != 0 || end)
            return rc;
        rc = next_event(r, &event);
        if (rc == 0) {
            rc = read_value(r, &event, depth, tail);
            yaml_event_delete(&event);
        }
        if (*tail == NULL) {
            mem_free(key);
            return -1;
        }
        (*tail)->key = key;
        (*tail)->key_line = line;
        (*tail)->key_column = column;
        TRY(rc);
    }
}

/* *out is set as soon as there is an item, also when its inside fails: the root then frees it. depth counts open collections. */
static int read_value(struct reader *r, const yaml_event_t *event, int depth, struct yaml_item **out)
{
    int line = (int)event->start_mark.line + 1, column = (int)event->start_mark.column + 1;
    if (event->type == YAML_ALIAS_EVENT)
        return fail_at(r, line, column, "found the alias *%.40s, expected a value. Write each value where it is used",
                       (const char *)event->data.alias.anchor);
    if (event->type == YAML_SCALAR_EVENT) {
        TRY(check_plain(r, event, event->data.scalar.anchor, event->data.scalar.tag));
        TRY(add_item(r, event, YAML_IS_SCALAR, out));
        (*out)->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return copy_scalar(r, event, &(*out)->text);
    }
    bool list = event->type == YAML_SEQUENCE_START_EVENT;
    if (depth >= YAML_MAX_DEPTH)
        return fail_at(r, line, column, "found a %s inside %d others, expected at most %d levels", list ? "list" : "mapping",
                       depth, YAML_MAX_DEPTH);
    if (list)
        TRY(check_plain(r, event, event->data.sequence_start.anchor, event->data.sequence_start.tag));
    else
        TRY(check_plain(r, event, event->data.mapping_start.anchor, event->data.mapping_start.tag));
    TRY(add_item(r, event, list ? YAML_IS_LIST : YAML_IS_MAP, out));
    return list ? read_list(r, depth + 1, *out) : read_map(r, depth + 1, *out);
}

static int check_document_start(struct reader *r, const yaml_event_t *event)
{
    if (event->data.document_start.version_directive != NULL ||
        event->data.document_start.tag_directives.start != event->data.document_start.tag_directives.end)
        return fail_at(r, (int)event->start_mark.line + 1, (int)event->start_mark.column + 1,
                       "found a %% directive, expected none. Remove the line");
    return 0;
}

static int read_stream(struct reader *r, struct yaml_item **root)
{
    for (int documents = 0;;) {
        yaml_event_t event;
        int rc = 0, line, column;
        TRY(next_event(r, &event));
        line = (int)event.start_mark.line + 1;
        column = (int)event.start_mark.column + 1;
        yaml_event_type_t type = event.type;
        if (type == YAML_DOCUMENT_START_EVENT)
            rc = ++documents > 1 ? fail_at(r, line, column, "found a second document, expected one. Put each job in its own file")
                                 : check_document_start(r, &event);
        else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT && type != YAML_DOCUMENT_END_EVENT)
            rc = read_value(r, &event, 0, root);
        yaml_event_delete(&event);
        if (rc != 0 || type == YAML_STREAM_END_EVENT)
            return rc;
    }
}

int yaml_tree_parse(const char *yaml, size_t n, const char *where, bool positions, struct yaml_item **out, struct err *e)
{
    struct reader r = {.where = where, .positions = positions, .e = e};
    *out = NULL;
    if (n > YAML_MAX_BYTES)
        FAIL(e, ERR_CONFIG, "%s: found %zu bytes, expected at most %d. Is this a job file?", where, n, YAML_MAX_BYTES);
    if (n >= 3 && memcmp(yaml, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark, as some editors write it */
        yaml += 3;
        n -= 3;
    }
    TRY(check_bytes(&r, (const unsigned char *)yaml, n));
    if (!yaml_parser_initialize(&r.parser))
        return mem_fail(e, "the YAML parser", sizeof r.parser);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)yaml, n);
    int rc = read_stream(&r, out);
    yaml_parser_delete(&r.parser);
    if (rc != 0) {
        yaml_tree_free(*out);
        *out = NULL;
    }
    return rc;
}

void yaml_tree_free(struct yaml_item *root)
{
    while (root != NULL) {
        struct yaml_item *next = root->next;
        yaml_tree_free(root->first); /* at most YAML_MAX_DEPTH deep */
        mem_free(root->key);
        mem_free(root->text);
        mem_free(root);
        root = next;
    }
}

const char *yaml_tree_library(void) { return yaml_get_version_string(); }
