#include "asynchronous.h"
#include "cluster.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace emulator {

std::string text(const Site &site) { return std::string(site.file_name()) + ":" + std::to_string(site.line()); }

const char *name(WarpOp op) {
    switch (op) {
    case WarpOp::SyncWarp: return "syncwarp";
    case WarpOp::ShuffleXor: return "shfl_xor";
    case WarpOp::Ballot: return "ballot";
    case WarpOp::LoadMatrix: return "ldmatrix";
    case WarpOp::StoreMatrix: return "stmatrix";
    case WarpOp::Mma: return "mma";
    case WarpOp::Elect: return "elect";
    }
    return "?";
}

Block::Block() = default;

Block::~Block() = default;

void Block::fail(const std::string &problem) { cluster->fail(cluster->running, *this, problem); }

void Block::start(Cluster &new_cluster, const Launch &new_launch, Index new_index, Thread *first) {
    cluster = &new_cluster;
    launch = &new_launch;
    index = new_index;
    threads = first;
    running_threads = launch->threads;
    meetings = 0;
    barriers = {};
    warps.assign((launch->threads + WARP - 1) / WARP, {});
    alive.assign(warps.size(), 0);
    for (unsigned id = 0; id < launch->threads; id++) {
        alive[id / WARP] |= std::uint32_t(1) << id % WARP;
    }
    shared_memory.assign(SHARED_ALIGNMENT + 2 * GUARD + launch->shared_bytes, POISON);
    unsigned char *start = shared_memory.data() + GUARD;
    shared_start = start + (SHARED_ALIGNMENT - reinterpret_cast<std::uintptr_t>(start) % SHARED_ALIGNMENT);
    hopper.reset();
}

void Block::end_thread(Thread &thread) {
    if (hopper != nullptr) {
        hopper->end_thread(thread);
    }
    thread.done = true;
    alive[thread.id / WARP] &= ~(std::uint32_t(1) << thread.id % WARP);
    running_threads--;
    if (running_threads == 0 && hopper != nullptr) {
        hopper->end_block();
    }
}

Asynchronous &Block::asynchronous() {
    if (hopper == nullptr) {
        hopper = std::make_unique<Asynchronous>(*this);
        cluster->is_asynchronous = true;
    }
    return *hopper;
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
        meetings += id == 0;
        std::vector<Thread *> waiting = std::move(barrier.waiting);
        barrier.waiting.clear();
        for (Thread *other : waiting) {
            cluster->wake(*other);
        }
        if (waits && launch->seed != 0) {
            // The last thread to arrive gets no advantage over the waiting threads.
            cluster->wake(thread());
            cluster->wait("a block barrier");
        }
        return;
    }
    if (waits) {
        barrier.waiting.push_back(&thread());
        cluster->wait("a block barrier");
    }
}

void Block::arrive(const Thread &thread, const AsyncCopy &copy) {
    std::memset(copy.to, 0, copy.bytes);
    if (copy.copied > 0) {
        std::memcpy(copy.to, copy.from, copy.copied);
    }
    if (hopper != nullptr) {
        hopper->note_store(thread, copy.to, copy.bytes);
    }
}

void Block::start_copy(AsyncCopy copy) {
    copy.arrival = cluster->choose_arrival();
    if (copy.arrival == Arrival::AtIssue) {
        arrive(thread(), copy);
        return;
    }
    copy.group = thread().groups;
    thread().copies.push_back(copy);
    cluster->drifting += copy.arrival == Arrival::AtSwitch;
}

void Block::wait_for_copies(unsigned pending) {
    Thread &self = thread();
    const auto done = [&](const AsyncCopy &copy) {
        if (copy.group + pending >= self.groups) {
            return false;
        }
        arrive(self, copy);
        cluster->drifting -= copy.arrival == Arrival::AtSwitch;
        return true;
    };
    std::erase_if(self.copies, done);
}

void Block::gather(WarpOp op, std::uint32_t mask, LaneArgs &args) {
    const unsigned warp = thread().id / WARP, lane = thread().id % WARP;
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
        cluster->wait(name(op));
        return;
    }
    std::string problem;
    if (!perform(*this, *found, problem)) {
        fail(problem);
    }
    gatherings.erase(found);
    for (unsigned other = 0; other < WARP; other++) {
        if ((mask >> other & 1) != 0 && other != lane) {
            cluster->wake(threads[warp * WARP + other]);
        }
    }
    if (launch->seed != 0) {
        cluster->wake(thread());
        cluster->wait(name(op));
    }
}

void Block::check_meeting(const Gathering &met, WarpOp op, std::uint32_t mask, const Site &site) {
    const auto first = static_cast<unsigned>(std::countr_zero(met.arrived));
    const Site &other = met.lanes[first]->site;
    if (met.op == op && met.mask == mask && same(other, site)) {
        return;
    }
    const std::string id = std::to_string(thread().id / WARP * WARP + first);
    fail(std::string(name(op)) + " at " + text(site) + ": thread " + id + " of the same warp is at " + name(met.op) +
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
    if (thread().region != nullptr && holds(*thread().region)) {
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
    thread().region = after - 1;
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

bool Block::is_overrun() const {
    const unsigned char *start = shared_start, *behind = start + launch->shared_bytes;
    const auto spoilt = [](unsigned char byte) { return byte != POISON; };
    return std::any_of(start - GUARD, start, spoilt) || std::any_of(behind, behind + GUARD, spoilt);
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
