// Hopper's copies between global and shared memory that are in flight, of all blocks of a cluster.
//
// A load moves its bytes and counts them at its barrier when it is issued, at a switch of threads, or when no thread can
// run. A store reads shared memory, and later writes global memory, when it is issued, at switches, or when its thread
// waits for it.
#pragma once

#include "block.h"

namespace emulator {

struct TensorMap;

struct Load {
    Thread *thread;
    // The block that receives it, and offsets in its shared memory.
    Block *block;
    std::uint32_t to, barrier;
    unsigned bytes;
    // Plain bytes, or else the box at `at`.
    const void *from;
    const TensorMap *map;
    std::array<int, 5> at;
    Arrival arrival = Arrival::AtWait;
};

struct Store {
    Thread *thread;
    const TensorMap *map;
    std::array<int, 5> at;
    std::uint32_t from;
    // The number of its group, counted from the thread's first.
    unsigned group;
    Arrival arrival = Arrival::AtWait;
    bool is_read = false, is_written = false;
    std::vector<unsigned char> box{};
};

class Transfers {
  public:
    explicit Transfers(Cluster &cluster) : cluster(cluster) {}

    void clear();
    void start(Load load);
    void start(Store store);
    // Lets the stores of this thread's groups before `end` read their shared memory or, unless `only_reads`, end.
    void finish_stores(const Thread &thread, unsigned end, bool only_reads);
    // Lets one load arrive; false if there is none.
    bool arrive_last();
    // Lets a random copy arrive, if the seed says so.
    void maybe_arrive();
    bool has_store_of(const Thread &thread) const;
    bool has_load_into(const Block &block) const;

  private:
    void arrive(std::size_t index);

    Cluster &cluster;
    std::vector<Load> loads;
    std::vector<Store> stores;
};

} // namespace emulator
