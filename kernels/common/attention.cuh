// What all kernels of attention share: where a head of a sequence lies, how its tokens come to shared memory, and the
// softmax of keys that come tile by tile.
#pragma once

#include "ptx.cuh"
#include "reduce.cuh"

// What kernels of attention take; attention_wide leaves bias, mask and rope alone.
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

// The head of a sequence that is worked at, and the first query.
struct Task {
    int outer, inner, head, first_query;

    // The task of an index that counts tiles of `tile` queries of the heads of the sequences, tiles fastest.
    static __device__ __forceinline__ Task at(int index, int queries, int tile, int heads, int inner) {
        const int tiles = (queries + tile - 1) / tile, sequence = index / tiles / heads;
        return {sequence / inner, sequence % inner, index / tiles % heads, index % tiles * tile};
    }

    // The head's first feature of token 0.
    template <typename T>
    __device__ __forceinline__ T *start(T *base, std::int64_t outer_stride, std::int64_t inner_stride, int dim) const {
        return base + outer * outer_stride + inner * inner_stride + static_cast<std::int64_t>(head) * dim;
    }
};

// Starts to copy tokens `first`.. of `tokens` to ROWS of shared memory; zeros fill them up. S says who copies: THREADS
// that count themselves by thread(); and how a row lies there: COLUMNS of sixteen bytes, PITCH elements to the next. A
// thread stays in its column, so that an addition leads to its next row.
template <int ROWS, typename S, typename T>
__device__ __forceinline__ void copy_tile(T *to, const T *from, std::int64_t stride, int first, int tokens,
                                          int head_dim) {
    constexpr int ROWS_AT_ONCE = S::THREADS / S::COLUMNS;
    // Whether every thread has the same number of rows; the compiler does not see it.
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

// The scores that 16 queries have met so far. They come as products of 16 queries and 8 keys each: lane l holds in [i]
// that of query l/4 + 8·(i/2) and key 2·(l%4) + i%2. So a lane knows the largest of two queries, in units of log 2, and
// has its share of their totals.
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

    // Makes scores of query `half` 2^(factor·score − largest), where `largest` is the largest so far. Returns what sums
    // about an earlier one must be multiplied by: exactly 1 where there is no larger one.
    template <int TILES> __device__ __forceinline__ float weigh(float (&scores)[TILES][4], float factor, int half) {
        float tile_largest = -INFINITY;
#pragma unroll
        for (int n = 0; n < TILES; n++) {
            tile_largest = fmaxf(tile_largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
        }
        const float before = largest[half];
        largest[half] = fmaxf(before, warp_reduce<Max, 4>(tile_largest) * factor);
        // As long as all keys were masked nothing is subtracted: −∞ − (−∞) would not be a number.
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

// Two neighbouring tiles of weights, rounded to T, as they lie: a left factor of 16 columns.
template <typename T>
__device__ __forceinline__ void left_factor(std::uint32_t (&factor)[4], const float (&left)[4],
                                            const float (&right)[4]) {
    factor[0] = pack2<T>(left[0], left[1]);
    factor[1] = pack2<T>(left[2], left[3]);
    factor[2] = pack2<T>(right[0], right[1]);
    factor[3] = pack2<T>(right[2], right[3]);
}
