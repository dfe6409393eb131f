// Causal 3-D convolution of one video, as a product of matrices whose left one is never stored (implicit GEMM).
//
//     out[t, y, x, n] = conv_scale·(bias[n] + Σ_ijkc weight[n, i, j, k, c]·in[t', y', x', c]) + other_scale·other[…]
//     t' = max(t·time_stride + i − (kt − 1), 0)    y' = y·stride + j − pad_y    x' = x·stride + k − pad_x
//
// in is x, and zero outside of a frame. bias and other may be null.
// x [frames, height, width, cin], weight [cout, kt, kh, kw, cin], bias [cout], out and other [out frames, positions,
// cout], all T. moments, or null: f32 [out frames, slabs, groups, 2], mean and M2 of each group of channels over each
// slab of 128 positions of out, as it is stored.
//
// If x is enlarged twofold, out has four phases, each as large as x and with a weight of its own: [4·cout, kt, 2, 2,
// cin], from enlarge.cu. Phase 2·q + r makes row 2·y + q and column 2·x + r of out:
//     out[t, 2·y + q, 2·x + r, n] = … weight[(2·q + r)·cout + n, i, j, k, c]·in[t', y + j + q − 1, x + k + r − 1, c] …
// Slabs of moments lie phase by phase in a frame, and 128 must divide the positions of a phase.
//
// A block makes one tile: 128 neighbouring positions of a phase of a frame by some channels. So a tile is a slab, and a
// frame's bits do not depend on the frames beside it. Asynchronous copies load slices of 32 channels under a tap into
// rings in shared memory, with zeros outside of the frame, and a warp multiplies its share of the tile as in gemm.cu.
// With windows, one slice of the input serves all taps of a kernel row: it holds a run of the frame with the zeros
// beside its rows, and the next tap reads the same run one place further, with ldmatrix as well. Strided kernels load a
// slice for every tap. A step of the loop is a tap, or for up to 8 channels a kernel row. All kernels but the ragged
// ones sum kernel row by kernel row, in a row slice by slice, in a slice tap by tap, and give the same bits. Ragged
// kernels treat taps and channels as one long axis, and load element by element.
// Last, the tile passes through shared memory: other is loaded in rows, fragments replace it by the result, and the
// result is stored in rows, 16 bytes at a time. The moments are computed from that tile.
//
// Block: 128 threads. Grid: tiles. Shared memory: the rings, 23 to 48 KiB, so that two blocks fit a multiprocessor.
// Limits: cin a multiple of 8, unless ragged. Windows: kw = 3 or 2, stride 1, rows of at least 9 or 5 positions. Fewer
// than 2^31 elements in a frame of x and in the weight. A tile holds whole groups of moments.

#include "common/conv3d.cuh"

namespace {

// A thread loads one chunk of every SOURCE_STRIDE-th row of a slice.
constexpr int SOURCE_STRIDE = THREADS / SLICE_CHUNKS;
static_assert(SOURCE_STRIDE % 8 == 0, "this keeps the phase of the swizzle");
__device__ __forceinline__ int source_row() { return static_cast<int>(threadIdx.x) / SLICE_CHUNKS; }
__device__ __forceinline__ int source_channel() { return static_cast<int>(threadIdx.x) % SLICE_CHUNKS * CHUNK; }

// Loads slices of the input.
template <typename T, typename Shape> class InputSource {
    static constexpr int COUNT = Shape::ROWS / SOURCE_STRIDE;
    static_assert(Shape::ROWS % SOURCE_STRIDE == 0);

    // For each row: the row and the column of the input under the kernel's first tap.
    int top[COUNT], left[COUNT];
    int made;
    // The source of the last step: a frame, and for each row its element in the frame, or −1 outside.
    const T *from;
    int at[COUNT];

    // The frame of x under a tap in time.
    __device__ __forceinline__ const T *frame(const CausalConv3dParams &p, int time) const {
        const int at = (p.first_frame + made) * p.time_stride + time - (p.kt - 1);
        const auto elements = static_cast<std::int64_t>(p.height) * p.width * p.cin;
        return static_cast<const T *>(p.x) + (at < 0 ? 0 : at) * elements;
    }

    // The input of row i under a tap in space, as an element of the frame, or −1 outside.
    __device__ __forceinline__ int pixel(const CausalConv3dParams &p, int i, int row, int tap) const {
        const int y = top[i] + row, x = left[i] + tap;
        return y >= 0 && x >= 0 && y < p.height && x < p.width ? (y * p.width + x) * p.cin : -1;
    }

    __device__ __forceinline__ void bring_elements(const CausalConv3dParams &p, T *to, int k) const {
        const unsigned first_tap = static_cast<unsigned>(k) / p.cin, first_row = first_tap / p.kw;
        int channel = k - static_cast<int>(first_tap) * p.cin, tap = static_cast<int>(first_tap % p.kw);
        int row = static_cast<int>(first_row % p.kh), time = static_cast<int>(first_row / p.kh);
        Vec<T, CHUNK> values[COUNT];
#pragma unroll
        for (int j = 0; j < CHUNK; j++) {
            const T *from = frame(p, time) + channel;
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                const int at = time < p.kt ? pixel(p, i, row, tap) : -1;
                values[i][j] = at < 0 ? from_float<T>(0.0f) : load_global(from + at);
            }
            if (++channel == p.cin) {
                channel = 0;
                if (++tap == p.kw) {
                    tap = 0;
                    if (++row == p.kh) {
                        row = 0;
                        time++;
                    }
                }
            }
        }
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            *reinterpret_cast<Vec<T, CHUNK> *>(to + i * SOURCE_STRIDE * TILE_K) = values[i];
        }
    }

  public:
    __device__ __forceinline__ InputSource(const CausalConv3dParams &p, const Place &place) : made(place.made) {
        // A window begins at the tile's first position, in image rows that include the zeros beside them.
        const int width = Shape::INPUT == Input::WINDOWS ? p.out_width + p.kw - 1 : p.out_width;
        const int first = place.position / p.out_width * width + place.position % p.out_width + source_row();
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int at = first + i * SOURCE_STRIDE;
            top[i] = at / width * p.stride - p.pad_y + place.lower();
            left[i] = at % width * p.stride - p.pad_x + place.right();
        }
    }

    // Starts to load the slice of a step; `to` is the thread's place in it. Steps must come in order.
    __device__ __forceinline__ void bring(const CausalConv3dParams &p, T *to, const Step &step) {
        const int channel = step.channel + source_channel();
        if constexpr (Shape::INPUT == Input::RAGGED) {
            bring_elements(p, to, channel);
        } else {
            // A window stays at its place while the channels advance.
            if (Shape::INPUT == Input::STRIDED || step.channel == 0) {
                from = frame(p, step.time);
#pragma unroll
                for (int i = 0; i < COUNT; i++) {
                    at[i] = pixel(p, i, step.row, step.tap);
                }
            }
            const bool some = channel < p.cin;
            const T *here = some ? from + channel : from;
#pragma unroll
            for (int i = 0; i < COUNT; i++) {
                const bool inside = at[i] >= 0;
                cp_async_16(to + i * SOURCE_STRIDE * TILE_K, here + (inside ? at[i] : 0), some && inside ? 16 : 0);
            }
        }
    }
};

// Loads slices of the weight, whose rows are channels of the output. Columns beyond the last get the last one's weight.
template <typename T, typename Shape> class WeightSource {
    static constexpr int COUNT = (Shape::WEIGHT_ROWS + SOURCE_STRIDE - 1) / SOURCE_STRIDE;
    static constexpr bool RAGGED = Shape::INPUT == Input::RAGGED;

    // Elements of a row, and the starts of a thread's rows.
    int depth, rows[COUNT];
    const T *from;

  public:
    __device__ __forceinline__ WeightSource(const CausalConv3dParams &p, const Place &place) {
        depth = p.kt * p.kh * p.kw * p.cin;
        const int first = place.phase * p.cout + place.column;
        from = static_cast<const T *>(p.weight) + static_cast<std::int64_t>(first) * depth;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int row = source_row() + i * SOURCE_STRIDE, tap = Shape::TAPS > 1 ? row / Shape::TILE_N : 0;
            const int channel = row - tap * Shape::TILE_N;
            rows[i] = (channel < place.columns ? channel : place.columns - 1) * depth + tap * p.cin;
        }
    }

    __device__ __forceinline__ void bring(const CausalConv3dParams &p, T *to, const Step &step) const {
        const int channel = step.channel + source_channel(), left = (RAGGED ? depth : p.cin) - channel;
        const int k = ((step.time * p.kh + step.row) * p.kw + step.tap) * p.cin + channel;
        const T *here = left > 0 ? from + k : from;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            if (Shape::WEIGHT_ROWS % SOURCE_STRIDE != 0 && source_row() + i * SOURCE_STRIDE >= Shape::WEIGHT_ROWS) {
                return;
            }
            T *at = to + i * SOURCE_STRIDE * TILE_K;
            if constexpr (RAGGED) {
                Vec<T, CHUNK> values;
#pragma unroll
                for (int j = 0; j < CHUNK; j++) {
                    values[j] = j < left ? load_global(here + rows[i] + j) : from_float<T>(0.0f);
                }
                *reinterpret_cast<Vec<T, CHUNK> *>(at) = values;
            } else {
                cp_async_16(at, here + rows[i], left > 0 ? 16 : 0);
            }
        }
    }
};

// All threads go over the chunks of a tile in rows. `visit` receives a chunk's place in shared memory, its place in out
// or in other, where the tile lies in `frame`, and its number of elements.
template <typename Shape, typename Visit>
__device__ __forceinline__ void each_chunk(const CausalConv3dParams &p, const Place &place, int frame, Visit visit) {
    constexpr int CHUNKS = Shape::TILE_N / CHUNK;
    const std::int64_t first = static_cast<std::int64_t>(frame) * p.factor * p.factor * p.positions;
    for (int index = static_cast<int>(threadIdx.x); index < place.rows * CHUNKS; index += THREADS) {
        const int row = index / CHUNKS, chunk = index % CHUNKS, left = place.columns - chunk * CHUNK;
        if (left > 0) {
            // The narrow kernel makes no phases, and its registers decide how many blocks fit.
            const int position = Shape::FEW ? place.position + row : place.out_position(p, row);
            const std::int64_t at = (first + position) * p.cout + place.column + chunk * CHUNK;
            visit(swizzled<CHUNKS>(row, chunk), at, left < CHUNK ? left : CHUNK);
        }
    }
}

// Loads `other` into the tile.
template <typename T, typename Shape>
__device__ __forceinline__ void bring_other(const CausalConv3dParams &p, const Place &place, T *tile) {
    const T *other = static_cast<const T *>(p.other);
    each_chunk<Shape>(p, place, p.other_frame + place.made, [&](unsigned to, std::int64_t from, int count) {
        if (p.wide) {
            cp_async_16(tile + to, other + from);
        } else {
            for (int i = 0; i < count; i++) {
                tile[to + i] = load_global(other + from + i);
            }
        }
    });
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
}

// Turns a warp's sums into results in the tile, from `row` and `column` on.
template <typename T, typename Shape>
__device__ __forceinline__ void finish(const CausalConv3dParams &p, const Place &place,
                                       const Sums<Shape::FRAGMENTS_M, Shape::FRAGMENTS_N> &sums, T *tile, int row,
                                       int column) {
    const int lane = static_cast<int>(threadIdx.x % WARP_SIZE), pair = lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < Shape::FRAGMENTS_N; j++) {
        const int chunk = column / CHUNK + j;
        float bias[2] = {};
#pragma unroll
        for (int n = 0; n < 2; n++) {
            const int at = chunk * CHUNK + pair + n;
            if (p.bias != nullptr && at < place.columns) {
                bias[n] = to_float(load_global(static_cast<const T *>(p.bias) + place.column + at));
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * Shape::FRAGMENTS_M; i++) {
            T *at = tile + swizzled<Shape::TILE_N / CHUNK>(row + lane / 4 + i * 8, chunk) + pair;
            const float(&held)[4] = sums[i / 2][j];
            float y[2] = {p.conv_scale * (held[i % 2 * 2] + bias[0]), p.conv_scale * (held[i % 2 * 2 + 1] + bias[1])};
            if (p.other != nullptr) {
                const auto other = *reinterpret_cast<const Vec<T, 2> *>(at);
                y[0] += p.other_scale * to_float(other[0]), y[1] += p.other_scale * to_float(other[1]);
            }
            *reinterpret_cast<std::uint32_t *>(at) = pack2<T>(y[0], y[1]);
        }
    }
}

// Stores the tile's rows, then their moments.
template <typename T, typename Shape>
__device__ __forceinline__ void store(const CausalConv3dParams &p, const Place &place, const T *tile) {
    T *out = static_cast<T *>(p.out);
    each_chunk<Shape>(p, place, p.out_frame + place.made, [&](unsigned from, std::int64_t to, int count) {
        if (p.wide) {
            store_global(reinterpret_cast<WideVec<T> *>(out + to), *reinterpret_cast<const WideVec<T> *>(tile + from));
        } else {
            for (int i = 0; i < count; i++) {
                store_global(out + to + i, tile[from + i]);
            }
        }
    });
    if (Shape::MOMENTS && p.moments != nullptr) {
        const std::int64_t first = place.out_slab(p) * p.groups + place.column / p.group;
        Moment *scratch = reinterpret_cast<Moment *>(shared_memory() + Shape::TILE_BYTES);
        store_moments<THREADS, TILE_M, Shape::TILE_N>(tile, place.rows, place.columns, p.group, scratch,
                                                      static_cast<Vec<float, 2> *>(p.moments) + first);
    }
}

template <typename T, typename Shape> __device__ __forceinline__ void causal_conv3d(const CausalConv3dParams &p) {
    constexpr bool WINDOWS = Shape::INPUT == Input::WINDOWS;
    constexpr int STAGES = Shape::STAGES;
    const Place place(p);
    InputSource<T, Shape> input_source(p, place);
    const WeightSource<T, Shape> weight_source(p, place);
    T *const inputs = reinterpret_cast<T *>(shared_memory());
    T *const weights = inputs + Shape::INPUT_STAGES * Shape::INPUT_SLICE;
    // The next slice in a ring.
    const auto next_input = [&](T *slice) {
        return slice == inputs + (Shape::INPUT_STAGES - 1) * Shape::INPUT_SLICE ? inputs : slice + Shape::INPUT_SLICE;
    };
    const auto next_weight = [&](T *slice) {
        return slice == weights + (STAGES - 1) * Shape::WEIGHT_SLICE ? weights : slice + Shape::WEIGHT_SLICE;
    };

    const int taps = p.kt * p.kh * (Shape::TAPS > 1 ? 1 : p.kw);
    const int steps = Shape::INPUT == Input::RAGGED ? (taps * p.cin + TILE_K - 1) / TILE_K
                                                    : taps * ((p.cin + TILE_K - 1) / TILE_K);
    const unsigned to = swizzled<SLICE_CHUNKS>(source_row(), source_channel() / CHUNK);
    Step ahead;
    T *input_ahead = inputs, *weight_ahead = weights;
    const auto bring = [&](int step) {
        if (step < steps) {
            if (!WINDOWS || ahead.tap == 0) {
                input_source.bring(p, input_ahead + to, ahead);
                input_ahead = next_input(input_ahead);
            }
            weight_source.bring(p, weight_ahead + to, ahead);
            weight_ahead = next_weight(weight_ahead);
            ahead.advance<Shape>(p);
        }
        // Behind the end the group is empty, so that the wait can still count groups.
        cp_async_commit();
    };
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        bring(step);
    }

    const int warp = static_cast<int>(threadIdx.x / WARP_SIZE);
    const int row = warp / Shape::WARPS_N * Shape::WARP_M, column = warp % Shape::WARPS_N * Shape::WARP_N;
    // A warp beyond the edge multiplies nothing, and only helps to load slices.
    const bool useful = row < place.rows && column < place.columns;
    Sums<Shape::FRAGMENTS_M, Shape::FRAGMENTS_N> sums{};
    int rows[Shape::FRAGMENTS_M];
#pragma unroll
    for (int i = 0; i < Shape::FRAGMENTS_M; i++) {
        rows[i] = row + i * MMA_M + static_cast<int>(threadIdx.x % MMA_M);
        if (WINDOWS) {
            // The zeros beside image rows lie between one row and the next.
            rows[i] += (place.position % p.out_width + rows[i]) / p.out_width * (p.kw - 1);
        }
    }
    T *input = inputs, *weight = weights;
    int tap = 0;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        // This step's slices have arrived, and all warps are done with the step before, so new slices can replace its
        // own.
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        bring(step + STAGES - 1);
        if (useful) {
#pragma unroll
            for (int t = 0; t < Shape::TAPS; t++) {
                int shifted[Shape::FRAGMENTS_M];
#pragma unroll
                for (int i = 0; i < Shape::FRAGMENTS_M; i++) {
                    shifted[i] = WINDOWS ? rows[i] + tap + t : rows[i];
                }
                multiply<T, SLICE_CHUNKS>(sums, input, shifted, weight, column + t * Shape::TILE_N);
            }
        }
        weight = next_weight(weight);
        if (!WINDOWS || Shape::TAPS > 1 || ++tap == p.kw) {
            input = next_input(input);
            tap = 0;
        }
    }
    // The tile replaces the rings in shared memory.
    __syncthreads();
    if (p.other != nullptr) {
        bring_other<T, Shape>(p, place, inputs);
    }
    if (useful) {
        finish<T, Shape>(p, place, sums, inputs, row, column);
    }
    __syncthreads();
    store<T, Shape>(p, place, inputs);
}

} // namespace

KERNEL(causal_conv3d_nthwc_n128_f16, THREADS, CausalConv3dParams) { causal_conv3d<f16, Wide<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_n128_bf16, THREADS, CausalConv3dParams) { causal_conv3d<bf16, Wide<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_n96_f16, THREADS, CausalConv3dParams) { causal_conv3d<f16, Medium<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_n96_bf16, THREADS, CausalConv3dParams) { causal_conv3d<bf16, Medium<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_n64_f16, THREADS, CausalConv3dParams) { causal_conv3d<f16, Small<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_n64_bf16, THREADS, CausalConv3dParams) { causal_conv3d<bf16, Small<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_n8_f16, THREADS, CausalConv3dParams) { causal_conv3d<f16, Narrow<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_n8_bf16, THREADS, CausalConv3dParams) { causal_conv3d<bf16, Narrow<WINDOWS>>(p); }
KERNEL(causal_conv3d_nthwc_strided_n128_f16, THREADS, CausalConv3dParams) { causal_conv3d<f16, Wide<STRIDED>>(p); }
KERNEL(causal_conv3d_nthwc_strided_n128_bf16, THREADS, CausalConv3dParams) { causal_conv3d<bf16, Wide<STRIDED>>(p); }
KERNEL(causal_conv3d_nthwc_strided_n64_f16, THREADS, CausalConv3dParams) { causal_conv3d<f16, Small<STRIDED>>(p); }
KERNEL(causal_conv3d_nthwc_strided_n64_bf16, THREADS, CausalConv3dParams) { causal_conv3d<bf16, Small<STRIDED>>(p); }
KERNEL(causal_conv3d_nthwc_ragged_f16, THREADS, CausalConv3dParams) { causal_conv3d<f16, Small<RAGGED>>(p); }
KERNEL(causal_conv3d_nthwc_ragged_bf16, THREADS, CausalConv3dParams) { causal_conv3d<bf16, Small<RAGGED>>(p); }

KERNEL_FILE(conv3d);
