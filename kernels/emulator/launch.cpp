// The emulator's interface to the runtime: finds a kernel, and runs a cluster of its blocks.

#include "cluster.h"
#include "kernel.h"

#include <cstring>
#include <string>

#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

namespace emulator {

namespace {

const Kernel *first = nullptr;

} // namespace

Kernel::Kernel(const char *name, Shape shape, std::size_t params_bytes, void (*entry)(const void *params))
    : name(name), shape(shape), params_bytes(params_bytes), entry(entry), next(first) {
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

// Runs one cluster on the calling thread, `block` being its first. Clusters of a launch may run in parallel. Returns false
// after an error, and writes it to `message`, which has `bytes` bytes.
extern "C" bool osp_emulator_run_cluster(const emulator::Launch *launch, const emulator::Index *block, char *message,
                                         std::size_t bytes) {
    // Kept between launches: mapping the stacks again would cost more than a small block.
    thread_local emulator::Cluster runner;
    const std::string problem = runner.run(*launch, *block);
    std::strncpy(message, problem.c_str(), bytes - 1);
    message[bytes - 1] = '\0';
    return problem.empty();
}

// What the bits of the kernels' results may depend on: the compiler and, because of exp2, the C library and the
// instructions that it chooses by the processor.
extern "C" const char *osp_emulator_toolchain() {
    static const std::string toolchain = [] {
#ifdef __clang__
        std::string text = "Clang " __clang_version__;
#else
        std::string text = "GCC " __VERSION__;
#endif
#ifdef __GLIBC__
        text += std::string(", glibc ") + gnu_get_libc_version();
#endif
#ifdef __x86_64__
        text += __builtin_cpu_supports("fma") ? ", x86-64 with FMA" : ", x86-64 without FMA";
#else
        text += ", another processor than x86-64";
#endif
        return text;
    }();
    return toolchain.c_str();
}
