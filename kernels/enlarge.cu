// A nearest 2× enlargement, folded into the weight of the 3×3 convolution behind it.
//
// Rows 2·y and 2·y + 1 of the enlarged frame are row y of the frame. So row 2·y + q of the convolution reads only two
// rows of the frame, y + q − 1 and y + q, and taps that read the same row become one tap, the sum of their weights:
//
//     q = 0:  row 0 | rows 1 + 2        q = 1:  rows 0 + 1 | row 2
//
// The same holds for columns, with r instead of q:
//
//     fold_enlargement   folded[(2·q + r)·cout + n, i, j, k, c] = Σ weight[n, i, y, x, c]    y of (q, j), x of (r, k)
//
// weight [cout, kt, 3, 3, cin], folded [4·cout, kt, 2, 2, cin], T. conv3d.cu multiplies by it.
//
// A thread takes the nine taps of a vector of channels, eight or one in the ragged instance, and makes their sixteen
// sums. Each is added in f32, row by row, and rounded once.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: cin a multiple of 8 (ragged: any); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;
constexpr int TAPS = 3, FOLDED_TAPS = 2, PHASES = 4;

struct FoldEnlargementParams {
    const void *weight;
    void *folded;
    // cout·kt
    std::int32_t rows;
    std::int32_t cin;
};

// In half q, the taps from first(q, j) to before first(q, j + 1) of rows or columns become tap j.
__device__ __forceinline__ constexpr int first(int q, int j) { return j == 0 ? 0 : j == 1 ? 1 + q : TAPS; }

template <typename T, int WIDTH> __device__ __forceinline__ void fold_enlargement(const FoldEnlargementParams &p) {
    const int vectors = p.cin / WIDTH;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<std::int64_t>(p.rows) * vectors) {
        return;
    }
    const std::int64_t row = index / vectors, channel = index % vectors * WIDTH;
    const T *from = static_cast<const T *>(p.weight) + row * TAPS * TAPS * p.cin + channel;
    Packed<T, WIDTH> taps[TAPS * TAPS];
#pragma unroll
    for (int tap = 0; tap < TAPS * TAPS; tap++) {
        taps[tap] = load_packed<WIDTH>(from + static_cast<std::int64_t>(tap) * p.cin);
    }
#pragma unroll
    for (int phase = 0; phase < PHASES; phase++) {
        const int q = phase / 2, r = phase % 2;
        const std::int64_t made = phase * static_cast<std::int64_t>(p.rows) + row;
        T *to = static_cast<T *>(p.folded) + made * FOLDED_TAPS * FOLDED_TAPS * p.cin + channel;
#pragma unroll
        for (int folded = 0; folded < FOLDED_TAPS * FOLDED_TAPS; folded++) {
            const int j = folded / FOLDED_TAPS, k = folded % FOLDED_TAPS;
            Vec<float, WIDTH> sums;
#pragma unroll
            for (int i = 0; i < WIDTH; i++) {
                // Added to −0, a single zero keeps its sign.
                sums[i] = -0.0f;
#pragma unroll
                for (int y = first(q, j); y < first(q, j + 1); y++) {
#pragma unroll
                    for (int x = first(r, k); x < first(r, k + 1); x++) {
                        sums[i] += taps[y * TAPS + x][i];
                    }
                }
            }
            store_floats<T>(to + static_cast<std::int64_t>(folded) * p.cin, sums);
        }
    }
}

} // namespace

KERNEL(fold_enlargement_f16, BLOCK_THREADS, FoldEnlargementParams) { fold_enlargement<f16, 8>(p); }
KERNEL(fold_enlargement_bf16, BLOCK_THREADS, FoldEnlargementParams) { fold_enlargement<bf16, 8>(p); }
KERNEL(fold_enlargement_ragged_f16, BLOCK_THREADS, FoldEnlargementParams) { fold_enlargement<f16, 1>(p); }
KERNEL(fold_enlargement_ragged_bf16, BLOCK_THREADS, FoldEnlargementParams) { fold_enlargement<bf16, 1>(p); }

KERNEL_FILE(enlarge);
