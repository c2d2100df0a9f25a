/* Lines of a text input: what each form becomes, and what is wrong with a line, by field. */
#include "datasets/jsonl.h"

#include <fcntl.h>

#include "tests/data/data_util.h"
#include "trainer/base/mem.h"

static struct jsonl_record r;

static int parse(const char *line, struct jsonl_unknown *u, struct err *e)
{
    return jsonl_parse_line(line, strlen(line), "f.jsonl:3", &r, u, e);
}

static void refused(const char *line, const char *part)
{
    struct err e = {0};
    if (parse(line, NULL, &e) == 0)
        fprintf(stderr, "taken: %s\n", line);
    else
        CHECK_HAS(e.text, part);
    CHECK_INT(e.code, ERR_DATA);
    CHECK(strncmp(e.text, "f.jsonl:3", 9) == 0);
}

static void check_turn(size_t i, const char *role, const char *content)
{
    CHECK(i < r.n_messages);
    CHECK_STR(r.messages[i].role, role);
    CHECK_INT(r.messages[i].n, strlen(content));
    CHECK(memcmp(r.messages[i].content, content, strlen(content)) == 0);
}

static void forms(void)
{
    struct err e = {0};
    struct jsonl_unknown u = {0};
    CHECK_OK(parse("{\"messages\":[{\"role\":\"system\",\"content\":\"\"},{\"role\":\"user\",\"content\":\"hi\\u0000x\"},"
                   "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"he\"},{\"type\":\"text\",\"value\":"
                   "\"llo\"}],\"x\":1}],\"id\":5}",
                   &u, &e),
             &e);
    CHECK_INT(r.kind, JSONL_MESSAGES);
    CHECK_INT(r.n_messages, 3);
    check_turn(0, "system", "");
    check_turn(2, "assistant", "hello");
    CHECK(r.messages[1].n == 4 && memcmp(r.messages[1].content, "hi\0x", 4) == 0);
    CHECK_INT(u.n, 2);
    CHECK_STR(u.key[0].name, "id");
    CHECK_STR(u.key[1].name, "messages[].x");
    CHECK_OK(parse("{\"text\":\"abc\",\"id\":6}", &u, &e), &e);
    CHECK(r.kind == JSONL_TEXT && r.text.n == 3 && memcmp(r.text.data, "abc", 3) == 0 && u.key[0].lines == 2);
    CHECK_OK(parse("{\"tokens\":[5,6,7]}", NULL, &e), &e);
    CHECK(r.kind == JSONL_TOKENS && r.n_tokens == 3 && r.tokens[2] == 7 && r.weights[0] == 1);
    CHECK_OK(parse("{\"tokens\":[5,6],\"loss\":[0,0.25]}", NULL, &e), &e);
    CHECK(r.n_tokens == 2 && r.weights[0] == 0 && r.weights[1] == 0.25f);
    CHECK_OK(parse("{\"prompt\":\"p\",\"completion\":\"cc\"}", NULL, &e), &e);
    CHECK_INT(r.kind, JSONL_PAIR);
    check_turn(0, "user", "p");
    check_turn(1, "assistant", "cc");
    CHECK_OK(parse("{\"question\":\"q\",\"answer\":\"a\"}", NULL, &e), &e);
    CHECK_INT(r.kind, JSONL_MESSAGES);
    check_turn(1, "assistant", "a");
    CHECK_OK(parse("{\"instruction\":\"do\",\"input\":\"this\",\"output\":\"done\"}", NULL, &e), &e);
    CHECK_INT(r.n_messages, 2);
    check_turn(0, "user", "do\n\nthis");
    check_turn(1, "assistant", "done");
    CHECK_OK(parse("{\"output\":\"done\",\"input\":\"\",\"instruction\":\"do\"}", NULL, &e), &e);
    check_turn(0, "user", "do");
}

static void wrong(void)
{
    refused("{}", "no \"messages\"");
    refused("{\"conversations\": [{\"from\": \"human\", \"value\": \"hi\"}]}", "docs/data-format.md lists the forms");
    refused("{\"mesages\":[]}", "Did you mean \"messages\"");
    refused("[]", "a list, expected an object: one a line");
    refused("{\"text\":1}", "text: ");
    refused("{\"text\":\"a\",\"tokens\":[1]}", "\"text\" and \"tokens\"");
    refused("{\"text\":\"a\",\"loss\":[1]}", "loss: without \"tokens\"");
    refused("{\"text\":\"a\",\"text\":\"b\"}", "");
    refused("{\"text\":\"a\"} x", "");
    refused("{\"text\":\"\xff\"}", "");
    refused("{\"messages\":[]}", "an empty list");
    refused("{\"messages\":\"x\"}", "messages: ");
    refused("{\"messages\":[1]}", "messages[0]: ");
    refused("{\"messages\":[{\"content\":\"x\"}]}", "messages[0].role: ");
    refused("{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "messages[0].role: \"tool\"");
    refused("{\"messages\":[{\"role\":\"user\\u0000\",\"content\":\"x\"}]}", "messages[0].role: ");
    refused("{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content: ");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0].content: ");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\"}]}]}", "messages[0].content[0].type: \"image\"");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]}", "messages[0].content[0].type: ");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]}", "messages[0].content[0].text: ");
    refused("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1,\"value\":\"a\"}]}]}",
            "messages[0].content[0].text: ");
    refused("{\"tokens\":[]}", "tokens: an empty list");
    refused("{\"tokens\":5}", "tokens: ");
    refused("{\"tokens\":[1.5]}", "tokens[0]: ");
    refused("{\"tokens\":[true]}", "tokens[0]: ");
    refused("{\"tokens\":[2147483648]}", "tokens[0]: 2147483648");
    refused("{\"tokens\":[1,-1]}", "tokens[1]: -1");
    refused("{\"tokens\":[1],\"loss\":[-0.5]}", "loss[0]: -0.5");
    refused("{\"tokens\":[1],\"loss\":[1e99]}", "loss[0]: 1e+99");
    refused("{\"tokens\":[1],\"loss\":[\"1\"]}", "loss[0]: ");
    refused("{\"tokens\":[1],\"loss\":1}", "loss: ");
    refused("{\"tokens\":[1],\"loss\":[1,1]}", "loss: 2 weights");
    refused("{\"prompt\":\"a\"}", "completion: ");
    refused("{\"question\":\"a\",\"answer\":5}", "answer: ");
    refused("{\"instruction\":\"a\",\"input\":5,\"output\":\"x\"}", "input: ");
    refused("{\"instruction\":\"a\"}", "output: ");
    refused("", "");
}

/* Every cut of a good line is refused, and nothing leaks or is read behind its end. */
static void cut(void)
{
    static const char line[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\\u00e4\"}]}],\"n\":1.5e3}";
    struct err e = {0};
    for (size_t n = 0; n < sizeof line - 1; n++) {
        char *copy = mem_alloc(n + 1, 1), *exact = mem_realloc(copy, n > 0 ? n : 1, 1);
        memcpy(exact, line, n);
        CHECK(jsonl_parse_line(exact, n, "f.jsonl:3", &r, NULL, &e) != 0);
        mem_free(exact);
    }
    CHECK_OK(parse(line, NULL, &e), &e);
}

static void many_unknown(void)
{
    struct jsonl_unknown u = {0};
    struct err e = {0};
    char line[100];
    for (int i = 0; i < 40; i++) {
        snprintf(line, sizeof line, "{\"text\":\"x\",\"a_rather_long_name_of_a_key_that_is_cut_somewhere_%d\":1,\"k%d\":2}", i,
                 i);
        CHECK_OK(parse(line, &u, &e), &e);
    }
    CHECK_INT(u.n, JSONL_MAX_UNKNOWN);
    CHECK_INT(u.others, 40 - (JSONL_MAX_UNKNOWN - 1));
}

/* ---- lines of a file ---- */

static void lines(void)
{
    struct jsonl_file f;
    struct err e = {0};
    const char *line, *path = util_path("lines");
    size_t n;
    char text[70000];
    memset(text, 'x', sizeof text); /* longer than one read */
    memcpy(text,
           "\xef\xbb\xbf"
           "a\r\n\n \t\r\nbb\n",
           14);
    util_write(path, text, sizeof text);
    CHECK_OK(jsonl_open(path, &f, &e), &e);
    CHECK_OK(jsonl_next(&f, &line, &n, &e), &e);
    CHECK(n == 1 && line[0] == 'a' && f.line == 1);
    CHECK_OK(jsonl_next(&f, &line, &n, &e), &e);
    CHECK(n == 2 && line[0] == 'b' && f.line == 4);
    CHECK_OK(jsonl_next(&f, &line, &n, &e), &e);
    CHECK(n == sizeof text - 14 && line[0] == 'x' && f.line == 5);
    CHECK_OK(jsonl_next(&f, &line, &n, &e), &e);
    CHECK(line == NULL);
    jsonl_close(&f);
    util_text(path, "");
    CHECK_OK(jsonl_open(path, &f, &e), &e);
    CHECK_OK(jsonl_next(&f, &line, &n, &e), &e);
    CHECK(line == NULL);
    jsonl_close(&f);
}

static void endless_line(void)
{
    struct jsonl_file f;
    struct err e = {0};
    const char *line, *path = util_path("endless");
    size_t n;
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    CHECK_INT(ftruncate(fd, (off_t)JSONL_MAX_LINE + (1 << 20)), 0); /* zeros, and no newline */
    close(fd);
    CHECK_OK(jsonl_open(path, &f, &e), &e);
    CHECK(jsonl_next(&f, &line, &n, &e) != 0);
    CHECK_HAS(e.text, "endless:1: a line of more than 64 MiB");
    jsonl_close(&f);
}

int main(void)
{
    util_begin();
    forms();
    wrong();
    cut();
    many_unknown();
    lines();
    endless_line();
    jsonl_free(&r);
    return util_end();
}
