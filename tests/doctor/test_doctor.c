/* Every finding of lorat doctor appears on the machine it is made for and on no other; the ways that NCCL will take; the report as
 * JSON gives the same machine back; wrong descriptions are refused. Run in the source folder: tests/machines. */
#include "tests/check.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/doctor.h"

static struct machine m;
static struct doctor d;
static bool seen[FINDING_COUNT];

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
    CHECK_STR(m.label, "synthetic");
    doctor_examine(&m, &d);
}

/* The machine's findings in order, "a b c". */
static void finds(const char *name, const char *want, bool well)
{
    struct buf got = {0};
    load(name);
    for (int i = 0; i < d.n; i++) {
        buf_printf(&got, "%s%s", i > 0 ? " " : "", finding_name(d.finding[i].id));
        seen[d.finding[i].id] = true;
        CHECK(d.finding[i].text[0] != '\0' && d.finding[i].todo[0] != '\0');
        CHECK(i == 0 || finding_severity(d.finding[i - 1].id) <= finding_severity(d.finding[i].id));
    }
    if (strcmp(got.n > 0 ? got.data : "", want) != 0 || doctor_is_well(&d) != well) {
        fprintf(stderr, "%s: \"%s\" (%d), expected \"%s\" (%d)\n", name, got.n > 0 ? got.data : "", doctor_is_well(&d), want, well);
        check_failures++;
    }
    buf_free(&got);
}

static void test_findings(void)
{
    finds("bridged", "", true);
    finds("unbridged", "no_bridge", true);
    finds("slot_x4", "slot_narrow no_bridge", true);
    finds("one_card", "", true);
    finds("none", "no_card", true);
    finds("below_8_0", "no_usable_card", false);
    finds("one_below_8_0", "card_old", true);
    finds("driver_old", "driver_old", false);
    finds("no_plugin", "plugin", false);
    finds("small_shm", "shm_small no_bridge locked_memory", true);
    finds("power_capped", "power_capped", true);
    finds("busy", "card_busy", true);
    finds("full", "card_full card_busy", false);
    finds("second_full", "card_busy no_bridge", true);
    finds("half_bridged", "link_down", true);
    finds("switched", "", true);
    finds("bridged_elsewhere", "link_elsewhere", true);
    finds("peer_pcie", "no_bridge", true);
    finds("peer_intel", "no_bridge peer_unused", true);
    finds("peer_disputed", "peer_disputed no_bridge", true);
    finds("peer_iommu", "peer_at_risk no_bridge", true);
    finds("no_nccl", "nccl_missing no_bridge", true);
    finds("nccl_old", "nccl_old", true);
    finds("settings", "settings", true);
    finds("two_kinds", "cards_differ", true);
    finds("hot", "throttled", true);
    finds("wsl", "nvml_missing cudnn_missing wsl", true);
    finds("poor_host", "disk_full host_memory open_files", false);
    finds("low_disk", "disk_low", true);
    for (int i = 0; i < FINDING_COUNT; i++)
        if (!seen[i]) {
            fprintf(stderr, "no machine shows %s\n", finding_name((enum finding_id)i));
            check_failures++;
        }
}

static void way(const char *name, enum machine_way want, const char *because)
{
    char why[160];
    load(name);
    CHECK_INT(m.n_pairs, 1);
    CHECK_STR(machine_way_name(machine_way(&m, &m.pair[0], why)), machine_way_name(want));
    CHECK_HAS(why, because);
}

static void test_ways(void)
{
    way("bridged", WAY_NVLINK, "4 NVLinks");
    way("half_bridged", WAY_NVLINK, "2 NVLinks between the two");
    way("switched", WAY_NVLINK, "18 NVLinks to switches that join the two");
    way("unbridged", WAY_HOST, "the chipset does not support it");
    way("bridged_elsewhere", WAY_PEER, "PHB");
    way("peer_pcie", WAY_PEER, "grants peer access");
    way("peer_intel", WAY_HOST, "this CPU's PCIe ports");
    way("settings", WAY_HOST, "NCCL_P2P_DISABLE=1");
    m.pair[0].peer = -1;
    m.nccl_settings[0] = '\0';
    m.card[0].n_links = 0;
    char why[160];
    CHECK_INT(machine_way(&m, &m.pair[0], why), WAY_UNKNOWN);
}

/* Two cards whose links end at switches: some down, all down, on one side only, and what ends there not told. */
static void test_switches(void)
{
    char why[160];
    load("switched");
    for (int i = 0; i < 2; i++) {
        m.card[0].link[i].active = 0;
        m.card[0].link[i].remote[0] = m.card[0].link[i].type[0] = '\0';
    }
    doctor_examine(&m, &d);
    CHECK_INT(d.n, 1);
    CHECK_HAS(d.finding[0].text, "16 of 18 NVLinks are up");
    CHECK_HAS(d.finding[0].todo, "nvidia-smi nvlink --status");
    CHECK_INT(machine_bridges(&m, &m.card[1], &m.card[0], NULL), 16); /* as many as both have */
    m.card[1].n_links = 0;
    doctor_examine(&m, &d);
    CHECK_STR(finding_name(d.finding[0].id), "link_elsewhere");
    CHECK(machine_way(&m, &m.pair[0], why) != WAY_NVLINK);
    load("switched");
    for (int i = 0; i < m.card[1].n_links; i++)
        m.card[1].link[i].active = 0;
    CHECK(machine_way(&m, &m.pair[0], why) != WAY_NVLINK);
    load("switched");
    for (int i = 0; i < m.card[1].n_links; i++)
        m.card[1].link[i].type[0] = '\0';
    CHECK_INT(machine_bridges(&m, &m.card[0], &m.card[1], NULL), 0);
    load("switched");
    m.pair[0].peer = 0; /* the driver has not made the two neighbours (fabric manager, partitions) */
    CHECK_INT(machine_way(&m, &m.pair[0], why), WAY_HOST);
}

/* Without NVML nobody says which driver it is, but one is there. */
static void test_driver_unknown(void)
{
    struct buf report = {0};
    load("bridged");
    m.driver[0] = '\0';
    doctor_print(&m, &d, &report);
    CHECK_HAS(report.data, "software driver of unknown version, its CUDA ");
    buf_free(&report);
    report = (struct buf){0};
    m.driver_cuda[0] = '\0';
    doctor_print(&m, &d, &report);
    CHECK_HAS(report.data, "software driver none, its CUDA unknown");
    buf_free(&report);
}

/* A description may hold any number, and no comparison of two overflows. */
static void test_numbers(void)
{
    load("power_capped");
    m.card[0].power_default_w = INT64_MAX;
    m.card[0].pcie_width = m.card[0].pcie_width_max = INT64_MAX / 2 + 2;
    doctor_examine(&m, &d);
    CHECK_INT(d.n, 1);
    CHECK_STR(finding_name(d.finding[0].id), "power_capped");
    m.card[0].power_limit_w = INT64_MAX;
    m.card[0].pcie_width = 8;
    m.card[0].pcie_width_max = 16;
    doctor_examine(&m, &d);
    CHECK_INT(d.n, 0);
    m.card[0].pcie_width = 7;
    doctor_examine(&m, &d);
    CHECK_STR(finding_name(d.finding[0].id), "slot_narrow");
}

/* What was printed is read back to the same bytes. */
static void test_round_trip(void)
{
    static struct machine again;
    struct buf one = {0}, two = {0}, report = {0};
    struct json *root;
    struct err e = {0};
    load("switched");
    machine_write(&m, &one);
    CHECK_OK(machine_parse(one.data, one.n, "one", &again, &e), &e);
    CHECK_STR(again.card[1].link[17].type, "switch");
    buf_free(&one);
    one = (struct buf){0};
    load("busy");
    machine_write(&m, &one);
    CHECK_OK(machine_parse(one.data, one.n, "one", &again, &e), &e);
    machine_write(&again, &two);
    CHECK_STR(two.data, one.data);
    CHECK_INT(again.card[0].user[0].pid, 4711);
    CHECK_INT(again.card[0].throttle, 1);
    doctor_json(&m, &d, &report);
    CHECK_OK(json_parse(report.data, report.n, "report", ERR_DATA, &root, &e), &e);
    CHECK_INT(json_length(json_get(root, "findings")), 1);
    CHECK_INT(json_length(json_get(json_get(root, "machine"), "cards")), 1);
    json_free(root);
    buf_free(&one);
    buf_free(&two);
    buf_free(&report);
}

static void refused(const char *json, const char *part)
{
    struct err e = {0};
    CHECK(machine_parse(json, strlen(json), "file", &m, &e) == -1 && e.code == ERR_DATA);
    CHECK_HAS(e.text, part);
}

static void test_refused(void)
{
    refused("[]", "expected an object");
    refused("{\"drivr\": \"1\"}", "drivr is not known");
    refused("{\"driver\": 1}", "driver is");
    refused("{\"nvml\": 1}", "expected true or false");
    refused("{\"disk_free\": -1}", "negative");
    refused("{\"disk_free\": 1.5}", "a whole number");
    refused("{\"cards\": {}}", "expected a list");
    refused("{\"cards\": [{}]}", "index is missing");
    refused("{\"cards\": [{\"index\": 0}, {\"index\": 0}]}", "stands twice");
    refused("{\"pairs\": [{\"a\": 0, \"b\": 1}]}", "expected two of the cards");
    refused("{\"cards\": [{\"index\": 0, \"links\": [{\"active\": 3}]}]}", "cards[0]: links[0]");
    refused("{\"driver\": \"0123456789012345678901234567890123\"}", "at most 31");
    refused("{", "file:1");
    char many[64 + 16 * 20] = "{\"cards\": [";
    for (int i = 0; i < 17; i++)
        snprintf(many + strlen(many), sizeof many - strlen(many), "%s{\"index\": %d}", i > 0 ? "," : "", i);
    strcat(many, "]}");
    refused(many, "at most 16");
}

/* docs/doctor.md explains each finding, with its kind. */
static void test_page(void)
{
    static const char *const kinds[] = {"stop", "warning", "note"};
    char *page, row[96];
    size_t n;
    struct err e = {0};
    if (io_read_file("docs/doctor.md", ERR_DATA, 1 << 20, &page, &n, &e) != 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    for (int i = 0; i < FINDING_COUNT; i++) {
        snprintf(row, sizeof row, "| `%s` | %s |", finding_name((enum finding_id)i), kinds[finding_severity((enum finding_id)i)]);
        if (strstr(page, row) == NULL) {
            fprintf(stderr, "docs/doctor.md has no row \"%s\"\n", row);
            check_failures++;
        }
    }
    mem_free(page);
}

int main(void)
{
    test_page();
    test_findings();
    test_ways();
    test_switches();
    test_numbers();
    test_driver_unknown();
    test_round_trip();
    test_refused();
    return check_done();
}
