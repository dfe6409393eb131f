// CUDA's 16-bit number types on the host, and the conversions that kernels use.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace emulator {

struct f16 {
    std::uint16_t bits;
};

struct bf16 {
    std::uint16_t bits;
};

inline float to_float(bf16 value) { return std::bit_cast<float>(std::uint32_t(value.bits) << 16); }

inline float to_float(f16 value) {
    const int exponent = value.bits >> 10 & 31, fraction = value.bits & 1023;
    const float magnitude = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                            : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                             : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
    return value.bits >> 15 ? -magnitude : magnitude;
}

// Rounds to nearest, ties to even. NaN becomes the canonical NaN, as with the device's cvt.rn.
inline bf16 to_bf16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (std::isnan(value)) {
        return {0x7FFF};
    }
    return {static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}

inline f16 to_f16(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
    const float magnitude = std::fabs(value);
    if (std::isnan(value)) {
        return {0x7FFF};
    }
    if (magnitude >= 65520.0f) {
        return {static_cast<std::uint16_t>(sign | 0x7C00)};
    }
    if (magnitude < 0x1p-14f) {
        // In units of 2^-24; rounding may carry into the smallest normal number.
        return {static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(std::nearbyint(magnitude * 0x1p24f)))};
    }
    const std::uint32_t rebiased = (bits & 0x7FFFFFFF) - (112u << 23);
    return {static_cast<std::uint16_t>(sign | (rebiased + 0xFFF + (rebiased >> 13 & 1)) >> 13)};
}

} // namespace emulator
