// Reductions, in an order that depends only on sizes.
#pragma once

#include "platform.cuh"

struct Sum {
    static constexpr float IDENTITY = 0.0f;
    static __device__ __forceinline__ float apply(float a, float b) { return a + b; }
};

struct Max {
    static constexpr float IDENTITY = -INFINITY;
    static __device__ __forceinline__ float apply(float a, float b) { return fmaxf(a, b); }
};

// Reduces over the lanes of a warp, or over each group of `LANES` neighbours; every lane gets the result.
template <typename Op, int LANES = 32> __device__ __forceinline__ float warp_reduce(float value CALL_SITE) {
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) {
        value = Op::apply(value, __shfl_xor_sync(ALL_LANES, value, distance SAME_SITE));
    }
    return value;
}

__device__ __forceinline__ float warp_sum(float value CALL_SITE) { return warp_reduce<Sum>(value SAME_SITE); }

// Reduces over all THREADS threads of a block; every thread gets the result. `scratch` is THREADS / 32 floats of shared
// memory, which the next reduction may use when this one returns.
template <typename Op, int THREADS> __device__ __forceinline__ float block_reduce(float value, float *scratch) {
    constexpr int WARPS = THREADS / static_cast<int>(WARP_SIZE);
    value = warp_reduce<Op>(value);
    if (threadIdx.x % WARP_SIZE == 0) {
        scratch[threadIdx.x / WARP_SIZE] = value;
    }
    __syncthreads();
    float result = Op::IDENTITY;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) {
        result = Op::apply(result, scratch[warp]);
    }
    __syncthreads();
    return result;
}
