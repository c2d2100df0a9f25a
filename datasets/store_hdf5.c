/* The only file that sees libhdf5. House rules for it: filter plug-ins off, its own error printing off, no locking of files, only
 * shuffle and deflate, only plain 1-D datasets behind hard links: all of it checked before a byte of data is read. */
#include <hdf5.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "datasets/seal.h"
#include "datasets/store.h"
#include "trainer/base/io.h"
#include "trainer/base/mem.h"

enum { FORMAT_VERSION = 1, BUFFER = 8 * STORE_CHUNK, OFFSET_BLOCK = 4096, TEXT_LIMIT = 65536 };
static const char *const group_name[2] = {"train", "validation"};

/* libhdf5 is one global state machine, whether or not it was built thread-safe. */
static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

static int library_enter(struct err *e)
{
    static bool ready;
    pthread_mutex_lock(&library);
    if (!ready) {
        H5dont_atexit(); /* files that could not be flushed would make its exit handler loop */
        if (H5open() < 0 || H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0 || H5PLset_loading_state(0) < 0) {
            pthread_mutex_unlock(&library);
            FAIL(e, ERR_INTERNAL, "the HDF5 library: start failed, expected it to start");
        }
        ready = true;
    }
    return 0;
}

static void library_leave(void) { pthread_mutex_unlock(&library); }

int store_library_hold(struct err *e) { return library_enter(e); }
void store_library_release(void) { library_leave(); }

static herr_t note_reason(unsigned n, const H5E_error2_t *error, void *arg)
{
    snprintf(arg, 160, "%s", error->desc ? error->desc : "");
    return 0;
}

/* Error with HDF5's innermost reason, which is the one that says "No space left on device". */
static int fail_hdf5(struct err *e, enum err_code code, const char *path, const char *what)
{
    char reason[160] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_reason, reason); /* upward: first call is the innermost; the last one wins */
    char inner[160] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, note_reason, inner);
    H5Eclear2(H5E_DEFAULT);
    return err_set(e, code, "%s: %s failed in HDF5 (%s)", path, what, inner[0] ? inner : reason);
}

/* ---- writing ---- */

struct column {
    hid_t tokens, weights; /* datasets; negative while the group has no document */
    int32_t *token_buffer;
    float *weight_buffer;
    int64_t written, buffered;
    int64_t documents;
    int lengths; /* nameless file of uint64 document ends */
    uint64_t ends[OFFSET_BLOCK];
    int n_ends;
};
struct store_writer {
    char *path;
    hid_t file;
    struct column column[2];
};

static hid_t make_plist(void)
{
    hsize_t chunk = STORE_CHUNK;
    hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    if (p >= 0 && (H5Pset_chunk(p, 1, &chunk) < 0 || H5Pset_shuffle(p) < 0 || H5Pset_deflate(p, 1) < 0 ||
                   H5Pset_obj_track_times(p, 0) < 0)) {
        H5Pclose(p);
        return -1;
    }
    return p;
}

static hid_t make_column(hid_t group, const char *name, hid_t type)
{
    hsize_t zero = 0, any = H5S_UNLIMITED;
    hid_t space = H5Screate_simple(1, &zero, &any), plist = make_plist();
    hid_t d = space < 0 || plist < 0 ? -1 : H5Dcreate2(group, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (plist >= 0)
        H5Pclose(plist);
    if (space >= 0)
        H5Sclose(space);
    return d;
}

static int start_group(struct store_writer *w, enum dataset_group g, struct err *e)
{
    struct column *c = &w->column[g];
    c->token_buffer = mem_alloc(BUFFER, sizeof *c->token_buffer);
    c->weight_buffer = mem_alloc(BUFFER, sizeof *c->weight_buffer);
    if (c->token_buffer == NULL || c->weight_buffer == NULL)
        return mem_fail(e, "a dataset's write buffers", BUFFER * 8);
    char spool[4096];
    snprintf(spool, sizeof spool, "%s.%s.lengths", w->path, group_name[g]);
    c->lengths = io->open(spool, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (c->lengths < 0)
        return err_errno(e, ERR_IO, errno, "%s: could not be created", spool);
    io->unlink(spool);
    TRY(library_enter(e));
    hid_t group = H5Gcreate2(w->file, group_name[g], H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group >= 0) {
        c->tokens = make_column(group, "tokens", H5T_STD_I32LE);
        c->weights = make_column(group, "weights", H5T_IEEE_F32LE);
        H5Gclose(group);
    }
    int rc = group < 0 || c->tokens < 0 || c->weights < 0 ? fail_hdf5(e, ERR_IO, w->path, "creating a group") : 0;
    library_leave();
    return rc;
}

int store_create(const char *path, struct store_writer **out, struct err *e)
{
    struct store_writer *w = mem_alloc(1, sizeof *w);
    if (w == NULL || (w->path = mem_strdup(path)) == NULL) {
        mem_free(w);
        return mem_fail(e, "a dataset writer", sizeof *w);
    }
    w->file = -1;
    for (int g = 0; g < 2; g++)
        w->column[g].tokens = w->column[g].weights = w->column[g].lengths = -1;
    int rc = library_enter(e);
    if (rc == 0) {
        hid_t create = H5Pcreate(H5P_FILE_CREATE), access = H5Pcreate(H5P_FILE_ACCESS);
        if (create >= 0 && access >= 0 && H5Pset_userblock(create, SEAL_BYTES) >= 0 &&
            H5Pset_fclose_degree(access, H5F_CLOSE_STRONG) >= 0)
            w->file = H5Fcreate(path, H5F_ACC_EXCL, create, access);
        if (w->file < 0)
            rc = fail_hdf5(e, ERR_IO, path, "creating the file");
        H5Pclose(create);
        H5Pclose(access);
        library_leave();
    }
    if (rc != 0) {
        store_abandon(w);
        return -1;
    }
    *out = w;
    return 0;
}

static bool write_block(hid_t d, hid_t memory_type, hsize_t first, hsize_t n, const void *values)
{
    hsize_t size = first + n;
    if (H5Dset_extent(d, &size) < 0)
        return false;
    hid_t file = H5Dget_space(d), memory = H5Screate_simple(1, &n, NULL);
    bool ok = file >= 0 && memory >= 0 && H5Sselect_hyperslab(file, H5S_SELECT_SET, &first, NULL, &n, NULL) >= 0 &&
              H5Dwrite(d, memory_type, memory, file, H5P_DEFAULT, values) >= 0;
    H5Sclose(file);
    H5Sclose(memory);
    return ok;
}

static int flush_tokens(struct store_writer *w, struct column *c, struct err *e)
{
    if (c->buffered == 0)
        return 0;
    TRY(library_enter(e));
    hsize_t first = (hsize_t)c->written, n = (hsize_t)c->buffered;
    bool ok = write_block(c->tokens, H5T_NATIVE_INT32, first, n, c->token_buffer) &&
              write_block(c->weights, H5T_NATIVE_FLOAT, first, n, c->weight_buffer);
    int rc = ok ? 0 : fail_hdf5(e, ERR_IO, w->path, "writing tokens");
    library_leave();
    c->written += c->buffered;
    c->buffered = 0;
    return rc;
}

static int flush_ends(struct store_writer *w, struct column *c, struct err *e)
{
    TRY(io_write_all(c->lengths, w->path, c->ends, (size_t)c->n_ends * sizeof c->ends[0], e));
    c->n_ends = 0;
    return 0;
}

int store_append(struct store_writer *w, enum dataset_group g, const int32_t *tokens, const float *weights, size_t n,
                 struct err *e)
{
    struct column *c = &w->column[g];
    if (c->tokens < 0)
        TRY(start_group(w, g, e));
    for (size_t i = 0; i < n;) {
        size_t room = (size_t)(BUFFER - c->buffered), k = n - i < room ? n - i : room;
        memcpy(c->token_buffer + c->buffered, tokens + i, k * sizeof *tokens);
        memcpy(c->weight_buffer + c->buffered, weights + i, k * sizeof *weights);
        c->buffered += (int64_t)k;
        i += k;
        if (c->buffered == BUFFER)
            TRY(flush_tokens(w, c, e));
    }
    c->ends[c->n_ends++] = (uint64_t)(c->written + c->buffered);
    c->documents++;
    return c->n_ends == OFFSET_BLOCK ? flush_ends(w, c, e) : 0;
}

static bool put_int(hid_t at, const char *name, int64_t value)
{
    hid_t space = H5Screate(H5S_SCALAR), a = H5Acreate2(at, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    bool ok = a >= 0 && H5Awrite(a, H5T_NATIVE_INT64, &value) >= 0;
    H5Aclose(a);
    H5Sclose(space);
    return ok;
}

static bool put_text(hid_t at, const char *name, const char *text)
{
    hid_t space = H5Screate(H5S_SCALAR), type = H5Tcopy(H5T_C_S1);
    bool ok = H5Tset_size(type, strlen(text) + 1) >= 0 && H5Tset_cset(type, H5T_CSET_UTF8) >= 0;
    hid_t a = ok ? H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT) : -1;
    ok = a >= 0 && H5Awrite(a, type, text) >= 0;
    H5Aclose(a);
    H5Tclose(type);
    H5Sclose(space);
    return ok;
}

/* The facts of a group, as attributes of the same names. */
#define GROUP_FACTS(X) X(documents) X(tokens) X(targets) X(longest) X(without_targets) X(ends_trained) X(ends) X(masked)

static int finish_group(struct store_writer *w, enum dataset_group g, const struct dataset_facts *f, struct err *e)
{
    struct column *c = &w->column[g];
    if (c->tokens < 0)
        return 0;
    TRY(flush_tokens(w, c, e));
    TRY(flush_ends(w, c, e));
    TRY(library_enter(e));
    hsize_t n = (hsize_t)c->documents + 1, first = 0, count = 1;
    uint64_t block[OFFSET_BLOCK] = {0};
    hid_t group = H5Gopen2(w->file, group_name[g], H5P_DEFAULT), space = H5Screate_simple(1, &n, NULL);
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(plist, 0);
    H5Pset_layout(plist, H5D_CONTIGUOUS);
    hid_t d = H5Dcreate2(group, "offsets", H5T_STD_U64LE, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    int rc = 0;
    bool ok = d >= 0;
    while (ok && first < n) { /* the leading 0, then the document ends in blocks */
        hid_t memory = H5Screate_simple(1, &count, NULL);
        ok = H5Sselect_hyperslab(space, H5S_SELECT_SET, &first, NULL, &count, NULL) >= 0 &&
             H5Dwrite(d, H5T_NATIVE_UINT64, memory, space, H5P_DEFAULT, block) >= 0;
        H5Sclose(memory);
        first += count;
        count = n - first < OFFSET_BLOCK ? n - first : OFFSET_BLOCK;
        if (count > 0 && ok &&
            (rc = io_pread_all(c->lengths, w->path, block, count * sizeof block[0], (int64_t)(first - 1) * 8, e)) != 0)
            break;
    }
#define X(field) ok = ok && put_int(group, #field, f->group[g].field);
    GROUP_FACTS(X)
#undef X
    if (rc == 0 && !ok)
        rc = fail_hdf5(e, ERR_IO, w->path, "writing offsets");
    H5Dclose(d);
    H5Pclose(plist);
    H5Sclose(space);
    H5Gclose(group);
    library_leave();
    return rc;
}

static bool close_columns(struct store_writer *w)
{
    bool bad = false;
    for (int g = 0; g < 2; g++) {
        struct column *c = &w->column[g];
        bad |= c->tokens >= 0 && H5Dclose(c->tokens) < 0;
        bad |= c->weights >= 0 && H5Dclose(c->weights) < 0;
        c->tokens = c->weights = -1;
    }
    return bad;
}

int store_finish(struct store_writer *w, const struct dataset_facts *f, struct err *e)
{
    int rc = 0;
    for (int g = 0; g < 2; g++)
        TRY_DONE(finish_group(w, g, f, e));
    TRY_DONE(library_enter(e));
    bool ok = put_int(w->file, "format", FORMAT_VERSION) && put_text(w->file, "tokenizer", f->tokenizer) &&
              put_text(w->file, "template", f->template_name) && put_text(w->file, "source", f->source) &&
              put_int(w->file, "vocab", f->vocab) && put_int(w->file, "max_token", f->max_token);
    bool closed = !close_columns(w);
    ok = ok && closed && H5Fflush(w->file, H5F_SCOPE_LOCAL) >= 0;
    if (!ok)
        rc = fail_hdf5(e, ERR_IO, w->path, "writing the file");
    if (H5Fclose(w->file) < 0 && rc == 0)
        rc = fail_hdf5(e, ERR_IO, w->path, "closing the file");
    w->file = -1;
    library_leave();
done:
    store_abandon(w);
    return rc;
}

void store_abandon(struct store_writer *w)
{
    if (w == NULL)
        return;
    if (w->file >= 0 && library_enter(NULL) == 0) {
        close_columns(w);
        H5Fclose(w->file);
        library_leave();
    }
    for (int g = 0; g < 2; g++) {
        struct column *c = &w->column[g];
        if (c->lengths >= 0)
            io->close(c->lengths);
        mem_free(c->token_buffer);
        mem_free(c->weight_buffer);
    }
    mem_free(w->path);
    mem_free(w);
}

/* ---- reading ---- */

struct store {
    char *path;
    int fd;
    hid_t file;
    struct {
        hid_t tokens, weights;
        int64_t n_tokens, n_documents, offsets_at; /* offsets_at: byte in the file */
    } group[2];
};

/* What a link check found: a bit for each expected name, or the offence. */
struct link_check {
    const char *const *names;
    int n_names;
    unsigned seen;
    char bad[256];
};

static herr_t check_link(hid_t at, const char *name, const H5L_info_t *info, void *arg)
{
    struct link_check *c = arg;
    if (info->type != H5L_TYPE_HARD) {
        const char *kind = info->type == H5L_TYPE_SOFT       ? "a soft link"
                           : info->type == H5L_TYPE_EXTERNAL ? "an external link"
                                                             : "an unknown link";
        snprintf(c->bad, sizeof c->bad, "\"%.100s\" is %s, expected the data themselves", name, kind);
        return -1;
    }
    for (int i = 0; i < c->n_names; i++)
        if (strcmp(name, c->names[i]) == 0) {
            c->seen |= 1u << i;
            return 0;
        }
    snprintf(c->bad, sizeof c->bad, "an object \"%.100s\", expected only %s, %s%s%s", name, c->names[0], c->names[1],
             c->n_names > 2 ? ", " : "", c->n_names > 2 ? c->names[2] : "");
    return -1;
}

static int check_links(hid_t at, const char *path, const char *inside, struct link_check *c, struct err *e)
{
    if (H5Literate(at, H5_INDEX_NAME, H5_ITER_INC, NULL, check_link, c) >= 0)
        return 0;
    if (c->bad[0] != '\0')
        FAIL(e, ERR_DATA, "%s: in %s: %s. Build the dataset again", path, inside, c->bad);
    return fail_hdf5(e, ERR_DATA, path, "listing its objects");
}

/* The way a dataset is stored: plain bytes in this file, at most shuffled and deflated. */
static int check_storage(hid_t d, const char *path, const char *where, bool contiguous, struct err *e)
{
    hid_t p = H5Dget_create_plist(d);
    if (p < 0)
        return fail_hdf5(e, ERR_DATA, path, where);
    char bad[160] = "";
    H5D_layout_t layout = H5Pget_layout(p);
    hsize_t chunk = 0;
    int n_filters = H5Pget_nfilters(p);
    if (layout == H5D_VIRTUAL)
        snprintf(bad, sizeof bad, "a virtual dataset, expected the data themselves");
    else if (H5Pget_external_count(p) != 0)
        snprintf(bad, sizeof bad, "its data are in another file, expected them in this one");
    else if (layout != H5D_CONTIGUOUS && (contiguous || layout != H5D_CHUNKED))
        snprintf(bad, sizeof bad, "%s storage, expected %s", layout == H5D_COMPACT ? "compact" : "chunked",
                 contiguous ? "contiguous" : "chunked or contiguous");
    else if (layout == H5D_CHUNKED && (H5Pget_chunk(p, 1, &chunk) != 1 || chunk < 1 || chunk > STORE_MAX_CHUNK))
        snprintf(bad, sizeof bad, "chunks of %llu tokens, expected at most %d", (unsigned long long)chunk, STORE_MAX_CHUNK);
    for (int i = 0; i < n_filters && bad[0] == '\0'; i++) {
        unsigned flags, config;
        size_t n_values = 0;
        char name[64] = "";
        H5Z_filter_t f = H5Pget_filter2(p, (unsigned)i, &flags, &n_values, NULL, sizeof name, name, &config);
        name[sizeof name - 1] = '\0';
        if (f != H5Z_FILTER_SHUFFLE && f != H5Z_FILTER_DEFLATE)
            snprintf(bad, sizeof bad, "filter %d (%s), expected only shuffle and deflate", (int)f, name);
    }
    H5Pclose(p);
    if (n_filters < 0)
        return fail_hdf5(e, ERR_DATA, path, where);
    if (bad[0] != '\0')
        FAIL(e, ERR_DATA, "%s: %s: %s. Build the dataset again", path, where, bad);
    return 0;
}

static hid_t open_dataset(hid_t group, const char *name)
{
    hid_t object = H5Oopen(group, name, H5P_DEFAULT);
    if (object < 0 || H5Iget_type(object) != H5I_DATASET) {
        if (object >= 0)
            H5Oclose(object);
        return -1;
    }
    H5Oclose(object);
    hid_t access = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(access, 521, STORE_CACHE_BYTES, 0.75);
    hid_t d = H5Dopen2(group, name, access);
    H5Pclose(access);
    return d;
}

/* Open /<group>/<name> and check all about it; its length in *n. The dataset stays open also when a check fails. */
static int check_dataset(hid_t group, enum dataset_group g, const char *name, hid_t want, const char *want_name, const char *path,
                         hid_t *d, int64_t *n, struct err *e)
{
    char where[64];
    hsize_t length = 0;
    snprintf(where, sizeof where, "/%s/%s", group_name[g], name);
    *d = open_dataset(group, name);
    if (*d < 0)
        FAIL(e, ERR_DATA, "%s: %s: not a dataset that can be opened, expected a list of %s. Build the dataset again", path, where,
             want_name);
    hid_t type = H5Dget_type(*d), space = H5Dget_space(*d);
    bool type_ok = type >= 0 && H5Tequal(type, want) > 0;
    int rank = space >= 0 && H5Sget_simple_extent_type(space) == H5S_SIMPLE ? H5Sget_simple_extent_ndims(space) : 0;
    if (rank == 1)
        H5Sget_simple_extent_dims(space, &length, NULL);
    H5Tclose(type);
    H5Sclose(space);
    if (!type_ok)
        FAIL(e, ERR_DATA, "%s: %s: another element type, expected %s. Build the dataset again", path, where, want_name);
    if (rank != 1)
        FAIL(e, ERR_DATA, "%s: %s: %d dimensions, expected 1. Build the dataset again", path, where, rank);
    if (length > INT64_MAX / 16)
        FAIL(e, ERR_DATA, "%s: %s: %llu elements, more than any file holds. Build the dataset again", path, where,
             (unsigned long long)length);
    *n = (int64_t)length;
    return check_storage(*d, path, where, want == H5T_STD_U64LE, e);
}

/* The offsets' place in the file, for reading without the library. */
static int check_offsets(struct store *s, enum dataset_group g, hid_t d, int64_t n, struct err *e)
{
    struct stat st;
    haddr_t at = H5Dget_offset(d);
    if (io->fstat(s->fd, &st) != 0)
        return err_errno(e, ERR_IO, errno, "%s: its size could not be read", s->path);
    if (n < 2)
        FAIL(e, ERR_DATA, "%s: /%s/offsets: %lld elements, expected the number of documents + 1. Build the dataset again",
             s->path, group_name[g], (long long)n);
    if (at == HADDR_UNDEF || at > (haddr_t)st.st_size || (uint64_t)n > ((uint64_t)st.st_size - at) / 8)
        FAIL(e, ERR_DATA, "%s: /%s/offsets: past the end of the file, expected %lld elements. Build the dataset again", s->path,
             group_name[g], (long long)n);
    s->group[g].offsets_at = (int64_t)at;
    s->group[g].n_documents = n - 1;
    uint64_t first, last;
    TRY(store_offsets(s, g, 0, 1, &first, e));
    TRY(store_offsets(s, g, n - 1, 1, &last, e));
    if (first != 0 || last != (uint64_t)s->group[g].n_tokens)
        FAIL(e, ERR_DATA, "%s: /%s/offsets: from %llu to %llu, expected from 0 to the %lld tokens. Build the dataset again",
             s->path, group_name[g], (unsigned long long)first, (unsigned long long)last, (long long)s->group[g].n_tokens);
    return 0;
}

static bool get_int(hid_t at, const char *name, int64_t *out)
{
    if (H5Aexists(at, name) <= 0)
        return false;
    hid_t a = H5Aopen(at, name, H5P_DEFAULT), type = H5Aget_type(a), space = H5Aget_space(a);
    bool ok = type >= 0 && H5Tequal(type, H5T_STD_I64LE) > 0 && H5Sget_simple_extent_type(space) == H5S_SCALAR &&
              H5Aread(a, H5T_NATIVE_INT64, out) >= 0;
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(a);
    return ok;
}

/* Only strings of fixed size: reading those of variable size follows pointers inside the file. */
static bool get_text(hid_t at, const char *name, char *out, size_t out_size)
{
    if (H5Aexists(at, name) <= 0)
        return false;
    hid_t a = H5Aopen(at, name, H5P_DEFAULT), type = H5Aget_type(a), space = H5Aget_space(a);
    size_t n = type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 ? H5Tget_size(type) : 0;
    char *text = n > 0 && n <= TEXT_LIMIT && H5Sget_simple_extent_type(space) == H5S_SCALAR ? mem_alloc(n + 1, 1) : NULL;
    bool ok = text != NULL && H5Aread(a, type, text) >= 0;
    if (ok)
        snprintf(out, out_size, "%s", text);
    mem_free(text);
    H5Sclose(space);
    H5Tclose(type);
    H5Aclose(a);
    return ok;
}

static int read_group_facts(hid_t group, enum dataset_group g, bool bare, const char *path, struct dataset_facts *f,
                            struct err *e)
{
    int64_t documents = f->group[g].documents, tokens = f->group[g].tokens;
#define X(field)                                                                                                                 \
    if (!get_int(group, #field, &f->group[g].field) && !bare)                                                                    \
        FAIL(e, ERR_DATA, "%s: /%s: no attribute \"%s\" (a 64-bit integer). Build the dataset again", path, group_name[g],       \
             #field);
    GROUP_FACTS(X)
#undef X
    if (bare) {
        f->group[g].documents = documents;
        f->group[g].tokens = tokens;
    }
    if (f->group[g].documents != documents || f->group[g].tokens != tokens)
        FAIL(e, ERR_DATA,
             "%s: /%s: attributes say %lld documents and %lld tokens, expected %lld and %lld. Build the dataset again", path,
             group_name[g], (long long)f->group[g].documents, (long long)f->group[g].tokens, (long long)documents,
             (long long)tokens);
    return 0;
}

static int open_group(struct store *s, enum dataset_group g, bool bare, struct dataset_facts *f, struct err *e)
{
    static const char *const names[3] = {"tokens", "weights", "offsets"};
    struct link_check links = {names, 3, 0, ""};
    int64_t n_weights = 0, n_offsets = 0;
    int rc = 0;
    hid_t offsets = -1, group = H5Oopen(s->file, group_name[g], H5P_DEFAULT);
    if (group < 0 || H5Iget_type(group) != H5I_GROUP) {
        rc = err_set(e, ERR_DATA, "%s: /%s: not a group, expected one. Build the dataset again", s->path, group_name[g]);
        goto done;
    }
    TRY_DONE(check_links(group, s->path, group_name[g], &links, e));
    for (int i = 0; i < 3; i++)
        if (!(links.seen & 1u << i)) {
            rc = err_set(e, ERR_DATA, "%s: /%s: no \"%s\" in it, expected tokens, weights and offsets. Build the dataset again",
                         s->path, group_name[g], names[i]);
            goto done;
        }
    TRY_DONE(check_dataset(group, g, "tokens", H5T_STD_I32LE, "32-bit integers", s->path, &s->group[g].tokens,
                           &s->group[g].n_tokens, e));
    TRY_DONE(check_dataset(group, g, "weights", H5T_IEEE_F32LE, "32-bit floats", s->path, &s->group[g].weights, &n_weights, e));
    TRY_DONE(check_dataset(group, g, "offsets", H5T_STD_U64LE, "unsigned 64-bit integers", s->path, &offsets, &n_offsets, e));
    if (n_weights != s->group[g].n_tokens) {
        rc = err_set(e, ERR_DATA, "%s: /%s/weights: %lld elements, expected as many as tokens, %lld. Build the dataset again",
                     s->path, group_name[g], (long long)n_weights, (long long)s->group[g].n_tokens);
        goto done;
    }
    TRY_DONE(check_offsets(s, g, offsets, n_offsets, e));
    f->group[g].present = true;
    f->group[g].documents = n_offsets - 1;
    f->group[g].tokens = s->group[g].n_tokens;
    TRY_DONE(read_group_facts(group, g, bare, s->path, f, e));
done:
    if (offsets >= 0)
        H5Dclose(offsets);
    if (group >= 0)
        H5Oclose(group);
    return rc;
}

static int read_facts(struct store *s, bool bare, struct dataset_facts *f, struct err *e)
{
    int64_t format = 0, vocab = 0, max_token = 0;
    if (!get_int(s->file, "format", &format) && !bare)
        FAIL(e, ERR_DATA, "%s: no attribute \"format\", expected a dataset of lorat. Build the dataset again", s->path);
    if (format != FORMAT_VERSION && !(bare && format == 0))
        FAIL(e, ERR_DATA, "%s: format %lld, expected %d. It was written by another version of lorat; build it again", s->path,
             (long long)format, FORMAT_VERSION);
    if (!get_text(s->file, "tokenizer", f->tokenizer, sizeof f->tokenizer))
        snprintf(f->tokenizer, sizeof f->tokenizer, "unknown");
    if (!get_text(s->file, "template", f->template_name, sizeof f->template_name))
        snprintf(f->template_name, sizeof f->template_name, "none");
    get_text(s->file, "source", f->source, sizeof f->source);
    get_int(s->file, "vocab", &vocab);
    get_int(s->file, "max_token", &max_token);
    if (vocab < 0 || vocab > INT32_MAX || max_token < 0 || max_token > INT32_MAX)
        FAIL(e, ERR_DATA, "%s: vocab %lld and max_token %lld, expected 31-bit numbers. Build the dataset again", s->path,
             (long long)vocab, (long long)max_token);
    f->vocab = (int32_t)vocab;
    f->max_token = (int32_t)max_token;
    return 0;
}

static int open_file(struct store *s, bool bare, struct dataset_facts *f, struct err *e)
{
    char name[64];
    struct link_check links = {group_name, 2, 0, ""};
    snprintf(name, sizeof name, "/proc/self/fd/%d",
             s->fd); /* the very file whose seal was verified, whatever the path says now */
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
#if H5_VERSION_GE(1, 10, 7) && !(H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 12 && H5_VERS_RELEASE == 0)
    H5Pset_file_locking(access, 0, 1);
#endif
    s->file = H5Fopen(name, H5F_ACC_RDONLY, access);
    H5Pclose(access);
    if (s->file < 0)
        return fail_hdf5(e, ERR_DATA, s->path, "opening it, expected an HDF5 file,");
    TRY(check_links(s->file, s->path, "the root group", &links, e));
    if (!(links.seen & 1u))
        FAIL(e, ERR_DATA, "%s: no group \"train\", expected one. Build the dataset again", s->path);
    TRY(read_facts(s, bare, f, e));
    for (int g = 0; g < 2; g++)
        if (links.seen & 1u << g)
            TRY(open_group(s, g, bare, f, e));
    return 0;
}

int store_open(int fd, const char *path, bool bare, struct store **out, struct dataset_facts *facts, struct err *e)
{
    struct store *s = mem_alloc(1, sizeof *s);
    if (s == NULL || (s->path = mem_strdup(path)) == NULL) {
        mem_free(s);
        return mem_fail(e, "a dataset", sizeof *s);
    }
    memset(facts, 0, sizeof *facts);
    s->fd = fd;
    s->file = -1;
    for (int g = 0; g < 2; g++)
        s->group[g].tokens = s->group[g].weights = -1;
    int rc = library_enter(e);
    if (rc == 0) {
        rc = open_file(s, bare, facts, e);
        library_leave();
    }
    if (rc != 0) {
        store_close(s);
        return -1;
    }
    *out = s;
    return 0;
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (library_enter(NULL) == 0) {
        for (int g = 0; g < 2; g++) {
            if (s->group[g].tokens >= 0)
                H5Dclose(s->group[g].tokens);
            if (s->group[g].weights >= 0)
                H5Dclose(s->group[g].weights);
        }
        if (s->file >= 0)
            H5Fclose(s->file);
        H5Eclear2(H5E_DEFAULT);
        library_leave();
    }
    mem_free(s->path);
    mem_free(s);
}

static int read_block(struct store *s, enum dataset_group g, hid_t d, hid_t type, int64_t first, int64_t n, void *out,
                      struct err *e)
{
    if (first < 0 || n < 0 || first > s->group[g].n_tokens - n)
        FAIL(e, ERR_DATA, "%s: /%s: tokens %lld to %lld asked for, expected at most %lld. Build the dataset again", s->path,
             group_name[g], (long long)first, (long long)(first + n), (long long)s->group[g].n_tokens);
    if (n == 0)
        return 0;
    TRY(library_enter(e));
    hsize_t at = (hsize_t)first, count = (hsize_t)n;
    hid_t file = H5Dget_space(d), memory = H5Screate_simple(1, &count, NULL);
    bool ok = file >= 0 && memory >= 0 && H5Sselect_hyperslab(file, H5S_SELECT_SET, &at, NULL, &count, NULL) >= 0 &&
              H5Dread(d, type, memory, file, H5P_DEFAULT, out) >= 0;
    int rc = ok ? 0 : fail_hdf5(e, ERR_DATA, s->path, "reading tokens");
    H5Sclose(file);
    H5Sclose(memory);
    library_leave();
    return rc;
}

int store_tokens(struct store *s, enum dataset_group g, int64_t first, int64_t n, int32_t *out, struct err *e)
{
    return read_block(s, g, s->group[g].tokens, H5T_NATIVE_INT32, first, n, out, e);
}

int store_weights(struct store *s, enum dataset_group g, int64_t first, int64_t n, float *out, struct err *e)
{
    return read_block(s, g, s->group[g].weights, H5T_NATIVE_FLOAT, first, n, out, e);
}

int store_offsets(const struct store *s, enum dataset_group g, int64_t first, int64_t n, uint64_t *out, struct err *e)
{
    if (first < 0 || n < 0 || first > s->group[g].n_documents + 1 - n)
        FAIL(e, ERR_INTERNAL, "%s: offsets %lld to %lld asked for, expected at most %lld", s->path, (long long)first,
             (long long)(first + n), (long long)s->group[g].n_documents + 1);
    return io_pread_all(s->fd, s->path, out, (size_t)n * 8, s->group[g].offsets_at + first * 8, e);
}
