#include "trainer/energy.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trainer/base/io.h"

enum { PATH = 512, TEXT = 64 };

/* A sysfs attribute is one short read. */
static bool read_number(int fd, int64_t *out)
{
    char text[TEXT], *end;
    ssize_t n = io->pread(fd, text, sizeof text - 1, 0);
    if (n <= 0)
        return false;
    text[n] = '\0';
    *out = strtoll(text, &end, 10);
    return end != text && *out >= 0;
}

static int open_attribute(const char *root, const char *zone, const char *name)
{
    char path[PATH];
    if (snprintf(path, sizeof path, "%s/%s/%s", root, zone, name) >= (int)sizeof path)
        return -1;
    return io->open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0);
}

/* Packages alone: their parts (cores, memory) and the whole platform would count the same joules again. */
static bool is_package(const char *root, const char *zone)
{
    char text[TEXT] = "";
    int fd = open_attribute(root, zone, "name");
    if (fd < 0)
        return false;
    ssize_t n = io->read(fd, text, sizeof text - 1);
    io->close(fd);
    return n > 0 && strncmp(text, "package", 7) == 0;
}

static void add_package(struct energy *m, const char *root, const char *zone)
{
    int64_t range = 0, now = 0;
    int fd = open_attribute(root, zone, "max_energy_range_uj");
    if (fd < 0)
        return;
    bool ok = read_number(fd, &range);
    io->close(fd);
    fd = ok ? open_attribute(root, zone, "energy_uj") : -1;
    if (fd >= 0 && read_number(fd, &now)) {
        m->package[m->n].fd = fd;
        m->package[m->n].last = now;
        m->package[m->n++].range = range;
    } else if (fd >= 0)
        io->close(fd);
}

void energy_open(struct energy *m, const char *root)
{
    char **names = NULL;
    size_t n = 0;
    struct err e;
    *m = (struct energy){0};
    root = root != NULL ? root : "/sys/class/powercap";
    if (!io_is_dir(root) || io_list(root, &names, &n, &e) != 0)
        return;
    for (size_t i = 0; i < n && m->n < ENERGY_MAX_PACKAGES; i++)
        if (strncmp(names[i], "intel-rapl:", 11) == 0 && is_package(root, names[i]))
            add_package(m, root, names[i]);
    io_list_free(names, n);
}

void energy_open_cards(struct energy *m, const char *const *pci, int n)
{
    bool all = n > 0 && n <= LINKS_MAX_CARDS;
    *m = (struct energy){0};
    m->links = all ? links_open() : NULL;
    all = m->links != NULL;
    for (int i = 0; i < n && all; i++) {
        snprintf(m->card[i].pci, sizeof m->card[i].pci, "%s", pci[i]);
        all = links_energy(m->links, pci[i], &m->card[i].last);
    }
    m->n = all ? n : 0;
}

static double read_cards(struct energy *m)
{
    for (int i = 0; i < m->n; i++) {
        uint64_t now;
        if (!links_energy(m->links, m->card[i].pci, &now))
            return NAN;
        if (now >= m->card[i].last) /* a driver that was loaded anew counts from zero */
            m->joules += 1e-3 * (double)(now - m->card[i].last);
        m->card[i].last = now;
    }
    return m->joules;
}

double energy_read(struct energy *m)
{
    if (m->n == 0)
        return NAN;
    if (m->links != NULL)
        return read_cards(m);
    for (int i = 0; i < m->n; i++) {
        int64_t now, last = m->package[i].last;
        if (!read_number(m->package[i].fd, &now))
            return NAN;
        m->joules += 1e-6 * (double)(now >= last ? now - last : now + m->package[i].range - last);
        m->package[i].last = now;
    }
    return m->joules;
}

void energy_close(struct energy *m)
{
    for (int i = 0; i < m->n && m->links == NULL; i++)
        io->close(m->package[i].fd);
    links_close(m->links);
    *m = (struct energy){0};
}
