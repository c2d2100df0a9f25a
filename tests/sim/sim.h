/* sim.h - the simulator's parts to one another. cards.cpp knows the cards and keeps errors, memory.cpp the memories, streams.cpp
 * queues, launch.cpp checks launches, fiber.cpp runs blocks, warp.cpp has the twins of warp instructions, track.cpp (only in the
 * tracked build) sees every access of a kernel. What tests may call is in control.h. */
#ifndef LORAT_SIM_H
#define LORAT_SIM_H

#include <cuda_runtime.h>
#include <memory>
#include <mutex>
#include <string>

#include "tests/sim/control.h"

/* ---- cards.cpp: cards, errors, faults on request ---- */

struct SimCard {
    const char *key, *name; /* as LORAT_SIM_CARDS and as the driver name it */
    int major, minor, sms;
    size_t memory, shared_block, shared_sm; /* bytes */
    int threads_sm, l2_bytes;
};
enum { SIM_CONTEXT_BYTES = 300 << 20, SIM_MAX_CARDS = 8, SIM_EXIT = 99, SIM_BLOCK_SYSTEM_BYTES = 1 << 10 };
const SimCard &sim_card(int device);
const SimCard &sim_narrowest(void);                        /* whose limits every launch keeps */
int sim_device(void);                                      /* the calling thread's current card */
std::recursive_mutex &sim_lock(void);                      /* held through every function of the runtime */
uint64_t sim_number(const char *name, uint64_t otherwise); /* an environment variable: bytes with KiB, MiB, GiB */
/* At the top of a function of the runtime: the error that it returns at once (asked for by LORAT_SIM_FAIL, or sticking to the
 * card), or success. At its end: counts errors and remembers the last. */
cudaError_t sim_enter(const char *function);
cudaError_t sim_leave(cudaError_t rc);
cudaError_t sim_fault(const char *function); /* only what LORAT_SIM_FAIL asks for */
void sim_errors_left(void);                  /* a finding about errors that nobody told of */
bool sim_asynchronous(cudaError_t rc);       /* an error of a kind that shows only when the work has run, and then sticks */
void sim_stick(int device, cudaError_t rc);
cudaError_t sim_stuck(int device);
#define SIM_CALL(name)                                                                                                           \
    std::lock_guard<std::recursive_mutex> hold_(sim_lock());                                                                     \
    if (cudaError_t bad_ = sim_enter(name))                                                                                      \
    return sim_leave(bad_)

/* ---- report.cpp: one sentence for each finding ---- */

/* The process ends with SIM_EXIT, now or (sim_finding, which tells the same `kind` of the same kernel once) when it would have
 * ended. */
[[noreturn]] void sim_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_finding(const char *kind, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *sim_where(void); /* "kernel rope, block (1,0,0), thread 7: " or "cudaMemcpyAsync: " or "the host: " */
std::string sim_symbol(const void *code);

/* ---- memory.cpp ---- */

struct SimAlloc {
    char *p;
    size_t bytes, charged; /* as asked; as counted against the card */
    int device;
    bool live, open; /* open: the host's page tables allow access, while the card works */
};
SimAlloc *sim_alloc_at(const void *p); /* whose pages hold p, live or freed; NULL */
bool sim_is_device(const void *p);     /* within the range of device addresses */
const void *sim_range_begin(void);
bool sim_is_pinned(const void *p, size_t n);
std::string sim_place(const void *p); /* "4 bytes past the end of an allocation of 1024 bytes" */
void sim_open(bool executing);        /* device memory may be touched from now on / no more; checks the guards' bytes */
/* Is p..p+n whole in live memory of this card? Ends the process when not. */
void sim_check_range(const char *what, const void *p, size_t n, int device);
void sim_memory_left(void);           /* findings about what was never freed */
char *sim_shared_begin(size_t bytes); /* filled with NaN; its end touches a guard page */

/* ---- streams.cpp ---- */

struct SimMark;
typedef std::shared_ptr<SimMark> SimMarkRef;
/* Queue work. `name` must outlive the run. ready: what a query asks before it lets work run that may wait for another process. The
 * second is for libraries' twins. */
cudaError_t sim_queue(cudaStream_t stream, const char *name, std::function<void()> run, cudaError_t fault = cudaSuccess,
                      std::function<bool()> ready = nullptr);
cudaError_t sim_wait(cudaStream_t stream); /* runs what waiting for the stream asks for */
cudaError_t sim_queue_fault(cudaStream_t stream, const char *name, cudaError_t rc);
void sim_enqueue(cudaStream_t stream, std::function<void()> run);
void sim_run_all(void);
void sim_streams_left(void);     /* findings about streams and events that were never destroyed */
const char *sim_operation(void); /* the name of what is executing; NULL */
int sim_running_device(void);    /* whose stream that is */
void sim_spend(double seconds);  /* what is executing takes that long, by the clock of events */

/* ---- launch.cpp, fiber.cpp ---- */

struct SimLaunch {
    dim3 grid, block;
    size_t shared;
    const char *name;
    uint32_t id; /* of this launch: increasing */
    std::function<void()> body;
};
void sim_run(const SimLaunch &l);
bool sim_on_stack_guard(const char *p);
const SimLaunch *sim_launch_now(void); /* NULL outside of kernels */
enum SimOrder { SIM_UP, SIM_DOWN, SIM_MIX };

/* ---- track.cpp; all NULL in the untracked build ---- */

struct SimTrack {
    void (*read)(const void *p, size_t n, int thread), (*write)(const void *p, size_t n, int thread); /* thread -1: the current */
    void (*async_issue)(const void *shared, size_t n), (*async_land)(const void *shared, size_t n);
    void (*atomic)(const void *p, size_t n);
    void (*block_begin)(void), (*barrier)(void), (*warp_sync)(int warp);
};
extern SimTrack sim_track;

#endif
