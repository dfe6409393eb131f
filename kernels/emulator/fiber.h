// Fibers: the threads of an emulated block. Each has a stack; one thread of the host switches between them.
#pragma once

#include <cstddef>

namespace emulator {

// Bytes of a fiber's stack. The page below it is not mapped, so that an overflow ends the process at once.
constexpr std::size_t STACK_BYTES = 128 << 10;

// A suspended place of execution. The scheduler's is one, too.
struct Fiber {
    void *stack_pointer = nullptr;
    // Lowest address and size of the stack, for AddressSanitizer.
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

    // Makes `count` stacks available. If there are fewer now, the contents of the present stacks are lost.
    void reserve(std::size_t count);

    // Prepares `fiber` to begin at `entry` on stack `index` at the first switch to it. `entry` must not return.
    void prepare(std::size_t index, Fiber &fiber, void (*entry)());

  private:
    void release();

    char *mapping = nullptr;
    std::size_t count = 0;
};

// Suspends `from` and resumes `to`. `last`: `from` never runs again.
void switch_fiber(Fiber &from, Fiber &to, bool last = false);

// Must be the first call of a fiber's entry.
void entered_fiber(Fiber &self, Fiber &from);

} // namespace emulator
