/* streams.cpp - queues of work that run as late, or in as odd an order, as CUDA allows.
 *
 * A stream is a queue of operations. Nothing runs when it is queued: only a function that waits runs what it waits for (lazy), or
 * everything else before it (others), or operations of any stream in a seeded order, some already while others are queued (mix).
 * So work that leans on an order that no event gives it, and a host that does not wait, are found on the first try.
 *
 * An event record makes a mark; a wait for the event holds that mark, as CUDA's does: a record that comes later changes nothing.
 */
#include "tests/sim/sim.h"

#include <deque>
#include <set>
#include <stdlib.h>
#include <string.h>
#include <vector>

enum { QUERY_RUNS = 64 };

struct SimMark {
    SimStream *stream;
    bool done;
    double ms;
};
struct Operation {
    const char *name;
    std::function<void()> run;
    SimMarkRef waits, sets;
    cudaError_t fault;
    std::function<bool()> ready = nullptr; /* would `run` not wait for another process? Empty: it never does */
};
struct SimStream {
    int device;
    bool blocking, destroyed;
    std::deque<Operation> queue;
};
struct SimEvent {
    bool timing;
    SimMarkRef mark; /* of the latest record */
};

/* Never destroyed themselves: a card in error keeps what it has to the process's end. Streams: destroyed ones stay while they
 * have work. */
static std::vector<SimStream *> &streams = *new std::vector<SimStream *>;
static SimStream null_streams[SIM_MAX_CARDS];
static std::set<SimEvent *> &events = *new std::set<SimEvent *>;
static const char *operation;
static int running_device = -1;
static double clock_ms[SIM_MAX_CARDS];
static bool asking, stalled; /* within a query, which never waits for another process; it would have had to */
static enum { LAZY, OTHERS, MIX } mode;
static uint64_t seed;
static bool mode_known;

/* ---- the mode ---- */

void sim_set_streams(const char *text)
{
    mode_known = true;
    seed = 0;
    if (strcmp(text, "lazy") == 0)
        mode = LAZY;
    else if (strcmp(text, "others") == 0)
        mode = OTHERS;
    else if (strncmp(text, "mix:", 4) == 0)
        mode = MIX, seed = strtoull(text + 4, nullptr, 10);
    else
        sim_die("LORAT_SIM_STREAMS is '%s', expected lazy, others or mix:SEED", text);
}
static void read_mode(void)
{
    const char *text = getenv("LORAT_SIM_STREAMS");
    if (!mode_known)
        sim_set_streams(text && *text ? text : "lazy");
}
static uint32_t draw(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX */
    return (uint32_t)(seed >> 33) % below;
}

/* ---- running ---- */

const char *sim_operation(void) { return operation; }
int sim_running_device(void) { return running_device; }
void sim_spend(double seconds) { clock_ms[running_device] += seconds * 1e3; }

static void drop_all(int device)
{
    for (SimStream *s : streams)
        if (s->device == device) {
            for (Operation &op : s->queue)
                if (op.sets)
                    op.sets->done = true;
            s->queue.clear();
        }
}
/* The first operation of s, unless it waits for what has not come. */
static bool step(SimStream *s)
{
    if (s->queue.front().waits && !s->queue.front().waits->done)
        return false;
    if (asking && s->queue.front().ready && !s->queue.front().ready()) {
        stalled = true;
        return false;
    }
    Operation op = std::move(s->queue.front());
    s->queue.pop_front();
    operation = op.name;
    running_device = s->device;
    sim_spend(4e-6); /* what a small launch takes: events differ */
    if (op.fault)
        sim_stick(s->device, op.fault);
    else if (op.run)
        op.run();
    if (op.sets) {
        op.sets->done = true;
        op.sets->ms = clock_ms[s->device];
    }
    operation = nullptr;
    running_device = -1;
    if (sim_stuck(s->device))
        drop_all(s->device);
    return true;
}
static bool reached(const SimStream *s, const SimMark *until) { return until ? until->done : s->queue.empty(); }
static void run_needed(SimStream *s, const SimMark *until)
{
    while (!reached(s, until) && !stalled)
        if (!step(s) && !stalled) {
            SimMarkRef first = s->queue.front().waits;
            run_needed(first->stream, first.get());
        }
}
static void run_any(void)
{
    SimStream *s = streams[draw((uint32_t)streams.size())];
    if (!s->queue.empty())
        step(s);
}
static void forget_destroyed(void)
{
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i]->destroyed && streams[i]->queue.empty()) {
            delete streams[i];
            streams.erase(streams.begin() + (ptrdiff_t)i--);
        }
}
/* Until the mark is reached, or all of s has run. */
static void run_until(SimStream *s, const SimMark *until)
{
    if (reached(s, until))
        return;
    read_mode();
    sim_open(true);
    if (mode == OTHERS) {
        std::vector<SimStream *> all = streams;
        for (SimStream *other : all)
            if (other != s)
                run_needed(other, nullptr);
    }
    if (mode == MIX)
        while (!reached(s, until) && !stalled)
            run_any();
    else
        run_needed(s, until);
    sim_open(false);
    forget_destroyed();
}
void sim_run_all(void)
{
    std::vector<SimStream *> all = streams;
    sim_open(true);
    if (mode == MIX)
        for (size_t i = 0; i < 4 * all.size(); i++)
            run_any();
    for (SimStream *s : all)
        run_needed(s, nullptr);
    sim_open(false);
    forget_destroyed();
}

/* ---- queueing ---- */

static SimStream *stream_of(cudaStream_t stream)
{
    if (!stream) {
        SimStream *s = &null_streams[sim_device()];
        for (SimStream *known : streams)
            if (known == s)
                return s;
        s->device = sim_device();
        s->blocking = true;
        streams.push_back(s);
        return s;
    }
    for (SimStream *s : streams)
        if (s == stream && !s->destroyed)
            return s;
    return nullptr;
}
static SimMarkRef new_mark(SimStream *s) { return std::make_shared<SimMark>(SimMark{s, false, 0}); }
static void push(SimStream *s, Operation op)
{
    s->queue.push_back(std::move(op));
    read_mode();
    if (mode == MIX && draw(4) == 0) {
        sim_open(true);
        run_any();
        sim_open(false);
    }
}
static void wait_for(SimStream *s, SimStream *other)
{
    if (other == s || other->queue.empty())
        return;
    SimMarkRef tail = new_mark(other);
    other->queue.push_back({"a barrier of the null stream", nullptr, nullptr, tail, cudaSuccess});
    s->queue.push_back({"a barrier of the null stream", nullptr, tail, nullptr, cudaSuccess});
}
/* The null stream and the blocking streams of a card wait for one another; non-blocking streams for nobody. */
static void null_stream_rule(SimStream *s)
{
    SimStream *null = &null_streams[s->device];
    if (s != null && s->blocking)
        wait_for(s, null);
    if (s == null)
        for (SimStream *other : streams)
            if (other->device == s->device && other->blocking && !other->destroyed)
                wait_for(s, other);
}
cudaError_t sim_queue(cudaStream_t stream, const char *name, std::function<void()> run, cudaError_t fault, std::function<bool()> ready)
{
    SimStream *s = stream_of(stream);
    if (!s || s->device != sim_device())
        return cudaErrorInvalidResourceHandle;
    if (sim_stuck(s->device))
        return sim_stuck(s->device);
    null_stream_rule(s);
    push(s, {name, std::move(run), nullptr, nullptr, fault, std::move(ready)});
    return cudaSuccess;
}
void sim_enqueue(cudaStream_t stream, std::function<void()> run) { sim_queue(stream, "a library's kernel", std::move(run)); }
cudaError_t sim_wait(cudaStream_t stream)
{
    SimStream *s = stream_of(stream);
    if (!s)
        return cudaErrorInvalidResourceHandle;
    run_until(s, nullptr);
    return sim_stuck(s->device);
}

/* ---- the runtime's functions ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    SIM_CALL("cudaStreamCreateWithFlags");
    streams.push_back(*out = new SimStream{sim_device(), !(flags & cudaStreamNonBlocking), false, {}});
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *out) { return cudaStreamCreateWithFlags(out, 0); }
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    SIM_CALL("cudaStreamDestroy");
    SimStream *s = stream ? stream_of(stream) : nullptr;
    if (!s)
        return sim_leave(cudaErrorInvalidResourceHandle);
    s->destroyed = true; /* its work still runs */
    forget_destroyed();
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    SIM_CALL("cudaStreamSynchronize");
    return sim_leave(sim_wait(stream));
}
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    SIM_CALL("cudaStreamQuery");
    SimStream *s = stream_of(stream);
    if (!s)
        return sim_leave(cudaErrorInvalidResourceHandle);
    if (s->queue.empty())
        return cudaSuccess;
    /* A host that asks again and again gets on; by several operations, as opening memory for each alone is slow. */
    Operation &last = s->queue[s->queue.size() < QUERY_RUNS ? s->queue.size() - 1 : QUERY_RUNS - 1];
    if (!last.sets)
        last.sets = new_mark(s);
    SimMarkRef next = last.sets;
    asking = true;
    run_until(s, next.get());
    asking = stalled = false;
    return sim_leave(sim_stuck(s->device) ? sim_stuck(s->device) : cudaErrorNotReady);
}
cudaError_t cudaDeviceSynchronize(void)
{
    SIM_CALL("cudaDeviceSynchronize");
    sim_run_all();
    return sim_leave(sim_stuck(sim_device()));
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    SIM_CALL("cudaStreamWaitEvent");
    SimStream *s = stream_of(stream);
    if (!s || !events.count(event))
        return sim_leave(cudaErrorInvalidResourceHandle);
    if (event->mark && !event->mark->done)
        push(s, {"cudaStreamWaitEvent", nullptr, event->mark, nullptr, cudaSuccess});
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    SIM_CALL("cudaEventCreateWithFlags");
    events.insert(*out = new SimEvent{!(flags & cudaEventDisableTiming), nullptr});
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *out) { return cudaEventCreateWithFlags(out, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    SIM_CALL("cudaEventDestroy");
    if (!events.erase(event))
        return sim_leave(cudaErrorInvalidResourceHandle);
    delete event;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    SIM_CALL("cudaEventRecord");
    SimStream *s = stream_of(stream);
    if (!s || !events.count(event))
        return sim_leave(cudaErrorInvalidResourceHandle);
    null_stream_rule(s);
    event->mark = new_mark(s);
    push(s, {"cudaEventRecord", nullptr, nullptr, event->mark, cudaSuccess});
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    SIM_CALL("cudaEventSynchronize");
    if (!events.count(event))
        return sim_leave(cudaErrorInvalidResourceHandle);
    SimMarkRef mark = event->mark;
    if (mark && !mark->done)
        run_until(mark->stream, mark.get());
    return sim_leave(sim_stuck(sim_device()));
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    SIM_CALL("cudaEventQuery");
    if (!events.count(event))
        return sim_leave(cudaErrorInvalidResourceHandle);
    if (!event->mark || event->mark->done)
        return cudaSuccess;
    cudaError_t rc = cudaStreamQuery(event->mark->stream);
    return rc == cudaSuccess ? cudaErrorNotReady : rc;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    SIM_CALL("cudaEventElapsedTime");
    if (!events.count(from) || !events.count(to) || !from->timing || !to->timing || !from->mark || !to->mark)
        return sim_leave(cudaErrorInvalidResourceHandle);
    if (!from->mark->done || !to->mark->done)
        return cudaErrorNotReady;
    *ms = (float)(to->mark->ms - from->mark->ms);
    return cudaSuccess;
}

void sim_streams_left(void)
{
    size_t n = 0;
    for (const SimStream *s : streams)
        n += !s->destroyed && s != &null_streams[s->device];
    if (n)
        sim_finding("leak of streams", "%zu streams were never destroyed", n);
    if (!events.empty())
        sim_finding("leak of events", "%zu events were never destroyed", events.size());
}
