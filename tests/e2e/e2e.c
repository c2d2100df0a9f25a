#include "tests/e2e/e2e.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "checkpoints/run.h"
#include "trainer/base/buf.h"
#include "trainer/base/io.h"
#include "trainer/base/json.h"

enum { MAX_ARGS = 96, MAX_FILE = 1 << 28 };

char e2e_root[512], e2e_golden[600], e2e_dir[64], *e2e_out;
static char lorat[600], lorat_fault[600];
static uint64_t random_state = 88172645463325252u;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void absolute(char out[600], const char *path)
{
    char *full = realpath(path, NULL);
    if (full == NULL)
        die(path);
    snprintf(out, 600, "%s", full);
    free(full);
}

/* Memory where there is room: what a run writes is synced hundreds of times in these tests, and what a real disk may do is
 * tests/runs' part. */
static const char *temporary_folder(void)
{
    struct statvfs v;
    const char *given = getenv("TMPDIR");
    if (given != NULL && strlen(given) < 32)
        return given;
    bool roomy =
        statvfs("/dev/shm", &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize > (uint64_t)1 << 30 && access("/dev/shm", W_OK) == 0;
    return roomy ? "/dev/shm" : "/tmp";
}

void e2e_begin(int argc, char **argv)
{
    if (argc < 3)
        CHECK_SKIP("the paths of lorat and lorat_fault are needed");
    absolute(lorat, argv[1]);
    absolute(lorat_fault, argv[2]);
    if (getcwd(e2e_root, sizeof e2e_root) == NULL)
        die("getcwd");
    snprintf(e2e_golden, sizeof e2e_golden, "%s/tests/golden", e2e_root);
    snprintf(e2e_dir, sizeof e2e_dir, "%s/lorat-e2e-XXXXXX", temporary_folder());
    if (mkdtemp(e2e_dir) == NULL || chdir(e2e_dir) != 0)
        die(e2e_dir);
    setenv("OMP_NUM_THREADS", "1", 1);
    e2e_out = calloc(1, 1);
}

int e2e_end(void)
{
    if (chdir("/") == 0)
        e2e_remove(e2e_dir);
    free(e2e_out);
    return check_done();
}

static void limit_files(int64_t bytes)
{
    struct rlimit limit = {(rlim_t)bytes, (rlim_t)bytes};
    if (bytes > 0 && setrlimit(RLIMIT_FSIZE, &limit) != 0)
        _exit(126);
}

/* In the child. */
static void become(const struct e2e_how *how, char *const *args)
{
    const char *output = how->output != NULL ? how->output : ".output";
    limit_files(how->file_limit);
    if (how->closed) {
        for (int fd = 0; fd <= 2; fd++)
            close(fd);
    } else {
        int in = open("/dev/null", O_RDONLY), out = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
        if (in < 0 || out < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
            _exit(125);
        close(in);
        close(out);
    }
    if (how->fault != NULL)
        setenv("LORAT_FAULT", how->fault, 1);
    execv(how->fault != NULL ? lorat_fault : lorat, args);
    _exit(127);
}

static pid_t start(const struct e2e_how *how, const char *format, va_list list)
{
    char text[8192], *args[MAX_ARGS] = {(char *)"lorat"};
    int n = 1;
    if (vsnprintf(text, sizeof text, format, list) >= (int)sizeof text)
        die("a command that is too long");
    for (char *p = text; *p != '\0' && n < MAX_ARGS - 1;) {
        p += strspn(p, " ");
        char *to = p, quote = '\0';
        if (*p == '\0')
            break;
        args[n++] = to;
        for (; *p != '\0' && (quote != '\0' || *p != ' '); p++)
            if (*p == '\'')
                quote = quote != '\0' ? '\0' : *p;
            else
                *to++ = *p;
        p += *p != '\0';
        *to = '\0';
    }
    fflush(NULL);
    if (how->output == NULL)
        unlink(".output"); /* a child that is killed before it runs shall not seem to have said what the last one did */
    pid_t child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        become(how, args);
    return child;
}

pid_t e2e_start(const struct e2e_how *how, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    pid_t child = start(how, format, list);
    va_end(list);
    return child;
}

int e2e_wait(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child)
        die("waitpid");
    free(e2e_out);
    e2e_out = e2e_read(".output", NULL);
    if (e2e_out == NULL)
        e2e_out = calloc(1, 1);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool e2e_running(pid_t child)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

int e2e_run(const char *format, ...)
{
    static const struct e2e_how plain;
    va_list list;
    va_start(list, format);
    pid_t child = start(&plain, format, list);
    va_end(list);
    return e2e_wait(child);
}

int e2e_run_how(const struct e2e_how *how, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    pid_t child = start(how, format, list);
    va_end(list);
    return e2e_wait(child);
}

/* 0 when there is no such process any more. */
static long parent_of(long pid)
{
    char path[64], text[512] = "";
    long parent = 0;
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    char *after = f != NULL && fgets(text, sizeof text, f) != NULL ? strrchr(text, ')') : NULL;
    if (f != NULL)
        fclose(f);
    return after != NULL && sscanf(after + 1, " %*c %ld", &parent) == 1 ? parent : 0;
}

static int by_number(const void *a, const void *b) { return *(const pid_t *)a < *(const pid_t *)b ? -1 : 1; }

int e2e_children(pid_t parent, pid_t out[8])
{
    int n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
        long pid = strtol(entry->d_name, NULL, 10);
        if (pid > 0 && n < 8 && parent_of(pid) == parent)
            out[n++] = (pid_t)pid;
    }
    if (d != NULL)
        closedir(d);
    qsort(out, (size_t)n, sizeof *out, by_number);
    return n;
}

/* The number behind `key` at the beginning of a line of /proc/PID/status; base as strtoull's. */
static uint64_t status_number(pid_t pid, const char *key, int base)
{
    char path[64], line[256];
    uint64_t value = 0;
    snprintf(path, sizeof path, "/proc/%ld/status", (long)pid);
    FILE *f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtoull(line + strlen(key), NULL, base);
    if (f != NULL)
        fclose(f);
    return value;
}

int e2e_count_threads(pid_t pid) { return (int)status_number(pid, "Threads:", 10); }

double e2e_busy_s(pid_t pid)
{
    char path[64], text[512] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%ld/task/%ld/stat", (long)pid, (long)pid);
    FILE *f = fopen(path, "r");
    char *after = f != NULL && fgets(text, sizeof text, f) != NULL ? strrchr(text, ')') : NULL;
    if (f != NULL)
        fclose(f);
    if (after == NULL || sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return 0;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

void e2e_taken(pid_t pid, int sig)
{
    uint64_t bit = (uint64_t)1 << (sig - 1);
    while (e2e_running(pid) && ((status_number(pid, "ShdPnd:", 16) | status_number(pid, "SigPnd:", 16)) & bit) != 0)
        e2e_sleep(0.001);
}

int e2e_count_shared(pid_t pid)
{
    char path[64], line[1024];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%ld/maps", (long)pid);
    FILE *f = fopen(path, "r");
    if (f == NULL)
        return -1;
    while (fgets(line, sizeof line, f) != NULL)
        n += strstr(line, " /dev/shm/") != NULL && strstr(line, e2e_dir) == NULL; /* where the test itself may be */
    fclose(f);
    return n;
}

void e2e_job(const char *path, const char *name, const char *model)
{
    struct buf b = {0};
    const char *device = getenv("LORAT_TEST_DEVICE");
    buf_printf(&b,
               "name: %s\nmodel:\n  path: %s/%s\ndata:\n  train: d.h5\n  sequence_length: 32\nlora:\n  rank: 4\n  dropout: 0.1\n"
               "train:\n  max_steps: 6\n  batch: 4\n  micro_batch: 4\n  warmup_steps: 3\n  learning_rate: 1.0e-3\n"
               "compute:\n  device: %s\n  precision: f32\n  threads: 1\neval:\n  every: 100\ncheckpoint:\n  every: 1\n",
               name, e2e_golden, model, device != NULL ? device : "cpu");
    e2e_write(path, b.data);
    buf_free(&b);
}

void e2e_dataset(const char *path, int documents, int vocab, int seed)
{
    struct buf b = {0};
    uint64_t keep = random_state;
    random_state = 88172645463325252u + (uint64_t)seed;
    for (int d = 0; d < documents; d++) {
        int n = 6 + (int)e2e_random(25);
        buf_puts(&b, "{\"tokens\": [");
        for (int i = 0; i < n; i++)
            buf_printf(&b, "%s%d", i > 0 ? ", " : "", (int)e2e_random(vocab));
        buf_puts(&b, "], \"loss\": [0");
        for (int i = 1; i < n; i++)
            buf_puts(&b, i == 1 || e2e_random(3) > 0 ? ", 1" : ", 0");
        buf_puts(&b, "]}\n");
    }
    random_state = keep;
    e2e_write("d.jsonl", b.data);
    buf_free(&b);
    E2E_RUN(0, "data build --input d.jsonl -o %s --vocab %d --validation 10%% --replace", path, vocab);
}

void e2e_usual(const char *model)
{
    e2e_dataset("d.h5", 24, 96, 0);
    e2e_job("job.yaml", "t", model);
}

void e2e_write(const char *path, const char *text)
{
    struct err e = {0};
    CHECK_OK(io_write_file_atomic(path, text, strlen(text), &e), &e);
}

char *e2e_read(const char *path, size_t *n)
{
    char *bytes;
    size_t size;
    if (io_read_file(path, ERR_IO, MAX_FILE, &bytes, &size, NULL) != 0)
        return NULL;
    if (n != NULL)
        *n = size;
    return bytes;
}

bool e2e_same(const char *a, const char *b)
{
    size_t na = 0, nb = 0;
    char *x = e2e_read(a, &na), *y = e2e_read(b, &nb);
    bool same = x != NULL && y != NULL && na == nb && memcmp(x, y, na) == 0;
    free(x);
    free(y);
    return same;
}

void e2e_remove(const char *path)
{
    struct err e = {0};
    CHECK_OK(io_remove_tree(path, &e), &e);
}

bool e2e_exists(const char *path) { return io_exists(path); }

void e2e_sleep(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
}

double e2e_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

bool e2e_same_state(const char *run_a, const char *run_b, int64_t step)
{
    static const char *const files[] = {"adapter_model.safetensors", "optimizer.safetensors", "state.json"};
    bool all = true;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char a[512], b[512];
        snprintf(a, sizeof a, "runs/%s/checkpoints/step-%08lld/%s", run_a, (long long)step, files[i]);
        snprintf(b, sizeof b, "runs/%s/checkpoints/step-%08lld/%s", run_b, (long long)step, files[i]);
        if (!e2e_same(a, b)) {
            fprintf(stderr, "%s and %s differ\n", a, b);
            all = false;
        }
    }
    return all;
}

int64_t e2e_last_saved(void)
{
    int64_t step = -1;
    for (const char *p = e2e_out; (p = strstr(p, "saved runs/")) != NULL; p++) {
        const char *end = p + strcspn(p, "\n"), *at = strstr(p, "/checkpoints/step-");
        if (at != NULL && at < end)
            step = strtoll(at + strlen("/checkpoints/step-"), NULL, 10);
    }
    return step;
}

int64_t e2e_found(const char *run, bool *rejected)
{
    struct run_found found = {.step = -1};
    struct err e = {0};
    char dir[256];
    snprintf(dir, sizeof dir, "runs/%s", run);
    *rejected = false;
    if (!io_exists(dir))
        return -1;
    CHECK_OK(run_find(dir, &found, &e), &e);
    int64_t step = found.dir != NULL ? found.step : -1;
    *rejected = found.rejected != NULL;
    run_found_free(&found);
    return step;
}

int e2e_count_temporaries(const char *dir)
{
    char **names, path[1024];
    size_t n;
    int count = 0;
    if (io_list(dir, &names, &n, NULL) != 0)
        return 0;
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(names[i]);
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        bool temporary = strncmp(names[i], ".tmp", 4) == 0 || strstr(names[i], ".tmp") != NULL ||
                         (length > 4 && strcmp(names[i] + length - 4, ".old") == 0);
        if (temporary)
            fprintf(stderr, "%s was left\n", path);
        count += temporary;
        if (io_is_dir(path))
            count += e2e_count_temporaries(path);
    }
    io_list_free(names, n);
    return count;
}

double e2e_summary(const char *run, const char *key)
{
    char path[256];
    size_t n;
    struct json *j;
    double v = NAN;
    snprintf(path, sizeof path, "runs/%s/summary.json", run);
    char *text = e2e_read(path, &n);
    if (text != NULL && json_parse(text, n, path, ERR_STATE, &j, NULL) == 0) {
        json_f64(json_get(j, key), &v);
        json_free(j);
    }
    free(text);
    return v;
}

int64_t e2e_random(int64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (int64_t)(random_state >> 11) % below;
}
