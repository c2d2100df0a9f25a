/* stop.h - the one global: has the user asked to stop? SIGINT, SIGTERM and SIGHUP set it; a second signal ends the process at
 * once (_exit(75) when the last state is on disk anyway), which leaves the last checkpoint intact because saves are atomic. */
#ifndef LORAT_STOP_H
#define LORAT_STOP_H

#include <stdbool.h>

void stop_install(void);    /* handlers for the three signals; SIGPIPE and SIGXFSZ ignored */
bool stop_requested(void);
int stop_signal(void);      /* which one, 0 = none */
void stop_request(int sig); /* tests, and ranks that were told by others */

#endif
