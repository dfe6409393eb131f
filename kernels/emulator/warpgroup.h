// The calls that the 128 threads of a warpgroup make together, and its matrix products.
//
// A thread does not wait for the others at such a call. The call is issued when the last thread has made it; another
// call in its place is an error. A product reads shared memory then, at a switch of threads, or when a thread waits for
// it, in the order of the calls. Its sums are wrong in registers until the thread waits.
#pragma once

#include "block.h"
#include "hopper.h"

#include <array>
#include <deque>
#include <memory>

namespace emulator {

constexpr unsigned WARPGROUP = 128, PRODUCT_ROWS = 64;

// The sums of one matrix D in flight, [PRODUCT_ROWS][columns].
struct Sums {
    unsigned columns;
    std::vector<float> values;
};

// A thread's registers of it, and the number of the group of the newest product.
struct OwnSums {
    std::shared_ptr<Sums> sums;
    float *registers;
    std::uint64_t group;
};

// A product's A from registers: [PRODUCT_ROWS][16].
using Left = std::vector<std::uint16_t>;
constexpr unsigned LEFT_REGISTERS = 4;

// A thread's registers of it, what they held, and the number of the product's group.
struct OwnLeft {
    const std::uint32_t *registers;
    std::array<std::uint32_t, LEFT_REGISTERS> held;
    std::uint64_t group;
};

struct Call {
    enum class Kind { Open, Multiply, Close, Wait, SetRegisters };

    Kind kind;
    Site site;
    // Wait: pending groups. SetRegisters: registers, and whether to take them. Multiply: columns.
    unsigned number = 0;
    bool take = false;
    std::uint64_t a = 0, b = 0;
    Product product{};
    // Whether the sums were in registers before.
    bool fresh = false;
    std::shared_ptr<Sums> sums{};
    // Null if A lies in shared memory.
    std::shared_ptr<Left> left{};
    unsigned arrived = 0;
    Arrival arrival = Arrival::AtWait;
};

struct Warpgroup {
    // Its first thread.
    const Thread *first = nullptr;
    // Calls that not all threads have made or whose product has not been computed, and the number of the first of them.
    std::deque<Call> calls;
    std::uint64_t performed = 0;
    // The number of calls that all threads have made.
    std::uint64_t issued = 0;
    unsigned ended = 0;
    std::vector<Thread *> waiting;
    // Registers of a thread, and those that it waits for, or 0.
    unsigned registers = 0, wanted = 0;
};

} // namespace emulator
