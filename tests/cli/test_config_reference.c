/* docs/config-reference.md is what the table says now; every key is explained. */
#include "tests/cli/config_test.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/config_table.h"

int main(void)
{
    struct buf markdown = {0}, terminal = {0};
    struct err e = {0};
    char *written = NULL;
    size_t n;
    config_reference(&markdown, true);
    config_reference(&terminal, false);
    CHECK_OK(io_read_file("docs/config-reference.md", ERR_IO, 1 << 20, &written, &n, &e), &e);
    if (written != NULL && strcmp(written, markdown.data) != 0)
        fprintf(stderr, "out of date: run `lorat config --reference --markdown > docs/config-reference.md`\n");
    CHECK(written != NULL && strcmp(written, markdown.data) == 0);
    for (int i = 0; i < config_n_keys; i++) {
        CHECK_HAS(markdown.data, config_keys[i].name);
        CHECK_HAS(terminal.data, config_keys[i].name);
        CHECK(strlen(config_keys[i].meaning) > 20);
    }
    for (const char *p = terminal.data; *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n')
        CHECK(strcspn(p, "\n") <= 100); /* columns */
    mem_free(written);
    buf_free(&markdown);
    buf_free(&terminal);
    return check_done();
}
