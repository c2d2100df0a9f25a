/* doctor.h - what is wrong or worth knowing about a machine before training on it. Pure: from a description (machine.h). */
#ifndef LORAT_DOCTOR_H
#define LORAT_DOCTOR_H

#include "trainer/machine.h"

enum severity { SEVERITY_STOP, SEVERITY_WARN, SEVERITY_NOTE }; /* training cannot start; it will be slow or may fail; to know */

/* X(id, severity): every finding there is. docs/doctor.md explains each. */
#define DOCTOR_LIST(X)                                                                                                     \
    X(plugin, SEVERITY_STOP) X(no_usable_card, SEVERITY_STOP) X(driver_old, SEVERITY_STOP) X(card_full, SEVERITY_STOP)     \
    X(disk_full, SEVERITY_STOP) X(card_old, SEVERITY_WARN) X(card_busy, SEVERITY_WARN) X(power_capped, SEVERITY_WARN)      \
    X(throttled, SEVERITY_WARN) X(slot_narrow, SEVERITY_WARN) X(cards_differ, SEVERITY_WARN) X(link_down, SEVERITY_WARN)   \
    X(link_elsewhere, SEVERITY_WARN) X(nccl_missing, SEVERITY_WARN) X(nccl_old, SEVERITY_WARN) X(shm_small, SEVERITY_WARN) \
    X(peer_at_risk, SEVERITY_WARN) X(peer_disputed, SEVERITY_WARN) X(host_memory, SEVERITY_WARN) X(disk_low, SEVERITY_WARN) X(open_files, SEVERITY_WARN)   \
    X(nvml_missing, SEVERITY_WARN) X(settings, SEVERITY_NOTE) X(no_card, SEVERITY_NOTE) X(no_bridge, SEVERITY_NOTE)        \
    X(peer_unused, SEVERITY_NOTE) X(cudnn_missing, SEVERITY_NOTE) X(locked_memory, SEVERITY_NOTE) X(wsl, SEVERITY_NOTE)

enum finding_id {
#define X(id, severity) FINDING_##id,
    DOCTOR_LIST(X)
#undef X
    FINDING_COUNT
};
struct finding {
    enum finding_id id;
    char text[320]; /* what was found, a sentence */
    char todo[320]; /* what to do */
};
enum { DOCTOR_MAX_FINDINGS = 96 };
struct doctor {
    struct finding finding[DOCTOR_MAX_FINDINGS]; /* worst first */
    int n;
};
void doctor_examine(const struct machine *m, struct doctor *out);
const char *finding_name(enum finding_id id);
enum severity finding_severity(enum finding_id id);
/* Training can start: nothing stops it. */
bool doctor_is_well(const struct doctor *d);
/* The whole report, for a reader or as one JSON object. */
void doctor_print(const struct machine *m, const struct doctor *d, struct buf *out);
void doctor_json(const struct machine *m, const struct doctor *d, struct buf *out);

#endif
