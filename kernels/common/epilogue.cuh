// What a linear layer does with its sums: norm or bias, activation, gate, addition, moments. Sums pass through shared
// memory, from the fragments of products to rows, so that bias, gate, old and new values move 16 bytes at a time. They
// stay f32 until they are stored.
//
// `Params` is a kernel's struct with the fields bias, gate, statistics, columns, moments, out, rows, out_features,
// activation, store, wide, rows_per_gate, gate_stride, gate_offset and first_row (kernels/gemm.cu).
#pragma once

#include "activation.cuh"
#include "fragments.cuh"
#include "row_moments.cuh"

// Values of `activation` and `store`. All threads branch the same way, so one kernel serves all values.
enum Activation : std::int32_t { ACTIVATION_NONE, ACTIVATION_SILU, ACTIVATION_GELU, ACTIVATION_GATED_GELU };
enum Store : std::int32_t { STORE_OVERWRITE, STORE_ADD, STORE_ADD_GATED };

// Columns of a slab: a warp's sums on the way to rows.
constexpr int SLAB_N = 32;

// The place of four neighbouring sums in a slab, in floats. A row covers all banks once. Half a warp writes two such
// fours of four rows, in pairs; a quarter of a warp reads every other four of two rows (gated: two fours of four rows).
// The XOR spreads both over all banks.
__device__ __forceinline__ int slab_at(int row, int four) {
    return row * SLAB_N + (four ^ ((row % 4) * 2 + row % 2)) * 4;
}

// Writes 16 rows of fragments, as mma_k16 gives them, to a slab.
__device__ __forceinline__ void write_fragments(float *slab, const float (&sums)[SLAB_N / MMA_N][4]) {
    const int lane = static_cast<int>(threadIdx.x % WARP_SIZE);
    // A pair is half of four neighbours.
    const int pair = lane % 4;
#pragma unroll
    for (int j = 0; j < SLAB_N / MMA_N; j++) {
        float *to = slab + slab_at(lane / 4, 2 * j + pair / 2) + pair % 2 * 2;
        *reinterpret_cast<Vec<float, 2> *>(to) = {sums[j][0], sums[j][1]};
        // Eight rows further, the swizzle has the same phase.
        *reinterpret_cast<Vec<float, 2> *>(to + 8 * SLAB_N) = {sums[j][2], sums[j][3]};
    }
}

using Eight = Vec<float, CHUNK>;
using Pair = Vec<float, 2>;

// Eight values; unless `wide`, only the first `count`.
template <typename T> __device__ __forceinline__ Eight load_eight(const T *from, int count, bool wide) {
    if (wide) {
        return load_floats<CHUNK>(from);
    }
    Eight values{};
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        if (i < count) {
            values[i] = to_float(load_global(from + i));
        }
    }
    return values;
}

template <typename T> __device__ __forceinline__ void store_eight(T *to, const Eight &values, int count, bool wide) {
    if (wide) {
        store_floats<T>(to, values);
        return;
    }
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        if (i < count) {
            store_global(to + i, from_float<T>(values[i]));
        }
    }
}

__device__ __forceinline__ Eight load_sums(const float *slab, int row, int eight) {
    Eight sums;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const auto four = *reinterpret_cast<const Vec<float, 4> *>(slab + slab_at(row, 2 * eight + half));
#pragma unroll
        for (int i = 0; i < 4; i++) {
            sums[4 * half + i] = four[i];
        }
    }
    return sums;
}

// Adds, as the layer asks, and stores the results of eight columns of a row, or of those that are left. `y` then has the
// stored results before they are rounded.
template <typename T, typename Params>
__device__ __forceinline__ void finish(const Params &p, int row, int column, Eight &y) {
    const int count = p.out_features - column;
    T *out = static_cast<T *>(p.out) + static_cast<std::int64_t>(row) * p.out_features + column;
    if (p.store != STORE_OVERWRITE) {
        if (p.store == STORE_ADD_GATED) {
            const std::int64_t sample = (row + p.first_row) / p.rows_per_gate;
            const T *gate = static_cast<const T *>(p.gate) + sample * p.gate_stride + p.gate_offset + column;
            const Eight factors = load_eight(gate, count, p.wide);
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                y[i] *= factors[i];
            }
        }
        const Eight before = load_eight(out, count, p.wide);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            y[i] += before[i];
        }
    }
    store_eight(out, y, count, p.wide);
}

// One lane's eight columns of a slab's rows. Gated, the slab's first half has u and its second v of the same columns.
template <typename T, bool GATED> struct SlabColumns {
    static constexpr int COLUMNS = GATED ? SLAB_N / 2 : SLAB_N, ROW_LANES = COLUMNS / CHUNK;
    // Rows that a warp takes at a time.
    static constexpr int PASS = static_cast<int>(WARP_SIZE) / ROW_LANES;
    static_assert(GATED || (COLUMNS == MOMENT_COLUMNS && CHUNK == LANE_COLUMNS), "a row of a slab has one moment");

    int first, eight, row, column;
    // What is added to sums, for v, and what a folded norm multiplies with the row's mean.
    Eight bias{}, gated_bias{}, sums{};

    // `first` is the slab's first column in `out`.
    template <typename Params> __device__ __forceinline__ SlabColumns(const Params &p, int first) : first(first) {
        const int lane = static_cast<int>(threadIdx.x % WARP_SIZE);
        eight = lane % ROW_LANES, row = lane / ROW_LANES, column = first + eight * CHUNK;
        const int count = p.out_features - column;
        if (!GATED && p.columns != nullptr) {
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                if (i < count) {
                    const Pair pair = load_global(static_cast<const Pair *>(p.columns) + column + i);
                    sums[i] = pair[0], bias[i] = pair[1];
                }
            }
        } else if (p.bias != nullptr && count > 0) {
            const T *from = static_cast<const T *>(p.bias) + column;
            bias = load_eight(from, count, p.wide);
            if constexpr (GATED) {
                gated_bias = load_eight(from + p.out_features, count, p.wide);
            }
        }
    }

    // Finishes PASS rows of the slab from row `at` on, which is `to` in `out`. Whole warps call this, also for rows
    // behind the last.
    template <typename Params>
    __device__ __forceinline__ void finish_rows(const Params &p, const float *slab, int at, int to) const {
        at += row, to += row;
        const bool held = to < p.rows && column < p.out_features;
        Eight y{};
        if (held) {
            y = activated(p, slab, at, to);
            finish<T>(p, to, column, y);
        }
        if constexpr (!GATED) {
            if (p.moments != nullptr) {
                store_moment(p, y, held, to);
            }
        }
    }

  private:
    // Eight results before gate and addition.
    template <typename Params>
    __device__ __forceinline__ Eight activated(const Params &p, const float *slab, int at, int to) const {
        Eight y = load_sums(slab, at, eight);
        if (!GATED && p.statistics != nullptr) {
            const Pair statistics = load_global(static_cast<const Pair *>(p.statistics) + to);
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                y[i] = (y[i] - statistics[0] * sums[i]) * statistics[1] + bias[i];
            }
        } else {
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                y[i] += bias[i];
            }
        }
        if constexpr (GATED) {
            const Eight v = load_sums(slab, at, ROW_LANES + eight);
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                y[i] = gelu_tanh(y[i]) * (v[i] + gated_bias[i]);
            }
        } else if (p.activation == ACTIVATION_SILU) {
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                y[i] = silu(y[i]);
            }
        } else if (p.activation == ACTIVATION_GELU) {
#pragma unroll
            for (int i = 0; i < CHUNK; i++) {
                y[i] = gelu_tanh(y[i]);
            }
        }
        return y;
    }

    // Stores the moments of a row of the slab, for the norm behind this layer. They are those of the stored values.
    template <typename Params>
    __device__ __forceinline__ void store_moment(const Params &p, const Eight &y, bool held, int to) const {
        Eight stored;
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            stored[i] = to_float(from_float<T>(y[i]));
        }
        const RowMoment moment = row_moment(stored, held, first, p.out_features);
        if (held && eight == 0) {
            const int groups = (p.out_features + MOMENT_COLUMNS - 1) / MOMENT_COLUMNS;
            const auto index = static_cast<std::int64_t>(to) * groups + first / MOMENT_COLUMNS;
            store_global(static_cast<Pair *>(p.moments) + index, {moment.mean, moment.m2});
        }
    }
};
