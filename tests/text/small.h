/* small.h - tokenizer.json texts made up for tests: the 256 single bytes, ids 0 to 255, and whatever parts a test sets. */
#ifndef LORAT_TEST_SMALL_H
#define LORAT_TEST_SMALL_H

#include "datasets/tokenizer.h"
#include "trainer/base/buf.h"

struct small {              /* JSON; NULL = the default in brackets */
    const char *added;      /* elements of added_tokens [none] */
    const char *normalizer; /* [null] */
    const char *pre;        /* [ByteLevel with its regex] */
    const char *tail;       /* members of the whole, after a comma [none] */
    const char *vocab;      /* more members of the vocabulary, after a comma [none] */
    const char *merges;     /* elements [none] */
    const char *model;      /* more members of the model, after a comma [none] */
};

static inline void small_json(struct buf *b, struct small s)
{
    const char *none = "";
    buf_printf(b, "{\"added_tokens\":[%s],\"normalizer\":%s,\"pre_tokenizer\":%s%s,", s.added ? s.added : none,
               s.normalizer ? s.normalizer : "null", s.pre ? s.pre : "{\"type\":\"ByteLevel\",\"add_prefix_space\":false}",
               s.tail ? s.tail : none);
    buf_puts(b, "\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int byte = 0, other = 256; byte < 256; byte++) { /* GPT-2's alphabet */
        bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
        buf_printf(b, "%s\"\\u%04x\":%d", byte ? "," : "", printable ? byte : other++, byte);
    }
    buf_printf(b, "%s},\"merges\":[%s]%s}}", s.vocab ? s.vocab : none, s.merges ? s.merges : none, s.model ? s.model : none);
}

static inline int small_open(struct small s, struct tokenizer **t, struct err *e)
{
    struct buf b = {0};
    small_json(&b, s);
    int rc = tokenizer_from_json(b.data, b.n, "tokenizer.json", t, e);
    buf_free(&b);
    return rc;
}

#endif
