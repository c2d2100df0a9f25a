/* plugin.c - find, open and check lorat_cuda.so. Nothing of NVIDIA's is needed to build or run this file: a machine without a
 * card never opens the plug-in, and one with a card learns in one sentence why it cannot be opened. A library that was opened
 * once stays: the backend's tables point into it. */
#include "kernels/plugin.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trainer/base/io.h"
#include "trainer/base/log.h"

#define PLUGIN_FILE  "lorat_cuda.so"
#define PLUGIN_SETUP "`sh scripts/setup-cuda.sh` brings what CUDA needs"
enum { PATH_BYTES = 1024 };

static const char *named_by_user(void)
{
    const char *path = getenv("LORAT_CUDA");
    return path != NULL && path[0] != '\0' ? path : NULL;
}

bool plugin_card_present(void)
{
    /* /dev/dxg: the Windows subsystem for Linux, whose driver has no device file of NVIDIA's. It may stand there for another
     * maker's card too, so it counts only with NVIDIA's own library beside it. */
    static const char *const signs[] = {"/dev/nvidiactl", "/dev/nvidia0", "/proc/driver/nvidia/version"};
    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (io_exists(signs[i]))
            return true;
    return named_by_user() != NULL || (io_exists("/dev/dxg") && io_exists("/usr/lib/wsl/lib/libcuda.so.1"));
}

/* The folder of this program with a slash behind it; "" when the system does not tell. */
static void program_folder(char folder[PATH_BYTES])
{
    ssize_t n = readlink("/proc/self/exe", folder, PATH_BYTES - 1);
    folder[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash != NULL)
        slash[1] = '\0';
}

static int find(char path[2 * PATH_BYTES], struct err *e)
{
    static const char *const places[] = {"", "../lib/lorat/"};
    char folder[PATH_BYTES];
    if (named_by_user() != NULL) {
        snprintf(path, 2 * PATH_BYTES, "%s", named_by_user());
        if (!io_exists(path))
            FAIL(e, ERR_DEVICE, "$LORAT_CUDA: %.300s is not there, expected lorat's CUDA plug-in", path);
        return 0;
    }
    program_folder(folder);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, 2 * PATH_BYTES, "%s%s" PLUGIN_FILE, folder, places[i]);
        if (io_exists(path))
            return 0;
    }
    FAIL(e, ERR_DEVICE,
         PLUGIN_FILE
         ": not there, expected the CUDA plug-in beside the program in %.300s. It is a target of its own: without nvcc run "
         "`sh scripts/setup-cuda.sh` first, then `cmake -S . -B build && cmake --build build --target lorat_cuda`",
         folder);
}

/* The loader's words, "libx.so.1: cannot open shared object file: ...", as a sentence. */
static int not_loaded(const char *path, const char *said, struct err *e)
{
    const char *missing = strstr(said, ": cannot open shared object file");
    if (missing != NULL && strncmp(said, path, strlen(path)) != 0)
        FAIL(e, ERR_DEVICE,
             "%.300s: needs %.*s, expected it beside the plug-in, in LD_LIBRARY_PATH or where the system keeps "
             "libraries. " PLUGIN_SETUP,
             path, (int)(missing - said < 100 ? missing - said : 100), said);
    FAIL(e, ERR_DEVICE, "%.300s: cannot be loaded (%.300s). " PLUGIN_SETUP "; then build again", path, said);
}

static int check(const struct cuda_plugin *p, const char *path, struct err *e)
{
    if (p->abi != CUDA_PLUGIN_ABI || p->ops_size != sizeof(struct ops))
        FAIL(e, ERR_DEVICE,
             "%.300s: speaks interface %u with a table of %u bytes, expected %u and %zu. It is of another build of lorat: build "
             "both again",
             path, p->abi, p->ops_size, CUDA_PLUGIN_ABI, sizeof(struct ops));
    if (p->version == NULL || strcmp(p->version, LORAT_VERSION) != 0)
        FAIL(e, ERR_DEVICE,
             "%.300s: is of lorat %.40s, expected " LORAT_VERSION ". It is of another build of lorat: build both again", path,
             p->version != NULL ? p->version : "without a version");
    return 0;
}

int plugin_cuda(const struct cuda_plugin **out, struct err *e)
{
    char path[2 * PATH_BYTES];
    TRY(find(path, e));
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (library == NULL) {
        const char *said = dlerror();
        return not_loaded(path, said != NULL ? said : "no reason given", e);
    }
    lorat_cuda_plugin_fn function = (lorat_cuda_plugin_fn)dlsym(library, CUDA_PLUGIN_SYMBOL);
    if (function == NULL)
        FAIL(e, ERR_DEVICE, "%.300s: has no " CUDA_PLUGIN_SYMBOL ", expected lorat's CUDA plug-in. Build it again", path);
    const struct cuda_plugin *p = function();
    TRY(check(p, path, e));
    p->log_forward(log_line);
    *out = p;
    return 0;
}
