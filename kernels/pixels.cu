// Pixels made of bytes.
//
//     from_bytes   out[i] = x[i]/127.5 − 1
//
// x [count], bytes; out [count], T.
//
// A thread handles one vector: eight elements, or one in the ragged instance. The CPU divides and subtracts in f32. One
// fused multiply-add by 1/127.5 differs from that in the last places of f32, but rounded to T it gives the same bits for all
// 256 bytes in both types, without the 26 instructions of a division. A product that is rounded before the difference does
// not do: one byte would differ in bf16.
//
// Bytes an element: 1 read, 2 written.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: count a multiple of 8 (ragged: any number); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

struct FromBytesParams {
    const void *x;
    void *out;
    // vectors
    std::int32_t count;
    std::int32_t padding;
};

template <typename T, int WIDTH> __device__ __forceinline__ void from_bytes(const FromBytesParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const auto bytes = load_global(static_cast<const Vec<std::uint8_t, WIDTH> *>(p.x) + index);
    Vec<float, WIDTH> values;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        values[i] = fmaf(static_cast<float>(bytes[i]), 1.0f / 127.5f, -1.0f);
    }
    store_floats(static_cast<T *>(p.out) + static_cast<std::int64_t>(index) * WIDTH, values);
}

} // namespace

KERNEL(from_bytes_f16, BLOCK_THREADS, FromBytesParams) { from_bytes<f16, 8>(p); }
KERNEL(from_bytes_bf16, BLOCK_THREADS, FromBytesParams) { from_bytes<bf16, 8>(p); }
KERNEL(from_bytes_ragged_f16, BLOCK_THREADS, FromBytesParams) { from_bytes<f16, 1>(p); }
KERNEL(from_bytes_ragged_bf16, BLOCK_THREADS, FromBytesParams) { from_bytes<bf16, 1>(p); }

KERNEL_FILE(pixels);
