// Boxes of videos.
//
//     copy_box   out[to + i] = x[from + i] for i in a box of frames, rows, columns, with all channels
//
// x, out [frames, height, width, channels], T, of different sizes but for the channels. The rest of out stays.
//
// The columns of a row of the box are one run of elements, a line, in x as in out. A thread moves one vector of a line:
// eight elements, or one in the ragged instance. The number of the vector gives the line and the place in it; the line
// gives frame and row, which are strides apart in either video. Bits are moved.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: lines, rows and the starts of the box multiples of 8 elements (ragged: any number); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

struct CopyBoxParams {
    const void *x;
    void *out;
    // in elements: where the box starts, and from one frame and from one row to the next
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

template <typename T, int WIDTH> __device__ __forceinline__ void copy_box(const CopyBoxParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const unsigned vectors = p.line / WIDTH;
    const unsigned line = index / vectors, rows = p.rows;
    const std::int64_t frame = line / rows, row = line % rows, at = index % vectors * WIDTH;
    const T *from = static_cast<const T *>(p.x) + p.from_start + frame * p.from_frame + row * p.from_row + at;
    T *to = static_cast<T *>(p.out) + p.to_start + frame * p.to_frame + row * p.to_row + at;
    store_global(reinterpret_cast<Vec<T, WIDTH> *>(to), load_global(reinterpret_cast<const Vec<T, WIDTH> *>(from)));
}

} // namespace

KERNEL(copy_box_f16, BLOCK_THREADS, CopyBoxParams) { copy_box<f16, 8>(p); }
KERNEL(copy_box_bf16, BLOCK_THREADS, CopyBoxParams) { copy_box<bf16, 8>(p); }
KERNEL(copy_box_ragged_f16, BLOCK_THREADS, CopyBoxParams) { copy_box<f16, 1>(p); }
KERNEL(copy_box_ragged_bf16, BLOCK_THREADS, CopyBoxParams) { copy_box<bf16, 1>(p); }

KERNEL_FILE(tile);
