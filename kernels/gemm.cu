// Linear layers, with bias, activation, gate and addition fused.
//
//     y = f(x·Wᵀ + bias)    f: none, SiLU, GELU; or gated: GELU(u)·v, where W's first half gives u, its second half v
//     out = y,  out += y  or  out += gate·y
//
// x [rows, in_features], weight [out_features (gated: 2·out_features), in_features], bias [rows of the weight] or null,
// out [rows, out_features], all T. gate: row r reads its out_features values at
// ((first_row + r) / rows_per_gate)·gate_stride + gate_offset. For a part of a layer, the host moves the addresses.
//
// If a norm of x is folded into the weight (folded.cu), statistics [rows, 2] and columns [out_features, 2] apply it to
// the product, in place of the bias; else they are null. moments [rows, out_features / 32, 2], if not null, receives the
// moments of the result. All three are f32; neither goes with a gated activation.
//
// A block makes one tile of the product. Asynchronous copies load slices of x and W, TILE_K deep, into a ring of STAGES
// in shared memory, with zeros beyond the matrices' ends. A warp multiplies WARP_M×32 of the tile: ldmatrix loads the
// fragments, and mma.m16n8k16 multiplies them. The sums then pass through shared memory, from fragments to rows, so
// that bias, gate, old and new values move 16 bytes at a time; sums stay f32 until they are stored. Every kernel sums
// an element over ascending k, so neither the tile nor the number of rows changes a bit of it.
//
// Block: 256 threads (large), 128 (small, ragged). Grid: tiles of the product. Shared memory: 48 KiB, so that two
// blocks fit every multiprocessor. Limits: in_features a multiple of 8; ragged: any number.

#include "common/epilogue.cuh"

namespace {

struct GemmParams {
    const void *x;
    const void *weight;
    const void *bias;
    const void *gate;
    const void *statistics;
    const void *columns;
    void *moments;
    void *out;
    std::int32_t rows;
    std::int32_t in_features;
    std::int32_t out_features;
    std::int32_t activation;
    std::int32_t store;
    // Whether rows of out and gate start at multiples of 16 bytes.
    std::int32_t wide;
    std::int32_t rows_per_gate;
    std::int32_t gate_stride;
    std::int32_t gate_offset;
    std::int32_t first_row;
};

// A warp's columns of the tile.
constexpr int WARP_N = SLAB_N;
// Rows of a warp that pass through shared memory together.
constexpr int SLAB_ROWS = 32;
// Rows of tiles that neighbouring blocks walk through together.
constexpr int BAND = 8;

template <int M, int N, int K, int WARP_M_, int STAGES_> struct Tile {
    static constexpr int TILE_M = M, TILE_N = N, TILE_K = K, WARP_M = WARP_M_, STAGES = STAGES_;
    static constexpr int WARPS_N = TILE_N / WARP_N;
    static constexpr int WARPS = TILE_M / WARP_M * WARPS_N;
    static constexpr int THREADS = WARPS * static_cast<int>(WARP_SIZE);
    static constexpr int ROW_CHUNKS = TILE_K / CHUNK;
    static constexpr int STAGE = (TILE_M + TILE_N) * TILE_K;
    static_assert(STAGES * STAGE * sizeof(f16) == 48 << 10, "what src/cuda/gemm.rs gives every kernel");
    static_assert(WARPS * SLAB_ROWS * WARP_N * sizeof(float) <= 48 << 10, "slabs take the place of the stages");
};
// 64 accumulators a thread leave registers for two blocks on a multiprocessor, which hide each other's stores.
using Large = Tile<128, 128, 32, 64, 3>;
constexpr Bounds LARGE(Large::THREADS, 2);
// For few rows, where reading the weight takes longest. Small tiles make more blocks, and deep slices make longer
// reads.
using Small = Tile<64, 64, 64, 32, 3>;
// Without this, the compiler spills a register on sm_120 for a fifth block, which shared memory has no room for.
constexpr Bounds RAGGED(Small::THREADS, 3);

// One thread's share of the loads of slices of ROWS rows of x or W: the same chunk of every STRIDE-th row.
template <typename T, typename Shape, int ROWS, bool RAGGED> class Source {
    static constexpr int STRIDE = Shape::THREADS / Shape::ROW_CHUNKS, COUNT = ROWS / STRIDE;
    static_assert(ROWS % STRIDE == 0 && STRIDE % 8 == 0, "whole passes, which keep the phase of the swizzle");

    const T *rows[COUNT];
    // Bit i: whether row i is in the matrix. If not, its pointer is to the matrix's first row, and nothing is read.
    unsigned inside = 0;
    int in_features, chunk, to;

  public:
    // `place(row)` is the row of the matrix for a slice's row, or −1.
    template <typename Place>
    __device__ __forceinline__ Source(const void *matrix, int in_features, Place place) : in_features(in_features) {
        const int row = static_cast<int>(threadIdx.x) / Shape::ROW_CHUNKS;
        chunk = static_cast<int>(threadIdx.x) % Shape::ROW_CHUNKS;
        to = swizzled<Shape::ROW_CHUNKS>(row, chunk);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int at = place(row + i * STRIDE);
            rows[i] = static_cast<const T *>(matrix);
            if (at >= 0) {
                rows[i] += static_cast<std::int64_t>(at) * in_features;
                inside |= 1u << i;
            }
        }
    }

    // Starts to load the slice that begins at step `k`.
    __device__ __forceinline__ void bring(T *slice, int k) const {
        k += chunk * CHUNK;
        const unsigned here = k < in_features ? inside : 0;
        const int from = k < in_features ? k : 0;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            T *at = slice + to + i * STRIDE * Shape::TILE_K;
            const bool wanted = (here >> i & 1) != 0;
            if constexpr (RAGGED) {
                Vec<T, CHUNK> values;
#pragma unroll
                for (int j = 0; j < CHUNK; j++) {
                    values[j] = wanted && k + j < in_features ? load_global(rows[i] + k + j) : from_float<T>(0.0f);
                }
                *reinterpret_cast<Vec<T, CHUNK> *>(at) = values;
            } else {
                cp_async_16(at, rows[i] + from, wanted ? 16 : 0);
            }
        }
    }
};

// A warp's sums: [rows / 16][columns / 8] fragments of mma_k16.
template <typename Shape> using TileSums = Sums<Shape::WARP_M / MMA_M, WARP_N / MMA_N>;

// The places of a lane's rows of fragments in a stage.
template <typename Shape> struct FragmentRows {
    static constexpr int STEPS = Shape::TILE_K / MMA_K;
    int x[STEPS], weight[STEPS];

    // The warp's rows of x and of W begin at `x_start` and `weight_start`.
    __device__ __forceinline__ FragmentRows(int x_start, int weight_start) {
        const int lane = static_cast<int>(threadIdx.x % WARP_SIZE);
#pragma unroll
        for (int k = 0; k < STEPS; k++) {
            // Rows 0 to 15 with the first half of k, then rows 0 to 15 with the second half.
            x[k] = swizzled<Shape::ROW_CHUNKS>(x_start + lane % 16, 2 * k + lane / 16);
            // Rows 0 to 7 with both halves of k, then rows 8 to 15.
            const int row = Shape::TILE_M + weight_start + lane / 16 * 8 + lane % 8;
            weight[k] = swizzled<Shape::ROW_CHUNKS>(row, 2 * k + lane / 8 % 2);
        }
    }
};

// sums += the product of a warp's rows in a stage.
template <typename T, typename Shape>
__device__ __forceinline__ void multiply_stage(TileSums<Shape> &sums, const T *stage, const FragmentRows<Shape> &rows) {
    constexpr int FRAGMENTS_M = Shape::WARP_M / MMA_M, FRAGMENTS_N = WARP_N / MMA_N;
#pragma unroll
    for (int k = 0; k < FragmentRows<Shape>::STEPS; k++) {
        std::uint32_t a[FRAGMENTS_M][4], b[FRAGMENTS_N / 2][4];
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N / 2; j++) {
            ldmatrix_x4(b[j], stage + rows.weight[k] + j * 2 * MMA_N * Shape::TILE_K);
        }
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) {
            ldmatrix_x4(a[i], stage + rows.x[k] + i * MMA_M * Shape::TILE_K);
        }
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) {
#pragma unroll
            for (int j = 0; j < FRAGMENTS_N; j++) {
                const std::uint32_t half[2] = {b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]};
                mma_k16<T>(sums[i][j], a[i], half);
            }
        }
    }
}

// Moves a warp's sums from fragments to rows through its own `slab`, applies the fused operations, and stores the
// results. `row` and `column` are the warp's first ones in `out`.
template <typename T, typename Shape, bool GATED>
__device__ __forceinline__ void store_sums(const GemmParams &p, const TileSums<Shape> &sums, float *slab, int row,
                                           int column) {
    using Columns = SlabColumns<T, GATED>;
    const Columns columns(p, column);
#pragma unroll
    for (int start = 0; start < Shape::WARP_M; start += SLAB_ROWS) {
#pragma unroll
        for (int i = 0; i < SLAB_ROWS; i += MMA_M) {
            write_fragments(slab + i * SLAB_N, sums[(start + i) / MMA_M]);
        }
        __syncwarp();
#pragma unroll 1
        for (int at = 0; at < SLAB_ROWS; at += Columns::PASS) {
            columns.finish_rows(p, slab, at, row + start + at);
        }
        __syncwarp();
    }
}

template <typename T, typename Shape, bool RAGGED> __device__ __forceinline__ void linear(const GemmParams &p) {
    const bool gated = p.activation == ACTIVATION_GATED_GELU;
    // Columns of `out` that a tile and a warp make. Gated, half of a tile's columns belong to u and half to v.
    const int tile_columns = gated ? Shape::TILE_N / 2 : Shape::TILE_N, warp_columns = gated ? WARP_N / 2 : WARP_N;

    // Blocks go down a band of tiles, then to the next column. So blocks that run together share rows of x and of W in
    // the second-level cache, and if x is one band, W is read once.
    const int tiles_m = (p.rows + Shape::TILE_M - 1) / Shape::TILE_M;
    const int tiles_n = (p.out_features + tile_columns - 1) / tile_columns;
    const int index = static_cast<int>(blockIdx.x), band_tiles = BAND * tiles_n;
    const int band = index / band_tiles, in_band = index % band_tiles;
    const int rows_left = tiles_m - band * BAND, band_rows = rows_left < BAND ? rows_left : BAND;
    const int tile_row = (band * BAND + in_band % band_rows) * Shape::TILE_M;
    const int tile_column = in_band / band_rows * tile_columns;

    const Source<T, Shape, Shape::TILE_M, RAGGED> x(p.x, p.in_features, [&](int row) {
        return tile_row + row < p.rows ? tile_row + row : -1;
    });
    // Gated, a warp has u and v of the same columns in the two halves of its columns, and a thread in its fragments.
    const Source<T, Shape, Shape::TILE_N, RAGGED> weight(p.weight, p.in_features, [&](int row) {
        const int column = tile_column + row / WARP_N * warp_columns + row % warp_columns;
        const bool second = row % WARP_N >= warp_columns;
        return column < p.out_features ? column + (second ? p.out_features : 0) : -1;
    });

    T *stages = reinterpret_cast<T *>(shared_memory());
    const auto bring = [&](T *stage, int k) {
        if (k < p.in_features) {
            x.bring(stage, k);
            weight.bring(stage + Shape::TILE_M * Shape::TILE_K, k);
        }
        // Behind the end the group is empty, so that the wait can still count groups.
        cp_async_commit();
    };

    const int warp = static_cast<int>(threadIdx.x / WARP_SIZE);
    const int warp_m = warp / Shape::WARPS_N, warp_n = warp % Shape::WARPS_N;
    const int row = tile_row + warp_m * Shape::WARP_M, column = tile_column + warp_n * warp_columns;
    // A warp beyond the edge multiplies nothing, and only helps to load slices.
    const bool useful = row < p.rows && column < p.out_features;
    const FragmentRows<Shape> fragments(warp_m * Shape::WARP_M, warp_n * WARP_N);

    TileSums<Shape> sums{};
#pragma unroll
    for (int step = 0; step < Shape::STAGES - 1; step++) {
        bring(stages + step * Shape::STAGE, step * Shape::TILE_K);
    }
    // This step's stage, the ring's last stage, and the stage of the step before.
    T *stage = stages, *const last = stages + (Shape::STAGES - 1) * Shape::STAGE, *used = last;
#pragma unroll 1
    for (int k = 0; k < p.in_features; k += Shape::TILE_K) {
        // This step's slices have arrived, and all warps are done with the step before, so its stage can be refilled.
        cp_async_wait<Shape::STAGES - 2>();
        __syncthreads();
        bring(used, k + (Shape::STAGES - 1) * Shape::TILE_K);
        if (useful) {
            multiply_stage<T, Shape>(sums, stage, fragments);
        }
        used = stage;
        stage = stage == last ? stages : stage + Shape::STAGE;
    }
    // The slabs replace the stages in shared memory.
    __syncthreads();
    if (useful) {
        float *slab = reinterpret_cast<float *>(shared_memory()) + warp * SLAB_ROWS * WARP_N;
        if (gated) {
            store_sums<T, Shape, true>(p, sums, slab, row, column);
        } else {
            store_sums<T, Shape, false>(p, sums, slab, row, column);
        }
    }
}

} // namespace

KERNEL(linear_large_f16, LARGE, GemmParams) { linear<f16, Large, false>(p); }
KERNEL(linear_large_bf16, LARGE, GemmParams) { linear<bf16, Large, false>(p); }
KERNEL(linear_small_f16, Small::THREADS, GemmParams) { linear<f16, Small, false>(p); }
KERNEL(linear_small_bf16, Small::THREADS, GemmParams) { linear<bf16, Small, false>(p); }
KERNEL(linear_ragged_f16, RAGGED, GemmParams) { linear<f16, Small, true>(p); }
KERNEL(linear_ragged_bf16, RAGGED, GemmParams) { linear<bf16, Small, true>(p); }

KERNEL_FILE(gemm);
