// Finds NaN and infinities.
//
//     finite   out[b] = elements from the first NaN or infinity in x[2048·b, 2048·(b+1)) to the end of that range,
//              0 if all are finite
//
// x [len], f32 (a sampler's input) or T (frames), as the parameters say; out [len / 2048, rounded up], u32.
//
// A block checks 2,048 elements, eight in each thread: two vectors of four f32, one of eight T, or eight single
// elements in the ragged instance. Counted from the end, the usual result is 0, and the first such element gives the
// largest count. block_reduce finds that maximum exactly, because f32 holds whole numbers up to 2^24. So out needs no
// zeros before the launch, and the kernel no atomics.
//
// Bytes an element: 4 or 2 read.
//
// Block: 256 threads. Grid: len / 2048. Shared memory: 32 bytes.
// Limits: len a multiple of 8 (ragged: any number).

#include "common/reduce.cuh"
#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;
// elements of a thread
constexpr int EACH = 8;
constexpr int BLOCK = BLOCK_THREADS * EACH;

struct FiniteParams {
    const void *x;
    void *out;
    std::int64_t len;
    // 1 if x is f32, 0 if x is T
    std::int32_t single;
    std::int32_t padding;
};

// The elements from a thread's first value that is not finite to the end of the block's range.
template <typename T, int WIDTH> __device__ __forceinline__ float from_first(const T *x, std::int64_t len) {
    const std::int64_t start = static_cast<std::int64_t>(blockIdx.x) * BLOCK;
    float found = 0.0f;
#pragma unroll
    for (int step = 0; step < EACH / WIDTH; step++) {
        const int at = (step * BLOCK_THREADS + static_cast<int>(threadIdx.x)) * WIDTH;
        if (start + at < len) {
            const auto values = load_floats<WIDTH>(x + start + at);
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                // Every comparison with NaN is false.
                const bool is_finite = fabsf(values[i]) < INFINITY;
                found = is_finite ? found : fmaxf(found, static_cast<float>(BLOCK - at - i));
            }
        }
    }
    return found;
}

template <typename T, int WIDTH_SINGLE, int WIDTH> __device__ __forceinline__ void finite(const FiniteParams &p) {
    const float found = p.single != 0 ? from_first<float, WIDTH_SINGLE>(static_cast<const float *>(p.x), p.len)
                                      : from_first<T, WIDTH>(static_cast<const T *>(p.x), p.len);
    const float first = block_reduce<Max, BLOCK_THREADS>(found, reinterpret_cast<float *>(shared_memory()));
    if (threadIdx.x == 0) {
        store_global(static_cast<std::uint32_t *>(p.out) + blockIdx.x, static_cast<std::uint32_t>(first));
    }
}

} // namespace

KERNEL(finite_f16, BLOCK_THREADS, FiniteParams) { finite<f16, 4, 8>(p); }
KERNEL(finite_bf16, BLOCK_THREADS, FiniteParams) { finite<bf16, 4, 8>(p); }
KERNEL(finite_ragged_f16, BLOCK_THREADS, FiniteParams) { finite<f16, 1, 1>(p); }
KERNEL(finite_ragged_bf16, BLOCK_THREADS, FiniteParams) { finite<bf16, 1, 1>(p); }

KERNEL_FILE(finite);
