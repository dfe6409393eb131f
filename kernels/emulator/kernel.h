// The registry of emulated kernels. Shared with src/cuda/device/emulated.rs.
#pragma once

#include <cstddef>

namespace emulator {

// An entry point. Its constructor registers it; objects live as long as the program.
struct Kernel {
    Kernel(const char *name, unsigned threads, std::size_t params_bytes, void (*entry)(const void *params));

    const char *name;
    unsigned threads;
    std::size_t params_bytes;
    void (*entry)(const void *params);
    const Kernel *next;
};

} // namespace emulator
