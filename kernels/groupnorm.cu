// GroupNorm of a video, optionally followed by SiLU, in three steps.
//
//     group_moments   mean and M2 = Σ (x − mean)² of every group in every slab of a frame
//     group_combine   mean and M2 of slabs to those of frames, then of frames to mean and 1 / √(M2 / count + eps)
//     group_apply     out = (x − mean) / √(variance + eps) · weight + bias; with SiLU out·σ(out)
//
// x, out [frames, positions, channels], T; a group is channels / groups neighbours. weight, bias [channels], T.
// moments [frames, slabs, groups, 2], f32, for slabs of 128 positions (a frame's last may have fewer); statistics
// [frames, groups, 2], f32. A video may come in stretches of time, each with its own moments.
//
// Moments: a block takes a slab and a stretch of whole groups, up to 128 channels. A thread loads its vectors, up to
// eight positions of one column, before it uses the first, and holds them, so it reads x once. It sums deviations from
// its first value of a group, so a mean far from zero costs no digits. Then the threads of a column are combined in
// order of rows, and the columns of a group in order, by Chan's formula for many: mean = Σ count_i · mean_i / Σ
// count_i, M2 = Σ M2_i + Σ count_i · (mean_i − mean)². In the ragged instance a block takes one group of a slab and
// reads it twice, the second time from the caches. A slab's moments depend only on its own positions, so frames may
// come in chunks.
// Combine: 32 threads share the parts (slabs or frames) of a whole (a frame or the video) and a group, each in order; a
// block takes eight groups. A tree adds the threads' sums, by the same formula. Means are summed as differences from
// the first part's mean, so equal means stay exact. Frames are combined only by the last launch.
// Apply: a thread keeps its channels for eight positions, and loads all before it uses the first. Blocks go from the
// end to the start, because the second-level cache still holds the end of x, and the next operation reads the start of
// out first.
//
// Bytes an element: moments 2, apply 4. Moments are 8 bytes for 128 · channels / groups elements. Combine reads them
// twice, the second time from the caches.
//
// Block: 256 threads. Grid, y: frames; x: moments stretches · slabs (ragged: groups · slabs), apply blocks of eight
// positions a thread; combine, x alone: wholes · groups / 8. Shared memory: moments 18,432 B, its ragged instance 32 B,
// combine 256 B, apply none.
// Limits: moments channels in stretches of whole groups and whole vectors, apply a multiple of 8 (ragged: any number);
// fewer than 65,536 frames.

#include "common/activation.cuh"
#include "common/reduce.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;
constexpr int WARPS = BLOCK_THREADS / static_cast<int>(WARP_SIZE);
// Positions of a slab.
constexpr int SLAB = 128;
// The most channels of a stretch.
constexpr int STRETCH = 128;
// Positions of a thread.
constexpr int STEPS = 8;
// Groups that a block combines, and threads for each.
constexpr int GROUPS = 8, RUNNERS = BLOCK_THREADS / GROUPS;

using Moments = Vec<float, 2>;

struct GroupMomentsParams {
    const void *x;
    void *moments;
    std::int32_t positions;
    std::int32_t channels;
    std::int32_t groups;
    // channels of a group
    std::int32_t width;
    // slabs of a frame
    std::int32_t slabs;
    // stretches of a position; ragged: groups
    std::int32_t stretches;
    // vectors of a stretch, and rows of `across` threads
    std::int32_t across;
    std::int32_t rows;
};

struct GroupCombineParams {
    const void *parts;
    void *out;
    // parts of a whole
    std::int32_t part_count;
    std::int32_t groups;
    // copies of each whole in out
    std::int32_t repeats;
    // out has mean and 1 / √(variance + eps), not mean and M2
    std::int32_t finish;
    // elements of a group in a part, in the last part, in the whole
    float part_elements;
    float last_elements;
    float elements;
    float eps;
};

struct GroupApplyParams {
    const void *x;
    // mean and 1 / √(variance + eps), [frames, groups, 2]
    const void *statistics;
    const void *weight;
    const void *bias;
    void *out;
    std::int32_t positions;
    std::int32_t channels;
    std::int32_t groups;
    std::int32_t width;
    std::int32_t silu;
    // vectors of a position that a block takes, and rows of `across` threads
    std::int32_t across;
    std::int32_t rows;
    // blocks across a position
    std::int32_t columns;
};

// The slab of a block: its positions, its first element, and the place of its moments.
struct Slab {
    int positions;
    std::int64_t first;
    std::int64_t out;

    __device__ __forceinline__ Slab(const GroupMomentsParams &p, int slab) {
        const std::int64_t frame = blockIdx.y;
        const int left = p.positions - slab * SLAB;
        positions = left < SLAB ? left : SLAB;
        first = (frame * p.positions + slab * SLAB) * p.channels;
        out = (frame * p.slabs + slab) * p.groups;
    }
};

// PART neighbours of a vector belong to one group.
template <typename T, int PART> __device__ __forceinline__ void group_moments(const GroupMomentsParams &p) {
    constexpr int WIDTH = VEC_WIDTH<T>, PARTS = WIDTH / PART;
    // Odd and even parts start in different banks.
    constexpr int PLANE = BLOCK_THREADS + 16;
    const int stretch = blockIdx.x % static_cast<unsigned>(p.stretches);
    const Slab slab(p, blockIdx.x / static_cast<unsigned>(p.stretches));
    const int thread = threadIdx.x, column = thread % p.across, row = thread / p.across;
    const auto takes = [&](int i) { return row < p.rows && row + i * p.rows < slab.positions; };

    Packed<T, WIDTH> held[STEPS];
    const T *x = static_cast<const T *>(p.x) + slab.first + (stretch * p.across + column) * WIDTH;
    x += static_cast<std::int64_t>(row) * p.channels;
    const int step = p.rows * p.channels;
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        if (takes(i)) {
            held[i] = load_packed<WIDTH>(x + i * step);
        }
    }
    Vec<float, PARTS> pivots{}, sums{}, squares{};
    int mine = 0;
    if (takes(0)) {
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            pivots[part] = held[0][part * PART];
        }
    }
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        if (takes(i)) {
            mine++;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                const float deviation = held[i][j] - pivots[j / PART];
                sums[j / PART] += deviation;
                squares[j / PART] += deviation * deviation;
            }
        }
    }

    float *means = reinterpret_cast<float *>(shared_memory()), *m2s = means + PARTS * PLANE;
    if (row < p.rows) {
        const float share = mine > 0 ? 1.0f / static_cast<float>(mine * PART) : 0.0f;
#pragma unroll
        for (int part = 0; part < PARTS; part++) {
            const float shift = sums[part] * share;
            means[part * PLANE + thread] = pivots[part] + shift;
            m2s[part * PLANE + thread] = squares[part] - sums[part] * shift;
        }
    }
    __syncthreads();
    float *folded = m2s + PARTS * PLANE;
    const float count = static_cast<float>(slab.positions);
    if (thread < PARTS * p.across) {
        // Positions of a row of threads.
        const int full = slab.positions / p.rows, rest = slab.positions % p.rows;
        const auto taken = [&](int row) { return full + (row < rest ? 1 : 0); };
        const int at = thread / p.across * PLANE + column;
        const float first = means[at];
        float shift = 0.0f, m2 = 0.0f;
#pragma unroll 4
        for (int row = 0; row < p.rows; row++) {
            shift += static_cast<float>(taken(row)) * (means[at + row * p.across] - first);
        }
        const float mean = first + shift / count;
#pragma unroll 4
        for (int row = 0; row < p.rows; row++) {
            const float deviation = means[at + row * p.across] - mean;
            m2 += m2s[at + row * p.across] + static_cast<float>(taken(row) * PART) * deviation * deviation;
        }
        folded[thread] = mean;
        folded[STRETCH + thread] = m2;
    }
    __syncthreads();
    if (thread < p.across * WIDTH / p.width) {
        const int parts = p.width / PART;
        const auto place = [&](int i) { return (thread * parts + i) % PARTS * p.across + (thread * parts + i) / PARTS; };
        float mean = 0.0f, m2 = 0.0f;
#pragma unroll 2
        for (int i = 0; i < parts; i++) {
            mean += folded[place(i)];
        }
        mean /= static_cast<float>(parts);
#pragma unroll 2
        for (int i = 0; i < parts; i++) {
            const float deviation = folded[place(i)] - mean;
            m2 += folded[STRETCH + place(i)] + count * static_cast<float>(PART) * deviation * deviation;
        }
        const int group = stretch * p.across * WIDTH / p.width + thread;
        store_global(static_cast<Moments *>(p.moments) + slab.out + group, Moments{mean, m2});
    }
}

template <typename T> __device__ __forceinline__ void group_moments(const GroupMomentsParams &p) {
    if (p.width % 8 == 0) {
        group_moments<T, 8>(p);
    } else if (p.width % 4 == 0) {
        group_moments<T, 4>(p);
    } else {
        group_moments<T, 1>(p);
    }
}

template <typename T> __device__ __forceinline__ void group_moments_ragged(const GroupMomentsParams &p) {
    const int group = blockIdx.x % static_cast<unsigned>(p.stretches), width = p.width;
    const Slab slab(p, blockIdx.x / static_cast<unsigned>(p.stretches));
    const T *x = static_cast<const T *>(p.x) + slab.first + static_cast<std::int64_t>(group) * width;
    float *scratch = reinterpret_cast<float *>(shared_memory());
    const int elements = slab.positions * width;
    const auto sum = [&](auto term) {
        float sum = 0.0f;
        for (int i = threadIdx.x; i < elements; i += BLOCK_THREADS) {
            const auto position = static_cast<std::int64_t>(i / width);
            sum += term(to_float(load_global(x + position * p.channels + i % width)));
        }
        return block_reduce<Sum, BLOCK_THREADS>(sum, scratch);
    };
    const float mean = sum([](float value) { return value; }) / static_cast<float>(elements);
    const float m2 = sum([=](float value) { return (value - mean) * (value - mean); });
    if (threadIdx.x == 0) {
        store_global(static_cast<Moments *>(p.moments) + slab.out + group, Moments{mean, m2});
    }
}

// The sum over the threads of a group, for all of them. `scratch` has WARPS · GROUPS floats.
__device__ __forceinline__ float runners_sum(float value, float *scratch) {
#pragma unroll
    for (int distance = GROUPS; distance < static_cast<int>(WARP_SIZE); distance *= 2) {
        value += __shfl_xor_sync(ALL_LANES, value, distance);
    }
    const int lane = threadIdx.x % WARP_SIZE;
    if (lane < GROUPS) {
        scratch[threadIdx.x / WARP_SIZE * GROUPS + lane] = value;
    }
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) {
        sum += scratch[warp * GROUPS + lane % GROUPS];
    }
    __syncthreads();
    return sum;
}

__device__ __forceinline__ void group_combine(const GroupCombineParams &p) {
    const unsigned blocks = (p.groups + GROUPS - 1) / GROUPS;
    const int group = blockIdx.x % blocks * GROUPS + threadIdx.x % GROUPS, runner = threadIdx.x / GROUPS;
    const std::int64_t whole = blockIdx.x / blocks;
    const Moments *parts = static_cast<const Moments *>(p.parts) + whole * p.part_count * p.groups + group;
    float *scratch = reinterpret_cast<float *>(shared_memory());
    // No thread returns early, because all lanes take part in the sums.
    const int count = group < p.groups ? p.part_count : 0;
    const auto sum = [&](auto term) {
        float sum = 0.0f;
#pragma unroll 4
        for (int part = runner; part < count; part += RUNNERS) {
            const Moments moments = load_global(parts + static_cast<std::int64_t>(part) * p.groups);
            sum += term(moments, part + 1 < count ? p.part_elements : p.last_elements);
        }
        return runners_sum(sum, scratch);
    };
    const float pivot = count > 0 ? load_global(parts)[0] : 0.0f;
    const float shift = sum([=](const Moments &part, float elements) { return elements * (part[0] - pivot); });
    const float mean = pivot + shift / p.elements;
    const float m2 = sum([=](const Moments &part, float elements) {
        return part[1] + elements * (part[0] - mean) * (part[0] - mean);
    });
    if (count == 0) {
        return;
    }
    // out may overlap the parts, because all threads of a group have read its parts by now.
    const Moments result{mean, p.finish ? rsqrtf(m2 / p.elements + p.eps) : m2};
    Moments *out = static_cast<Moments *>(p.out) + whole * p.repeats * p.groups + group;
    for (int repeat = runner; repeat < p.repeats; repeat += RUNNERS) {
        store_global(out + static_cast<std::int64_t>(repeat) * p.groups, result);
    }
}

template <typename T, int WIDTH> __device__ __forceinline__ void group_apply(const GroupApplyParams &p) {
    const unsigned block = gridDim.x - 1 - blockIdx.x, columns = p.columns;
    const std::int64_t frame = gridDim.y - 1 - blockIdx.y;
    const int row = threadIdx.x / p.across, position = block / columns * STEPS * p.rows + row;
    const int channel = (block % columns * p.across + threadIdx.x % p.across) * WIDTH;
    if (row >= p.rows || channel >= p.channels) {
        return;
    }
    const std::int64_t start = (frame * p.positions + position) * p.channels + channel;
    const int step = p.rows * p.channels;
    const auto takes = [&](int i) { return position + i * p.rows < p.positions; };
    const T *x = static_cast<const T *>(p.x) + start;
    Packed<T, WIDTH> held[STEPS];
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        if (takes(i)) {
            held[i] = load_packed<WIDTH>(x + i * step);
        }
    }

    auto scale = load_floats<WIDTH>(static_cast<const T *>(p.weight) + channel);
    const auto bias = load_floats<WIDTH>(static_cast<const T *>(p.bias) + channel);
    const Moments *statistics = static_cast<const Moments *>(p.statistics) + frame * p.groups + channel / p.width;
    Moments known = load_global(statistics);
    Vec<float, WIDTH> center;
    int in_group = channel % p.width;
#pragma unroll
    for (int j = 0; j < WIDTH; j++) {
        if (in_group == p.width) {
            known = load_global(++statistics);
            in_group = 0;
        }
        in_group++;
        center[j] = known[0];
        scale[j] *= known[1];
    }

    T *out = static_cast<T *>(p.out) + start;
#pragma unroll
    for (int i = 0; i < STEPS; i++) {
        if (takes(i)) {
            Vec<float, WIDTH> y;
#pragma unroll
            for (int j = 0; j < WIDTH; j++) {
                y[j] = (held[i][j] - center[j]) * scale[j] + bias[j];
            }
            if (p.silu) {
#pragma unroll
                for (int j = 0; j < WIDTH; j++) {
                    y[j] = silu(y[j]);
                }
            }
            store_floats<T>(out + i * step, y);
        }
    }
}

} // namespace

KERNEL(group_moments_f16, BLOCK_THREADS, GroupMomentsParams) { group_moments<f16>(p); }
KERNEL(group_moments_bf16, BLOCK_THREADS, GroupMomentsParams) { group_moments<bf16>(p); }
KERNEL(group_moments_ragged_f16, BLOCK_THREADS, GroupMomentsParams) { group_moments_ragged<f16>(p); }
KERNEL(group_moments_ragged_bf16, BLOCK_THREADS, GroupMomentsParams) { group_moments_ragged<bf16>(p); }
KERNEL(group_combine_f32, BLOCK_THREADS, GroupCombineParams) { group_combine(p); }
KERNEL(group_apply_f16, BLOCK_THREADS, GroupApplyParams) { group_apply<f16, 8>(p); }
KERNEL(group_apply_bf16, BLOCK_THREADS, GroupApplyParams) { group_apply<bf16, 8>(p); }
KERNEL(group_apply_ragged_f16, BLOCK_THREADS, GroupApplyParams) { group_apply<f16, 1>(p); }
KERNEL(group_apply_ragged_bf16, BLOCK_THREADS, GroupApplyParams) { group_apply<bf16, 1>(p); }

KERNEL_FILE(groupnorm);
