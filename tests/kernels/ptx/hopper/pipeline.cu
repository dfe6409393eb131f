// d = a·bᵀ, for tests of the PTX machine: a producer and two consumers in each of the two blocks of a cluster, which load
// half of each tile of b for each other.
//
// a [256, k], b [64, k], d [256, 64] bf16, k = 64·slices. Block: 384 threads. Grid: 2 blocks. Shared memory: 66,560 bytes.

#include "common/hopper/warpgroup.cuh"
#include "common/hopper/wgmma.cuh"

#include "common/numeric.cuh"

namespace {

constexpr Bounds BOUNDS(384, 1);
constexpr int STAGES = 2, ROW_BYTES = 128, GROUP_BYTES = 64 * ROW_BYTES, A_BYTES = 2 * GROUP_BYTES;
constexpr int B_BYTES = 64 * ROW_BYTES, STAGE_BYTES = A_BYTES + B_BYTES, RESULTS_AT = STAGES * STAGE_BYTES;
constexpr int BARRIERS_AT = RESULTS_AT + 2 * GROUP_BYTES;

struct PipelineParams {
    TensorMap a, b, d;
    std::int32_t slices, unused;
};

__device__ __forceinline__ void produce(const PipelineParams &p, unsigned char *memory, CopyBarrier *full,
                                        CopyBarrier *empty) {
    if (threadIdx.x < WARP_SIZE && is_elected()) {
        const int rank = static_cast<int>(cluster_rank());
        for (int k = 0; k < p.slices; k++) {
            const int stage = k % STAGES;
            wait_for_phase(empty + stage, (k / STAGES + 1) % 2);
            arrive_expecting(full + stage, STAGE_BYTES);
            unsigned char *const a = memory + stage * STAGE_BYTES, *const b = a + A_BYTES + rank * 32 * ROW_BYTES;
            load_box(a, p.a, {k * 64, static_cast<int>(blockIdx.x) * 128}, full + stage);
            load_box_to_blocks(b, p.b, {k * 64, rank * 32}, full + stage, 3);
        }
    }
}

__device__ __forceinline__ void consume(const PipelineParams &p, unsigned char *memory, CopyBarrier *full,
                                        CopyBarrier *empty) {
    const unsigned group = warpgroup_index() - 1, lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE % 4;
    float d[32];
    for (int k = 0; k < p.slices; k++) {
        const int stage = k % STAGES;
        wait_for_phase(full + stage, k / STAGES % 2);
        const unsigned char *const start = memory + stage * STAGE_BYTES;
        const std::uint64_t a = describe_matrix(start + group * GROUP_BYTES, 16, 8 * ROW_BYTES, Swizzle::B128);
        const std::uint64_t b = describe_matrix(start + A_BYTES, 16, 8 * ROW_BYTES, Swizzle::B128);
        open_products();
#pragma unroll
        for (int step = 0; step < 4; step++) {
            multiply_shared<bf16, 64>(d, advance(a, 32 * step), advance(b, 32 * step), k + step > 0);
        }
        close_products();
        wait_for_products<0>(d);
        if (lane < 2) {
            arrive_at_block(empty + stage, lane);
        }
    }
    unsigned char *const results = memory + RESULTS_AT + group * GROUP_BYTES + warp * 16 * ROW_BYTES;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        std::uint32_t pairs[4];
        for (int i = 0; i < 4; i++) {
            pairs[i] = pack2<bf16>(d[8 * j + 2 * i], d[8 * j + 2 * i + 1]);
        }
        const unsigned row = lane / 8 % 2 * 8 + lane % 8, piece = 2 * j + lane / 16;
        stmatrix_x4(results + row * ROW_BYTES + (piece ^ row % 8) * 16, pairs);
    }
    publish_shared();
    __syncwarp();
    if (is_elected()) {
        const int row = static_cast<int>(blockIdx.x * 128 + group * 64 + warp * 16);
        store_box(p.d, {0, row}, results);
        commit_stores();
        wait_for_stores<0>();
    }
}

} // namespace

CLUSTER_KERNEL(k, BOUNDS, 2, PipelineParams) {
    unsigned char *const memory = shared_memory();
    CopyBarrier *const full = reinterpret_cast<CopyBarrier *>(memory + BARRIERS_AT), *const empty = full + STAGES;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            init_barrier(full + i, 1);
            init_barrier(empty + i, 16);
        }
        publish_barriers();
    }
    cluster_sync();
    if (warpgroup_index() == 0) {
        keep_registers<24>();
        produce(p, memory, full, empty);
    } else {
        take_registers<240>();
        consume(p, memory, full, empty);
    }
    // The other block may still arrive here, or send its half.
    cluster_sync();
}
