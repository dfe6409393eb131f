// Barriers in shared memory that count arrivals and bytes (mbarrier).

#include "asynchronous.h"
#include "cluster.h"
#include "hopper.h"

#include <algorithm>
#include <cstring>

namespace emulator {

namespace {

constexpr unsigned BARRIER_BYTES = 8;
// The largest number of arrivals, and of bytes either way.
constexpr std::int64_t LARGEST = (1 << 20) - 1;
// The bytes of a barrier; no kernel may read or change them.
constexpr unsigned char CONTENT = 0xB7;

std::string place(std::uint32_t offset) { return "the barrier at byte " + std::to_string(offset); }

} // namespace

std::string text(const CountingBarrier &barrier) {
    return place(barrier.offset) + " for phase " + std::to_string(barrier.phase) + ", which lacks " +
           std::to_string(barrier.pending) + " arrivals and " + std::to_string(barrier.bytes) + " bytes";
}

void Asynchronous::init(std::uint32_t offset, unsigned count) {
    if (count == 0 || count > LARGEST) {
        block.fail("init_barrier: " + place(offset) + " for " + std::to_string(count) + " arrivals, not 1 to 1048575");
    }
    for (const CountingBarrier &other : barriers) {
        if (other.offset == offset) {
            block.fail("init_barrier: " + place(offset) + " exists, since thread " + std::to_string(other.maker->id));
        }
    }
    const std::array<unsigned char, BARRIER_BYTES> content = [] {
        std::array<unsigned char, BARRIER_BYTES> bytes;
        bytes.fill(CONTENT);
        return bytes;
    }();
    write(offset, content.data(), content.size());
    barriers.push_back({offset, &block.thread(), count, count});
}

void Asynchronous::publish_barriers() {
    for (CountingBarrier &barrier : barriers) {
        if (barrier.maker == &block.thread() && !barrier.published) {
            barrier.published = true;
            barrier.block_meetings = block.meetings;
            barrier.cluster_meetings = block.cluster->meetings;
        }
    }
}

CountingBarrier &Asynchronous::barrier(std::uint32_t offset, bool copy, bool remote) {
    const auto here = [&](const CountingBarrier &barrier) { return barrier.offset == offset; };
    const auto found = std::find_if(barriers.begin(), barriers.end(), here);
    Block &user = *block.cluster->running->block;
    if (found == barriers.end()) {
        user.fail("use of " + place(offset) + ", which no thread has prepared");
    }
    const auto changed = [](unsigned char byte) { return byte != CONTENT; };
    const unsigned char *const content = block.shared() + offset;
    if (std::any_of(content, content + BARRIER_BYTES, changed)) {
        user.fail("a thread has stored over " + place(offset));
    }
    const bool own = found->maker == block.cluster->running;
    if (!found->published && (!own || copy)) {
        user.fail("use of " + place(offset) + " before publish_barriers");
    }
    const bool met =
        remote ? block.cluster->meetings > found->cluster_meetings : block.meetings > found->block_meetings;
    if (!own && !met) {
        user.fail("use of " + place(offset) + " before the threads met after publish_barriers");
    }
    return *found;
}

void Asynchronous::complete_phase(CountingBarrier &barrier) {
    if (barrier.pending != 0 || barrier.bytes != 0) {
        return;
    }
    barrier.phase++;
    barrier.pending = barrier.count;
    barrier.has_unseen_bytes = barrier.counts_bytes;
    barrier.counts_bytes = false;
    for (Thread *thread : barrier.waiting) {
        block.cluster->wake(*thread);
    }
    barrier.waiting.clear();
}

void Asynchronous::arrive(CountingBarrier &barrier) {
    Block &user = *block.cluster->running->block;
    if (barrier.pending == 0) {
        user.fail("one arrival too many at " + text(barrier));
    }
    if (barrier.seen < barrier.phase) {
        user.fail("arrival at " + text(barrier) + ": no thread has seen the end of the phase before");
    }
    barrier.pending--;
    complete_phase(barrier);
    block.cluster->maybe_switch();
}

void Asynchronous::announce(CountingBarrier &barrier, unsigned bytes) {
    barrier.bytes += bytes;
    barrier.counts_bytes = true;
    if (barrier.bytes > LARGEST) {
        block.fail("more than 1048575 bytes announced at " + text(barrier));
    }
}

void Asynchronous::complete(std::uint32_t offset, unsigned bytes) {
    const auto here = [&](const CountingBarrier &barrier) { return barrier.offset == offset; };
    CountingBarrier &barrier = *std::find_if(barriers.begin(), barriers.end(), here);
    barrier.bytes -= bytes;
    barrier.counts_bytes = true;
    if (barrier.bytes < -LARGEST) {
        block.cluster->fail(nullptr, block, "more than 1048575 bytes copied but not announced at " + text(barrier));
    }
    complete_phase(barrier);
}

void Asynchronous::wait_for_phase(CountingBarrier &barrier, unsigned parity) {
    if (parity > 1) {
        block.fail("wait_for_phase: parity " + std::to_string(parity) + " at " + text(barrier));
    }
    if ((barrier.phase & 1) == parity) {
        const std::uint64_t phase = barrier.phase;
        while (barrier.phase == phase) {
            barrier.waiting.push_back(&block.thread());
            block.cluster->wait("", &barrier);
        }
        if (barrier.phase > phase + 1) {
            block.fail("waited for the end of phase " + std::to_string(phase) + ", but phase " +
                       std::to_string(barrier.phase - 1) + " has ended, too, at " + text(barrier));
        }
    }
    barrier.seen = barrier.phase;
    barrier.has_unseen_bytes = false;
    block.cluster->maybe_switch();
}

void Asynchronous::end_block() {
    if (block.cluster->transfers.has_load_into(block)) {
        block.fail("the block ended while a copy into its shared memory was in flight");
    }
    for (const CountingBarrier &barrier : barriers) {
        if (barrier.bytes != 0) {
            block.fail("the block ended with " + std::to_string(barrier.bytes) + " bytes at " + text(barrier));
        }
        if (barrier.has_unseen_bytes) {
            block.fail("the block ended, but no thread waited for the copies before the last phase of " + text(barrier));
        }
    }
}

std::uint32_t barrier_offset(const void *barrier) {
    Block &block = Block::current();
    block.check_aligned(barrier, BARRIER_BYTES, "a barrier");
    return block.asynchronous().offset(barrier, BARRIER_BYTES, "a barrier");
}

namespace {

CountingBarrier &own_barrier(const void *barrier) {
    const std::uint32_t offset = barrier_offset(barrier);
    return Block::current().asynchronous().barrier(offset, false, false);
}

} // namespace

void init_barrier(void *barrier, unsigned count) { Block::current().asynchronous().init(barrier_offset(barrier), count); }

void publish_barriers() { Block::current().asynchronous().publish_barriers(); }

void arrive(void *barrier) { Block::current().asynchronous().arrive(own_barrier(barrier)); }

void arrive_at_block(void *barrier, unsigned rank) {
    Block &block = Block::current();
    const std::uint32_t offset = barrier_offset(barrier);
    if (rank >= block.get_launch().cluster) {
        block.fail("arrive_at_block: the cluster has no block " + std::to_string(rank));
    }
    Block &other = block.cluster->blocks[rank];
    if (other.has_ended()) {
        block.fail("arrive_at_block: block " + std::to_string(rank) + " of the cluster has ended");
    }
    Asynchronous &there = other.asynchronous();
    there.arrive(there.barrier(offset, false, &other != &block));
}

void arrive_expecting(void *barrier, unsigned bytes) {
    Asynchronous &asynchronous = Block::current().asynchronous();
    CountingBarrier &found = own_barrier(barrier);
    asynchronous.announce(found, bytes);
    asynchronous.arrive(found);
}

void wait_for_phase(void *barrier, unsigned parity) {
    Block::current().asynchronous().wait_for_phase(own_barrier(barrier), parity);
}

} // namespace emulator
