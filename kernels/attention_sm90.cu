// Attention on Hopper, for 64 or 72 features a head, without bias and RoPE.
//
//     out = softmax(q·kᵀ·scale + mask)·v        for every head of every sequence
//
// q_map, k_map, v_map: [outer, inner, tokens, heads, head_dim], boxes of 64 features and of a tile's tokens, swizzled by
// 128 bytes. The maps of the rest have the features from 64 on: 16 of q and k, swizzled by 32 bytes, and 8 of v, not
// swizzled. What lies beyond head_dim, or beyond the last token, arrives as zeros. mask_map: f32 [1, outer·keys], a
// tile's keys; only for the kernels with `mask` in their name. out_map: as q_map, boxes of all features and 64 tokens.
//
// A team of one or two warpgroups shares its keys; each warpgroup has 64 queries and their sums in registers. The scores
// are products of the queries and a tile of keys, over 80 features: 4 steps of 16 and one for the rest. Their exponentials,
// rounded to T, already lie in registers as the left factor of the product with v: 64 columns, and 8 for the rest. The
// products of the next tile's scores and of this tile's values are under way together, and while the tensor cores still add
// values, the warps take the exponentials of the next tile. A new maximum scales the earlier sums down (online softmax; the order of
// products is that of FlashAttention-3). Sums run in the order of the keys, so a query's bits do not depend on its tile.
//
// Warpgroup 0 copies: one of its threads fills the rings of all teams. A block stays on its multiprocessor and makes one
// task after another, a tile of queries of a head of a sequence; heads vary fastest, so that blocks that run at the same
// time read the tokens' rows whole. If a team's next task has the same keys, and all their tiles have a stage, they stay.
//
// Block: 384 threads: one team of 128 queries (q128), or two of 64 (q64). Grid: blocks for all multiprocessors, or fewer
// if there are fewer tasks. Shared memory: rings of queries, keys and values, results, barriers: 211 KiB (q128), 206 KiB
// (mask), 193 KiB (q64).
// Limits: sm_90a only; head_dim 64 or 72; all strides multiples of 8, addresses of 16 bytes; scale > 0.

#include "common/attention.cuh"
#include "common/hopper/pipeline.cuh"

namespace {

struct AttentionSm90Params {
    TensorMap q_map;
    TensorMap q_rest_map;
    TensorMap k_map;
    TensorMap k_rest_map;
    TensorMap v_map;
    TensorMap v_rest_map;
    TensorMap mask_map;
    TensorMap out_map;
    // outer·inner·heads·tiles of queries
    std::int32_t tasks;
    std::int32_t inner;
    std::int32_t heads;
    std::int32_t queries;
    std::int32_t keys;
    // Whether each inner sequence has its own keys; otherwise those of an outer sequence share them.
    std::int32_t own_keys;
    float scale;
    std::int32_t unused;
};

constexpr int CONSUMERS = 2, GROUP_WARPS = static_cast<int>(WARPGROUP_SIZE / WARP_SIZE);
constexpr Bounds THREADS(static_cast<int>(WARPGROUP_SIZE) * (1 + CONSUMERS), 1);
// Queries of a warpgroup, and steps of k of a product.
constexpr int GROUP_QUERIES = 64, PRODUCT_K = 16;
// Features of a panel, and the bytes of its rows; bytes of the rows of the rest of q and k, and of v.
constexpr int PANEL = 64, PANEL_ROW = PANEL * 2, REST_ROW = 32, VALUE_REST_ROW = 16;
constexpr int HEAD_DIM = 72, VALUE_REST = HEAD_DIM - PANEL, OUT_ROW = HEAD_DIM * 2;
constexpr int HEAD_STEPS = (HEAD_DIM + PRODUCT_K - 1) / PRODUCT_K;
constexpr int OUT_BYTES = GROUP_QUERIES * OUT_ROW;

constexpr int whole_swizzles(int bytes) { return (bytes + 8 * PANEL_ROW - 1) / (8 * PANEL_ROW) * (8 * PANEL_ROW); }

// GROUPS warpgroups that share tiles of KEYS keys. The stages of a ring follow each other; the rings of a team, too.
template <typename T_, int GROUPS_, int KEYS_, int STAGES_, int QUERY_STAGES_, bool MASKED_> struct Team {
    using T = T_;
    static constexpr int GROUPS = GROUPS_, KEYS = KEYS_, STAGES = STAGES_, QUERY_STAGES = QUERY_STAGES_;
    static constexpr bool MASKED = MASKED_;
    static constexpr int TEAMS = CONSUMERS / GROUPS, QUERIES = GROUPS * GROUP_QUERIES;
    static constexpr int QUERY_BYTES = QUERIES * (PANEL_ROW + REST_ROW);
    static constexpr int MASK_AT = KEYS * (PANEL_ROW + REST_ROW), MASK_BYTES = MASKED ? KEYS * 4 : 0;
    static constexpr int KEY_BYTES = MASK_AT + MASK_BYTES, VALUE_BYTES = KEYS * (PANEL_ROW + VALUE_REST_ROW);
    static constexpr int KEY_STAGE = whole_swizzles(KEY_BYTES), VALUE_STAGE = whole_swizzles(VALUE_BYTES);
    static constexpr int KEYS_AT = QUERY_STAGES * QUERY_BYTES, VALUES_AT = KEYS_AT + STAGES * KEY_STAGE;
    static constexpr int TEAM_BYTES = VALUES_AT + STAGES * VALUE_STAGE;
    static_assert(QUERY_BYTES % (8 * PANEL_ROW) == 0, "stages begin where the swizzle does");
};

// The stages of a team, and their barriers.
template <typename S> struct Rings {
    Ring<S::QUERY_STAGES> queries;
    Ring<S::STAGES> keys, values;
};

template <typename S> __device__ __forceinline__ Rings<S> *rings(int team) {
    constexpr int AT = S::TEAMS * S::TEAM_BYTES + CONSUMERS * OUT_BYTES;
    return reinterpret_cast<Rings<S> *>(shared_memory() + AT) + team;
}

template <typename S> __device__ __forceinline__ unsigned char *query_stage(int team, int stage) {
    return shared_memory() + team * S::TEAM_BYTES + stage * S::QUERY_BYTES;
}

template <typename S> __device__ __forceinline__ unsigned char *key_stage(int team, int stage) {
    return shared_memory() + team * S::TEAM_BYTES + S::KEYS_AT + stage * S::KEY_STAGE;
}

template <typename S> __device__ __forceinline__ unsigned char *value_stage(int team, int stage) {
    return shared_memory() + team * S::TEAM_BYTES + S::VALUES_AT + stage * S::VALUE_STAGE;
}

// The tasks of a team.
template <typename S> struct Tasks {
    const AttentionSm90Params &p;
    int tiles_of_queries, tiles, first, stride;

    __device__ __forceinline__ Tasks(const AttentionSm90Params &p, int team)
        : p(p), tiles_of_queries((p.queries + S::QUERIES - 1) / S::QUERIES), tiles((p.keys + S::KEYS - 1) / S::KEYS),
          first(static_cast<int>(blockIdx.x) * S::TEAMS + team), stride(static_cast<int>(gridDim.x) * S::TEAMS) {}

    __device__ __forceinline__ Task at(int index) const {
        const int rest = index / p.heads, sequence = rest / tiles_of_queries;
        return {sequence / p.inner, sequence % p.inner, index % p.heads, rest % tiles_of_queries * S::QUERIES};
    }

    // Whether the keys of task `index` stay for the next one.
    __device__ __forceinline__ bool keep_keys(int index) const {
        if (tiles > S::STAGES || index + stride >= p.tasks) {
            return false;
        }
        const Task task = at(index), next = at(index + stride);
        return task.head == next.head && task.outer == next.outer && (p.own_keys == 0 || task.inner == next.inner);
    }
};

// Fills the rings of one team. One thread does this.
template <typename S> class Copier {
    const AttentionSm90Params &p;
    const Tasks<S> tasks;
    const int team;
    RingStep<S::QUERY_STAGES> query;
    RingStep<S::STAGES> pair;
    bool has_keys = false;

    __device__ __forceinline__ void copy_queries(const Task &task) {
        CopyBarrier *const full = rings<S>(team)->queries.full + query.stage;
        unsigned char *const to = query_stage<S>(team, query.stage);
        wait_for_phase(rings<S>(team)->queries.empty + query.stage, query.parity ^ 1);
        arrive_expecting(full, S::QUERY_BYTES);
        load_box(to, p.q_map, {0, task.head, task.first_query, task.inner, task.outer}, full);
        load_box(to + S::QUERIES * PANEL_ROW, p.q_rest_map,
                 {PANEL, task.head, task.first_query, task.inner, task.outer}, full);
        query.next();
    }

    // Copies a tile of keys and a tile of values.
    __device__ __forceinline__ void copy_pair(const Task &task, int first_key) {
        const int inner = p.own_keys != 0 ? task.inner : 0;
        CopyBarrier *full = rings<S>(team)->keys.full + pair.stage;
        unsigned char *to = key_stage<S>(team, pair.stage);
        wait_for_phase(rings<S>(team)->keys.empty + pair.stage, pair.parity ^ 1);
        arrive_expecting(full, S::KEY_BYTES);
        load_box(to, p.k_map, {0, task.head, first_key, inner, task.outer}, full);
        load_box(to + S::KEYS * PANEL_ROW, p.k_rest_map, {PANEL, task.head, first_key, inner, task.outer}, full);
        if constexpr (S::MASKED) {
            load_box(to + S::MASK_AT, p.mask_map, {task.outer * p.keys + first_key, 0}, full);
        }
        full = rings<S>(team)->values.full + pair.stage;
        to = value_stage<S>(team, pair.stage);
        wait_for_phase(rings<S>(team)->values.empty + pair.stage, pair.parity ^ 1);
        arrive_expecting(full, S::VALUE_BYTES);
        load_box(to, p.v_map, {0, task.head, first_key, inner, task.outer}, full);
        load_box(to + S::KEYS * PANEL_ROW, p.v_rest_map, {PANEL, task.head, first_key, inner, task.outer}, full);
        pair.next();
    }

  public:
    __device__ __forceinline__ Copier(const AttentionSm90Params &p, int team) : p(p), tasks(p, team), team(team) {}

    // Copies what the team needs for its `round`th task. False if it has no such task.
    __device__ __forceinline__ bool copy(int round) {
        const int index = tasks.first + round * tasks.stride;
        if (index >= p.tasks) {
            return false;
        }
        const Task task = tasks.at(index);
        copy_queries(task);
        if (!has_keys) {
#pragma unroll 1
            for (int tile = 0; tile < tasks.tiles; tile++) {
                copy_pair(task, tile * S::KEYS);
            }
        }
        has_keys = tasks.keep_keys(index);
        return true;
    }
};

template <typename S> __device__ __forceinline__ void copy_tasks(const AttentionSm90Params &p) {
    Copier<S> first(p, 0), second(p, S::TEAMS - 1);
    bool more = true;
    for (int round = 0; more; round++) {
        more = first.copy(round);
        if constexpr (S::TEAMS == 2) {
            second.copy(round);
        }
    }
}

// Scores of a warpgroup's queries and a tile of keys: element [n][i] belongs to key 8·n + 2·(lane%4) + i%2.
template <typename S> using Scores = float[S::KEYS / 8][4];
// They are the sums of one product.
template <typename S> __device__ __forceinline__ float (&sums_of(Scores<S> &scores))[S::KEYS / 2] {
    return reinterpret_cast<float(&)[S::KEYS / 2]>(scores);
}

// The 64 queries and the sums of a warpgroup.
template <typename S> class Consumer {
    using T = typename S::T;

    const AttentionSm90Params &p;
    const Tasks<S> tasks;
    // The consumer's number, and its team.
    const int consumer, team;
    RingStep<S::QUERY_STAGES> query;
    RingStep<S::STAGES> key, value;
    Softmax softmax;
    // The sums of 64 features, and of the rest.
    float sums[PANEL / 2], rest[VALUE_REST / 2];
    // The queries: a left factor for each 16 features.
    std::uint32_t queries[HEAD_STEPS][4];
    // The exponentials of a tile, rounded to T: a left factor for each 16 keys.
    std::uint32_t weights[S::KEYS / PRODUCT_K][4];

    __device__ __forceinline__ int group_of_team() const { return S::GROUPS == 1 ? 0 : consumer; }

    // The warp's number in its warpgroup.
    __device__ __forceinline__ int warp() const { return static_cast<int>(threadIdx.x / WARP_SIZE) % GROUP_WARPS; }

    __device__ __forceinline__ void meet() const { barrier_of_two<WARPGROUP_SIZE>(consumer == 0); }

    __device__ __forceinline__ void release(CopyBarrier *empty) const {
        if (threadIdx.x % WARP_SIZE == 0) {
            arrive(empty);
        }
    }

    // Takes the queries into registers, and frees their stage.
    __device__ __forceinline__ void take_queries() {
        Ring<S::QUERY_STAGES> &ring = rings<S>(team)->queries;
        wait_for_phase(ring.full + query.stage, query.parity);
        const int lane = static_cast<int>(threadIdx.x % WARP_SIZE), half = lane / 16;
        const int row = (group_of_team() * GROUP_WARPS + warp()) * 16 + lane % 16;
        const unsigned char *const stage = query_stage<S>(team, query.stage);
#pragma unroll
        for (int step = 0; step < PANEL / PRODUCT_K; step++) {
            ldmatrix_x4(queries[step], stage + row * PANEL_ROW + ((2 * step + half) ^ (row % 8)) * 16);
        }
        ldmatrix_x4(queries[HEAD_STEPS - 1], stage + S::QUERIES * PANEL_ROW + row * REST_ROW + (half ^ (row / 4 % 2)) * 16);
        // All lanes have read before one of them frees the stage.
        __syncwarp();
        release(ring.empty + query.stage);
        query.next();
    }

    // Starts the products of the queries and the next tile of keys.
    __device__ __forceinline__ void start_scores(Scores<S> &scores) {
        wait_for_phase(rings<S>(team)->keys.full + key.stage, key.parity);
        const unsigned char *const keys = key_stage<S>(team, key.stage);
        const std::uint64_t k = describe_matrix(keys, 16, 8 * PANEL_ROW, Swizzle::B128);
        const std::uint64_t k_rest = describe_matrix(keys + S::KEYS * PANEL_ROW, 16, 8 * REST_ROW, Swizzle::B32);
        open_products();
#pragma unroll
        for (int step = 0; step < PANEL / PRODUCT_K; step++) {
            multiply_left<T, S::KEYS>(sums_of<S>(scores), queries[step], advance(k, step * PRODUCT_K * 2), step > 0);
        }
        multiply_left<T, S::KEYS>(sums_of<S>(scores), queries[HEAD_STEPS - 1], k_rest, true);
        close_products();
    }

    // Starts to add the weighted values of the tile at `value`.
    __device__ __forceinline__ void start_values() {
        wait_for_phase(rings<S>(team)->values.full + value.stage, value.parity);
        const unsigned char *const values = value_stage<S>(team, value.stage);
        const std::uint64_t v = describe_matrix(values, 16, 8 * PANEL_ROW, Swizzle::B128);
        const std::uint64_t v_rest = describe_matrix(values + S::KEYS * PANEL_ROW, 8 * VALUE_REST_ROW, 16, Swizzle::NONE);
        open_products();
#pragma unroll
        for (int step = 0; step < S::KEYS / PRODUCT_K; step++) {
            const int keys = step * PRODUCT_K;
            multiply_left<T, PANEL, 1>(sums, weights[step], advance(v, keys * PANEL_ROW), true);
            multiply_left<T, VALUE_REST, 1>(rest, weights[step], advance(v_rest, keys * VALUE_REST_ROW), true);
        }
        close_products();
    }

    // The factor from scores to units of log 2. It is applied where the mask is added, or else by the exponential, at no cost.
    __device__ __forceinline__ float factor() const { return p.scale * LOG2_E; }

    // Adds the mask, and sets the scores of keys beyond the last to −∞. Then the tile's mask and keys are free if `last`.
    __device__ __forceinline__ void finish_scores(Scores<S> &scores, int tile, bool last) {
        const int column = static_cast<int>(threadIdx.x) % 4 * 2, keys = p.keys - tile * S::KEYS - column;
        if constexpr (S::MASKED) {
            const auto *const mask = reinterpret_cast<const float *>(key_stage<S>(team, key.stage) + S::MASK_AT) + column;
#pragma unroll
            for (int n = 0; n < S::KEYS / 8; n++) {
                const auto masked = *reinterpret_cast<const Vec<float, 2> *>(mask + 8 * n);
                const float added[2] = {masked[0] * LOG2_E, masked[1] * LOG2_E};
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    scores[n][i] = scores[n][i] * factor() + added[i % 2];
                }
            }
            __syncwarp();
        }
        if (last) {
            release(rings<S>(team)->keys.empty + key.stage);
        }
        if (keys + column < S::KEYS) {
#pragma unroll
            for (int n = 0; n < S::KEYS / 8; n++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    scores[n][i] = 8 * n + i % 2 < keys ? scores[n][i] : -INFINITY;
                }
            }
        }
    }

    // Turns scores into exponentials. Returns the factors of the earlier sums of both halves.
    __device__ __forceinline__ Vec<float, 2> weigh(Scores<S> &scores) {
        const float left = S::MASKED ? 1.0f : factor();
        const float upper = softmax.weigh(scores, left, 0), lower = softmax.weigh(scores, left, 1);
        return {upper, lower};
    }

    __device__ __forceinline__ void round_weights(const Scores<S> &scores) {
#pragma unroll
        for (int step = 0; step < S::KEYS / PRODUCT_K; step++) {
            left_factor<T>(weights[step], scores[2 * step], scores[2 * step + 1]);
        }
    }

    __device__ __forceinline__ void scale_sums(const Vec<float, 2> &factors) {
#pragma unroll
        for (int i = 0; i < PANEL / 2; i++) {
            sums[i] *= factors[i / 2 % 2];
        }
#pragma unroll
        for (int i = 0; i < VALUE_REST / 2; i++) {
            rest[i] *= factors[i / 2 % 2];
        }
    }

    // Waits for the values of the tile at `value`, which is free then if `last`.
    __device__ __forceinline__ void end_values(bool last) {
        wait_for_products<0>(sums, rest);
        if (last) {
            release(rings<S>(team)->values.empty + value.stage);
        }
        value.next();
    }

    // Puts the sums of all keys into this thread's elements, and weighs.
    __device__ __forceinline__ void attend(bool last) {
        softmax.clear();
#pragma unroll
        for (int i = 0; i < PANEL / 2; i++) {
            sums[i] = 0.0f;
        }
#pragma unroll
        for (int i = 0; i < VALUE_REST / 2; i++) {
            rest[i] = 0.0f;
        }
        Scores<S> scores;
        start_scores(scores);
        wait_for_products<0>(sums_of<S>(scores));
        finish_scores(scores, 0, last);
        weigh(scores);
        round_weights(scores);
#pragma unroll 1
        for (int tile = 1; tile < tasks.tiles; tile++) {
            key.next();
            start_scores(scores);
            start_values();
            wait_for_products<1>(sums_of<S>(scores));
            finish_scores(scores, tile, last);
            const auto factors = weigh(scores);
            end_values(last);
            scale_sums(factors);
            round_weights(scores);
        }
        key.next();
        start_values();
        end_values(last);
    }

    // Stores sums / total.
    __device__ __forceinline__ void store(const Task &task) const {
        unsigned char *const out = shared_memory() + S::TEAMS * S::TEAM_BYTES + consumer * OUT_BYTES;
        const bool copies = threadIdx.x % WARPGROUP_SIZE == 0;
        if (copies) {
            wait_for_reads<0>();
        }
        meet();
        const int lane = static_cast<int>(threadIdx.x % WARP_SIZE);
        const int row = warp() * 16 + lane / 4;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float factor = softmax.inverse(half);
            unsigned char *const to = out + (row + 8 * half) * OUT_ROW + lane % 4 * 4;
#pragma unroll
            for (int n = 0; n < HEAD_DIM / 8; n++) {
                const float *const pair = (n < PANEL / 8 ? sums + 4 * n : rest) + 2 * half;
                const Vec<T, 2> values = {{from_float<T>(pair[0] * factor), from_float<T>(pair[1] * factor)}};
                store_shared(reinterpret_cast<Vec<T, 2> *>(to + 16 * n), values);
            }
        }
        publish_shared();
        meet();
        const int query = task.first_query + group_of_team() * GROUP_QUERIES;
        if (copies && query < p.queries) {
            store_box(p.out_map, {0, task.head, query, task.inner, task.outer}, out);
            commit_stores();
        }
    }

  public:
    __device__ __forceinline__ Consumer(const AttentionSm90Params &p, int consumer)
        : p(p), tasks(p, consumer / S::GROUPS), consumer(consumer), team(consumer / S::GROUPS) {}

    __device__ __forceinline__ void run() {
#pragma unroll 1
        for (int index = tasks.first; index < p.tasks; index += tasks.stride) {
            take_queries();
            const auto first_key = key;
            const auto first_value = value;
            const bool last = !tasks.keep_keys(index);
            attend(last);
            if (!last) {
                key = first_key;
                value = first_value;
            }
            store(tasks.at(index));
        }
        // A block must not end before its stores are done.
        if (threadIdx.x % WARPGROUP_SIZE == 0) {
            wait_for_stores<0>();
        }
    }
};

template <typename S> __device__ __forceinline__ void attention(const AttentionSm90Params &p) {
    if (threadIdx.x == 0) {
        for (int team = 0; team < S::TEAMS; team++) {
            rings<S>(team)->queries.init(S::GROUPS * GROUP_WARPS);
            rings<S>(team)->keys.init(S::GROUPS * GROUP_WARPS);
            rings<S>(team)->values.init(S::GROUPS * GROUP_WARPS);
        }
        publish_barriers();
    }
    __syncthreads();
    const unsigned group = warpgroup_index();
    if (group == 0) {
        keep_registers<56>();
        if (threadIdx.x < WARP_SIZE && is_elected()) {
            copy_tasks<S>(p);
        }
    } else {
        take_registers<224>();
        Consumer<S>(p, static_cast<int>(group) - 1).run();
    }
}

template <typename T> using Wide = Team<T, 2, 128, 4, 2, false>;
// Captions have up to 300 tokens, for which two tiles suffice.
template <typename T> using Masked = Team<T, 2, 160, 3, 2, true>;
// Short sequences have one tile.
template <typename T> using Short = Team<T, 1, 64, 3, 3, false>;

} // namespace

KERNEL(attention_sm90_q128_d72_f16, THREADS, AttentionSm90Params) { attention<Wide<f16>>(p); }
KERNEL(attention_sm90_q128_d72_bf16, THREADS, AttentionSm90Params) { attention<Wide<bf16>>(p); }
KERNEL(attention_sm90_mask_q128_d72_f16, THREADS, AttentionSm90Params) { attention<Masked<f16>>(p); }
KERNEL(attention_sm90_mask_q128_d72_bf16, THREADS, AttentionSm90Params) { attention<Masked<bf16>>(p); }
KERNEL(attention_sm90_q64_d72_f16, THREADS, AttentionSm90Params) { attention<Short<f16>>(p); }
KERNEL(attention_sm90_q64_d72_bf16, THREADS, AttentionSm90Params) { attention<Short<bf16>>(p); }

KERNEL_FILE(attention_sm90);
