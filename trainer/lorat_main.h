/* lorat_main.h - the whole program but `main` itself, so that a test can call it. */
#ifndef LORAT_MAIN_H
#define LORAT_MAIN_H

/* Runs the verb argv[1] and returns the exit code (err.h). Prints the error, if any, as "lorat: error: ..." on stderr. */
int lorat_main(int argc, char **argv);

#endif
