// The emulator's replacements of PTX instructions, which ptx.cuh describes.
#pragma once

#include "block.h"
#include "product.h"

namespace emulator {

// Checks an ordinary access to global memory, which must be aligned to its size.
inline void check_access(const void *address, std::size_t bytes, const char *what) {
    Block &block = Block::current();
    block.check_aligned(address, bytes, what);
    block.check_global(address, bytes, what);
}

inline void cp_async(void *to, const void *from, unsigned size, unsigned bytes) {
    Block &block = Block::current();
    block.check_aligned(to, size, "cp.async");
    block.check_aligned(from, size, "cp.async");
    block.check_shared(to, size, "cp.async");
    if (bytes > size) {
        block.fail("cp.async of " + std::to_string(bytes) + " bytes into " + std::to_string(size));
    }
    if (bytes > 0) {
        block.check_global(from, bytes, "cp.async");
    }
    block.start_copy({to, from, size, bytes});
}

inline void cp_async_commit() { Block::current().thread().groups++; }

inline void cp_async_wait(unsigned pending) { Block::current().wait_for_copies(pending); }

// `variant`: the number of matrices, plus 8 if they are transposed.
inline void matrices(WarpOp op, std::uint32_t *registers, const void *row, unsigned variant, const Site &site) {
    LaneArgs args(site);
    args.registers = registers;
    args.row = const_cast<void *>(row);
    args.variant = variant;
    Block::current().gather(op, 0xFFFFFFFF, args);
}

inline void mma(float (&c)[4], const std::uint32_t *a, const std::uint32_t *b, unsigned variant, const Site &site) {
    LaneArgs args(site);
    args.a = a;
    args.b = b;
    args.c = c;
    args.d = c;
    args.variant = variant;
    Block::current().gather(WarpOp::Mma, 0xFFFFFFFF, args);
}

} // namespace emulator
