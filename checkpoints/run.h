/* run.h - the state of a run on disk: runs/<name>/checkpoints/step-00000010/ folders, each complete and checked or not there.
 *
 * Order of a save: temporary folder, files, manifest with sizes and SHA-256 and a checksum of itself, fsync of files and folder,
 * one rename, fsync of the parent. A failed fsync is not retried on the same file: the save fails, its temporary is removed, the
 * run goes on. Layout: docs/checkpoint-format.md. */
#ifndef LORAT_RUN_H
#define LORAT_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/base/err.h"

/* One file of a checkpoint, in pieces that are written one after another (borrowed). */
struct run_piece {
    const void *bytes;
    size_t n;
};
struct run_file {
    const char *name; /* plain file name */
    const struct run_piece *pieces;
    size_t n_pieces;
};

struct run_lock; /* holds runs/<name>/lock (flock, with pid and host inside for the message) */
/* A second process on the same run is refused with ERR_STATE, naming the pid that holds it. */
int run_lock_take(const char *run_dir, struct run_lock **out, struct err *e);
void run_lock_drop(struct run_lock *l); /* NULL is fine */
/* Does a live process work on the run? A lock file that is left behind does not mislead: flock is free when its holder dies. */
bool run_is_locked(const char *run_dir);

/* Write checkpoint `step` (replaces one of the same step). On return 0 it is on the disk. Removes what killed saves left first; the
 * caller holds the run's lock. */
int run_save(const char *run_dir, int64_t step, const struct run_file *files, size_t n, struct err *e);

struct run_found {
    int64_t step;  /* -1: none */
    char *dir;     /* malloc'ed path of the folder; NULL when none */
    char *rejected;/* a line for each newer folder that was refused and why ("step-00000012: optimizer.safetensors: SHA-256 differs"); NULL when none */
};
/* The newest checkpoint whose manifest and every file verify. Temporaries of killed saves are ignored. Finding none is not an error. */
int run_find(const char *run_dir, struct run_found *out, struct err *e);
void run_found_free(struct run_found *f);
/* Verify one folder: every file of the manifest, sizes, hashes, nothing missing. */
int run_verify(const char *checkpoint_dir, struct err *e);
/* Pure: parse and check a manifest; `want` (may be NULL) is called for each file. */
int run_manifest_parse(const char *bytes, size_t n, const char *where,
                       int (*want)(void *arg, const char *name, uint64_t size, const uint8_t hash[32], struct err *e), void *arg,
                       struct err *e);
/* Remove temporaries left by a killed save, then old checkpoints so that the newest `keep` (at least 1) stay. Never removes the
 * newest verified one, a newer one that does not verify, nor `also_keep` (a step, -1 = none), nor anything that is not a checkpoint folder of this run; follows no links. */
int run_prune(const char *run_dir, int keep, int64_t also_keep, struct err *e);
/* runs/<name> -> runs/<name>.old-1 (first free number); *moved_to malloc'ed. Missing is fine (NULL). Takes the run's lock meanwhile:
 * call it without holding that lock; ERR_STATE when a process works on the run. */
int run_move_aside(const char *run_dir, char **moved_to, struct err *e);

#endif
