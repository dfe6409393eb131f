// The functions that layers apply, to a few units in the last place of f32: two special-function instructions each, where
// expf and a division are some thirty instructions and a call for divisors that are rare.
#pragma once

#include "ptx.cuh"

// 1 / (1 + 2^−x)
__device__ __forceinline__ float sigmoid_of_log2(float x) { return reciprocal_approx(1.0f + exp2_approx(-x)); }

// x·σ(x)
__device__ __forceinline__ float silu(float x) { return x * sigmoid_of_log2(LOG2_E * x); }

// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), written as x·σ(2·…) so that one exponential does.
__device__ __forceinline__ float gelu_tanh(float x) {
    return x * sigmoid_of_log2(1.5957691216057308f * LOG2_E * (x + 0.044715f * x * x * x));
}
