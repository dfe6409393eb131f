// The arithmetic of a product follows the model of Hopper's tensor cores in MMA-Sim (arXiv 2511.10909): products are
// exact, all terms of a chunk of k are aligned to the largest exponent, truncated, added exactly, and truncated again.

#include "product.h"

#include "numbers.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace emulator {

namespace {

// Fraction bits that an aligned term keeps.
constexpr int KEPT_BITS = 25;

// The numbers of a row of the tile. The compiler's vectors take the processor's widest instructions.
using Ints = std::int32_t __attribute__((vector_size(4 * TILE_COLUMNS)));
using Halves = std::uint16_t __attribute__((vector_size(2 * TILE_COLUMNS)));

// The format of an element: bits of the exponent and of the fraction.
struct Format {
    int exponent, fraction;
};
constexpr Format F16{5, 10}, BF16{8, 7}, F32{8, 23};

// mantissa · 2^exponent, an integer mantissa; for zero and subnormals the smallest exponent of the format.
struct Terms {
    Ints mantissa, exponent;
    // All bits of an infinity's or a NaN's element are set.
    Ints special;
};

// Vectors are results by reference: as values, their ABI depends on the processor.
[[gnu::always_inline]] inline void split(const Ints &bits, Format format, Terms &terms) {
    const int largest = (1 << format.exponent) - 1;
    const Ints exponent = bits >> format.fraction & largest, fraction = bits & ((1 << format.fraction) - 1);
    const Ints magnitude = exponent == 0 ? fraction : fraction | 1 << format.fraction;
    const Ints negative = -(bits >> (format.exponent + format.fraction) & 1);
    terms.mantissa = (magnitude ^ negative) - negative;
    terms.exponent = (exponent == 0 ? exponent + 1 : exponent) - largest / 2;
    terms.special = exponent == largest;
}

// Splits elements of a row.
[[gnu::always_inline]] inline void split(const std::uint16_t *elements, Format format, Terms &terms) {
    Halves halves;
    std::memcpy(&halves, elements, sizeof halves);
    split(__builtin_convertvector(halves, Ints), format, terms);
}

[[gnu::always_inline]] inline void split(const float *elements, Terms &terms) {
    Ints bits;
    std::memcpy(&bits, elements, sizeof bits);
    split(bits, F32, terms);
}

// Adds mantissas with `bits` fraction bits, in units of the last kept bit at the largest exponent.
[[gnu::always_inline]] inline void add_aligned(Ints &sum, const Ints &mantissa, int bits, const Ints &below_largest) {
    const Ints negative = mantissa >> 31, magnitude = (mantissa ^ negative) - negative;
    const Ints kept = magnitude << (KEPT_BITS - bits) >> (below_largest < 31 ? below_largest : Ints{} + 31);
    sum += (kept ^ negative) - negative;
}

// value · 2^exponent as f32, truncated toward zero; infinite beyond the range of f32.
float truncated(std::int64_t value, int exponent) {
    auto magnitude = static_cast<std::uint64_t>(std::abs(value));
    const int width = 64 - std::countl_zero(magnitude);
    // The exponent of the result's lowest bit: it has 24 significant bits, or fewer if it is subnormal.
    const int lowest = std::max(exponent + width - 24, -149), right = lowest - exponent;
    magnitude = right <= 0 ? magnitude << -right : right > 63 ? 0 : magnitude >> right;
    if (magnitude < 1u << 23) {
        // Zero or subnormal: in units of 2^-149.
    } else if (lowest + 150 >= 255) {
        magnitude = 0x7F800000;
    } else {
        magnitude = static_cast<std::uint64_t>(lowest + 150) << 23 | (magnitude & 0x7FFFFF);
    }
    const std::uint32_t sign = value < 0 && magnitude != 0 ? 0x80000000u : 0;
    return std::bit_cast<float>(static_cast<std::uint32_t>(magnitude) | sign);
}

// As `truncated`, but quick for sums that are neither tiny nor huge: a double holds them exactly.
[[gnu::always_inline]] inline float truncated_quickly(std::int64_t value, int exponent) {
    // Keeps 24 of a double's 53 significant bits.
    const auto kept = std::bit_cast<std::uint64_t>(static_cast<double>(value)) & ~((std::uint64_t(1) << 29) - 1);
    const double unit = std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
    const double sum = std::bit_cast<double>(kept) * unit, magnitude = std::fabs(sum);
    const bool normal = (magnitude >= 0x1p-126 && magnitude < 0x1p128) || value == 0;
    return normal ? static_cast<float>(sum) : truncated(value, exponent);
}

// One element of a product with infinities or NaN.
template <typename T, int DEPTH> float special(const Tile &tile, int row, int column) {
    double real = tile.c[row][column];
    for (int k = 0; k < DEPTH; k++) {
        real += static_cast<double>(to_float(T{tile.a[row][k]})) * to_float(T{tile.b[k][column]});
    }
    return std::isnan(real) ? std::bit_cast<float>(0x7FFFFFFFu) : static_cast<float>(real);
}

template <typename T, int DEPTH> [[gnu::always_inline]] inline void multiply_rows(Tile &tile, Format format) {
    Terms b[DEPTH];
    Ints special_columns{};
#pragma GCC unroll 16
    for (int k = 0; k < DEPTH; k++) {
        split(tile.b[k], format, b[k]);
        special_columns |= b[k].special;
    }
    for (int row = 0; row < TILE_ROWS; row++) {
        Terms a[DEPTH / TILE_COLUMNS], c;
        split(tile.c[row], c);
        Ints largest = c.exponent, special_elements = special_columns | c.special;
#pragma GCC unroll 16
        for (int k = 0; k < DEPTH; k++) {
            Terms &some = a[k / TILE_COLUMNS];
            if (k % TILE_COLUMNS == 0) {
                split(tile.a[row] + k, format, some);
            }
            special_elements |= some.special[k % TILE_COLUMNS];
            const Ints exponent = b[k].exponent + some.exponent[k % TILE_COLUMNS];
            largest = largest > exponent ? largest : exponent;
        }
        // A sum of 16 products fits into 31 bits: each is less than 2^27.
        Ints sum{}, start{};
#pragma GCC unroll 16
        for (int k = 0; k < DEPTH; k++) {
            const Terms &some = a[k / TILE_COLUMNS];
            const Ints below_largest = largest - b[k].exponent - some.exponent[k % TILE_COLUMNS];
            add_aligned(sum, b[k].mantissa * some.mantissa[k % TILE_COLUMNS], 2 * format.fraction, below_largest);
        }
        add_aligned(start, c.mantissa, F32.fraction, largest - c.exponent);
        for (int column = 0; column < TILE_COLUMNS; column++) {
            const std::int64_t total = std::int64_t(start[column]) + sum[column];
            tile.c[row][column] = special_elements[column] != 0 ? special<T, DEPTH>(tile, row, column)
                                                                : truncated_quickly(total, largest[column] - KEPT_BITS);
        }
    }
}

[[gnu::always_inline]] inline bool multiply_any(Tile &tile, unsigned variant) {
    switch (variant) {
    case MMA_F16_K16: multiply_rows<f16, 16>(tile, F16); return true;
    case MMA_BF16_K16: multiply_rows<bf16, 16>(tile, BF16); return true;
    case MMA_F16_K8: multiply_rows<f16, 8>(tile, F16); return true;
    case MMA_BF16_K8: multiply_rows<bf16, 8>(tile, BF16); return true;
    default: return false;
    }
}

bool multiply_plain(Tile &tile, unsigned variant) { return multiply_any(tile, variant); }

#ifdef __x86_64__
// Shifts each element of a vector by its own count, which takes one instruction.
[[gnu::target("avx2")]] bool multiply_avx2(Tile &tile, unsigned variant) { return multiply_any(tile, variant); }
#endif

} // namespace

bool multiply(Tile &tile, unsigned variant) {
#ifdef __x86_64__
    static const bool avx2 = __builtin_cpu_supports("avx2");
    if (avx2) {
        return multiply_avx2(tile, variant);
    }
#endif
    return multiply_plain(tile, variant);
}

} // namespace emulator
