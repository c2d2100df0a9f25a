#include "datasets/jsonl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "trainer/base/io.h"
#include "trainer/base/json.h"
#include "trainer/base/mem.h"
#include "trainer/base/nearest.h"

enum { READ_BYTES = 1 << 16 };

void jsonl_free(struct jsonl_record *r)
{
    mem_free(r->messages);
    mem_free(r->tokens);
    mem_free(r->weights);
    buf_free(&r->text);
    *r = (struct jsonl_record){0};
}

static void note_unknown(struct jsonl_unknown *u, const char *prefix, const char *key)
{
    char name[48];
    if (u == NULL)
        return;
    snprintf(name, sizeof name, "%s%.32s", prefix, key);
    for (int i = 0; i < u->n; i++)
        if (strcmp(u->key[i].name, name) == 0) {
            u->key[i].lines++;
            return;
        }
    if (u->n == JSONL_MAX_UNKNOWN) {
        u->others++;
        return;
    }
    snprintf(u->key[u->n].name, sizeof u->key[u->n].name, "%s", name);
    u->key[u->n++].lines = 1;
}

/* The content of a turn: a string, or a list of {"type": "text", "text": ...} whose texts are joined. Appended to r->text. */
static int read_content(const struct json *j, const char *where, size_t turn, struct buf *text, struct err *e)
{
    size_t n;
    const char *s = json_string(j, &n);
    if (s != NULL) {
        buf_add(text, s, n);
        return 0;
    }
    if (json_kind(j) != JSON_ARRAY)
        FAIL(e, ERR_DATA, "%s: messages[%zu].content: %s, expected a text or a list of text parts", where, turn,
             json_kind_name(json_kind(j)));
    for (size_t i = 0; i < json_length(j); i++) {
        const struct json *part = json_at(j, i);
        const char *type = json_string(json_get(part, "type"), NULL);
        if (type == NULL)
            FAIL(e, ERR_DATA, "%s: messages[%zu].content[%zu].type: %s, expected \"text\"", where, turn, i,
                 json_kind_name(json_kind(json_get(part, "type"))));
        if (strcmp(type, "text") != 0)
            FAIL(e, ERR_DATA, "%s: messages[%zu].content[%zu].type: \"%.40s\", expected \"text\". lorat trains on text only",
                 where, turn, i, type);
        s = json_string(json_get(part, "text"), &n);
        if (s == NULL && json_get(part, "text") == NULL)
            s = json_string(json_get(part, "value"), &n); /* LLaMA-Factory's name for it */
        if (s == NULL)
            FAIL(e, ERR_DATA, "%s: messages[%zu].content[%zu].text: %s, expected a text", where, turn, i,
                 json_kind_name(json_kind(json_get(part, "text"))));
        buf_add(text, s, n);
    }
    return 0;
}

static int add_message(struct jsonl_record *r, struct err *e)
{
    if (r->n_messages == r->cap_messages) {
        size_t cap = r->cap_messages ? r->cap_messages * 2 : 16;
        struct chat_message *m = mem_realloc(r->messages, cap, sizeof *m);
        if (m == NULL)
            return mem_fail(e, "a conversation", cap * sizeof *m);
        r->messages = m;
        r->cap_messages = cap;
    }
    r->messages[r->n_messages++] = (struct chat_message){0};
    return 0;
}

/* Roles and contents go into r->text as role \0 content \0; pointers are set when all are there and it no longer moves. */
static int point_messages(struct jsonl_record *r, struct err *e)
{
    if (r->text.failed)
        return mem_fail(e, "a conversation", r->text.n);
    const char *p = r->text.data;
    for (size_t i = 0; i < r->n_messages; i++) {
        r->messages[i].role = p;
        r->messages[i].content = p += strlen(p) + 1;
        p += r->messages[i].n + 1;
    }
    return 0;
}

static int read_messages(const struct json *list, const char *where, struct jsonl_record *r, struct jsonl_unknown *unknown,
                         struct err *e)
{
    static const char *const roles[] = {"system", "user", "assistant"};
    if (json_kind(list) != JSON_ARRAY || json_length(list) == 0)
        FAIL(e, ERR_DATA, "%s: messages: %s, expected a list with at least one turn", where,
             json_kind(list) == JSON_ARRAY ? "an empty list" : json_kind_name(json_kind(list)));
    for (size_t i = 0; i < json_length(list); i++) {
        const struct json *turn = json_at(list, i), *content = json_get(turn, "content");
        size_t n_role;
        const char *role = json_string(json_get(turn, "role"), &n_role);
        if (json_kind(turn) != JSON_OBJECT)
            FAIL(e, ERR_DATA, "%s: messages[%zu]: %s, expected {\"role\", \"content\"}", where, i,
                 json_kind_name(json_kind(turn)));
        if (role == NULL)
            FAIL(e, ERR_DATA, "%s: messages[%zu].role: %s, expected \"system\", \"user\" or \"assistant\"", where, i,
                 json_kind_name(json_kind(json_get(turn, "role"))));
        bool known = false;
        for (int k = 0; k < 3; k++)
            known |= strlen(roles[k]) == n_role && memcmp(role, roles[k], n_role) == 0;
        if (!known)
            FAIL(e, ERR_DATA, "%s: messages[%zu].role: \"%.40s\", expected \"system\", \"user\" or \"assistant\"", where, i,
                 role);
        TRY(add_message(r, e));
        buf_add(&r->text, role, n_role + 1);
        size_t before = r->text.n;
        TRY(read_content(content, where, i, &r->text, e));
        r->messages[i].n = r->text.n - before;
        buf_add(&r->text, "", 1);
        for (void *it = json_first(turn); it != NULL; it = json_next(turn, it))
            if (strcmp(json_key(it), "role") != 0 && strcmp(json_key(it), "content") != 0)
                note_unknown(unknown, "messages[].", json_key(it));
    }
    return point_messages(r, e);
}

static int read_tokens(const struct json *tokens, const struct json *loss, const char *where, struct jsonl_record *r,
                       struct err *e)
{
    size_t n = json_length(tokens);
    if (json_kind(tokens) != JSON_ARRAY || n == 0)
        FAIL(e, ERR_DATA, "%s: tokens: %s, expected a list of token ids", where,
             json_kind(tokens) == JSON_ARRAY ? "an empty list" : json_kind_name(json_kind(tokens)));
    if (loss != NULL && json_kind(loss) != JSON_ARRAY)
        FAIL(e, ERR_DATA, "%s: loss: %s, expected a list of weights", where, json_kind_name(json_kind(loss)));
    if (loss != NULL && json_length(loss) != n)
        FAIL(e, ERR_DATA, "%s: loss: %zu weights, expected as many as tokens, %zu", where, json_length(loss), n);
    if (n > r->cap_tokens) {
        int32_t *t = mem_realloc(r->tokens, n, sizeof *t);
        r->tokens = t != NULL ? t : r->tokens;
        float *w = mem_realloc(r->weights, n, sizeof *w);
        r->weights = w != NULL ? w : r->weights;
        if (t == NULL || w == NULL)
            return mem_fail(e, "a document's tokens", n * 8);
        r->cap_tokens = n;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        double w = 1;
        if (!json_i64(json_at(tokens, i), &id))
            FAIL(e, ERR_DATA, "%s: tokens[%zu]: %s, expected a whole number", where, i,
                 json_kind_name(json_kind(json_at(tokens, i))));
        if (id < 0 || id > INT32_MAX)
            FAIL(e, ERR_DATA, "%s: tokens[%zu]: %lld, expected a token id of at least 0 and at most %d", where, i, (long long)id,
                 INT32_MAX);
        if (loss != NULL && !json_f64(json_at(loss, i), &w))
            FAIL(e, ERR_DATA, "%s: loss[%zu]: %s, expected a number", where, i, json_kind_name(json_kind(json_at(loss, i))));
        if (!(w >= 0 && w <= 1e6))
            FAIL(e, ERR_DATA, "%s: loss[%zu]: %g, expected a weight of at least 0 and at most 1e6", where, i, w);
        r->tokens[i] = (int32_t)id;
        r->weights[i] = (float)w;
    }
    r->n_tokens = n;
    return 0;
}

/* Two turns of named texts: `user`, with `more` behind an empty line when it is there and not empty, and `assistant`. */
static int read_turns(const struct json *root, const char *user, const char *more, const char *assistant, const char *where,
                      struct jsonl_record *r, struct err *e)
{
    const char *const keys[3] = {user, more, assistant}, *const roles[3] = {"user", NULL, "assistant"};
    for (int i = 0; i < 3; i++) {
        size_t n;
        const struct json *j = keys[i] != NULL ? json_get(root, keys[i]) : NULL;
        const char *s = json_string(j, &n);
        if (roles[i] == NULL && j == NULL)
            continue;
        if (s == NULL)
            FAIL(e, ERR_DATA, "%s: %s: %s, expected a text", where, keys[i], json_kind_name(json_kind(j)));
        if (roles[i] == NULL && n == 0)
            continue;
        if (roles[i] == NULL) {
            r->text.n--; /* the end of the user's content, which goes on */
            r->messages[0].n += n + 2;
            buf_puts(&r->text, "\n\n");
        } else {
            TRY(add_message(r, e));
            r->messages[r->n_messages - 1].n = n;
            buf_add(&r->text, roles[i], strlen(roles[i]) + 1);
        }
        buf_add(&r->text, s, n);
        buf_add(&r->text, "", 1);
    }
    return point_messages(r, e);
}

static int read_text(const struct json *text, const char *where, struct jsonl_record *r, struct err *e)
{
    size_t n;
    const char *s = json_string(text, &n);
    if (s == NULL)
        FAIL(e, ERR_DATA, "%s: text: %s, expected a text", where, json_kind_name(json_kind(text)));
    buf_add(&r->text, s, n);
    return r->text.failed ? mem_fail(e, "a text", n) : 0;
}

/* The forms of a line, each with the key that tells it and the keys that belong to it. */
static const struct form {
    enum jsonl_kind kind;
    const char *keys[3];
} forms[] = {
    {JSONL_MESSAGES, {"messages"}},           {JSONL_TEXT, {"text"}},
    {JSONL_TOKENS, {"tokens", "loss"}},       {JSONL_PAIR, {"prompt", "completion"}},
    {JSONL_MESSAGES, {"question", "answer"}}, {JSONL_MESSAGES, {"instruction", "output", "input"}},
};
enum { N_FORMS = sizeof forms / sizeof *forms };

static int find_form(const struct json *root, const char *where, const struct form **out, struct err *e)
{
    const char *names[N_FORMS], *near = NULL;
    *out = NULL;
    for (int i = 0; i < N_FORMS; i++) {
        names[i] = forms[i].keys[0];
        if (json_get(root, names[i]) == NULL)
            continue;
        if (*out != NULL)
            FAIL(e, ERR_DATA, "%s: \"%s\" and \"%s\", expected only one of them in a line", where, (*out)->keys[0], names[i]);
        *out = &forms[i];
    }
    for (void *it = json_first(root); *out == NULL && it != NULL && near == NULL; it = json_next(root, it))
        near = nearest_word(json_key(it), names, N_FORMS);
    if (*out == NULL)
        FAIL(e, ERR_DATA,
             "%s: no \"messages\", \"text\", \"prompt\", \"question\", \"instruction\" or \"tokens\", expected one of them%s%s%s",
             where, near ? ". Did you mean \"" : ". docs/data-format.md lists the forms and turns others into them", near ? near : "",
             near ? "\"?" : "");
    return 0;
}

static int read_record(const struct json *root, const char *where, struct jsonl_record *r, struct jsonl_unknown *unknown,
                       struct err *e)
{
    const struct form *f;
    if (json_kind(root) != JSON_OBJECT)
        FAIL(e, ERR_DATA, "%s: %s, expected an object with \"messages\", \"text\" or \"tokens\"", where,
             json_kind_name(json_kind(root)));
    TRY(find_form(root, where, &f, e));
    for (void *it = json_first(root); it != NULL; it = json_next(root, it)) {
        bool known = false;
        for (int k = 0; k < 3 && f->keys[k] != NULL; k++)
            known |= strcmp(json_key(it), f->keys[k]) == 0;
        if (!known && strcmp(json_key(it), "loss") == 0)
            FAIL(e, ERR_DATA, "%s: loss: without \"tokens\", expected it beside them", where);
        if (!known)
            note_unknown(unknown, "", json_key(it));
    }
    r->kind = f->kind;
    if (f->kind == JSONL_TEXT)
        return read_text(json_get(root, "text"), where, r, e);
    if (f->kind == JSONL_TOKENS)
        return read_tokens(json_get(root, "tokens"), json_get(root, "loss"), where, r, e);
    if (f->keys[1] == NULL)
        return read_messages(json_get(root, "messages"), where, r, unknown, e);
    return read_turns(root, f->keys[0], f->keys[2], f->keys[1], where, r, e);
}

int jsonl_parse_line(const char *line, size_t n, const char *where, struct jsonl_record *r, struct jsonl_unknown *unknown,
                     struct err *e)
{
    struct json *root = NULL;
    r->n_messages = r->n_tokens = 0;
    buf_clear(&r->text);
    if (n > 0 && line[0] == '[')
        FAIL(e, ERR_DATA,
             "%s: a list, expected an object: one a line. A file that is one JSON list becomes lines with `jq -c '.[]'`", where);
    TRY(json_parse(line, n, where, ERR_DATA, &root, e));
    int rc = read_record(root, where, r, unknown, e);
    json_free(root);
    return rc;
}

/* ---- lines of a file ---- */

int jsonl_open(const char *path, struct jsonl_file *f, struct err *e)
{
    *f = (struct jsonl_file){.fd = -1, .path = path};
    return io_open_regular(path, ERR_DATA, &f->fd, NULL, e);
}

void jsonl_close(struct jsonl_file *f)
{
    if (f->fd >= 0)
        io->close(f->fd);
    f->fd = -1;
    buf_free(&f->buf);
}

/* Bring more bytes behind those that are not yet used. */
static int read_more(struct jsonl_file *f, struct err *e)
{
    static const char bom[3] = "\xef\xbb\xbf";
    char piece[READ_BYTES];
    if (f->at > 0) {
        memmove(f->buf.data, f->buf.data + f->at, f->buf.n - f->at);
        f->buf.n -= f->at;
        f->at = 0;
    }
    if (f->buf.n > JSONL_MAX_LINE)
        FAIL(e, ERR_DATA, "%s:%lld: a line of more than %d MiB, expected JSON lines", f->path, (long long)f->line + 1,
             JSONL_MAX_LINE >> 20);
    ssize_t n;
    do
        n = io->read(f->fd, piece, sizeof piece);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return err_errno(e, ERR_IO, errno, "%s: could not be read", f->path);
    f->end = n == 0;
    buf_add(&f->buf, piece, (size_t)n);
    if (f->line == 0 && f->at == 0 && f->buf.n >= 3 && memcmp(f->buf.data, bom, 3) == 0)
        f->at = 3;
    return f->buf.failed ? mem_fail(e, "a line", f->buf.n) : 0;
}

static bool is_blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r')
            return false;
    return true;
}

int jsonl_next(struct jsonl_file *f, const char **line, size_t *n, struct err *e)
{
    size_t searched = 0; /* bytes behind f->at that hold no newline */
    for (;;) {
        size_t left = f->buf.n - f->at;
        const char *start = f->buf.data != NULL ? f->buf.data + f->at : "";
        const char *newline = left > searched ? memchr(start + searched, '\n', left - searched) : NULL;
        if (newline == NULL && !f->end) {
            searched = left;
            size_t was = f->at;
            TRY(read_more(f, e));
            if (f->at != 0 && was == 0) /* a byte order mark was stepped over */
                searched = 0;
            continue;
        }
        if (newline == NULL && left == 0) {
            *line = NULL;
            return 0;
        }
        size_t length = newline != NULL ? (size_t)(newline - start) : left;
        f->at += length + (newline != NULL);
        f->line++;
        searched = 0;
        if (length > 0 && start[length - 1] == '\r')
            length--;
        if (is_blank(start, length))
            continue;
        *line = start;
        *n = length;
        return 0;
    }
}
