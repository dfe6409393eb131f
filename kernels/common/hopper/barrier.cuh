// Barriers in shared memory that count arrivals of threads and bytes of asynchronous copies. (sm_90; PTX ISA 9.0,
// section "mbarrier")
//
// A barrier goes through phases 0, 1, 2, … A phase ends when `count` threads have arrived and all bytes that were
// announced have been copied; then the next one begins. A thread waits for the end of a phase by its parity. It may only
// wait for the present phase or the one before, so nobody can be two phases ahead, and each phase's end must be seen by
// some thread before anybody arrives for the next. On a new barrier, a wait with parity 1 ends at once.
//
// A wait makes visible: what the threads that arrived did before, and the copies that this barrier counted.
#pragma once

#include "../ptx.cuh"

// Eight bytes of shared memory. Only the functions below may access them.
struct alignas(8) CopyBarrier {
    std::uint64_t state;
};

// Prepares a barrier. One thread does this, then calls publish_barriers, and then all threads that use the barrier meet
// in __syncthreads or, in a cluster, cluster_sync.
__device__ __forceinline__ void init_barrier(CopyBarrier *barrier, unsigned count) {
#ifdef __CUDACC__
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
#else
    emulator::init_barrier(barrier, count);
#endif
}

// Shows new barriers to asynchronous copies and to the other blocks of the cluster.
__device__ __forceinline__ void publish_barriers() {
#ifdef __CUDACC__
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    emulator::publish_barriers();
#endif
}

// Arrives.
__device__ __forceinline__ void arrive(CopyBarrier *barrier) {
#ifdef __CUDACC__
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#else
    emulator::arrive(barrier);
#endif
}

// Arrives at the barrier at the same place of shared memory in block `rank` of the cluster.
__device__ __forceinline__ void arrive_at_block(CopyBarrier *barrier, unsigned rank) {
#ifdef __CUDACC__
    asm volatile("{.reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];}" ::"r"(shared_address(barrier)), "r"(rank)
                 : "memory");
#else
    emulator::arrive_at_block(barrier, rank);
#endif
}

// Announces `bytes` bytes of copies for this phase, and arrives.
__device__ __forceinline__ void arrive_expecting(CopyBarrier *barrier, unsigned bytes) {
#ifdef __CUDACC__
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
#else
    emulator::arrive_expecting(barrier, bytes);
#endif
}

// Waits for the end of the phase of this parity.
__device__ __forceinline__ void wait_for_phase(CopyBarrier *barrier, unsigned parity) {
#ifdef __CUDACC__
    // An attempt ends after a time that the hardware chooses.
    std::uint32_t over;
    do {
        asm volatile("{.reg .pred over;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, over;}"
                     : "=r"(over) : "r"(shared_address(barrier)), "r"(parity) : "memory");
    } while (over == 0);
#else
    emulator::wait_for_phase(barrier, parity);
#endif
}
