// Attention with heads of up to 512 features: the VAE's single head over all channels.
//
//     out = softmax(q·kᵀ·scale)·v        for every head of every sequence
//
// q, k, v, out: T. Token t of head h of sequence (o, i) is head_dim neighbours at o·outer + i·inner + t·token +
// h·head_dim; each tensor has its own three strides. A sequence is a frame or, between frames, a position.
//
// A block has 64 queries. A warp keeps 32 queries × 128 features in registers, 64 registers for q and 128 for the sums,
// so it reads q only once. A block takes 16 keys at a time. A band, the warps with the same queries, shares their
// scores: each warp multiplies its features, writes the products to shared memory, adds up its share of the scores in
// the order of the features, and reads the sums of all warps. The softmax, online as in attention.cu, is the same in
// all warps of a band. A step of the loop adds up the scores of one tile, multiplies the queries by the keys of the
// next tile, and the weights by the values of this tile, with one barrier for the block and one for the band. Two tiles
// of keys, of values and of scores take turns, so that a copy may take as long as a step.
//
// Bound: a tile of keys with 512 features takes 2.1 MFLOP, 148 KiB through shared memory (keys 32, values 32, scores
// 52, copies 32) and 32 KiB from L2. That is 13.8 FLOP per byte of shared memory, which moves 128 bytes a clock. Shared
// memory is the bound where mma.sync does more than 1,770 FLOP a clock and multiprocessor (sm_80, 90); elsewhere
// (sm_86, 89, 120) tensor cores are. 17 frames of 1,024 tokens take 36.5 GFLOP, 71 MB of memory and 0.57 GB from L2.
//
// Block: 256 threads for 512 features, 128 for 256. Grid: tiles of queries of the heads of the sequences, tiles
// fastest, so that neighbours find the same keys in L2. Shared memory: 97 and 49 KiB, so that one block and two blocks
// fit every multiprocessor.
// Limits: head_dim ≤ HEAD_DIM, it and all strides multiples of 8, addresses of 16 bytes; scale > 0.

#include "common/attention.cuh"

namespace {

// A warp's tiles of 16 queries, and steps of 16 features.
constexpr int ROW_TILES = 2, STEPS = 8;
constexpr int WARP_QUERIES = 16 * ROW_TILES, WARP_FEATURES = 16 * STEPS;
constexpr int BANDS = 2, QUERIES = BANDS * WARP_QUERIES;
// Keys of a tile.
constexpr int KEYS = 16, KEY_TILES = KEYS / 8;

// Products of a warp's queries and a tile of keys, in the layout that Softmax describes.
using Scores = float[ROW_TILES][KEY_TILES][4];
constexpr int PRODUCTS = ROW_TILES * KEY_TILES;
// A lane's share of one product of 16 queries and 8 keys.
using Product = Vec<float, 4>;

// BAND_WARPS share the features of a head. Missing rows and features of a tile are zeros.
template <typename T, int BAND_WARPS_> struct Block {
    static constexpr int BAND_WARPS = BAND_WARPS_, BAND_THREADS = BAND_WARPS * static_cast<int>(WARP_SIZE);
    static constexpr int THREADS = BANDS * BAND_THREADS, HEAD_DIM = BAND_WARPS * WARP_FEATURES;
    static_assert(PRODUCTS % BAND_WARPS == 0, "every warp of a band adds up as many products");
    // 16-byte columns of a row. The pitch is an odd number of columns, so that ldmatrix has no bank conflicts.
    static constexpr int COLUMNS = HEAD_DIM / 8, PITCH = (COLUMNS | 1) * 8;
    static constexpr int TILE = KEYS * PITCH;

    static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
    static __device__ __forceinline__ int band() { return thread() / BAND_THREADS; }
    // The warp's place in its band.
    static __device__ __forceinline__ int part() { return thread() / static_cast<int>(WARP_SIZE) % BAND_WARPS; }

    static __device__ __forceinline__ void sync_band() {
        static_assert(BANDS == 2);
        barrier_of_two<BAND_THREADS>(threadIdx.x < BAND_THREADS);
    }

    // Places 0 and 1 for tiles of keys, then for tiles of values, then for scores.
    static __device__ __forceinline__ T *keys(int i) { return reinterpret_cast<T *>(shared_memory()) + i * TILE; }
    static __device__ __forceinline__ T *values(int i) { return keys(2 + i); }
    // Product `index` of warp `part` of the band. A warp's lanes touch all banks evenly.
    static __device__ __forceinline__ Product &product(int i, int part, int index) {
        const int before = ((i * BANDS + band()) * BAND_WARPS + part) * PRODUCTS + index;
        return reinterpret_cast<Product *>(keys(4))[before * static_cast<int>(WARP_SIZE) + lane()];
    }
};

// A warp's share of q, as fragments of left factors.
struct Queries {
    std::uint32_t factors[ROW_TILES][STEPS][4];

    // Loads directly from memory, while the first keys are copied. A register holds two neighbouring features. `from`
    // is the warp's first feature of token 0; the head has `features` features from there on.
    template <typename T>
    __device__ __forceinline__ void load(const T *from, std::int64_t stride, int first, int tokens, int features) {
#pragma unroll
        for (int eight = 0; eight < 2 * ROW_TILES; eight++) {
            const int query = first + 8 * eight + lane() / 4;
            const T *row = from + query * stride + lane() % 4 * 2;
#pragma unroll
            for (int column = 0; column < 2 * STEPS; column++) {
                const bool there = query < tokens && 8 * column < features;
                factors[eight / 2][column / 2][eight % 2 + column % 2 * 2] =
                    there ? load_global(reinterpret_cast<const std::uint32_t *>(row + 8 * column)) : 0;
            }
        }
    }
};

// Multiplies a warp's features, and writes the products to place `i` for the band. `keys` points to the warp's first
// feature of the tile.
template <typename T, typename B>
__device__ __forceinline__ void multiply_keys(const Queries &queries, const T *keys, int i) {
    Scores scores{};
    // Eight keys with their left and their right eight features, then the next eight keys.
    const T *row = keys + (lane() % 8 + lane() / 16 * 8) * B::PITCH + lane() / 8 % 2 * 8;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        std::uint32_t k[4];
        ldmatrix_x4(k, row + 16 * step);
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
            mma_k16<T>(scores[m][0], queries.factors[m][step], {k[0], k[1]});
            mma_k16<T>(scores[m][1], queries.factors[m][step], {k[2], k[3]});
        }
    }
#pragma unroll
    for (int index = 0; index < PRODUCTS; index++) {
        const float(&held)[4] = scores[index / KEY_TILES][index % KEY_TILES];
        B::product(i, B::part(), index) = {held[0], held[1], held[2], held[3]};
    }
}

// Adds up a warp's share of the products, and overwrites warp 0's products with the sums. No other warp reads them
// before.
template <typename B> __device__ __forceinline__ void add_products(int i) {
    constexpr int SHARE = PRODUCTS / B::BAND_WARPS;
#pragma unroll
    for (int j = 0; j < SHARE; j++) {
        const int index = B::part() * SHARE + j;
        Product sum = B::product(i, 0, index);
#pragma unroll
        for (int part = 1; part < B::BAND_WARPS; part++) {
            const Product added = B::product(i, part, index);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                sum[e] += added[e];
            }
        }
        B::product(i, 0, index) = sum;
    }
}

// Loads the scores, and sets those beyond the tile's first `there` keys to −∞.
template <typename B> __device__ __forceinline__ void load_scores(Scores &scores, int i, int there) {
#pragma unroll
    for (int index = 0; index < PRODUCTS; index++) {
        const Product sum = B::product(i, 0, index);
#pragma unroll
        for (int e = 0; e < 4; e++) {
            scores[index / KEY_TILES][index % KEY_TILES][e] = sum[e];
        }
    }
    if (there >= KEYS) {
        return;
    }
#pragma unroll
    for (int e = 0; e < 4 * PRODUCTS; e++) {
        const int n = e / 4 % KEY_TILES;
        if (n * 8 + lane() % 4 * 2 + e % 2 >= there) {
            scores[e / 4 / KEY_TILES][n][e % 4] = -INFINITY;
        }
    }
}

// A warp's sums of its features, and the softmax of its queries, over the keys so far.
struct Met {
    float sums[ROW_TILES][2 * STEPS][4];
    Softmax softmax[ROW_TILES];

    // Turns scores into weights. A new maximum rescales the earlier sums.
    __device__ __forceinline__ void weigh(Scores &scores, float factor) {
        float fades[ROW_TILES][2];
        bool same = true;
#pragma unroll
        for (int half = 0; half < 2 * ROW_TILES; half++) {
            fades[half / 2][half % 2] = softmax[half / 2].weigh(scores[half / 2], factor, half % 2);
            same = same && fades[half / 2][half % 2] == 1.0f;
        }
        // After the first tiles a new maximum is rare, and rescaling the sums takes a quarter of a step's instructions.
        if (__all_sync(ALL_LANES, same)) {
            return;
        }
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
#pragma unroll
            for (int i = 0; i < 8 * STEPS; i++) {
                sums[m][i / 4][i % 4] *= fades[m][i % 4 / 2];
            }
        }
    }

    // Adds weights·values to the sums. `values` points to the warp's first feature of the tile.
    template <typename T, typename B>
    __device__ __forceinline__ void multiply_values(const Scores &weights, const T *values) {
        std::uint32_t p[ROW_TILES][4];
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
            left_factor<T>(p[m], weights[m][0], weights[m][1]);
        }
        const T *row = values + lane() % 16 * B::PITCH + lane() / 16 * 8;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            std::uint32_t v[4];
            ldmatrix_x4_trans(v, row + 16 * step);
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++) {
                mma_k16<T>(sums[m][2 * step], p[m], {v[0], v[1]});
                mma_k16<T>(sums[m][2 * step + 1], p[m], {v[2], v[3]});
            }
        }
    }

    // Stores sums / total. They pass through a slab of shared memory for each warp, so that threads store whole
    // vectors. `to` is the warp's first feature of its first query; `queries` and `features` count from there on.
    template <typename T>
    __device__ __forceinline__ void store(T *to, std::int64_t stride, T *slab, int queries, int features) const {
        constexpr int COLUMNS = WARP_FEATURES / 8, PITCH = (COLUMNS | 1) * 8;
        slab += threadIdx.x / WARP_SIZE * WARP_QUERIES * PITCH;
#pragma unroll
        for (int eight = 0; eight < 2 * ROW_TILES; eight++) {
            const float factor = softmax[eight / 2].inverse(eight % 2);
            T *row = slab + (8 * eight + lane() / 4) * PITCH + lane() % 4 * 2;
#pragma unroll
            for (int n = 0; n < 2 * STEPS; n++) {
                const float *pair = sums[eight / 2][n] + eight % 2 * 2;
                *reinterpret_cast<Vec<T, 2> *>(row + 8 * n) = {
                    {from_float<T>(pair[0] * factor), from_float<T>(pair[1] * factor)}};
            }
        }
        __syncwarp();
#pragma unroll 1
        for (int i = lane(); i < WARP_QUERIES * COLUMNS; i += static_cast<int>(WARP_SIZE)) {
            const int row = i / COLUMNS, column = i % COLUMNS * 8;
            if (row < queries && column < features) {
                store_global(reinterpret_cast<WideVec<T> *>(to + row * stride + column),
                             *reinterpret_cast<const WideVec<T> *>(slab + row * PITCH + column));
            }
        }
    }
};

template <typename T, int BAND_WARPS> __device__ __forceinline__ void attention_wide(const AttentionParams &p) {
    using B = Block<T, BAND_WARPS>;
    const Task task = Task::at(static_cast<int>(blockIdx.x), p.queries, QUERIES, p.heads, p.inner);
    const T *k = task.start(static_cast<const T *>(p.k), p.k_outer, p.k_inner, p.head_dim);
    const T *v = task.start(static_cast<const T *>(p.v), p.v_outer, p.v_inner, p.head_dim);
    const int tiles = (p.keys + KEYS - 1) / KEYS;
    const auto copy_keys = [&](int tile) {
        if (tile < tiles) {
            copy_tile<KEYS, B>(B::keys(tile % 2), k, p.k_token, tile * KEYS, p.keys, p.head_dim);
        }
    };
    const auto copy_values = [&](int tile) {
        if (tile < tiles) {
            copy_tile<KEYS, B>(B::values(tile % 2), v, p.v_token, tile * KEYS, p.keys, p.head_dim);
        }
    };
    copy_keys(0);
    cp_async_commit();
    copy_values(0);
    copy_keys(1);
    cp_async_commit();

    const int first_query = task.first_query + B::band() * WARP_QUERIES, first_feature = B::part() * WARP_FEATURES;
    // A band whose queries are all beyond the last only helps to copy.
    const bool works = first_query < p.queries;
    Queries queries;
    queries.load(task.start(static_cast<const T *>(p.q), p.q_outer, p.q_inner, p.head_dim) + first_feature, p.q_token,
                 first_query, p.queries, p.head_dim - first_feature);
    Met met{};
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++) {
        met.softmax[m].clear();
    }
    cp_async_wait<1>();
    __syncthreads();
    if (works) {
        multiply_keys<T, B>(queries, B::keys(0) + first_feature, 0);
    }

    const float factor = p.scale * LOG2_E;
#pragma unroll 1
    for (int tile = 0; tile < tiles; tile++) {
        // Behind the barrier, all warps see this tile's products and values and the next tile's keys. None reads this
        // tile's keys or the last tile's values and scores any more.
        cp_async_wait<0>();
        __syncthreads();
        copy_values(tile + 1);
        copy_keys(tile + 2);
        cp_async_commit();
        if (works) {
            add_products<B>(tile % 2);
            if (tile + 1 < tiles) {
                multiply_keys<T, B>(queries, B::keys((tile + 1) % 2) + first_feature, (tile + 1) % 2);
            }
            B::sync_band();
            Scores scores;
            load_scores<B>(scores, tile % 2, p.keys - tile * KEYS);
            met.weigh(scores, factor);
            met.template multiply_values<T, B>(scores, B::values(tile % 2) + first_feature);
        }
    }

    __syncthreads();
    if (works) {
        T *out = task.start(static_cast<T *>(p.out), p.out_outer, p.out_inner, p.head_dim);
        met.store(out + first_query * p.out_token + first_feature, p.out_token, B::keys(0), p.queries - first_query,
                  p.head_dim - first_feature);
    }
}

} // namespace

KERNEL(attention_wide_d256_f16, 128, AttentionParams) { attention_wide<f16, 2>(p); }
KERNEL(attention_wide_d256_bf16, 128, AttentionParams) { attention_wide<bf16, 2>(p); }
KERNEL(attention_wide_d512_f16, 256, AttentionParams) { attention_wide<f16, 4>(p); }
KERNEL(attention_wide_d512_bf16, 256, AttentionParams) { attention_wide<bf16, 4>(p); }

KERNEL_FILE(attention_wide);
