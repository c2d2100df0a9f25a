/* Blocks for which the host has no room: the sentence names who asked and what that one can do. Sharing a base is for a job's cards that are
 * alike alone. */
#include "tests/check.h"
#include "trainer/placement.h"

#define MUCH ((int64_t)1 << 50) /* more than any machine has */

static void refused(enum placement_asker who, int ranks, const char *unequal, const char *where, const char *instead, bool shared)
{
    struct err e = {0};
    CHECK_INT(placement_room(who, MUCH, ranks, unequal, &e), -1);
    CHECK_INT(e.code, ERR_DEVICE);
    CHECK(strncmp(e.text, where, strlen(where)) == 0);
    CHECK_HAS(e.text, ": the base's blocks take 1.0 PiB of host memory");
    CHECK_HAS(e.text, instead);
    CHECK((strstr(e.text, "sharded") != NULL) == shared);
    CHECK((strstr(e.text, "once for each of 3 ranks") != NULL) == (ranks == 3));
}

int main(void)
{
    struct err e = {0};
    refused(PLACEMENT_OF_JOB, 1, "", "model.placement: host", "over several cards that are alike a shared base needs none", true);
    refused(PLACEMENT_OF_JOB, 3, "", "model.placement: host", "a base that the cards share needs none", true);
    refused(PLACEMENT_OF_JOB, 3, "card 0, RTX 3090, and card 1, RTX 4090", "model.placement: host", "fewer cards take less (compute.gpus)", false);
    refused(PLACEMENT_OF_GENERATE, 1, "", "generate", "--placement resident needs none", false);
    refused(PLACEMENT_OF_BENCH, 1, "", "bench step", "--placement resident needs none", false);
    CHECK_INT(placement_room(PLACEMENT_OF_JOB, 0, 0, "", &e), 0);
    return check_done();
}
