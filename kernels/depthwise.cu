// The strided convolution of each channel separately (depthwise), which compresses keys and values.
//
//     depthwise_conv   out[o, y, x, c] = bias[c] + Σ_ij in[o, y·factor + i − front, x·across + j, c] · weight[c, i, j]
//
// In space, y and x are row and column, and across = factor; in time, y is the frame, x the position in it, and
// across = 1. Rows before the first repeat it (front > 0 only in time, with an odd number of frames).
//
// x [outer, tokens, channels], tokens in rows of `width`; weight [channels, factor, across]; bias [channels];
// out [outer, rows · columns, channels]; T.
//
// A thread makes one vector of out: eight channels, or one in the ragged instance. Its weights are contiguous; the
// thread loads 16 bytes at a time. The number of taps is known at compile time, because factor is 2: 4 taps in space, 2
// in time. Taps are added in order, in f32.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: channels a multiple of 8 and 2 or 4 taps (ragged: any numbers); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

struct DepthwiseConvParams {
    const void *x;
    const void *weight;
    const void *bias;
    void *out;
    // vectors of out
    std::int32_t count;
    std::int32_t channels;
    // size of out, in one outer entry
    std::int32_t rows;
    std::int32_t columns;
    // tokens of x, in one outer entry
    std::int32_t tokens;
    std::int32_t width;
    std::int32_t factor;
    std::int32_t across;
    std::int32_t front;
    std::int32_t padding;
};

// Computes and stores one vector of out: `weight(i, tap)` is the weight of its channel i.
template <typename T, int WIDTH, typename Weight>
__device__ __forceinline__ void convolve(const DepthwiseConvParams &p, unsigned index, int taps, Weight weight) {
    const unsigned vectors = p.channels / WIDTH, token = index / vectors;
    const int channel = index % vectors * WIDTH;
    const int column = token % p.columns, line = token / p.columns;
    const int top = line % p.rows * p.factor - p.front, left = column * p.across;
    const auto first = static_cast<std::int64_t>(line / p.rows) * p.tokens;
    const T *x = static_cast<const T *>(p.x) + first * p.channels + channel;

    auto sums = load_floats<WIDTH>(static_cast<const T *>(p.bias) + channel);
#pragma unroll
    for (int tap = 0; tap < taps; tap++) {
        const int row = top + tap / p.across;
        const auto source = static_cast<std::int64_t>(row < 0 ? 0 : row) * p.width + left + tap % p.across;
        const auto values = load_floats<WIDTH>(x + source * p.channels);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            sums[i] += values[i] * weight(i, tap);
        }
    }
    store_floats<T>(static_cast<T *>(p.out) + static_cast<std::int64_t>(index) * WIDTH, sums);
}

template <typename T, int TAPS>
__device__ __forceinline__ void convolve_wide(const DepthwiseConvParams &p, unsigned index) {
    constexpr int WIDTH = VEC_WIDTH<T>;
    const std::int64_t vector = index % static_cast<unsigned>(p.channels / WIDTH);
    WideVec<T> weights[TAPS];
#pragma unroll
    for (int i = 0; i < TAPS; i++) {
        weights[i] = load_global(static_cast<const WideVec<T> *>(p.weight) + vector * TAPS + i);
    }
    convolve<T, WIDTH>(p, index, TAPS, [&](int i, int tap) {
        const int at = i * TAPS + tap;
        return to_float(weights[at / WIDTH][at % WIDTH]);
    });
}

template <typename T> __device__ __forceinline__ void depthwise_conv(const DepthwiseConvParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    if (p.across == 1) {
        convolve_wide<T, 2>(p, index);
    } else {
        convolve_wide<T, 4>(p, index);
    }
}

template <typename T> __device__ __forceinline__ void depthwise_conv_ragged(const DepthwiseConvParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const int taps = p.factor * p.across;
    const auto first = static_cast<std::int64_t>(index % static_cast<unsigned>(p.channels)) * taps;
    const T *weights = static_cast<const T *>(p.weight) + first;
    convolve<T, 1>(p, index, taps, [&](int, int tap) { return to_float(load_global(weights + tap)); });
}

} // namespace

KERNEL(depthwise_conv_f16, BLOCK_THREADS, DepthwiseConvParams) { depthwise_conv<f16>(p); }
KERNEL(depthwise_conv_bf16, BLOCK_THREADS, DepthwiseConvParams) { depthwise_conv<bf16>(p); }
KERNEL(depthwise_conv_ragged_f16, BLOCK_THREADS, DepthwiseConvParams) { depthwise_conv_ragged<f16>(p); }
KERNEL(depthwise_conv_ragged_bf16, BLOCK_THREADS, DepthwiseConvParams) { depthwise_conv_ragged<bf16>(p); }

KERNEL_FILE(depthwise);
