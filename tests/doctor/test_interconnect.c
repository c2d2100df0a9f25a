/* compute.interconnect: which machines can do what is asked, the settings that NCCL gets, its log, and what counters and log prove.
 * The lines of the log are written after NCCL's own formats (p2pSendSetup, shmSendSetup, ncclTopoPrintGraph), not captured. */
#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/interconnect.h"

static struct machine m;
static const int both[] = {0, 1};

static void load(const char *name)
{
    char path[256], *text;
    size_t n;
    struct err e = {0};
    snprintf(path, sizeof path, "tests/machines/%s.json", name);
    if (io_read_file(path, ERR_DATA, 1 << 20, &text, &n, &e) != 0 || machine_parse(text, n, path, &m, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    mem_free(text);
}

static void refused(const char *name, const char *part)
{
    struct err e = {0};
    load(name);
    CHECK(interconnect_check(&m, both, 2, INTERCONNECT_NVLINK, &e) == -1 && e.code == ERR_DEVICE);
    CHECK_HAS(e.text, part);
    CHECK_INT(interconnect_check(&m, both, 2, INTERCONNECT_PCIE, &e), 0);
    CHECK_INT(interconnect_check(&m, both, 2, INTERCONNECT_AUTO, &e), 0);
}

static void test_check(void)
{
    struct err e = {0};
    load("bridged");
    CHECK_OK(interconnect_check(&m, both, 2, INTERCONNECT_NVLINK, &e), &e);
    load("half_bridged");
    CHECK_OK(interconnect_check(&m, both, 2, INTERCONNECT_NVLINK, &e), &e);
    CHECK(interconnect_check(&m, both, 1, INTERCONNECT_NVLINK, &e) == -1 && e.code == ERR_CONFIG);
    load("switched");
    CHECK_OK(interconnect_check(&m, both, 2, INTERCONNECT_NVLINK, &e), &e);
    m.card[1].n_links = 0;
    CHECK(interconnect_check(&m, both, 2, INTERCONNECT_NVLINK, &e) == -1 && e.code == ERR_DEVICE);
    CHECK_HAS(e.text, "link 0 ends at a switch, 00000000:05:00.0");
    CHECK_HAS(e.text, "card 1: no NVLink");
    refused("unbridged", "card 0: link 0 down, link 1 down");
    refused("bridged_elsewhere", "link 0 ends at 00000000:41:00.0");
    refused("two_kinds", "card 1: no NVLink");
    refused("one_card", "card 1 is not among");
    load("bridged");
    m.nvml = 0;
    CHECK(interconnect_check(&m, both, 2, INTERCONNECT_NVLINK, &e) == -1);
    CHECK_HAS(e.text, "NVML");
    m.nvml = 1;
    m.pair[0].peer = 0;
    CHECK(interconnect_check(&m, both, 2, INTERCONNECT_NVLINK, &e) == -1);
    CHECK_HAS(e.text, "no peer access");
}

static void settings(const char *name, enum cfg_interconnect want, const char *expected)
{
    struct interconnect_setting s[INTERCONNECT_MAX_SETTINGS];
    struct buf got = {0};
    load(name);
    int n = interconnect_settings(&m, both, 2, want, s);
    buf_puts(&got, "");
    for (int i = 0; i < n; i++)
        buf_printf(&got, "%s%s=%s", i > 0 ? " " : "", s[i].name, s[i].value);
    CHECK_STR(got.n > 0 ? got.data : "", expected);
    buf_free(&got);
}

static void test_settings(void)
{
    settings("bridged", INTERCONNECT_AUTO, "");
    settings("bridged", INTERCONNECT_NVLINK, "NCCL_ALGO=Ring NCCL_PROTO=Simple NCCL_P2P_DISABLE=0 NCCL_P2P_LEVEL=NVL");
    settings("bridged", INTERCONNECT_PCIE, "NCCL_ALGO=Ring NCCL_PROTO=Simple NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=0");
    settings("switched", INTERCONNECT_PCIE, "NCCL_ALGO=Ring NCCL_PROTO=Simple NCCL_P2P_DISABLE=1 NCCL_SHM_DISABLE=0");
    settings("peer_pcie", INTERCONNECT_PCIE, "NCCL_ALGO=Ring NCCL_PROTO=Simple NCCL_SHM_DISABLE=0"); /* peer copies stay: they are PCIe's */
}

static const char by_nvlink[] =
    "box:41:41 [0] NCCL INFO NCCL version 2.28.3+cuda13.0\n"
    "box:41:52 [0] NCCL INFO Pattern 4, crossNic 0, nChannels 2, bw 44.000000/44.000000, type NVL/PIX, sameChannels 1\n"
    "box:41:52 [0] NCCL INFO  0 : GPU/0-1000 GPU/0-21000\n"
    "box:41:52 [0] NCCL INFO Pattern 1, crossNic 0, nChannels 4, bw 22.000000/22.000000, type PHB/PIX, sameChannels 0\n"
    "box:41:52 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM\n"
    "box:41:52 [0] NCCL INFO Channel 01/0 : 0[0] -> 1[1] via P2P/CUMEM\n"
    "box:41:52 [0] NCCL INFO Connected all rings";
static const char by_peer[] =
    "NCCL INFO Pattern 4, crossNic 0, nChannels 1, bw 12.000000/12.000000, type PHB/PIX, sameChannels 1\n"
    "NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IPC\n";
static const char by_host[] =
    "NCCL INFO Pattern 4, crossNic 0, nChannels 1, bw 10.000000/10.000000, type SYS/PIX, sameChannels 1\n"
    "NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct\nNCCL INFO Channel 01 : 0[0] -> 1[1] via SHM/direct/direct\n";
static const char by_net[] = "NCCL INFO Channel 00/0 : 0[0] -> 1[1] [send] via NET/Socket/0\n";

static void log_is(const char *text, int peer, int shm, int net, const char *ring)
{
    struct interconnect_log l;
    interconnect_read_log(text, strlen(text), &l);
    CHECK_INT(l.peer, peer);
    CHECK_INT(l.shm, shm);
    CHECK_INT(l.net, net);
    CHECK_STR(l.ring, ring);
}

static void test_log(void)
{
    log_is(by_nvlink, 2, 0, 0, "NVL");
    log_is(by_peer, 1, 0, 0, "PHB");
    log_is(by_host, 0, 2, 0, "SYS");
    log_is(by_net, 0, 0, 1, "");
    log_is("", 0, 0, 0, "");
    log_is("\n\n via P2P\n-> via\nPattern 4, crossNic", 0, 0, 0, "");
    struct interconnect_log l;
    char noise[4096];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 2654435761u >> 13);
    interconnect_read_log(noise, sizeof noise, &l);
    memset(noise, 'x', sizeof noise);
    interconnect_read_log(noise, sizeof noise, &l);
    CHECK_INT(l.peer + l.shm + l.net, 0);
}

static void verdict(const char *log, bool counted, double share, enum machine_way want, const char *because)
{
    struct interconnect_seen s = {.ranks = 2, .counted = counted, .collective = 1000000000};
    char proof[200];
    s.nvlink = (uint64_t)(share * 1e9); /* what a ring of two takes out of each card */
    interconnect_read_log(log, strlen(log), &s.log);
    CHECK_STR(machine_way_name(interconnect_verdict(&s, proof)), machine_way_name(want));
    CHECK_HAS(proof, because);
}

static void test_verdict(void)
{
    verdict(by_nvlink, true, 1, WAY_NVLINK, "counters");
    verdict("", true, 1, WAY_NVLINK, "counters");
    verdict("", true, 0.3, WAY_UNKNOWN, "counters");
    verdict(by_nvlink, true, 0, WAY_NVLINK, "log");   /* a card that keeps no counters */
    verdict(by_nvlink, true, 0.01, WAY_PEER, "log");  /* counters that work and did not move: not over NVLink, whatever was planned */
    verdict(by_host, true, 0, WAY_HOST, "shared host memory");
    verdict(by_host, true, 0.6, WAY_NVLINK, "counters");
    verdict(by_nvlink, false, 0, WAY_NVLINK, "ring of type NVL");
    verdict(by_peer, false, 0, WAY_PEER, "ring of type PHB");
    verdict(by_host, false, 0, WAY_HOST, "2 channels");
    verdict(by_net, false, 0, WAY_UNKNOWN, "network");
    verdict("NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/IPC\n", false, 0, WAY_UNKNOWN, "unknown");
    verdict("", false, 0, WAY_UNKNOWN, "neither");
}

int main(void)
{
    test_check();
    test_settings();
    test_log();
    test_verdict();
    return check_done();
}
