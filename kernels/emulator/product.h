// The matrix products of tensor cores.
#pragma once

#include <cstdint>

namespace emulator {

constexpr int TILE_ROWS = 16, TILE_COLUMNS = 8, TILE_DEPTH = 16;

// The products, by type of the elements and steps of k.
enum : unsigned { MMA_F16_K16, MMA_BF16_K16, MMA_F16_K8, MMA_BF16_K8 };

// c [rows][columns] += a [rows][16] · b [columns][16] for one chunk of k, to the bit as Hopper's tensor cores compute it.
// `a` and `b` are bits of elements; a product of 8 steps of k ignores the others. False if there is no such variant, or
// `columns` is no multiple of TILE_COLUMNS.
bool multiply(unsigned variant, unsigned rows, unsigned columns, const std::uint16_t (*a)[TILE_DEPTH],
              const std::uint16_t (*b)[TILE_DEPTH], float *c);

} // namespace emulator
