/* shell.h - a program under test, run by a shell. */
#ifndef LORAT_SHELL_H
#define LORAT_SHELL_H

#include <stdio.h>
#include <sys/wait.h>

/* What `command` prints goes to out (size bytes, ended by '\0'; what does not fit is read and dropped); "2>&1" in it adds its errors.
 * The exit code; 128 + n for signal n; -1 when there is no shell. */
static inline int shell(const char *command, char *out, size_t size)
{
    char rest[4096];
    out[0] = '\0';
    FILE *p = popen(command, "r");
    if (p == NULL)
        return -1;
    out[fread(out, 1, size - 1, p)] = '\0';
    while (fread(rest, 1, sizeof rest, p) > 0)
        ;
    int status = pclose(p);
    return status == -1 ? -1 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

#endif
