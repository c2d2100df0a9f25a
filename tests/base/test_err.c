#include "trainer/base/err.h"

#include <errno.h>

#include "tests/check.h"

int main(void)
{
    struct err e = {0};
    CHECK_INT(err_set(&e, ERR_DATA, "%s: row %d", "a.h5", 7), -1);
    CHECK_INT(e.code, 4);
    CHECK_STR(e.text, "a.h5: row 7");
    CHECK_INT(err_prefix(&e, "while reading %s", "x"), -1);
    CHECK_STR(e.text, "while reading x: a.h5: row 7");
    CHECK_INT(err_errno(&e, ERR_IO, ENOSPC, "out"), -1);
    CHECK_INT(e.code, 9);
    CHECK_HAS(e.text, "No space left");
    CHECK_HAS(e.text, "free some space");
    CHECK_INT(err_set(NULL, ERR_IO, "nobody asks"), -1);
    CHECK_INT(err_errno(NULL, ERR_IO, EIO, "nobody asks"), -1);

    /* Longer than the message: cut, not overrun. */
    char longer[3000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    err_set(&e, ERR_USAGE, "%s", longer);
    CHECK_INT(strlen(e.text), sizeof e.text - 1);
    err_errno(&e, ERR_USAGE, EIO, "%s", longer);
    err_prefix(&e, "%s", longer);
    CHECK_INT(strlen(e.text), sizeof e.text - 1);

    int codes[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 75};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        CHECK(strcmp(err_meaning((enum err_code)codes[i]), "unknown") != 0);
    CHECK_STR(err_meaning((enum err_code)76), "unknown");
    return check_done();
}
