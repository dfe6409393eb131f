// Attention without the matrix of scores in memory.
//
//     out = softmax(q·kᵀ·scale + bias + mask)·v        for every head of every sequence
//
// q, k, v, out: T. Token t of head h of sequence (o, i) is head_dim neighbours at o·outer + i·inner + t·token +
// h·head_dim; each tensor has its own three strides. bias [heads, queries, keys], mask [outer, keys] and
// rope [tokens, 2, head_dim] (cosines, sines): f32, each may be null. RoPE rotates q and k before they enter shared
// memory: within each rope_group of features the halves (a, b) become (a·cos − b·sin, b·cos + a·sin), rounded to T.
//
// A warp keeps 16 or 32 queries and their sums in registers and takes the keys tile by tile. mma computes the scores in
// f32. A new maximum scales the earlier sums down (online softmax, as in FlashAttention-2). The exponentials, rounded
// to T, already lie in registers as the left factor of the product with v. One, two or four warps are a team that
// shares the tiles of a head, 16 keys per warp, so short sequences leave few lanes idle. A team copies the next tile
// while it multiplies one. A mask alone passes through shared memory, in units of log 2; a bias is read where it is
// added. Sums run in the order of the keys, and a butterfly adds the totals of four lanes.
//
// Block: 128 threads, that is 4 teams of 16 queries, 2 of 32, or 1 of 64 or 128. Grid: tasks / teams. A task is a tile
// of queries of a head of a sequence, tiles fastest, so that neighbours find the same keys in L2. Shared memory: each
// team has two stages of a tile of keys and a tile of values, 256 rows for all: 12, 36, 36, 68 KiB for 16, 64, 72, 128
// features; with a mask alone half a KiB more.
// Limits: head_dim ≤ HEAD_DIM, it and all strides multiples of 8, addresses of 16 bytes; rope_group a multiple of 4;
// scale > 0. Kernels with `mask` in their name take a mask, `bias` a bias and optionally a mask, others neither.

#include "common/attention.cuh"

namespace {

constexpr int BLOCK_THREADS = 128;
constexpr int BLOCK_WARPS = BLOCK_THREADS / static_cast<int>(WARP_SIZE);

// The terms added to the scores: none, a mask, or a bias and optionally a mask.
enum class Extras { NONE, MASK, BIAS };

// WARPS that share the keys of a head of up to HEAD_DIM features, with ROW_TILES·16 queries each. Missing rows and
// features of a tile are zeros.
template <typename T, int WARPS_, int ROW_TILES_, int HEAD_DIM_, Extras EXTRAS_> struct Team {
    static constexpr int WARPS = WARPS_, ROW_TILES = ROW_TILES_, HEAD_DIM = HEAD_DIM_;
    static constexpr Extras EXTRAS = EXTRAS_;
    static constexpr int THREADS = WARPS * static_cast<int>(WARP_SIZE), TEAMS = BLOCK_WARPS / WARPS;
    static constexpr int WARP_QUERIES = 16 * ROW_TILES, QUERIES = WARPS * WARP_QUERIES;
    // Keys of a tile. The queries pass through the place of a tile of keys and a tile of values.
    static constexpr int KEYS = 16 * WARPS;
    static_assert(QUERIES <= 2 * KEYS, "queries have the room of a stage");
    // 16-byte columns of a row. The pitch is an odd number of columns, so eight rows of a matrix start in eight
    // different columns modulo 128 bytes, and ldmatrix has no bank conflicts. 72 features need no padding for that.
    static constexpr int COLUMNS = HEAD_DIM / 8, PITCH = (COLUMNS | 1) * 8;
    static constexpr int TILE = KEYS * PITCH;
    // A product over the features has steps of 16, and one step of 8 if the number of columns is odd.
    static constexpr int STEPS = HEAD_DIM / 16, KEY_TILES = KEYS / 8;
    static constexpr bool TAIL = COLUMNS % 2 == 1;

    static __device__ __forceinline__ int index() { return TEAMS == 1 ? 0 : static_cast<int>(threadIdx.x) / THREADS; }
    static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x) - index() * THREADS; }
    // First of the warp's queries within the team's.
    static __device__ __forceinline__ int warp_row() { return thread() / static_cast<int>(WARP_SIZE) * WARP_QUERIES; }

    static __device__ __forceinline__ void sync() {
        if constexpr (WARPS == 1) {
            __syncwarp();
        } else if constexpr (TEAMS == 1) {
            __syncthreads();
        } else {
            static_assert(TEAMS == 2);
            barrier_of_two<THREADS>(threadIdx.x < THREADS);
        }
    }

    // Stage 0 or 1: a tile of keys, then one of values.
    static __device__ __forceinline__ T *stage(int i) {
        return reinterpret_cast<T *>(shared_memory()) + (2 * index() + i) * 2 * TILE;
    }

    // The mask of the keys of stage 0 or 1, behind all stages.
    static __device__ __forceinline__ float *mask(int i) {
        static_assert(TEAMS == 1);
        return reinterpret_cast<float *>(stage(2)) + i * KEYS;
    }
};

// As copy_tile, for q or k. With a table it rotates them by RoPE, and then the copy is not asynchronous.
template <int ROWS, typename S, typename T>
__device__ __forceinline__ void copy_turned(const AttentionParams &p, T *to, const T *from, std::int64_t stride,
                                            int first, int tokens) {
    if (p.rope == nullptr) {
        copy_tile<ROWS, S>(to, from, stride, first, tokens, p.head_dim);
        return;
    }
    const int half = p.rope_group / 2;
#pragma unroll 1
    for (int i = S::thread(); i < ROWS * S::HEAD_DIM / 2; i += S::THREADS) {
        const int row = i / (S::HEAD_DIM / 2), feature = i % (S::HEAD_DIM / 2) * 2;
        Vec<T, 2> turned{};
        if (first + row < tokens && feature < p.head_dim) {
            const bool left = feature % p.rope_group < half;
            const std::int64_t token = first + row;
            const T *features = from + token * stride;
            const float *cosines = static_cast<const float *>(p.rope) + token * 2 * p.head_dim;
            const auto x = load_floats<2>(features + feature);
            const auto y = load_floats<2>(features + (left ? feature + half : feature - half));
            const auto cosine = load_floats<2>(cosines + feature);
            const auto sine = load_floats<2>(cosines + p.head_dim + feature);
#pragma unroll
            for (int j = 0; j < 2; j++) {
                turned[j] = from_float<T>(x[j] * cosine[j] + (left ? -y[j] : y[j]) * sine[j]);
            }
        }
        *reinterpret_cast<Vec<T, 2> *>(to + row * S::PITCH + feature) = turned;
    }
}

// 16 queries as fragments of a left factor.
template <typename S> struct Queries {
    std::uint32_t steps[S::STEPS][4];
    std::uint32_t tail[2];

    template <typename T> __device__ __forceinline__ void load(const T *rows) {
        const T *row = rows + lane() % 16 * S::PITCH;
#pragma unroll
        for (int step = 0; step < S::STEPS; step++) {
            ldmatrix_x4(steps[step], row + 16 * step + lane() / 16 * 8);
        }
        if constexpr (S::TAIL) {
            ldmatrix_x2(tail, row + 16 * S::STEPS);
        }
    }
};

// Scores of a warp: scores[m][n] are of the m-th 16 queries and the n-th 8 keys, in the layout that Softmax describes.
template <typename S> using Scores = float[S::ROW_TILES][S::KEY_TILES][4];

// Multiplies a warp's queries by a tile of keys. Each fragment of keys serves all queries of the warp.
template <typename T, typename S>
__device__ __forceinline__ void multiply_keys(Scores<S> &scores, const Queries<S> (&queries)[S::ROW_TILES],
                                              const T *keys) {
#pragma unroll
    for (int m = 0; m < S::ROW_TILES; m++) {
#pragma unroll
        for (int i = 0; i < 4 * S::KEY_TILES; i++) {
            scores[m][i / 4][i % 4] = 0.0f;
        }
    }
    // Eight keys with their left and their right eight features, then the next eight keys.
    const T *row = keys + (lane() % 8 + lane() / 16 * 8) * S::PITCH + lane() / 8 % 2 * 8;
#pragma unroll
    for (int step = 0; step < S::STEPS; step++) {
#pragma unroll
        for (int n = 0; n < S::KEY_TILES; n += 2) {
            std::uint32_t k[4];
            ldmatrix_x4(k, row + n * 8 * S::PITCH + 16 * step);
#pragma unroll
            for (int m = 0; m < S::ROW_TILES; m++) {
                mma_k16<T>(scores[m][n], queries[m].steps[step], {k[0], k[1]});
                mma_k16<T>(scores[m][n + 1], queries[m].steps[step], {k[2], k[3]});
            }
        }
    }
    if constexpr (S::TAIL) {
#pragma unroll
        for (int n = 0; n < S::KEY_TILES; n += 2) {
            std::uint32_t k[2];
            ldmatrix_x2(k, keys + (8 * n + lane() % 16) * S::PITCH + 16 * S::STEPS);
#pragma unroll
            for (int m = 0; m < S::ROW_TILES; m++) {
                mma_k8<T>(scores[m][n], queries[m].tail, {k[0]});
                mma_k8<T>(scores[m][n + 1], queries[m].tail, {k[1]});
            }
        }
    }
}

// A thread's share of the mask of a tile of keys, in units of log 2: −∞ for keys beyond the last. The thread loads it
// before it multiplies the tile before, and puts it into shared memory afterwards.
template <typename S> struct MaskPart {
    float value;

    __device__ __forceinline__ void load(const AttentionParams &p, const Task &task, int first_key) {
        const int key = first_key + S::thread();
        if (S::EXTRAS == Extras::MASK && S::thread() < S::KEYS) {
            const float *mask = static_cast<const float *>(p.mask) + static_cast<std::int64_t>(task.outer) * p.keys;
            value = key < p.keys ? load_global(mask + key) * LOG2_E : -INFINITY;
        }
    }

    __device__ __forceinline__ void put(int stage) const {
        if constexpr (S::EXTRAS == Extras::MASK) {
            if (S::thread() < S::KEYS) {
                S::mask(stage)[S::thread()] = value;
            }
        }
    }
};

// Converts scores to units of log 2, and adds the mask.
template <typename S>
__device__ __forceinline__ void add_mask(const AttentionParams &p, Scores<S> &scores, const float *mask) {
    const float factor = p.scale * LOG2_E;
#pragma unroll
    for (int n = 0; n < S::KEY_TILES; n++) {
        const auto masked = *reinterpret_cast<const Vec<float, 2> *>(mask + 8 * n + lane() % 4 * 2);
#pragma unroll
        for (int i = 0; i < 4 * S::ROW_TILES; i++) {
            float &score = scores[i / 4][n][i % 4];
            score = score * factor + masked[i % 2];
        }
    }
}

// Adds the bias and, if there is one, the mask, and converts scores to units of log 2; −∞ for keys beyond the last.
template <typename S>
__device__ __forceinline__ void add_bias(const AttentionParams &p, const Task &task, Scores<S> &scores, int first_key) {
    const bool has_mask = p.mask != nullptr;
    const int query = task.first_query + S::warp_row() + lane() / 4, key = first_key + lane() % 4 * 2;
    const std::int64_t bias_at = (static_cast<std::int64_t>(task.head) * p.queries + query) * p.keys + key;
    const std::int64_t mask_at = static_cast<std::int64_t>(task.outer) * p.keys + key;
    const float *bias = static_cast<const float *>(p.bias), *mask = static_cast<const float *>(p.mask);
#pragma unroll
    for (int column = 0; column < 2 * S::KEY_TILES; column++) {
        const int right = column / 2 * 8 + column % 2;
        const bool there = key + right < p.keys;
        const float masked = there && has_mask ? load_global(mask + mask_at + right) : 0.0f;
#pragma unroll
        for (int half = 0; half < 2 * S::ROW_TILES; half++) {
            const bool biased = there && query + 8 * half < p.queries;
            const float added = biased ? load_global(bias + bias_at + 8 * half * p.keys + right) : 0.0f;
            float &score = scores[half / 2][column / 2][half % 2 * 2 + column % 2];
            score = there ? (score * p.scale + (added + masked)) * LOG2_E : -INFINITY;
        }
    }
}

// Sets the scores of keys beyond the last to −∞.
template <typename S>
__device__ __forceinline__ void end_keys(const AttentionParams &p, Scores<S> &scores, int first_key) {
    const int keys = p.keys - first_key - lane() % 4 * 2;
#pragma unroll
    for (int n = 0; n < S::KEY_TILES; n++) {
#pragma unroll
        for (int i = 0; i < 4 * S::ROW_TILES; i++) {
            float &score = scores[i / 4][n][i % 4];
            score = 8 * n + i % 2 < keys ? score : -INFINITY;
        }
    }
}

// The sums and the softmax of 16 queries over the keys so far. A lane has its share of two queries, as in the scores.
template <typename S> struct Met {
    float sums[S::COLUMNS][4];
    Softmax softmax;

    __device__ __forceinline__ void clear() {
        softmax.clear();
#pragma unroll
        for (int n = 0; n < S::COLUMNS; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                sums[n][i] = 0.0f;
            }
        }
    }

    // Turns scores into weights. A new maximum rescales the earlier sums.
    __device__ __forceinline__ void weigh(float (&scores)[S::KEY_TILES][4], float factor) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float fade = softmax.weigh(scores, factor, half);
#pragma unroll
            for (int n = 0; n < S::COLUMNS; n++) {
                sums[n][2 * half] *= fade;
                sums[n][2 * half + 1] *= fade;
            }
        }
    }

    // Puts sums / total into 16 rows of shared memory.
    template <typename T> __device__ __forceinline__ void divide(T *rows) const {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float factor = softmax.inverse(half);
            T *row = rows + (lane() / 4 + 8 * half) * S::PITCH + lane() % 4 * 2;
#pragma unroll
            for (int n = 0; n < S::COLUMNS; n++) {
                const float *pair = sums[n] + 2 * half;
                *reinterpret_cast<Vec<T, 2> *>(row + 8 * n) = {
                    {from_float<T>(pair[0] * factor), from_float<T>(pair[1] * factor)}};
            }
        }
    }
};

// Adds weights·values to the sums. Two neighbouring tiles of weights already lie as a left factor of 16 columns.
template <typename T, typename S>
__device__ __forceinline__ void multiply_values(Met<S> (&met)[S::ROW_TILES], const Scores<S> &weights,
                                                const T *values) {
    const T *row = values + lane() % 16 * S::PITCH;
#pragma unroll
    for (int step = 0; step < S::KEYS / 16; step++, row += 16 * S::PITCH) {
        std::uint32_t p[S::ROW_TILES][4];
#pragma unroll
        for (int m = 0; m < S::ROW_TILES; m++) {
            left_factor<T>(p[m], weights[m][2 * step], weights[m][2 * step + 1]);
        }
#pragma unroll
        for (int n = 0; n + 1 < S::COLUMNS; n += 2) {
            std::uint32_t v[4];
            ldmatrix_x4_trans(v, row + 8 * n + lane() / 16 * 8);
#pragma unroll
            for (int m = 0; m < S::ROW_TILES; m++) {
                mma_k16<T>(met[m].sums[n], p[m], {v[0], v[1]});
                mma_k16<T>(met[m].sums[n + 1], p[m], {v[2], v[3]});
            }
        }
        if constexpr (S::TAIL) {
            std::uint32_t v[2];
            ldmatrix_x2_trans(v, row + 16 * S::STEPS);
#pragma unroll
            for (int m = 0; m < S::ROW_TILES; m++) {
                mma_k16<T>(met[m].sums[S::COLUMNS - 1], p[m], v);
            }
        }
    }
}

template <typename T, int WARPS, int ROW_TILES, int HEAD_DIM, Extras EXTRAS = Extras::NONE>
__device__ __forceinline__ void attention(const AttentionParams &p) {
    using S = Team<T, WARPS, ROW_TILES, HEAD_DIM, EXTRAS>;
    const int index = static_cast<int>(blockIdx.x) * S::TEAMS + S::index();
    if (index >= p.tasks) {
        return;
    }
    const Task task = Task::at(index, p.queries, S::QUERIES, p.heads, p.inner);
    const T *q = task.start(static_cast<const T *>(p.q), p.q_outer, p.q_inner, p.head_dim);
    const T *k = task.start(static_cast<const T *>(p.k), p.k_outer, p.k_inner, p.head_dim);
    const T *v = task.start(static_cast<const T *>(p.v), p.v_outer, p.v_inner, p.head_dim);
    // A warp whose queries are all beyond the last only helps to copy.
    const int first_query = task.first_query + S::warp_row();
    const bool works = first_query < p.queries;

    const auto copy_keys = [&](int tile) {
        T *stage = S::stage(tile % 2);
        copy_turned<S::KEYS, S>(p, stage, k, p.k_token, tile * S::KEYS, p.keys);
        copy_tile<S::KEYS, S>(stage + S::TILE, v, p.v_token, tile * S::KEYS, p.keys, p.head_dim);
        cp_async_commit();
    };
    // The queries pass through the second stage before its first tile is copied.
    copy_turned<S::QUERIES, S>(p, S::stage(1), q, p.q_token, task.first_query, p.queries);
    copy_keys(0);
    MaskPart<S> mask;
    mask.load(p, task, 0);
    mask.put(0);
    cp_async_wait<0>();
    S::sync();
    Queries<S> queries[ROW_TILES];
    Met<S> met[ROW_TILES];
#pragma unroll
    for (int m = 0; m < ROW_TILES; m++) {
        queries[m].load(S::stage(1) + (S::warp_row() + 16 * m) * S::PITCH);
        met[m].clear();
    }

    // Without bias and mask, the exponential applies the factor of q·k at no cost.
    const float factor = EXTRAS == Extras::NONE ? p.scale * LOG2_E : 1.0f;
    const int tiles = (p.keys + S::KEYS - 1) / S::KEYS;
    for (int tile = 0; tile < tiles; tile++) {
        // Behind the barrier, all warps see this tile, and none reads the other stage any more.
        cp_async_wait<0>();
        S::sync();
        if (tile + 1 < tiles) {
            copy_keys(tile + 1);
            mask.load(p, task, (tile + 1) * S::KEYS);
        }
        if (works) {
            const T *stage = S::stage(tile % 2);
            Scores<S> scores;
            multiply_keys<T, S>(scores, queries, stage);
            if constexpr (EXTRAS == Extras::MASK) {
                add_mask<S>(p, scores, S::mask(tile % 2));
            } else if constexpr (EXTRAS == Extras::BIAS) {
                add_bias<S>(p, task, scores, tile * S::KEYS);
            } else if ((tile + 1) * S::KEYS > p.keys) {
                end_keys<S>(p, scores, tile * S::KEYS);
            }
#pragma unroll
            for (int m = 0; m < ROW_TILES; m++) {
                met[m].weigh(scores[m], factor);
            }
            multiply_values<T, S>(met, scores, stage + S::TILE);
        }
        // Behind the last tile, nobody reads the mask.
        mask.put((tile + 1) % 2);
    }

    // The results pass through shared memory, so that threads store whole vectors.
    S::sync();
    if (works) {
        T *out = task.start(static_cast<T *>(p.out), p.out_outer, p.out_inner, p.head_dim);
        T *rows = S::stage(0) + S::warp_row() * S::PITCH;
#pragma unroll
        for (int m = 0; m < ROW_TILES; m++) {
            met[m].divide(rows + 16 * m * S::PITCH);
        }
        __syncwarp();
#pragma unroll 1
        for (int i = lane(); i < S::WARP_QUERIES * S::COLUMNS; i += static_cast<int>(WARP_SIZE)) {
            const int row = i / S::COLUMNS, column = i % S::COLUMNS * 8;
            if (first_query + row < p.queries && column < p.head_dim) {
                store_global(reinterpret_cast<WideVec<T> *>(out + (first_query + row) * p.out_token + column),
                             *reinterpret_cast<const WideVec<T> *>(rows + row * S::PITCH + column));
            }
        }
    }
}

// The registers suffice for three blocks. Without this bound the compiler aims at four on sm_80, and spills.
constexpr Bounds THREE_BLOCKS(BLOCK_THREADS, 3);

} // namespace

// There is no kernel of 128 queries with 128 features or with a mask, because registers do not suffice. Sequences with
// a bias or a mask are rarely short, so all of them use teams of 64 queries.
KERNEL(attention_q16_d16_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 1, 1, 16>(p); }
KERNEL(attention_q16_d16_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 1, 1, 16>(p); }
KERNEL(attention_q16_d64_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 1, 1, 64>(p); }
KERNEL(attention_q16_d64_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 1, 1, 64>(p); }
KERNEL(attention_q16_d72_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 1, 1, 72>(p); }
KERNEL(attention_q16_d72_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 1, 1, 72>(p); }
KERNEL(attention_q16_d128_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 1, 1, 128>(p); }
KERNEL(attention_q16_d128_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 1, 1, 128>(p); }
KERNEL(attention_q32_d16_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 2, 1, 16>(p); }
KERNEL(attention_q32_d16_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 2, 1, 16>(p); }
KERNEL(attention_q32_d64_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 2, 1, 64>(p); }
KERNEL(attention_q32_d64_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 2, 1, 64>(p); }
KERNEL(attention_q32_d72_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 2, 1, 72>(p); }
KERNEL(attention_q32_d72_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 2, 1, 72>(p); }
KERNEL(attention_q32_d128_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 2, 1, 128>(p); }
KERNEL(attention_q32_d128_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 2, 1, 128>(p); }
KERNEL(attention_q64_d16_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 4, 1, 16>(p); }
KERNEL(attention_q64_d16_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 4, 1, 16>(p); }
KERNEL(attention_q64_d64_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 4, 1, 64>(p); }
KERNEL(attention_q64_d64_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 4, 1, 64>(p); }
KERNEL(attention_q64_d72_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 4, 1, 72>(p); }
KERNEL(attention_q64_d72_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 4, 1, 72>(p); }
KERNEL(attention_q64_d128_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 4, 1, 128>(p); }
KERNEL(attention_q64_d128_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 4, 1, 128>(p); }
KERNEL(attention_q128_d16_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 4, 2, 16>(p); }
KERNEL(attention_q128_d16_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 4, 2, 16>(p); }
KERNEL(attention_q128_d64_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 4, 2, 64>(p); }
KERNEL(attention_q128_d64_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 4, 2, 64>(p); }
KERNEL(attention_q128_d72_f16, BLOCK_THREADS, AttentionParams) { attention<f16, 4, 2, 72>(p); }
KERNEL(attention_q128_d72_bf16, BLOCK_THREADS, AttentionParams) { attention<bf16, 4, 2, 72>(p); }
KERNEL(attention_mask_q64_d16_f16, BLOCK_THREADS, AttentionParams) {
    attention<f16, 4, 1, 16, Extras::MASK>(p);
}
KERNEL(attention_mask_q64_d16_bf16, BLOCK_THREADS, AttentionParams) {
    attention<bf16, 4, 1, 16, Extras::MASK>(p);
}
KERNEL(attention_mask_q64_d64_f16, BLOCK_THREADS, AttentionParams) {
    attention<f16, 4, 1, 64, Extras::MASK>(p);
}
KERNEL(attention_mask_q64_d64_bf16, BLOCK_THREADS, AttentionParams) {
    attention<bf16, 4, 1, 64, Extras::MASK>(p);
}
KERNEL(attention_mask_q64_d72_f16, THREE_BLOCKS, AttentionParams) {
    attention<f16, 4, 1, 72, Extras::MASK>(p);
}
KERNEL(attention_mask_q64_d72_bf16, THREE_BLOCKS, AttentionParams) {
    attention<bf16, 4, 1, 72, Extras::MASK>(p);
}
KERNEL(attention_mask_q64_d128_f16, BLOCK_THREADS, AttentionParams) {
    attention<f16, 4, 1, 128, Extras::MASK>(p);
}
KERNEL(attention_mask_q64_d128_bf16, BLOCK_THREADS, AttentionParams) {
    attention<bf16, 4, 1, 128, Extras::MASK>(p);
}
KERNEL(attention_bias_q64_d16_f16, BLOCK_THREADS, AttentionParams) {
    attention<f16, 4, 1, 16, Extras::BIAS>(p);
}
KERNEL(attention_bias_q64_d16_bf16, BLOCK_THREADS, AttentionParams) {
    attention<bf16, 4, 1, 16, Extras::BIAS>(p);
}
KERNEL(attention_bias_q64_d64_f16, BLOCK_THREADS, AttentionParams) {
    attention<f16, 4, 1, 64, Extras::BIAS>(p);
}
KERNEL(attention_bias_q64_d64_bf16, BLOCK_THREADS, AttentionParams) {
    attention<bf16, 4, 1, 64, Extras::BIAS>(p);
}
KERNEL(attention_bias_q64_d72_f16, BLOCK_THREADS, AttentionParams) {
    attention<f16, 4, 1, 72, Extras::BIAS>(p);
}
KERNEL(attention_bias_q64_d72_bf16, BLOCK_THREADS, AttentionParams) {
    attention<bf16, 4, 1, 72, Extras::BIAS>(p);
}
KERNEL(attention_bias_q64_d128_f16, BLOCK_THREADS, AttentionParams) {
    attention<f16, 4, 1, 128, Extras::BIAS>(p);
}
KERNEL(attention_bias_q64_d128_bf16, BLOCK_THREADS, AttentionParams) {
    attention<bf16, 4, 1, 128, Extras::BIAS>(p);
}

KERNEL_FILE(attention);
