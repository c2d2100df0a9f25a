/* --set on top of a file, and the files that are no files. */
#include <sys/stat.h>
#include <unistd.h>

#include "tests/cli/config_test.h"

static struct config c;
static struct err e;
static char dir[] = "/tmp/lorat-set-XXXXXX", path[64];

static int load(const char *a, const char *b)
{
    const char *sets[2] = {a, b};
    memset(&e, 0, sizeof e);
    return config_load(path, sets, (a != NULL) + (b != NULL), &c, &e);
}

static void refused(const char *set, enum err_code code, const char *message)
{
    CHECK_INT(load(set, NULL), -1);
    CHECK_INT(e.code, code);
    CHECK_STR(e.text, message);
}

static void test_sets(void)
{
    CHECK_OK(load("train.epochs=1", "train.epochs=2"), &e);
    CHECK_NEAR(c.train.epochs, 2, 0); /* in order */
    CHECK_OK(load("lora.targets=[q, v]", "eval.prompts=[\"a, b\", 'c']"), &e);
    CHECK_INT(c.lora.targets, 5);
    CHECK_INT(c.eval.n_prompts, 2);
    CHECK_STR(c.eval.prompts[0], "a, b");
    CHECK_OK(load("eval.prompts=[x]", "eval.prompts=[]"), &e);
    CHECK_INT(c.eval.n_prompts, 0);
    CHECK_STR(c.eval.prompts[0], "");
    CHECK_OK(load("model.path=a=b", "compute.memory_limit=22GiB"), &e);
    CHECK_STR(c.model.path, "a=b");
    CHECK_OK(load("train.max_steps=7", NULL), &e);
    CHECK_NEAR(c.train.epochs, 3, 0); /* written in the file, so it stays */
    CHECK_OK(load("train.max_steps=7", "train.epochs=null"), &e);
    CHECK_NEAR(c.train.epochs, 0, 0);
}

static void test_wrong_sets(void)
{
    refused("train.epoch=1", ERR_CONFIG, "--set train.epoch: unknown key, did you mean train.epochs?");
    refused("epochs=1", ERR_CONFIG, "--set epochs: unknown key, did you mean train.epochs?");
    refused("trian.epochs=1", ERR_CONFIG, "--set trian.epochs: unknown key, did you mean train.epochs?");
    refused("lora.r=1", ERR_CONFIG, "--set lora.r: unknown key, did you mean lora.rank?");
    refused("train={epochs: 1}", ERR_CONFIG, "--set train: found a section, expected one of its keys. Set them one by one");
    refused("train.epochs", ERR_USAGE, "--set train.epochs: found no key=value, expected for example --set train.epochs=1");
    refused("=1", ERR_USAGE, "--set =1: found no key=value, expected for example --set train.epochs=1");
    refused("lora.rank=", ERR_CONFIG, "--set lora.rank: found nothing, expected a whole number between 1 and 1024.");
    refused("lora.rank=x", ERR_CONFIG, "--set lora.rank: found \"x\", expected a whole number between 1 and 1024.");
    refused("lora.rank=*x", ERR_CONFIG,
            "--set lora.rank: found the alias *x, expected a value. Write each value where it is used");
    refused("lora.rank=!!int 1", ERR_CONFIG,
            "--set lora.rank: found the tag tag:yaml.org,2002:int, expected a value without a tag. Remove it");
    refused("lora.rank=\xff", ERR_CONFIG, "--set lora.rank: found the byte 0xff, expected UTF-8 text. Save the file as UTF-8");
    refused("train.micro_batch=3", ERR_CONFIG,
            "--set train.micro_batch: found 3, expected a divisor of train.batch (8). The nearest is 2; auto chooses one");
}

static void test_paths(void)
{
    char other[96];
    snprintf(other, sizeof other, "%s/none.yaml", dir);
    memset(&e, 0, sizeof e);
    CHECK_INT(config_load(other, NULL, 0, &c, &e), -1);
    CHECK_INT(e.code, ERR_CONFIG);
    CHECK_HAS(e.text, "none.yaml");
    CHECK_INT(config_load(dir, NULL, 0, &c, &e), -1);
    CHECK_INT(e.code, ERR_CONFIG);
    CHECK_HAS(e.text, dir);
    snprintf(other, sizeof other, "%s/fifo", dir);
    CHECK_INT(mkfifo(other, 0600), 0);
    CHECK_INT(config_load(other, NULL, 0, &c, &e), -1); /* at once, although nobody writes */
    CHECK_INT(e.code, ERR_CONFIG);
    unlink(other);
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/job.yaml", dir);
    FILE *f = fopen(path, "w");
    fputs(MINIMAL "train: {epochs: 3, batch: 8}\n", f);
    fclose(f);
    test_sets();
    test_wrong_sets();
    test_paths();
    unlink(path);
    rmdir(dir);
    return check_done();
}
