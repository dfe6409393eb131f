#include "cluster.h"

#include "asynchronous.h"

#include <algorithm>

namespace emulator {

namespace {

// A thread of the host runs one cluster at a time, with all its fibers.
thread_local Cluster *current_cluster = nullptr;
// The block of the running fiber.
thread_local Block *current_block = nullptr;

// What the scheduler throws if a copy or product that it lets arrive is an error.
struct Failed {};

std::string text(Index index) {
    return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

// SplitMix64: any seed gives a good sequence.
std::uint64_t next(std::uint64_t &state) {
    state += 0x9E3779B97F4A7C15;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

} // namespace

Block &Block::current() { return *current_block; }

std::string Cluster::where(const Thread *thread, const Block &block) const {
    std::string place = std::string(launch->kernel) + ", block " + text(block.block_index());
    return thread == nullptr ? place : place + ", thread " + std::to_string(thread->id);
}

void Cluster::start(const Launch &new_launch, Index first) {
    launch = &new_launch;
    random = launch->seed ^ (std::uint64_t(first.x) << 40 | std::uint64_t(first.y) << 20 | first.z);
    turn = 0;
    drifting = 0;
    is_asynchronous = false;
    arrived = 0;
    meetings = 0;
    at_sync.clear();
    failed = false;
    failure.clear();
    transfers.clear();
    running_threads = launch->cluster * launch->threads;
    stacks.reserve(running_threads);
    threads.assign(running_threads, Thread{});
    ready.clear();
    blocks.resize(launch->cluster);
    for (unsigned rank = 0; rank < launch->cluster; rank++) {
        Thread *const own = &threads[rank * launch->threads];
        blocks[rank].start(*this, *launch, {first.x + rank, first.y, first.z}, own);
        for (unsigned id = 0; id < launch->threads; id++) {
            own[id].id = id;
            own[id].block = &blocks[rank];
            stacks.prepare(rank * launch->threads + id, own[id].fiber, Cluster::enter);
            ready.push_back(&own[id]);
        }
    }
}

void Cluster::enter() {
    Cluster &cluster = *current_cluster;
    Thread &self = *cluster.running;
    entered_fiber(self.fiber, cluster.scheduler);
    cluster.launch->entry(cluster.launch->params);
    self.block->end_thread(self);
    cluster.running_threads--;
    cluster.end_sync();
    switch_fiber(self.fiber, cluster.scheduler, true);
}

inline Thread *Cluster::pick() {
    if (launch->seed == 0) {
        // The thread that became ready first runs first.
        return turn < ready.size() ? ready[turn++] : nullptr;
    }
    if (ready.empty()) {
        return nullptr;
    }
    // Odd seeds: any thread. Even seeds: mostly the thread that became ready last, so that one warp runs ahead of the
    // others.
    if (launch->seed % 2 == 1 || next(random) % 16 == 0) {
        std::swap(ready[next(random) % ready.size()], ready.back());
    }
    Thread *thread = ready.back();
    ready.pop_back();
    return thread;
}

inline void Cluster::run_thread(Thread &thread) {
    if (launch->seed == 0 && turn > 4096) {
        ready.erase(ready.begin(), ready.begin() + static_cast<std::ptrdiff_t>(turn));
        turn = 0;
    }
    running = &thread;
    *current = thread.block;
    thread.block->running = &thread;
    thread.waits_for = "";
    thread.waits_at = nullptr;
    switch_fiber(scheduler, thread.fiber);
    running = nullptr;
}

std::string Cluster::run(const Launch &new_launch, Index first) {
    current_cluster = this;
    current = &current_block;
    start(new_launch, first);
    try {
        for (;;) {
            Thread *const thread = pick();
            if (thread != nullptr) {
                run_thread(*thread);
            } else if (!transfers.arrive_last()) {
                break;
            }
            if (failed) {
                return failure;
            }
            // What arrives at a switch of threads.
            if (drifting != 0) {
                arrive_copy();
            }
            if (is_asynchronous && launch->seed != 0) {
                transfers.maybe_arrive();
                arrive_product();
            }
        }
    } catch (const Failed &) {
        return failure;
    }
    if (running_threads != 0) {
        return stuck();
    }
    for (const Block &block : blocks) {
        if (block.is_overrun()) {
            const std::string bytes = std::to_string(launch->shared_bytes);
            return where(nullptr, block) + ": wrote outside of its " + bytes + " bytes of shared memory";
        }
    }
    return "";
}

void Cluster::wait(const char *what, const CountingBarrier *at) {
    Thread &self = *running;
    self.waits_for = what;
    self.waits_at = at;
    switch_fiber(self.fiber, scheduler);
}

void Cluster::maybe_switch() {
    if (launch->seed != 0 && random_below(2) == 0) {
        wake(*running);
        wait("its next turn");
    }
}

Arrival Cluster::choose_arrival() {
    constexpr Arrival CHOICES[] = {Arrival::AtIssue, Arrival::AtSwitch, Arrival::AtWait};
    return launch->seed == 0 ? Arrival::AtWait : CHOICES[random_below(3)];
}

std::size_t Cluster::random_below(std::size_t count) { return next(random) % count; }

void Cluster::fail(const Thread *thread, const Block &block, const std::string &problem) {
    failure = where(thread, block) + ": " + problem;
    failed = true;
    if (running == nullptr) {
        throw Failed();
    }
    // The cluster never runs again; its stacks are simply reused.
    switch_fiber(running->fiber, scheduler, true);
    __builtin_unreachable();
}

std::string Cluster::name(const Thread &thread) const {
    const std::string id = "thread " + std::to_string(thread.id);
    return launch->cluster == 1 ? id : id + " of block " + text(thread.block->block_index());
}

std::string Cluster::stuck() const {
    // The message names the first thread in each state.
    std::string story;
    std::vector<std::string> told;
    for (const Thread &thread : threads) {
        const std::string place = thread.waits_at != nullptr ? text(*thread.waits_at) : std::string(thread.waits_for);
        const std::string state = thread.done ? "has ended" : "waits at " + place;
        if (std::find(told.begin(), told.end(), state) == told.end()) {
            told.push_back(state);
            story += (story.empty() ? "" : ", ") + name(thread) + " " + state;
        }
    }
    return where(nullptr, blocks.front()) + ": stuck, because the threads diverged: " + story;
}

void Cluster::sync() {
    arrived++;
    at_sync.push_back(running);
    end_sync();
    wait("a cluster barrier");
}

// Lets the threads at the cluster's barrier go on if all have come that have not ended.
void Cluster::end_sync() {
    if (arrived == 0 || arrived < running_threads) {
        return;
    }
    arrived = 0;
    meetings++;
    for (Block &block : blocks) {
        block.meetings++;
    }
    for (Thread *thread : at_sync) {
        wake(*thread);
    }
    at_sync.clear();
}

// Lets a random copy of a random thread arrive, if it is one that arrives at a switch.
void Cluster::arrive_copy() {
    Thread &thread = threads[random_below(threads.size())];
    std::vector<AsyncCopy> &copies = thread.copies;
    if (copies.empty()) {
        return;
    }
    AsyncCopy &copy = copies[random_below(copies.size())];
    if (copy.arrival == Arrival::AtSwitch) {
        thread.block->arrive(thread, copy);
        copy = copies.back();
        copies.pop_back();
        drifting--;
    }
}

// Lets products of a random block arrive.
void Cluster::arrive_product() {
    Block &block = blocks[random_below(blocks.size())];
    if (block.is_asynchronous()) {
        block.asynchronous().maybe_multiply();
    }
}

} // namespace emulator
