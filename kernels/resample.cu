// Resampling of a video in time.
//
//     time_average     out[j] = (x[2j − 2] + x[2j − 1] + x[2j]) / 3; frames before the first are the first
//     time_double      out[0] = x[0]; for n > 0: out[2n − 1] = ¾·x[n] + ¼·x[n − 1], out[2n] = ¾·x[n] + ¼·x[n + 1];
//                      here frame 0 is replaced by frame 1, and the frame behind the last is the last
//     regroup_frames   out[t', i, c'] = x[t, i, c] where c·frames + t = t'·channels + c'; inverse: (t', c') to (t, c)
//
// x [frames, frame_len] → out [ceil(frames / 2), frame_len] or [2·frames − 1, frame_len]; regroup_frames: x, out
// [frames, positions, channels]; T. Sums are f32; values that only move keep their bits.
//
// time_average, time_double: a thread makes a run of out frames at one vector of the frame (eight elements, or one in
// the ragged instance). It loads all frames of x that the run needs before it uses the first. The runs of one place are
// neighbouring blocks, which share frames in the second-level cache, so memory is read once.
// regroup_frames: at one position, frames × channels are a matrix, which is transposed and cut into rows again. A block
// moves a stretch of channels of one position through shared memory; its elements are contiguous in either order. Rows
// of frames move by vectors and pairs. The other order moves by vectors, which are gathered from single elements or
// scattered to them. Rows in shared memory are an odd number of words apart, so that neighbouring frames are in
// different banks. In the ragged instance each thread moves one element.
//
// Bytes: each element of x is read once, each element of out written once.
//
// Block: 256 threads. Grid: runs · vectors of a frame / 256; regroup_frames positions · stretches, ragged: elements /
// 256. Shared memory: regroup_frames 2 · frames · (stretch + 2) B, else none.
// Limits: frame_len, channels and stretches multiples of 8 (ragged: any numbers); fewer than 2^31 vectors of a frame,
// or elements of ragged frames to regroup.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;
// Frames of a run: of out for time_average, of x for time_double.
constexpr int RUN = 4;

struct ResampleParams {
    const void *x;
    void *out;
    std::int64_t frame_len;
    // vectors of a frame
    std::int32_t count;
    std::int32_t frames;
    std::int32_t out_frames;
    std::int32_t runs;
};

struct RegroupFramesParams {
    const void *x;
    void *out;
    std::int64_t frame_len;
    std::int32_t frames;
    std::int32_t channels;
    // channels of a block, and blocks of a position
    std::int32_t stretch;
    std::int32_t stretches;
    std::int32_t inverse;
    // ragged: elements
    std::int32_t count;
};

template <typename T, int WIDTH> __device__ __forceinline__ void time_average(const ResampleParams &p) {
    const unsigned runs = p.runs, vector = blockIdx.x / runs * BLOCK_THREADS + threadIdx.x;
    if (vector >= static_cast<unsigned>(p.count)) {
        return;
    }
    const int start = blockIdx.x % runs * RUN, made = p.out_frames - start < RUN ? p.out_frames - start : RUN;
    const T *x = static_cast<const T *>(p.x) + static_cast<std::int64_t>(vector) * WIDTH;
    Packed<T, WIDTH> held[2 * RUN + 1];
#pragma unroll
    for (int i = 0; i <= 2 * RUN; i++) {
        if (i <= 2 * made) {
            const int frame = 2 * start - 2 + i;
            held[i] = load_packed<WIDTH>(x + (frame < 0 ? 0 : frame) * p.frame_len);
        }
    }
    T *out = static_cast<T *>(p.out) + static_cast<std::int64_t>(vector) * WIDTH + start * p.frame_len;
#pragma unroll
    for (int i = 0; i < RUN; i++) {
        if (i < made) {
            Vec<float, WIDTH> mean;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                const float sum = held[2 * i][j] + held[2 * i + 1][j] + held[2 * i + 2][j];
                mean[j] = sum * (1.0f / 3.0f);
            }
            store_floats<T>(out + i * p.frame_len, mean);
        }
    }
}

template <typename T, int WIDTH> __device__ __forceinline__ void time_double(const ResampleParams &p) {
    const unsigned runs = p.runs, vector = blockIdx.x / runs * BLOCK_THREADS + threadIdx.x;
    if (vector >= static_cast<unsigned>(p.count)) {
        return;
    }
    // The run's frames, and one more on either side.
    const int before = static_cast<int>(blockIdx.x % runs * RUN) - 1;
    const T *x = static_cast<const T *>(p.x) + static_cast<std::int64_t>(vector) * WIDTH;
    Packed<T, WIDTH> held[RUN + 2];
#pragma unroll
    for (int i = 0; i < RUN + 2; i++) {
        if (before + i >= 0 && before + i < p.frames) {
            held[i] = load_packed<WIDTH>(x + (before + i) * p.frame_len);
        }
    }
    T *out = static_cast<T *>(p.out) + static_cast<std::int64_t>(vector) * WIDTH;
    const auto store = [&](int frame, const Packed<T, WIDTH> &near, const Packed<T, WIDTH> &far) {
        Vec<float, WIDTH> mixed;
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            mixed[j] = 0.75f * near[j] + 0.25f * far[j];
        }
        store_floats<T>(out + frame * p.frame_len, mixed);
    };
#pragma unroll
    for (int i = 1; i <= RUN; i++) {
        const int frame = before + i;
        if (frame == 0) {
            store_global(reinterpret_cast<Packed<T, WIDTH> *>(out), held[i]);
        } else if (frame < p.frames) {
            // These are copies. A choice between references would take addresses, and so move `held` to local memory.
            Packed<T, WIDTH> left = held[i], right = held[i];
            if (frame > 1) {
                left = held[i - 1];
            }
            if (frame + 1 < p.frames) {
                right = held[i + 1];
            }
            store(2 * frame - 1, held[i], left);
            store(2 * frame, held[i], right);
        }
    }
}

// A block's elements in shared memory, and their places in global memory in either order.
template <typename T> struct Tile {
    static constexpr int WIDTH = VEC_WIDTH<T>;

    const RegroupFramesParams &p;
    int first, channels;
    std::int64_t position;

    __device__ __forceinline__ explicit Tile(const RegroupFramesParams &p) : p(p) {
        const unsigned stretches = p.stretches;
        first = blockIdx.x % stretches * p.stretch;
        channels = p.channels - first < p.stretch ? p.channels - first : p.stretch;
        position = static_cast<std::int64_t>(blockIdx.x / stretches) * p.channels;
    }

    __device__ __forceinline__ T *at(int frame, int channel) const {
        return reinterpret_cast<T *>(shared_memory()) + frame * (p.stretch + 2) + channel;
    }

    // Calls `move(place in global memory, vector)` for the vectors of every frame's channels.
    template <typename Move> __device__ __forceinline__ void by_frame(Move move) const {
        const int vectors = channels / WIDTH;
        for (int i = threadIdx.x; i < p.frames * vectors; i += BLOCK_THREADS) {
            const int frame = i / vectors, channel = i % vectors * WIDTH;
            move(frame * p.frame_len + position + first + channel, frame, channel);
        }
    }

    // Calls `move(place in global memory, vector)` for the vectors of every channel's frames.
    template <typename Move> __device__ __forceinline__ void by_channel(Move move) const {
        for (int i = threadIdx.x; i < p.frames * channels / WIDTH; i += BLOCK_THREADS) {
            const int element = i * WIDTH, flat = first * p.frames + element;
            const std::int64_t row = flat / p.channels;
            move(row * p.frame_len + position + flat % p.channels, element % p.frames, element / p.frames);
        }
    }

    // Calls `each(element of the vector, its place)` along the frames of a channel, then of the next.
    template <typename Each> __device__ __forceinline__ void walk(int frame, int channel, Each each) const {
#pragma unroll
        for (int j = 0; j < WIDTH; j++) {
            each(j, at(frame, channel));
            if (++frame == p.frames) {
                frame = 0;
                channel++;
            }
        }
    }
};

template <typename T> __device__ __forceinline__ void regroup_frames(const RegroupFramesParams &p) {
    constexpr int WIDTH = VEC_WIDTH<T>;
    using Values = WideVec<T>;
    using Pair = Vec<T, 2>;
    const Tile<T> tile(p);
    const T *x = static_cast<const T *>(p.x);
    T *out = static_cast<T *>(p.out);
    const auto load = [&](std::int64_t place) { return load_global(reinterpret_cast<const Values *>(x + place)); };
    const auto store = [&](std::int64_t place, const Values &values) {
        store_global(reinterpret_cast<Values *>(out + place), values);
    };
    if (p.inverse) {
        tile.by_channel([&](std::int64_t place, int frame, int channel) {
            const Values values = load(place);
            tile.walk(frame, channel, [&](int j, T *at) { *at = values[j]; });
        });
        __syncthreads();
        tile.by_frame([&](std::int64_t place, int frame, int channel) {
            Values values;
#pragma unroll
            for (int j = 0; j < WIDTH; j += 2) {
                const Pair pair = *reinterpret_cast<const Pair *>(tile.at(frame, channel + j));
                values[j] = pair[0];
                values[j + 1] = pair[1];
            }
            store(place, values);
        });
    } else {
        tile.by_frame([&](std::int64_t place, int frame, int channel) {
            const Values values = load(place);
#pragma unroll
            for (int j = 0; j < WIDTH; j += 2) {
                *reinterpret_cast<Pair *>(tile.at(frame, channel + j)) = Pair{values[j], values[j + 1]};
            }
        });
        __syncthreads();
        tile.by_channel([&](std::int64_t place, int frame, int channel) {
            Values values;
            tile.walk(frame, channel, [&](int j, const T *at) { values[j] = *at; });
            store(place, values);
        });
    }
}

template <typename T> __device__ __forceinline__ void regroup_frames_ragged(const RegroupFramesParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const unsigned frames = p.frames, channels = p.channels, line = index / channels;
    const auto frame_len = static_cast<unsigned>(p.frame_len);
    const unsigned frame = index / frame_len, channel = index % channels, position = line % (frame_len / channels);
    // The place of this element in x.
    const unsigned flat = p.inverse ? channel * frames + frame : frame * channels + channel;
    const std::int64_t from_frame = p.inverse ? flat / channels : flat % frames;
    const unsigned from_channel = p.inverse ? flat % channels : flat / frames;
    const auto from = from_frame * frame_len + static_cast<std::int64_t>(position) * channels + from_channel;
    store_global(static_cast<T *>(p.out) + index, load_global(static_cast<const T *>(p.x) + from));
}

} // namespace

KERNEL(time_average_f16, BLOCK_THREADS, ResampleParams) { time_average<f16, 8>(p); }
KERNEL(time_average_bf16, BLOCK_THREADS, ResampleParams) { time_average<bf16, 8>(p); }
KERNEL(time_average_ragged_f16, BLOCK_THREADS, ResampleParams) { time_average<f16, 1>(p); }
KERNEL(time_average_ragged_bf16, BLOCK_THREADS, ResampleParams) { time_average<bf16, 1>(p); }
KERNEL(time_double_f16, BLOCK_THREADS, ResampleParams) { time_double<f16, 8>(p); }
KERNEL(time_double_bf16, BLOCK_THREADS, ResampleParams) { time_double<bf16, 8>(p); }
KERNEL(time_double_ragged_f16, BLOCK_THREADS, ResampleParams) { time_double<f16, 1>(p); }
KERNEL(time_double_ragged_bf16, BLOCK_THREADS, ResampleParams) { time_double<bf16, 1>(p); }
KERNEL(regroup_frames_f16, BLOCK_THREADS, RegroupFramesParams) { regroup_frames<f16>(p); }
KERNEL(regroup_frames_bf16, BLOCK_THREADS, RegroupFramesParams) { regroup_frames<bf16>(p); }
KERNEL(regroup_frames_ragged_f16, BLOCK_THREADS, RegroupFramesParams) { regroup_frames_ragged<f16>(p); }
KERNEL(regroup_frames_ragged_bf16, BLOCK_THREADS, RegroupFramesParams) { regroup_frames_ragged<bf16>(p); }

KERNEL_FILE(resample);
