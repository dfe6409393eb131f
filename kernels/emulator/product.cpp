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

// Eight neighbouring numbers of a row. The compiler's vectors take the processor's widest instructions.
using Ints = std::int32_t __attribute__((vector_size(4 * TILE_COLUMNS)));
using Floats = float __attribute__((vector_size(4 * TILE_COLUMNS)));
using Halves = std::uint16_t __attribute__((vector_size(2 * TILE_COLUMNS)));
// Half of them, as sums need more bits.
constexpr int HALF_COLUMNS = TILE_COLUMNS / 2;
using FourInts = std::int32_t __attribute__((vector_size(4 * HALF_COLUMNS)));
using FourFloats = float __attribute__((vector_size(4 * HALF_COLUMNS)));
using FourDoubles = double __attribute__((vector_size(8 * HALF_COLUMNS)));
using FourLongs = std::int64_t __attribute__((vector_size(8 * HALF_COLUMNS)));

// The format of an element: bits of the exponent and of the fraction.
struct Format {
    int exponent, fraction;

    // The exponent of zero and of subnormals.
    constexpr int smallest() const { return 2 - (1 << (exponent - 1)); }
};
constexpr Format F16{5, 10}, BF16{8, 7}, F32{8, 23};

// The exponent of an infinity and of NaN: it makes a sum leave the quick way.
constexpr int SPECIAL = 1000;

// Elements: mantissa · 2^(exponent − fraction) with an integer mantissa.
struct Terms {
    Ints mantissa, exponent;
};

// Vectors are results by reference: as values, their ABI depends on the processor.
[[gnu::always_inline]] inline void split(const Ints &bits, Format format, Terms &terms) {
    const int largest = (1 << format.exponent) - 1;
    const Ints exponent = bits >> format.fraction & largest, fraction = bits & ((1 << format.fraction) - 1);
    const Ints magnitude = exponent == 0 ? fraction : fraction | 1 << format.fraction;
    const Ints negative = -(bits >> (format.exponent + format.fraction) & 1);
    terms.mantissa = (magnitude ^ negative) - negative;
    terms.exponent = exponent == largest ? Ints{} + SPECIAL : (exponent == 0 ? exponent + 1 : exponent) - largest / 2;
}

[[gnu::always_inline]] inline void split(const float *elements, Terms &terms) {
    Ints bits;
    std::memcpy(&bits, elements, sizeof bits);
    split(bits, F32, terms);
}

// 2^exponent, for exponents of normal numbers.
[[gnu::always_inline]] inline void powers(const Ints &exponent, Floats &result) {
    const Ints bits = (exponent + 127) << F32.fraction;
    std::memcpy(&result, &bits, sizeof result);
}

// Splits neighbouring elements, and gives their values, except of infinities and NaN. f32 holds the values exactly.
[[gnu::always_inline]] inline void split(const std::uint16_t *elements, Format format, Terms &terms, Floats &values) {
    Halves halves;
    std::memcpy(&halves, elements, sizeof halves);
    const Ints bits = __builtin_convertvector(halves, Ints);
    split(bits, format, terms);
    if (format.exponent == F32.exponent) {
        const Ints wide = bits << 16;
        std::memcpy(&values, &wide, sizeof values);
        return;
    }
    powers(terms.exponent - format.fraction, values);
    values *= __builtin_convertvector(terms.mantissa, Floats);
}

[[gnu::always_inline]] inline bool any(const Ints &mask) {
    std::uint64_t words[TILE_COLUMNS / 2];
    std::memcpy(words, &mask, sizeof words);
    return (words[0] | words[1] | words[2] | words[3]) != 0;
}

// A row of A, taken apart.
template <int DEPTH> struct Row {
    float values[DEPTH];
    std::int32_t exponents[DEPTH];
    std::int32_t largest;
    bool zero;
};

// Eight columns of B, taken apart. `zeros` has all bits of a column without other elements set.
template <int DEPTH> struct Columns {
    std::uint16_t bits[DEPTH][TILE_COLUMNS];
    Floats values[DEPTH];
    Ints exponents[DEPTH];
    Ints largest, zeros;
    bool zero;
};

template <int DEPTH> [[gnu::always_inline]] inline void take_apart(const std::uint16_t *bits, Format format, Row<DEPTH> &row) {
    row.largest = -SPECIAL;
    std::uint16_t all = 0;
    for (int k = 0; k < DEPTH; k += TILE_COLUMNS) {
        Terms terms;
        Floats numbers;
        split(bits + k, format, terms, numbers);
        std::memcpy(row.values + k, &numbers, sizeof numbers);
        std::memcpy(row.exponents + k, &terms.exponent, sizeof terms.exponent);
    }
    for (int k = 0; k < DEPTH; k++) {
        row.largest = std::max(row.largest, row.exponents[k]);
        all |= bits[k];
    }
    row.zero = (all & 0x7FFF) == 0;
}

template <int DEPTH>
[[gnu::always_inline]] inline void take_apart(const std::uint16_t (*b)[TILE_DEPTH], Format format, Columns<DEPTH> &columns) {
    for (int column = 0; column < TILE_COLUMNS; column++) {
        for (int k = 0; k < DEPTH; k++) {
            columns.bits[k][column] = b[column][k];
        }
    }
    columns.largest = Ints{} - SPECIAL;
    columns.zeros = Ints{} - 1;
    for (int k = 0; k < DEPTH; k++) {
        Terms terms;
        split(columns.bits[k], format, terms, columns.values[k]);
        columns.exponents[k] = terms.exponent;
        columns.largest = columns.largest > terms.exponent ? columns.largest : terms.exponent;
        columns.zeros &= terms.mantissa == 0;
    }
    columns.zero = !any(~columns.zeros);
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

// The sum of the products and of `start`, in units of the last kept bit at the exponents `largest`, truncated to f32. Only
// for exponents so small in magnitude that the results are normal.
[[gnu::always_inline]] inline void round_sums(const Ints &products, const Ints &start, const Ints &largest, float *c) {
    for (int at = 0; at < TILE_COLUMNS; at += HALF_COLUMNS) {
        FourInts some, more, exponent;
        std::memcpy(&some, reinterpret_cast<const std::int32_t *>(&products) + at, sizeof some);
        std::memcpy(&more, reinterpret_cast<const std::int32_t *>(&start) + at, sizeof more);
        std::memcpy(&exponent, reinterpret_cast<const std::int32_t *>(&largest) + at, sizeof exponent);
        // A double holds the sum exactly; 24 of its 53 significant bits are kept.
        const FourDoubles sum = __builtin_convertvector(some, FourDoubles) + __builtin_convertvector(more, FourDoubles);
        const FourLongs kept = reinterpret_cast<FourLongs>(sum) & ~((std::int64_t(1) << 29) - 1);
        const FourLongs unit = (__builtin_convertvector(exponent, FourLongs) + (1023 - KEPT_BITS)) << 52;
        const FourDoubles result = reinterpret_cast<FourDoubles>(kept) * reinterpret_cast<FourDoubles>(unit);
        const FourFloats rounded = __builtin_convertvector(result, FourFloats);
        std::memcpy(c + at, &rounded, sizeof rounded);
    }
}

// One element of a product with infinities or NaN.
template <typename T, int DEPTH> float special(const std::uint16_t *a, const Columns<DEPTH> &b, int column, float c) {
    double real = c;
    for (int k = 0; k < DEPTH; k++) {
        real += static_cast<double>(to_float(T{a[k]})) * to_float(T{b.bits[k][column]});
    }
    return std::isnan(real) ? std::bit_cast<float>(0x7FFFFFFFu) : static_cast<float>(real);
}

// Eight sums of a row, for all numbers.
template <typename T, int DEPTH>
[[gnu::noinline]] void add_any(const std::uint16_t *a, const Columns<DEPTH> &b, Format format, float *c) {
    Terms left[DEPTH / TILE_COLUMNS], right[DEPTH], before;
    Floats unused;
    split(c, before);
    Ints largest = before.exponent;
    for (int k = 0; k < DEPTH; k++) {
        Terms &some = left[k / TILE_COLUMNS];
        if (k % TILE_COLUMNS == 0) {
            split(a + k, format, some, unused);
        }
        split(b.bits[k], format, right[k], unused);
        const Ints exponent = right[k].exponent + some.exponent[k % TILE_COLUMNS];
        largest = largest > exponent ? largest : exponent;
    }
    // A sum of 16 products fits into 31 bits: each is less than 2^27.
    Ints sum{}, start{};
    for (int k = 0; k < DEPTH; k++) {
        const Terms &some = left[k / TILE_COLUMNS];
        const Ints below_largest = largest - right[k].exponent - some.exponent[k % TILE_COLUMNS];
        add_aligned(sum, right[k].mantissa * some.mantissa[k % TILE_COLUMNS], 2 * format.fraction, below_largest);
    }
    add_aligned(start, before.mantissa, F32.fraction, largest - before.exponent);
    for (int column = 0; column < TILE_COLUMNS; column++) {
        const std::int64_t total = std::int64_t(start[column]) + sum[column];
        // A special element makes the exponent larger than any sum of two others.
        c[column] = largest[column] > SPECIAL / 2 ? special<T, DEPTH>(a, b, column, c[column])
                                                  : truncated(total, largest[column] - KEPT_BITS);
    }
}

// Eight sums of a row. Returns false, and leaves them, if one of them needs add_any.
template <int DEPTH>
[[gnu::always_inline]] inline bool add_quickly(const Row<DEPTH> &a, const Columns<DEPTH> &b, Format format, float *c) {
    // Sums whose largest exponent is between −QUICK and QUICK are normal or zero; their products do not overflow, and
    // those that f32 cannot hold exactly are below the last kept bit.
    constexpr int QUICK = 100;
    Terms before;
    split(c, before);
    Floats start;
    std::memcpy(&start, c, sizeof start);
    Ints largest = before.exponent;
    if (a.zero || b.zero) {
        // The products are zeros, but their exponents count.
        const Ints exponent = a.zero ? b.largest + format.smallest() : Ints{} + (a.largest + format.smallest());
        largest = largest > exponent ? largest : exponent;
        if (any((largest > QUICK) | ((largest - before.exponent > KEPT_BITS - F32.fraction) & (start != 0.0f)))) {
            return false;
        }
        start += 0.0f;
        std::memcpy(c, &start, sizeof start);
        return true;
    }
#pragma GCC unroll 16
    for (int k = 0; k < DEPTH; k++) {
        const Ints exponent = b.exponents[k] + a.exponents[k];
        largest = largest > exponent ? largest : exponent;
    }
    const Ints nothing = b.zeros & (start == 0.0f);
    if (any((largest > QUICK) | ((largest < -QUICK) & ~nothing))) {
        return false;
    }
    largest = largest > -QUICK ? largest : Ints{} - QUICK;
    Floats unit;
    powers(KEPT_BITS - largest, unit);
    // A conversion to an integer truncates. A sum of 16 products fits into 31 bits: each is less than 2^27.
    Ints sum{};
#pragma GCC unroll 16
    for (int k = 0; k < DEPTH; k++) {
        sum += __builtin_convertvector(b.values[k] * a.values[k] * unit, Ints);
    }
    round_sums(sum, __builtin_convertvector(start * unit, Ints), largest, c);
    return true;
}

template <typename T, int DEPTH>
[[gnu::always_inline]] inline void multiply_rows(Format format, unsigned rows, unsigned columns,
                                                 const std::uint16_t (*a)[TILE_DEPTH], const std::uint16_t (*b)[TILE_DEPTH],
                                                 float *c) {
    // As many rows as a warpgroup multiplies at once.
    constexpr unsigned SLAB = 64;
    for (unsigned first = 0; first < rows; first += SLAB) {
        Row<DEPTH> slab[SLAB];
        const unsigned count = std::min(SLAB, rows - first);
        for (unsigned row = 0; row < count; row++) {
            take_apart(a[first + row], format, slab[row]);
        }
        for (unsigned column = 0; column < columns; column += TILE_COLUMNS) {
            Columns<DEPTH> some;
            take_apart(b + column, format, some);
            for (unsigned row = 0; row < count; row++) {
                float *sums = c + std::size_t(first + row) * columns + column;
                if (!add_quickly(slab[row], some, format, sums)) {
                    add_any<T>(a[first + row], some, format, sums);
                }
            }
        }
    }
}

using Multiply = bool(unsigned variant, unsigned rows, unsigned columns, const std::uint16_t (*a)[TILE_DEPTH],
                      const std::uint16_t (*b)[TILE_DEPTH], float *c);

[[gnu::always_inline]] inline bool multiply_any(unsigned variant, unsigned rows, unsigned columns,
                                                const std::uint16_t (*a)[TILE_DEPTH], const std::uint16_t (*b)[TILE_DEPTH],
                                                float *c) {
    switch (variant) {
    case MMA_F16_K16: multiply_rows<f16, 16>(F16, rows, columns, a, b, c); return true;
    case MMA_BF16_K16: multiply_rows<bf16, 16>(BF16, rows, columns, a, b, c); return true;
    case MMA_F16_K8: multiply_rows<f16, 8>(F16, rows, columns, a, b, c); return true;
    case MMA_BF16_K8: multiply_rows<bf16, 8>(BF16, rows, columns, a, b, c); return true;
    default: return false;
    }
}

bool multiply_plain(unsigned variant, unsigned rows, unsigned columns, const std::uint16_t (*a)[TILE_DEPTH],
                    const std::uint16_t (*b)[TILE_DEPTH], float *c) {
    return multiply_any(variant, rows, columns, a, b, c);
}

#ifdef __x86_64__
// Eight numbers fill a register.
[[gnu::target("avx2")]] bool multiply_avx2(unsigned variant, unsigned rows, unsigned columns,
                                           const std::uint16_t (*a)[TILE_DEPTH], const std::uint16_t (*b)[TILE_DEPTH],
                                           float *c) {
    return multiply_any(variant, rows, columns, a, b, c);
}
#endif

Multiply *fastest() {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) {
        return multiply_avx2;
    }
#endif
    return multiply_plain;
}

} // namespace

bool multiply(unsigned variant, unsigned rows, unsigned columns, const std::uint16_t (*a)[TILE_DEPTH],
              const std::uint16_t (*b)[TILE_DEPTH], float *c) {
    static Multiply *const chosen = fastest();
    return columns % TILE_COLUMNS == 0 && chosen(variant, rows, columns, a, b, c);
}

} // namespace emulator

// A product of whole matrices for one chunk of 16 steps of k, for the PTX machine (src/cuda/device/ptx) and tests: as
// `multiply`, with rows a multiple of 16.
extern "C" bool osp_emulator_product(unsigned f16, unsigned rows, unsigned columns, const std::uint16_t *a,
                                     const std::uint16_t *b, float *c) {
    using Depth = const std::uint16_t (*)[emulator::TILE_DEPTH];
    const unsigned variant = f16 != 0 ? emulator::MMA_F16_K16 : emulator::MMA_BF16_K16;
    return rows % emulator::TILE_ROWS == 0 &&
           emulator::multiply(variant, rows, columns, reinterpret_cast<Depth>(a), reinterpret_cast<Depth>(b), c);
}
