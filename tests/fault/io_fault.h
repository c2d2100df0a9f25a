/* io_fault.h - tables for trainer/base/io.h that go wrong on purpose. Techniques: SQLite's "fail the N-th call" and its power-cut
 * file system.
 *
 * Tables stack: each of the two installs itself over whatever `io` points to. For a crash with loss of power, begin the power-cut
 * table first and put the failing table over it:
 *
 *   fault_power_begin(folder);
 *   fault_install(FAULT_CRASH, n, 0);
 *   ... the code under test: from its n-th call on nothing reaches the disk any more ...
 *   fault_remove();
 *   fault_power_cut(FAULT_CUT_ROLLBACK);   now the folder holds what a reader finds after the restart
 */
#ifndef LORAT_TESTS_IO_FAULT_H
#define LORAT_TESTS_IO_FAULT_H

#include <stdbool.h>
#include <stdint.h>

#include "trainer/base/err.h"

enum fault_kind {
    FAULT_COUNT, /* only count */
    FAULT_ERRNO, /* the n-th call fails once with the given errno; EINTR only where the kernel can give it */
    FAULT_FULL,  /* from the n-th call on, whatever needs space fails with the given errno (ENOSPC, EDQUOT) */
    FAULT_SHORT, /* the n-th call, if it reads or writes more than one byte, handles half of them */
    FAULT_CRASH, /* from the n-th call on every call fails with EIO and changes nothing, as if the process had ended */
    FAULT_KILL,  /* the n-th call is not made; the process gets SIGKILL instead */
};
/* Put the failing table over `io`. n counts from 1. A close that "fails" closes all the same, as Linux does. */
void fault_install(enum fault_kind kind, int64_t n, int errno_value);
/* Take it off again; returns how many calls were made. */
int64_t fault_remove(void);
bool fault_hit(void); /* has the fault happened? (a sweep over n ends when it no longer does) */

/* Track what is on the disk of `folder` and below: its contents now count as durable, later ones once they are synced (files by
 * fsync of the file, names by fsync of their folder). Everything is kept in memory: small trees only. Files that others wrote
 * past the table (HDF5) are noticed when they are opened or renamed, or their folder is synced. */
int fault_power_begin(const char *folder, struct err *e);
enum fault_cut {
    FAULT_CUT_ROLLBACK, /* names and contents as last synced */
    FAULT_CUT_EMPTY,    /* names as they were at the cut, contents as last synced: new files come back empty */
    FAULT_CUT_GARBLED,  /* the same, but what was not synced comes back in full length as noise */
};
/* Rewrite the folder to what would be found after the cut, and stop tracking. */
int fault_power_cut(enum fault_cut cut, struct err *e);
void fault_power_end(void); /* stop tracking, leave the folder */

/* For a whole process: installs what the environment variable LORAT_FAULT says, parts separated by commas; unset = nothing.
 *   kill:N          SIGKILL at call N
 *   fail:N:ENOSPC   call N fails once (EIO, ENOSPC, EDQUOT, EINTR, EACCES, EMFILE, EROFS)
 *   full:N          no space from call N on
 *   short:N         call N reads or writes half
 *   cut:N:MODE:DIR  at call N power goes in DIR (MODE rollback, empty or garbled), and the process is killed
 *   log:FILE        FILE holds the number of calls so far, also after a kill
 * Forked ranks share the counter: N is a call of any of them. */
int fault_install_env(struct err *e);

#endif
