/* absent.c - a library that is linked against and then not found, as cuBLAS is on a machine without it. */
int lorat_absent(void);
int lorat_absent(void) { return 1; }
