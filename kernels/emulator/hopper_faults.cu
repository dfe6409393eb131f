// Kernels for the tests of Hopper's instructions on the emulator. Each does its work right, and with a number in `fault`
// makes one mistake.

#include "../common/hopper/warpgroup.cuh"
#include "../common/hopper/wgmma.cuh"

namespace {

constexpr int WARPGROUP = static_cast<int>(WARPGROUP_SIZE);

struct PipelineParams {
    TensorMap a;
    TensorMap b;
    void *out;
    std::int32_t slices;
    std::int32_t fault;
};

// Stages of 64 steps of k: 128 rows of A, 64 rows of B, each row 128 bytes.
constexpr int STAGES = 2, TILE_M = 128, TILE_N = 64, SLICE = 64, ROW = 128;
constexpr int A_BYTES = TILE_M * ROW, STAGE_BYTES = A_BYTES + TILE_N * ROW;

struct Pipeline {
    CopyBarrier full[STAGES], empty[STAGES];
};

__device__ __forceinline__ Pipeline *pipeline() {
    return reinterpret_cast<Pipeline *>(shared_memory() + STAGES * STAGE_BYTES);
}

__device__ __forceinline__ void produce(const PipelineParams &p) {
    keep_registers<40>();
    const bool chosen = is_elected();
    if (threadIdx.x >= WARP_SIZE || !(chosen || (p.fault == 8 && threadIdx.x == 1))) {
        return;
    }
    for (int slice = 0; slice < p.slices; slice++) {
        const int stage = slice % STAGES, round = slice / STAGES;
        unsigned char *const place = shared_memory() + stage * STAGE_BYTES;
        CopyBarrier *const full = &pipeline()->full[stage];
        if (chosen) {
            wait_for_phase(&pipeline()->empty[stage], (round + 1) % 2);
            arrive_expecting(full, STAGE_BYTES + (p.fault == 2 ? 16 : 0));
            load_box<2>(place, p.a, {slice * SLICE, 0}, full);
        }
        load_box<2>(place + A_BYTES, p.b, {slice * SLICE, 0}, full);
    }
}

// This thread's sums of rows 64·tile to 64·tile + 63.
__device__ __forceinline__ void store_sums(void *out, const float (&d)[TILE_N / 2], int tile) {
    const int thread = static_cast<int>(threadIdx.x) % WARPGROUP, lane = thread % 32;
    for (int i = 0; i < TILE_N / 2; i++) {
        const int row = 64 * tile + 16 * (thread / 32) + lane / 4 + 8 * (i / 2 % 2);
        store_global(static_cast<float *>(out) + row * TILE_N + 8 * (i / 4) + 2 * (lane % 4) + i % 2, d[i]);
    }
}

__device__ __forceinline__ void consume(const PipelineParams &p, int tile) {
    if (p.fault != 11 || threadIdx.x % WARPGROUP_SIZE < 64) {
        p.fault == 10 ? take_registers<240>() : take_registers<232>();
    }
    float d[TILE_N / 2];
    for (int slice = 0; slice < p.slices; slice++) {
        const int stage = slice % STAGES, round = slice / STAGES;
        const unsigned char *const place = shared_memory() + stage * STAGE_BYTES;
        wait_for_phase(&pipeline()->full[stage], (round + (p.fault == 1 ? 1 : 0)) % 2);
        const unsigned stride = 8 * ROW - (p.fault == 4 ? ROW : 0);
        const auto a = describe_matrix(place + tile * 64 * ROW, 16, stride, Swizzle::B128);
        const auto b = describe_matrix(place + A_BYTES, 16, 8 * ROW, Swizzle::B128);
        if (p.fault != 7) {
            open_products();
        }
        for (unsigned step = 0; step < SLICE / 16; step++) {
            multiply_shared<bf16, TILE_N>(d, advance(a, 32 * step), advance(b, 32 * step), slice + step != 0);
        }
        close_products();
        const bool forgets = (p.fault == 6 || p.fault == 12) && slice == p.slices - 1;
        if (p.fault != 5 && !forgets) {
            wait_for_products<0>(d);
        }
        if (threadIdx.x % WARPGROUP_SIZE == 0) {
            arrive(&pipeline()->empty[stage]);
        }
        if (p.fault == 5) {
            wait_for_products<0>(d);
        }
    }
    store_sums(p.out, d, tile);
    if (p.fault == 6) {
        wait_for_products<0>(d);
    }
}

} // namespace

// out [128][64] = a·bᵀ of bf16, by a producer and two consumers. Faults: 1 a consumer's parity, 2 sixteen bytes too many,
// 3 one arrival too many, 4 a descriptor's stride, 5 a stage given back before its products end, 6 sums read before,
// 7 no open_products, 8 two threads copy b, 10 more registers than there are, 11 half of a warpgroup takes registers,
// 12 no wait for products, 13 no publish_barriers, 14 no meeting after it, 15 barriers prepared twice.
KERNEL(hopper_pipeline, Bounds(384, 1), PipelineParams) {
    if (threadIdx.x == 0) {
        for (int stage = 0; stage < STAGES; stage++) {
            init_barrier(&pipeline()->full[stage], p.fault == 3 ? 2 : 1);
            init_barrier(&pipeline()->empty[p.fault == 15 ? 0 : stage], 2);
        }
        if (p.fault != 13) {
            publish_barriers();
        }
    }
    if (p.fault != 14) {
        __syncthreads();
    }
    const unsigned group = warpgroup_index();
    if (group == 0) {
        produce(p);
    } else {
        consume(p, static_cast<int>(group) - 1);
    }
}

namespace {

struct StoreParams {
    TensorMap out;
    const void *x;
    std::int32_t at[2];
    std::int32_t fault;
};

} // namespace

// Copies 64×64 words of two bytes through shared memory into a box of a tensor: the first half of the rows by words, the
// others by matrices, of which every second is transposed there and back. Faults: 1 no publish_shared, 2 plain stores,
// 3 no wait at the end, 4 a wait only for reads, 5 no barrier before the copy, 6 the shared memory is changed too early.
KERNEL(hopper_store, WARPGROUP, StoreParams) {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
    auto *const words = reinterpret_cast<std::uint32_t *>(shared_memory());
    const auto *const x = static_cast<const std::uint32_t *>(p.x);
    for (int i = thread; i < 32 * 32; i += WARPGROUP) {
        const std::uint32_t word = load_global(x + i);
        if (p.fault == 2) {
            words[i] = word;
        } else {
            store_shared(words + i, word);
        }
    }
    // Each warp has eight rows: two times four matrices side by side.
    for (int half = 0; half < 2; half++) {
        const int row = 32 + 8 * warp, column = 16 * half;
        std::uint32_t held[4];
        for (int j = 0; j < 4; j++) {
            held[j] = load_global(x + (row + lane / 4) * 32 + column + 4 * j + lane % 4);
        }
        std::uint32_t *const to = words + (row + lane % 8) * 32 + column + 4 * (lane / 8);
        if (half == 0) {
            stmatrix_x4(to, held);
            continue;
        }
        stmatrix_x4_trans(to, held);
        __syncwarp();
        ldmatrix_x4_trans(held, to);
        __syncwarp();
        stmatrix_x4(to, held);
    }
    if (p.fault != 1) {
        publish_shared();
    }
    if (p.fault != 5) {
        named_barrier<3, WARPGROUP>();
    }
    if (warp == 0 && is_elected()) {
        store_box<2>(p.out, {p.at[0], p.at[1]}, words);
        commit_stores();
        if (p.fault == 6) {
            store_shared(words, 0u);
            publish_shared();
        }
        if (p.fault == 4) {
            wait_for_reads<0>();
        } else if (p.fault != 3) {
            wait_for_stores<0>();
        }
    }
}

namespace {

struct CopyParams {
    TensorMap map;
    const void *x;
    void *out;
    std::int32_t at[5];
    // Bytes of the box, or of plain bytes. The box lies at this place of shared memory.
    std::int32_t bytes;
    std::int32_t place;
};

__device__ __forceinline__ void show_shared(void *out, int place, int bytes) {
    const auto *const words = reinterpret_cast<const std::uint32_t *>(shared_memory() + place);
    for (int i = static_cast<int>(threadIdx.x); i < bytes / 4; i += static_cast<int>(WARP_SIZE)) {
        store_global(static_cast<std::uint32_t *>(out) + i, words[i]);
    }
}

// RANK 0: plain bytes.
template <int RANK> __device__ __forceinline__ void copy(const CopyParams &p) {
    auto *const barrier = reinterpret_cast<CopyBarrier *>(shared_memory());
    if (threadIdx.x == 0) {
        init_barrier(barrier, 1);
        publish_barriers();
    }
    __syncthreads();
    if (is_elected()) {
        arrive_expecting(barrier, static_cast<unsigned>(p.bytes));
        unsigned char *const to = shared_memory() + p.place;
        if constexpr (RANK == 0) {
            load_bytes(to, p.x, static_cast<unsigned>(p.bytes), barrier);
        } else {
            prefetch_map(p.map);
            int at[RANK];
            for (int i = 0; i < RANK; i++) {
                at[i] = p.at[i];
            }
            load_box<RANK>(to, p.map, at, barrier);
        }
    }
    wait_for_phase(barrier, 0);
    show_shared(p.out, p.place, p.bytes);
}

} // namespace

// A box of a tensor, or plain bytes, as it lies in shared memory.
KERNEL(hopper_copy_bytes, WARP_SIZE, CopyParams) { copy<0>(p); }
KERNEL(hopper_copy_2, WARP_SIZE, CopyParams) { copy<2>(p); }
KERNEL(hopper_copy_3, WARP_SIZE, CopyParams) { copy<3>(p); }
KERNEL(hopper_copy_4, WARP_SIZE, CopyParams) { copy<4>(p); }
KERNEL(hopper_copy_5, WARP_SIZE, CopyParams) { copy<5>(p); }

namespace {

struct ClusterParams {
    TensorMap map;
    void *out;
    std::int32_t turns;
    std::int32_t fault;
};

// A block's half of a box: 8 rows of 128 bytes.
constexpr int HALF = 8 * 128;

} // namespace

// Each block of a cluster of two brings half of a box to both, `turns` times into the same place; out [blocks][turns][2]
// halves. Faults: 1 no meeting at the end, 2 the first block does not wait for its last copies, 3 no wait for the other
// block's reads, 4 no meeting of the cluster at the beginning.
CLUSTER_KERNEL(hopper_cluster, WARP_SIZE, 2, ClusterParams) {
    auto *const full = reinterpret_cast<CopyBarrier *>(shared_memory() + 2 * HALF);
    CopyBarrier *const empty = full + 1;
    const unsigned rank = cluster_rank();
    if (threadIdx.x == 0) {
        init_barrier(full, 1);
        init_barrier(empty, 2);
        publish_barriers();
    }
    if (p.fault == 4) {
        __syncthreads();
    } else {
        cluster_sync();
    }
    for (int turn = 0; turn < p.turns; turn++) {
        if (threadIdx.x == 0) {
            if (p.fault != 3) {
                wait_for_phase(empty, (turn + 1) % 2);
            }
            arrive_expecting(full, 2 * HALF);
            load_box_to_blocks<2>(shared_memory() + rank * HALF, p.map, {0, 16 * turn + 8 * static_cast<int>(rank)}, full, 3);
        }
        if (p.fault == 2 && rank == 0 && turn == p.turns - 1) {
            return;
        }
        wait_for_phase(full, turn % 2);
        const auto place = static_cast<std::int64_t>(blockIdx.x) * p.turns + turn;
        show_shared(static_cast<unsigned char *>(p.out) + place * 2 * HALF, 0, 2 * HALF);
        __syncwarp();
        if (threadIdx.x < 2) {
            arrive_at_block(empty, threadIdx.x);
        }
    }
    if (p.fault != 1) {
        cluster_sync();
    }
}

namespace {

struct ProductParams {
    // The contents of shared memory, and d [64][N].
    const void *x;
    void *out;
    std::int32_t bytes;
    // Of a and b: start, lead, stride, the way to the next 16 steps of k, and the swizzle.
    std::int32_t a[5];
    std::int32_t b[5];
    // Products of 16 steps of k.
    std::int32_t steps;
};

// The barrier is behind the matrices.
template <typename T, int N, int A_BY_ROWS, int B_BY_ROWS> __device__ __forceinline__ void product(const ProductParams &p) {
    auto *const barrier = reinterpret_cast<CopyBarrier *>(shared_memory() + p.bytes);
    if (threadIdx.x == 0) {
        init_barrier(barrier, 1);
        publish_barriers();
        arrive_expecting(barrier, static_cast<unsigned>(p.bytes));
        load_bytes(shared_memory(), p.x, static_cast<unsigned>(p.bytes), barrier);
    }
    __syncthreads();
    wait_for_phase(barrier, 0);
    const auto matrix = [](const std::int32_t (&m)[5]) {
        return describe_matrix(shared_memory() + m[0], static_cast<unsigned>(m[1]), static_cast<unsigned>(m[2]),
                               static_cast<Swizzle>(m[4]));
    };
    float d[N / 2];
    open_products();
    for (int step = 0; step < p.steps; step++) {
        multiply_shared<T, N, A_BY_ROWS, B_BY_ROWS>(d, advance(matrix(p.a), static_cast<unsigned>(step * p.a[3])),
                                                    advance(matrix(p.b), static_cast<unsigned>(step * p.b[3])), step != 0);
        close_products();
    }
    wait_for_products<1>();
    wait_for_products<0>(d);
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    for (int i = 0; i < N / 2; i++) {
        const int row = 16 * (thread / 32) + lane / 4 + 8 * (i / 2 % 2), column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
        store_global(static_cast<float *>(p.out) + row * N + column, d[i]);
    }
}

} // namespace

#define PRODUCTS(T, N)                                                                                                 \
    KERNEL(hopper_product_##T##_##N##_00, WARPGROUP, ProductParams) { product<T, N, 0, 0>(p); }                        \
    KERNEL(hopper_product_##T##_##N##_01, WARPGROUP, ProductParams) { product<T, N, 0, 1>(p); }                        \
    KERNEL(hopper_product_##T##_##N##_10, WARPGROUP, ProductParams) { product<T, N, 1, 0>(p); }                        \
    KERNEL(hopper_product_##T##_##N##_11, WARPGROUP, ProductParams) { product<T, N, 1, 1>(p); }
PRODUCTS(f16, 8)
PRODUCTS(f16, 64)
PRODUCTS(f16, 72)
PRODUCTS(f16, 192)
PRODUCTS(bf16, 8)
PRODUCTS(bf16, 64)
PRODUCTS(bf16, 72)
PRODUCTS(bf16, 192)

KERNEL_FILE(hopper_faults);
