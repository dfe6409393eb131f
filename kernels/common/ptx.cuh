// All inline PTX; each instruction is beside the emulator's replacement. (PTX ISA 9.0.)
#pragma once

#include "vec.cuh"

#ifdef __CUDACC__

// The 32-bit address for instructions on shared memory.
__device__ __forceinline__ std::uint32_t shared_address(const void *pointer) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

#endif

// Keeps `value` in a register: the compiler cannot compute it again where it is used.
__device__ __forceinline__ void keep_in_register(int &value) {
#ifdef __CUDACC__
    asm volatile("" : "+r"(value));
#else
    static_cast<void>(value);
#endif
}

// Starts to copy the first `bytes` of 16 bytes from global to shared memory; the rest become zeros. With 0 bytes
// nothing is read, but `from` must still be an address in global memory. (sm_80)
__device__ __forceinline__ void cp_async_16(void *to, const void *from, unsigned bytes = 16) {
#ifdef __CUDACC__
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(bytes)
                 : "memory");
#else
    emulator::cp_async(to, from, 16, bytes);
#endif
}

// As cp_async_16, for 4 or 8 bytes.
template <int SIZE> __device__ __forceinline__ void cp_async_small(void *to, const void *from, unsigned bytes = SIZE) {
    static_assert(SIZE == 4 || SIZE == 8, "for sixteen bytes use cp_async_16, which bypasses the first-level cache");
#ifdef __CUDACC__
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(SIZE), "r"(bytes)
                 : "memory");
#else
    emulator::cp_async(to, from, SIZE, bytes);
#endif
}

// Forms a group of the thread's copies since the last group; it may be empty.
__device__ __forceinline__ void cp_async_commit() {
#ifdef __CUDACC__
    asm volatile("cp.async.commit_group;" ::: "memory");
#else
    emulator::cp_async_commit();
#endif
}

// Waits until at most the PENDING newest groups of this thread are in flight. Other threads see the data after a
// barrier.
template <int PENDING> __device__ __forceinline__ void cp_async_wait() {
#ifdef __CUDACC__
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
#else
    emulator::cp_async_wait(PENDING);
#endif
}

// Loads four 8×8 matrices of 16-bit elements from shared memory. Row i of matrix j is the 16 bytes at the address of
// lane 8j + i; register j of lane l gets elements 2·(l%4) and 2·(l%4) + 1 of row l/4. (sm_80)
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&registers)[4], const void *row CALL_SITE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row)) : "memory");
#else
    emulator::matrices(emulator::WarpOp::LoadMatrix, registers, row, 4 SAME_SITE);
#endif
}

// As ldmatrix_x4, with each matrix transposed: register j of lane l gets rows 2·(l%4) and 2·(l%4) + 1 of column l/4.
__device__ __forceinline__ void ldmatrix_x4_trans(std::uint32_t (&registers)[4], const void *row CALL_SITE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(registers[0]), "=r"(registers[1]), "=r"(registers[2]), "=r"(registers[3])
                 : "r"(shared_address(row)) : "memory");
#else
    emulator::matrices(emulator::WarpOp::LoadMatrix, registers, row, 4 | 8 SAME_SITE);
#endif
}

// Loads two matrices, at the addresses of lanes 0 to 15.
__device__ __forceinline__ void ldmatrix_x2(std::uint32_t (&registers)[2], const void *row CALL_SITE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row)) : "memory");
#else
    emulator::matrices(emulator::WarpOp::LoadMatrix, registers, row, 2 SAME_SITE);
#endif
}

// Loads two matrices, transposed.
__device__ __forceinline__ void ldmatrix_x2_trans(std::uint32_t (&registers)[2], const void *row CALL_SITE) {
#ifdef __CUDACC__
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(registers[0]), "=r"(registers[1])
                 : "r"(shared_address(row)) : "memory");
#else
    emulator::matrices(emulator::WarpOp::LoadMatrix, registers, row, 2 | 8 SAME_SITE);
#endif
}

#ifdef __CUDACC__
#define OSP_MMA_K16(type)                                                                                              \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, " \
                 "{%0,%1,%2,%3};"                                                                                      \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]))
#define OSP_MMA_K8(type)                                                                                               \
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, "           \
                 "{%0,%1,%2,%3};"                                                                                      \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                      \
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]))
#endif

// c += a·b for a 16×8 tile over 16 steps of k: c[i] of lane l is row l/4 + 8·(i/2), column 2·(l%4) + i%2. `a` is the
// result of ldmatrix_x4 for rows [m][k], `b` is half of its result for rows [n][k]. (sm_80)
template <typename T>
__device__ __forceinline__ void mma_k16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2] CALL_SITE) {
#ifdef __CUDACC__
    if constexpr (std::is_same_v<T, f16>) {
        OSP_MMA_K16("f16");
    } else {
        OSP_MMA_K16("bf16");
    }
#else
    emulator::mma(c, a, b, std::is_same_v<T, f16> ? emulator::MMA_F16_K16 : emulator::MMA_BF16_K16 SAME_SITE);
#endif
}

// As mma_k16, over 8 steps of k. (sm_80)
template <typename T>
__device__ __forceinline__ void mma_k8(float (&c)[4], const std::uint32_t (&a)[2], const std::uint32_t (&b)[1] CALL_SITE) {
#ifdef __CUDACC__
    if constexpr (std::is_same_v<T, f16>) {
        OSP_MMA_K8("f16");
    } else {
        OSP_MMA_K8("bf16");
    }
#else
    emulator::mma(c, a, b, std::is_same_v<T, f16> ? emulator::MMA_F16_K8 : emulator::MMA_BF16_K8 SAME_SITE);
#endif
}

constexpr float LOG2_E = 1.4426950408889634f;

// 2^x to about two units in the last place; subnormal results become 0.
__device__ __forceinline__ float exp2_approx(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : y;
#endif
}

// 1/x to about one unit in the last place; subnormal arguments count as 0, subnormal results become 0.
__device__ __forceinline__ float reciprocal_approx(float x) {
#ifdef __CUDACC__
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    const float y = 1.0f / (std::fabs(x) < 0x1p-126f ? std::copysign(0.0f, x) : x);
    return std::fabs(y) < 0x1p-126f ? std::copysign(0.0f, y) : y;
#endif
}

// Waits for THREADS threads, in whole warps, at one of two named barriers: barrier 1 if the warp is `first`, else
// barrier 2. The ids are literals: for an id in a register the compiler reserves all sixteen barriers, and a
// multiprocessor has only 16 to 64 for all its blocks.
template <unsigned THREADS> __device__ __forceinline__ void barrier_of_two(bool first) {
    static_assert(THREADS % WARP_SIZE == 0);
#ifdef __CUDACC__
    asm volatile("{.reg .pred first;\n"
                 "setp.ne.u32 first, %0, 0;\n"
                 "@first bar.sync 1, %1;\n"
                 "@!first bar.sync 2, %1;}" ::"r"(static_cast<unsigned>(first)), "n"(THREADS) : "memory");
#else
    emulator::Block::current().barrier(first ? 1 : 2, THREADS, true);
#endif
}

// Waits for THREADS threads, in whole warps, at named barrier ID, 1 to 15.
template <unsigned ID, unsigned THREADS> __device__ __forceinline__ void named_barrier() {
    static_assert(ID >= 1 && ID < 16 && THREADS % WARP_SIZE == 0);
#ifdef __CUDACC__
    asm volatile("bar.sync %0, %1;" ::"n"(ID), "n"(THREADS) : "memory");
#else
    emulator::Block::current().barrier(ID, THREADS, true);
#endif
}
