// A LayerNorm with scale and shift, folded into the linear layer behind it. With mean µ and inverse deviation r of a row
// h, and a layer of weight W and bias b:
//
//     W·((h − µ)·r·(1 + scale) + shift) + b = r·(W'·h − µ·sums) + offsets
//     W' = W·(1 + scale) by columns,  sums = the sums of the rows of W',  offsets = W·shift + b
//
// So the layer multiplies h itself, and its epilogue applies the norm (common/epilogue.cuh). sums are those of W' as it
// is stored: a mean far from zero then cancels but for the rounding of f32 sums.
//
//     row_moments      moments[row][g] = (mean, M2) of columns 32·g to 32·(g + 1)    see common/row_moments.cuh
//     row_statistics   statistics[row] = (mean, 1 / √(variance + eps))
//     fold_norm        folded = W', columns[n] = (sums[n], offsets[n])
//
// x [rows, channels], weight and folded [out_features, in_features], bias [out_features] or null, T. modulation, T: its
// scale and its shift of in_features elements begin at scale_offset and shift_offset. moments [rows, groups, 2],
// statistics [rows, 2], columns [out_features, 2], f32.
//
// A row's sums are taken by one warp, in an order that `channels` alone decides.
//
// Block: 256 threads. Grid: a thread for 8 columns of a row, in whole groups (moments); rows / 8 (statistics);
// out_features / 8 (fold). Shared memory: none. Limits: channels and in_features multiples of 8.

#include "common/row_moments.cuh"

namespace {

constexpr int BLOCK_THREADS = 256, BLOCK_WARPS = BLOCK_THREADS / static_cast<int>(WARP_SIZE);
constexpr int CHUNK = 8;
using Pair = Vec<float, 2>;

struct RowMomentsParams {
    const void *x;
    void *moments;
    std::int32_t rows;
    std::int32_t channels;
    std::int32_t groups;
    std::int32_t padding;
};

struct RowStatisticsParams {
    const void *moments;
    void *statistics;
    std::int32_t rows;
    std::int32_t channels;
    std::int32_t groups;
    float eps;
};

struct FoldNormParams {
    const void *weight;
    const void *bias;
    const void *modulation;
    void *folded;
    void *columns;
    std::int32_t in_features;
    std::int32_t out_features;
    std::int32_t shift_offset;
    std::int32_t scale_offset;
};

// The row of this warp, and the thread's lane.
__device__ __forceinline__ int warp_row() {
    return static_cast<int>(blockIdx.x) * BLOCK_WARPS + static_cast<int>(threadIdx.x / WARP_SIZE);
}
__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % WARP_SIZE); }

template <typename T> __device__ __forceinline__ void row_moments(const RowMomentsParams &p) {
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * BLOCK_THREADS + threadIdx.x;
    const int lanes = p.groups * MOMENT_LANES, lane = static_cast<int>(index % lanes);
    const std::int64_t row = index / lanes;
    const int column = lane * LANE_COLUMNS, group = lane / MOMENT_LANES;
    const bool held = row < p.rows && column < p.channels;
    Vec<float, LANE_COLUMNS> values{};
    if (held) {
        values = load_floats<LANE_COLUMNS>(static_cast<const T *>(p.x) + row * p.channels + column);
    }
    const RowMoment moment = row_moment(values, held, group * MOMENT_COLUMNS, p.channels);
    if (row < p.rows && lane % MOMENT_LANES == 0) {
        store_global(static_cast<Pair *>(p.moments) + row * p.groups + group, {moment.mean, moment.m2});
    }
}

__device__ __forceinline__ void row_statistics(const RowStatisticsParams &p) {
    const int row = warp_row(), lane = lane_index();
    // A whole warp takes this branch.
    if (row >= p.rows) {
        return;
    }
    const Pair *moments = static_cast<const Pair *>(p.moments) + static_cast<std::int64_t>(row) * p.groups;
    const auto each = [&](auto visit) {
        float sum = 0.0f;
        for (int group = lane; group < p.groups; group += static_cast<int>(WARP_SIZE)) {
            const int left = p.channels - group * MOMENT_COLUMNS;
            sum += visit(load_global(moments + group), static_cast<float>(left < MOMENT_COLUMNS ? left : MOMENT_COLUMNS));
        }
        return warp_sum(sum) / static_cast<float>(p.channels);
    };
    const float mean = each([&](const Pair &moment, float count) { return count * moment[0]; });
    const float variance = each([&](const Pair &moment, float count) {
        return moment[1] + count * (moment[0] - mean) * (moment[0] - mean);
    });
    if (lane == 0) {
        store_global(static_cast<Pair *>(p.statistics) + row, {mean, rsqrtf(variance + p.eps)});
    }
}

template <typename T> __device__ __forceinline__ void fold_norm(const FoldNormParams &p) {
    const int row = warp_row();
    if (row >= p.out_features) {
        return;
    }
    const auto first = static_cast<std::int64_t>(row) * p.in_features;
    const T *weight = static_cast<const T *>(p.weight) + first;
    const T *scale = static_cast<const T *>(p.modulation) + p.scale_offset;
    const T *shift = static_cast<const T *>(p.modulation) + p.shift_offset;
    T *folded = static_cast<T *>(p.folded) + first;
    float sum = 0.0f, offset = 0.0f;
    for (int at = lane_index() * CHUNK; at < p.in_features; at += CHUNK * static_cast<int>(WARP_SIZE)) {
        const auto w = load_packed<CHUNK>(weight + at), factor = load_packed<CHUNK>(scale + at);
        const auto added = load_packed<CHUNK>(shift + at);
        Vec<T, CHUNK> scaled;
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            scaled[i] = from_float<T>(w[i] * (1.0f + factor[i]));
            sum += to_float(scaled[i]);
            offset += w[i] * added[i];
        }
        store_global(reinterpret_cast<Vec<T, CHUNK> *>(folded + at), scaled);
    }
    sum = warp_sum(sum), offset = warp_sum(offset);
    if (lane_index() == 0) {
        if (p.bias != nullptr) {
            offset += to_float(load_global(static_cast<const T *>(p.bias) + row));
        }
        store_global(static_cast<Pair *>(p.columns) + row, {sum, offset});
    }
}

} // namespace

KERNEL(row_moments_f16, BLOCK_THREADS, RowMomentsParams) { row_moments<f16>(p); }
KERNEL(row_moments_bf16, BLOCK_THREADS, RowMomentsParams) { row_moments<bf16>(p); }
KERNEL(row_statistics_f32, BLOCK_THREADS, RowStatisticsParams) { row_statistics(p); }
KERNEL(fold_norm_f16, BLOCK_THREADS, FoldNormParams) { fold_norm<f16>(p); }
KERNEL(fold_norm_bf16, BLOCK_THREADS, FoldNormParams) { fold_norm<bf16>(p); }

KERNEL_FILE(folded);
