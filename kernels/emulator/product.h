// The matrix products of tensor cores.
#pragma once

#include <cstdint>

namespace emulator {

constexpr int TILE_ROWS = 16, TILE_COLUMNS = 8, TILE_DEPTH = 16;

// The products, by type of the elements and steps of k.
enum : unsigned { MMA_F16_K16, MMA_BF16_K16, MMA_F16_K8, MMA_BF16_K8 };

// The bits of the operands of one product, and its f32 sums. A product of 8 steps of k ignores the others.
struct Tile {
    std::uint16_t a[TILE_ROWS][TILE_DEPTH];
    std::uint16_t b[TILE_DEPTH][TILE_COLUMNS];
    float c[TILE_ROWS][TILE_COLUMNS];
};

// C += A·B, to the bit as Hopper's tensor cores compute it; false if there is no such variant.
bool multiply(Tile &tile, unsigned variant);

} // namespace emulator
