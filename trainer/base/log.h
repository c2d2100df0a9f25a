/* log.h - what the user reads while lorat works. Everything goes to stderr but results that a pipe may want (stdout). Writing
 * never fails a run: a closed or full terminal is ignored. Thread-safe. */
#ifndef LORAT_LOG_H
#define LORAT_LOG_H

#include <stdbool.h>

#include "trainer/base/err.h"

/* First thing in main: standard descriptors that came closed are opened on /dev/null, so that no file of ours takes their number
 * and then receives messages. */
void log_start(void);
enum log_level { LOG_QUIET, LOG_NORMAL };
void log_set_level(enum log_level level);
void log_set_rank(int rank); /* warnings of this process begin with "[rank N] "; 0 = no prefix */
bool log_colour(int fd); /* fd is a terminal, NO_COLOR is not set, TERM is not dumb */
bool log_terminal(int fd);
/* Notes and warnings go to `line` from here on, whole and without a prefix: a plug-in has a copy of this file, and speaks through the
 * program's. log_line is what the program gives it. */
void log_forward(void (*line)(bool warning, const char *text));
void log_line(bool warning, const char *text);
/* For a verb whose product is what it prints on stdout: has all of it been written? ERR_IO where a disk is full or fails. A
 * reader that has left its pipe has what it wanted, and a stdout that came closed (log_start) wants nothing: 0. */
int log_output_done(struct err *e);
void log_note(const char *format, ...) __attribute__((format(printf, 1, 2)));    /* a line */
void log_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));    /* "lorat: warning: ..." */
/* One line that is redrawn on a terminal and printed plainly in a pipe. keep = leave it standing (a newline follows). */
void log_progress(bool keep, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
