// Hopper's copies: boxes of a tensor, and plain bytes. In shared memory, the swizzle exchanges 16-byte pieces by bits 7
// to 9 of their offset.

#include "transfer.h"

#include "asynchronous.h"
#include "cluster.h"
#include "hopper.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <utility>

namespace emulator {

namespace {

// The rules of cuTensorMapEncodeTiled, and of the instruction's rank.
const char *broken_rule(const TensorMap &map, unsigned rank) {
    const auto bad_stride = [](std::uint64_t stride) { return stride % PIECE != 0 || stride >> 40 != 0; };
    const auto bad_box = [](std::uint32_t size) { return size == 0 || size > 256; };
    const auto empty = [](std::uint32_t size) { return size == 0; };
    const unsigned row = map.box[0] * map.element_bytes, swizzle = map.swizzle;
    const std::pair<bool, const char *> rules[] = {
        {map.rank != rank, "its rank is not the instruction's"},
        {map.element_bytes != 2 && map.element_bytes != 4, "its elements have not 2 or 4 bytes"},
        {map.address == 0 || map.address % PIECE != 0, "its address is no multiple of 16"},
        {std::any_of(map.strides, map.strides + rank - 1, bad_stride), "a stride is no multiple of 16"},
        {std::any_of(map.sizes, map.sizes + rank, empty), "a dimension is empty"},
        {std::any_of(map.box, map.box + rank, bad_box), "the box has not 1 to 256 elements"},
        {row % PIECE != 0, "a row of the box is no multiple of 16 bytes"},
        {swizzle != 0 && swizzle != 32 && swizzle != 64 && swizzle != 128, "its swizzle is unknown"},
        {swizzle != 0 && swizzle != row, "a row of the box has not the swizzle's bytes"},
    };
    const auto broken = std::find_if(std::begin(rules), std::end(rules), [](const auto &rule) { return rule.first; });
    return broken == std::end(rules) ? nullptr : broken->second;
}

void check_map(const TensorMap &map, unsigned rank, const char *what) {
    Block &block = Block::current();
    const Launch &launch = block.get_launch();
    const auto *const at = reinterpret_cast<const unsigned char *>(&map);
    const auto *const params = static_cast<const unsigned char *>(launch.params);
    if (at < params || at + sizeof map > params + launch.params_bytes) {
        block.fail(std::string(what) + ": the tensor map is not in the kernel's parameters");
    }
    if (const char *problem = broken_rule(map, rank)) {
        block.fail(std::string(what) + ": bad tensor map: " + problem);
    }
}

unsigned box_rows(const TensorMap &map) {
    unsigned rows = 1;
    for (unsigned i = 1; i < map.rank; i++) {
        rows *= map.box[i];
    }
    return rows;
}

unsigned row_bytes(const TensorMap &map) { return map.box[0] * map.element_bytes; }

// The part of a box's row that lies in the tensor: its place there and in the row, and its bytes, 0 if it has none.
struct Part {
    std::uint64_t address;
    unsigned from, bytes;
};

Part part_of_row(const TensorMap &map, const std::array<int, 5> &at, unsigned row) {
    std::uint64_t address = map.address;
    for (unsigned i = 1; i < map.rank; i++) {
        const std::int64_t place = std::int64_t(at[i]) + row % map.box[i];
        row /= map.box[i];
        if (place < 0 || place >= map.sizes[i]) {
            return {0, 0, 0};
        }
        address += map.strides[i - 1] * static_cast<std::uint64_t>(place);
    }
    const std::int64_t first = std::max<std::int64_t>(0, -std::int64_t(at[0]));
    const std::int64_t end = std::min<std::int64_t>(map.box[0], std::int64_t(map.sizes[0]) - at[0]);
    if (first >= end) {
        return {0, 0, 0};
    }
    address += static_cast<std::uint64_t>(at[0] + first) * map.element_bytes;
    const auto bytes = [&](std::int64_t elements) { return static_cast<unsigned>(elements) * map.element_bytes; };
    return {address, bytes(first), bytes(end - first)};
}

// Checks the places of a box in global and in shared memory.
void check_box(const TensorMap &map, const std::array<int, 5> &at, const void *shared, const char *what) {
    Block &block = Block::current();
    block.check_aligned(shared, map.swizzle == 0 ? 128 : 8 * map.swizzle, what);
    block.check_shared(shared, std::size_t(box_rows(map)) * row_bytes(map), what);
    for (unsigned row = 0; row < box_rows(map); row++) {
        const Part part = part_of_row(map, at, row);
        if (part.bytes != 0) {
            block.check_global(reinterpret_cast<const void *>(part.address), part.bytes, what);
        }
    }
}

// Calls `move(piece of shared memory, place in the row)` for all 16-byte pieces of a box's row.
template <typename Move> void for_pieces(const TensorMap &map, std::uint32_t box, unsigned row, const Move &move) {
    for (unsigned at = 0; at < row_bytes(map); at += PIECE) {
        move(swizzled(box + row * row_bytes(map) + at, map.swizzle), at);
    }
}

// The longest row of a box: 256 elements of four bytes.
using RowBytes = std::array<unsigned char, 1024>;

void move_box(const Load &load) {
    Asynchronous &asynchronous = load.block->asynchronous();
    for (unsigned row = 0; row < box_rows(*load.map); row++) {
        RowBytes bytes{};
        const Part part = part_of_row(*load.map, load.at, row);
        if (part.bytes != 0) {
            std::memcpy(bytes.data() + part.from, reinterpret_cast<const void *>(part.address), part.bytes);
        }
        for_pieces(*load.map, load.to, row,
                   [&](std::uint32_t to, unsigned at) { asynchronous.write(to, bytes.data() + at, PIECE); });
    }
}

void read_box(Store &store) {
    const unsigned bytes = row_bytes(*store.map);
    store.box.resize(std::size_t(box_rows(*store.map)) * bytes);
    Asynchronous &asynchronous = store.thread->block->asynchronous();
    for (unsigned row = 0; row < box_rows(*store.map); row++) {
        for_pieces(*store.map, store.from, row, [&](std::uint32_t from, unsigned at) {
            asynchronous.read(from, store.box.data() + row * bytes + at, PIECE, *store.thread);
        });
    }
    store.is_read = true;
}

void write_box(Store &store) {
    for (unsigned row = 0; row < box_rows(*store.map); row++) {
        const Part part = part_of_row(*store.map, store.at, row);
        if (part.bytes != 0) {
            const unsigned char *const from = store.box.data() + row * row_bytes(*store.map) + part.from;
            std::memcpy(reinterpret_cast<void *>(part.address), from, part.bytes);
        }
    }
    store.is_written = true;
}

std::array<int, 5> coordinates(const int *at, unsigned rank) {
    std::array<int, 5> all{};
    std::copy(at, at + rank, all.begin());
    return all;
}

} // namespace

void Transfers::clear() {
    loads.clear();
    stores.clear();
}

void Transfers::start(Load load) {
    load.arrival = cluster.choose_arrival();
    loads.push_back(load);
    if (load.arrival == Arrival::AtIssue) {
        arrive(loads.size() - 1);
    }
}

void Transfers::start(Store store) {
    store.arrival = cluster.choose_arrival();
    if (store.arrival == Arrival::AtIssue) {
        read_box(store);
        write_box(store);
    }
    stores.push_back(std::move(store));
}

void Transfers::arrive(std::size_t index) {
    const Load load = loads[index];
    loads.erase(loads.begin() + static_cast<std::ptrdiff_t>(index));
    if (load.map == nullptr) {
        load.block->asynchronous().write(load.to, load.from, load.bytes);
    } else {
        move_box(load);
    }
    load.block->asynchronous().complete(load.barrier, load.bytes);
}

bool Transfers::arrive_last() {
    if (loads.empty()) {
        return false;
    }
    arrive(cluster.launch->seed == 0 ? 0 : cluster.random_below(loads.size()));
    return true;
}

void Transfers::maybe_arrive() {
    if (!loads.empty()) {
        const std::size_t index = cluster.random_below(loads.size());
        if (loads[index].arrival == Arrival::AtSwitch) {
            arrive(index);
        }
    }
    if (!stores.empty()) {
        Store &store = stores[cluster.random_below(stores.size())];
        if (store.arrival == Arrival::AtSwitch && !store.is_written) {
            store.is_read ? write_box(store) : read_box(store);
        }
    }
}

void Transfers::finish_stores(const Thread &thread, unsigned end, bool only_reads) {
    const auto done = [&](Store &store) {
        if (store.thread != &thread || store.group >= end) {
            return false;
        }
        if (!store.is_read) {
            read_box(store);
        }
        if (!only_reads && !store.is_written) {
            write_box(store);
        }
        return !only_reads;
    };
    std::erase_if(stores, done);
}

bool Transfers::has_store_of(const Thread &thread) const {
    return std::any_of(stores.begin(), stores.end(), [&](const Store &store) { return store.thread == &thread; });
}

bool Transfers::has_load_into(const Block &block) const {
    return std::any_of(loads.begin(), loads.end(), [&](const Load &load) { return load.block == &block; });
}

void check_map(const TensorMap &map) { check_map(map, std::clamp(map.rank, 2u, 5u), "prefetch_map"); }

void load_bytes(void *to, const void *from, unsigned bytes, void *barrier) {
    Block &block = Block::current();
    if (bytes == 0 || bytes % PIECE != 0) {
        block.fail("load_bytes of " + std::to_string(bytes) + " bytes, which is no positive multiple of 16");
    }
    block.check_aligned(to, PIECE, "load_bytes");
    block.check_aligned(from, PIECE, "load_bytes");
    block.check_global(from, bytes, "load_bytes");
    Asynchronous &asynchronous = block.asynchronous();
    const std::uint32_t place = asynchronous.offset(to, bytes, "load_bytes");
    const std::uint32_t counter = barrier_offset(barrier);
    asynchronous.barrier(counter, true, false);
    block.cluster->transfers.start(Load{&block.thread(), &block, place, counter, bytes, from, nullptr, {}});
}

void load_box(void *to, const TensorMap &map, const int *at, unsigned rank, void *barrier, unsigned blocks) {
    Block &block = Block::current();
    check_map(map, rank, "load_box");
    const std::array<int, 5> all = coordinates(at, rank);
    check_box(map, all, to, "load_box");
    const std::uint32_t counter = barrier_offset(barrier), place = block.asynchronous().offset(to, 0, "load_box");
    const unsigned bytes = box_rows(map) * row_bytes(map), size = block.get_launch().cluster;
    const unsigned receivers = blocks == 0 ? 1u << cluster_rank() : blocks;
    if (receivers >> size != 0) {
        block.fail("load_box to blocks that the cluster has not");
    }
    for (unsigned number = 0; number < size; number++) {
        if ((receivers >> number & 1) == 0) {
            continue;
        }
        Block &receiver = block.cluster->blocks[number];
        if (receiver.has_ended()) {
            block.fail("load_box: block " + std::to_string(number) + " of the cluster has ended");
        }
        receiver.asynchronous().barrier(counter, true, &receiver != &block);
        block.cluster->transfers.start(Load{&block.thread(), &receiver, place, counter, bytes, nullptr, &map, all});
    }
}

void store_box(const TensorMap &map, const int *at, unsigned rank, const void *from) {
    Block &block = Block::current();
    check_map(map, rank, "store_box");
    const std::array<int, 5> all = coordinates(at, rank);
    if (std::any_of(all.begin(), all.end(), [](int place) { return place < 0; })) {
        block.fail("store_box at a negative coordinate");
    }
    check_box(map, all, from, "store_box");
    Asynchronous &asynchronous = block.asynchronous();
    const std::uint32_t place = asynchronous.offset(from, 0, "store_box");
    Store store{&block.thread(), &map, all, place, asynchronous.own().store_groups};
    block.cluster->transfers.start(std::move(store));
}

void commit_stores() { Block::current().asynchronous().own().store_groups++; }

void wait_for_stores(unsigned pending, bool only_reads) {
    Block &block = Block::current();
    const unsigned groups = block.asynchronous().own().store_groups;
    block.cluster->transfers.finish_stores(block.thread(), groups - std::min(groups, pending), only_reads);
}

} // namespace emulator
