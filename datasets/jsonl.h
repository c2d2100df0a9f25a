/* jsonl.h - one line of a text input as a record, and a file of them line by line. Formats: docs/data-format.md. */
#ifndef LORAT_JSONL_H
#define LORAT_JSONL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "datasets/chat.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"

enum { JSONL_MAX_LINE = 64 << 20, JSONL_MAX_UNKNOWN = 16 };
enum jsonl_kind {
    JSONL_MESSAGES, /* {"messages": [...]}; also {"question", "answer"} and Alpaca's {"instruction", "input", "output"} as two
                       turns */
    JSONL_TEXT,     /* {"text"} */
    JSONL_PAIR,     /* {"prompt", "completion"} */
    JSONL_TOKENS    /* {"tokens", "loss"} */
};

/* Keys that lorat does not know, each remembered once with the number of lines that had it. */
struct jsonl_unknown {
    struct {
        char name[48];
        int64_t lines;
    } key[JSONL_MAX_UNKNOWN];
    int n;
    int64_t others; /* lines with yet other keys */
};

struct jsonl_record { /* begin with zero; memory is reused from line to line; end with jsonl_free */
    enum jsonl_kind kind;
    struct chat_message
        *messages; /* (n_messages); role and content point into text; of a JSONL_PAIR: prompt and completion as turns */
    size_t n_messages, cap_messages;
    struct buf text; /* JSONL_TEXT: the text; otherwise roles and contents */
    int32_t *tokens; /* (n_tokens), >= 0; JSONL_TOKENS */
    float *weights;  /* (n_tokens), finite, >= 0; all 1 when the line has no "loss" */
    size_t n_tokens, cap_tokens;
};
void jsonl_free(struct jsonl_record *r);

/* Pure: one line of n bytes without its newline into r. `where` ("train.jsonl:12") begins messages. unknown may be NULL. */
int jsonl_parse_line(const char *line, size_t n, const char *where, struct jsonl_record *r, struct jsonl_unknown *unknown,
                     struct err *e);

/* A file of lines; memory is one line. */
struct jsonl_file {
    int fd;
    const char *path; /* borrowed */
    int64_t line;     /* number of the line last given, from 1 */
    struct buf buf;
    size_t at; /* of the next line in buf */
    bool end;
};
int jsonl_open(const char *path, struct jsonl_file *f, struct err *e);
/* The next line that is not blank, without its end; borrowed until the next call. *line = NULL at the end. */
int jsonl_next(struct jsonl_file *f, const char **line, size_t *n, struct err *e);
void jsonl_close(struct jsonl_file *f);

#endif
