// The two states of a block's shared memory: what threads see, and what copies and products see.

#include "asynchronous.h"
#include "cluster.h"
#include "hopper.h"

#include <cstring>

namespace emulator {

Asynchronous::Asynchronous(Block &block)
    : block(block), threads(block.get_launch().threads), warpgroups(block.get_launch().threads / WARPGROUP),
      view(block.get_launch().shared_bytes, Block::POISON) {
    for (std::size_t i = 0; i < warpgroups.size(); i++) {
        warpgroups[i].first = &block.threads[i * WARPGROUP];
        warpgroups[i].registers = launch_registers(block.get_launch());
    }
}

std::uint32_t Asynchronous::offset(const void *address, std::size_t bytes, const char *what) {
    block.check_shared(address, bytes, what);
    return static_cast<std::uint32_t>(static_cast<const unsigned char *>(address) - block.shared());
}

void Asynchronous::note_store(const Thread &thread, const void *to, std::size_t bytes) {
    const auto offset = static_cast<std::uint32_t>(static_cast<const unsigned char *>(to) - block.shared());
    threads[thread.id].stores.push_back({offset, static_cast<std::uint32_t>(bytes)});
}

void Asynchronous::publish_shared() {
    std::vector<Range> &stores = own().stores;
    for (const Range &range : stores) {
        std::memcpy(view.data() + range.offset, block.shared() + range.offset, range.bytes);
    }
    stores.clear();
}

void Asynchronous::write(std::uint32_t offset, const void *from, std::size_t bytes) {
    std::memcpy(block.shared() + offset, from, bytes);
    std::memcpy(view.data() + offset, from, bytes);
}

void Asynchronous::read(std::uint32_t offset, void *to, std::size_t bytes, const Thread &thread) {
    if (std::memcmp(view.data() + offset, block.shared() + offset, bytes) != 0) {
        block.cluster->fail(&thread, block,
                            "a copy or product reads bytes " + std::to_string(offset) + " to " +
                                std::to_string(offset + bytes - 1) +
                                " of shared memory, which a thread stored without store_shared and publish_shared");
    }
    std::memcpy(to, view.data() + offset, bytes);
}

void publish_shared() { Block::current().asynchronous().publish_shared(); }

void note_store(void *to, std::size_t bytes) {
    Block &block = Block::current();
    block.check_shared(to, bytes, "store");
    block.asynchronous().note_store(block.thread(), to, bytes);
}

std::uint32_t shared_offset(const void *address) { return Block::current().asynchronous().offset(address, 0, "a matrix"); }

} // namespace emulator
