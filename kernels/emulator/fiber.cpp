#include "fiber.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define OSP_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define OSP_ASAN 1
#endif
#endif
#ifdef OSP_ASAN
#include <sanitizer/asan_interface.h>
#endif

// Saves the callee-saved registers on the stack and the stack pointer in *from, then restores both from `to`.
// (System V ABI and AAPCS64. The control words of the floating-point units are never changed here.)
extern "C" void osp_emulator_switch(void **from, void *to);

#if defined(__x86_64__)
asm(R"(
.text
.globl osp_emulator_switch
.type osp_emulator_switch, @function
osp_emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size osp_emulator_switch, .-osp_emulator_switch
)");
// Six registers, then the return address.
constexpr std::size_t SAVED_WORDS = 6;
constexpr std::size_t RETURN_WORD = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.globl osp_emulator_switch
.type osp_emulator_switch, %function
osp_emulator_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size osp_emulator_switch, .-osp_emulator_switch
)");
// Twenty words; the twelfth is the link register.
constexpr std::size_t SAVED_WORDS = 20;
constexpr std::size_t RETURN_WORD = 11;
#else
#error "the emulator switches fibers on x86-64 and aarch64 only"
#endif

namespace emulator {

namespace {

std::size_t page_bytes() {
    static const std::size_t bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return bytes;
}

// A stack and the page below it.
std::size_t stride() { return STACK_BYTES + page_bytes(); }

// A fiber that never reaches its end leaves marks of its frames in AddressSanitizer's shadow, and the shadow outlives
// the mapping. Without this function, AddressSanitizer would report the next use of the memory.
void forget_frames([[maybe_unused]] char *memory, [[maybe_unused]] std::size_t bytes) {
#ifdef OSP_ASAN
    __asan_unpoison_memory_region(memory, bytes);
#endif
}

} // namespace

Stacks::~Stacks() { release(); }

void Stacks::release() {
    if (mapping != nullptr) {
        forget_frames(mapping, count * stride());
        munmap(mapping, count * stride());
    }
}

void Stacks::reserve(std::size_t wanted) {
    if (wanted <= count) {
        return;
    }
    release();
    // Only mapped: a page is allocated when a fiber first touches it.
    void *memory = mmap(nullptr, wanted * stride(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        std::fprintf(stderr, "emulator: no memory for %zu stacks\n", wanted);
        std::abort();
    }
    mapping = static_cast<char *>(memory);
    count = wanted;
    for (std::size_t i = 0; i < count; i++) {
        mprotect(mapping + i * stride(), page_bytes(), PROT_NONE);
    }
}

void Stacks::prepare(std::size_t index, Fiber &fiber, void (*entry)()) {
    char *bottom = mapping + index * stride() + page_bytes();
    forget_frames(bottom, STACK_BYTES);
    fiber.stack_bottom = bottom;
    fiber.stack_bytes = STACK_BYTES;
    fiber.fake_stack = nullptr;
    // Both ABIs align the stack to 16 bytes. `entry` is reached by `ret`, not by `call`, which would have pushed a
    // word: on x86-64 two words above it keep the alignment, one in place of the pushed word and one unused.
    auto *top = reinterpret_cast<std::uintptr_t *>(bottom + STACK_BYTES) - 2;
    auto *frame = top - SAVED_WORDS - (RETURN_WORD == SAVED_WORDS ? 2 : 0);
    for (auto *word = frame; word < top; word++) {
        *word = 0;
    }
    frame[RETURN_WORD] = reinterpret_cast<std::uintptr_t>(entry);
    fiber.stack_pointer = frame;
}

void switch_fiber(Fiber &from, Fiber &to, [[maybe_unused]] bool last) {
#ifdef OSP_ASAN
    __sanitizer_start_switch_fiber(last ? nullptr : &from.fake_stack, to.stack_bottom, to.stack_bytes);
#endif
    osp_emulator_switch(&from.stack_pointer, to.stack_pointer);
#ifdef OSP_ASAN
    __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

void entered_fiber([[maybe_unused]] Fiber &self, [[maybe_unused]] Fiber &from) {
#ifdef OSP_ASAN
    // The scheduler switched to this fiber; its stack is known only now.
    __sanitizer_finish_switch_fiber(nullptr, &from.stack_bottom, &from.stack_bytes);
#endif
}

} // namespace emulator
