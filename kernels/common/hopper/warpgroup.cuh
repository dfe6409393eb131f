// Roles in a block and a cluster: one thread of a warp, registers of a warpgroup, blocks of a cluster; and the way from
// fragments to shared memory. (sm_90; setmaxnreg sm_90a)
#pragma once

#include "../ptx.cuh"

constexpr unsigned WARPGROUP_SIZE = 128;

// True in one lane of a converged warp.
__device__ __forceinline__ bool is_elected(CALL_SITE_ONLY) {
#ifdef __CUDACC__
    std::uint32_t elected;
    asm volatile("{.reg .pred elected;\n"
                 "elect.sync _|elected, 0xffffffff;\n"
                 "selp.u32 %0, 1, 0, elected;}"
                 : "=r"(elected)::"memory");
    return elected != 0;
#else
    return emulator::is_elected(SAME_SITE_ONLY);
#endif
}

// This thread's warpgroup, as a value that the compiler knows to be the same in all lanes of a warp.
__device__ __forceinline__ unsigned warpgroup_index(CALL_SITE_ONLY) {
#ifdef __CUDACC__
    return __shfl_sync(ALL_LANES, threadIdx.x / WARPGROUP_SIZE, 0);
#else
    return threadIdx.x / WARPGROUP_SIZE;
#endif
}

// The warpgroup keeps REGISTERS registers a thread, fewer than it has, and leaves the others to its block. The kernel
// must be compiled for one block a multiprocessor.
template <int REGISTERS> __device__ __forceinline__ void keep_registers(CALL_SITE_ONLY) {
    static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0);
#ifdef __CUDACC__
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#else
    emulator::set_registers(REGISTERS, false SAME_SITE);
#endif
}

// The warpgroup waits until its block has left enough registers for REGISTERS a thread, and takes them.
template <int REGISTERS> __device__ __forceinline__ void take_registers(CALL_SITE_ONLY) {
    static_assert(REGISTERS >= 24 && REGISTERS <= 256 && REGISTERS % 8 == 0);
#ifdef __CUDACC__
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
#else
    emulator::set_registers(REGISTERS, true SAME_SITE);
#endif
}

// The number of this block in its cluster; blockIdx.x modulo the cluster's size.
__device__ __forceinline__ unsigned cluster_rank() {
#ifdef __CUDACC__
    std::uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
#else
    return emulator::cluster_rank();
#endif
}

// Waits for all threads of all blocks of the cluster, and shows them what each did before.
__device__ __forceinline__ void cluster_sync(CALL_SITE_ONLY) {
#ifdef __CUDACC__
    asm volatile("barrier.cluster.arrive.release.aligned;\n"
                 "barrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    emulator::cluster_sync(SAME_SITE_ONLY);
#endif
}

// Stores four 8×8 matrices of 16-bit elements to shared memory: row i of matrix j at the address of lane 8j + i.
// Register j of lane l has elements 2·(l%4) and 2·(l%4) + 1 of row l/4.
__device__ __forceinline__ void stmatrix_x4(void *row, const std::uint32_t (&registers)[4] CALL_SITE) {
#ifdef __CUDACC__
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)),
                 "r"(registers[0]), "r"(registers[1]), "r"(registers[2]), "r"(registers[3]) : "memory");
#else
    emulator::store_matrices(row, registers, 4 SAME_SITE);
#endif
}

// As stmatrix_x4, with each matrix transposed: register j of lane l has rows 2·(l%4) and 2·(l%4) + 1 of column l/4.
__device__ __forceinline__ void stmatrix_x4_trans(void *row, const std::uint32_t (&registers)[4] CALL_SITE) {
#ifdef __CUDACC__
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(shared_address(row)),
                 "r"(registers[0]), "r"(registers[1]), "r"(registers[2]), "r"(registers[3]) : "memory");
#else
    emulator::store_matrices(row, registers, 4 | 8 SAME_SITE);
#endif
}

// Stores a value that a copy or a product of the asynchronous proxy will read.
template <typename V> __device__ __forceinline__ void store_shared(V *to, const V &value) {
    static_assert(sizeof(V) <= 16);
#ifndef __CUDACC__
    emulator::note_store(to, sizeof(V));
#endif
    *to = value;
}
