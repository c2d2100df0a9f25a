/* Damaged job files: bytes flipped, cut, doubled and swapped at random. Each is read or refused with a message; the sanitizers
 * look for the rest. Truncation at every byte comes first. */
#include "tests/cli/config_test.h"
#include "trainer/base/io.h"

static struct config c;
static struct err e;
static uint64_t state = 7;

static uint32_t draw(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

static void look(const char *yaml, size_t n)
{
    memset(&e, 0, sizeof e);
    char *exact = malloc(n > 0 ? n : 1); /* no byte behind the text, so that reading past it shows */
    memcpy(exact, yaml, n);
    int rc = config_parse(exact, n, "job.yaml", &c, &e);
    free(exact);
    CHECK(rc == 0 || (rc == -1 && e.code == ERR_CONFIG && strncmp(e.text, "job.yaml:", 9) == 0));
    if (rc == 0) { /* whatever was accepted can be written and read again */
        struct buf out = {0};
        config_write(&c, &out);
        CHECK_OK(config_parse(out.data, out.n, "again", &c, &e), &e);
        buf_free(&out);
    }
}

static void mutate(const char *seed, size_t n)
{
    static const char *const pieces[] = {"&a ",  "*a",       "!!x ", "---\n", "[",
                                         "]",    "{",        "}",    ": ",    "- ",
                                         "\"",   "'",        "#",    "\n",    "\t",
                                         "\xff", "\xc2\x85", "%",    "|\n",   ">\n",
                                         "? ",   "null",     "~",    "1e9",   "99999999999999999999",
                                         "\\x00"};
    char text[8192];
    memcpy(text, seed, n);
    for (uint32_t k = 1 + draw(4); k > 0; k--) {
        size_t at = draw((uint32_t)n), len = draw(12);
        const char *piece = pieces[draw(sizeof pieces / sizeof pieces[0])];
        switch (draw(4)) {
        case 0:
            text[at] = (char)draw(256);
            break;
        case 1:
            len = at + len > n ? n - at : len;
            if (len == n)
                break;
            memmove(text + at, text + at + len, n - at - len);
            n -= len;
            break;
        default:
            len = strlen(piece);
            if (n + len >= sizeof text)
                break;
            memmove(text + at + len, text + at, n - at);
            memcpy(text + at, piece, len);
            n += len;
        }
    }
    look(text, n);
}

int main(void)
{
    static const char *const flow = MINIMAL
        "lora: {rank: 8, targets: [q, v], start_from: \"x\"}\ntrain: {epochs: 0.5, batch: 4, micro_batch: auto, epsilon: 1e-8}\n"
        "compute: {memory_limit: 22GiB}\neval: {every: 10min, prompts: [\"a\\n\", 'b', c]}\n";
    char *job;
    size_t n;
    CHECK_OK(io_read_file("configs/quickstart.yaml", ERR_IO, 8000, &job, &n, &e), &e);
    if (check_failures)
        return check_done();
    for (size_t i = 0; i <= n; i++)
        look(job, i);
    for (size_t i = 0; i <= strlen(flow); i++)
        look(flow, i);
    for (int i = 0; i < 3000 && check_failures == 0; i++) {
        mutate(flow, strlen(flow));
        mutate(job, n);
    }
    free(job);
    return check_done();
}
