// Moments for LayerNorm: the mean of a row's 32 neighbouring columns, and M2, the sum of squared deviations from it.
// Linear layers leave them behind, and kernels/folded.cu combines them.
#pragma once

#include "ptx.cuh"
#include "reduce.cuh"
#include "vec.cuh"

// Columns whose moments are taken together; a row's last may be fewer. Not the width of a tile, so that the moments do
// not depend on the tile.
constexpr int MOMENT_COLUMNS = 32;
// Columns of a lane, and lanes that hold the columns together.
constexpr int LANE_COLUMNS = 8, MOMENT_LANES = MOMENT_COLUMNS / LANE_COLUMNS;

struct RowMoment {
    float mean, m2;
};

// The moments of the columns from `first` on, of a row with `columns` columns, a multiple of 8. Four neighbouring lanes
// hold them, eight values each as they are stored; `held`: whether this lane's columns are in the row. Whole warps call
// this.
__device__ __forceinline__ RowMoment row_moment(const Vec<float, LANE_COLUMNS> &values, bool held, int first,
                                                int columns CALL_SITE) {
    const auto sum = [&](float value) { return warp_reduce<Sum, MOMENT_LANES>(held ? value : 0.0f SAME_SITE); };
    const int left = columns - first, count = left < MOMENT_COLUMNS ? left : MOMENT_COLUMNS;
    float total = 0.0f, squares = 0.0f;
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        total += values[i];
    }
    // Exact for 8, 16 and 32 columns. A division would call a function, and M2 about a mean with an error is as good.
    const float mean = sum(total) * reciprocal_approx(static_cast<float>(count));
#pragma unroll
    for (int i = 0; i < LANE_COLUMNS; i++) {
        squares += (values[i] - mean) * (values[i] - mean);
    }
    return {mean, sum(squares)};
}
