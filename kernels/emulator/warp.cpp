// Operations that the lanes of a warp do together: shuffles, votes, matrix loads and stores, and matrix products.
//
// The PTX ISA defines the fragment layouts: sections "Matrix Fragments for mma.m16n8k16 / m16n8k8" and "ldmatrix".
// The arithmetic of a product follows the model of Hopper's tensor cores in MMA-Sim (arXiv 2511.10909): products are
// exact, all terms of a chunk of k are aligned to the largest exponent, truncated, added exactly, and truncated again.

#include "block.h"
#include "numbers.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace emulator {

namespace {

// Fraction bits that an aligned term keeps.
constexpr int FRACTION_BITS = 25;

// mantissa · 2^exponent, an integer mantissa; for zero and subnormals the smallest exponent of the type.
struct Term {
    std::int32_t mantissa;
    std::int32_t exponent;
    bool finite;
};

// The term of a number with EXPONENT_BITS bits of exponent, in a type of BITS bits.
template <int EXPONENT_BITS, int BITS> Term split(std::uint32_t bits) {
    constexpr int LARGEST = (1 << EXPONENT_BITS) - 1, BIAS = LARGEST / 2;
    const int exponent = bits >> BITS & LARGEST;
    const std::int32_t fraction = bits & ((1 << BITS) - 1);
    const std::int32_t mantissa = exponent == 0 ? fraction : fraction | 1 << BITS;
    const bool negative = (bits >> (EXPONENT_BITS + BITS) & 1) != 0;
    return {negative ? -mantissa : mantissa, (exponent == 0 ? 1 : exponent) - BIAS, exponent != LARGEST};
}

Term split(f16 value) { return split<5, 10>(value.bits); }
Term split(bf16 value) { return split<8, 7>(value.bits); }
Term split(float value) { return split<8, 23>(std::bit_cast<std::uint32_t>(value)); }

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

// The elements of one operand along k, split once for all products that use them.
template <typename T, int K> struct Line {
    T values[K];
    std::int32_t mantissas[K], exponents[K];
    bool finite = true;

    void take_apart() {
        for (int k = 0; k < K; k++) {
            const Term term = split(values[k]);
            mantissas[k] = term.mantissa;
            exponents[k] = term.exponent;
            finite &= term.finite;
        }
    }
};

// A mantissa with BITS fraction bits, in units of the last kept bit at the largest exponent. Its magnitude fits into 32
// bits.
template <int BITS> std::int64_t aligned(std::int32_t mantissa, int below_largest) {
    const std::uint32_t magnitude = static_cast<std::uint32_t>(std::abs(mantissa)) << (FRACTION_BITS - BITS);
    const auto kept = static_cast<std::int32_t>(magnitude >> std::min(below_largest, 31));
    return mantissa < 0 ? -kept : kept;
}

// One element: c plus the products of a chunk of k.
template <typename T, int K> float dot(const Line<T, K> &a, const Line<T, K> &b, float c) {
    const Term sum = split(c);
    if (!a.finite || !b.finite || !sum.finite) {
        double real = c;
        for (int k = 0; k < K; k++) {
            real += static_cast<double>(to_float(a.values[k])) * to_float(b.values[k]);
        }
        return std::isnan(real) ? std::bit_cast<float>(0x7FFFFFFFu) : static_cast<float>(real);
    }
    int largest = sum.exponent;
    for (int k = 0; k < K; k++) {
        largest = std::max(largest, a.exponents[k] + b.exponents[k]);
    }
    std::int64_t total = aligned<23>(sum.mantissa, largest - sum.exponent);
    for (int k = 0; k < K; k++) {
        const int below_largest = largest - (a.exponents[k] + b.exponents[k]);
        total += aligned<2 * T::FRACTION_BITS>(a.mantissas[k] * b.mantissas[k], below_largest);
    }
    return truncated(total, largest - FRACTION_BITS);
}

// The registers of a lane.
struct Fragment {
    const std::uint32_t *a, *b;
    const float *c;
    float *d;
};
using Fragments = std::array<Fragment, WARP>;

template <typename T> T element(const std::uint32_t *registers, int e) {
    return T{static_cast<std::uint16_t>(registers[e / 2] >> (e % 2 * 16))};
}

// D = A·B + C for a 16×8 tile and K steps: gathers the fragments of all lanes, multiplies, and distributes the results.
template <typename T, int K> void mma(const Fragments &fragments) {
    Line<T, K> a[16], b[8];
    for (unsigned lane = 0; lane < WARP; lane++) {
        const Fragment &args = fragments[lane];
        const int h = static_cast<int>(lane) / 4, t = static_cast<int>(lane) % 4;
        for (int e = 0; e < K / 2; e++) {
            a[h + 8 * (e / 2 % 2)].values[2 * t + e % 2 + 8 * (e / 4)] = element<T>(args.a, e);
        }
        for (int e = 0; e < K / 4; e++) {
            b[h].values[2 * t + e % 2 + 8 * (e / 2)] = element<T>(args.b, e);
        }
    }
    for (auto &line : a) {
        line.take_apart();
    }
    for (auto &line : b) {
        line.take_apart();
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        const Fragment &args = fragments[lane];
        const int h = static_cast<int>(lane) / 4, t = static_cast<int>(lane) % 4;
        for (int i = 0; i < 4; i++) {
            args.d[i] = dot(a[h + 8 * (i / 2)], b[2 * t + i % 2], args.c[i]);
        }
    }
}

bool mma_any(const Fragments &fragments, unsigned variant) {
    switch (variant) {
    case MMA_F16_K16: mma<f16, 16>(fragments); return true;
    case MMA_BF16_K16: mma<bf16, 16>(fragments); return true;
    case MMA_F16_K8: mma<f16, 8>(fragments); return true;
    case MMA_BF16_K8: mma<bf16, 8>(fragments); return true;
    default: return false;
    }
}

bool mma_gathered(const Gathering &gathering) {
    Fragments fragments;
    for (unsigned lane = 0; lane < WARP; lane++) {
        const LaneArgs &args = *gathering.lanes[lane];
        fragments[lane] = {args.a, args.b, args.c, args.d};
    }
    return mma_any(fragments, gathering.lanes[0]->variant);
}

// ldmatrix of `variant & 7` matrices, transposed if bit 3 is set. Row i of matrix j is at the address of
// lane 8j + i; lane l holds two neighbours of row l/4 (or, transposed, of column l/4).
bool matrices(Block &block, Gathering &gathering, std::string &problem) {
    const unsigned count = gathering.lanes[0]->variant & 7;
    const bool transposed = (gathering.lanes[0]->variant & 8) != 0;
    for (unsigned j = 0; j < count; j++) {
        std::uint16_t *rows[8];
        for (unsigned i = 0; i < 8; i++) {
            void *row = gathering.lanes[8 * j + i]->row;
            if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0 || !block.in_shared(row, 16)) {
                problem = std::string(name(gathering.op)) + ": row " + std::to_string(i) + " of matrix " + std::to_string(j) +
                          " is not 16 aligned bytes of shared memory";
                return false;
            }
            rows[i] = static_cast<std::uint16_t *>(row);
        }
        for (unsigned lane = 0; lane < WARP; lane++) {
            std::uint32_t &held = gathering.lanes[lane]->registers[j];
            const unsigned h = lane / 4, t = lane % 4;
            const std::uint16_t low = transposed ? rows[2 * t][h] : rows[h][2 * t];
            const std::uint16_t high = transposed ? rows[2 * t + 1][h] : rows[h][2 * t + 1];
            held = low | std::uint32_t(high) << 16;
        }
    }
    return true;
}

bool shuffle(Gathering &gathering, std::string &problem) {
    std::array<std::uint64_t, WARP> values{};
    for (unsigned lane = 0; lane < WARP; lane++) {
        values[lane] = gathering.lanes[lane] == nullptr ? 0 : gathering.lanes[lane]->value;
    }
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (gathering.lanes[lane] == nullptr) {
            continue;
        }
        // A lane beyond the warp means the lane itself.
        const unsigned beside = lane ^ gathering.lanes[lane]->operand;
        const unsigned from = beside < WARP ? beside : lane;
        if (gathering.lanes[from] == nullptr) {
            problem = std::string(name(gathering.op)) + ": lane " + std::to_string(lane) + " reads lane " + std::to_string(from) +
                      ", which is not in the mask";
            return false;
        }
        gathering.lanes[lane]->value = values[from];
    }
    return true;
}

void ballot(Gathering &gathering) {
    std::uint64_t votes = 0;
    for (unsigned lane = 0; lane < WARP; lane++) {
        votes |= std::uint64_t(gathering.lanes[lane] != nullptr && gathering.lanes[lane]->value != 0) << lane;
    }
    for (LaneArgs *lane : gathering.lanes) {
        if (lane != nullptr) {
            lane->value = votes;
        }
    }
}

// Matrix operations need the whole warp, with the same variant in all lanes.
bool whole_warp(const Gathering &gathering, std::string &problem) {
    for (const LaneArgs *lane : gathering.lanes) {
        if (lane == nullptr || lane->variant != gathering.lanes[0]->variant) {
            problem = std::string(name(gathering.op)) + ": needs all 32 lanes with the same qualifiers";
            return false;
        }
    }
    return true;
}

} // namespace

bool perform(Block &block, Gathering &gathering, std::string &problem) {
    switch (gathering.op) {
    case WarpOp::SyncWarp: return true;
    case WarpOp::ShuffleXor: return shuffle(gathering, problem);
    case WarpOp::Ballot: ballot(gathering); return true;
    case WarpOp::LoadMatrix: return whole_warp(gathering, problem) && matrices(block, gathering, problem);
    case WarpOp::Mma: return whole_warp(gathering, problem) && mma_gathered(gathering);
    }
    return false;
}

} // namespace emulator

// A matrix product of a warp, for the PTX machine (src/cuda/device/ptx): the registers of each lane.
extern "C" bool osp_emulator_mma(unsigned variant, const std::uint32_t (*a)[4], const std::uint32_t (*b)[2],
                                 const float (*c)[4], float (*d)[4]) {
    emulator::Fragments fragments;
    for (unsigned lane = 0; lane < emulator::WARP; lane++) {
        fragments[lane] = {a[lane], b[lane], c[lane], d[lane]};
    }
    return emulator::mma_any(fragments, variant);
}
