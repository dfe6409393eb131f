// Matrix products of a warpgroup: D += A·B with A 64×16, B 16×N and D 64×N, asynchronously. (sm_90a; PTX ISA 9.0, section
// "wgmma")
//
// A and B lie in shared memory, described by a 64-bit word; A may also come from registers. D is spread over the
// registers of the warpgroup's 128 threads: sum i of lane l in warp w is row 16·w + l/4 + 8·(i/2 % 2), column
// 8·(i/4) + 2·(l%4) + i%2. Elements of A in registers, two in each, lie as sums of 16 columns.
//
// The order of calls, by all threads of the warpgroup together:
//     open_products()            after anything else that touched D or A in registers
//     multiply_…(d, …)           any number of them
//     close_products()           forms a group
//     wait_for_products<P>(d…)   at most the P newest groups are in flight; before, D, A and shared memory stay untouched
#pragma once

#include "copy.cuh"

// How 8 rows of a matrix are mixed in shared memory; the names are a row's bytes. The values are the hardware's.
enum class Swizzle : std::uint32_t { NONE = 0, B128 = 1, B64 = 2, B32 = 3 };

// Describes a matrix in shared memory whose rows, along the M or N axis, are S bytes of 16-bit elements apart, S being the
// swizzle's bytes, and `start` a multiple of 16:
//   k innermost: element (m, k) is at start + (m/8)·stride + (m%8)·S + 2·k, for up to S/2 values of k; without a swizzle
//       at start + (m/8)·stride + (m%8)·16 + (k/8)·lead + 2·(k%8).
//   m innermost: element (m, k) is at start + (m / (S/2))·lead + 2·(m % (S/2)) + (k/8)·stride + (k%8)·S; without a swizzle
//       at start + (m/8)·stride + 2·(m%8) + (k/8)·lead + (k%8)·16.
// The swizzle then exchanges 16-byte pieces by bits 7 to 9 of the address.
__device__ __forceinline__ std::uint64_t describe_matrix(const void *start, unsigned lead, unsigned stride,
                                                         Swizzle swizzle) {
#ifdef __CUDACC__
    const std::uint32_t address = shared_address(start);
#else
    const std::uint32_t address = emulator::shared_offset(start);
#endif
    return static_cast<std::uint64_t>((address & 0x3FFFF) >> 4) | static_cast<std::uint64_t>(lead >> 4) << 16 |
           static_cast<std::uint64_t>(stride >> 4) << 32 | static_cast<std::uint64_t>(swizzle) << 62;
}

// The same matrix, `bytes` further.
__device__ __forceinline__ std::uint64_t advance(std::uint64_t matrix, unsigned bytes) { return matrix + (bytes >> 4); }

// Orders what follows behind everything that this warpgroup did with the registers of D and A.
__device__ __forceinline__ void open_products(CALL_SITE_ONLY) {
#ifdef __CUDACC__
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#else
    emulator::open_products(SAME_SITE_ONLY);
#endif
}

// Forms a group of the products since the last group.
__device__ __forceinline__ void close_products(CALL_SITE_ONLY) {
#ifdef __CUDACC__
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#else
    emulator::close_products(SAME_SITE_ONLY);
#endif
}

// Waits until at most the PENDING newest groups are in flight. `sums` are the results of earlier groups: the compiler
// must not read them before. Others stay unreadable until a wait names them.
template <int PENDING, int... COUNTS>
__device__ __forceinline__ void wait_for_products(float (&...sums)[COUNTS]) {
#ifdef __CUDACC__
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
    const auto changed = [](float *values, int count) {
#pragma unroll
        for (int i = 0; i < count; i++) {
            asm volatile("" : "+f"(values[i])::"memory");
        }
    };
    (changed(sums, COUNTS), ...);
#else
    emulator::wait_for_products(PENDING, {sums...});
#endif
}

#ifdef __CUDACC__

#define OSP_TEXT_4 "%0, %1, %2, %3"
#define OSP_TEXT_32                                                                                                    \
    OSP_TEXT_4 ", %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, %23, %24, "    \
               "%25, %26, %27, %28, %29, %30, %31"
#define OSP_TEXT_64                                                                                                    \
    OSP_TEXT_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, "    \
    "%51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define OSP_TEXT_80                                                                                                    \
    OSP_TEXT_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define OSP_TEXT_128                                                                                                   \
    OSP_TEXT_64 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, "    \
    "%83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103, "    \
    "%104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, "     \
    "%122, %123, %124, %125, %126, %127"
#define OSP_TEXT_36 OSP_TEXT_32 ", %32, %33, %34, %35"
#define OSP_TEXT_96                                                                                                    \
    OSP_TEXT_36 ", %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, "   \
                "%56, %57, %58, %59, %60, %61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, " \
                "%77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define OSP_SUMS_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define OSP_SUMS_16(i) OSP_SUMS_4(i), OSP_SUMS_4(i + 4), OSP_SUMS_4(i + 8), OSP_SUMS_4(i + 12)
#define OSP_SUMS_32(i) OSP_SUMS_16(i), OSP_SUMS_16(i + 16)
#define OSP_SUMS_64(i) OSP_SUMS_32(i), OSP_SUMS_32(i + 32)
#define OSP_SUMS_128(i) OSP_SUMS_64(i), OSP_SUMS_64(i + 64)
#define OSP_SUMS_80(i) OSP_SUMS_64(i), OSP_SUMS_16(i + 64)
#define OSP_SUMS_36(i) OSP_SUMS_32(i), OSP_SUMS_4(i + 32)
#define OSP_SUMS_96(i) OSP_SUMS_64(i), OSP_SUMS_32(i + 64)

// One product. `text` and the last arguments are the sums. The operands behind them: a, b, whether to add, whether m or n
// is innermost in a and in b.
#define OSP_WGMMA(n, type, text, a_at, b_at, add_at, a_order_at, b_order_at, ...)                                      \
    asm volatile("{.reg .pred add;\n"                                                                                  \
                 "setp.ne.u32 add, " add_at ", 0;\n"                                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" text "}, " a_at ", " b_at          \
                 ", add, 1, 1, " a_order_at ", " b_order_at ";}"                                                       \
                 : __VA_ARGS__                                                                                         \
                 : "l"(a), "l"(b), "r"(static_cast<std::uint32_t>(add)), "n"(A_BY_ROWS), "n"(B_BY_ROWS))
#define OSP_WGMMA_LEFT(n, type, text, a_at, b_at, add_at, b_order_at, ...)                                              \
    asm volatile("{.reg .pred add;\n"                                                                                  \
                 "setp.ne.u32 add, " add_at ", 0;\n"                                                                   \
                 "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." type "." type " {" text "}, {" a_at "}, " b_at        \
                 ", add, 1, 1, " b_order_at ";}"                                                                       \
                 : __VA_ARGS__                                                                                         \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<std::uint32_t>(add)),           \
                   "n"(B_BY_ROWS))
#define OSP_WGMMA_LEFT_OF(T, n, ...)                                                                                   \
    if constexpr (std::is_same_v<T, f16>) {                                                                            \
        OSP_WGMMA_LEFT(n, "f16", __VA_ARGS__);                                                                         \
    } else {                                                                                                           \
        OSP_WGMMA_LEFT(n, "bf16", __VA_ARGS__);                                                                        \
    }
#define OSP_WGMMA_OF(T, n, ...)                                                                                        \
    if constexpr (std::is_same_v<T, f16>) {                                                                            \
        OSP_WGMMA(n, "f16", __VA_ARGS__);                                                                              \
    } else {                                                                                                           \
        OSP_WGMMA(n, "bf16", __VA_ARGS__);                                                                             \
    }

#endif

// d = a·b, plus d if `add`. A_BY_ROWS, B_BY_ROWS: 0 if k is innermost in shared memory, 1 if m or n is.
template <typename T, int N, int A_BY_ROWS = 0, int B_BY_ROWS = 0>
__device__ __forceinline__ void multiply_shared(float (&d)[N / 2], std::uint64_t a, std::uint64_t b, bool add CALL_SITE) {
    static_assert(N == 8 || N == 64 || N == 72 || N == 128 || N == 192 || N == 256, "what the kernels need");
#ifdef __CUDACC__
    if constexpr (N == 8) {
        OSP_WGMMA_OF(T, "8", OSP_TEXT_4, "%4", "%5", "%6", "%7", "%8", OSP_SUMS_4(0))
    } else if constexpr (N == 64) {
        OSP_WGMMA_OF(T, "64", OSP_TEXT_32, "%32", "%33", "%34", "%35", "%36", OSP_SUMS_32(0))
    } else if constexpr (N == 72) {
        OSP_WGMMA_OF(T, "72", OSP_TEXT_36, "%36", "%37", "%38", "%39", "%40", OSP_SUMS_36(0))
    } else if constexpr (N == 128) {
        OSP_WGMMA_OF(T, "128", OSP_TEXT_64, "%64", "%65", "%66", "%67", "%68", OSP_SUMS_64(0))
    } else if constexpr (N == 256) {
        OSP_WGMMA_OF(T, "256", OSP_TEXT_128, "%128", "%129", "%130", "%131", "%132", OSP_SUMS_128(0))
    } else {
        OSP_WGMMA_OF(T, "192", OSP_TEXT_96, "%96", "%97", "%98", "%99", "%100", OSP_SUMS_96(0))
    }
#else
    emulator::multiply_shared(d, N, a, b, {std::is_same_v<T, f16>, A_BY_ROWS != 0, B_BY_ROWS != 0, add} SAME_SITE);
#endif
}

// As multiply_shared, with A in registers.
template <typename T, int N, int B_BY_ROWS = 0>
__device__ __forceinline__ void multiply_left(float (&d)[N / 2], const std::uint32_t (&a)[4], std::uint64_t b,
                                              bool add CALL_SITE) {
    static_assert(N == 8 || N == 64 || N == 128 || N == 160, "what the kernels need");
#ifdef __CUDACC__
    if constexpr (N == 8) {
        OSP_WGMMA_LEFT_OF(T, "8", OSP_TEXT_4, "%4, %5, %6, %7", "%8", "%9", "%10", OSP_SUMS_4(0))
    } else if constexpr (N == 64) {
        OSP_WGMMA_LEFT_OF(T, "64", OSP_TEXT_32, "%32, %33, %34, %35", "%36", "%37", "%38", OSP_SUMS_32(0))
    } else if constexpr (N == 128) {
        OSP_WGMMA_LEFT_OF(T, "128", OSP_TEXT_64, "%64, %65, %66, %67", "%68", "%69", "%70", OSP_SUMS_64(0))
    } else {
        OSP_WGMMA_LEFT_OF(T, "160", OSP_TEXT_80, "%80, %81, %82, %83", "%84", "%85", "%86", OSP_SUMS_80(0))
    }
#else
    emulator::multiply_left(d, N, a, b, {std::is_same_v<T, f16>, false, B_BY_ROWS != 0, add} SAME_SITE);
#endif
}
