/* test_plugin.c - the plug-in is found and opened, or one sentence says why not. Arguments: the fake plug-in, one without the
 * entry point, one whose library is missing. A process a case: a plug-in stays once it is opened. */
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/plugin.h"
#include "tests/check.h"

/* The sentence of a plug-in at `path` that misbehaves as `kind` says; "" when it opens. */
static char *sentence(const char *path, const char *kind, char text[1024])
{
    int ends[2];
    ssize_t n = 0, got;
    CHECK(pipe(ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct err e = {0};
        const struct cuda_plugin *p = NULL;
        setenv("LORAT_CUDA", path, 1);
        setenv("LORAT_FAKE_CUDA", kind, 1);
        int rc = plugin_cuda(&p, &e);
        if (rc == 0 && (p == NULL || p->open == NULL))
            snprintf(e.text, sizeof e.text, "opened, and there is no table");
        if (rc != 0 && e.code != ERR_DEVICE)
            snprintf(e.text, sizeof e.text, "exit code %d", e.code);
        if (write(ends[1], e.text, strlen(e.text)) < 0)
            _exit(1);
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], text + n, 1023 - (size_t)n)) > 0)
        n += got;
    text[n] = '\0';
    close(ends[0]);
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return text;
}

int main(int argc, char **argv)
{
    char text[1024];
    if (argc != 4)
        return 2;
    CHECK_STR(sentence(argv[1], "", text), "");
    char other[64];
    snprintf(other, sizeof other, "speaks interface %d", CUDA_PLUGIN_ABI + 1);
    CHECK_HAS(sentence(argv[1], "abi", text), other);
    CHECK_HAS(text, "build both again");
    CHECK_HAS(sentence(argv[1], "table", text), "another build of lorat");
    CHECK_HAS(sentence(argv[1], "version", text), "is of lorat 0.0.1, expected " LORAT_VERSION);
    CHECK_HAS(sentence(argv[2], "", text), "has no lorat_cuda_plugin");
    CHECK_HAS(sentence(argv[3], "", text), "needs liblorat_absent.so, expected it");
    CHECK_HAS(text, "sh scripts/setup-cuda.sh");
    CHECK_HAS(sentence("/nowhere/lorat_cuda.so", "", text), "$LORAT_CUDA: /nowhere/lorat_cuda.so is not there");
    CHECK_HAS(sentence(argv[0], "", text), "cannot be loaded"); /* a program is no plug-in */
    CHECK_HAS(sentence("", "", text), "--target lorat_cuda");   /* none beside the test program */
    CHECK_HAS(text, "sh scripts/setup-cuda.sh");
    setenv("LORAT_CUDA", argv[1], 1);
    CHECK(plugin_card_present());
    return check_done();
}
