// Whether values are numbers.
//
//     finite   out[b] = elements from the first of x[2048·b, 2048·(b+1)) that is NaN or infinite to the end of that range,
//              0 if all of them are finite
//
// x [len], f32 (what a sampler is given) or T (frames), as the parameters say; out [len / 2048, rounded up], u32.
//
// A block looks at 2,048 elements, eight a thread: two vectors of four f32, one of eight T, or eight single elements in the
// ragged instance. Counting from the end makes 0 the usual answer, and the first place the largest one: block_reduce finds
// it exactly, since f32 holds whole numbers up to 2^24. Nothing has to be set to zero before, and no atomic is needed.
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
    // x is f32, not T
    std::int32_t single;
    std::int32_t padding;
};

// Elements from a thread's first value that is not finite to the end of the block's.
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
                // Of NaN no comparison is true.
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
