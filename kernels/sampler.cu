// The arithmetic of all samplers.
//
//     combine   out = clamp(Σ_i coefficients[i] · inputs[i], ±limit)
//     hold      sample = weight · kept + (1 − weight) · sample,  kept = signal · original + noise_level · noise
//
// combine: at most 8 inputs, and out: [len], each f32 (the states of samplers) or T (a model's input and output). A mask
// in the parameters says which. hold: original, noise, weight and sample [len], f32; sample changes in place.
//
// A thread makes four neighbours, 16 bytes of f32, or one in the ragged instance. combine starts with zero and adds the
// terms in order, each by a fused multiply-add, so that every device gives the same bits, even the sign of a zero. The
// clamp passes NaN. The number and the types of the terms are the same for all threads, so no branch diverges. hold rounds
// the second product of each sum, and a fused multiply-add adds the first. So the compiler can contract nothing else.
//
// Bytes an element: combine as its buffers; hold 16 read, 4 written.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: len a multiple of 4 (ragged: any number); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;
constexpr int MAX_TERMS = 8;

struct CombineParams {
    const void *inputs[8];
    void *out;
    float coefficients[8];
    // infinity for no clamp
    float limit;
    std::int32_t terms;
    // bit i: inputs[i] is f32; bit 8: out is f32
    std::int32_t single;
    // vectors of out
    std::int32_t count;
};

template <typename T, int WIDTH> __device__ __forceinline__ void combine(const CombineParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const auto at = static_cast<std::int64_t>(index) * WIDTH;
    const auto is_single = [&](int i) { return (p.single >> i & 1) != 0; };

    // All loads are in flight before the first sum waits for one.
    Vec<float, WIDTH> values[MAX_TERMS] = {};
#pragma unroll
    for (int term = 0; term < MAX_TERMS; term++) {
        if (term < p.terms) {
            const void *input = p.inputs[term];
            values[term] = is_single(term) ? load_floats<WIDTH>(static_cast<const float *>(input) + at)
                                           : load_floats<WIDTH>(static_cast<const T *>(input) + at);
        }
    }
    Vec<float, WIDTH> sums{};
#pragma unroll
    for (int term = 0; term < MAX_TERMS; term++) {
        if (term < p.terms) {
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                sums[i] = fmaf(p.coefficients[term], values[term][i], sums[i]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        // fminf and fmaxf would turn NaN into a limit.
        sums[i] = sums[i] < -p.limit ? -p.limit : sums[i] > p.limit ? p.limit : sums[i];
    }
    if (is_single(MAX_TERMS)) {
        store_floats(static_cast<float *>(p.out) + at, sums);
    } else {
        store_floats(static_cast<T *>(p.out) + at, sums);
    }
}

struct HoldParams {
    const void *original;
    const void *noise;
    const void *weight;
    void *sample;
    float signal;
    float noise_level;
    // vectors of sample
    std::int32_t count;
    std::int32_t padding;
};

template <int WIDTH> __device__ __forceinline__ void hold(const HoldParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const auto at = static_cast<std::int64_t>(index) * WIDTH;
    const auto load = [&](const void *from) { return load_floats<WIDTH>(static_cast<const float *>(from) + at); };
    const auto original = load(p.original), noise = load(p.noise), weight = load(p.weight);
    auto sample = load(p.sample);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        const float kept = fmaf(p.signal, original[i], p.noise_level * noise[i]);
        sample[i] = fmaf(weight[i], kept, (1.0f - weight[i]) * sample[i]);
    }
    store_floats(static_cast<float *>(p.sample) + at, sample);
}

} // namespace

KERNEL(combine_f16, BLOCK_THREADS, CombineParams) { combine<f16, 4>(p); }
KERNEL(combine_bf16, BLOCK_THREADS, CombineParams) { combine<bf16, 4>(p); }
KERNEL(combine_ragged_f16, BLOCK_THREADS, CombineParams) { combine<f16, 1>(p); }
KERNEL(combine_ragged_bf16, BLOCK_THREADS, CombineParams) { combine<bf16, 1>(p); }
KERNEL(hold_f32, BLOCK_THREADS, HoldParams) { hold<4>(p); }
KERNEL(hold_ragged_f32, BLOCK_THREADS, HoldParams) { hold<1>(p); }

KERNEL_FILE(sampler);
