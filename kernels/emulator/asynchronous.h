// What a block needs for Hopper's instructions: barriers in shared memory, what copies and products see of it, and its
// warpgroups.
#pragma once

#include "block.h"
#include "warpgroup.h"

#include <deque>

namespace emulator {

// A barrier in shared memory that counts arrivals and bytes of copies (mbarrier).
struct CountingBarrier {
    // Its place in shared memory, and the thread that prepared it.
    std::uint32_t offset;
    const Thread *maker;
    // Arrivals of a phase, and those that this phase still needs.
    unsigned count, pending;
    // Bytes announced less bytes copied.
    std::int64_t bytes = 0;
    std::uint64_t phase = 0;
    // The number of phases whose end some thread has seen by a wait.
    std::uint64_t seen = 0;
    // Whether this phase counted bytes, and whether the one before did and no thread has seen its end.
    bool counts_bytes = false, has_unseen_bytes = false;
    // After publish_barriers: how often the block and the cluster had met then.
    bool published = false;
    std::uint64_t block_meetings = 0, cluster_meetings = 0;
    std::vector<Thread *> waiting{};
};

// For messages: place, phase, and what is missing.
std::string text(const CountingBarrier &barrier);

// The offset of a barrier, which must be aligned and in the running block's shared memory.
std::uint32_t barrier_offset(const void *barrier);

// Bytes of a piece of shared memory that stays together.
constexpr unsigned PIECE = 16;

// Where a swizzle of rows of this many bytes puts a piece.
inline std::uint32_t swizzled(std::uint32_t offset, unsigned swizzle) {
    const std::uint32_t mixed = swizzle == 0 ? 0 : swizzle / PIECE - 1;
    return offset ^ (offset >> 7 & mixed) * PIECE;
}

// A range of shared memory.
struct Range {
    std::uint32_t offset, bytes;
};

// A thread's part in Hopper's instructions.
struct AsynchronousThread {
    // Its stores to shared memory since its last publish_shared.
    std::vector<Range> stores;
    // Groups of store_box.
    unsigned store_groups = 0;
    // Calls of its warpgroup that it made, groups of products, and the number of calls at the end of each.
    std::uint64_t calls = 0;
    std::vector<std::uint64_t> group_ends;
    // Whether open_products came after everything that touched sums.
    bool opened = false;
    std::vector<OwnSums> in_flight;
    std::vector<OwnLeft> left_in_flight;
};

struct Asynchronous {
    explicit Asynchronous(Block &block);

    // --- barrier.cpp: barriers that count arrivals and bytes.
    void init(std::uint32_t offset, unsigned count);
    // Publishes the barriers that the running thread prepared.
    void publish_barriers();
    // The barrier at this place, for the running thread or, if `copy`, for a copy that it starts. `remote`: the thread is
    // in another block.
    CountingBarrier &barrier(std::uint32_t offset, bool copy, bool remote);
    void arrive(CountingBarrier &barrier);
    void announce(CountingBarrier &barrier, unsigned bytes);
    void wait_for_phase(CountingBarrier &barrier, unsigned parity);
    // Counts copied bytes.
    void complete(std::uint32_t barrier, unsigned bytes);

    // --- views.cpp: copies and products see another state of shared memory than threads, until these publish theirs.
    std::uint32_t offset(const void *address, std::size_t bytes, const char *what);
    // Notes a store of a thread.
    void note_store(const Thread &thread, const void *to, std::size_t bytes);
    void publish_shared();
    // Writes for a copy.
    void write(std::uint32_t offset, const void *from, std::size_t bytes);
    // Reads for a copy or product of `thread`.
    void read(std::uint32_t offset, void *to, std::size_t bytes, const Thread &thread);

    // --- warpgroup.cpp, wgmma.cpp: calls of a warpgroup, and its products.
    AsynchronousThread &own();
    Warpgroup &warpgroup();
    // Notes that the running thread makes a call, which is the same as those of the others.
    void record(const Call &call);
    // Waits until all threads of the warpgroup have made this many calls.
    void wait_for_calls(Warpgroup &group, std::uint64_t calls, const char *what);
    // Carries out calls that all threads have made: all before call `end`, then those that do not arrive later.
    void perform(Warpgroup &group, std::uint64_t end);
    std::shared_ptr<Sums> fresh_sums(unsigned columns);
    // Collects this thread's part of A for the call that it is about to make.
    std::shared_ptr<Left> take_left(const std::uint32_t *registers);
    void multiply(const Warpgroup &group, const Call &call);
    // Lets products of a random warpgroup arrive.
    void maybe_multiply();
    void set_registers(Warpgroup &group, const Call &call);
    void grant_registers();

    // Checks what a thread or a block leaves behind.
    void end_thread(const Thread &thread);
    void end_block();

    Block &block;
    std::vector<AsynchronousThread> threads;
    std::vector<Warpgroup> warpgroups;
    // Registers that warpgroups have left to the others.
    unsigned free_registers = 0;

  private:
    void complete_phase(CountingBarrier &barrier);

    // A deque keeps their places: threads wait at them.
    std::deque<CountingBarrier> barriers;
    // Shared memory as copies and products see it.
    std::vector<unsigned char> view;
};

} // namespace emulator
