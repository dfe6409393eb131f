// The emulator's replacements of the instructions of common/hopper/, which describes what each does.
#pragma once

#include "block.h"

#include <initializer_list>

namespace emulator {

// A tensor, and the box of it that a copy moves, as the host describes them. Shared with src/cuda/params.rs.
struct alignas(64) TensorMap {
    std::uint64_t address;
    // Bytes between neighbours in dimensions 1 to 4.
    std::uint64_t strides[4];
    // Elements of the tensor and of the box in dimensions 0 (innermost) to 4.
    std::uint32_t sizes[5], box[5];
    std::uint32_t rank;
    // Bytes of a row that the swizzle mixes with its neighbours: 0 (none), 32, 64 or 128.
    std::uint32_t swizzle;
    std::uint32_t element_bytes;
};
static_assert(sizeof(TensorMap) == 128);

// barrier.cuh
void init_barrier(void *barrier, unsigned count);
void publish_barriers();
void arrive(void *barrier);
void arrive_at_block(void *barrier, unsigned rank);
void arrive_expecting(void *barrier, unsigned bytes);
void wait_for_phase(void *barrier, unsigned parity);

// copy.cuh. `blocks`: a bit for each block of the cluster that receives the box; 0 for the own block.
void publish_shared();
void check_map(const TensorMap &map);
void load_bytes(void *to, const void *from, unsigned bytes, void *barrier);
void load_box(void *to, const TensorMap &map, const int *at, unsigned rank, void *barrier, unsigned blocks);
void store_box(const TensorMap &map, const int *at, unsigned rank, const void *from);
void commit_stores();
void wait_for_stores(unsigned pending, bool only_reads);

// wgmma.cuh
struct Product {
    bool f16, a_by_rows, b_by_rows, add;
};
// The offset of an address in the block's shared memory.
std::uint32_t shared_offset(const void *address);
void open_products(const Site &site);
void close_products(const Site &site);
// `named`: the sums that the caller may read then, if their groups have ended.
void wait_for_products(unsigned pending, std::initializer_list<const float *> named);
// d: this thread's columns / 2 sums. multiply_left: a: its four registers of A.
void multiply_shared(float *d, unsigned columns, std::uint64_t a, std::uint64_t b, Product product, const Site &site);
void multiply_left(float *d, unsigned columns, const std::uint32_t *a, std::uint64_t b, Product product,
                   const Site &site);

// warpgroup.cuh
bool is_elected(const Site &site);
// Registers of a thread when a launch starts; 0 if the compiler does not know them.
unsigned launch_registers(const Launch &launch);
void set_registers(unsigned count, bool take, const Site &site);
unsigned cluster_rank();
void cluster_sync(const Site &site);
// `variant`: the number of matrices, plus 8 if they are transposed.
void store_matrices(void *row, const std::uint32_t *registers, unsigned variant, const Site &site);
// Notes a store to shared memory that the calling thread is about to do.
void note_store(void *to, std::size_t bytes);

} // namespace emulator
