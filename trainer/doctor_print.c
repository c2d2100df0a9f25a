/* doctor_print.c - the report: the machine, the ways between cards, the findings. */
#include <stdio.h>
#include <string.h>

#include "trainer/base/num.h"
#include "trainer/doctor.h"

static const char *severity_name(enum severity s)
{
    static const char *const names[] = {"stop", "warning", "note"};
    return names[s];
}

static void print_bytes(struct buf *out, const char *label, int64_t bytes)
{
    char text[32];
    buf_printf(out, "%s %s", label, bytes < 0 ? "not readable" : num_format_bytes(text, (uint64_t)bytes));
}

static void print_number(struct buf *out, const char *before, int64_t v, const char *after)
{
    if (v >= 0)
        buf_printf(out, "%s%lld%s", before, (long long)v, after);
}

static const char *known(const char *text, const char *otherwise) { return text[0] != '\0' ? text : otherwise; }

static void print_host(const struct machine *m, struct buf *out)
{
    buf_printf(out, "machine  %s, kernel %s, cpu %s%s%s\n", known(m->label, "no label"), known(m->kernel, "unknown"), known(m->cpu, "unknown"),
               m->wsl == 1 ? ", WSL" : "", m->container == 1 ? ", container" : "");
    print_bytes(out, "host    ", m->host_total);
    print_bytes(out, " of memory, available", m->host_available);
    print_bytes(out, "; disk free", m->disk_free);
    print_bytes(out, "; /dev/shm free", m->shm_free);
    buf_printf(out, "\n         IOMMU %s, ACS %s", m->iommu < 0 ? "not readable" : m->iommu ? "on" : "off",
               m->acs < 0 ? "not readable" : m->acs ? "on" : "off");
    if (m->open_files != INT64_MAX)
        print_number(out, ", open files ", m->open_files, "");
    if (m->locked_memory >= 0 && m->locked_memory != INT64_MAX)
        print_bytes(out, ", lockable memory", m->locked_memory);
    /* NVML names the version, CUDA only that there is one. */
    const char *no_driver = m->driver_cuda[0] != '\0' ? "of unknown version" : "none";
    buf_printf(out, "\nsoftware driver %s, its CUDA %s; plug-in's CUDA %s, cuDNN %s, NCCL %s; NVML %s\n", known(m->driver, no_driver),
               known(m->driver_cuda, "unknown"), known(m->cuda, "none"), known(m->cudnn, "none"), known(m->nccl, "none"),
               m->nvml == 1 ? "answers" : "does not answer");
}

static void print_card(const struct link_card *c, struct buf *out)
{
    int up = 0;
    for (int i = 0; i < c->n_links; i++)
        up += c->link[i].active == 1;
    buf_printf(out, "card %lld   %s", (long long)c->index, known(c->name, "unnamed"));
    if (c->major >= 0)
        buf_printf(out, ", %lld.%lld", (long long)c->major, (long long)c->minor);
    print_bytes(out, ",", c->free);
    print_bytes(out, " free of", c->total);
    print_number(out, ", ", c->power_limit_w, " W");
    print_number(out, ", ", c->clock_mhz, " MHz");
    print_number(out, " of ", c->clock_max_mhz, "");
    print_number(out, ", ", c->temperature_c, " C");
    print_number(out, "\n         PCIe generation ", c->pcie_gen, "");
    print_number(out, " (at most ", c->pcie_gen_max, ")");
    print_number(out, ", lanes ", c->pcie_width, "");
    print_number(out, " (at most ", c->pcie_width_max, ")");
    if (c->n_links > 0)
        buf_printf(out, ", NVLinks up %d of %d", up, c->n_links);
    buf_printf(out, "%s%s\n", c->pci[0] != '\0' ? ", at " : "", c->pci);
}

static void print_pair(const struct machine *m, const struct link_pair *p, struct buf *out)
{
    char why[160];
    enum machine_way way = machine_way(m, p, why);
    buf_printf(out, "pair %lld-%lld NCCL will use: %s, because %s\n", (long long)p->a, (long long)p->b, machine_way_name(way), why);
}

void doctor_print(const struct machine *m, const struct doctor *d, struct buf *out)
{
    print_host(m, out);
    for (int i = 0; i < m->n_cards; i++)
        print_card(&m->card[i], out);
    for (int i = 0; i < m->n_pairs; i++)
        print_pair(m, &m->pair[i], out);
    buf_puts(out, d->n == 0 ? "\nNothing to report.\n" : "\n");
    for (int i = 0; i < d->n; i++)
        buf_printf(out, "%-8s %s: %s\n         %s\n", severity_name(finding_severity(d->finding[i].id)), finding_name(d->finding[i].id),
                   d->finding[i].text, d->finding[i].todo);
    buf_printf(out, "\n%s\n", doctor_is_well(d) ? "Training can start." : "Training cannot start on this machine as it stands.");
}

static void put_text(struct buf *out, const char *key, const char *text)
{
    buf_printf(out, ", \"%s\": ", key);
    json_put_string(out, text, strlen(text));
}

void doctor_json(const struct machine *m, const struct doctor *d, struct buf *out)
{
    char why[160];
    buf_printf(out, "{\"can_train\": %s, \"findings\": [", doctor_is_well(d) ? "true" : "false");
    for (int i = 0; i < d->n; i++) {
        const struct finding *f = &d->finding[i];
        buf_printf(out, "%s{\"id\": \"%s\", \"severity\": \"%s\"", i > 0 ? ", " : "", finding_name(f->id), severity_name(finding_severity(f->id)));
        put_text(out, "text", f->text);
        put_text(out, "todo", f->todo);
        buf_puts(out, "}");
    }
    buf_puts(out, "], \"ways\": [");
    for (int i = 0; i < m->n_pairs; i++) {
        enum machine_way way = machine_way(m, &m->pair[i], why);
        buf_printf(out, "%s{\"a\": %lld, \"b\": %lld", i > 0 ? ", " : "", (long long)m->pair[i].a, (long long)m->pair[i].b);
        put_text(out, "way", machine_way_name(way));
        put_text(out, "why", why);
        buf_puts(out, "}");
    }
    buf_puts(out, "], \"machine\": ");
    machine_write(m, out);
    buf_puts(out, "}\n");
}
