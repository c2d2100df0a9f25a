/* Two simulated cards under a management library of our own: what lorat doctor says of them, and that lorat bench comm forces a way, counts
 * bytes and names the way. ARGS: the program, the simulated plug-in, the folder of the library. */
#include "tests/check.h"
#include "tests/shell.h"

static char out[1 << 16];

static int run(char **argv, const char *settings, const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "env LORAT_CUDA='%s' LD_LIBRARY_PATH='%s' LORAT_SIM_CARDS=3090,3090 %s '%s' %s 2>&1", argv[2], argv[3], settings,
             argv[1], arguments);
    return shell(command, out, sizeof out);
}

int main(int argc, char **argv)
{
    static const char bench[] = "bench comm --device cuda --most 1 --seconds 0";
    char command[256];
    if (argc < 4)
        return 1;
    CHECK_INT(run(argv, "", "doctor"), 0);
    CHECK_HAS(out, "NCCL will use: nvlink, because 3 NVLinks");
    CHECK_HAS(out, "power_capped: Card 0 is held to 280 W");
    CHECK_HAS(out, "card_busy: Card 0: python3 (pid 4194305) holds 3.0 GiB");
    CHECK_HAS(out, "link_down: Cards 0 and 1: 3 of 4");
    CHECK(strstr(out, "peer_disputed") == NULL);
    CHECK_INT(run(argv, "LORAT_SIM_PEER=off", "doctor"), 0); /* as CUDA sees it */
    CHECK_HAS(out, "peer_disputed: Cards 0 and 1: NVML grants peer access, and CUDA does not");
    CHECK_HAS(out, "NCCL will use: pcie, through host memory, because the driver grants no peer access (by CUDA");
    snprintf(command, sizeof command, "%s --interconnect nvlink", bench);
    CHECK_INT(run(argv, "NCCL_P2P_DISABLE=1 NCCL_ALGO=Tree", command), 0);
    CHECK_HAS(out, "NCCL_P2P_DISABLE=1 in the environment contradicts compute.interconnect; 0 is used");
    CHECK_HAS(out, "NCCL_ALGO=Tree in the environment contradicts compute.interconnect; Ring is used");
    CHECK_HAS(out, "interconnect: nvlink");
    CHECK_HAS(out, "the cards' counters: 1.0 GiB sent over NVLink");
    snprintf(command, sizeof command, "%s --interconnect pcie", bench);
    CHECK_INT(run(argv, "", command), 0);
    CHECK_HAS(out, "pcie was asked for, and the bytes went over NVLink");
    snprintf(command, sizeof command, "%s --interconnect nvlink", bench);
    CHECK_INT(run(argv, "LORAT_FAKE_NVML=switched", "doctor"), 0);
    CHECK_HAS(out, "NCCL will use: nvlink, because 3 NVLinks to switches that join the two");
    CHECK_INT(run(argv, "LORAT_FAKE_NVML=switched", command), 0);
    CHECK_INT(run(argv, "LORAT_FAKE_NVML=unbridged", command), 7);
    CHECK_HAS(out, "no NVLink joins cards 0 and 1 (card 0: link 0 down");
    CHECK_INT(run(argv, "LORAT_FAKE_NVML=old", bench), 0);
    CHECK_HAS(out, "interconnect: unknown");
    return check_done();
}
