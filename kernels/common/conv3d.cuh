// What the kernels of conv3d.cu know before they load anything: their parameters, the tile of a block and its place in
// out, and the order of a sum.
#pragma once

#include "moments.cuh"

struct CausalConv3dParams {
    const void *x;
    const void *weight;
    const void *bias;
    const void *other;
    void *out;
    void *moments;
    // Size of x.
    std::int32_t height;
    std::int32_t width;
    std::int32_t cin;
    std::int32_t cout;
    std::int32_t kt;
    std::int32_t kh;
    std::int32_t kw;
    std::int32_t time_stride;
    std::int32_t stride;
    std::int32_t pad_y;
    std::int32_t pad_x;
    // 2 if out has twice as many rows and columns as x, in four phases; else 1, in one phase.
    std::int32_t factor;
    // Size of a phase of out: columns and positions of a frame; then the frames that this launch makes.
    std::int32_t out_width;
    std::int32_t positions;
    std::int32_t first_frame;
    std::int32_t frames;
    // The index of the first of these frames in out and in moments, and in other.
    std::int32_t out_frame;
    std::int32_t other_frame;
    // Channels of a tile.
    std::int32_t columns;
    // Whether rows of out and columns of tiles start at multiples of 16 bytes.
    std::int32_t wide;
    // Channels of a group of moments, and groups.
    std::int32_t group;
    std::int32_t groups;
    float conv_scale;
    float other_scale;
};

constexpr int THREADS = 128;
// Positions of a tile, and channels of a slice.
constexpr int TILE_M = 128, TILE_K = 32;
constexpr int SLICE_CHUNKS = TILE_K / CHUNK;
// Rows of a window for three taps: a tile's positions, two more, and two for each end of an image row within the tile.
// For two taps, one instead of two.
constexpr int WINDOW_ROWS = 160;
// Slabs of a frame that go through time together, so that their input stays in the second-level cache from frame to
// frame.
constexpr int BAND = 64;

enum class Input { WINDOWS, STRIDED, RAGGED };
using enum Input;

template <Input INPUT_, int N, int WARP_M_, int WARP_N_> struct Tile {
    static constexpr Input INPUT = INPUT_;
    static constexpr int TILE_N = N, WARP_M = WARP_M_, WARP_N = WARP_N_, WARPS_N = TILE_N / WARP_N;
    // Only the last layer of a coder has few channels, and no norm follows it.
    static constexpr bool FEW = TILE_N == 8, MOMENTS = !FEW;
    // Taps of a step, and stages of the ring. With few channels, the products of one tap would take less time than the
    // rest of a step.
    static constexpr int TAPS = FEW ? 3 : 1, STAGES = FEW ? 2 : 3;
    static_assert(TAPS == 1 || INPUT == Input::WINDOWS, "one slice of the input for all");
    static constexpr int FRAGMENTS_M = WARP_M / MMA_M, FRAGMENTS_N = WARP_N / MMA_N;
    // Rows of a slice of the input, and its stages.
    static constexpr int ROWS = INPUT == Input::WINDOWS ? WINDOW_ROWS : TILE_M;
    static constexpr int INPUT_STAGES = INPUT == Input::WINDOWS ? 2 : STAGES;
    static constexpr int WEIGHT_ROWS = TAPS * TILE_N;
    static constexpr int INPUT_SLICE = ROWS * TILE_K, WEIGHT_SLICE = WEIGHT_ROWS * TILE_K;
    // The shared memory that src/cuda/conv3d/mod.rs gives to a block.
    static constexpr int SHARED_BYTES = 2 * (INPUT_STAGES * INPUT_SLICE + STAGES * WEIGHT_SLICE);
    static constexpr int TILE_BYTES = 2 * TILE_M * TILE_N;
    static_assert(TILE_M / WARP_M * WARPS_N * static_cast<int>(WARP_SIZE) == THREADS);
    static_assert(TILE_BYTES + PARTS<TILE_M> * TILE_N * static_cast<int>(sizeof(Moment)) <= SHARED_BYTES,
                  "they take its place");
};
// With 128 accumulators a thread, a product loads half the fragments that it loads with 64, and two blocks still fit.
template <Input INPUT> using Wide = Tile<INPUT, 128, 64, 64>;
template <Input INPUT> using Medium = Tile<INPUT, 96, 64, 48>;
template <Input INPUT> using Small = Tile<INPUT, 64, 64, 32>;
template <Input INPUT> using Narrow = Tile<INPUT, 8, 32, 8>;

// Slabs of a phase of a frame.
__device__ __forceinline__ int slabs_of_phase(const CausalConv3dParams &p) {
    return (p.positions + TILE_M - 1) / TILE_M;
}

// The tile of a block.
struct Place {
    // The frame's index among the frames of the launch, the phase, and the slab in it.
    int made, phase, slab;
    // The first position in the phase's frame, and the number of positions.
    int position, rows;
    // The first channel, and the number of channels.
    int column, columns;

    // Neighbouring blocks walk down a band of a frame, then through columns and phases, then through time.
    __device__ __forceinline__ explicit Place(const CausalConv3dParams &p) {
        const int slabs = slabs_of_phase(p), tiles_n = (p.cout + p.columns - 1) / p.columns;
        const int in_step = tiles_n * p.factor * p.factor;
        const int index = static_cast<int>(blockIdx.x), band_tiles = BAND * in_step * p.frames;
        const int band = index / band_tiles, in_band = index % band_tiles;
        const int slabs_left = slabs - band * BAND, band_slabs = slabs_left < BAND ? slabs_left : BAND;
        const int rest = in_band / band_slabs;
        slab = band * BAND + in_band % band_slabs;
        made = rest / in_step;
        phase = rest % in_step / tiles_n;
        position = slab * TILE_M;
        column = rest % tiles_n * p.columns;
        rows = p.positions - position < TILE_M ? p.positions - position : TILE_M;
        columns = p.cout - column < p.columns ? p.cout - column : p.columns;
    }

    // The row and the column of the phase among four: 0 or 1.
    __device__ __forceinline__ int lower() const { return phase / 2; }
    __device__ __forceinline__ int right() const { return phase % 2; }

    // Where row `row` of the tile lies among the positions of a frame of out. Position (y, x) of a phase is
    // (2·y + lower, 2·x + right), in rows twice as long.
    __device__ __forceinline__ int out_position(const CausalConv3dParams &p, int row) const {
        const int at = position + row;
        return p.factor == 1 ? at : 4 * at - 2 * (at % p.out_width) + 2 * p.out_width * lower() + right();
    }

    // The tile's slab among all slabs of moments: phase by phase in a frame.
    __device__ __forceinline__ std::int64_t out_slab(const CausalConv3dParams &p) const {
        const std::int64_t frame = p.out_frame + made;
        return (frame * p.factor * p.factor + phase) * slabs_of_phase(p) + slab;
    }
};

// The place of a step in the sum: its first tap and its first channel. Ragged kernels count all as channels of one tap.
struct Step {
    int time = 0, row = 0, tap = 0, channel = 0;

    template <typename Shape> __device__ __forceinline__ void advance(const CausalConv3dParams &p) {
        if (Shape::INPUT == Input::RAGGED) {
            channel += TILE_K;
        } else if (Shape::TAPS > 1 || ++tap == p.kw) {
            tap = 0;
            channel += TILE_K;
            if (channel >= p.cin) {
                channel = 0;
                if (++row == p.kh) {
                    row = 0;
                    time++;
                }
            }
        }
    }
};
