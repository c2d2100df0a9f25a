/* config_write then config_parse gives the same bytes, over many jobs drawn at random from the table itself. */
#include "tests/cli/config_test.h"
#include "trainer/config_table.h"

static struct config a, b;
static struct err e;
static uint64_t state = 1;

static uint32_t draw(uint32_t n) /* 0..n-1; any fixed sequence will do */
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

static double draw_unit(void) { return (double)draw(1u << 30) / (double)(1u << 30); }

/* A text with everything that needs care in YAML. */
static void draw_text(char *out, size_t size)
{
    static const char *const pieces[] = {"a",
                                         " ",
                                         "#",
                                         ": ",
                                         "'",
                                         "\"",
                                         "\\",
                                         "\n",
                                         "\t",
                                         "\r",
                                         "\x01",
                                         "\x7f",
                                         "\x1b",
                                         "{",
                                         "*x",
                                         "- ",
                                         "\xc3\xa9",
                                         "\xc2\x85",
                                         "\xc2\x9f",
                                         "\xc2\xa0",
                                         "\xe2\x80\xa8",
                                         "\xe2\x80\xa9",
                                         "\xef\xbb\xbf",
                                         "\xef\xbf\xbe",
                                         "\xef\xbf\xbf",
                                         "\xf0\x9f\x98\x80",
                                         "null",
                                         "yes",
                                         "1e3",
                                         "~",
                                         "%",
                                         "\\u0041"};
    size_t n = 0;
    for (uint32_t k = 1 + draw(12); k > 0; k--) {
        const char *piece = pieces[draw(sizeof pieces / sizeof pieces[0])];
        if (n + strlen(piece) >= size)
            break;
        memcpy(out + n, piece, strlen(piece));
        n += strlen(piece);
    }
    out[n] = '\0';
}

static double draw_number(const struct config_key *key)
{
    double v = key->min + (key->max - key->min) * draw_unit();
    if (draw(3) == 0)
        v = key->min + (key->max - key->min) * pow(draw_unit(), 8);
    return draw(16) == 0 ? key->min : draw(16) == 0 ? key->max : v;
}

static void draw_every(struct cfg_every *every)
{
    switch (draw(4)) {
    case 0:
        every->steps = 1 + draw(1000000000);
        break;
    case 1:
        every->seconds = 60.0 * (1 + draw(1000));
        break;
    case 2:
        every->seconds = 3600.0 * (1 + draw(1000));
        break;
    default:
        every->seconds = 1 + 1e7 * draw_unit();
    }
}

static void draw_value(const struct config_key *key, struct config *c)
{
    void *field = (char *)c + key->offset;
    int n = 0;
    memset(field, 0, key->size);
    if (key->zero != NULL && draw(3) == 0)
        return;
    switch (key->type) {
    case TYPE_TEXT:
        draw_text(field, key->size);
        break;
    case TYPE_NAME:
        snprintf(field, key->size, "%u.x_-%u", draw(1000), draw(1000));
        break;
    case TYPE_WORD:
    case TYPE_CHOICE:
        while (key->choices[n] != NULL)
            n++;
        n = (int)draw((uint32_t)n);
        if (key->type == TYPE_WORD)
            snprintf(field, key->size, "%s", key->choices[n]);
        else
            memcpy(field, &n, sizeof n);
        break;
    case TYPE_BOOL:
        *(bool *)field = draw(2) == 1;
        break;
    case TYPE_INT32:
        *(int32_t *)field = (int32_t)draw_number(key);
        break;
    case TYPE_INT64:
    case TYPE_BYTES:
        *(int64_t *)field = (int64_t)draw_number(key) >> (key->type == TYPE_BYTES ? 30 * draw(2) : 0);
        break;
    case TYPE_NUMBER:
        *(double *)field = draw_number(key);
        break;
    case TYPE_EVERY:
        draw_every(field);
        break;
    case TYPE_TARGETS:
        *(uint32_t *)field = 1 + draw(127);
        break;
    case TYPE_CARDS:
        *(uint32_t *)field = 1 + draw((1u << CONFIG_MAX_CARDS) - 1);
        break;
    case TYPE_PROMPTS:
        c->eval.n_prompts = (int)draw(CONFIG_MAX_PROMPTS + 1);
        for (int i = 0; i < c->eval.n_prompts; i++)
            draw_text(c->eval.prompts[i], CONFIG_TEXT);
        break;
    }
    if (key->type == TYPE_BYTES && *(int64_t *)field < (int64_t)key->min)
        *(int64_t *)field = (int64_t)key->min << draw(12);
}

static void draw_job(struct config *c)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < config_n_keys; i++)
        draw_value(&config_keys[i], c);
    /* What spans keys. */
    c->train.batch = 1 + (int32_t)draw(1000);
    c->train.micro_batch = draw(2) == 0 ? c->train.batch : 0;
    if (c->train.epochs == 0 && c->train.max_steps == 0)
        c->train.max_steps = 1;
}

static void check_same(const char *yaml)
{
    for (int i = 0; i < config_n_keys; i++)
        if (memcmp((char *)&a + config_keys[i].offset, (char *)&b + config_keys[i].offset, config_keys[i].size) != 0)
            fprintf(stderr, "%s differs\n", config_keys[i].name);
    CHECK(memcmp(&a, &b, sizeof a) == 0);
    if (memcmp(&a, &b, sizeof a) != 0)
        fprintf(stderr, "%s\n", yaml);
}

int main(void)
{
    for (int i = 0; i < 1000 && check_failures == 0; i++) {
        struct buf text = {0}, again = {0};
        draw_job(&a);
        config_write(&a, &text);
        CHECK(!text.failed);
        CHECK_OK(parse(text.data, &b, &e), &e);
        check_same(text.data);
        config_write(&b, &again);
        CHECK_STR(again.data, text.data);
        buf_free(&text);
        buf_free(&again);
    }
    return check_done();
}
