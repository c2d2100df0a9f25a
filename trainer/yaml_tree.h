/* yaml_tree.h - a small, strict reading of YAML as a tree. The one door to libyaml, which stays in yaml_tree.c.
 *
 * Refused with line and column: text that is not UTF-8 or holds control characters, more than YAML_MAX_BYTES, more than
 * YAML_MAX_DEPTH levels (libyaml itself has no limit), more than YAML_MAX_ITEMS values, keys that are not plain words, a key
 * written twice, anchors, aliases, tags, directives, a second document. Scalars are not interpreted: their text is kept, with
 * whether it stood in quotes. */
#ifndef LORAT_YAML_TREE_H
#define LORAT_YAML_TREE_H

#include <stdbool.h>
#include <stddef.h>

#include "trainer/base/err.h"

enum { YAML_MAX_BYTES = 1 << 20, YAML_MAX_DEPTH = 4, YAML_MAX_ITEMS = 4096 };
enum yaml_kind { YAML_IS_SCALAR, YAML_IS_LIST, YAML_IS_MAP };

struct yaml_item {
    enum yaml_kind kind;
    bool quoted;                    /* a scalar in quotes or a block scalar: text, whatever it looks like */
    char *key;                      /* of a map's member; NULL otherwise */
    int key_line, key_column;       /* from 1; 0 without a key */
    char *text;                     /* of a scalar, UTF-8 without NUL inside; NULL otherwise */
    int line, column;               /* from 1, of the value */
    struct yaml_item *first, *next; /* children in file order; next sibling */
};

/* Pure: n bytes into a tree; *out NULL for a text without a document. `where` begins every message, followed by ":line:column"
 * when positions is set. Errors are ERR_CONFIG. Free the root with yaml_tree_free (NULL is fine). */
int yaml_tree_parse(const char *yaml, size_t n, const char *where, bool positions, struct yaml_item **out, struct err *e);
void yaml_tree_free(struct yaml_item *root);
const char *yaml_tree_library(void); /* libyaml's version */

#endif
