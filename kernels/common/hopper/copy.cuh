// Copies that one thread starts and the hardware carries out: boxes of a tensor between global and shared memory, and
// plain bytes. (sm_90; PTX ISA 9.0, sections "cp.async.bulk" and "cp.async.bulk.tensor")
//
// A tensor map describes a tensor of up to five dimensions (dimension 0 innermost) and the box that a copy moves. The
// host fills it in (src/cuda/params.rs). In shared memory the box lies dense, dimension 0 innermost; a swizzle of W bytes
// (the box's rows have W bytes, too) then moves the 16-byte pieces of 8 neighbouring rows, by their address, so that a
// column of pieces lies in different banks. A load may start outside of the tensor; elements outside become zeros, and
// count as copied. A store must start at coordinates ≥ 0, and leaves out elements beyond the end.
//
// These copies access shared memory by another path (the asynchronous proxy) than loads and stores do. Whoever stored
// what such a copy, or a product of wgmma.cuh, will read must call publish_shared after the store and before the barrier.
#pragma once

#include "barrier.cuh"

#ifdef __CUDACC__

// 128 bytes that only the hardware understands; at the head of a kernel's parameters.
struct alignas(64) TensorMap {
    unsigned char opaque[128];
};

#else

using emulator::TensorMap;

#endif

// Shows this thread's stores to shared memory to copies and products that start later.
__device__ __forceinline__ void publish_shared() {
#ifdef __CUDACC__
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#else
    emulator::publish_shared();
#endif
}

// Fetches a map ahead of its first use.
__device__ __forceinline__ void prefetch_map(const TensorMap &map) {
#ifdef __CUDACC__
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#else
    emulator::check_map(map);
#endif
}

// Starts to copy `bytes` bytes, a multiple of 16, to shared memory; `barrier` counts them. Both addresses are multiples
// of 16.
__device__ __forceinline__ void load_bytes(void *to, const void *from, unsigned bytes, CopyBarrier *barrier) {
#ifdef __CUDACC__
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                     shared_address(to)),
                 "l"(from), "r"(bytes), "r"(shared_address(barrier)) : "memory");
#else
    emulator::load_bytes(to, from, bytes, barrier);
#endif
}

#ifdef __CUDACC__
#define OSP_LOAD_BOX(rank, places, cluster, ...)                                                                       \
    asm volatile("cp.async.bulk.tensor." rank "d.shared::cluster.global.tile.mbarrier::complete_tx::bytes" cluster      \
                 " [%0], [%1, {" places "}], [%2]" __VA_ARGS__ : "memory")
#define OSP_STORE_BOX(rank, places, ...)                                                                               \
    asm volatile("cp.async.bulk.tensor." rank "d.global.shared::cta.tile.bulk_group [%0, {" places "}], [%1];" ::"l"(   \
                     &map),                                                                                            \
                 "r"(place), __VA_ARGS__ : "memory")
#endif

// Starts to copy the box at `at` (one coordinate a dimension, the innermost first) to `to`, which is aligned to 128
// bytes, or with a swizzle to 8 rows of it. `barrier` counts all bytes of the box.
template <int RANK>
__device__ __forceinline__ void load_box(void *to, const TensorMap &map, const int (&at)[RANK], CopyBarrier *barrier) {
    static_assert(RANK >= 2 && RANK <= 5);
#ifdef __CUDACC__
    const std::uint32_t place = shared_address(to), bar = shared_address(barrier);
    if constexpr (RANK == 2) {
        OSP_LOAD_BOX("2", "%3, %4", "", ";" ::"r"(place), "l"(&map), "r"(bar), "r"(at[0]), "r"(at[1]));
    } else if constexpr (RANK == 3) {
        OSP_LOAD_BOX("3", "%3, %4, %5", "", ";" ::"r"(place), "l"(&map), "r"(bar), "r"(at[0]), "r"(at[1]), "r"(at[2]));
    } else if constexpr (RANK == 4) {
        OSP_LOAD_BOX("4", "%3, %4, %5, %6", "",
                     ";" ::"r"(place), "l"(&map), "r"(bar), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
    } else {
        OSP_LOAD_BOX("5", "%3, %4, %5, %6, %7", "",
                     ";" ::"r"(place), "l"(&map), "r"(bar), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]));
    }
#else
    emulator::load_box(to, map, at, RANK, barrier, 0);
#endif
}

// As load_box, to the same place of shared memory in each block of the cluster whose bit in `blocks` is set. In each of
// them the barrier at the place of `barrier` counts all bytes of the box.
template <int RANK>
__device__ __forceinline__ void load_box_to_blocks(void *to, const TensorMap &map, const int (&at)[RANK],
                                                   CopyBarrier *barrier, std::uint16_t blocks) {
    static_assert(RANK == 2 || RANK == 4, "what the kernels need");
#ifdef __CUDACC__
    const std::uint32_t place = shared_address(to), bar = shared_address(barrier);
    if constexpr (RANK == 2) {
        OSP_LOAD_BOX("2", "%4, %5", ".multicast::cluster", ", %3;" ::"r"(place), "l"(&map), "r"(bar), "h"(blocks),
                     "r"(at[0]), "r"(at[1]));
    } else {
        OSP_LOAD_BOX("4", "%4, %5, %6, %7", ".multicast::cluster", ", %3;" ::"r"(place), "l"(&map), "r"(bar),
                     "h"(blocks), "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
    }
#else
    emulator::load_box(to, map, at, RANK, barrier, blocks);
#endif
}

// Starts to copy a box from shared memory to the tensor.
template <int RANK>
__device__ __forceinline__ void store_box(const TensorMap &map, const int (&at)[RANK], const void *from) {
    static_assert(RANK == 2 || RANK == 4 || RANK == 5, "what the kernels need");
#ifdef __CUDACC__
    const std::uint32_t place = shared_address(from);
    if constexpr (RANK == 2) {
        OSP_STORE_BOX("2", "%2, %3", "r"(at[0]), "r"(at[1]));
    } else if constexpr (RANK == 4) {
        OSP_STORE_BOX("4", "%2, %3, %4, %5", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]));
    } else {
        OSP_STORE_BOX("5", "%2, %3, %4, %5, %6", "r"(at[0]), "r"(at[1]), "r"(at[2]), "r"(at[3]), "r"(at[4]));
    }
#else
    emulator::store_box(map, at, RANK, from);
#endif
}

// Forms a group of this thread's stores since the last group; it may be empty.
__device__ __forceinline__ void commit_stores() {
#ifdef __CUDACC__
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#else
    emulator::commit_stores();
#endif
}

// Waits until at most the PENDING newest groups of this thread have not read their shared memory.
template <int PENDING> __device__ __forceinline__ void wait_for_reads() {
#ifdef __CUDACC__
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
#else
    emulator::wait_for_stores(PENDING, true);
#endif
}

// Waits until at most the PENDING newest groups of this thread are in flight. A kernel must not end before.
template <int PENDING> __device__ __forceinline__ void wait_for_stores() {
#ifdef __CUDACC__
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory");
#else
    emulator::wait_for_stores(PENDING, false);
#endif
}
