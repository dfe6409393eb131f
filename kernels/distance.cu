// How far two tensors lie apart.
//
//     distance   out[i] = (Σ|a − b|, Σ|b|) over the elements [16384·i, 16384·(i + 1))
//
// a, b [len], T; out [len / 16384, rounded up, 2], f32.
//
// A block adds 16,384 elements, 64 in each thread: eight vectors of each tensor, or single elements in the ragged
// instance. Neighbours load neighbours. A thread adds its terms in order, then block_reduce the threads' sums. So
// `len` alone decides the order, and a term passes at most 77 additions. The host adds the blocks' sums in f64, so there
// is no second launch, and no atomics.
//
// The transformer's first modulated input has 66 million elements at 221×512×512: 264 MB to read. They make 4,032
// blocks. An H100 holds 1,056 at a time, so the last wave costs little, and the host gets 32 KB and adds 8,064 numbers.
// Blocks of 2,048 elements would send it 258 KB, and would reduce once for each vector of a thread.
//
// Bytes an element: 4 read.
//
// Block: 256 threads. Grid: len / 16,384. Shared memory: 32 bytes.
// Limits: len a multiple of 8 (ragged: any number).

#include "common/reduce.cuh"
#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;
// elements of a thread
constexpr int EACH = 64;
constexpr int BLOCK = BLOCK_THREADS * EACH;

struct DistanceParams {
    const void *a;
    const void *b;
    void *out;
    std::int64_t len;
};

template <typename T, int WIDTH> __device__ __forceinline__ void distance(const DistanceParams &p) {
    const std::int64_t start = static_cast<std::int64_t>(blockIdx.x) * BLOCK;
    const int count = static_cast<int>(p.len - start < BLOCK ? p.len - start : BLOCK);
    const T *a = static_cast<const T *>(p.a) + start, *b = static_cast<const T *>(p.b) + start;
    float apart = 0.0f, size = 0.0f;
    // Two steps at a time: four loads are on their way, and registers still allow the most blocks.
#pragma unroll 2
    for (int at = static_cast<int>(threadIdx.x) * WIDTH; at < count; at += BLOCK_THREADS * WIDTH) {
        const auto from_a = load_packed<WIDTH>(a + at), from_b = load_packed<WIDTH>(b + at);
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
            apart += fabsf(from_a[i] - from_b[i]);
            size += fabsf(from_b[i]);
        }
    }
    float *scratch = reinterpret_cast<float *>(shared_memory());
    apart = block_reduce<Sum, BLOCK_THREADS>(apart, scratch);
    size = block_reduce<Sum, BLOCK_THREADS>(size, scratch);
    if (threadIdx.x == 0) {
        store_global(static_cast<Vec<float, 2> *>(p.out) + blockIdx.x, {apart, size});
    }
}

} // namespace

KERNEL(distance_f16, BLOCK_THREADS, DistanceParams) { distance<f16, 8>(p); }
KERNEL(distance_bf16, BLOCK_THREADS, DistanceParams) { distance<bf16, 8>(p); }
KERNEL(distance_ragged_f16, BLOCK_THREADS, DistanceParams) { distance<f16, 1>(p); }
KERNEL(distance_ragged_bf16, BLOCK_THREADS, DistanceParams) { distance<bf16, 1>(p); }

KERNEL_FILE(distance);
