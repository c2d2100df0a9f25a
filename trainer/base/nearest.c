#include "trainer/base/nearest.h"

#include <string.h>

enum { MAX_WORD = 96 };

static int min3(int a, int b, int c)
{
    int m = a < b ? a : b;
    return m < c ? m : c;
}

/* Insertions, deletions, substitutions and swaps of neighbours count 1 each (restricted Damerau-Levenshtein). */
static int distance(const char *a, int n_a, const char *b, int n_b)
{
    int rows[3][MAX_WORD + 1];
    int *before = rows[0], *last = rows[1], *now = rows[2];
    for (int j = 0; j <= n_b; j++)
        last[j] = j;
    for (int i = 1; i <= n_a; i++) {
        now[0] = i;
        for (int j = 1; j <= n_b; j++) {
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        int *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[n_b];
}

const char *nearest_word(const char *word, const char *const *candidates, size_t n)
{
    size_t n_word = strlen(word);
    const char *best = NULL;
    if (n_word > MAX_WORD)
        return NULL;
    int limit = n_word / 3 > 2 ? (int)(n_word / 3) : 2, best_distance = limit + 1;
    for (size_t i = 0; i < n; i++) {
        size_t n_candidate = strlen(candidates[i]);
        if (n_candidate > MAX_WORD)
            continue;
        int d = distance(word, (int)n_word, candidates[i], (int)n_candidate);
        /* As far away as its own length means that nothing is shared. */
        if (d < best_distance && (size_t)d < (n_word > n_candidate ? n_word : n_candidate)) {
            best = candidates[i];
            best_distance = d;
        }
    }
    return best;
}
