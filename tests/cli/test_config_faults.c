/* Reading and writing a job while every allocation in turn fails: a message or a result, nothing leaked (LeakSanitizer looks). */
#include "tests/cli/config_test.h"
#include "trainer/base/mem.h"

static struct config c, other;
static struct err e;
static const char *const sets[] = {"train.epochs=1", "lora.targets=[q, v]", "eval.prompts=[a, b]"};

static void test_load(void)
{
    int rc = -1;
    int64_t n = 1;
    for (; rc != 0 && n < 10000; n++) {
        memset(&e, 0, sizeof e);
        mem_fail_at(n);
        rc = config_load("configs/quickstart.yaml", sets, 3, &c, &e);
        mem_fail_at(0);
        if (rc != 0)
            CHECK_HAS(e.text, "memory");
    }
    CHECK_INT(rc, 0);
    CHECK(n > 50); /* that many allocations did fail */
    CHECK_INT(c.lora.targets, 5);
}

static void test_compare(void)
{
    CHECK_OK(config_load("configs/quickstart.yaml", sets, 3, &c, &e), &e);
    other = c;
    other.seed = 1;
    other.lora.rank = 1;
    for (int64_t n = 1; n < 400; n++) {
        struct buf said = {0};
        memset(&e, 0, sizeof e);
        mem_fail_at(n);
        CHECK_INT(config_compare(&c, &other, &said, &e), -1); /* never passed over */
        mem_fail_at(0);
        CHECK(e.text[0] != '\0');
        buf_free(&said);
    }
}

static void test_write(void)
{
    for (int64_t n = 1; n < 50; n++) {
        struct buf out = {0};
        mem_fail_at(n);
        config_write(&c, &out);
        config_reference(&out, true);
        config_reference(&out, false);
        mem_fail_at(0);
        buf_free(&out);
    }
}

int main(void)
{
    test_load();
    test_compare();
    test_write();
    return check_done();
}
