/* Runs a fuzz target over every file of its corpus: whole, cut at several places, and with bytes changed. Deterministic. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

enum { CUTS = 24, CHANGES = 48, LARGEST = 1 << 20 };

static long runs;

/* In memory of exactly this size, so that a sanitizer sees any read past the end. */
static void run(const unsigned char *bytes, size_t n)
{
    unsigned char *exact = malloc(n ? n : 1);
    if (exact == NULL)
        exit(1);
    memcpy(exact, bytes, n);
    LLVMFuzzerTestOneInput(exact, n);
    free(exact);
    runs++;
}

static void replay(unsigned char *bytes, size_t n)
{
    static const unsigned char values[] = {0x00, 0xff, 0x7f, 0x80, '"', '9', '-', '\n'};
    unsigned long long state = n * 2654435761u + 1;
    run(bytes, n);
    for (size_t i = 0; i < CUTS; i++)
        run(bytes, n * i / CUTS);
    for (size_t cut = 1; cut <= 8 && cut < n; cut++)
        run(bytes, n - cut);
    for (int i = 0; i < CHANGES && n > 0; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        size_t at = (size_t)(state >> 33) % (i % 2 ? n : n < 64 ? n : 64); /* heads are denser in meaning */
        unsigned char was = bytes[at];
        bytes[at] = i % 3 == 0 ? values[(state >> 20) % sizeof values] : was ^ (unsigned char)(1u << (state >> 20) % 8);
        run(bytes, n);
        bytes[at] = was;
    }
}

static int replay_file(const char *folder, const char *name)
{
    static unsigned char bytes[LARGEST];
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return -1;
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    replay(bytes, n);
    return 0;
}

int main(int argc, char **argv)
{
    struct dirent *entry;
    int files = 0;
    DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
    if (d == NULL) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 2;
    }
    while ((entry = readdir(d)) != NULL)
        if (entry->d_name[0] != '.' && replay_file(argv[1], entry->d_name) == 0)
            files++;
    closedir(d);
    printf("%d files, %ld runs\n", files, runs);
    return files > 0 ? 0 : 1;
}
