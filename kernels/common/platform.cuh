// The two platforms of a kernel: CUDA's compiler for a GPU, and the host's compiler for the emulator.
//
// A kernel uses only features of both: `KERNEL` entries with one struct of parameters, dynamic shared memory only,
// global memory through vec.cuh, and instructions beyond C++ through ptx.cuh.
#pragma once

#ifdef __CUDACC__

#include <cstdint>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <type_traits>

using f16 = __half;
using bf16 = __nv_bfloat16;

// An entry point: `kernel<<<grid, threads, shared>>>(p)`. `bounds` is a number of threads, or Bounds.
#define KERNEL(kernel, bounds, Params)                                                                                 \
    extern "C" __global__ void __launch_bounds__(Bounds(bounds).threads, Bounds(bounds).blocks)                        \
        kernel(const __grid_constant__ Params p)

// As KERNEL, in clusters of `cluster` blocks along x; the grid is a multiple of it. (sm_90)
#define CLUSTER_KERNEL(kernel, bounds, cluster, Params)                                                                \
    extern "C" __global__ void __cluster_dims__(cluster, 1, 1)                                                         \
        __launch_bounds__(Bounds(bounds).threads, Bounds(bounds).blocks) kernel(const __grid_constant__ Params p)

// Ends a file of kernels, named by its stem.
#define KERNEL_FILE(stem) static_assert(true, #stem)

// The place of a call, for functions in which the lanes of a warp work together: `f(…, last CALL_SITE)` receives it,
// `g(…, last SAME_SITE)` passes it on. The emulator refuses lanes from different places. A function without this
// parameter counts as one place for all its callers. The names with ONLY are for functions without other parameters.
#define CALL_SITE
#define SAME_SITE
#define CALL_SITE_ONLY
#define SAME_SITE_ONLY

// The block's dynamic shared memory.
__device__ __forceinline__ unsigned char *shared_memory() {
    extern __shared__ __align__(1024) unsigned char memory[];
    return memory;
}

#else

#include "../emulator/device.h"

#endif

// Threads of a block, and the number of blocks for which a multiprocessor must have registers; 0: the compiler decides.
struct Bounds {
    int threads, blocks;

    constexpr Bounds(int threads, int blocks = 0) : threads(threads), blocks(blocks) {}
};

constexpr unsigned WARP_SIZE = 32;
constexpr std::uint32_t ALL_LANES = 0xFFFFFFFF;
