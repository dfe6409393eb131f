// Linear layers on Hopper, with the fused operations and the bits of gemm.cu.
//
//     y = f(x·Wᵀ + bias)    out = y,  out += y  or  out += gate·y    (see gemm.cu)
//
// x_map: x [rows, in_features], boxes of TILE_M rows and 64 steps of k. weight_map: the weight [out_features (gated:
// 2·out_features), in_features], boxes of half a tile's rows. Both swizzled by 128 bytes. The other parameters are those
// of gemm.cu.
//
// A block stays on its multiprocessor and makes one tile after another. Warpgroup 0 copies: one of its threads fills a
// ring of stages, TILE_M rows of x and TILE_N of W, 64 steps of k each. The other two warpgroups take turns (ping-pong):
// while one multiplies its tile, the other passes its sums through shared memory and stores them. So the tensor cores
// never wait for the fused operations, however many they are, and k need not be long. A cluster's two blocks make two
// tiles below each other and share W: each copies half of its rows to both.
//
// Every element is summed over ascending k in steps of 16 by one thread, so that neither the tile nor the number of rows
// changes a bit of it. Gated, half of a tile's rows of W belong to u and half to v; a thread has both for its columns.
//
// Block: 384 threads. Cluster: 2 (large), none (small). Grid: blocks for all multiprocessors, or fewer if there are fewer
// tiles. Shared memory: stages, a slab for each consuming warp, barriers: 209 KiB (large), 161 KiB (small).
// Limits: sm_90a only; in_features a multiple of 8.

#include "common/epilogue.cuh"
#include "common/hopper/pipeline.cuh"

namespace {

struct GemmSm90Params {
    TensorMap x_map;
    TensorMap weight_map;
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

constexpr int TILE_K = 64, ROW_BYTES = TILE_K * 2, EIGHT_ROWS = 8 * ROW_BYTES;
// Rows and steps of k of one product.
constexpr int PRODUCT_M = 64, PRODUCT_K = 16;
// Rows of a warp in a product.
constexpr int WARP_ROWS = 16;
constexpr int CONSUMERS = 2, GROUP_WARPS = static_cast<int>(WARPGROUP_SIZE / WARP_SIZE);
constexpr Bounds THREADS(static_cast<int>(WARPGROUP_SIZE) * (1 + CONSUMERS), 1);
// Rows of tiles that neighbouring clusters walk through together.
constexpr int BAND = 8;
constexpr int SLAB_FLOATS = WARP_ROWS * SLAB_N;

template <int PRODUCTS_, int N, int STAGES_, int CLUSTER_, int SLABS_> struct Tile {
    // Products below each other; blocks of a cluster; slabs that a warp fills at a time.
    static constexpr int PRODUCTS = PRODUCTS_, TILE_N = N, STAGES = STAGES_, CLUSTER = CLUSTER_, SLABS = SLABS_;
    static constexpr int TILE_M = PRODUCTS * PRODUCT_M, HALF_N = TILE_N / 2;
    static constexpr int X_BYTES = TILE_M * ROW_BYTES, HALF_BYTES = HALF_N * ROW_BYTES;
    static constexpr int STAGE_BYTES = X_BYTES + 2 * HALF_BYTES;
    static constexpr int PASSES = TILE_N / (SLABS * SLAB_N);
    static constexpr int SLAB_BYTES = CONSUMERS * GROUP_WARPS * SLABS * SLAB_FLOATS * static_cast<int>(sizeof(float));
    static_assert(STAGE_BYTES % EIGHT_ROWS == 0 && HALF_BYTES % EIGHT_ROWS == 0 && PASSES * SLABS * SLAB_N == TILE_N);
};
// 192 sums a thread. Four stages keep 160 KiB of copies under way.
using Large = Tile<2, 192, 4, 2, 3>;
// For few rows, where reading the weight takes longest: small tiles make more blocks.
using Small = Tile<1, 64, 8, 1, 2>;

// What the threads share besides stages and slabs.
template <typename Shape> struct Shared {
    Ring<Shape::STAGES> ring;
    // Ends a phase when it is the warpgroup's turn to multiply.
    CopyBarrier turn[CONSUMERS];
};

template <typename Shape> __device__ __forceinline__ Shared<Shape> *shared_barriers() {
    return reinterpret_cast<Shared<Shape> *>(shared_memory() + Shape::STAGES * Shape::STAGE_BYTES + Shape::SLAB_BYTES);
}

// The tiles of the whole product, in the order in which clusters take them.
template <typename Shape> struct Tiles {
    static constexpr int CLUSTER_ROWS = Shape::TILE_M * Shape::CLUSTER;
    int columns, below, beside, first, stride;

    __device__ __forceinline__ explicit Tiles(const GemmSm90Params &p) {
        // Gated, half of a tile's columns are values, the other half their gates.
        columns = p.activation == ACTIVATION_GATED_GELU ? Shape::HALF_N : Shape::TILE_N;
        below = (p.rows + CLUSTER_ROWS - 1) / CLUSTER_ROWS;
        beside = (p.out_features + columns - 1) / columns;
        first = static_cast<int>(blockIdx.x) / Shape::CLUSTER;
        stride = static_cast<int>(gridDim.x) / Shape::CLUSTER;
    }

    __device__ __forceinline__ int count() const { return below * beside; }

    // The first row and column of tile `index` of this block. Clusters go down a band of tiles, then to the next column:
    // so clusters that run together share rows of x and of W in the second-level cache.
    __device__ __forceinline__ void place(int index, int &row, int &column) const {
        const int band_tiles = BAND * beside, band = index / band_tiles, in_band = index % band_tiles;
        const int left = below - band * BAND, band_rows = left < BAND ? left : BAND;
        row = (band * BAND + in_band % band_rows) * CLUSTER_ROWS;
        column = in_band / band_rows * columns;
        if constexpr (Shape::CLUSTER > 1) {
            row += static_cast<int>(cluster_rank()) * Shape::TILE_M;
        }
    }
};

// Fills the stages for all tiles of this block. One thread does this.
template <typename Shape> __device__ __forceinline__ void copy_tiles(const GemmSm90Params &p, Shared<Shape> *shared) {
    const Tiles<Shape> tiles(p);
    const int second_half = p.activation == ACTIVATION_GATED_GELU ? p.out_features : Shape::HALF_N;
    RingStep<Shape::STAGES> step;
    prefetch_map(p.x_map);
    prefetch_map(p.weight_map);
    for (int tile = tiles.first; tile < tiles.count(); tile += tiles.stride) {
        int row, column;
        tiles.place(tile, row, column);
        for (int k = 0; k < p.in_features; k += TILE_K, step.next()) {
            unsigned char *const stage = shared_memory() + step.stage * Shape::STAGE_BYTES;
            unsigned char *const weight = stage + Shape::X_BYTES;
            CopyBarrier *const full = shared->ring.full + step.stage;
            wait_for_phase(shared->ring.empty + step.stage, step.parity ^ 1);
            arrive_expecting(full, Shape::STAGE_BYTES);
            load_box(stage, p.x_map, {k, row}, full);
            if constexpr (Shape::CLUSTER == 1) {
                load_box(weight, p.weight_map, {k, column}, full);
                load_box(weight + Shape::HALF_BYTES, p.weight_map, {k, column + second_half}, full);
            } else {
                // Each block copies one half to both.
                const int half = static_cast<int>(cluster_rank());
                load_box_to_blocks(weight + half * Shape::HALF_BYTES, p.weight_map, {k, column + half * second_half}, full,
                                   (1 << Shape::CLUSTER) - 1);
            }
        }
    }
}

template <typename Shape> using GroupSums = float[Shape::PRODUCTS][Shape::TILE_N / 2];

// Releases a stage in all blocks of the cluster, on behalf of the calling warp.
template <typename Shape> __device__ __forceinline__ void release(Shared<Shape> *shared, int stage) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    if (lane < Shape::CLUSTER) {
        if constexpr (Shape::CLUSTER == 1) {
            arrive(shared->ring.empty + stage);
        } else {
            arrive_at_block(shared->ring.empty + stage, lane);
        }
    }
}

// sums += the products of a tile. Gives the turn to the other warpgroup when all its products are under way.
template <typename T, typename Shape>
__device__ __forceinline__ void multiply_tile(GroupSums<Shape> &sums, int in_features, Shared<Shape> *shared,
                                              RingStep<Shape::STAGES> &step, CopyBarrier *turn_of_other) {
#pragma unroll 1
    for (int k = 0; k < in_features; k += TILE_K, step.next()) {
        wait_for_phase(shared->ring.full + step.stage, step.parity);
        const unsigned char *const stage = shared_memory() + step.stage * Shape::STAGE_BYTES;
        const std::uint64_t x = describe_matrix(stage, 16, EIGHT_ROWS, Swizzle::B128);
        const std::uint64_t weight = advance(x, Shape::X_BYTES);
        open_products();
#pragma unroll
        for (int part = 0; part < TILE_K; part += PRODUCT_K) {
#pragma unroll
            for (int i = 0; i < Shape::PRODUCTS; i++) {
                multiply_shared<T, Shape::TILE_N>(sums[i], advance(x, i * PRODUCT_M * ROW_BYTES + part * 2),
                                                  advance(weight, part * 2), true);
            }
        }
        close_products();
        if (k > 0) {
            // The products of the step before are done; its stage can be filled again.
            wait_for_products<1>();
            release(shared, step.before());
        }
    }
    if (threadIdx.x % WARP_SIZE == 0) {
        arrive(turn_of_other);
    }
    if constexpr (Shape::PRODUCTS == 1) {
        wait_for_products<0>(sums[0]);
    } else {
        wait_for_products<0>(sums[0], sums[1]);
    }
    release(shared, step.before());
}

// Moves one product's sums of a warp through its slabs to rows of `out`. `row` and `column` are the first ones.
template <typename T, typename Shape, bool GATED>
__device__ __forceinline__ void store_product(const GemmSm90Params &p, const float (&sums)[Shape::TILE_N / 2],
                                              float *slabs, int row, int column) {
    using Columns = SlabColumns<T, GATED>;
    constexpr int FRAGMENTS = SLAB_N / MMA_N;
#pragma unroll
    for (int pass = 0; pass < Shape::PASSES; pass++) {
#pragma unroll
        for (int slab = 0; slab < Shape::SLABS; slab++) {
            float held[FRAGMENTS][4];
#pragma unroll
            for (int j = 0; j < FRAGMENTS; j++) {
                const int number = pass * Shape::SLABS + slab;
                // Gated, two fragments of u and two of v.
                const int plain = number * FRAGMENTS + j;
                const int gated = number * FRAGMENTS / 2 + j % 2 + j / 2 * (Shape::HALF_N / MMA_N);
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    held[j][i] = sums[(GATED ? gated : plain) * 4 + i];
                }
            }
            write_fragments(slabs + slab * SLAB_FLOATS, held);
        }
        __syncwarp();
#pragma unroll 1
        for (int slab = 0; slab < Shape::SLABS; slab++) {
            const Columns columns(p, column + (pass * Shape::SLABS + slab) * Columns::COLUMNS);
#pragma unroll 1
            for (int at = 0; at < WARP_ROWS; at += Columns::PASS) {
                columns.finish_rows(p, slabs + slab * SLAB_FLOATS, at, row + at);
            }
        }
        __syncwarp();
    }
}

// Makes every second tile of this block, in turn with the other warpgroup.
template <typename T, typename Shape>
__device__ __forceinline__ void make_tiles(const GemmSm90Params &p, Shared<Shape> *shared, int consumer) {
    const Tiles<Shape> tiles(p);
    const int steps = (p.in_features + TILE_K - 1) / TILE_K;
    float *const slabs = reinterpret_cast<float *>(shared_memory() + Shape::STAGES * Shape::STAGE_BYTES) +
                         static_cast<int>(threadIdx.x / WARP_SIZE - GROUP_WARPS) * Shape::SLABS * SLAB_FLOATS;
    RingStep<Shape::STAGES> step;
    step.skip(consumer * steps);
    // The first warpgroup has the first turn.
    unsigned turn = consumer == 0 ? 1 : 0;
#pragma unroll 1
    for (int tile = tiles.first + consumer * tiles.stride; tile < tiles.count(); tile += CONSUMERS * tiles.stride) {
        // Zeroed while the other warpgroup multiplies. Were the first product to overwrite them instead, the compiler
        // would keep registers for the sums of the tile before while it stores them.
        GroupSums<Shape> sums{};
        wait_for_phase(shared->turn + consumer, turn);
        turn ^= 1;
        multiply_tile<T, Shape>(sums, p.in_features, shared, step, shared->turn + (1 - consumer));
        step.skip(steps);
        int row, column;
        tiles.place(tile, row, column);
        row += static_cast<int>(threadIdx.x / WARP_SIZE % GROUP_WARPS) * WARP_ROWS;
#pragma unroll
        for (int i = 0; i < Shape::PRODUCTS; i++) {
            if (p.activation == ACTIVATION_GATED_GELU) {
                store_product<T, Shape, true>(p, sums[i], slabs, row + i * PRODUCT_M, column);
            } else {
                store_product<T, Shape, false>(p, sums[i], slabs, row + i * PRODUCT_M, column);
            }
        }
    }
}

template <typename T, typename Shape> __device__ __forceinline__ void linear(const GemmSm90Params &p) {
    Shared<Shape> *const shared = shared_barriers<Shape>();
    if (threadIdx.x == 0) {
        shared->ring.init(GROUP_WARPS * Shape::CLUSTER);
        init_barrier(shared->turn, GROUP_WARPS);
        init_barrier(shared->turn + 1, GROUP_WARPS);
        publish_barriers();
    }
    if constexpr (Shape::CLUSTER > 1) {
        cluster_sync();
    } else {
        __syncthreads();
    }
    const unsigned group = warpgroup_index();
    if (group == 0) {
        keep_registers<24>();
        if (threadIdx.x < WARP_SIZE && is_elected()) {
            copy_tiles<Shape>(p, shared);
        }
        __syncwarp();
    } else {
        take_registers<240>();
        make_tiles<T, Shape>(p, shared, static_cast<int>(group) - 1);
    }
    if constexpr (Shape::CLUSTER > 1) {
        // The other block may still copy to this one, or release its stages.
        cluster_sync();
    }
}

} // namespace

CLUSTER_KERNEL(linear_sm90_large_f16, THREADS, 2, GemmSm90Params) { linear<f16, Large>(p); }
CLUSTER_KERNEL(linear_sm90_large_bf16, THREADS, 2, GemmSm90Params) { linear<bf16, Large>(p); }
KERNEL(linear_sm90_small_f16, THREADS, GemmSm90Params) { linear<f16, Small>(p); }
KERNEL(linear_sm90_small_bf16, THREADS, GemmSm90Params) { linear<bf16, Small>(p); }

KERNEL_FILE(gemm_sm90);
