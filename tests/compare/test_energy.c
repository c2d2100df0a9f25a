/* The RAPL reader against a folder that looks like the kernel's. */
#include <unistd.h>

#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/energy.h"

static char dir[] = "/tmp/lorat-energy-XXXXXX";

/* Written in place, as the kernel's file is: the reader keeps it open. */
static void put(const char *zone, const char *name, const char *text)
{
    char path[256];
    struct err e = {0};
    snprintf(path, sizeof path, "%s", zone);
    CHECK_OK(io_mkdirs(path, &e), &e);
    snprintf(path, sizeof path, "%s/%s", zone, name);
    FILE *f = fopen(path, "w");
    CHECK(f != NULL && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void zone(const char *path, const char *name, const char *counter)
{
    put(path, "name", name);
    put(path, "max_energy_range_uj", "262143328850\n");
    put(path, "energy_uj", counter);
}

int main(void)
{
    struct energy m;
    struct err e = {0};
    if (mkdtemp(dir) == NULL || chdir(dir) != 0)
        CHECK_SKIP("no folder for temporary files");
    energy_open(&m, "missing");
    CHECK(m.n == 0 && isnan(energy_read(&m)));
    energy_close(&m);
    zone("rapl/intel-rapl:0", "package-0\n", "1000000\n");
    zone("rapl/intel-rapl:1", "package-1\n", "262143328000\n");
    zone("rapl/intel-rapl:2", "psys\n", "0\n");     /* the platform: the packages again */
    zone("rapl/intel-rapl:0:0", "core\n", "500\n"); /* a part of a package */
    zone("rapl/dtpm", "package-9\n", "500\n");
    zone("rapl/intel-rapl:3", "package-3\n", "broken\n");
    put("rapl/intel-rapl:4", "name", "package-4\n"); /* its counter is not there, as for a user who may not read it */
    energy_open(&m, "rapl");
    CHECK_INT(m.n, 2);
    CHECK_NEAR(energy_read(&m), 0, 0);
    put("rapl/intel-rapl:0", "energy_uj", "3500000\n");
    CHECK_NEAR(energy_read(&m), 2.5, 1e-12);
    put("rapl/intel-rapl:1", "energy_uj", "999150\n"); /* wrapped: 850 up to the range, then 999150 */
    CHECK_NEAR(energy_read(&m), 3.5, 1e-12);
    put("rapl/intel-rapl:0", "energy_uj", "");
    CHECK(isnan(energy_read(&m)));
    energy_close(&m);
    energy_close(&m);
    CHECK(chdir("/") == 0);
    CHECK_OK(io_remove_tree(dir, &e), &e);
    return check_done();
}
