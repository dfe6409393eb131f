// The registry of emulated kernels. Shared with src/cuda/device/emulated.rs.
#pragma once

#include <cstddef>

namespace emulator {

// How a kernel is launched: threads of a block, blocks for which a multiprocessor has registers (0: the compiler decides),
// and blocks of a cluster.
struct Shape {
    int threads, blocks, cluster;
};

// An entry point. Its constructor registers it; objects live as long as the program.
struct Kernel {
    Kernel(const char *name, Shape shape, std::size_t params_bytes, void (*entry)(const void *params));

    const char *name;
    Shape shape;
    std::size_t params_bytes;
    void (*entry)(const void *params);
    const Kernel *next;
};

} // namespace emulator
