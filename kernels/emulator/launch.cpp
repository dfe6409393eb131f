// The emulator's interface to the runtime: finds a kernel, and runs a block of it.

#include "block.h"
#include "kernel.h"

#include <cstring>

namespace emulator {

namespace {

const Kernel *first = nullptr;

} // namespace

Kernel::Kernel(const char *name, unsigned threads, std::size_t params_bytes, void (*entry)(const void *params))
    : name(name), threads(threads), params_bytes(params_bytes), entry(entry), next(first) {
    first = this;
}

} // namespace emulator

// The kernel of this name, or null.
extern "C" const emulator::Kernel *osp_emulator_find(const char *name) {
    const emulator::Kernel *kernel = emulator::first;
    while (kernel != nullptr && std::strcmp(kernel->name, name) != 0) {
        kernel = kernel->next;
    }
    return kernel;
}

// Runs one block on the calling thread. Blocks of a launch may run in parallel. Returns false after an error, and
// writes it to `message`, which has `bytes` bytes.
extern "C" bool osp_emulator_run_block(const emulator::Launch *launch, const emulator::Index *block, char *message,
                                       std::size_t bytes) {
    // Kept between launches: mapping the stacks again would cost more than a small block.
    thread_local emulator::Block runner;
    const std::string problem = runner.run(*launch, *block);
    std::strncpy(message, problem.c_str(), bytes - 1);
    message[bytes - 1] = '\0';
    return problem.empty();
}
