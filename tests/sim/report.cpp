/* report.cpp - what the simulator has found, one sentence each, and the names of kernels for it. */
#include "tests/sim/sim.h"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <map>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <unistd.h>
#include <vector>

enum { MOST_FINDINGS = 10 };
static int findings;

[[noreturn]] static void leave(void)
{
    fflush(nullptr);
    _exit(SIM_EXIT); /* no exit handlers: a simulated card in an unknown state is not to be closed in order */
}
static void say(const char *format, va_list args)
{
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    fflush(stdout);
    fprintf(stderr, "sim: %s%s\n", sim_where(), text);
}
void sim_die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say(format, args);
    leave();
}
void sim_finding(const char *kind, const char *format, ...)
{
    static std::map<std::string, int> told;
    const SimLaunch *l = sim_launch_now();
    const char *operation = l ? l->name : sim_operation();
    if (told[std::string(kind) + " in " + (operation ? operation : "the host")]++)
        return;
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    if (findings++ == 0)
        atexit([] { leave(); });
    if (findings == MOST_FINDINGS)
        leave();
}

/* ---- names of functions: the symbol table of the file that holds the code, since kernels are local to it ---- */

struct Symbols {
    std::map<uint64_t, std::string> names; /* by offset from where the file is loaded */
};
static void read_symbols(const char *path, Symbols *out)
{
    std::vector<char> f;
    FILE *in = fopen(path, "rb");
    if (!in)
        return;
    char part[65536];
    for (size_t n; (n = fread(part, 1, sizeof part, in)) > 0;)
        f.insert(f.end(), part, part + n);
    fclose(in);
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)f.data();
    if (f.size() < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 ||
        head->e_shoff + (uint64_t)head->e_shnum * sizeof(Elf64_Shdr) > f.size())
        return;
    const Elf64_Shdr *sections = (const Elf64_Shdr *)(f.data() + head->e_shoff);
    for (int s = 0; s < head->e_shnum; s++) {
        if (sections[s].sh_type != SHT_SYMTAB || sections[s].sh_offset + sections[s].sh_size > f.size())
            continue;
        const Elf64_Sym *symbols = (const Elf64_Sym *)(f.data() + sections[s].sh_offset);
        const char *strings = f.data() + sections[sections[s].sh_link].sh_offset;
        for (size_t i = 0; i < sections[s].sh_size / sizeof *symbols; i++)
            if (ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC)
                out->names[symbols[i].st_value] = strings + symbols[i].st_name;
    }
}
std::string sim_symbol(const void *code)
{
    static std::map<std::string, Symbols> files;
    Dl_info info;
    if (!dladdr(code, &info))
        return "?";
    if (!files.count(info.dli_fname))
        read_symbols(access(info.dli_fname, R_OK) == 0 ? info.dli_fname : "/proc/self/exe", &files[info.dli_fname]);
    const Symbols &s = files[info.dli_fname];
    auto found = s.names.find((uint64_t)((const char *)code - (const char *)info.dli_fbase));
    if (found == s.names.end())
        found = s.names.find((uint64_t)code); /* a program that is not position independent */
    if (found == s.names.end())
        return "?";
    int bad;
    char *plain = abi::__cxa_demangle(found->second.c_str(), nullptr, nullptr, &bad);
    std::string name = bad ? found->second : plain;
    free(plain);
    size_t open = name.find('('); /* no list of parameters, no "void " before a template's name */
    if (open != std::string::npos && open > 0)
        name.resize(open);
    return name.compare(0, 5, "void ") == 0 ? name.substr(5) : name;
}
