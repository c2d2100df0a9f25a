/* test_device.c - which card is chosen, and what is said when none can be. */
#include "tests/check.h"
#include "trainer/device.h"

#define GIB ((int64_t)1 << 30)

static struct cuda_card card(int index, int major, int64_t free)
{
    struct cuda_card c = {.index = index, .major = major, .minor = 6, .total = 24 * GIB, .free = free * GIB};
    snprintf(c.name, sizeof c.name, "card of %d", major);
    return c;
}

static int n_chosen;
/* The number of the first card chosen, or -1. */
static int choose(const struct cuda_card *cards, int n, uint32_t gpus, struct err *e)
{
    const struct cuda_card *out[DEVICE_MAX_CARDS];
    *e = (struct err){0};
    if (device_choose(cards, n, gpus, out, &n_chosen, e) == 0)
        return out[0]->index;
    CHECK_INT(e->code, ERR_DEVICE);
    return -1;
}

static void test_choose(void)
{
    struct err e;
    struct cuda_card cards[] = {card(0, 8, 3), card(1, 8, 20), card(2, 8, 20), card(3, 6, 23), card(5, 9, 1)};
    CHECK_INT(choose(cards, 5, 0, &e), 1); /* the most free; the first of two; the old one has more */
    CHECK_INT(n_chosen, 3); /* and those of the same name */
    CHECK_INT(choose(cards, 1, 0, &e), 0);
    CHECK_INT(choose(cards, 5, 1u << 0, &e), 0);
    CHECK_INT(choose(cards, 5, 1u << 5, &e), 5);
    CHECK_INT(choose(cards, 5, 1u << 4, &e), -1);
    CHECK_HAS(e.text, "compute.gpus: found 4, expected one of the cards of this machine: 0: card of 8");
    CHECK_HAS(e.text, "; 5: card of 9, compute capability 9.6, 1.0 GiB of 24.0 GiB free");
    CHECK_INT(choose(cards, 5, 3u, &e), 0);
    CHECK_INT(n_chosen, 2);
    CHECK_INT(choose(cards, 5, 3u << 2, &e), -1);
    CHECK_INT(choose(cards, 5, 1u << 3, &e), -1);
    CHECK_HAS(e.text, "no BF16 below 8.0: a Tesla P40 (6.1) cannot");
    CHECK_INT(choose(cards + 3, 1, 0, &e), -1);
    CHECK_INT(choose(cards, 0, 0, &e), -1);
    CHECK_HAS(e.text, "no card");
}

/* Open with the fake plug-in behaving as `kind`. */
static int open_device(enum cfg_device device, enum cfg_precision precision, const char *kind, struct cuda_card *c, char *name,
                       enum dtype *act, struct err *e)
{
    static struct config config;
    struct ops *o = NULL;
    memset(&config, 0, sizeof config);
    config.compute.device = device;
    config.compute.precision = precision;
    config.compute.threads = 1;
    setenv("LORAT_FAKE_CUDA", kind, 1);
    *e = (struct err){0};
    int rc = device_open(&config, &o, c, e);
    snprintf(name, 16, "%s", o != NULL ? o->name : "none");
    *act = o != NULL ? o->act : DT_F32;
    if (o != NULL)
        o->close(o);
    return rc;
}

static void test_open(const char *fake)
{
    struct err e;
    struct cuda_card c;
    char name[16];
    enum dtype act;
    setenv("LORAT_CUDA", fake, 1);
    CHECK_INT(open_device(DEVICE_AUTO, PRECISION_AUTO, "", &c, name, &act, &e), 0);
    CHECK_STR(name, "cuda");
    CHECK_INT(act, DT_BF16); /* whatever this CPU multiplies */
    CHECK_STR(c.name, "Fake RTX 3090");
    CHECK_INT(open_device(DEVICE_CUDA, PRECISION_F32, "", &c, name, &act, &e), 0);
    CHECK_INT(act, DT_F32);
    CHECK_INT(open_device(DEVICE_CPU, PRECISION_F32, "", &c, name, &act, &e), 0);
    CHECK_STR(name, "cpu");
    CHECK_STR(c.name, "");
    CHECK_INT(open_device(DEVICE_AUTO, PRECISION_AUTO, "two", &c, name, &act, &e), 0);
    CHECK_INT(c.index, 0);
    static const char *const bad[][2] = {
        {"no-driver", "Update the driver"}, {"old", "compute capability 6.1"}, {"version", "another build"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        for (int k = 0; k < 2; k++) {
            CHECK_INT(open_device(k ? DEVICE_CUDA : DEVICE_AUTO, PRECISION_AUTO, bad[i][0], &c, name, &act, &e), -1);
            CHECK_INT(e.code, ERR_DEVICE);
            CHECK_STR(name, "none"); /* never a silent fall to the CPU */
            CHECK_HAS(e.text, bad[i][1]);
            CHECK_HAS(e.text, "compute.device: cpu");
        }
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    test_choose();
    test_open(argv[1]);
    return check_done();
}
