// Matrix products of warpgroups (wgmma): descriptors of matrices in shared memory, and sums in flight.

#include "asynchronous.h"
#include "cluster.h"
#include "product.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace emulator {

namespace {

constexpr unsigned MOST_COLUMNS = 256;
// A sum in flight: not a number, and no result of a product.
constexpr std::uint32_t IN_FLIGHT = 0x7FCBCBCB;

// A descriptor of a matrix in shared memory (PTX ISA 9.0, "Matrix Descriptor Format").
struct Matrix {
    std::uint32_t start, lead, stride;
    // Bytes of a row; 0 without a swizzle.
    unsigned swizzle;
};

Matrix decoded(std::uint64_t descriptor) {
    constexpr unsigned SWIZZLES[] = {0, 128, 64, 32};
    const auto bytes = [&](int bit) { return static_cast<std::uint32_t>(descriptor >> bit & 0x3FFF) * 16; };
    return {bytes(0), bytes(16), bytes(32), SWIZZLES[descriptor >> 62]};
}

// Whether fields are set that must be 0: the base offset, and bits without meaning.
bool has_unknown_fields(std::uint64_t descriptor) {
    constexpr std::uint64_t FIELD = 0x3FFF, KNOWN = FIELD | FIELD << 16 | FIELD << 32 | std::uint64_t(3) << 62;
    return (descriptor & ~KNOWN) != 0;
}

// The offset of the piece with elements (m, k) to (m, k + 7), k innermost, or (m, k) to (m + 7, k), m innermost; before
// the swizzle.
std::uint32_t piece(const Matrix &matrix, bool by_rows, unsigned m, unsigned k) {
    const unsigned row = matrix.swizzle == 0 ? 16 : matrix.swizzle, width = row / 2;
    if (!by_rows) {
        const std::uint32_t along = matrix.swizzle == 0 ? k / 8 * matrix.lead : 2 * k;
        return matrix.start + m / 8 * matrix.stride + m % 8 * row + along;
    }
    if (matrix.swizzle == 0) {
        return matrix.start + m / 8 * matrix.stride + k / 8 * matrix.lead + k % 8 * row;
    }
    return matrix.start + m / width * matrix.lead + m % width * 2 + k / 8 * matrix.stride + k % 8 * row;
}

struct Reader {
    Asynchronous &asynchronous;
    const Thread &thread;
    const char *what;

    // Reads `rows` rows of 16 elements, k innermost.
    void read(std::uint64_t descriptor, bool by_rows, unsigned rows, std::uint16_t (*to)[TILE_DEPTH]) const {
        const Matrix matrix = decoded(descriptor);
        const unsigned step_m = by_rows ? 8 : 1, step_k = by_rows ? 1 : 8;
        for (unsigned m = 0; m < rows; m += step_m) {
            for (unsigned k = 0; k < TILE_DEPTH; k += step_k) {
                std::uint16_t elements[8];
                read_piece(swizzled(piece(matrix, by_rows, m, k), matrix.swizzle), elements);
                for (unsigned i = 0; i < 8; i++) {
                    to[by_rows ? m + i : m][by_rows ? k : k + i] = elements[i];
                }
            }
        }
    }

    void read_piece(std::uint32_t offset, std::uint16_t (&elements)[8]) const {
        const Block &block = asynchronous.block;
        const std::uint32_t size = block.get_launch().shared_bytes;
        if (offset + PIECE > size) {
            block.cluster->fail(&thread, block,
                                std::string("a product's ") + what + " at byte " + std::to_string(offset) + " lies outside of " +
                                    std::to_string(size) + " bytes of shared memory");
        }
        asynchronous.read(offset, elements, PIECE, thread);
    }
};

// The place of sum `i` of a thread, in [PRODUCT_ROWS][columns]; its elements of A lie as sums of 16 columns.
std::size_t place(unsigned thread, unsigned i, unsigned columns) {
    const unsigned warp = thread % WARPGROUP / WARP, lane = thread % WARP;
    const unsigned row = 16 * warp + lane / 4 + 8 * (i / 2 % 2), column = 8 * (i / 4) + 2 * (lane % 4) + i % 2;
    return std::size_t(row) * columns + column;
}

// Takes a thread's sums out of its registers.
void take(Sums &sums, unsigned thread, float *registers, bool add) {
    for (unsigned i = 0; i < sums.columns / 2; i++) {
        sums.values[place(thread, i, sums.columns)] = add ? registers[i] : 0.0f;
        registers[i] = std::bit_cast<float>(IN_FLIGHT);
    }
}

// Puts them back. False if the thread has touched its registers.
bool put_back(const OwnSums &own, unsigned thread) {
    bool untouched = true;
    const Sums &sums = *own.sums;
    for (unsigned i = 0; i < sums.columns / 2; i++) {
        untouched &= std::bit_cast<std::uint32_t>(own.registers[i]) == IN_FLIGHT;
        own.registers[i] = sums.values[place(thread, i, sums.columns)];
    }
    return untouched;
}

bool has_changed(const OwnLeft &left) { return !std::equal(left.held.begin(), left.held.end(), left.registers); }

// Whether the registers of some sums in flight are partly those of `columns / 2` registers from `d` on.
bool overlap(const OwnSums &own, const float *d, unsigned columns) {
    return own.registers < d + columns / 2 && d < own.registers + own.sums->columns / 2;
}

} // namespace

void Asynchronous::multiply(const Warpgroup &group, const Call &call) {
    std::uint16_t a[PRODUCT_ROWS][TILE_DEPTH], b[MOST_COLUMNS][TILE_DEPTH];
    if (call.left) {
        std::copy(call.left->begin(), call.left->end(), a[0]);
    } else {
        Reader{*this, *group.first, "A"}.read(call.a, call.product.a_by_rows, PRODUCT_ROWS, a);
    }
    Reader{*this, *group.first, "B"}.read(call.b, call.product.b_by_rows, call.number, b);
    float *const sums = call.sums->values.data();
    if (!call.product.add) {
        std::fill_n(sums, std::size_t(PRODUCT_ROWS) * call.number, 0.0f);
    }
    emulator::multiply(call.product.f16 ? MMA_F16_K16 : MMA_BF16_K16, PRODUCT_ROWS, call.number, a, b, sums);
}

// The sums for a call that begins with registers: those of the threads that have made it, or new ones.
std::shared_ptr<Sums> Asynchronous::fresh_sums(unsigned columns) {
    Warpgroup &group = warpgroup();
    const std::uint64_t ahead = own().calls - group.performed;
    if (ahead < group.calls.size() && group.calls[ahead].fresh && group.calls[ahead].number == columns) {
        return group.calls[ahead].sums;
    }
    return std::make_shared<Sums>(columns, std::vector<float>(std::size_t(PRODUCT_ROWS) * columns));
}

std::shared_ptr<Left> Asynchronous::take_left(const std::uint32_t *registers) {
    Warpgroup &group = warpgroup();
    const std::uint64_t ahead = own().calls - group.performed;
    std::shared_ptr<Left> left = ahead < group.calls.size() ? group.calls[ahead].left : nullptr;
    if (!left) {
        left = std::make_shared<Left>(PRODUCT_ROWS * TILE_DEPTH);
    }
    OwnLeft taken{registers, {}, own().group_ends.size()};
    std::copy_n(registers, LEFT_REGISTERS, taken.held.begin());
    for (unsigned i = 0; i < 2 * LEFT_REGISTERS; i++) {
        const auto element = static_cast<std::uint16_t>(registers[i / 2] >> (16 * (i % 2)));
        (*left)[place(block.thread().id, i, TILE_DEPTH)] = element;
    }
    own().left_in_flight.push_back(taken);
    return left;
}

void open_products(const Site &site) {
    Asynchronous &asynchronous = Block::current().asynchronous();
    asynchronous.record({Call::Kind::Open, site});
    asynchronous.own().opened = true;
}

void close_products(const Site &site) {
    Asynchronous &asynchronous = Block::current().asynchronous();
    asynchronous.record({Call::Kind::Close, site});
    AsynchronousThread &own = asynchronous.own();
    own.group_ends.push_back(own.calls);
}

void wait_for_products(unsigned pending, std::initializer_list<const float *> named) {
    Block &block = Block::current();
    Asynchronous &asynchronous = block.asynchronous();
    Call call{Call::Kind::Wait, {}};
    call.number = pending;
    asynchronous.record(call);
    AsynchronousThread &own = asynchronous.own();
    if (own.group_ends.size() <= pending) {
        return;
    }
    const std::uint64_t groups = own.group_ends.size() - pending, calls = own.group_ends[groups - 1];
    Warpgroup &group = asynchronous.warpgroup();
    asynchronous.wait_for_calls(group, calls, "wait_for_products for its warpgroup");
    asynchronous.perform(group, calls);
    std::erase_if(own.left_in_flight, [&](const OwnLeft &left) {
        if (left.group >= groups) {
            return false;
        }
        if (has_changed(left)) {
            block.fail("the thread wrote to A in registers of a product in flight");
        }
        return true;
    });
    std::erase_if(own.in_flight, [&](const OwnSums &sums) {
        if (sums.group >= groups || std::find(named.begin(), named.end(), sums.registers) == named.end()) {
            return false;
        }
        if (!put_back(sums, block.thread().id)) {
            block.fail("the thread wrote to sums of a product in flight");
        }
        own.opened = false;
        return true;
    });
    block.cluster->maybe_switch();
}

namespace {

// A product with the sums at d; A is described by `a`, or lies in the registers at `left`.
void multiply(float *d, unsigned columns, std::uint64_t a, const std::uint32_t *left, std::uint64_t b, Product product,
              const Site &site) {
    Block &block = Block::current();
    Asynchronous &asynchronous = block.asynchronous();
    AsynchronousThread &own = asynchronous.own();
    Call call{Call::Kind::Multiply, site, columns, false, a, b, product};
    if (columns == 0 || columns > MOST_COLUMNS || columns % TILE_COLUMNS != 0) {
        block.fail("a product with " + std::to_string(columns) + " columns, not 8, 16, … 256");
    }
    if (has_unknown_fields(a) || has_unknown_fields(b)) {
        block.fail("a matrix descriptor has a base offset, or a start, lead or stride beyond 256 KiB");
    }
    const auto uses = [&](const OwnSums &sums) { return overlap(sums, d, columns); };
    const auto found = std::find_if(own.in_flight.begin(), own.in_flight.end(), uses);
    call.fresh = found == own.in_flight.end();
    if ((call.fresh || left != nullptr) && !own.opened) {
        block.fail("a product's sums, or its A, were in registers, but open_products did not come after");
    }
    if (!call.fresh && (found->registers != d || found->sums->columns != columns)) {
        block.fail("a product's sums overlap those of another product in flight");
    }
    const std::uint64_t open_group = own.group_ends.size();
    if (left != nullptr) {
        call.left = asynchronous.take_left(left);
    }
    if (call.fresh) {
        call.sums = asynchronous.fresh_sums(columns);
        take(*call.sums, block.thread().id, d, product.add);
        own.in_flight.push_back({call.sums, d, open_group});
    } else {
        call.sums = found->sums;
        found->group = open_group;
    }
    asynchronous.record(call);
}

} // namespace

void multiply_shared(float *d, unsigned columns, std::uint64_t a, std::uint64_t b, Product product, const Site &site) {
    multiply(d, columns, a, nullptr, b, product, site);
}

void multiply_left(float *d, unsigned columns, const std::uint32_t *a, std::uint64_t b, Product product,
                   const Site &site) {
    multiply(d, columns, 0, a, b, product, site);
}

} // namespace emulator
