// Look-up of rows in a table, and addition of a table to many rows.
//
//     embedding   out[t, c] = table[ids[t], c]
//     add_rows    x[o, r, i, c] += table[r, c]
//
// embedding: ids [tokens], u32, each below the vocabulary's size (the host checks); table [vocabulary, channels] and
// out [tokens, channels], T. add_rows: x [outer, rows, inner, channels], in place, and table [rows, channels], T.
//
// A thread handles one vector of out (x): eight channels, or one in the ragged instances. The vector's index gives its
// row and its channels, and its row gives the row of the table. embedding moves bits; add_rows adds in f32.
// Neighbouring threads touch neighbouring memory, and repeated reads hit the caches.
//
// Block: 256 threads. Grid: vectors / 256. Shared memory: none.
// Limits: channels a multiple of 8 (ragged: any number); fewer than 2^31 vectors.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

struct EmbeddingParams {
    const void *ids;
    const void *table;
    void *out;
    // vectors of out
    std::int32_t count;
    std::int32_t channels;
};

struct AddRowsParams {
    const void *table;
    void *x;
    // vectors of x
    std::int32_t count;
    std::int32_t rows;
    std::int32_t inner;
    std::int32_t channels;
};

template <typename T, int WIDTH> __device__ __forceinline__ void embedding(const EmbeddingParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const unsigned vectors = p.channels / WIDTH;
    const auto id = load_global(static_cast<const std::uint32_t *>(p.ids) + index / vectors);
    const auto *table = static_cast<const Vec<T, WIDTH> *>(p.table);
    const auto row = load_global(table + static_cast<std::int64_t>(id) * vectors + index % vectors);
    store_global(static_cast<Vec<T, WIDTH> *>(p.out) + index, row);
}

template <typename T, int WIDTH> __device__ __forceinline__ void add_rows(const AddRowsParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const unsigned vectors = p.channels / WIDTH;
    const unsigned row = index / vectors / p.inner % p.rows;
    const auto place = static_cast<std::int64_t>(row) * vectors + index % vectors;
    const auto added = load_floats<WIDTH>(static_cast<const T *>(p.table) + place * WIDTH);
    T *x = static_cast<T *>(p.x) + static_cast<std::int64_t>(index) * WIDTH;
    auto sum = load_floats<WIDTH>(x);
#pragma unroll
    for (int i = 0; i < WIDTH; i++) {
        sum[i] += added[i];
    }
    store_floats<T>(x, sum);
}

} // namespace

KERNEL(embedding_f16, BLOCK_THREADS, EmbeddingParams) { embedding<f16, 8>(p); }
KERNEL(embedding_bf16, BLOCK_THREADS, EmbeddingParams) { embedding<bf16, 8>(p); }
KERNEL(embedding_ragged_f16, BLOCK_THREADS, EmbeddingParams) { embedding<f16, 1>(p); }
KERNEL(embedding_ragged_bf16, BLOCK_THREADS, EmbeddingParams) { embedding<bf16, 1>(p); }
KERNEL(add_rows_f16, BLOCK_THREADS, AddRowsParams) { add_rows<f16, 8>(p); }
KERNEL(add_rows_bf16, BLOCK_THREADS, AddRowsParams) { add_rows<bf16, 8>(p); }
KERNEL(add_rows_ragged_f16, BLOCK_THREADS, AddRowsParams) { add_rows<f16, 1>(p); }
KERNEL(add_rows_ragged_bf16, BLOCK_THREADS, AddRowsParams) { add_rows<bf16, 1>(p); }

KERNEL_FILE(embed);
