// Kernels for the tests of the emulator. Each has one fault and a correct version.

#include "../common/ptx.cuh"
#include "../common/reduce.cuh"

namespace {

constexpr int THREADS = 64;

struct FaultParams {
    const void *x;
    void *out;
    std::int32_t count;
    // 0 switches the fault off.
    std::int32_t faulty;
};

} // namespace

// Reverses 64 floats through shared memory. Fault: no barrier between write and read.
KERNEL(fault_missing_barrier, THREADS, FaultParams) {
    float *shared = reinterpret_cast<float *>(shared_memory());
    const int i = static_cast<int>(threadIdx.x);
    shared[i] = load_global(static_cast<const float *>(p.x) + i);
    if (p.faulty == 0) {
        __syncthreads();
    }
    store_global(static_cast<float *>(p.out) + i, shared[THREADS - 1 - i]);
}

// Rotates values by one place, twice, in the same shared memory. Fault: no barrier between the last reads of the first
// rotation and the writes of the second. The result of this race depends on the order of threads.
KERNEL(fault_race, THREADS, FaultParams) {
    float *shared = reinterpret_cast<float *>(shared_memory());
    const int i = static_cast<int>(threadIdx.x);
    float value = load_global(static_cast<const float *>(p.x) + i);
    for (int turn = 0; turn < 2; turn++) {
        shared[i] = value;
        __syncthreads();
        value = shared[(i + 1) % THREADS];
        if (p.faulty == 0) {
            __syncthreads();
        }
    }
    store_global(static_cast<float *>(p.out) + i, value);
}

// Copies `count` floats. Fault: no check for the end in the last block.
KERNEL(fault_overrun, THREADS, FaultParams) {
    const int i = static_cast<int>(blockIdx.x * THREADS + threadIdx.x);
    if (i < p.count || p.faulty != 0) {
        store_global(static_cast<float *>(p.out) + i, load_global(static_cast<const float *>(p.x) + i));
    }
}

// Fault: writes one float beyond shared memory.
KERNEL(fault_shared_overrun, THREADS, FaultParams) {
    float *shared = reinterpret_cast<float *>(shared_memory());
    shared[threadIdx.x + (p.faulty != 0 ? 1 : 0)] = 1.0f;
}

// Fault: half of the warps never reach the barrier.
KERNEL(fault_divergent_barrier, THREADS, FaultParams) {
    if (p.faulty == 0 || threadIdx.x < WARP_SIZE) {
        __syncthreads();
    }
}

// Fault: a quarter of the lanes do not take part in a shuffle.
KERNEL(fault_missing_lanes, THREADS, FaultParams) {
    float value = static_cast<float>(threadIdx.x);
    if (p.faulty == 0 || threadIdx.x % WARP_SIZE < 24) {
        value = __shfl_xor_sync(ALL_LANES, value, 1);
    }
    store_global(static_cast<float *>(p.out) + threadIdx.x, value);
}

// Fault: the halves of a warp execute different shuffles.
KERNEL(fault_two_shuffles, THREADS, FaultParams) {
    float value = static_cast<float>(threadIdx.x);
    if (p.faulty != 0 && threadIdx.x % WARP_SIZE < WARP_SIZE / 2) {
        value = __shfl_xor_sync(ALL_LANES, value, 1);
    } else {
        value = __shfl_xor_sync(ALL_LANES, value, 1);
    }
    store_global(static_cast<float *>(p.out) + threadIdx.x, value);
}

// As fault_two_shuffles, through a function.
KERNEL(fault_two_sums, THREADS, FaultParams) {
    float value = static_cast<float>(threadIdx.x);
    if (p.faulty != 0 && threadIdx.x % WARP_SIZE < WARP_SIZE / 2) {
        value = warp_sum(value);
    } else {
        value = warp_sum(value) + 1.0f;
    }
    store_global(static_cast<float *>(p.out) + threadIdx.x, value);
}

// As fault_two_shuffles, with a matrix instruction.
KERNEL(fault_two_loads, THREADS, FaultParams) {
    const unsigned char *row = shared_memory() + threadIdx.x % 16 * 16;
    std::uint32_t held[2];
    if (p.faulty != 0 && threadIdx.x % WARP_SIZE < WARP_SIZE / 2) {
        ldmatrix_x2(held, row);
    } else {
        ldmatrix_x2(held, row);
    }
    store_global(static_cast<float *>(p.out) + threadIdx.x, static_cast<float>(held[0]));
}

// Fault: a vector at an address that is not a multiple of its size.
KERNEL(fault_misaligned, THREADS, FaultParams) {
    const auto *x = static_cast<const float *>(p.x) + (p.faulty != 0 ? 1 : 0);
    const auto four = load_global(reinterpret_cast<const Vec<float, 4> *>(x));
    store_global(static_cast<float *>(p.out) + threadIdx.x, four[0]);
}

// As fault_misaligned, in shared memory.
KERNEL(fault_misaligned_shared, THREADS, FaultParams) {
    float *shared = reinterpret_cast<float *>(shared_memory());
    shared[threadIdx.x] = load_global(static_cast<const float *>(p.x) + threadIdx.x);
    __syncthreads();
    const auto four = *reinterpret_cast<const Vec<float, 4> *>(shared + (p.faulty != 0 ? 1 : 0));
    store_global(static_cast<float *>(p.out) + threadIdx.x, four[0]);
}

// Copies 64 floats through an asynchronous copy. Fault: reads before it waits for the copy.
KERNEL(fault_missing_wait, THREADS, FaultParams) {
    float *shared = reinterpret_cast<float *>(shared_memory());
    const int i = static_cast<int>(threadIdx.x);
    cp_async_small<4>(shared + i, static_cast<const float *>(p.x) + i);
    cp_async_commit();
    if (p.faulty == 0) {
        cp_async_wait<0>();
    }
    store_global(static_cast<float *>(p.out) + i, shared[i]);
}

// Adds slices of 64 floats; each thread adds floats that the other warp copied. Asynchronous copies load a slice into
// one of two stages while the slice before is read. Fault: they are issued before the barrier after which no thread
// reads that stage.
KERNEL(fault_early_copy, THREADS, FaultParams) {
    constexpr int SLICES = 8;
    float *shared = reinterpret_cast<float *>(shared_memory());
    const int i = static_cast<int>(threadIdx.x);
    const auto bring = [&](int slice) {
        if (slice < SLICES) {
            cp_async_small<4>(shared + slice % 2 * THREADS + i, static_cast<const float *>(p.x) + slice * THREADS + i);
        }
        cp_async_commit();
    };
    float sum = 0.0f;
    bring(0);
    for (int slice = 0; slice < SLICES; slice++) {
        if (p.faulty == 0) {
            cp_async_wait<0>();
            __syncthreads();
            bring(slice + 1);
        } else {
            bring(slice + 1);
            cp_async_wait<1>();
            __syncthreads();
        }
        sum += shared[slice % 2 * THREADS + (i + static_cast<int>(WARP_SIZE)) % THREADS];
    }
    store_global(static_cast<float *>(p.out) + i, sum);
}

// One 16×8×16 product of f16 matrices; x holds a [16][16], then b [8][16]. Fault: loads a's fragment with its second
// and third 8×8 matrices exchanged. The second warp does nothing.
KERNEL(fault_wrong_fragment, THREADS, FaultParams) {
    auto *shared = reinterpret_cast<f16 *>(shared_memory());
    for (int i = static_cast<int>(threadIdx.x); i < 24 * 16; i += THREADS) {
        shared[i] = load_global(static_cast<const f16 *>(p.x) + i);
    }
    __syncthreads();
    const int lane = static_cast<int>(threadIdx.x);
    if (lane >= static_cast<int>(WARP_SIZE)) {
        return;
    }
    const int row = p.faulty == 0 ? lane % 16 : lane % 8 + 8 * (lane / 16);
    const int column = p.faulty == 0 ? lane / 16 * 8 : lane / 8 % 2 * 8;
    std::uint32_t a[4], b[2];
    ldmatrix_x4(a, shared + row * 16 + column);
    ldmatrix_x2(b, shared + (16 + lane % 8) * 16 + lane / 8 % 2 * 8);
    float c[4] = {};
    mma_k16<f16>(c, a, b);
    for (int i = 0; i < 4; i++) {
        const int at = (lane / 4 + 8 * (i / 2)) * 8 + lane % 4 * 2 + i % 2;
        store_global(static_cast<float *>(p.out) + at, c[i]);
    }
}

namespace {

// Half of the threads wait here forever, with small arrays in their frames.
[[gnu::noinline]] int frame_left_in_the_middle(int i) {
    volatile int array[3] = {}, another[3] = {}, third[3] = {};
    if (i < static_cast<int>(WARP_SIZE)) {
        __syncthreads();
    }
    return array[i % 3] + another[i % 3] + third[i % 3];
}

// Has one large array at the place of the small arrays of the other function.
[[gnu::noinline]] int frame_filled(int i) {
    volatile int array[256];
    for (int j = 0; j < 256; j++) {
        array[j] = j;
    }
    return array[i];
}

} // namespace

// Fault: leaves a function's frame on the stacks. The next threads on these stacks must not be affected.
KERNEL(fault_frame_left, THREADS, FaultParams) {
    const int i = static_cast<int>(threadIdx.x);
    const int value = p.faulty != 0 ? frame_left_in_the_middle(i) : frame_filled(i);
    store_global(static_cast<float *>(p.out) + i, static_cast<float>(value));
}

KERNEL_FILE(faults);
