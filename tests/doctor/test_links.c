/* The reader of NVML against a library of our own (fake_nvml.c): cards, pairs, users, counters; energy of cards; a library that does not
 * tell everything. */
#include "kernels/links.h"
#include "tests/check.h"
#include "trainer/energy.h"

#define ONE "00000000:01:00.0"
#define TWO "00000000:02:00.0"

static void test_cards(struct links *l)
{
    struct link_card all[LINKS_MAX_CARDS], *c = &all[0];
    char driver[32];
    links_driver(l, driver);
    CHECK_STR(driver, "580.95.05");
    CHECK_INT(links_list(l, all, LINKS_MAX_CARDS), 2);
    CHECK_INT(links_list(l, all, 1), 1);
    CHECK_STR(c->pci, ONE);
    CHECK_STR(c->uuid, "GPU-0");
    CHECK_INT(c->major * 10 + c->minor, 86);
    links_ask(l, c);
    CHECK_INT(c->total >> 30, 24);
    CHECK_INT(c->free >> 30, 20);
    CHECK_INT(c->power_limit_w, 280);
    CHECK_INT(c->power_default_w, 350);
    CHECK_INT(c->clock_mhz, 1400);
    CHECK_INT(c->clock_max_mhz, 2100);
    CHECK_INT(c->temperature_c, 55);
    CHECK_INT(c->throttle, 4);
    CHECK_INT(c->pcie_gen * 1000 + c->pcie_gen_max * 100 + c->pcie_width, 1408);
    CHECK_INT(c->pcie_width_max, 16);
    CHECK_INT(c->n_users, 2); /* one of them is listed twice */
    CHECK_INT(c->user[0].bytes >> 30, 3);
    CHECK_STR(c->user[0].name, "python3");
    CHECK_INT(c->user[1].bytes, -1);
    CHECK_INT(c->n_links, 4);
    CHECK_INT(c->link[0].active, 1);
    CHECK_STR(c->link[0].remote, TWO);
    CHECK_STR(c->link[0].type, "gpu");
    CHECK_STR(c->link[2].type, "");
    CHECK_INT(c->link[3].active, 0);
    CHECK_STR(c->link[3].remote, "");
    CHECK_STR(c->link[3].type, "");
    setenv("LORAT_FAKE_NVML", "switched", 1);
    links_ask(l, c);
    CHECK_STR(c->link[0].remote, "00000000:C4:00.0");
    CHECK_STR(c->link[0].type, "switch");
    setenv("LORAT_FAKE_NVML", "old", 1); /* the links are known, what stands at their ends is not */
    links_ask(l, c);
    CHECK_STR(c->link[0].remote, TWO);
    CHECK_STR(c->link[0].type, "");
    unsetenv("LORAT_FAKE_NVML");
    struct link_card absent = links_unknown();
    snprintf(absent.pci, sizeof absent.pci, "00000000:09:00.0");
    links_ask(l, &absent);
    CHECK_INT(absent.free, -1);
    CHECK_INT(absent.n_links, 0);
}

static void test_pairs(struct links *l)
{
    struct link_pair p = {0};
    links_ask_pair(l, ONE, TWO, &p);
    CHECK_INT(p.peer, 1);
    CHECK_STR(p.topology, "PHB");
    setenv("LORAT_FAKE_NVML", "unbridged", 1);
    links_ask_pair(l, ONE, TWO, &p);
    CHECK_INT(p.peer, 0);
    CHECK_STR(p.peer_status, "the chipset does not support it");
    setenv("LORAT_FAKE_NVML", "old", 1);
    links_ask_pair(l, ONE, TWO, &p);
    CHECK_INT(p.peer, -1);
    unsetenv("LORAT_FAKE_NVML");
    links_ask_pair(l, ONE, "nonsense", &p);
    CHECK_INT(p.peer, -1);
}

static void test_counters(struct links *l)
{
    uint64_t sent, received, later;
    CHECK(links_bytes(l, ONE, &sent, &received) && links_bytes(l, ONE, &later, &received));
    CHECK_INT(later - sent, 1 << 30);
    CHECK_INT(received, 7 * 1024);
    CHECK(!links_bytes(l, "00000000:09:00.0", &sent, &received));
    const char *const both[] = {ONE, TWO}, *const wrong[] = {ONE, "00000000:09:00.0"};
    struct energy m;
    energy_open_cards(&m, both, 2);
    CHECK_INT(m.n, 2);
    CHECK_NEAR(energy_read(&m), 4, 1e-9); /* 2 J of each */
    CHECK_NEAR(energy_read(&m), 8, 1e-9);
    setenv("LORAT_FAKE_NVML", "old", 1);
    CHECK(isnan(energy_read(&m)));
    energy_close(&m);
    energy_open_cards(&m, both, 2);
    CHECK(m.n == 0 && isnan(energy_read(&m)));
    energy_close(&m);
    CHECK(!links_bytes(l, ONE, &sent, &received));
    unsetenv("LORAT_FAKE_NVML");
    energy_open_cards(&m, wrong, 2);
    CHECK(m.n == 0 && isnan(energy_read(&m)));
    energy_close(&m);
    energy_close(&m);
}

int main(void)
{
    unsetenv("LORAT_FAKE_NVML");
    struct links *l = links_open();
    CHECK(l != NULL);
    if (l == NULL)
        return check_done();
    test_cards(l);
    test_pairs(l);
    test_counters(l);
    links_close(l);
    links_close(NULL);
    return check_done();
}
