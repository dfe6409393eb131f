// Latent pixels to tokens and back.
//
//     patch_embed   out[t, o] = bias[o] + Σ_k pixels[t, k] · weight[o, k]
//     unpatchify    out[f, y, x, c] = in[f, token of (y, x), y % patch, x % patch, c] for c < kept
//
// k runs over (row in patch, column in patch, channel).
//
// patch_embed: x [frames, height, width, cin], weight [cout, patch, patch, cin], bias [cout], out [frames · tokens of a
// frame, cout], T. unpatchify: x [frames, rows · columns, patch, patch, channels], out [frames, rows · patch,
// columns · patch, kept], T. Heights are whole patches, so rows of patches continue from one frame to the next.
//
// patch_embed, for 2×2 patches of 4 channels: each output has too few products for tensor cores to matter. A thread
// holds the 16 weights of each of 4 output channels in f32, and computes 8 tokens with them, two in a pass. A token's
// pixels take two 16-byte loads, which are the same for most of the warp. In the ragged instance a thread computes one
// output, for any patch.
// unpatchify: a thread moves one vector of out, 4 channels (a latent's, 8 bytes), or one channel in the ragged
// instance.
//
// Block: 256 threads. Grid: (tokens / 8 · cout / 4) / 256; ragged: tokens · cout / 256; unpatchify: vectors / 256.
// Shared memory: none.
// Limits: patch_embed: patch 2, cin 4, cout a multiple of 4; unpatchify: channels and kept multiples of 4 (ragged: any
// numbers). Fewer than 2^31 threads with work.

#include "common/vec.cuh"

namespace {

constexpr int BLOCK_THREADS = 256;

// patch_embed, not ragged: sizes of a patch, and the channels and tokens of a thread.
constexpr int PATCH = 2;
constexpr int LINE = 8;
constexpr int CHANNELS = 4;
constexpr int TOKENS = 8;
constexpr int PASS = 2;

struct PatchEmbedParams {
    const void *x;
    const void *weight;
    const void *bias;
    void *out;
    // threads with work
    std::int32_t count;
    // tokens of all frames
    std::int32_t tokens;
    // patches of a row
    std::int32_t columns;
    std::int32_t cout;
    std::int32_t patch;
    // elements of one row of a patch: patch · cin
    std::int32_t line;
};

struct UnpatchifyParams {
    const void *x;
    void *out;
    // vectors of out
    std::int32_t count;
    std::int32_t columns;
    std::int32_t patch;
    std::int32_t channels;
    std::int32_t kept;
    std::int32_t padding;
};

// The first element of row `row` of a token's patch.
template <typename T>
__device__ __forceinline__ const T *patch_row(const PatchEmbedParams &p, int token, int row, int patch, int line) {
    const auto pixels = static_cast<std::int64_t>(token / p.columns * patch + row) * p.columns + token % p.columns;
    return static_cast<const T *>(p.x) + pixels * line;
}

template <typename T> __device__ __forceinline__ void patch_embed(const PatchEmbedParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const unsigned groups = p.cout / CHANNELS;
    const int channel = index % groups * CHANNELS, first = index / groups * TOKENS;

    Vec<float, LINE> weights[CHANNELS][PATCH];
#pragma unroll
    for (int c = 0; c < CHANNELS; c++) {
#pragma unroll
        for (int row = 0; row < PATCH; row++) {
            const auto at = (static_cast<std::int64_t>(channel + c) * PATCH + row) * LINE;
            weights[c][row] = load_floats<LINE>(static_cast<const T *>(p.weight) + at);
        }
    }
    const auto bias = load_floats<CHANNELS>(static_cast<const T *>(p.bias) + channel);
    const int end = first + TOKENS < p.tokens ? first + TOKENS : p.tokens;
    const T *pixels = patch_row<T>(p, first, 0, PATCH, LINE);
    T *out = static_cast<T *>(p.out) + static_cast<std::int64_t>(first) * p.cout + channel;
    const std::int64_t next_row = static_cast<std::int64_t>(p.columns) * LINE;
    // Pointer steps replace divisions: to the next patch, and at the end of a row of patches over its other rows of
    // pixels.
    int column = first % p.columns;
    for (int token = first; token < end; token += PASS) {
        // All loads of a pass come first, so that they are in flight together. Behind the end, the last token is loaded
        // again.
        Vec<float, LINE> patches[PASS][PATCH];
#pragma unroll
        for (int i = 0; i < PASS; i++) {
#pragma unroll
            for (int row = 0; row < PATCH; row++) {
                patches[i][row] = load_floats<LINE>(pixels + row * next_row);
            }
            if (token + i + 1 < end) {
                pixels += LINE;
                if (++column == p.columns) {
                    column = 0;
                    pixels += (PATCH - 1) * next_row;
                }
            }
        }
#pragma unroll
        for (int i = 0; i < PASS; i++) {
            auto sums = bias;
#pragma unroll
            for (int row = 0; row < PATCH; row++) {
#pragma unroll
                for (int c = 0; c < CHANNELS; c++) {
#pragma unroll
                    for (int k = 0; k < LINE; k++) {
                        sums[c] += patches[i][row][k] * weights[c][row][k];
                    }
                }
            }
            if (token + i < end) {
                store_floats<T>(out, sums);
                out += p.cout;
            }
        }
    }
}

template <typename T> __device__ __forceinline__ void patch_embed_ragged(const PatchEmbedParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const int channel = index % p.cout, token = index / p.cout;
    const T *weight = static_cast<const T *>(p.weight) + static_cast<std::int64_t>(channel) * p.patch * p.line;
    float sum = to_float(load_global(static_cast<const T *>(p.bias) + channel));
    for (int row = 0; row < p.patch; row++) {
        const T *pixels = patch_row<T>(p, token, row, p.patch, p.line);
        for (int k = 0; k < p.line; k++) {
            sum += to_float(load_global(pixels + k)) * to_float(load_global(weight + row * p.line + k));
        }
    }
    store_global(static_cast<T *>(p.out) + index, from_float<T>(sum));
}

template <typename T, int WIDTH> __device__ __forceinline__ void unpatchify(const UnpatchifyParams &p) {
    const unsigned index = blockIdx.x * BLOCK_THREADS + threadIdx.x;
    if (index >= static_cast<unsigned>(p.count)) {
        return;
    }
    const unsigned patch = p.patch, columns = p.columns, vectors = p.kept / WIDTH;
    const unsigned pixel = index / vectors, width = columns * patch;
    const unsigned y = pixel / width, x = pixel % width;
    const std::int64_t token = static_cast<std::int64_t>(y / patch) * columns + x / patch;
    const std::int64_t place = (token * patch + y % patch) * patch + x % patch;
    const T *from = static_cast<const T *>(p.x) + place * p.channels + index % vectors * WIDTH;
    const auto values = load_global(reinterpret_cast<const Vec<T, WIDTH> *>(from));
    store_global(static_cast<Vec<T, WIDTH> *>(p.out) + index, values);
}

} // namespace

KERNEL(patch_embed_f16, BLOCK_THREADS, PatchEmbedParams) { patch_embed<f16>(p); }
KERNEL(patch_embed_bf16, BLOCK_THREADS, PatchEmbedParams) { patch_embed<bf16>(p); }
KERNEL(patch_embed_ragged_f16, BLOCK_THREADS, PatchEmbedParams) { patch_embed_ragged<f16>(p); }
KERNEL(patch_embed_ragged_bf16, BLOCK_THREADS, PatchEmbedParams) { patch_embed_ragged<bf16>(p); }
KERNEL(unpatchify_f16, BLOCK_THREADS, UnpatchifyParams) { unpatchify<f16, 4>(p); }
KERNEL(unpatchify_bf16, BLOCK_THREADS, UnpatchifyParams) { unpatchify<bf16, 4>(p); }
KERNEL(unpatchify_ragged_f16, BLOCK_THREADS, UnpatchifyParams) { unpatchify<f16, 1>(p); }
KERNEL(unpatchify_ragged_bf16, BLOCK_THREADS, UnpatchifyParams) { unpatchify<bf16, 1>(p); }

KERNEL_FILE(patch);
