// Facts about a GPU that the other kernels rely on, one fact per kernel, to compare with the emulator's bits.
//
//     products   out = c + a·b by one instruction, on fragments
//     zero_fill  out = the first i % 17 bytes of 16, then zeros: asynchronous copies of fewer than 16 bytes
//     barriers   out = sums of values from the neighbouring warp; each half of a block has its own barrier
//
// products: a [tiles, 32, K / 4] and b [tiles, 32, K / 8] words of two T, c and out [tiles, 32, 4] f32, lane by lane as
// mma takes them. zero_fill: a [count, 4], out [count, 4], words. barriers: out [blocks, 256], f32.
//
// A warp makes a tile, and a thread makes a copy. The halves of a block pass their barriers a different number of
// times, so a barrier that served both would mix them up, or never end.
//
// Block: 256 threads. Grid: tiles / 8 (products), copies / 256 (zero_fill), blocks (barriers). Shared memory: 4 KiB
// (zero_fill), 1 KiB (barriers).
// Limits: tiles a multiple of 8, copies a multiple of 256.

#include "common/ptx.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;
constexpr int HALF_THREADS = BLOCK_THREADS / 2;

struct FactParams {
    const void *a;
    const void *b;
    const void *c;
    void *out;
};

// This thread's N words of a tile's fragment.
template <int N> __device__ __forceinline__ void load_fragment(const void *from, std::uint32_t (&words)[N]) {
    const auto thread = static_cast<std::int64_t>(blockIdx.x) * BLOCK_THREADS + threadIdx.x;
    const auto loaded = load_global(static_cast<const Vec<std::uint32_t, N> *>(from) + thread);
#pragma unroll
    for (int i = 0; i < N; i++) {
        words[i] = loaded[i];
    }
}

template <typename T, int K> __device__ __forceinline__ void product(const FactParams &p) {
    const auto thread = static_cast<std::int64_t>(blockIdx.x) * BLOCK_THREADS + threadIdx.x;
    std::uint32_t a[K / 4], b[K / 8];
    load_fragment(p.a, a);
    load_fragment(p.b, b);
    const auto before = load_global(static_cast<const Vec<float, 4> *>(p.c) + thread);
    float c[4] = {before[0], before[1], before[2], before[3]};
    if constexpr (K == 16) {
        mma_k16<T>(c, a, b);
    } else {
        mma_k8<T>(c, a, b);
    }
    store_global(static_cast<Vec<float, 4> *>(p.out) + thread, Vec<float, 4>{c[0], c[1], c[2], c[3]});
}

__device__ __forceinline__ void zero_fill(const FactParams &p) {
    using Words = Vec<std::uint32_t, 4>;
    const auto thread = static_cast<std::int64_t>(blockIdx.x) * BLOCK_THREADS + threadIdx.x;
    Words *const place = reinterpret_cast<Words *>(shared_memory()) + threadIdx.x;
    *place = Words{0xCBCBCBCB, 0xCBCBCBCB, 0xCBCBCBCB, 0xCBCBCBCB};
    cp_async_16(place, static_cast<const Words *>(p.a) + thread, threadIdx.x % 17);
    cp_async_commit();
    cp_async_wait<0>();
    store_global(static_cast<Words *>(p.out) + thread, *place);
}

__device__ __forceinline__ void barriers(const FactParams &p) {
    float *const values = reinterpret_cast<float *>(shared_memory());
    const bool first = threadIdx.x < HALF_THREADS;
    const unsigned base = first ? 0 : HALF_THREADS, place = threadIdx.x - base;
    const unsigned neighbour = base + (place + WARP_SIZE) % HALF_THREADS;
    float value = static_cast<float>(threadIdx.x);
    for (int round = 0; round < (first ? 100 : 37); round++) {
        values[threadIdx.x] = value;
        barrier_of_two<HALF_THREADS>(first);
        const float read = values[neighbour];
        barrier_of_two<HALF_THREADS>(first);
        value = 0.5f * value + read;
    }
    store_global(static_cast<float *>(p.out) + static_cast<std::int64_t>(blockIdx.x) * BLOCK_THREADS + threadIdx.x, value);
}

} // namespace

KERNEL(fact_product_k16_f16, BLOCK_THREADS, FactParams) { product<f16, 16>(p); }
KERNEL(fact_product_k16_bf16, BLOCK_THREADS, FactParams) { product<bf16, 16>(p); }
KERNEL(fact_product_k8_f16, BLOCK_THREADS, FactParams) { product<f16, 8>(p); }
KERNEL(fact_product_k8_bf16, BLOCK_THREADS, FactParams) { product<bf16, 8>(p); }
KERNEL(fact_zero_fill_f32, BLOCK_THREADS, FactParams) { zero_fill(p); }
KERNEL(fact_barriers_f32, BLOCK_THREADS, FactParams) { barriers(p); }

KERNEL_FILE(facts);
