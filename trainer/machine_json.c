/* machine_json.c - a machine as JSON and back. One table of fields for each kind of object drives both ways. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "trainer/machine.h"

enum kind { TEXT, NUMBER, FLAG }; /* a NUMBER and a FLAG are an int64_t, -1 when unknown */
struct field {
    const char *key;
    enum kind kind;
    size_t at, size;
};
#define FIELD(type, kind, name) {#name, kind, offsetof(struct type, name), sizeof(((struct type *)0)->name)}
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct field machine_fields[] = {
    FIELD(machine, TEXT, label), FIELD(machine, FLAG, card_present), FIELD(machine, TEXT, trouble), FIELD(machine, TEXT, driver),
    FIELD(machine, TEXT, driver_cuda), FIELD(machine, TEXT, cuda), FIELD(machine, TEXT, cudnn), FIELD(machine, TEXT, nccl),
    FIELD(machine, FLAG, nvml), FIELD(machine, TEXT, cpu), FIELD(machine, TEXT, kernel), FIELD(machine, FLAG, wsl),
    FIELD(machine, FLAG, container), FIELD(machine, FLAG, iommu), FIELD(machine, FLAG, acs), FIELD(machine, NUMBER, host_total),
    FIELD(machine, NUMBER, host_available), FIELD(machine, NUMBER, disk_free), FIELD(machine, NUMBER, shm_total),
    FIELD(machine, NUMBER, shm_free), FIELD(machine, NUMBER, open_files), FIELD(machine, NUMBER, locked_memory),
    FIELD(machine, TEXT, nccl_settings),
};
static const struct field card_fields[] = {
    FIELD(link_card, NUMBER, index), FIELD(link_card, TEXT, name), FIELD(link_card, TEXT, pci), FIELD(link_card, TEXT, uuid),
    FIELD(link_card, NUMBER, major), FIELD(link_card, NUMBER, minor), FIELD(link_card, NUMBER, total), FIELD(link_card, NUMBER, free),
    FIELD(link_card, NUMBER, power_limit_w), FIELD(link_card, NUMBER, power_default_w), FIELD(link_card, NUMBER, clock_mhz),
    FIELD(link_card, NUMBER, clock_max_mhz), FIELD(link_card, NUMBER, temperature_c), FIELD(link_card, NUMBER, throttle),
    FIELD(link_card, NUMBER, pcie_gen), FIELD(link_card, NUMBER, pcie_gen_max), FIELD(link_card, NUMBER, pcie_width),
    FIELD(link_card, NUMBER, pcie_width_max),
};
static const struct field user_fields[] = {
    FIELD(link_user, NUMBER, pid), FIELD(link_user, NUMBER, bytes), FIELD(link_user, TEXT, name)};
static const struct field link_fields[] = {FIELD(link_state, FLAG, active), FIELD(link_state, TEXT, remote),
                                           FIELD(link_state, TEXT, type)};
static const struct field pair_fields[] = {FIELD(link_pair, NUMBER, a), FIELD(link_pair, NUMBER, b), FIELD(link_pair, FLAG, peer),
                                           FIELD(link_pair, FLAG, cuda_peer), FIELD(link_pair, TEXT, peer_status), FIELD(link_pair, TEXT, topology)};

/* A list inside an object. */
struct list {
    const char *key;
    const struct field *fields;
    size_t n_fields, size; /* of one element */
    int max;
    size_t items, count;   /* where elements and their number stand in the object */
    const struct list *inside; /* lists of each element */
    size_t n_inside;
};
static const struct list card_lists[] = {
    {"users", user_fields, COUNT(user_fields), sizeof(struct link_user), LINKS_MAX_USERS, offsetof(struct link_card, user),
     offsetof(struct link_card, n_users), NULL, 0},
    {"links", link_fields, COUNT(link_fields), sizeof(struct link_state), LINKS_MAX_LINKS, offsetof(struct link_card, link),
     offsetof(struct link_card, n_links), NULL, 0},
};
static const struct list machine_lists[] = {
    {"cards", card_fields, COUNT(card_fields), sizeof(struct link_card), LINKS_MAX_CARDS, offsetof(struct machine, card),
     offsetof(struct machine, n_cards), card_lists, COUNT(card_lists)},
    {"pairs", pair_fields, COUNT(pair_fields), sizeof(struct link_pair), MACHINE_MAX_PAIRS, offsetof(struct machine, pair),
     offsetof(struct machine, n_pairs), NULL, 0},
};

static void set_unknown(void *object, const struct field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char *p = (char *)object + fields[i].at;
        if (fields[i].kind == TEXT)
            *p = '\0';
        else
            *(int64_t *)p = -1;
    }
}

/* What a terminal would obey becomes '?': these texts are printed. C2 80 to C2 9F are the control characters of UTF-8's second
 * page. */
static void make_plain(char *text)
{
    for (unsigned char *c = (unsigned char *)text; *c != '\0'; c++)
        if (*c < 0x20 || *c == 0x7f)
            *c = '?';
        else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
            c[0] = c[1] = '?';
}

static int read_field(const struct json *v, const char *where, const struct field *f, void *object, struct err *e)
{
    static const char *const wanted[] = {"a text", "a whole number", "true or false"};
    char *p = (char *)object + f->at;
    size_t n = 0;
    bool flag = false;
    const char *text = json_text(v, &n);
    if (json_kind(v) == JSON_NULL)
        return 0;
    if (f->kind == TEXT && text != NULL) {
        if (n >= f->size || strlen(text) != n)
            FAIL(e, ERR_DATA, "%s: %s is %zu bytes long, expected a text of at most %zu without a NUL", where, f->key, n, f->size - 1);
        memcpy(p, text, n + 1);
        make_plain(p);
        return 0;
    }
    if (f->kind == NUMBER && json_i64(v, (int64_t *)p)) {
        if (*(int64_t *)p < 0)
            FAIL(e, ERR_DATA, "%s: %s is negative, expected 0 or more. Leave it out when it is not known", where, f->key);
        return 0;
    }
    if (f->kind == FLAG && json_bool(v, &flag)) {
        *(int64_t *)p = flag;
        return 0;
    }
    FAIL(e, ERR_DATA, "%s: %s is %s, expected %s", where, f->key, json_kind_name(json_kind(v)), wanted[f->kind]);
}

static int read_object(const struct json *j, const char *where, const struct field *fields, size_t n, const struct list *lists, size_t n_lists,
                       void *object, struct err *e);

static int read_list(const struct json *j, const char *where, const struct list *l, void *object, struct err *e)
{
    size_t n = json_length(j);
    char inner[300];
    if (json_kind(j) != JSON_ARRAY || n > (size_t)l->max)
        FAIL(e, ERR_DATA, "%s: %s is %s of %zu, expected a list of at most %d", where, l->key, json_kind_name(json_kind(j)), n, l->max);
    for (size_t i = 0; i < n; i++) {
        snprintf(inner, sizeof inner, "%.200s: %s[%zu]", where, l->key, i);
        TRY(read_object(json_at(j, i), inner, l->fields, l->n_fields, l->inside, l->n_inside, (char *)object + l->items + i * l->size, e));
    }
    *(int *)((char *)object + l->count) = (int)n;
    return 0;
}

static int read_member(const char *key, const struct json *v, const char *where, const struct field *fields, size_t n, const struct list *lists,
                       size_t n_lists, void *object, struct err *e)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(key, fields[i].key) == 0)
            return read_field(v, where, &fields[i], object, e);
    for (size_t i = 0; i < n_lists; i++)
        if (strcmp(key, lists[i].key) == 0)
            return read_list(v, where, &lists[i], object, e);
    FAIL(e, ERR_DATA, "%s: %.60s is not known, expected a key that lorat doctor --json prints", where, key);
}

static int read_object(const struct json *j, const char *where, const struct field *fields, size_t n, const struct list *lists, size_t n_lists,
                       void *object, struct err *e)
{
    if (json_kind(j) != JSON_OBJECT)
        FAIL(e, ERR_DATA, "%s: %s, expected an object", where, json_kind_name(json_kind(j)));
    set_unknown(object, fields, n);
    for (void *it = json_first(j); it != NULL; it = json_next(j, it))
        TRY(read_member(json_key(it), json_value(it), where, fields, n, lists, n_lists, object, e));
    return 0;
}

static int check_numbers(const struct machine *m, const char *where, struct err *e)
{
    for (int i = 0; i < m->n_cards; i++)
        if (m->card[i].index < 0 || machine_card(m, m->card[i].index) != &m->card[i])
            FAIL(e, ERR_DATA, "%s: cards[%d].index is missing or stands twice, expected a number of its own", where, i);
    for (int i = 0; i < m->n_pairs; i++)
        if (m->pair[i].a == m->pair[i].b || machine_card(m, m->pair[i].a) == NULL || machine_card(m, m->pair[i].b) == NULL)
            FAIL(e, ERR_DATA, "%s: pairs[%d] names %lld and %lld, expected two of the cards", where, i, (long long)m->pair[i].a,
                 (long long)m->pair[i].b);
    return 0;
}

int machine_parse(const char *json, size_t n, const char *where, struct machine *out, struct err *e)
{
    struct json *root;
    memset(out, 0, sizeof *out);
    TRY(json_parse(json, n, where, ERR_DATA, &root, e));
    int rc = read_object(root, where, machine_fields, COUNT(machine_fields), machine_lists, COUNT(machine_lists), out, e);
    json_free(root);
    return rc == 0 ? check_numbers(out, where, e) : rc;
}

static void write_object(const void *object, const struct field *fields, size_t n, const struct list *lists, size_t n_lists, struct buf *out);

static void write_list(const void *object, const struct list *l, struct buf *out)
{
    int n = *(const int *)((const char *)object + l->count);
    buf_printf(out, "\"%s\": [", l->key);
    for (int i = 0; i < n; i++) {
        buf_puts(out, i > 0 ? ", " : "");
        write_object((const char *)object + l->items + (size_t)i * l->size, l->fields, l->n_fields, l->inside, l->n_inside, out);
    }
    buf_puts(out, "]");
}

/* What is unknown is left out. */
static void write_object(const void *object, const struct field *fields, size_t n, const struct list *lists, size_t n_lists, struct buf *out)
{
    const char *comma = "";
    buf_puts(out, "{");
    for (size_t i = 0; i < n; i++) {
        const char *p = (const char *)object + fields[i].at;
        if (fields[i].kind == TEXT ? *p == '\0' : *(const int64_t *)p < 0)
            continue;
        buf_printf(out, "%s\"%s\": ", comma, fields[i].key);
        if (fields[i].kind == TEXT)
            json_put_string(out, p, strlen(p));
        else if (fields[i].kind == FLAG)
            buf_puts(out, *(const int64_t *)p != 0 ? "true" : "false");
        else
            buf_printf(out, "%lld", (long long)*(const int64_t *)p);
        comma = ", ";
    }
    for (size_t i = 0; i < n_lists; i++) {
        buf_puts(out, comma);
        write_list(object, &lists[i], out);
        comma = ", ";
    }
    buf_puts(out, "}");
}

void machine_write(const struct machine *m, struct buf *out)
{
    write_object(m, machine_fields, COUNT(machine_fields), machine_lists, COUNT(machine_lists), out);
}
