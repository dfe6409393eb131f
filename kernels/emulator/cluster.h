// The scheduler: it runs the threads of a cluster of blocks, mostly of one block, as fibers.
//
// A thread runs until it waits: at a barrier, or for the other lanes of its warp. The scheduler then runs another
// thread, in an order that a seed decides, so that code without a necessary barrier gives different results under
// different seeds. The seed also decides when asynchronous copies and products arrive. If no thread can continue and not
// all are done, the cluster is stuck, and the error says where.
#pragma once

#include "block.h"
#include "transfer.h"

#include <deque>

namespace emulator {

class Cluster {
  public:
    // Runs one cluster, `first` being its first block; returns what went wrong, or nothing.
    std::string run(const Launch &launch, Index first);

    // Lets other threads run until somebody wakes this one. `what` and `at` are for messages.
    void wait(const char *what, const CountingBarrier *at = nullptr);
    void wake(Thread &thread) { ready.push_back(&thread); }
    // Lets other threads run now, if the seed says so.
    void maybe_switch();
    // The time at which the next copy or product arrives. With seed 0 as late as possible; otherwise each chooses
    // separately: they need not arrive in order.
    Arrival choose_arrival();
    // A random number less than `count`.
    std::size_t random_below(std::size_t count);
    // Ends the launch with a message that names kernel, block and, if it is known, thread.
    [[noreturn]] void fail(const Thread *thread, const Block &block, const std::string &problem);
    // Waits for all threads of the cluster that have not ended.
    void sync();

    const Launch *launch = nullptr;
    // The thread whose fiber runs; null while the scheduler runs.
    Thread *running = nullptr;
    std::deque<Block> blocks;
    // Copies of one thread (cp.async) that arrive at a switch of threads, unless the thread waits for them before.
    unsigned drifting = 0;
    // Whether a block has executed an instruction of Hopper.
    bool is_asynchronous = false;
    // Copies of Hopper in flight.
    Transfers transfers{*this};
    // How often all threads of the cluster have met.
    std::uint64_t meetings = 0;

  private:
    static void enter();
    void start(const Launch &launch, Index first);
    Thread *pick();
    void run_thread(Thread &thread);
    void arrive_copy();
    void arrive_product();
    void end_sync();
    std::string stuck() const;
    std::string name(const Thread &thread) const;
    std::string where(const Thread *thread, const Block &block) const;

    Stacks stacks;
    Fiber scheduler;
    // Where Block::current finds the block of the running fiber.
    Block **current = nullptr;
    std::vector<Thread> threads;
    std::vector<Thread *> ready;
    std::size_t turn = 0;
    std::uint64_t random = 0;
    unsigned running_threads = 0, arrived = 0;
    std::vector<Thread *> at_sync;
    std::string failure;
    bool failed = false;
};

} // namespace emulator
