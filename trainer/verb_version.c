/* verb_version.c - `lorat version`. */
#include <stdio.h>

#include "trainer/device.h"
#include "trainer/git_version.h"
#include "trainer/options.h"
#include "trainer/verbs.h"
#include "trainer/yaml_tree.h"

static void print_cpu(void)
{
    printf("cpu:");
#if defined(__x86_64__)
    __builtin_cpu_init();
#define FEATURE(name, text)                                                                                                      \
    if (__builtin_cpu_supports(name))                                                                                            \
        printf(" %s", text);
    FEATURE("avx2", "AVX2")
    FEATURE("fma", "FMA")
    FEATURE("avx512f", "AVX-512F")
    FEATURE("avx512vnni", "AVX512_VNNI")
    FEATURE("avx512bf16", "AVX512_BF16")
#undef FEATURE
    printf(" (x86-64)\n");
#elif defined(__aarch64__)
    printf(" aarch64\n");
#else
    printf(" unknown\n");
#endif
    printf("bf16 instructions: %s\n", ops_cpu_has_bf16() ? "yes" : "no; compute.precision: auto trains in f32 on this CPU");
}

int verb_version(int argc, char **argv, struct err *e)
{
    static const struct option_table table = {
        .verb = "version",
        .args = "",
        .about = "Print the version of lorat, its compiler and libraries, what this CPU can do, and the cards.",
        .example = "lorat version"};
    struct options o;
    int rc = options_read(&table, argc, argv, &o, e);
    options_free(&o);
    if (rc != 0)
        return rc < 0 ? -1 : 0;
    printf("lorat " LORAT_VERSION "%s%s%s\n", LORAT_GIT[0] != '\0' ? " (" : "", LORAT_GIT, LORAT_GIT[0] != '\0' ? ")" : "");
    printf("compiler: %s%s\n",
#ifdef __clang__
           "", __VERSION__);
#else
           "gcc ", __VERSION__);
#endif
    printf("libyaml: %s\n", yaml_tree_library());
    print_cpu();
    struct buf cards = {0};
    device_describe(&cards);
    fputs(cards.n > 0 ? cards.data : "", stdout);
    buf_free(&cards);
    return 0;
}
