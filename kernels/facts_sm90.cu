// Facts about Hopper that its kernels rely on, one fact per kernel, to compare with the emulator's bits.
//
//     box         out = a box of a 4-D tensor as it lies in shared memory: swizzle, zeros outside, places
//     group       out = c + a·b by a warpgroup, 64×N over 64 steps of k
//     group_n72   the same with n innermost in b: 72 columns, of which the last 8 lie in a second panel of 64
//     group_left  the same with A in registers, and 8 columns that are innermost in b, without a swizzle
//     multicast   out = sums of boxes that the two blocks of a cluster load for each other, while one of them is late
//     registers   out = the number of each thread, after the warpgroups have exchanged registers
//
// box: out [blocks, 2, 8, 8, 64] T. group: a [64·blocks + 8, 64], b [64·blocks, 64] T (group_n72: 72 columns, group_left:
// 8), c and out [blocks, 128, N/2] f32, thread by thread as products take them; A begins `shift` rows behind the block's
// first.
// multicast: a [64·rounds, 64] T, out [blocks, 128] f32. registers: out [blocks, threads] f32.
//
// Block: 128 threads; registers_three 384, registers_four 512. Grid: blocks. Cluster: 2 (multicast), else none. Shared
// memory: 17 KiB (box), 18 KiB (group), 26 KiB (group_n72), 11 KiB (group_left), 17 KiB (multicast), none (registers).
// Limits: sm_90a only; multicast: an even number of blocks.

#include "common/hopper/warpgroup.cuh"
#include "common/hopper/wgmma.cuh"

namespace {

constexpr int GROUP_THREADS = static_cast<int>(WARPGROUP_SIZE);
// A panel: rows of 64 elements, the width of the swizzle.
constexpr int PANEL = 64, ROW_BYTES = PANEL * 2, GROUP_ROWS = 64, MORE_ROWS = GROUP_ROWS + 8;
constexpr unsigned SWIZZLED_ROWS = 8 * ROW_BYTES;
constexpr int BOX_BYTES = 2 * 8 * 8 * ROW_BYTES;

struct BoxFactParams {
    TensorMap map;
    void *out;
    // Block i begins at start + i·step in each dimension.
    std::int32_t start[4];
    std::int32_t step[4];
};

struct GroupFactParams {
    TensorMap a_map;
    TensorMap b_map;
    const void *c;
    void *out;
    std::int32_t shift;
    std::int32_t unused;
};

struct MulticastFactParams {
    TensorMap map;
    void *out;
    std::int32_t rounds;
    std::int32_t unused;
};

struct RegistersFactParams {
    void *out;
};

// Prepares barriers that one thread arrives at, and shows them to the block.
__device__ __forceinline__ void prepare(CopyBarrier *barriers, int count) {
    if (threadIdx.x == 0) {
        for (int i = 0; i < count; i++) {
            init_barrier(barriers + i, 1);
        }
        publish_barriers();
    }
    __syncthreads();
}

__device__ __forceinline__ bool is_copier() { return threadIdx.x < WARP_SIZE && is_elected(); }

__device__ __forceinline__ void box(const BoxFactParams &p) {
    unsigned char *const memory = shared_memory();
    CopyBarrier *const barrier = reinterpret_cast<CopyBarrier *>(memory + BOX_BYTES);
    prepare(barrier, 1);
    if (is_copier()) {
        int at[4];
        for (int i = 0; i < 4; i++) {
            at[i] = p.start[i] + static_cast<int>(blockIdx.x) * p.step[i];
        }
        arrive_expecting(barrier, BOX_BYTES);
        load_box(memory, p.map, at, barrier);
    }
    wait_for_phase(barrier, 0);
    using Words = Vec<std::uint32_t, 4>;
    constexpr int COUNT = BOX_BYTES / static_cast<int>(sizeof(Words));
    for (int i = static_cast<int>(threadIdx.x); i < COUNT; i += GROUP_THREADS) {
        const auto place = static_cast<std::int64_t>(blockIdx.x) * COUNT + i;
        store_global(static_cast<Words *>(p.out) + place, reinterpret_cast<const Words *>(memory)[i]);
    }
}

// This thread's sums among those of all products.
template <int N> __device__ __forceinline__ std::int64_t place_of_sums() {
    return (static_cast<std::int64_t>(blockIdx.x) * GROUP_THREADS + threadIdx.x) * (N / 2);
}

template <int N> __device__ __forceinline__ void load_sums(const GroupFactParams &p, float (&d)[N / 2]) {
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        d[i] = load_global(static_cast<const float *>(p.c) + place_of_sums<N>() + i);
    }
}

template <int N> __device__ __forceinline__ void store_sums(const GroupFactParams &p, const float (&d)[N / 2]) {
#pragma unroll
    for (int i = 0; i < N / 2; i++) {
        store_global(static_cast<float *>(p.out) + place_of_sums<N>() + i, d[i]);
    }
}

template <typename T, int N, bool B_BY_ROWS> __device__ __forceinline__ void group(const GroupFactParams &p) {
    constexpr int A_BYTES = MORE_ROWS * ROW_BYTES, B_BYTES = PANEL * ROW_BYTES, B_PANELS = (N + PANEL - 1) / PANEL;
    // The second panel of b begins at a multiple of 1,024 bytes, as the first.
    unsigned char *const a = shared_memory(), *const b = a + A_BYTES;
    CopyBarrier *const barrier = reinterpret_cast<CopyBarrier *>(b + B_PANELS * B_BYTES);
    prepare(barrier, 1);
    const int first = static_cast<int>(blockIdx.x) * GROUP_ROWS;
    if (is_copier()) {
        arrive_expecting(barrier, A_BYTES + B_PANELS * B_BYTES);
        load_box(a, p.a_map, {0, first}, barrier);
        for (int panel = 0; panel < B_PANELS; panel++) {
            load_box(b + panel * B_BYTES, p.b_map, {panel * PANEL, first}, barrier);
        }
    }
    float d[N / 2];
    load_sums<N>(p, d);
    wait_for_phase(barrier, 0);
    const std::uint64_t a_matrix = describe_matrix(a + p.shift * ROW_BYTES, 16, SWIZZLED_ROWS, Swizzle::B128);
    const std::uint64_t b_matrix = describe_matrix(b, B_BY_ROWS ? B_BYTES : 16, SWIZZLED_ROWS, Swizzle::B128);
    open_products();
#pragma unroll
    for (int step = 0; step < PANEL / 16; step++) {
        const unsigned b_bytes = step * (B_BY_ROWS ? 16 * ROW_BYTES : 32);
        multiply_shared<T, N, 0, B_BY_ROWS>(d, advance(a_matrix, step * 32), advance(b_matrix, b_bytes), true);
    }
    close_products();
    wait_for_products<0>(d);
    store_sums<N>(p, d);
}

template <typename T> __device__ __forceinline__ void group_left(const GroupFactParams &p) {
    constexpr int N = 8, A_BYTES = MORE_ROWS * ROW_BYTES, B_ROW_BYTES = N * 2, B_BYTES = PANEL * B_ROW_BYTES;
    unsigned char *const a = shared_memory(), *const b = a + A_BYTES;
    CopyBarrier *const barrier = reinterpret_cast<CopyBarrier *>(b + B_BYTES);
    prepare(barrier, 1);
    const int first = static_cast<int>(blockIdx.x) * GROUP_ROWS;
    if (is_copier()) {
        arrive_expecting(barrier, A_BYTES + B_BYTES);
        load_box(a, p.a_map, {0, first}, barrier);
        load_box(b, p.b_map, {0, first}, barrier);
    }
    float d[N / 2];
    load_sums<N>(p, d);
    wait_for_phase(barrier, 0);
    const int lane = static_cast<int>(threadIdx.x % WARP_SIZE);
    const int row = static_cast<int>(threadIdx.x / WARP_SIZE) * 16 + lane % 16;
    std::uint32_t left[PANEL / 16][4];
#pragma unroll
    for (int step = 0; step < PANEL / 16; step++) {
        ldmatrix_x4(left[step], a + row * ROW_BYTES + ((2 * step + lane / 16) ^ (row % 8)) * 16);
    }
    const std::uint64_t b_matrix = describe_matrix(b, 8 * B_ROW_BYTES, 16, Swizzle::NONE);
    open_products();
#pragma unroll
    for (int step = 0; step < PANEL / 16; step++) {
        multiply_left<T, N, 1>(d, left[step], advance(b_matrix, step * 16 * B_ROW_BYTES), true);
    }
    close_products();
    wait_for_products<0>(d);
    store_sums<N>(p, d);
}

// The blocks of a pair load half of each box, for both. Round r fills one of two stages; block 1 dawdles in odd rounds,
// block 0 in even ones, so that their stages are out of step.
__device__ __forceinline__ void multicast(const MulticastFactParams &p) {
    constexpr int BYTES = GROUP_ROWS * ROW_BYTES, HALF_ROWS = GROUP_ROWS / 2;
    unsigned char *const memory = shared_memory();
    CopyBarrier *const full = reinterpret_cast<CopyBarrier *>(memory + 2 * BYTES), *const empty = full + 2;
    const unsigned rank = cluster_rank();
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) {
            init_barrier(full + i, 1);
            init_barrier(empty + i, 2);
        }
        publish_barriers();
    }
    cluster_sync();
    float sum = 0.0f;
    for (int round = 0; round < p.rounds; round++) {
        const int stage = round % 2;
        const unsigned turn = static_cast<unsigned>(round) / 2;
        if (is_copier()) {
            wait_for_phase(empty + stage, (turn + 1) % 2);
            arrive_expecting(full + stage, BYTES);
            const int row = static_cast<int>(rank) * HALF_ROWS;
            load_box_to_blocks(memory + stage * BYTES + row * ROW_BYTES, p.map, {0, round * GROUP_ROWS + row},
                               full + stage, 3);
        }
        __syncwarp();
        wait_for_phase(full + stage, turn % 2);
        const auto *words = reinterpret_cast<const std::uint32_t *>(memory + stage * BYTES);
        const int times = (static_cast<unsigned>(round) + rank) % 2 == 0 ? 1 : 8;
        for (int i = 0; i < times * BYTES / 4; i += GROUP_THREADS) {
            const std::uint32_t word = words[(i + static_cast<int>(threadIdx.x)) % (BYTES / 4)];
            sum = 0.5f * sum + static_cast<float>(word & 0xFFFF);
        }
        __syncthreads();
        if (threadIdx.x < 2) {
            arrive_at_block(empty + stage, threadIdx.x);
        }
    }
    store_global(static_cast<float *>(p.out) + static_cast<std::int64_t>(blockIdx.x) * GROUP_THREADS + threadIdx.x, sum);
    // The other block may still arrive here, or send its half.
    cluster_sync();
}

template <int FEW, int MANY> __device__ __forceinline__ void registers(const RegistersFactParams &p, int threads) {
    if (warpgroup_index() == 0) {
        keep_registers<FEW>();
    } else {
        take_registers<MANY>();
    }
    const auto place = static_cast<std::int64_t>(blockIdx.x) * threads + threadIdx.x;
    store_global(static_cast<float *>(p.out) + place, static_cast<float>(threadIdx.x));
}

constexpr Bounds GROUP(GROUP_THREADS), THREE(3 * GROUP_THREADS, 1), FOUR(4 * GROUP_THREADS, 1);

} // namespace

KERNEL(fact_box_f32, GROUP, BoxFactParams) { box(p); }
KERNEL(fact_group_f16, GROUP, GroupFactParams) { group<f16, 64, false>(p); }
KERNEL(fact_group_bf16, GROUP, GroupFactParams) { group<bf16, 64, false>(p); }
KERNEL(fact_group_n72_f16, GROUP, GroupFactParams) { group<f16, 72, true>(p); }
KERNEL(fact_group_n72_bf16, GROUP, GroupFactParams) { group<bf16, 72, true>(p); }
KERNEL(fact_group_left_f16, GROUP, GroupFactParams) { group_left<f16>(p); }
KERNEL(fact_group_left_bf16, GROUP, GroupFactParams) { group_left<bf16>(p); }
CLUSTER_KERNEL(fact_multicast_f32, GROUP, 2, MulticastFactParams) { multicast(p); }
KERNEL(fact_registers_three_f32, THREE, RegistersFactParams) { registers<24, 240>(p, THREE.threads); }
KERNEL(fact_registers_four_f32, FOUR, RegistersFactParams) { registers<32, 160>(p, FOUR.threads); }

KERNEL_FILE(facts_sm90);
