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
// in shared memory, with zeros beyond the rows' ends. A warp multiplies WARP_M×WARP_N of the tile: ldmatrix loads the
// fragments, and mma.m16n8k16 multiplies them. The sums then pass through shared memory, from fragments to rows, so
// that bias, gate, old and new values move 16 bytes at a time; sums stay f32 until they are stored. Every kernel sums
// an element over ascending k, so neither the tile nor the number of rows changes a bit of it.
//
// Block: 128 threads. Grid: tiles of the product. Shared memory: 48 KiB, so that two blocks fit every multiprocessor;
// broad: 80 KiB, of which two fit 8.0, 9.0 and 10.0. Limits: in_features a multiple of 8; ragged: any number.

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

constexpr int THREADS = 128;
// Rows of a warp that pass through shared memory together.
constexpr int SLAB_ROWS = 32;
// Rows of tiles that neighbouring blocks walk through together.
constexpr int BAND = 8;

template <int M, int N, int K, int WARP_M_, int WARP_N_, int STAGES_> struct Tile {
    static constexpr int TILE_M = M, TILE_N = N, TILE_K = K, WARP_M = WARP_M_, WARP_N = WARP_N_, STAGES = STAGES_;
    static constexpr int WARPS_N = TILE_N / WARP_N;
    static constexpr int WARPS = TILE_M / WARP_M * WARPS_N;
    static constexpr int ROW_CHUNKS = TILE_K / CHUNK;
    static constexpr int STAGE = (TILE_M + TILE_N) * TILE_K;
    static constexpr int SHARED_BYTES = STAGES * STAGE * static_cast<int>(sizeof(f16));
    static_assert(WARPS * static_cast<int>(WARP_SIZE) == THREADS);
    static_assert(WARP_N % SLAB_N == 0 && THREADS * SLAB_ROWS / WARP_SIZE * WARP_N * sizeof(float) <= SHARED_BYTES,
                  "slabs take the place of the stages");
};
// The larger a warp's share, the less it reads from shared memory for each product. Two blocks on a multiprocessor,
// which hide each other's stores, leave 255 registers a thread for the 192 sums of a share of 64×96.
using Broad = Tile<128, 192, 32, 64, 96, 4>;
static_assert(Broad::SHARED_BYTES == 80 << 10, "as in src/cuda/gemm/mod.rs");
// For GPUs whose multiprocessors have no room for two broad blocks, and where broad tiles fill the last wave badly.
using Large = Tile<128, 128, 32, 64, 64, 3>;
// For few rows, where reading the weight takes longest. Small tiles make more blocks, and deep slices make longer
// reads.
using Small = Tile<64, 64, 64, 32, 32, 3>;
static_assert(Large::SHARED_BYTES == 48 << 10 && Small::SHARED_BYTES == 48 << 10, "as in src/cuda/gemm/mod.rs");
constexpr Bounds TWO_BLOCKS(THREADS, 2);

// The chunk of a slice's rows that a thread loads.
template <typename Shape> __device__ __forceinline__ int chunk_of_thread() {
    return static_cast<int>(threadIdx.x) % Shape::ROW_CHUNKS;
}

// One thread's share of the loads of slices of ROWS rows of x or W: the same chunk of every STRIDE-th row.
template <typename T, typename Shape, int ROWS, bool RAGGED> class Source {
    static constexpr int STRIDE = THREADS / Shape::ROW_CHUNKS, COUNT = ROWS / STRIDE;
    static_assert(ROWS % STRIDE == 0 && STRIDE % 8 == 0, "whole passes, which keep the phase of the swizzle");
    // Elements of a unit in which offsets count: 32 bits then suffice for weights of 64 GiB (ragged: 8 GiB).
    static constexpr int UNIT = RAGGED ? 1 : CHUNK;

    // The thread's chunk of the next slice in a row of the matrix, and from there those in the thread's rows.
    const T *from;
    unsigned offsets[COUNT];
    int to;

  public:
    // `place(row)` is where the slice's row is in the matrix, counted from row `first`. Beyond the matrix's end, any
    // row will do, because the sums made of it are not stored.
    template <typename Place>
    __device__ __forceinline__ Source(const void *matrix, int in_features, int first, Place place) {
        const int row = static_cast<int>(threadIdx.x) / Shape::ROW_CHUNKS, chunk = chunk_of_thread<Shape>();
        to = swizzled<Shape::ROW_CHUNKS>(row, chunk);
        from = static_cast<const T *>(matrix) + static_cast<std::int64_t>(first) * in_features;
        from += chunk * CHUNK < in_features ? chunk * CHUNK : 0;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            offsets[i] = static_cast<unsigned>(place(row + i * STRIDE)) * static_cast<unsigned>(in_features / UNIT);
        }
    }

    // Starts to load the next slice. `left` elements of the row are left from the thread's chunk on; zeros follow them.
    __device__ __forceinline__ void bring(T *slice, int left) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            T *at = slice + to + i * STRIDE * Shape::TILE_K;
            const T *row = from + static_cast<std::int64_t>(offsets[i]) * UNIT;
            if constexpr (RAGGED) {
                Vec<T, CHUNK> values;
#pragma unroll
                for (int j = 0; j < CHUNK; j++) {
                    values[j] = j < left ? load_global(row + j) : from_float<T>(0.0f);
                }
                *reinterpret_cast<Vec<T, CHUNK> *>(at) = values;
            } else {
                cp_async_16(at, row, left > 0 ? 16 : 0);
            }
        }
        // Where nothing will be read, the address stays in the row.
        from += left > Shape::TILE_K ? Shape::TILE_K : 0;
    }
};

// A warp's sums: [rows / 16][columns / 8] fragments of mma_k16.
template <typename Shape> using TileSums = Sums<Shape::WARP_M / MMA_M, Shape::WARP_N / MMA_N>;

// The places of a lane's rows of fragments in a stage.
template <typename Shape> class FragmentRows {
    int x_row, weight_row;

    // The swizzle keeps the two halves of a step beside each other, so a later step differs in higher bits.
    static __device__ __forceinline__ int at_step(int row, int step) { return row ^ (2 * step * CHUNK); }

  public:
    // The warp's rows of x and of W begin at `x_start` and `weight_start`.
    __device__ __forceinline__ FragmentRows(int x_start, int weight_start) {
        const int lane = static_cast<int>(threadIdx.x % WARP_SIZE);
        // Rows 0 to 15 with the first half of k, then rows 0 to 15 with the second half.
        x_row = swizzled<Shape::ROW_CHUNKS>(x_start + lane % 16, lane / 16);
        // Rows 0 to 7 with both halves of k, then rows 8 to 15.
        const int row = Shape::TILE_M + weight_start + lane / 16 * 8 + lane % 8;
        weight_row = swizzled<Shape::ROW_CHUNKS>(row, lane / 8 % 2);
        keep_in_register(x_row);
        keep_in_register(weight_row);
    }

    // At step `step` of MMA_K in a stage.
    __device__ __forceinline__ int x(int step) const { return at_step(x_row, step); }
    __device__ __forceinline__ int weight(int step) const { return at_step(weight_row, step); }
};

// sums += the product of a warp's rows in a stage.
template <typename T, typename Shape>
__device__ __forceinline__ void multiply_stage(TileSums<Shape> &sums, const T *stage, const FragmentRows<Shape> &rows) {
    constexpr int FRAGMENTS_M = Shape::WARP_M / MMA_M, FRAGMENTS_N = Shape::WARP_N / MMA_N;
#pragma unroll
    for (int step = 0; step < Shape::TILE_K / MMA_K; step++) {
        std::uint32_t a[FRAGMENTS_M][4];
#pragma unroll
        for (int i = 0; i < FRAGMENTS_M; i++) {
            ldmatrix_x4(a[i], stage + rows.x(step) + i * MMA_M * Shape::TILE_K);
        }
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j += 2) {
            std::uint32_t b[4];
            ldmatrix_x4(b, stage + rows.weight(step) + j * MMA_N * Shape::TILE_K);
            const std::uint32_t halves[2][2] = {{b[0], b[1]}, {b[2], b[3]}};
#pragma unroll
            for (int i = 0; i < FRAGMENTS_M; i++) {
                mma_k16<T>(sums[i][j], a[i], halves[0]);
                mma_k16<T>(sums[i][j + 1], a[i], halves[1]);
            }
        }
    }
}

// Moves a warp's sums from fragments to rows through its own `slabs`, applies the fused operations, and stores the
// results. `row` and `column` are the warp's first ones in `out`.
template <typename T, typename Shape, bool GATED>
__device__ __forceinline__ void store_sums(const GemmParams &p, const TileSums<Shape> &sums, float *slabs, int row,
                                           int column) {
    using Columns = SlabColumns<T, GATED>;
    constexpr int SLABS = Shape::WARP_N / SLAB_N, SLAB = SLAB_ROWS * SLAB_N, FRAGMENTS = SLAB_N / MMA_N;
#pragma unroll
    for (int start = 0; start < Shape::WARP_M; start += SLAB_ROWS) {
#pragma unroll
        for (int i = 0; i < SLAB_ROWS; i += MMA_M) {
#pragma unroll
            for (int slab = 0; slab < SLABS; slab++) {
                float held[FRAGMENTS][4];
#pragma unroll
                for (int j = 0; j < FRAGMENTS; j++) {
                    // Gated, two fragments of u and two of v.
                    const int plain = slab * FRAGMENTS + j;
                    const int gated = slab * FRAGMENTS / 2 + j % 2 + j / 2 * (Shape::WARP_N / 2 / MMA_N);
#pragma unroll
                    for (int value = 0; value < 4; value++) {
                        held[j][value] = sums[(start + i) / MMA_M][GATED ? gated : plain][value];
                    }
                }
                write_fragments(slabs + slab * SLAB + i * SLAB_N, held);
            }
        }
        __syncwarp();
#pragma unroll 1
        for (int slab = 0; slab < SLABS; slab++) {
            const Columns columns(p, column + slab * Columns::COLUMNS);
#pragma unroll 1
            for (int at = 0; at < SLAB_ROWS; at += Columns::PASS) {
                columns.finish_rows(p, slabs + slab * SLAB, at, row + start + at);
            }
        }
        __syncwarp();
    }
}

template <typename T, typename Shape, bool RAGGED> __device__ __forceinline__ void linear(const GemmParams &p) {
    const bool gated = p.activation == ACTIVATION_GATED_GELU;
    // Columns of `out` that a tile and a warp make. Gated, half of a tile's columns belong to u and half to v.
    constexpr int WARP_N = Shape::WARP_N;
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

    const int rows = p.rows - tile_row, columns = p.out_features - tile_column;
    Source<T, Shape, Shape::TILE_M, RAGGED> x(p.x, p.in_features, tile_row, [&](int row) {
        return row < rows ? row : rows - 1;
    });
    // Gated, a warp has u and v of the same columns in the two halves of its columns, and a thread in its fragments.
    Source<T, Shape, Shape::TILE_N, RAGGED> weight(p.weight, p.in_features, tile_column, [&](int row) {
        const int in_warp = row % WARP_N;
        const bool second = in_warp >= warp_columns;
        const int column = row / WARP_N * warp_columns + (second ? in_warp - warp_columns : in_warp);
        return (column < columns ? column : columns - 1) + (second ? p.out_features : 0);
    });

    T *stages = reinterpret_cast<T *>(shared_memory());
    int left = p.in_features - chunk_of_thread<Shape>() * CHUNK;
    const auto bring = [&](T *stage, int k) {
        if (k < p.in_features) {
            x.bring(stage, left);
            weight.bring(stage + Shape::TILE_M * Shape::TILE_K, left);
            left -= Shape::TILE_K;
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
        float *slabs = reinterpret_cast<float *>(shared_memory()) + warp * SLAB_ROWS * WARP_N;
        if (gated) {
            store_sums<T, Shape, true>(p, sums, slabs, row, column);
        } else {
            store_sums<T, Shape, false>(p, sums, slabs, row, column);
        }
    }
}

} // namespace

KERNEL(linear_broad_f16, TWO_BLOCKS, GemmParams) { linear<f16, Broad, false>(p); }
KERNEL(linear_broad_bf16, TWO_BLOCKS, GemmParams) { linear<bf16, Broad, false>(p); }
KERNEL(linear_large_f16, TWO_BLOCKS, GemmParams) { linear<f16, Large, false>(p); }
KERNEL(linear_large_bf16, TWO_BLOCKS, GemmParams) { linear<bf16, Large, false>(p); }
KERNEL(linear_small_f16, THREADS, GemmParams) { linear<f16, Small, false>(p); }
KERNEL(linear_small_bf16, THREADS, GemmParams) { linear<bf16, Small, false>(p); }
KERNEL(linear_ragged_f16, THREADS, GemmParams) { linear<f16, Small, true>(p); }
KERNEL(linear_ragged_bf16, THREADS, GemmParams) { linear<bf16, Small, true>(p); }

KERNEL_FILE(gemm);
