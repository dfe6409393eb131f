// Conversion of bytes to pixels, and of pixels to bytes.
//
//     from_bytes   out[i] = x[i]/127.5 − 1
//     to_bytes     out[i] = clamp(x[i]/2 + 0.5, 0, 1)·255, truncated; NaN becomes 0
//
// Bytes [count]; pixels [count], T.
//
// A thread handles one vector: eight elements, or one in the ragged instances. to_bytes rounds as the CPU does, so that
// equal pixels give equal bytes. from_bytes is one fused multiply-add by 1/127.5, where the CPU divides and subtracts
// in f32. The last places of f32 differ, but rounded to T the bits are the same for all 256 bytes in both types,
// without the 26 instructions of a division. A product that is rounded before the difference would not suffice: one
// byte would differ in bf16.
//
// Bytes an element: from_bytes 1 read, 2 written; to_bytes 2 and 1.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: count a multiple of 8 (ragged: any number); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

struct PixelsParams {
    const void *x;
    void *out;
    // vectors
    std::int32_t count;
    std::int32_t padding;
};

__device__ __forceinline__ unsigned vector_index() { return blockIdx.x * BLOCK_THREADS + threadIdx.x; }

template <typename T, int WIDTH> __device__ __forceinline__ void from_bytes(const PixelsParams &p) {
    if (vector_index() >= static_cast<unsigned>(p.count)) {
        return;
    }
    const auto bytes = load_global(static_cast<const Vec<std::uint8_t, WIDTH> *>(p.x) + vector_index());
    Vec<float, WIDTH> values;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        values[i] = fmaf(static_cast<float>(bytes[i]), 1.0f / 127.5f, -1.0f);
    }
    store_floats(static_cast<T *>(p.out) + static_cast<std::int64_t>(vector_index()) * WIDTH, values);
}

template <typename T, int WIDTH> __device__ __forceinline__ void to_bytes(const PixelsParams &p) {
    if (vector_index() >= static_cast<unsigned>(p.count)) {
        return;
    }
    const std::int64_t at = static_cast<std::int64_t>(vector_index()) * WIDTH;
    const auto x = load_floats<WIDTH>(static_cast<const T *>(p.x) + at);
    Vec<std::uint8_t, WIDTH> bytes;
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
        // fmaxf prefers a number to NaN.
        const float level = fminf(fmaxf(x[j] * 0.5f + 0.5f, 0.0f), 1.0f);
        bytes[j] = static_cast<std::uint8_t>(level * 255.0f);
    }
    store_global(reinterpret_cast<Vec<std::uint8_t, WIDTH> *>(static_cast<std::uint8_t *>(p.out) + at), bytes);
}

} // namespace

KERNEL(from_bytes_f16, BLOCK_THREADS, PixelsParams) { from_bytes<f16, 8>(p); }
KERNEL(from_bytes_bf16, BLOCK_THREADS, PixelsParams) { from_bytes<bf16, 8>(p); }
KERNEL(from_bytes_ragged_f16, BLOCK_THREADS, PixelsParams) { from_bytes<f16, 1>(p); }
KERNEL(from_bytes_ragged_bf16, BLOCK_THREADS, PixelsParams) { from_bytes<bf16, 1>(p); }
KERNEL(to_bytes_f16, BLOCK_THREADS, PixelsParams) { to_bytes<f16, 8>(p); }
KERNEL(to_bytes_bf16, BLOCK_THREADS, PixelsParams) { to_bytes<bf16, 8>(p); }
KERNEL(to_bytes_ragged_f16, BLOCK_THREADS, PixelsParams) { to_bytes<f16, 1>(p); }
KERNEL(to_bytes_ragged_bf16, BLOCK_THREADS, PixelsParams) { to_bytes<bf16, 1>(p); }

KERNEL_FILE(pixels);
