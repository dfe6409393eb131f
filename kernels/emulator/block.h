// One emulated block: its threads, their meetings, and their shared memory. cluster.h runs the threads.
#pragma once

#include "fiber.h"

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

namespace emulator {

struct Index {
    unsigned x, y, z;
};

// A buffer of global memory that a launch may touch.
struct Region {
    std::uintptr_t start;
    std::uint64_t bytes;
};

// A launch; equal for all its blocks. Shared with src/cuda/device/emulated.rs.
struct Launch {
    const char *kernel;
    void (*entry)(const void *params);
    const void *params;
    std::uint64_t params_bytes;
    Index grid;
    unsigned threads;
    // Blocks for which a multiprocessor has registers (0: unknown), and blocks of a cluster.
    unsigned blocks, cluster;
    unsigned shared_bytes;
    const Region *regions;
    std::uint64_t region_count;
    // Decides the order of threads: 0 keeps it, odd seeds shuffle, other even seeds let single warps run ahead.
    std::uint64_t seed;
};

constexpr unsigned WARP = 32;
constexpr unsigned NAMED_BARRIERS = 16;

// Operations that the lanes of a warp do together.
enum class WarpOp { SyncWarp, ShuffleXor, Ballot, LoadMatrix, StoreMatrix, Mma, Elect };

const char *name(WarpOp op);

// The place of an operation in the source.
using Site = std::source_location;

inline bool same(const Site &a, const Site &b) {
    // For the same file, both are mostly the same string.
    const bool same_file = a.file_name() == b.file_name() || std::strcmp(a.file_name(), b.file_name()) == 0;
    return a.line() == b.line() && a.column() == b.column() && same_file;
}

std::string text(const Site &site);

// A lane's arguments to an operation of its warp, and its results.
struct LaneArgs {
    explicit LaneArgs(const Site &site) : site(site) {}

    Site site;
    // A value and, for shuffles, another lane, a distance or a mask.
    std::uint64_t value = 0;
    unsigned operand = 0;
    // Matrix operations: this lane's row, registers in and out, and which variant.
    void *row = nullptr;
    std::uint32_t *registers = nullptr;
    const std::uint32_t *a = nullptr, *b = nullptr;
    const float *c = nullptr;
    float *d = nullptr;
    unsigned variant = 0;
};

// The time at which an asynchronous copy moves its bytes. A device may choose any of them.
enum class Arrival { AtIssue, AtSwitch, AtWait };

// An asynchronous copy in flight: `copied` bytes from global memory, then zeros.
struct AsyncCopy {
    void *to;
    const void *from;
    unsigned bytes, copied;
    // The number of its group, counted from the thread's first.
    unsigned group = 0;
    Arrival arrival = Arrival::AtWait;
};

class Block;
class Cluster;
struct Asynchronous;
struct CountingBarrier;

struct Thread {
    Fiber fiber;
    Block *block = nullptr;
    unsigned id = 0;
    bool done = false;
    // What it waits for, or the barrier in shared memory, for messages.
    const char *waits_for = "";
    const CountingBarrier *waits_at = nullptr;
    // Asynchronous copies in flight, and the number of committed groups.
    std::vector<AsyncCopy> copies;
    unsigned groups = 0;
    // The last region that was accessed: the next access is mostly to the same.
    const Region *region = nullptr;
};

// The lanes of a warp that have reached one operation.
struct Gathering {
    WarpOp op;
    std::uint32_t mask, arrived;
    std::array<LaneArgs *, WARP> lanes;
};

struct NamedBarrier {
    unsigned expected = 0, arrived = 0;
    std::vector<Thread *> waiting;
};

class Block {
  public:
    Block();
    ~Block();

    // The block of the running fiber, for the code of kernels.
    static Block &current();
    Thread &thread() const { return *running; }
    Index thread_index() const { return {running->id, 0, 0}; }
    Index block_index() const { return index; }
    const Launch &get_launch() const { return *launch; }
    unsigned char *shared() { return shared_start; }
    bool in_shared(const void *address, std::size_t bytes) const;

    // Waits for `count` threads at named barrier `id`; without `wait` it only arrives. Barrier 0 is __syncthreads.
    void barrier(unsigned id, unsigned count, bool wait);
    // Waits for the lanes of `mask`, which must all come from the same place in the source, and does `op` for all of
    // them.
    void gather(WarpOp op, std::uint32_t mask, LaneArgs &args);
    // Starts an asynchronous copy of the thread; the seed decides when it arrives.
    void start_copy(AsyncCopy copy);
    // Lets all copies arrive, except those of the thread's `pending` newest groups and those without a group.
    void wait_for_copies(unsigned pending);
    // Ends the launch with a message that names kernel, block and thread.
    [[noreturn]] void fail(const std::string &problem);
    // Checks the alignment of an access.
    void check_aligned(const void *address, std::size_t alignment, const char *what);
    // Checks that an access stays in one buffer of the launch.
    void check_global(const void *address, std::size_t bytes, const char *what);
    // Checks that an access stays in shared memory.
    void check_shared(const void *address, std::size_t bytes, const char *what);

    // The state of Hopper's instructions, made at the first of them.
    Asynchronous &asynchronous();
    bool is_asynchronous() const { return hopper != nullptr; }

    // For the scheduler. Prepares block `index` of a launch, whose first thread is `first`.
    void start(Cluster &cluster, const Launch &launch, Index index, Thread *first);
    // Notes that a thread has ended.
    void end_thread(Thread &thread);
    // Lets a copy move its bytes.
    void arrive(const Thread &thread, const AsyncCopy &copy);
    bool has_ended() const { return running_threads == 0; }
    // Whether a byte beside shared memory has changed.
    bool is_overrun() const;

    Cluster *cluster = nullptr;
    // The thread that runs, or ran last.
    Thread *running = nullptr;
    // The threads, launch.threads of them.
    Thread *threads = nullptr;
    // How often all threads have met.
    std::uint64_t meetings = 0;

    // The initial value of all bytes of shared memory. The bytes before and after it keep this value.
    static constexpr unsigned char POISON = 0xCB;

  private:
    static constexpr std::size_t GUARD = 256;
    // The alignment of shared memory that a kernel may rely on.
    static constexpr std::size_t SHARED_ALIGNMENT = 1024;

    void check_meeting(const Gathering &met, WarpOp op, std::uint32_t mask, const Site &site);

    const Launch *launch = nullptr;
    Index index{};
    unsigned running_threads = 0;
    std::array<NamedBarrier, NAMED_BARRIERS> barriers;
    std::vector<std::vector<Gathering>> warps;
    // The lanes of each warp that exist and have not ended.
    std::vector<std::uint32_t> alive;
    std::vector<unsigned char> shared_memory;
    unsigned char *shared_start = nullptr;
    std::unique_ptr<Asynchronous> hopper;
};

// Does the operation of the gathered lanes; false if their arguments do not fit together, with the reason in `problem`.
bool perform(Block &block, Gathering &gathering, std::string &problem);

} // namespace emulator
