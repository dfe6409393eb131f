// Calls that the threads of a warpgroup make together, registers of warpgroups, and small instructions of a cluster.

#include "warpgroup.h"

#include "asynchronous.h"
#include "cluster.h"

#include <algorithm>

namespace emulator {

namespace {

const char *name(const Call &call) {
    using enum Call::Kind;
    switch (call.kind) {
    case Open: return "open_products (wgmma.fence)";
    case Multiply: return "a product (wgmma)";
    case Close: return "close_products (wgmma.commit_group)";
    case Wait: return "wait_for_products (wgmma.wait_group)";
    case SetRegisters: return call.take ? "take_registers (setmaxnreg.inc)" : "keep_registers (setmaxnreg.dec)";
    }
    return "?";
}

std::string full_name(const Call &call) { return std::string(name(call)) + " at " + text(call.site); }

// Whether two threads make the same call.
bool same_calls(const Call &a, const Call &b) {
    const auto numbers = [](const Call &call) {
        const Product &product = call.product;
        return std::array<std::uint64_t, 9>{static_cast<std::uint64_t>(call.kind), call.number, call.take, call.a, call.b,
                                            product.f16, product.a_by_rows, product.b_by_rows, product.add};
    };
    return numbers(a) == numbers(b) && same(a.site, b.site);
}

} // namespace

AsynchronousThread &Asynchronous::own() { return threads[block.thread().id]; }

Warpgroup &Asynchronous::warpgroup() {
    const unsigned index = block.thread().id / WARPGROUP;
    if (index >= warpgroups.size()) {
        block.fail("an instruction of a warpgroup in one of fewer than 128 threads");
    }
    return warpgroups[index];
}

void Asynchronous::record(const Call &call) {
    Warpgroup &group = warpgroup();
    const std::uint64_t number = own().calls++;
    if (number == group.performed + group.calls.size()) {
        if (group.ended != 0) {
            block.fail(full_name(call) + ": a thread of the same warpgroup has ended");
        }
        group.calls.push_back(call);
        group.calls.back().arrival = block.cluster->choose_arrival();
    }
    Call &common = group.calls[number - group.performed];
    if (!same_calls(common, call)) {
        block.fail(full_name(call) + ": another thread of the same warpgroup makes another call, or with other values: " +
                   full_name(common));
    }
    if (common.sums != call.sums || common.fresh != call.fresh) {
        block.fail(full_name(call) + ": another thread of the same warpgroup adds to other sums");
    }
    common.arrived++;
    if (common.arrived == WARPGROUP) {
        group.issued++;
        perform(group, 0);
        for (Thread *thread : group.waiting) {
            block.cluster->wake(*thread);
        }
        group.waiting.clear();
    }
}

void Asynchronous::wait_for_calls(Warpgroup &group, std::uint64_t calls, const char *what) {
    while (group.issued < calls) {
        group.waiting.push_back(&block.thread());
        block.cluster->wait(what);
    }
}

void Asynchronous::perform(Warpgroup &group, std::uint64_t end) {
    while (group.performed < group.issued) {
        Call &call = group.calls.front();
        const bool is_product = call.kind == Call::Kind::Multiply;
        if (is_product && group.performed >= end && call.arrival != Arrival::AtIssue) {
            return;
        }
        if (is_product) {
            multiply(group, call);
        } else if (call.kind == Call::Kind::SetRegisters) {
            set_registers(group, call);
        }
        group.calls.pop_front();
        group.performed++;
    }
}

void Asynchronous::maybe_multiply() {
    if (warpgroups.empty()) {
        return;
    }
    Warpgroup &group = warpgroups[block.cluster->random_below(warpgroups.size())];
    if (group.performed < group.issued && group.calls.front().arrival == Arrival::AtSwitch) {
        perform(group, group.performed + 1);
    }
}

void Asynchronous::end_thread(const Thread &thread) {
    const AsynchronousThread &state = threads[thread.id];
    if (block.cluster->transfers.has_store_of(thread)) {
        block.fail("the thread ended with stores (store_box) in flight: wait_for_stores is missing");
    }
    if (thread.id / WARPGROUP >= warpgroups.size()) {
        return;
    }
    Warpgroup &group = warpgroups[thread.id / WARPGROUP];
    group.ended++;
    if (!state.in_flight.empty()) {
        block.fail("the thread ended with products in flight: no wait_for_products names their sums");
    }
    if (state.calls < group.performed + group.calls.size()) {
        const Call &missed = group.calls[state.calls - group.performed];
        block.fail("the thread ended, but another thread of the same warpgroup is at " + full_name(missed));
    }
}

unsigned launch_registers(const Launch &launch) {
    constexpr unsigned REGISTERS = 65536, STEP = 8, MOST = 256;
    return launch.blocks == 0 ? 0 : std::min(MOST, REGISTERS / (launch.threads * launch.blocks) / STEP * STEP);
}

void Asynchronous::set_registers(Warpgroup &group, const Call &call) {
    const auto refuse = [&](const char *what) {
        block.fail(full_name(call) + ": " + std::to_string(call.number) + " registers are " + what + " the " +
                   std::to_string(group.registers) + " that the warpgroup has");
    };
    if (call.take) {
        if (call.number < group.registers) {
            refuse("fewer than");
        }
        group.wanted = call.number;
    } else {
        if (call.number > group.registers) {
            refuse("more than");
        }
        free_registers += group.registers - call.number;
        group.registers = call.number;
    }
    grant_registers();
}

// Gives free registers to the warpgroups that wait for them.
void Asynchronous::grant_registers() {
    for (Warpgroup &group : warpgroups) {
        if (group.wanted == 0 || group.wanted - group.registers > free_registers) {
            continue;
        }
        free_registers -= group.wanted - group.registers;
        group.registers = group.wanted;
        group.wanted = 0;
        for (Thread *thread : group.waiting) {
            block.cluster->wake(*thread);
        }
        group.waiting.clear();
    }
}

void set_registers(unsigned count, bool take, const Site &site) {
    Block &block = Block::current();
    Asynchronous &asynchronous = block.asynchronous();
    Warpgroup &group = asynchronous.warpgroup();
    Call call{Call::Kind::SetRegisters, site};
    call.number = count;
    call.take = take;
    if (block.get_launch().blocks == 0) {
        block.fail(full_name(call) + ": the kernel does not say for how many blocks a multiprocessor has registers");
    }
    asynchronous.record(call);
    if (!take) {
        return;
    }
    asynchronous.wait_for_calls(group, asynchronous.own().calls, "take_registers for its warpgroup");
    while (group.wanted != 0) {
        group.waiting.push_back(&block.thread());
        block.cluster->wait("take_registers for registers that other warpgroups keep");
    }
}

bool is_elected(const Site &site) {
    LaneArgs args(site);
    Block &block = Block::current();
    block.gather(WarpOp::Elect, 0xFFFFFFFF, args);
    return block.thread().id % WARP == 0;
}

unsigned cluster_rank() {
    Block &block = Block::current();
    return block.block_index().x % block.get_launch().cluster;
}

void cluster_sync(const Site &) { Block::current().cluster->sync(); }

void store_matrices(void *row, const std::uint32_t *registers, unsigned variant, const Site &site) {
    LaneArgs args(site);
    args.row = row;
    args.registers = const_cast<std::uint32_t *>(registers);
    args.variant = variant;
    Block::current().gather(WarpOp::StoreMatrix, 0xFFFFFFFF, args);
}

} // namespace emulator
