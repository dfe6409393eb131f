// Moments for GroupNorm: the mean, and M2, the sum of squared deviations from the mean.
#pragma once

#include "fragments.cuh"

struct Moment {
    float mean, m2;
};

// A tile of TILE_M rows is divided into parts of PART_ROWS rows, whose moments are taken first. This does not depend on
// the tile's columns, so the moments do not depend on the tile.
constexpr int PART_ROWS = 32;
template <int TILE_M> constexpr int PARTS = (TILE_M + PART_ROWS - 1) / PART_ROWS;

// to[g] = (mean, M2) of columns g·group to (g + 1)·group of a tile, over its first `rows` rows. The tile, TILE_M×TILE_N,
// lies swizzled in shared memory; its first `columns` columns count. All THREADS of a block call this; `scratch` has room
// for PARTS·TILE_N moments.
//
// A thread reads two columns of a part twice: for the means, then for the deviations from them. One thread combines the
// moments of a group, in order.
template <int THREADS, int TILE_M, int TILE_N, typename T>
__device__ __forceinline__ void store_moments(const T *tile, int rows, int columns, int group, Moment *scratch,
                                              Vec<float, 2> *to) {
    constexpr int PAIRS = TILE_N / 2;
    const int thread = static_cast<int>(threadIdx.x);
    const auto count = [&](int first) { return rows - first < PART_ROWS ? rows - first : PART_ROWS; };
    for (int item = thread; item < PAIRS * PARTS<TILE_M>; item += THREADS) {
        const int part = item / PAIRS, pair = item % PAIRS, first = part * PART_ROWS, end = first + count(first);
        const auto held = [&](int row) {
            const T *at = tile + swizzled<TILE_N / CHUNK>(row, pair / 4) + pair % 4 * 2;
            const auto values = *reinterpret_cast<const Vec<T, 2> *>(at);
            return Vec<float, 2>{to_float(values[0]), to_float(values[1])};
        };
        if (first >= rows) {
            break;
        }
        Moment moments[2] = {};
#pragma unroll 8
        for (int row = first; row < end; row++) {
            const auto values = held(row);
            moments[0].mean += values[0], moments[1].mean += values[1];
        }
        moments[0].mean /= static_cast<float>(end - first), moments[1].mean /= static_cast<float>(end - first);
#pragma unroll 8
        for (int row = first; row < end; row++) {
            const auto values = held(row);
            const float off[2] = {values[0] - moments[0].mean, values[1] - moments[1].mean};
            moments[0].m2 += off[0] * off[0], moments[1].m2 += off[1] * off[1];
        }
        scratch[part * TILE_N + 2 * pair] = moments[0];
        scratch[part * TILE_N + 2 * pair + 1] = moments[1];
    }
    __syncthreads();
    for (int g = thread; g * group < columns; g += THREADS) {
        const auto each = [&](auto visit) {
            for (int part = 0; part * PART_ROWS < rows; part++) {
                for (int i = 0; i < group; i++) {
                    visit(scratch[part * TILE_N + g * group + i], static_cast<float>(count(part * PART_ROWS)));
                }
            }
        };
        float mean = 0.0f, m2 = 0.0f;
        each([&](const Moment &moment, float count) { mean += count * moment.mean; });
        mean /= static_cast<float>(rows * group);
        each([&](const Moment &moment, float count) {
            m2 += moment.m2 + count * (moment.mean - mean) * (moment.mean - mean);
        });
        store_global(to + g, {mean, m2});
    }
}
