/* stop.h - the one global: has the user asked to stop? SIGINT, SIGTERM and SIGHUP set it; a second signal ends the process at
 * once with _exit(75), which leaves the last checkpoint intact because saves are atomic. Signals within 250 ms of the first count
 * as the same request: timeout(1) and process managers signal a process and then its group. */
#ifndef LORAT_STOP_H
#define LORAT_STOP_H

#include <stdbool.h>

/* Handlers for the three signals (SIGINT and SIGHUP stay ignored if they were: nohup); SIGPIPE and SIGXFSZ ignored. */
void stop_install(void);
bool stop_requested(void);
int stop_signal(void);      /* which one, 0 = none */
void stop_request(int sig); /* tests, and ranks that were told by others */

#endif
