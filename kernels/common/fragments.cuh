// Matrices of 16-bit elements in shared memory, and products of them by tensor cores.
#pragma once

#include "ptx.cuh"

// Elements in sixteen bytes, the unit of copies and of swizzling.
constexpr int CHUNK = 8;
// Sizes of one product.
constexpr int MMA_M = 16, MMA_N = 8, MMA_K = 16;

// The offset of a chunk in rows of CHUNKS, in elements. A line of the 32 banks holds eight chunks; the XOR puts chunk c
// of any eight neighbouring rows into eight different places of the line. So ldmatrix, stores of fragments and copies
// of whole rows have no bank conflicts.
template <int CHUNKS> __device__ __forceinline__ unsigned swizzled(unsigned row, unsigned chunk) {
    constexpr unsigned PHASES = CHUNKS % 8 == 0 ? 8 : CHUNKS % 4 == 0 ? 4 : 1;
    static_assert(PHASES > 1 || CHUNKS == 1, "made for rows of one chunk, or of a multiple of four");
    return (row * CHUNKS + (chunk ^ (row / (8 / PHASES) % PHASES))) * CHUNK;
}

// The sums of a warp, 16·M rows by 8·N columns, in the layout of mma_k16.
template <int M, int N> using Sums = float[M][N][4];

// sums += a·bᵀ; the rows of both have CHUNKS chunks. `a_rows[i]` is, for lane l, the place of row 16·i + l%16 of the
// left factor; the rows of b begin at `b_row`.
template <typename T, int CHUNKS, int M, int N>
__device__ __forceinline__ void multiply(Sums<M, N> &sums, const T *a, const int (&a_rows)[M], const T *b, int b_row) {
    static_assert(N == 1 || N % 2 == 0);
    const int lane = static_cast<int>(threadIdx.x % WARP_SIZE);
    b_row += lane % 8 + (N > 1 ? lane / 16 * 8 : 0);
#pragma unroll
    for (int k = 0; k < CHUNKS * CHUNK / MMA_K; k++) {
        std::uint32_t a_held[M][4], b_held[N][2];
        // Eight rows with both halves of k, then the next eight.
        const T *b_from = b + swizzled<CHUNKS>(b_row, 2 * k + lane / 8 % 2);
        if constexpr (N == 1) {
            ldmatrix_x2(b_held[0], b_from);
        } else {
#pragma unroll
            for (int j = 0; j < N; j += 2) {
                std::uint32_t two[4];
                ldmatrix_x4(two, b_from + j * MMA_N * CHUNKS * CHUNK);
                b_held[j][0] = two[0], b_held[j][1] = two[1], b_held[j + 1][0] = two[2], b_held[j + 1][1] = two[3];
            }
        }
#pragma unroll
        for (int i = 0; i < M; i++) {
            // Sixteen rows with the first half of k, then with the second.
            ldmatrix_x4(a_held[i], a + swizzled<CHUNKS>(a_rows[i], 2 * k + lane / 16));
        }
#pragma unroll
        for (int i = 0; i < M; i++) {
#pragma unroll
            for (int j = 0; j < N; j++) {
                mma_k16<T>(sums[i][j], a_held[i], b_held[j]);
            }
        }
    }
}
