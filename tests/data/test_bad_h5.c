/* HDF5 files that are not what lorat builds, sealed (so that the seal lets them through) and unsealed: each is refused by name.
 */
#include <hdf5.h>

#include <fcntl.h>
#include <signal.h>

#include "datasets/loader.h"
#include "datasets/seal.h"
#include "datasets/store.h"
#include "tests/data/data_util.h"
#include "trainer/base/mem.h"
#include "trainer/base/rng.h"

/* What is wrong with a file. */
enum fault {
    GOOD,
    NO_TRAIN,
    TRAIN_IS_DATA,
    EXTRA_GROUP,
    EXTRA_DATA,
    SOFT_TOKENS,
    EXTERNAL_TRAIN,
    TRAIN_IS_ROOT,
    NO_WEIGHTS,
    TOKENS_64,
    WEIGHTS_64,
    OFFSETS_32,
    TOKENS_RANK_2,
    SCALAR_TOKENS,
    FEW_WEIGHTS,
    OFFSETS_LATE,
    OFFSETS_SHORT,
    OFFSETS_BACK,
    OFFSETS_ONE,
    OFFSETS_HUGE,
    OFFSETS_CHUNKED,
    TOKENS_COMPACT,
    BIG_CHUNKS,
    CHECKSUM_FILTER,
    UNKNOWN_FILTER,
    OUTSIDE_DATA,
    VIRTUAL_DATA,
    NEGATIVE_TOKEN,
    LARGE_TOKEN,
    NAN_WEIGHT,
    NEGATIVE_WEIGHT,
    NO_FORMAT,
    FORMAT_2,
    FORMAT_TEXT,
    NO_TARGETS_FACT,
    WRONG_COUNT,
    N_FAULTS
};
static const char *const expected[N_FAULTS] = {
    [NO_TRAIN] = "no group \"train\"",
    [TRAIN_IS_DATA] = "/train: not a group",
    [EXTRA_GROUP] = "an object \"more\"",
    [EXTRA_DATA] = "an object \"more\"",
    [SOFT_TOKENS] = "\"tokens\" is a soft link",
    [EXTERNAL_TRAIN] = "\"train\" is an external link",
    [TRAIN_IS_ROOT] = "in train: an object \"train\"",
    [NO_WEIGHTS] = "/train: no \"weights\"",
    [TOKENS_64] = "/train/tokens: another element type, expected 32-bit integers",
    [WEIGHTS_64] = "/train/weights: another element type, expected 32-bit floats",
    [OFFSETS_32] = "/train/offsets: another element type, expected unsigned 64-bit integers",
    [TOKENS_RANK_2] = "/train/tokens: 2 dimensions, expected 1",
    [SCALAR_TOKENS] = "/train/tokens: 0 dimensions, expected 1",
    [FEW_WEIGHTS] = "/train/weights: 9 elements",
    [OFFSETS_LATE] = "/train/offsets: from 1 to 10",
    [OFFSETS_SHORT] = "/train/offsets: from 0 to 9",
    [OFFSETS_BACK] = "offsets[2]: 3, expected more than the 3 before it",
    [OFFSETS_ONE] = "/train/offsets: 1 elements",
    [OFFSETS_HUGE] = "offsets[1]: 18446744073709551615, expected",
    [OFFSETS_CHUNKED] = "/train/offsets: chunked storage, expected contiguous",
    [TOKENS_COMPACT] = "/train/tokens: compact storage",
    [BIG_CHUNKS] = "/train/tokens: chunks of 100000 tokens",
    [CHECKSUM_FILTER] = "/train/tokens: filter 3",
    [UNKNOWN_FILTER] = "/train/tokens: filter 32099",
    [OUTSIDE_DATA] = "/train/tokens: its data are in another file",
    [VIRTUAL_DATA] = "/train/tokens: a virtual dataset",
    [NEGATIVE_TOKEN] = "-5, expected at least 0",
    [LARGE_TOKEN] = "50",
    [NAN_WEIGHT] = "nan",
    [NEGATIVE_WEIGHT] = "-1",
    [NO_FORMAT] = "no attribute \"format\"",
    [FORMAT_2] = "format 2, expected 1",
    [FORMAT_TEXT] = "no attribute \"format\"",
    [NO_TARGETS_FACT] = "no attribute \"targets\"",
    [WRONG_COUNT] = "attributes say 4 documents",
};

static hid_t plist_for(enum fault f, const char *name)
{
    hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    hsize_t chunk = f == BIG_CHUNKS ? 100000 : 4, two[2] = {2, 2}, ten = 10;
    bool tokens = strcmp(name, "tokens") == 0;
    if (strcmp(name, "offsets") == 0) {
        if (f == OFFSETS_CHUNKED)
            H5Pset_chunk(p, 1, &chunk);
        return p;
    }
    if (!tokens || f == SCALAR_TOKENS)
        return p;
    if (f == TOKENS_COMPACT)
        H5Pset_layout(p, H5D_COMPACT);
    else if (f == OUTSIDE_DATA)
        H5Pset_external(p, util_path("outside.bin"), 0, 40);
    else if (f == VIRTUAL_DATA) {
        hid_t space = H5Screate_simple(1, &ten, NULL);
        H5Pset_virtual(p, space, util_path("other.h5"), "/train/tokens", space);
        H5Sclose(space);
    } else {
        H5Pset_chunk(p, f == TOKENS_RANK_2 ? 2 : 1, f == TOKENS_RANK_2 ? two : &chunk);
        if (f == CHECKSUM_FILTER)
            H5Pset_fletcher32(p);
        if (f == UNKNOWN_FILTER)
            H5Pset_filter(p, 32099, H5Z_FLAG_OPTIONAL, 0, NULL);
        H5Pset_deflate(p, 1);
    }
    return p;
}

static void put_data(hid_t group, enum fault f, const char *name, hid_t type, hid_t memory, hsize_t n, const void *values)
{
    hsize_t dims[2] = {5, 2}, most = f == BIG_CHUNKS && strcmp(name, "tokens") == 0 ? H5S_UNLIMITED : n;
    bool square = f == TOKENS_RANK_2 && strcmp(name, "tokens") == 0, scalar = f == SCALAR_TOKENS && strcmp(name, "tokens") == 0;
    hid_t space = scalar ? H5Screate(H5S_SCALAR) : square ? H5Screate_simple(2, dims, NULL) : H5Screate_simple(1, &n, &most);
    hid_t p = plist_for(f, name), d = H5Dcreate2(group, name, type, space, H5P_DEFAULT, p, H5P_DEFAULT);
    CHECK(d >= 0);
    if (!(f == VIRTUAL_DATA && strcmp(name, "tokens") == 0))
        CHECK(H5Dwrite(d, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(d);
    H5Pclose(p);
    H5Sclose(space);
}

static void put_int(hid_t at, const char *name, int64_t v)
{
    hid_t space = H5Screate(H5S_SCALAR), a = H5Acreate2(at, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(a, H5T_NATIVE_INT64, &v);
    H5Aclose(a);
    H5Sclose(space);
}

static void put_group(hid_t file, enum fault f, bool facts)
{
    int32_t tokens[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    float weights[10] = {0, 1, 1, 0, 1, 1, 0, 1, 1, 1};
    uint64_t offsets[4] = {0, 3, 6, 10};
    tokens[4] = f == NEGATIVE_TOKEN ? -5 : f == LARGE_TOKEN ? 50 : tokens[4];
    weights[4] = f == NAN_WEIGHT ? (float)NAN : f == NEGATIVE_WEIGHT ? -1 : 1;
    offsets[0] = f == OFFSETS_LATE;
    offsets[3] = f == OFFSETS_SHORT ? 9 : 10;
    offsets[1] = f == OFFSETS_HUGE ? UINT64_MAX : 3;
    offsets[2] = f == OFFSETS_BACK || f == OFFSETS_HUGE ? 3 : 6;
    hid_t g = H5Gcreate2(file, "train", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (f == SOFT_TOKENS)
        H5Lcreate_soft("/train/weights", g, "tokens", H5P_DEFAULT, H5P_DEFAULT);
    else
        put_data(g, f, "tokens", f == TOKENS_64 ? H5T_STD_I64LE : H5T_STD_I32LE, H5T_NATIVE_INT32, 10, tokens);
    if (f != NO_WEIGHTS)
        put_data(g, f, "weights", f == WEIGHTS_64 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, f == FEW_WEIGHTS ? 9 : 10,
                 weights);
    put_data(g, f, "offsets", f == OFFSETS_32 ? H5T_STD_U32LE : H5T_STD_U64LE, H5T_NATIVE_UINT64, f == OFFSETS_ONE ? 1 : 4,
             offsets);
    if (f == EXTRA_DATA)
        put_data(g, f, "more", H5T_STD_I32LE, H5T_NATIVE_INT32, 10, tokens);
    static const char *const names[] = {"documents",       "tokens",       "targets", "longest",
                                        "without_targets", "ends_trained", "ends",    "masked"};
    static const int64_t values[] = {3, 10, 7, 4, 0, 0, 0, 0};
    for (int i = 0; facts && i < 8; i++)
        if (!(f == NO_TARGETS_FACT && i == 2))
            put_int(g, names[i], values[i] + (f == WRONG_COUNT && i == 0));
    H5Gclose(g);
}

static void put_format(hid_t file, enum fault f)
{
    if (f == FORMAT_TEXT) {
        hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
        H5Tset_size(type, H5T_VARIABLE);
        const char *text = "1";
        hid_t a = H5Acreate2(file, "format", type, space, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(a, type, &text);
        H5Aclose(a);
        H5Tclose(type);
        H5Sclose(space);
    } else if (f != NO_FORMAT) {
        put_int(file, "format", f == FORMAT_2 ? 2 : 1);
    }
    put_int(file, "vocab", 20);
    put_int(file, "max_token", 10);
}

static void make(const char *path, enum fault f, bool sealed)
{
    hid_t create = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
    if (sealed)
        H5Pset_userblock(create, SEAL_BYTES);
    H5Pset_libver_bounds(access, f == VIRTUAL_DATA ? H5F_LIBVER_LATEST : H5F_LIBVER_EARLIEST, H5F_LIBVER_LATEST);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, create, access);
    CHECK(file >= 0);
    if (sealed || f == FORMAT_2)
        put_format(file, f);
    if (f == EXTERNAL_TRAIN)
        H5Lcreate_external("other.h5", "/train", file, "train", H5P_DEFAULT, H5P_DEFAULT);
    else if (f == TRAIN_IS_ROOT)
        H5Lcreate_hard(file, "/", file, "train", H5P_DEFAULT, H5P_DEFAULT);
    else if (f == TRAIN_IS_DATA)
        put_data(file, GOOD, "train", H5T_STD_I32LE, H5T_NATIVE_INT32, 1, &(int32_t){1});
    else if (f != NO_TRAIN)
        put_group(file, f, sealed);
    if (f == EXTRA_GROUP)
        H5Gclose(H5Gcreate2(file, "more", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Fclose(file);
    H5Pclose(create);
    H5Pclose(access);
    if (sealed) {
        char identity[HASH_HEX];
        struct err e = {0};
        int fd = open(path, O_RDWR);
        CHECK_OK(seal_write(fd, path, identity, &e), &e);
        close(fd);
    }
}

/* Open, index, read one epoch: the first error that a training run would meet. */
static int use(const char *path, bool unsealed, struct err *e)
{
    struct loader_options o = {.path = path,
                               .unsealed = unsealed,
                               .sequence_length = 8,
                               .packing = true,
                               .batch = 1,
                               .micro_batch = 1,
                               .ranks = 1,
                               .vocab = 20};
    struct loader *l = NULL;
    struct batch *b;
    int rc = loader_open(&o, &l, e);
    if (rc != 0)
        return rc;
    rc = loader_start(l, 0, 1, e);
    while (rc == 0 && (rc = loader_next(l, &b, NULL, e)) == 0 && b != NULL)
        loader_release(l, b);
    loader_close(l);
    return rc;
}

static void every_fault(bool sealed)
{
    char secret[40] = "";
    util_write(util_path("outside.bin"), secret, sizeof secret);
    make(util_path("other.h5"), GOOD, false);
    for (int f = 0; f < N_FAULTS; f++) {
        struct err e = {0};
        if (!sealed && f >= NO_FORMAT && f != FORMAT_2) /* such a file has no attributes */
            continue;
        const char *path = util_path("fault.h5");
        make(path, (enum fault)f, sealed);
        int rc = use(path, !sealed, &e);
        if (f == GOOD) {
            CHECK_OK(rc, &e);
            continue;
        }
        if (rc == 0)
            fprintf(stderr, "fault %d, sealed %d: taken\n", f, sealed);
        CHECK(rc != 0);
        CHECK_INT(e.code, ERR_DATA);
        CHECK_HAS(e.text, expected[f]);
    }
}

/* A file without a seal needs the flag; then its facts are counted, not believed. */
static void unsealed(void)
{
    struct dataset *d = NULL;
    struct err e = {0};
    const char *path = util_path("bare.h5");
    make(path, GOOD, false);
    CHECK(dataset_open(path, false, NULL, &d, &e) != 0);
    CHECK_HAS(e.text, "no seal");
    CHECK_OK(dataset_open(path, true, NULL, &d, &e), &e);
    const struct dataset_facts *f = dataset_facts(d);
    CHECK_INT(f->group[0].documents, 3);
    CHECK_INT(f->group[0].tokens, 10);
    CHECK_INT(f->group[0].targets, 7);
    CHECK_INT(f->group[0].longest, 4);
    CHECK_INT(f->max_token, 10);
    CHECK_STR(f->tokenizer, "unknown");
    CHECK_INT(strlen(f->seal), 64);
    dataset_close(d);
    util_text(path, "this is not HDF5 at all");
    CHECK(dataset_open(path, true, NULL, &d, &e) != 0);
    CHECK_HAS(e.text, "expected an HDF5 file");
    util_text(path, "");
    CHECK(dataset_open(path, true, NULL, &d, &e) != 0);
    /* A seal is verified also where none is asked for. */
    char *bytes;
    size_t n;
    make(path, GOOD, true);
    CHECK_OK(io_read_file(path, ERR_IO, 1 << 24, &bytes, &n, &e), &e);
    bytes[n - 1] ^= 1;
    util_write(path, bytes, n);
    CHECK(dataset_open(path, true, NULL, &d, &e) != 0);
    CHECK_HAS(e.text, "do not match its seal");
    mem_free(bytes);
}

/* Garbled HDF5: whatever the library does with it happens to a child. Fails only by crashing or hanging here. */
static void garbled(void)
{
    struct err e = {0};
    char *bytes;
    size_t n;
    int refused = 0;
    const char *path = util_path("garbled.h5");
    make(path, GOOD, false);
    CHECK_OK(io_read_file(path, ERR_IO, 1 << 24, &bytes, &n, &e), &e);
    for (uint32_t i = 0; i < 60; i++) {
        struct rng4 r = rng_at(1, RNG_SAMPLE, i, 0, 0);
        size_t at = r.v[0] % n;
        char was = bytes[at];
        bytes[at] = (char)(r.v[1] & 1 ? 0xff : r.v[2]);
        int fd = open(path, O_WRONLY | O_TRUNC); /* not atomically: it need not be durable */
        CHECK_INT(write(fd, bytes, n), n);
        close(fd);
        refused += use(path, true, &e) != 0;
        bytes[at] = was;
    }
    CHECK(refused > 0 && refused < 60);
    mem_free(bytes);
}

static int crash(void *arg, void *result, struct err *e)
{
    const char *how = arg;
    if (how[0] == 'c')
        raise(SIGSEGV);
    while (how[0] == 'h')
        pause();
    if (how[0] == 'x')
        _exit(3);
    memcpy(result, "answer", 7);
    return how[0] == 'e' ? err_set(e, ERR_DATA, "found by the child") : 0;
}

static void probes(void)
{
    char answer[7];
    struct err e = {0};
    CHECK(store_probe("f.h5", crash, "crash", answer, 7, 5, &e) != 0);
    CHECK_HAS(e.text, "f.h5: reading it crashes HDF5 (Segmentation fault)");
    CHECK(store_probe("f.h5", crash, "hang", answer, 7, 1, &e) != 0);
    CHECK_HAS(e.text, "f.h5: reading it took more than 1 s");
    CHECK(store_probe("f.h5", crash, "x", answer, 7, 5, &e) != 0);
    CHECK_HAS(e.text, "failed in a child process");
    CHECK(store_probe("f.h5", crash, "error", answer, 7, 5, &e) != 0);
    CHECK_STR(e.text, "found by the child");
    CHECK_OK(store_probe("f.h5", crash, "well", answer, 7, 5, &e), &e);
    CHECK_STR(answer, "answer");
}

int main(void)
{
    util_begin();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    every_fault(true);
    every_fault(false);
    unsealed();
    garbled();
    probes();
    return util_end();
}
