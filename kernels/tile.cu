// Boxes of videos.
//
//     copy_box    out[to + i] = x[from + i] for i in a box of frames, rows, columns, with all channels
//     blend_box   tile[i] = neighbour[from + i]·(1 − s/blend) + tile[i]·s/blend for i in a box; s is its row or column
//
// x, out, neighbour, tile [frames, height, width, channels], T; sizes may differ, channels are equal. blend_box changes
// tile in place. Elements outside of the box stay.
//
// The columns of a row of the box are contiguous, a line, in either video. A thread handles one vector of a line: eight
// elements, or one in the ragged instances. The vector's index gives the line and the place in it; the line gives frame
// and row, which have strides in either video. copy_box moves bits. blend_box's factors are quotients of whole numbers,
// rounded once; a vector crosses pixels that have fewer than eight channels.
//
// Bytes an element: copy_box 2 read, 2 written; blend_box 4 and 2.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: lines, rows and the starts of the box multiples of 8 elements (ragged: any number); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

struct CopyBoxParams {
    const void *x;
    void *out;
    // in elements: the start of the box, and the strides of frames and of rows
    std::int64_t from_start;
    std::int64_t from_frame;
    std::int64_t from_row;
    std::int64_t to_start;
    std::int64_t to_frame;
    std::int64_t to_row;
    // vectors of the box
    std::int32_t count;
    // rows of the box
    std::int32_t rows;
    // elements of a row of the box
    std::int32_t line;
    std::int32_t padding;
};

struct BlendBoxParams {
    const void *neighbour;
    void *tile;
    // in elements: the start of the neighbour's box, and the strides of frames and of rows; tile's box starts at 0
    std::int64_t from_start;
    std::int64_t from_frame;
    std::int64_t from_row;
    std::int64_t to_frame;
    std::int64_t to_row;
    // vectors of the box
    std::int32_t count;
    // rows of the box
    std::int32_t rows;
    // elements of a row of the box
    std::int32_t line;
    std::int32_t channels;
    // rows or columns that fade
    std::int32_t blend;
    // 1 if columns fade, 0 if rows fade
    std::int32_t across;
};

__device__ __forceinline__ unsigned vector_index() { return blockIdx.x * BLOCK_THREADS + threadIdx.x; }

// Frame, row and element of the line of a thread's vector in a box.
template <int WIDTH> struct Place {
    std::int64_t frame, row, at;

    template <typename Params> __device__ __forceinline__ explicit Place(const Params &p) {
        const unsigned vectors = p.line / WIDTH, line = vector_index() / vectors, rows = p.rows;
        frame = line / rows, row = line % rows, at = vector_index() % vectors * WIDTH;
    }
};

template <typename T, int WIDTH> __device__ __forceinline__ void copy_box(const CopyBoxParams &p) {
    if (vector_index() >= static_cast<unsigned>(p.count)) {
        return;
    }
    const auto [frame, row, at] = Place<WIDTH>(p);
    const T *from = static_cast<const T *>(p.x) + p.from_start + frame * p.from_frame + row * p.from_row + at;
    T *to = static_cast<T *>(p.out) + p.to_start + frame * p.to_frame + row * p.to_row + at;
    store_global(reinterpret_cast<Vec<T, WIDTH> *>(to), load_global(reinterpret_cast<const Vec<T, WIDTH> *>(from)));
}

template <typename T, int WIDTH> __device__ __forceinline__ void blend_box(const BlendBoxParams &p) {
    if (vector_index() >= static_cast<unsigned>(p.count)) {
        return;
    }
    const auto [frame, row, at] = Place<WIDTH>(p);
    const T *from = static_cast<const T *>(p.neighbour) + p.from_start + frame * p.from_frame + row * p.from_row + at;
    T *to = static_cast<T *>(p.tile) + frame * p.to_frame + row * p.to_row + at;
    const auto old = load_floats<WIDTH>(from);
    auto values = load_floats<WIDTH>(to);

    int channel = at % p.channels, step = p.across ? at / p.channels : row;
    const auto share = [&](int steps) { return static_cast<float>(steps) / static_cast<float>(p.blend); };
    float of_old = share(p.blend - step), of_new = share(step);
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
        if (channel == p.channels) {
            channel = 0;
            step += p.across;
            of_old = share(p.blend - step);
            of_new = share(step);
        }
        channel++;
        values[j] = old[j] * of_old + values[j] * of_new;
    }
    store_floats<T>(to, values);
}

} // namespace

KERNEL(copy_box_f16, BLOCK_THREADS, CopyBoxParams) { copy_box<f16, 8>(p); }
KERNEL(copy_box_bf16, BLOCK_THREADS, CopyBoxParams) { copy_box<bf16, 8>(p); }
KERNEL(copy_box_ragged_f16, BLOCK_THREADS, CopyBoxParams) { copy_box<f16, 1>(p); }
KERNEL(copy_box_ragged_bf16, BLOCK_THREADS, CopyBoxParams) { copy_box<bf16, 1>(p); }
KERNEL(blend_box_f16, BLOCK_THREADS, BlendBoxParams) { blend_box<f16, 8>(p); }
KERNEL(blend_box_bf16, BLOCK_THREADS, BlendBoxParams) { blend_box<bf16, 8>(p); }
KERNEL(blend_box_ragged_f16, BLOCK_THREADS, BlendBoxParams) { blend_box<f16, 1>(p); }
KERNEL(blend_box_ragged_bf16, BLOCK_THREADS, BlendBoxParams) { blend_box<bf16, 1>(p); }

KERNEL_FILE(tile);
