#include "trainer/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/io.h"
#include "trainer/base/mem.h"
#include "trainer/config_table.h"
#include "trainer/yaml_tree.h"

/* Where each key got its value, for messages about keys that do not fit together. */
struct origin {
    bool given;
    int line, column; /* 0: from a --set or a default */
};
struct loading {
    const char *where;
    struct config *out;
    struct origin origin[CONFIG_MAX_KEYS];
};

/* "job.yaml:12:5: train.batch", "--set train.batch" or "job.yaml: train.batch" */
static const char *place(const struct loading *l, const struct config_key *key, char *text, size_t n)
{
    const struct origin *o = &l->origin[key - config_keys];
    if (o->given && o->line > 0)
        snprintf(text, n, "%s:%d:%d: %s", l->where, o->line, o->column, key->name);
    else if (o->given)
        snprintf(text, n, "--set %s", key->name);
    else
        snprintf(text, n, "%s: %s", l->where, key->name);
    return text;
}

static int set_value(struct loading *l, const struct config_key *key, const struct yaml_item *item, bool in_file, struct err *e)
{
    char text[512];
    const struct yaml_item *at;
    int rc = config_value_read(key, item, l->out, &at, e);
    struct origin *o = &l->origin[key - config_keys];
    *o = (struct origin){.given = true, .line = in_file ? at->line : 0, .column = in_file ? at->column : 0};
    return rc == 0 ? 0 : err_prefix(e, "%s", place(l, key, text, sizeof text));
}

static int set_presets(struct loading *l, struct err *e)
{
    memset(l->out, 0, sizeof *l->out); /* padding too: equal jobs are equal bytes */
    for (int i = 0; i < config_n_keys; i++) {
        const struct config_key *key = &config_keys[i];
        const struct yaml_item *at;
        struct yaml_item *item;
        if (key->preset == NULL)
            continue;
        TRY(yaml_tree_parse(key->preset, strlen(key->preset), key->name, false, &item, e));
        int rc = config_value_read(key, item, l->out, &at, e);
        yaml_tree_free(item);
        TRY(rc);
    }
    return 0;
}

static int unknown_key(const struct loading *l, const char *section, const struct yaml_item *item, struct err *e)
{
    char advice[800];
    config_suggest(section, item->key, advice, sizeof advice);
    FAIL(e, ERR_CONFIG, "%s:%d:%d: %s%s%.60s: unknown key%s", l->where, item->key_line, item->key_column, section,
         section[0] != '\0' ? "." : "", item->key, advice);
}

static bool is_section(const char *word)
{
    char own[32];
    for (int i = 0; i < config_n_keys; i++)
        if (strcmp(config_section(&config_keys[i], own), word) == 0)
            return true;
    return false;
}

static int read_section(struct loading *l, const struct yaml_item *section, struct err *e)
{
    char name[96];
    if (section->kind == YAML_IS_SCALAR && !section->quoted && section->text[0] == '\0')
        return 0; /* "train:" with every key below it commented out */
    if (section->kind != YAML_IS_MAP) {
        FAIL(e, ERR_CONFIG, "%s:%d:%d: %s: found %s%.60s%s, expected its keys, indented below it", l->where, section->line,
             section->column, section->key, section->kind == YAML_IS_LIST ? "a list" : "\"",
             section->kind == YAML_IS_LIST ? "" : section->text, section->kind == YAML_IS_LIST ? "" : "\"");
    }
    for (const struct yaml_item *item = section->first; item != NULL; item = item->next) {
        snprintf(name, sizeof name, "%s.%s", section->key, item->key);
        const struct config_key *key = config_find(name);
        if (key == NULL)
            return unknown_key(l, section->key, item, e);
        TRY(set_value(l, key, item, true, e));
    }
    return 0;
}

static int read_tree(struct loading *l, const struct yaml_item *root, struct err *e)
{
    if (root == NULL)
        FAIL(e, ERR_CONFIG,
             "%s: empty, expected a job with at least name, model.path and data.train. See configs/quickstart.yaml", l->where);
    if (root->kind != YAML_IS_MAP)
        FAIL(e, ERR_CONFIG, "%s:%d:%d: found %s, expected keys with values such as `name: first`. See configs/quickstart.yaml",
             l->where, root->line, root->column, root->kind == YAML_IS_LIST ? "a list" : "plain text");
    for (const struct yaml_item *item = root->first; item != NULL; item = item->next) {
        const struct config_key *key = strchr(item->key, '.') == NULL ? config_find(item->key) : NULL;
        if (item->key[0] != '\0' && is_section(item->key))
            TRY(read_section(l, item, e));
        else if (key != NULL)
            TRY(set_value(l, key, item, true, e));
        else
            return unknown_key(l, "", item, e);
    }
    return 0;
}

/* ---- --set ---- */

static int apply_set(struct loading *l, const char *set, struct err *e)
{
    const char *equals = strchr(set, '=');
    char name[64], where[80], advice[800];
    if (equals == NULL || equals == set)
        FAIL(e, ERR_USAGE, "--set %.60s: found no key=value, expected for example --set train.epochs=1", set);
    snprintf(name, sizeof name, "%.*s", (int)(equals - set > 60 ? 60 : equals - set), set);
    snprintf(where, sizeof where, "--set %s", name);
    const struct config_key *key = config_find(name);
    if (key == NULL && is_section(name))
        FAIL(e, ERR_CONFIG, "%s: found a section, expected one of its keys. Set them one by one", where);
    if (key == NULL) {
        const char *dot = strrchr(name, '.');
        char section[64] = "";
        if (dot != NULL)
            snprintf(section, sizeof section, "%.*s", (int)(dot - name), name);
        if (dot != NULL && is_section(section))
            config_suggest(section, dot + 1, advice, sizeof advice);
        else
            config_suggest("", name, advice, sizeof advice);
        FAIL(e, ERR_CONFIG, "%s: unknown key%s", where, advice);
    }
    struct yaml_item *item;
    static char no_text[1];
    static const struct yaml_item nothing = {.kind = YAML_IS_SCALAR, .text = no_text};
    if (strlen(equals + 1) == 0)
        return set_value(l, key, &nothing, false, e);
    TRY(yaml_tree_parse(equals + 1, strlen(equals + 1), where, false, &item, e));
    int rc = set_value(l, key, item != NULL ? item : &nothing, false, e);
    yaml_tree_free(item);
    return rc;
}

/* ---- what spans keys ---- */

int config_nearest_divisor(int n, int wanted)
{
    int best = 1;
    for (int d = 1; d <= n; d++)
        if (n % d == 0 && abs(d - wanted) < abs(best - wanted))
            best = d;
    return best;
}

static bool given(const struct loading *l, const char *name) { return l->origin[config_find(name) - config_keys].given; }

static int check_whole(struct loading *l, struct err *e)
{
    struct config *c = l->out;
    char text[512];
    for (int i = 0; i < config_n_keys; i++)
        if (config_keys[i].preset == NULL && !l->origin[i].given)
            FAIL(e, ERR_CONFIG, "%s: %s: missing, expected a value: every job needs name, model.path and data.train", l->where,
                 config_keys[i].name);
    if (c->train.max_steps > 0 && !given(l, "train.epochs"))
        c->train.epochs = 0;
    if (c->train.epochs == 0 && c->train.max_steps == 0)
        FAIL(e, ERR_CONFIG, "%s: found null and no train.max_steps, expected one of the two. Set train.epochs or train.max_steps",
             place(l, config_find("train.epochs"), text, sizeof text));
    if (c->train.micro_batch > 0 && c->train.batch % c->train.micro_batch != 0)
        FAIL(e, ERR_CONFIG, "%s: found %d, expected a divisor of train.batch (%d). The nearest is %d; auto chooses one",
             place(l, config_find("train.micro_batch"), text, sizeof text), c->train.micro_batch, c->train.batch,
             config_nearest_divisor(c->train.batch, c->train.micro_batch));
    if ((int64_t)c->train.batch * c->data.sequence_length > INT32_MAX)
        FAIL(e, ERR_CONFIG, "%s: found %d rows of %d tokens, expected less than 2147483648 tokens in one step. Lower one of them",
             place(l, config_find("train.batch"), text, sizeof text), c->train.batch, c->data.sequence_length);
    return 0;
}

static int load(const char *yaml, size_t n, const char *where, const char *const *sets, int n_sets, struct config *out,
                struct err *e)
{
    struct loading l = {.where = where, .out = out};
    struct yaml_item *root = NULL;
    TRY(set_presets(&l, e));
    TRY(yaml_tree_parse(yaml, n, where, true, &root, e));
    int rc = read_tree(&l, root, e);
    yaml_tree_free(root);
    TRY(rc);
    for (int i = 0; i < n_sets; i++)
        TRY(apply_set(&l, sets[i], e));
    return check_whole(&l, e);
}

int config_parse(const char *yaml, size_t n, const char *where, struct config *out, struct err *e)
{
    return load(yaml, n, where, NULL, 0, out, e);
}

int config_load(const char *path, const char *const *sets, int n_sets, struct config *out, struct err *e)
{
    char *yaml = NULL;
    size_t n = 0;
    TRY(io_read_file(path, ERR_CONFIG, YAML_MAX_BYTES, &yaml, &n, e));
    int rc = load(yaml, n, path, sets, n_sets, out, e);
    mem_free(yaml);
    return rc;
}
