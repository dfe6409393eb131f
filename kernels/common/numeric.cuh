// 16-bit storage, f32 arithmetic: conversions.
#pragma once

#include "platform.cuh"

#ifdef __CUDACC__
__device__ __forceinline__ float to_float(f16 value) { return __half2float(value); }
__device__ __forceinline__ float to_float(bf16 value) { return __bfloat162float(value); }
#else
using emulator::to_float;
#endif
__device__ __forceinline__ float to_float(float value) { return value; }

// Rounds to nearest, ties to even.
template <typename T> __device__ __forceinline__ T from_float(float value);
#ifdef __CUDACC__
template <> __device__ __forceinline__ f16 from_float<f16>(float value) { return __float2half_rn(value); }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float value) { return __float2bfloat16_rn(value); }
#else
template <> inline f16 from_float<f16>(float value) { return emulator::to_f16(value); }
template <> inline bf16 from_float<bf16>(float value) { return emulator::to_bf16(value); }
#endif
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }

// Two neighbouring values in one register, the first in the lower half.
template <typename T> __device__ __forceinline__ std::uint32_t pack2(float low, float high);
#ifdef __CUDACC__
template <> __device__ __forceinline__ std::uint32_t pack2<f16>(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return reinterpret_cast<const std::uint32_t &>(pair);
}
template <> __device__ __forceinline__ std::uint32_t pack2<bf16>(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return reinterpret_cast<const std::uint32_t &>(pair);
}
#else
template <> inline std::uint32_t pack2<f16>(float low, float high) {
    return emulator::to_f16(low).bits | std::uint32_t(emulator::to_f16(high).bits) << 16;
}
template <> inline std::uint32_t pack2<bf16>(float low, float high) {
    return emulator::to_bf16(low).bits | std::uint32_t(emulator::to_bf16(high).bits) << 16;
}
#endif

// The two values of a pack2.
template <typename T> __device__ __forceinline__ float unpack_low(std::uint32_t pair);
template <typename T> __device__ __forceinline__ float unpack_high(std::uint32_t pair);
#ifdef __CUDACC__
template <> __device__ __forceinline__ float unpack_low<f16>(std::uint32_t pair) {
    return __low2float(reinterpret_cast<const __half2 &>(pair));
}
template <> __device__ __forceinline__ float unpack_high<f16>(std::uint32_t pair) {
    return __high2float(reinterpret_cast<const __half2 &>(pair));
}
template <> __device__ __forceinline__ float unpack_low<bf16>(std::uint32_t pair) { return __uint_as_float(pair << 16); }
template <> __device__ __forceinline__ float unpack_high<bf16>(std::uint32_t pair) {
    return __uint_as_float(pair & 0xFFFF0000);
}
#else
template <typename T> float unpack_low(std::uint32_t pair) { return to_float(T{static_cast<std::uint16_t>(pair)}); }
template <typename T> float unpack_high(std::uint32_t pair) { return to_float(T{static_cast<std::uint16_t>(pair >> 16)}); }
#endif
