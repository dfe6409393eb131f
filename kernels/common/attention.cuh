// Code that all kernels of attention share: the place of a head of a sequence, the copies of its tokens to shared
// memory, and the softmax over keys that arrive tile by tile.
#pragma once

#include "ptx.cuh"
#include "reduce.cuh"

// Parameters of the kernels of attention; attention_wide ignores bias, mask and rope.
struct AttentionParams {
    const void *q;
    const void *k;
    const void *v;
    void *out;
    const void *bias;
    const void *mask;
    const void *rope;
    std::int64_t q_outer;
    std::int64_t q_inner;
    std::int64_t q_token;
    std::int64_t k_outer;
    std::int64_t k_inner;
    std::int64_t k_token;
    std::int64_t v_outer;
    std::int64_t v_inner;
    std::int64_t v_token;
    std::int64_t out_outer;
    std::int64_t out_inner;
    std::int64_t out_token;
    // outer·inner·heads·tiles of queries
    std::int32_t tasks;
    std::int32_t inner;
    std::int32_t heads;
    std::int32_t head_dim;
    std::int32_t queries;
    std::int32_t keys;
    std::int32_t rope_group;
    float scale;
};

__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x % WARP_SIZE); }

// The head of a sequence that a block computes, and its first query.
struct Task {
    int outer, inner, head, first_query;

    // The task of an index. The index counts tiles of `tile` queries, heads and sequences; tiles vary fastest.
    static __device__ __forceinline__ Task at(int index, int queries, int tile, int heads, int inner) {
        const int tiles = (queries + tile - 1) / tile, sequence = index / tiles / heads;
        return {sequence / inner, sequence % inner, index / tiles % heads, index % tiles * tile};
    }

    // The first feature of the head in token 0.
    template <typename T>
    __device__ __forceinline__ T *start(T *base, std::int64_t outer_stride, std::int64_t inner_stride, int dim) const {
        return base + outer * outer_stride + inner * inner_stride + static_cast<std::int64_t>(head) * dim;
    }
};

// Starts to copy tokens from `first` on, of `tokens`, to ROWS rows of shared memory; missing rows become zeros. S
// describes the threads: THREADS of them, numbered by thread(). It also describes the rows: COLUMNS of sixteen bytes,
// PITCH elements to the next row. A thread stays in one column, so that one addition gives its next row.
template <int ROWS, typename S, typename T>
__device__ __forceinline__ void copy_tile(T *to, const T *from, std::int64_t stride, int first, int tokens,
                                          int head_dim) {
    constexpr int ROWS_AT_ONCE = S::THREADS / S::COLUMNS;
    // Whether every thread has the same number of rows, which the compiler cannot derive.
    constexpr bool EVEN = S::THREADS % S::COLUMNS == 0 && ROWS % ROWS_AT_ONCE == 0;
    const int first_row = S::thread() / S::COLUMNS, column = S::thread() % S::COLUMNS * 8;
    if (!EVEN && first_row == ROWS_AT_ONCE) {
        return;
    }
    const T *row_start = from + (first + first_row) * stride + column;
#pragma unroll
    for (int i = 0; i * ROWS_AT_ONCE < ROWS; i++, row_start += ROWS_AT_ONCE * stride) {
        const int row = first_row + i * ROWS_AT_ONCE;
        if (EVEN || row < ROWS) {
            const bool there = first + row < tokens && column < head_dim;
            cp_async_16(to + row * S::PITCH + column, there ? row_start : from, there ? 16 : 0);
        }
    }
}

// The softmax of 16 queries over the keys up to now. Scores arrive as products of 16 queries and 8 keys: element [i] of
// lane l is the score of query l/4 + 8·(i/2) and key 2·(l%4) + i%2. So a lane has the largest score of two queries, in
// units of log 2, and its share of their totals.
struct Softmax {
    float largest[2];
    float total[2];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            largest[half] = -INFINITY;
            total[half] = 0.0f;
        }
    }

    // Replaces scores of query `half` by 2^(factor·score − largest), where `largest` is the largest up to now. Returns
    // the factor for earlier sums: exactly 1 if the largest score has not changed.
    template <int TILES> __device__ __forceinline__ float weigh(float (&scores)[TILES][4], float factor, int half) {
        float tile_largest = -INFINITY;
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            tile_largest = fmaxf(tile_largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        }
        const float before = largest[half];
        largest[half] = fmaxf(before, warp_reduce<Max, 4>(tile_largest) * factor);
        // If all keys were masked up to now, nothing is subtracted: −∞ − (−∞) is NaN.
        const float origin = largest[half] == -INFINITY ? 0.0f : largest[half];
        const float fade = exp2_approx(before - origin);
        float tile_total = 0.0f;
#pragma unroll
        for (int n = 0; n < TILES; n++) {
#pragma unroll
            for (int i = 2 * half; i < 2 * half + 2; i++) {
                scores[n][i] = exp2_approx(scores[n][i] * factor - origin);
                tile_total += scores[n][i];
            }
        }
        total[half] = total[half] * fade + tile_total;
        return fade;
    }

    // 1 / the total of all lanes' shares.
    __device__ __forceinline__ float inverse(int half) const { return 1.0f / warp_reduce<Sum, 4>(total[half]); }
};

// Two neighbouring tiles of weights, rounded to T. Their layout in registers is already that of a left factor of 16
// columns.
template <typename T>
__device__ __forceinline__ void left_factor(std::uint32_t (&factor)[4], const float (&left)[4],
                                            const float (&right)[4]) {
    factor[0] = pack2<T>(left[0], left[1]);
    factor[1] = pack2<T>(left[2], left[3]);
    factor[2] = pack2<T>(right[0], right[1]);
    factor[3] = pack2<T>(right[2], right[3]);
}
