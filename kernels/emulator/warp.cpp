// Operations that the lanes of a warp do together: shuffles, votes, matrix loads and stores, and matrix products.
//
// The PTX ISA defines the fragment layouts: sections "Matrix Fragments for mma.m16n8k16 / m16n8k8" and "ldmatrix".

#include "asynchronous.h"
#include "block.h"
#include "product.h"

namespace emulator {

namespace {

std::uint16_t half(const std::uint32_t *registers, int e) {
    return static_cast<std::uint16_t>(registers[e / 2] >> (e % 2 * 16));
}

// The registers of a lane.
struct Fragment {
    const std::uint32_t *a, *b;
    const float *c;
    float *d;
};
using Fragments = std::array<Fragment, WARP>;

// Gathers the fragments of all lanes, multiplies, and distributes the sums.
bool mma(const Fragments &fragments, unsigned variant) {
    const int depth = variant == MMA_F16_K16 || variant == MMA_BF16_K16 ? 16 : 8;
    std::uint16_t a[TILE_ROWS][TILE_DEPTH], b[TILE_COLUMNS][TILE_DEPTH];
    float c[TILE_ROWS][TILE_COLUMNS];
    for (int lane = 0; lane < static_cast<int>(WARP); lane++) {
        const Fragment &args = fragments[lane];
        const int h = lane / 4, t = lane % 4;
        for (int e = 0; e < depth / 2; e++) {
            a[h + 8 * (e / 2 % 2)][2 * t + e % 2 + 8 * (e / 4)] = half(args.a, e);
        }
        for (int e = 0; e < depth / 4; e++) {
            b[h][2 * t + e % 2 + 8 * (e / 2)] = half(args.b, e);
        }
        for (int i = 0; i < 4; i++) {
            c[h + 8 * (i / 2)][2 * t + i % 2] = args.c[i];
        }
    }
    if (!multiply(variant, TILE_ROWS, TILE_COLUMNS, a, b, c[0])) {
        return false;
    }
    for (int lane = 0; lane < static_cast<int>(WARP); lane++) {
        for (int i = 0; i < 4; i++) {
            fragments[lane].d[i] = c[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2];
        }
    }
    return true;
}

bool mma(const Gathering &gathering) {
    Fragments fragments;
    for (unsigned lane = 0; lane < WARP; lane++) {
        const LaneArgs &args = *gathering.lanes[lane];
        fragments[lane] = {args.a, args.b, args.c, args.d};
    }
    return mma(fragments, gathering.lanes[0]->variant);
}

// Finds the rows of matrix j: row i is at the address of lane 8j + i. False if one is not in shared memory.
bool find_rows(const Block &block, const Gathering &gathering, unsigned j, std::uint16_t *(&rows)[8], std::string &problem) {
    for (unsigned i = 0; i < 8; i++) {
        void *row = gathering.lanes[8 * j + i]->row;
        if (reinterpret_cast<std::uintptr_t>(row) % 16 != 0 || !block.in_shared(row, 16)) {
            problem = std::string(name(gathering.op)) + ": row " + std::to_string(i) + " of matrix " + std::to_string(j) +
                      " is not 16 aligned bytes of shared memory";
            return false;
        }
        rows[i] = static_cast<std::uint16_t *>(row);
    }
    return true;
}

// The elements of a matrix that a lane holds: two neighbours of row lane/4 or, transposed, of column lane/4.
struct Pair {
    std::uint16_t *low, *high;
};

Pair pair(std::uint16_t *(&rows)[8], unsigned lane, bool transposed) {
    const unsigned h = lane / 4, t = lane % 4;
    return transposed ? Pair{rows[2 * t] + h, rows[2 * t + 1] + h} : Pair{rows[h] + 2 * t, rows[h] + 2 * t + 1};
}

// ldmatrix or stmatrix of `variant & 7` matrices, transposed if bit 3 is set.
bool matrices(Block &block, Gathering &gathering, std::string &problem) {
    const unsigned count = gathering.lanes[0]->variant & 7;
    const bool transposed = (gathering.lanes[0]->variant & 8) != 0;
    for (unsigned j = 0; j < count; j++) {
        std::uint16_t *rows[8];
        if (!find_rows(block, gathering, j, rows, problem)) {
            return false;
        }
        for (unsigned lane = 0; lane < WARP; lane++) {
            std::uint32_t &held = gathering.lanes[lane]->registers[j];
            const auto [low, high] = pair(rows, lane, transposed);
            if (gathering.op == WarpOp::LoadMatrix) {
                held = *low | std::uint32_t(*high) << 16;
                continue;
            }
            *low = static_cast<std::uint16_t>(held);
            *high = static_cast<std::uint16_t>(held >> 16);
            const Thread &thread = block.threads[block.thread().id / WARP * WARP + lane];
            block.asynchronous().note_store(thread, low, sizeof *low);
            block.asynchronous().note_store(thread, high, sizeof *high);
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
    case WarpOp::Elect: return true;
    case WarpOp::LoadMatrix:
    case WarpOp::StoreMatrix: return whole_warp(gathering, problem) && matrices(block, gathering, problem);
    case WarpOp::Mma: return whole_warp(gathering, problem) && mma(gathering);
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
    return emulator::mma(fragments, variant);
}
