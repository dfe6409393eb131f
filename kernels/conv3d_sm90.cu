// Causal convolution of 3×3 taps in space on Hopper, with the fused operations of conv3d.cu.
//
//     out[t, y, x, n] = conv_scale·(bias[n] + Σ_ijkc weight[n, i, j, k, c]·in[t', y', x', c]) + other_scale·other[…]
//     t' = max(t + i − (kt − 1), 0)    y' = y + j − 1    x' = x + k − 1    in outside of a frame: zero
//
// Behind an enlargement, out has twice as many rows and columns, in four phases of 2×2 taps (src/ops/enlarge.rs). Phase
// 2·q + r makes out[t, 2·y + q, 2·x + r, n] from row phase·cout + n of the weight, with y' = y + j + q − 1 and
// x' = x + k + r − 1.
//
// x_map: in [frames, height, width, cin], boxes of 64 channels and of a tile's positions with those around them.
// weight_map: the weight [cout, kt·9·cin] or [4·cout, kt·4·cin], boxes of 64 channels of the output and 64 of the input.
// out_map, other_map: [frames, height, width, cout] or [frames, height, 2, width, 2·cout], boxes of 64 channels and one
// slab. All swizzled by 128 bytes. bias: null or [cout].
// moments: null or f32 [frames, phases, slabs, groups, 2], mean and M2 of each group of channels over each slab of out, as
// it is stored; here a slab is 8 rows of 16 positions of a phase, counted along the phase's rows.
//
// The products have channels of the output as rows (M) and positions as columns (N): a product of 64×256 reads each
// weight once for 256 positions. A tile is 128 channels by a box of one phase of a frame, 16×16 or 8×16 positions.
// Warpgroup 0 copies: one of its threads fills two rings. A slice of the input holds 64 channels of the box moved by one
// k, with the rows around it; so the taps of a column of the kernel read it, each 16 positions further. The copy
// engine puts zeros outside of the frame, and the first frame again in front of time is only a coordinate. A slice of the
// weight belongs to one tap. A cluster's two blocks make the boxes beside each other and share the weights: each copies
// half of a slice to both. Two warpgroups multiply, 64 channels each. Then every warpgroup passes its results through
// shared memory, which turns channels into the innermost dimension, and the copy engine stores them.
//
// A block stays on its multiprocessor and makes one tile after another; copies for the next tile arrive meanwhile. Every
// element is summed over i, then 64 channels, k, j, and channels in steps of 16, in every tile: so its bits do not depend
// on the tile, nor on the frames beside it.
//
// Block: 384 threads. Cluster: 2. Grid: blocks for all multiprocessors, or fewer if there are fewer tiles. Shared memory:
// both rings, two slabs of out, barriers: 221 KiB (large), 209 KiB (small), 215 KiB (enlarged).
// Limits: sm_90a only; stride 1; cin a multiple of 64, cout of 8, of an enlargement of 64; a group of moments has 1, 2, 4, 8 or 16 channels, and
// slabs fill a frame, or it lies in one.

#include "common/hopper/pipeline.cuh"
#include "common/moments.cuh"

namespace {

struct CausalConv3dSm90Params {
    TensorMap x_map;
    TensorMap weight_map;
    TensorMap other_map;
    TensorMap out_map;
    const void *bias;
    void *moments;
    // Size of a frame of in, and so of a phase of out.
    std::int32_t height;
    std::int32_t width;
    std::int32_t cin;
    std::int32_t cout;
    std::int32_t kt;
    // The frames that this launch makes; the index of the first in out and in moments, and in other.
    std::int32_t first_frame;
    std::int32_t frames;
    std::int32_t out_frame;
    std::int32_t other_frame;
    // Whether other is added.
    std::int32_t adds;
    // Channels of a group of moments, and groups.
    std::int32_t group;
    std::int32_t groups;
    float conv_scale;
    float other_scale;
};

// Channels of the input in a slice, and the bytes that a position or a channel of the output takes in it.
constexpr int TILE_K = 64, ROW_BYTES = TILE_K * 2, EIGHT_ROWS = 8 * ROW_BYTES;
// Channels of the output of a product, and steps of k.
constexpr int PRODUCT_M = 64, PRODUCT_K = 16;
constexpr int CONSUMERS = 2, GROUP_WARPS = static_cast<int>(WARPGROUP_SIZE / WARP_SIZE), CLUSTER = 2;
constexpr int TILE_CHANNELS = CONSUMERS * PRODUCT_M;
constexpr Bounds THREADS(static_cast<int>(WARPGROUP_SIZE) * (1 + CONSUMERS), 1);
// A slab of moments: rows and columns of positions.
constexpr int SLAB_ROWS = 8, SLAB_COLUMNS = 16, SLAB = SLAB_ROWS * SLAB_COLUMNS;
constexpr int SLAB_BYTES = SLAB * ROW_BYTES, BOX_ROW_BYTES = SLAB_COLUMNS * ROW_BYTES;
constexpr int WEIGHT_BYTES = TILE_CHANNELS * ROW_BYTES, HALF_WEIGHT_BYTES = WEIGHT_BYTES / CLUSTER;
// Pairs of boxes that go through time together, so that their input stays in the second-level cache from frame to frame.
constexpr int BAND = 64;

template <int TAPS_, int SLABS_, int INPUTS_, int WEIGHTS_> struct Tile {
    // Taps of a row and of a column of the kernel; phases of out; slabs below each other in a box; stages of the rings.
    static constexpr int TAPS = TAPS_, PHASES = TAPS == 2 ? 4 : 1;
    static constexpr int SLABS = SLABS_, INPUTS = INPUTS_, WEIGHTS = WEIGHTS_;
    static constexpr int ROWS = SLABS * SLAB_ROWS, POSITIONS = SLABS * SLAB;
    static constexpr int INPUT_BYTES = (ROWS + TAPS - 1) * BOX_ROW_BYTES;
    static constexpr int STAGING_AT = INPUTS * INPUT_BYTES + WEIGHTS * WEIGHT_BYTES;
    static_assert(INPUT_BYTES % EIGHT_ROWS == 0 && BOX_ROW_BYTES % EIGHT_ROWS == 0, "this keeps the swizzle's phase");
};
// 128 sums a thread.
using Large = Tile<3, 2, 3, 5>;
// For few positions: small boxes make more blocks.
using Small = Tile<3, 1, 4, 6>;
using Enlarged = Tile<2, 2, 3, 5>;

// What the threads share besides stages and staging.
template <typename Shape> struct Shared {
    Ring<Shape::INPUTS> inputs;
    Ring<Shape::WEIGHTS> weights;
    // Counts the bytes of `other` that arrive for a consuming warpgroup.
    CopyBarrier other[CONSUMERS];
};

template <typename Shape> __device__ __forceinline__ Shared<Shape> *shared_barriers() {
    return reinterpret_cast<Shared<Shape> *>(shared_memory() + Shape::STAGING_AT + CONSUMERS * SLAB_BYTES);
}

template <typename Shape> __device__ __forceinline__ unsigned char *input_stage(int stage) {
    return shared_memory() + stage * Shape::INPUT_BYTES;
}

template <typename Shape> __device__ __forceinline__ unsigned char *weight_stage(int stage) {
    return shared_memory() + Shape::INPUTS * Shape::INPUT_BYTES + stage * WEIGHT_BYTES;
}

// The place of a tile: its frame among those of the launch, its phase, its first position there and its first channel.
struct Place {
    int made, phase, y, x, channel;

    // The row and the column of the phase among four: 0 or 1.
    __device__ __forceinline__ int lower() const { return phase / 2; }
    __device__ __forceinline__ int right() const { return phase % 2; }
};

// The tiles of a launch, in the order in which clusters take them: down a band of pairs of boxes, then through the
// channels and the phases, then through time.
template <typename Shape> struct Tiles {
    int across, pairs, deep, frames, first, stride;

    __device__ __forceinline__ explicit Tiles(const CausalConv3dSm90Params &p) : frames(p.frames) {
        across = (p.width + SLAB_COLUMNS - 1) / SLAB_COLUMNS;
        const int boxes = across * ((p.height + Shape::ROWS - 1) / Shape::ROWS);
        pairs = (boxes + CLUSTER - 1) / CLUSTER;
        deep = (p.cout + TILE_CHANNELS - 1) / TILE_CHANNELS * Shape::PHASES;
        first = static_cast<int>(blockIdx.x) / CLUSTER;
        stride = static_cast<int>(gridDim.x) / CLUSTER;
    }

    __device__ __forceinline__ int count() const { return pairs * deep * frames; }

    // The tile of this block. If the number of boxes is odd, one lies below the frame.
    __device__ __forceinline__ Place place(int index) const {
        const int band_tiles = BAND * deep * frames, band = index / band_tiles, in_band = index % band_tiles;
        const int left = pairs - band * BAND, band_pairs = left < BAND ? left : BAND, rest = in_band / band_pairs;
        const int box = (band * BAND + in_band % band_pairs) * CLUSTER + static_cast<int>(cluster_rank());
        const int at = rest % deep, of_phase = deep / Shape::PHASES;
        return {rest / deep, at / of_phase, box / across * Shape::ROWS, box % across * SLAB_COLUMNS,
                at % of_phase * TILE_CHANNELS};
    }
};

// Fills the rings for all tiles of this block. One thread does this.
template <typename Shape>
__device__ __forceinline__ void copy_tiles(const CausalConv3dSm90Params &p, Shared<Shape> *shared) {
    const Tiles<Shape> tiles(p);
    const int half = static_cast<int>(cluster_rank());
    RingStep<Shape::INPUTS> input;
    RingStep<Shape::WEIGHTS> weight;
    prefetch_map(p.x_map);
    prefetch_map(p.weight_map);
    for (int tile = tiles.first; tile < tiles.count(); tile += tiles.stride) {
        const Place place = tiles.place(tile);
        const int weight_row = place.phase * p.cout + place.channel + half * PRODUCT_M;
        for (int time = 0; time < p.kt; time++) {
            const int at = p.first_frame + place.made + time - (p.kt - 1), frame = at < 0 ? 0 : at;
            for (int channel = 0; channel < p.cin; channel += TILE_K) {
#pragma unroll 1
                for (int column = 0; column < Shape::TAPS; column++, input.next()) {
                    CopyBarrier *const full = shared->inputs.full + input.stage;
                    wait_for_phase(shared->inputs.empty + input.stage, input.parity ^ 1);
                    arrive_expecting(full, Shape::INPUT_BYTES);
                    load_box(input_stage<Shape>(input.stage), p.x_map,
                             {channel, place.x + place.right() + column - 1, place.y + place.lower() - 1, frame}, full);
                    for (int row = 0; row < Shape::TAPS; row++, weight.next()) {
                        CopyBarrier *const full = shared->weights.full + weight.stage;
                        const int tap = (time * Shape::TAPS + row) * Shape::TAPS + column;
                        wait_for_phase(shared->weights.empty + weight.stage, weight.parity ^ 1);
                        arrive_expecting(full, WEIGHT_BYTES);
                        load_box_to_blocks(weight_stage<Shape>(weight.stage) + half * HALF_WEIGHT_BYTES, p.weight_map,
                                           {tap * p.cin + channel, weight_row}, full, (1 << CLUSTER) - 1);
                    }
                }
            }
        }
    }
}

// Releases a stage of the weights in both blocks of the cluster, on behalf of the calling warp.
template <typename Shape> __device__ __forceinline__ void release_weight(Shared<Shape> *shared, int stage) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    if (lane < CLUSTER) {
        arrive_at_block(shared->weights.empty + stage, lane);
    }
}

template <typename Shape> __device__ __forceinline__ void release_input(Shared<Shape> *shared, int stage) {
    if (threadIdx.x % WARP_SIZE == 0) {
        arrive(shared->inputs.empty + stage);
    }
}

// The sums of a warpgroup: sum i of lane l in warp w is channel 16·w + l/4 + 8·(i/2 % 2), position 8·(i/4) + 2·(l%4) + i%2.
template <typename Shape> using GroupSums = float[Shape::POSITIONS / 2];
// Sums of a slab.
constexpr int SLAB_SUMS = SLAB / 2;

// sums += the products of a tile. `inputs` slices of the input, each for a column of taps.
template <typename T, typename Shape>
__device__ __forceinline__ void multiply_tile(GroupSums<Shape> &sums, int inputs, int consumer, Shared<Shape> *shared,
                                              RingStep<Shape::INPUTS> &input, RingStep<Shape::WEIGHTS> &weight) {
#pragma unroll 1
    for (int i = 0; i < inputs; i++, input.next()) {
        wait_for_phase(shared->inputs.full + input.stage, input.parity);
        const std::uint64_t x = describe_matrix(input_stage<Shape>(input.stage), 16, EIGHT_ROWS, Swizzle::B128);
#pragma unroll
        for (int row = 0; row < Shape::TAPS; row++, weight.next()) {
            wait_for_phase(shared->weights.full + weight.stage, weight.parity);
            const unsigned char *const from = weight_stage<Shape>(weight.stage) + consumer * PRODUCT_M * ROW_BYTES;
            const std::uint64_t w = describe_matrix(from, 16, EIGHT_ROWS, Swizzle::B128);
            open_products();
#pragma unroll
            for (int part = 0; part < TILE_K; part += PRODUCT_K) {
                multiply_shared<T, Shape::POSITIONS>(sums, advance(w, part * 2), advance(x, row * BOX_ROW_BYTES + part * 2),
                                                     true);
            }
            close_products();
            if (i > 0 || row > 0) {
                // The products of the step before are done.
                wait_for_products<1>();
                release_weight(shared, weight.before());
                if (row == 0) {
                    release_input(shared, input.before());
                }
            }
        }
    }
    wait_for_products<0>(sums);
    release_weight(shared, weight.before());
    release_input(shared, input.before());
}

// Turns the sums of slabs into results, and stores them. A warpgroup has one.
template <typename T, typename Shape> class Finish {
    const CausalConv3dSm90Params &p;
    const int consumer, lane, warp;
    // A slab on its way to or from global memory: for each position 64 channels, swizzled.
    unsigned char *const staging;
    CopyBarrier *const other_arrives;
    unsigned other_parity = 0;

    // The copies of a warpgroup's results are this thread's.
    __device__ __forceinline__ bool copies() const { return threadIdx.x % WARPGROUP_SIZE == 0; }

    __device__ __forceinline__ void meet() const { barrier_of_two<WARPGROUP_SIZE>(consumer == 0); }

    // The lane's row for the matrices of fragments j and j + 1, 8 positions each, and the warp's 16 channels.
    __device__ __forceinline__ unsigned char *row(int j) const {
        const int position = (j + lane / 16) * 8 + lane % 8, chunk = 2 * warp + lane / 8 % 2;
        return staging + position * ROW_BYTES + (chunk ^ (position % 8)) * 16;
    }

    // Adds each of the two channels' values up over the lanes of the same group; both channels may lie in it.
    __device__ __forceinline__ void add_lanes(float (&values)[2]) const {
        const int span = p.group < 8 ? 4 * p.group : static_cast<int>(WARP_SIZE);
        for (int step = 1; step < span; step *= 2) {
            values[0] += __shfl_xor_sync(ALL_LANES, values[0], step);
            values[1] += __shfl_xor_sync(ALL_LANES, values[1], step);
        }
        if (p.group == 16) {
            values[0] += values[1], values[1] = values[0];
        }
    }

    // Stores the moments of a slab. Sums are taken in an order that only the group's size decides.
    __device__ __forceinline__ void store_moments(const float *results, const Place &place, int first_channel) const {
        const int rows_left = p.height - place.y, rows = rows_left < SLAB_ROWS ? rows_left : SLAB_ROWS;
        const int columns_left = p.width - place.x;
        const int columns = columns_left < SLAB_COLUMNS ? columns_left : SLAB_COLUMNS;
        // Whether sum i lies in the frame.
        const auto inside = [&](int i) {
            return i / 8 < rows && i / 4 % 2 * 8 + lane % 4 * 2 + i % 2 < columns;
        };
        const float count = static_cast<float>(rows * columns * p.group);
        float mean[2] = {}, m2[2] = {};
#pragma unroll
        for (int i = 0; i < SLAB_SUMS; i++) {
            mean[i / 2 % 2] += inside(i) ? results[i] : 0.0f;
        }
        add_lanes(mean);
        mean[0] /= count, mean[1] /= count;
#pragma unroll
        for (int i = 0; i < SLAB_SUMS; i++) {
            const float off = inside(i) ? results[i] - mean[i / 2 % 2] : 0.0f;
            m2[i / 2 % 2] += off * off;
        }
        add_lanes(m2);
        const int across = (p.width + SLAB_COLUMNS - 1) / SLAB_COLUMNS;
        const int slab = place.y / SLAB_ROWS * across + place.x / SLAB_COLUMNS;
        const std::int64_t slabs = (p.height + SLAB_ROWS - 1) / SLAB_ROWS * across, frame = p.out_frame + place.made;
        const std::int64_t first = ((frame * Shape::PHASES + place.phase) * slabs + slab) * p.groups;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int channel = first_channel + 8 * half;
            if (lane % 4 == 0 && channel % p.group == 0 && channel < p.cout && rows > 0) {
                store_global(static_cast<Vec<float, 2> *>(p.moments) + first + channel / p.group, {mean[half], m2[half]});
            }
        }
    }

  public:
    __device__ __forceinline__ Finish(const CausalConv3dSm90Params &p, int consumer, unsigned char *staging,
                                      CopyBarrier *other)
        : p(p), consumer(consumer), lane(static_cast<int>(threadIdx.x % WARP_SIZE)),
          warp(static_cast<int>(threadIdx.x / WARP_SIZE) % GROUP_WARPS), staging(staging + consumer * SLAB_BYTES),
          other_arrives(other + consumer) {}

    // Frees the staging for the slab at `place`, and starts to load `other` there.
    __device__ __forceinline__ void prepare(const Place &place) const {
        if (copies()) {
            wait_for_reads<0>();
            if (p.adds) {
                arrive_expecting(other_arrives, SLAB_BYTES);
                const int channel = place.channel + consumer * PRODUCT_M, frame = p.other_frame + place.made;
                if constexpr (Shape::PHASES == 1) {
                    load_box(staging, p.other_map, {channel, place.x, place.y, frame}, other_arrives);
                } else {
                    load_box(staging, p.other_map,
                             {place.right() * p.cout + channel, place.x, place.lower(), place.y, frame}, other_arrives);
                }
            }
        }
    }

    // Stores the slab at `place`; `sums` become the results.
    __device__ __forceinline__ void store(float *sums, const Place &place) {
        if (p.adds) {
            wait_for_phase(other_arrives, other_parity);
            other_parity ^= 1;
        } else {
            meet();
        }
        const int first = place.channel + consumer * PRODUCT_M, channel = first + warp * 16 + lane / 4;
        float bias[2] = {};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            if (p.bias != nullptr && channel + 8 * half < p.cout) {
                bias[half] = to_float(load_global(static_cast<const T *>(p.bias) + channel + 8 * half));
            }
        }
#pragma unroll
        for (int j = 0; j < SLAB / 8; j += 2) {
            unsigned char *const at = row(j);
            std::uint32_t others[4] = {}, packed[4];
            if (p.adds) {
                ldmatrix_x4_trans(others, at);
                // All lanes have read before any of them writes.
                __syncwarp();
            }
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float *const y = sums + (4 * j + 2 * i);
                const auto other = __builtin_bit_cast(Vec<T, 2>, others[i]);
#pragma unroll
                for (int n = 0; n < 2; n++) {
                    const float scaled = p.conv_scale * (y[n] + bias[i % 2]);
                    y[n] = p.adds ? scaled + p.other_scale * to_float(other[n]) : scaled;
                }
                packed[i] = pack2<T>(y[0], y[1]);
                const auto stored = __builtin_bit_cast(Vec<T, 2>, packed[i]);
                y[0] = to_float(stored[0]), y[1] = to_float(stored[1]);
            }
            stmatrix_x4_trans(at, packed);
        }
        publish_shared();
        meet();
        if (copies()) {
            const int frame = p.out_frame + place.made;
            if constexpr (Shape::PHASES == 1) {
                store_box(p.out_map, {first, place.x, place.y, frame}, staging);
            } else if (first < p.cout) {
                // Behind the last channel, the map goes on with the next phase.
                store_box(p.out_map, {place.right() * p.cout + first, place.x, place.lower(), place.y, frame}, staging);
            }
            commit_stores();
        }
        if (p.moments != nullptr) {
            store_moments(sums, place, channel);
        }
    }

    // A block must not end before its stores have read shared memory and are done.
    __device__ __forceinline__ void end() const {
        if (copies()) {
            wait_for_stores<0>();
        }
    }
};

// Makes the tiles of this block, 64 channels of each.
template <typename T, typename Shape>
__device__ __forceinline__ void make_tiles(const CausalConv3dSm90Params &p, Shared<Shape> *shared, int consumer) {
    const Tiles<Shape> tiles(p);
    const int inputs = p.kt * (p.cin / TILE_K) * Shape::TAPS;
    RingStep<Shape::INPUTS> input;
    RingStep<Shape::WEIGHTS> weight;
    Finish<T, Shape> finish(p, consumer, shared_memory() + Shape::STAGING_AT, shared->other);
#pragma unroll 1
    for (int tile = tiles.first; tile < tiles.count(); tile += tiles.stride) {
        Place place = tiles.place(tile);
        finish.prepare(place);
        GroupSums<Shape> sums{};
        multiply_tile<T, Shape>(sums, inputs, consumer, shared, input, weight);
#pragma unroll
        for (int slab = 0; slab < Shape::SLABS; slab++) {
            if (slab > 0) {
                place.y += SLAB_ROWS;
                finish.prepare(place);
            }
            finish.store(sums + slab * SLAB_SUMS, place);
        }
    }
    finish.end();
}

template <typename T, typename Shape> __device__ __forceinline__ void causal_conv3d(const CausalConv3dSm90Params &p) {
    Shared<Shape> *const shared = shared_barriers<Shape>();
    if (threadIdx.x == 0) {
        shared->inputs.init(CONSUMERS * GROUP_WARPS);
        shared->weights.init(CONSUMERS * GROUP_WARPS * CLUSTER);
        init_barrier(shared->other, 1);
        init_barrier(shared->other + 1, 1);
        publish_barriers();
    }
    cluster_sync();
    const unsigned group = warpgroup_index();
    if (group == 0) {
        keep_registers<56>();
        if (threadIdx.x < WARP_SIZE && is_elected()) {
            copy_tiles<Shape>(p, shared);
        }
        __syncwarp();
    } else {
        take_registers<224>();
        make_tiles<T, Shape>(p, shared, static_cast<int>(group) - 1);
    }
    // The other block may still copy to this one, or release its stages.
    cluster_sync();
}

} // namespace

CLUSTER_KERNEL(causal_conv3d_sm90_large_f16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<f16, Large>(p); }
CLUSTER_KERNEL(causal_conv3d_sm90_large_bf16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<bf16, Large>(p); }
CLUSTER_KERNEL(causal_conv3d_sm90_small_f16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<f16, Small>(p); }
CLUSTER_KERNEL(causal_conv3d_sm90_small_bf16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<bf16, Small>(p); }
CLUSTER_KERNEL(causal_conv3d_sm90_enlarged_f16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<f16, Enlarged>(p); }
CLUSTER_KERNEL(causal_conv3d_sm90_enlarged_bf16, THREADS, 2, CausalConv3dSm90Params) { causal_conv3d<bf16, Enlarged>(p); }

KERNEL_FILE(conv3d_sm90);
