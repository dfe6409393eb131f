// Activation functions, to a few units in the last place of f32. Each takes two special-function instructions; expf and
// a division would take some thirty instructions, and a call for rare divisors.
#pragma once

#include "ptx.cuh"

// 1 / (1 + 2^−x)
__device__ __forceinline__ float sigmoid_of_log2(float x) { return reciprocal_approx(1.0f + exp2_approx(-x)); }

// x·σ(x)
__device__ __forceinline__ float silu(float x) { return x * sigmoid_of_log2(LOG2_E * x); }

// x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), computed as x·σ(2·…), which needs only one exponential.
__device__ __forceinline__ float gelu_tanh(float x) {
    return x * sigmoid_of_log2(1.5957691216057308f * LOG2_E * (x + 0.044715f * x * x * x));
}
