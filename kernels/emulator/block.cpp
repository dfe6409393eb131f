#include "block.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace emulator {

namespace {

// A thread of the host runs one block at a time, with all its fibers.
thread_local Block *current_block = nullptr;

std::string text(Index index) {
    return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string text(const Site &site) { return std::string(site.file_name()) + ":" + std::to_string(site.line()); }

bool same(const Site &a, const Site &b) {
    // For the same file, both are mostly the same string.
    const bool same_file = a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0;
    return a.line() == b.line() && a.column() == b.column() && same_file;
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

const char *name(WarpOp op) {
    switch (op) {
    case WarpOp::SyncWarp: return "syncwarp";
    case WarpOp::ShuffleXor: return "shfl_xor";
    case WarpOp::Ballot: return "ballot";
    case WarpOp::LoadMatrix: return "ldmatrix";
    case WarpOp::Mma: return "mma";
    }
    return "?";
}

Block &Block::current() { return *current_block; }

std::string Block::where(const Thread *thread) const {
    std::string place = std::string(launch->kernel) + ", block " + text(block);
    return thread == nullptr ? place : place + ", thread " + std::to_string(thread->id);
}

void Block::start(const Launch &new_launch, Index new_block) {
    launch = &new_launch;
    block = new_block;
    random = new_launch.seed ^ (std::uint64_t(block.x) << 40 | std::uint64_t(block.y) << 20 | block.z);
    turn = 0;
    drifting = 0;
    failed = false;
    failure.clear();
    barriers = {};
    stacks.reserve(launch->threads);
    threads.assign(launch->threads, Thread{});
    warps.assign((launch->threads + WARP - 1) / WARP, {});
    alive.assign(warps.size(), 0);
    shared_memory.assign(SHARED_ALIGNMENT + 2 * GUARD + launch->shared_bytes, POISON);
    unsigned char *first = shared_memory.data() + GUARD;
    shared_start = first + (SHARED_ALIGNMENT - reinterpret_cast<std::uintptr_t>(first) % SHARED_ALIGNMENT);
    ready.clear();
    for (unsigned id = 0; id < launch->threads; id++) {
        threads[id].id = id;
        stacks.prepare(id, threads[id].fiber, Block::enter);
        ready.push_back(&threads[id]);
        alive[id / WARP] |= std::uint32_t(1) << id % WARP;
    }
}

void Block::enter() {
    Block &block = current();
    Thread &self = *block.running;
    entered_fiber(self.fiber, block.scheduler);
    block.launch->entry(block.launch->params);
    self.done = true;
    block.alive[self.id / WARP] &= ~(std::uint32_t(1) << self.id % WARP);
    switch_fiber(self.fiber, block.scheduler, true);
}

Thread *Block::pick() {
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

std::string Block::run(const Launch &new_launch, Index new_block) {
    current_block = this;
    start(new_launch, new_block);
    while (Thread *thread = pick()) {
        if (launch->seed == 0 && turn > 4096) {
            ready.erase(ready.begin(), ready.begin() + static_cast<std::ptrdiff_t>(turn));
            turn = 0;
        }
        running = thread;
        thread->waits_for = nullptr;
        switch_fiber(scheduler, thread->fiber);
        running = nullptr;
        if (failed) {
            return failure;
        }
        if (drifting != 0) {
            maybe_arrive();
        }
    }
    if (std::any_of(threads.begin(), threads.end(), [](const Thread &thread) { return !thread.done; })) {
        return stuck();
    }
    check_guards();
    return failure;
}

void Block::wait(const char *what) {
    running->waits_for = what;
    Thread &self = *running;
    switch_fiber(self.fiber, scheduler);
}

void Block::wake(Thread &thread) { ready.push_back(&thread); }

void Block::fail(const std::string &problem) {
    failure = where(running) + ": " + problem;
    failed = true;
    // The block never runs again; its stacks are simply reused.
    switch_fiber(running->fiber, scheduler, true);
    __builtin_unreachable();
}

std::string Block::stuck() const {
    // The message names the first thread in each state.
    std::string story;
    std::vector<const char *> told;
    for (const Thread &thread : threads) {
        const char *state = thread.done ? "has ended" : thread.waits_for;
        if (std::find(told.begin(), told.end(), state) == told.end()) {
            told.push_back(state);
            story += (story.empty() ? "" : ", ") + ("thread " + std::to_string(thread.id) + " ") +
                     (thread.done ? "" : "waits at ") + state;
        }
    }
    return where(nullptr) + ": stuck, because the threads diverged: " + story;
}

void Block::barrier(unsigned id, unsigned count, bool waits) {
    if (id >= NAMED_BARRIERS || count % WARP != 0 || count == 0 || count > launch->threads) {
        fail("barrier " + std::to_string(id) + " for " + std::to_string(count) + " threads does not exist");
    }
    NamedBarrier &barrier = barriers[id];
    if (barrier.arrived != 0 && barrier.expected != count) {
        fail("barrier " + std::to_string(id) + " is awaited by " + std::to_string(barrier.expected) + " threads and by " +
             std::to_string(count));
    }
    barrier.expected = count;
    barrier.arrived++;
    if (barrier.arrived == count) {
        barrier.arrived = 0;
        std::vector<Thread *> waiting = std::move(barrier.waiting);
        barrier.waiting.clear();
        for (Thread *thread : waiting) {
            wake(*thread);
        }
        if (waits && launch->seed != 0) {
            // The last thread to arrive gets no advantage over the waiting threads.
            wake(*running);
            wait("a block barrier");
        }
        return;
    }
    if (waits) {
        barrier.waiting.push_back(running);
        wait("a block barrier");
    }
}

namespace {

void arrive(const AsyncCopy &copy) {
    std::memset(copy.to, 0, copy.bytes);
    if (copy.copied > 0) {
        std::memcpy(copy.to, copy.from, copy.copied);
    }
}

} // namespace

void Block::start_copy(AsyncCopy copy) {
    // With seed 0, copies arrive as late as possible. Otherwise each copy chooses separately: copies need not arrive in
    // order.
    constexpr Arrival CHOICES[] = {Arrival::AtIssue, Arrival::AtSwitch, Arrival::AtWait};
    copy.arrival = launch->seed == 0 ? Arrival::AtWait : CHOICES[next(random) % 3];
    if (copy.arrival == Arrival::AtIssue) {
        arrive(copy);
        return;
    }
    copy.group = running->groups;
    running->copies.push_back(copy);
    drifting += copy.arrival == Arrival::AtSwitch;
}

void Block::wait_for_copies(unsigned pending) {
    const auto done = [&](const AsyncCopy &copy) {
        if (copy.group + pending >= running->groups) {
            return false;
        }
        arrive(copy);
        drifting -= copy.arrival == Arrival::AtSwitch;
        return true;
    };
    std::erase_if(running->copies, done);
}

// Lets a random copy of a random thread arrive, if it is one that arrives at a switch.
void Block::maybe_arrive() {
    std::vector<AsyncCopy> &copies = threads[next(random) % threads.size()].copies;
    if (copies.empty()) {
        return;
    }
    AsyncCopy &copy = copies[next(random) % copies.size()];
    if (copy.arrival == Arrival::AtSwitch) {
        arrive(copy);
        copy = copies.back();
        copies.pop_back();
        drifting--;
    }
}

void Block::gather(WarpOp op, std::uint32_t mask, LaneArgs &args) {
    const unsigned warp = running->id / WARP, lane = running->id % WARP;
    if ((mask >> lane & 1) == 0) {
        fail(std::string(name(op)) + ": the lane is not in its own mask");
    }
    auto &gatherings = warps[warp];
    const auto shares_lanes = [&](const Gathering &other) { return (other.mask & mask) != 0; };
    auto found = std::find_if(gatherings.begin(), gatherings.end(), shares_lanes);
    if (found == gatherings.end()) {
        gatherings.push_back({op, mask, 0, {}});
        found = gatherings.end() - 1;
    } else {
        check_meeting(*found, op, mask, args.site);
    }
    found->lanes[lane] = &args;
    found->arrived |= std::uint32_t(1) << lane;
    if (const std::uint32_t missing = mask & ~alive[warp]; missing != 0) {
        const std::string first = std::to_string(std::countr_zero(missing));
        fail(std::string(name(op)) + ": lane " + first + " of its mask has ended or does not exist");
    }
    if (found->arrived != mask) {
        wait(name(op));
        return;
    }
    std::string problem;
    if (!perform(*this, *found, problem)) {
        fail(problem);
    }
    gatherings.erase(found);
    for (unsigned other = 0; other < WARP; other++) {
        if ((mask >> other & 1) != 0 && other != lane) {
            wake(threads[warp * WARP + other]);
        }
    }
    if (launch->seed != 0) {
        wake(*running);
        wait(name(op));
    }
}

void Block::check_meeting(const Gathering &met, WarpOp op, std::uint32_t mask, const Site &site) {
    const auto first = static_cast<unsigned>(std::countr_zero(met.arrived));
    const Site &other = met.lanes[first]->site;
    if (met.op == op && met.mask == mask && same(other, site)) {
        return;
    }
    const std::string thread = std::to_string(running->id / WARP * WARP + first);
    fail(std::string(name(op)) + " at " + text(site) + ": thread " + thread + " of the same warp is at " + name(met.op) +
         (met.mask == mask ? "" : " with another mask") + " at " + text(other));
}

void Block::check_aligned(const void *address, std::size_t alignment, const char *what) {
    if (reinterpret_cast<std::uintptr_t>(address) % alignment != 0) {
        fail(std::string(what) + " at an address that is not a multiple of " + std::to_string(alignment) + " bytes");
    }
}

void Block::check_global(const void *address, std::size_t bytes, const char *what) {
    const auto start = reinterpret_cast<std::uintptr_t>(address);
    const auto holds = [&](const Region &region) {
        return start >= region.start && start + bytes <= region.start + region.bytes;
    };
    if (running->region != nullptr && holds(*running->region)) {
        return;
    }
    // Regions are sorted by start. The last one that begins at or before the address.
    const Region *begin = launch->regions, *end = begin + launch->region_count;
    const auto before = [](std::uintptr_t at, const Region &region) { return at < region.start; };
    const Region *after = std::upper_bound(begin, end, start, before);
    if (after == begin || !holds(after[-1])) {
        std::string beside;
        if (after != begin) {
            const Region &last = after[-1];
            beside = ", " + std::to_string(start - last.start) + " bytes into a buffer of " + std::to_string(last.bytes);
        }
        fail(std::string(what) + " of " + std::to_string(bytes) + " bytes outside of the launch's buffers" + beside);
    }
    running->region = after - 1;
}

bool Block::in_shared(const void *address, std::size_t bytes) const {
    const auto *at = static_cast<const unsigned char *>(address);
    return at >= shared_start && at + bytes <= shared_start + launch->shared_bytes;
}

void Block::check_shared(const void *address, std::size_t bytes, const char *what) {
    if (!in_shared(address, bytes)) {
        fail(std::string(what) + " of " + std::to_string(bytes) + " bytes outside of shared memory");
    }
}

void Block::check_guards() {
    const unsigned char *start = shared_start, *behind = start + launch->shared_bytes;
    const auto spoilt = [](unsigned char byte) { return byte != POISON; };
    if (std::any_of(start - GUARD, start, spoilt) || std::any_of(behind, behind + GUARD, spoilt)) {
        const std::string bytes = std::to_string(launch->shared_bytes);
        failure = where(nullptr) + ": wrote outside of its " + bytes + " bytes of shared memory";
    }
}

} // namespace emulator

// The compiler's alignment checks (-fsanitize=alignment) call these functions. Kernels access shared memory through
// plain pointers, so no other check would detect a misaligned vector there.
namespace {

struct Mismatch {
    const char *file;
    std::uint32_t line, column;
    const void *type;
    unsigned char log_alignment, kind;
};

} // namespace

extern "C" void __ubsan_handle_type_mismatch_v1(const Mismatch *access, std::uintptr_t) {
    const std::string place = std::string(access->file) + ":" + std::to_string(access->line);
    const std::string alignment = std::to_string(std::size_t(1) << access->log_alignment);
    emulator::Block::current().fail("an access (" + place + ") at an address that is not a multiple of " + alignment +
                                    " bytes");
}
