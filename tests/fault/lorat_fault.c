/* The lorat program with a table that goes wrong as LORAT_FAULT says (see io_fault.h). */
#include <stdio.h>

#include "tests/fault/io_fault.h"
#include "trainer/lorat_main.h"

int main(int argc, char **argv)
{
    struct err e = {0};
    if (fault_install_env(&e) != 0) {
        fprintf(stderr, "lorat_fault: %s\n", e.text);
        return e.code;
    }
    return lorat_main(argc, argv);
}
