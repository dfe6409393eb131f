// Fibers: the threads of an emulated block, each with a stack of its own, switched by hand on one thread of the host.
#pragma once

#include <cstddef>

namespace emulator {

// Bytes of a fiber's stack; a page below it is not mapped, so that an overflow is a fault and not a riddle.
constexpr std::size_t STACK_BYTES = 128 << 10;

// A place where execution was left. The scheduler's own place is one too.
struct Fiber {
    void *stack_pointer = nullptr;
    // Lowest address and size of the stack, which AddressSanitizer wants to know.
    const void *stack_bottom = nullptr;
    std::size_t stack_bytes = 0;
    // AddressSanitizer's shadow of the stack while the fiber does not run.
    void *fake_stack = nullptr;
};

// A pool of stacks, one mapping for all.
class Stacks {
  public:
    Stacks() = default;
    Stacks(const Stacks &) = delete;
    Stacks &operator=(const Stacks &) = delete;
    ~Stacks();

    // Makes `count` stacks available; what the present ones hold is lost if there are fewer.
    void reserve(std::size_t count);

    // Lets `fiber` begin at `entry` on stack `index` when it is switched to. `entry` must not return.
    void prepare(std::size_t index, Fiber &fiber, void (*entry)());

  private:
    void release();

    char *mapping = nullptr;
    std::size_t count = 0;
};

// Leaves `from` and goes on where `to` was left. `last` says that `from` never runs again.
void switch_fiber(Fiber &from, Fiber &to, bool last = false);

// Must be the first call of a fiber's entry.
void entered_fiber(Fiber &self, Fiber &from);

} // namespace emulator
