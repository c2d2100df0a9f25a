#include "trainer/verb_job.h"

#include "trainer/base/mem.h"

int verb_job(const struct options *o, const char *path, struct config *c, struct err *e)
{
    size_t n = options_count(o, "set");
    const char **sets = mem_alloc(n + 1, sizeof *sets);
    if (sets == NULL)
        return mem_fail(e, "a job", n * sizeof *sets);
    for (size_t i = 0; i < n; i++)
        sets[i] = options_nth(o, "set", i);
    int rc = config_load(path, sets, (int)n, c, e);
    mem_free(sets);
    return rc;
}
