// Norms over the channels of a token.
//
//     ada_layer_norm   out = (x − mean) / √(variance + eps) · (1 + scale) + shift
//     layer_norm       out = (x − mean) / √(variance + eps) · weight + bias
//     rms_norm         out = x / √(mean(x²) + eps) · weight
//
// x, out [rows, channels], T. modulation [samples, modulation_stride], T: row r belongs to sample r /
// rows_per_modulation, whose shift and scale start shift_offset and scale_offset elements behind its start. weight,
// bias [channels], T.
//
// A warp (up to 1,280 channels) or a block reads a row once and holds it in registers, unconverted. A thread issues all
// its loads before it uses the first value. It computes the mean first and the variance from the differences, so a mean
// far from zero costs no digits. A thread sums its own values, a butterfly adds lanes, and then warps are added in
// order. So `channels` alone decides the order of a sum.
//
// Block: 256 threads. Grid: rows / 8 (warp) or rows (block, ragged). Shared memory: 8 floats for block and ragged.
// Limits: warp ≤ 1,280 and block ≤ 8,192 channels, multiples of 8; ragged ≤ 4,096, any number.

#include "common/reduce.cuh"
#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

struct NormParams {
    const void *x;
    // ada_layer_norm: modulation; else the weight
    const void *scale;
    // layer_norm: the bias
    const void *bias;
    void *out;
    std::int32_t rows;
    std::int32_t channels;
    float eps;
    std::int32_t rows_per_modulation;
    std::int32_t modulation_stride;
    std::int32_t shift_offset;
    std::int32_t scale_offset;
    std::int32_t padding;
};

enum class Norm { AdaLayer, Layer, Rms };

// How threads share a row: each of GROUP threads holds HELD times WIDTH neighbours.
template <int GROUP_, int WIDTH_, int HELD_> struct Sharing {
    static constexpr int GROUP = GROUP_, WIDTH = WIDTH_, HELD = HELD_;
};
using ByWarp = Sharing<32, 8, 5>;
using ByBlock = Sharing<BLOCK_THREADS, 8, 4>;
using Ragged = Sharing<BLOCK_THREADS, 1, 16>;

// Sum over the threads that share a row.
template <typename S> __device__ __forceinline__ float row_sum(float value) {
    if constexpr (S::GROUP == static_cast<int>(WARP_SIZE)) {
        return warp_sum(value);
    } else {
        return block_reduce<Sum, BLOCK_THREADS>(value, reinterpret_cast<float *>(shared_memory()));
    }
}

template <typename T, Norm NORM, typename S> __device__ __forceinline__ void norm_row(const NormParams &p, int row) {
    constexpr int WIDTH = S::WIDTH;
    const int lane = static_cast<int>(threadIdx.x) % S::GROUP;
    const auto column = [&](int i) { return (i * S::GROUP + lane) * WIDTH; };
    const T *x = static_cast<const T *>(p.x) + static_cast<std::int64_t>(row) * p.channels;
    T *out = static_cast<T *>(p.out) + static_cast<std::int64_t>(row) * p.channels;

    // The loads have their own loop. In one loop with their use, each load would wait behind a branch for the one
    // before.
    Packed<T, WIDTH> held[S::HELD];
#pragma unroll
    for (int i = 0; i < S::HELD; i++) {
        if (column(i) < p.channels) {
            held[i] = load_packed<WIDTH>(x + column(i));
        }
    }
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < S::HELD; i++) {
        if (column(i) < p.channels) {
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                sum += NORM == Norm::Rms ? held[i][j] * held[i][j] : held[i][j];
            }
        }
    }
    const float count = static_cast<float>(p.channels);
    float mean = 0.0f, variance = row_sum<S>(sum) / count;
    if constexpr (NORM != Norm::Rms) {
        mean = variance;
        float squares = 0.0f;
#pragma unroll
        for (int i = 0; i < S::HELD; i++) {
            if (column(i) < p.channels) {
#pragma unroll
                for (int j = 0; j < WIDTH; j++) {
                    squares += (held[i][j] - mean) * (held[i][j] - mean);
                }
            }
        }
        variance = row_sum<S>(squares) / count;
    }
    const float inverse = rsqrtf(variance + p.eps);

    const T *scale = static_cast<const T *>(p.scale), *shift = static_cast<const T *>(p.bias);
    if constexpr (NORM == Norm::AdaLayer) {
        const T *modulation = scale + static_cast<std::int64_t>(row / p.rows_per_modulation) * p.modulation_stride;
        scale = modulation + p.scale_offset;
        shift = modulation + p.shift_offset;
    }
    // A step's scale and shift are loaded while the step before computes.
    Packed<T, WIDTH> factor{}, added{}, next_factor{}, next_added{};
    const auto bring = [&](int i) {
        if (column(i) < p.channels) {
            next_factor = load_packed<WIDTH>(scale + column(i));
            if constexpr (NORM != Norm::Rms) {
                next_added = load_packed<WIDTH>(shift + column(i));
            }
        }
    };
    bring(0);
#pragma unroll
    for (int i = 0; i < S::HELD; i++) {
        factor = next_factor;
        added = next_added;
        if (i + 1 < S::HELD) {
            bring(i + 1);
        }
        if (column(i) < p.channels) {
            Vec<float, WIDTH> y;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                const float whole = NORM == Norm::AdaLayer ? 1.0f + factor[j] : factor[j];
                const float scaled = (held[i][j] - mean) * inverse * whole;
                // Without a shift nothing is added: −0 + 0 would be +0.
                y[j] = NORM == Norm::Rms ? scaled : scaled + added[j];
            }
            store_floats<T>(out + column(i), y);
        }
    }
}

template <typename T, Norm NORM, typename S> __device__ __forceinline__ void norm(const NormParams &p) {
    constexpr int ROWS = BLOCK_THREADS / S::GROUP;
    const int row = static_cast<int>(blockIdx.x) * ROWS + static_cast<int>(threadIdx.x) / S::GROUP;
    // Whole warps or the whole block take this branch, so no thread is missing at a shuffle or a barrier.
    if (row < p.rows) {
        norm_row<T, NORM, S>(p, row);
    }
}

} // namespace

KERNEL(ada_layer_norm_warp_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::AdaLayer, ByWarp>(p); }
KERNEL(ada_layer_norm_warp_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::AdaLayer, ByWarp>(p); }
KERNEL(ada_layer_norm_block_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::AdaLayer, ByBlock>(p); }
KERNEL(ada_layer_norm_block_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::AdaLayer, ByBlock>(p); }
KERNEL(ada_layer_norm_ragged_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::AdaLayer, Ragged>(p); }
KERNEL(ada_layer_norm_ragged_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::AdaLayer, Ragged>(p); }
KERNEL(layer_norm_warp_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::Layer, ByWarp>(p); }
KERNEL(layer_norm_warp_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::Layer, ByWarp>(p); }
KERNEL(layer_norm_block_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::Layer, ByBlock>(p); }
KERNEL(layer_norm_block_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::Layer, ByBlock>(p); }
KERNEL(layer_norm_ragged_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::Layer, Ragged>(p); }
KERNEL(layer_norm_ragged_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::Layer, Ragged>(p); }
KERNEL(rms_norm_warp_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::Rms, ByWarp>(p); }
KERNEL(rms_norm_warp_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::Rms, ByWarp>(p); }
KERNEL(rms_norm_block_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::Rms, ByBlock>(p); }
KERNEL(rms_norm_block_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::Rms, ByBlock>(p); }
KERNEL(rms_norm_ragged_f16, BLOCK_THREADS, NormParams) { norm<f16, Norm::Rms, Ragged>(p); }
KERNEL(rms_norm_ragged_bf16, BLOCK_THREADS, NormParams) { norm<bf16, Norm::Rms, Ragged>(p); }

KERNEL_FILE(norm);
