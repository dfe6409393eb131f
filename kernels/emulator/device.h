// CUDA's built-in features for the host's compiler: qualifiers, indices, barriers, shuffles, votes.
#pragma once

#include "block.h"
#include "hopper.h"
#include "instructions.h"
#include "kernel.h"
#include "numbers.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#define __device__
#define __forceinline__ inline

using emulator::bf16;
using emulator::f16;

#define threadIdx (::emulator::Block::current().thread_index())
#define blockIdx (::emulator::Block::current().block_index())
#define gridDim (::emulator::Block::current().get_launch().grid)

// Defines an entry point, which the launcher finds by its name.
#define KERNEL(kernel, bounds, Params) CLUSTER_KERNEL(kernel, bounds, 1, Params)
#define CLUSTER_KERNEL(kernel, bounds, cluster, Params)                                                                \
    static void kernel(const Params &p);                                                                               \
    static const ::emulator::Kernel kernel##_registration{                                                             \
        #kernel, {Bounds(bounds).threads, Bounds(bounds).blocks, cluster}, sizeof(Params),                             \
        [](const void *params) { kernel(*static_cast<const Params *>(params)); }};                                     \
    static void kernel(const Params &p)

// Defines a function that a program calls to keep the kernels of a file; otherwise the linker would drop them.
#define KERNEL_FILE(stem)                                                                                              \
    extern "C" void osp_kernels_##stem() {}

// The place of a call (platform.cuh): the last parameter of a function, and the argument that it passes on.
#define CALL_SITE , ::emulator::Site site = ::emulator::Site::current()
#define SAME_SITE , site
#define CALL_SITE_ONLY [[maybe_unused]] ::emulator::Site site = ::emulator::Site::current()
#define SAME_SITE_ONLY site

inline unsigned char *shared_memory() { return ::emulator::Block::current().shared(); }

inline void __syncthreads() {
    auto &block = ::emulator::Block::current();
    block.barrier(0, block.get_launch().threads, true);
}

namespace emulator {

template <typename T> T shuffled(WarpOp op, std::uint32_t mask, T value, unsigned operand, const Site &site) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t), "shuffles move up to eight bytes");
    LaneArgs args(site);
    std::memcpy(&args.value, &value, sizeof(T));
    args.operand = operand;
    Block::current().gather(op, mask, args);
    std::memcpy(&value, &args.value, sizeof(T));
    return value;
}

inline std::uint32_t votes(std::uint32_t mask, bool vote, const Site &site) {
    LaneArgs args(site);
    args.value = vote;
    Block::current().gather(WarpOp::Ballot, mask, args);
    return static_cast<std::uint32_t>(args.value);
}

} // namespace emulator

template <typename T> T __shfl_xor_sync(std::uint32_t mask, T value, unsigned lanes CALL_SITE) {
    return ::emulator::shuffled(::emulator::WarpOp::ShuffleXor, mask, value, lanes SAME_SITE);
}
inline bool __all_sync(std::uint32_t mask, bool vote CALL_SITE) {
    return ::emulator::votes(mask, vote SAME_SITE) == mask;
}
inline void __syncwarp(std::uint32_t mask = 0xFFFFFFFF CALL_SITE) {
    ::emulator::LaneArgs args(site);
    ::emulator::Block::current().gather(::emulator::WarpOp::SyncWarp, mask, args);
}

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
