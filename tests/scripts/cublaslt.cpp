// A stand-in for libcublasLt on the CPU, as cublasLt.h describes it: matrices by columns, D = f(op(A)·op(B) + bias). It knows
// only what a linear layer needs, and refuses everything else. Its heuristic proposes four algorithms: the first cannot be used,
// the second computes wrongly. $REFUSES names a function that fails. It writes a line for each product to $CALLS.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_16F = 2, R_16BF = 14 };

struct Desc {
    int compute, scale, transa = 0, transb = 0;
    unsigned epilogue = 1;
    const std::uint16_t *bias = nullptr;
};

struct Layout {
    int type;
    std::uint64_t rows, columns;
    std::int64_t ld;
};

struct Preference {
    std::size_t workspace = 0;
};

struct Algorithm {
    std::uint64_t data[8];
};

struct Heuristic {
    Algorithm algorithm;
    std::size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

Status answer(const char *function, bool valid = true) {
    const char *refused = std::getenv("REFUSES");
    if (refused != nullptr && std::strcmp(refused, function) == 0) {
        return NOT_SUPPORTED;
    }
    return valid ? SUCCESS : INVALID_VALUE;
}

float decode(std::uint16_t bits, int type) {
    if (type == R_16BF) {
        const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
        float value;
        std::memcpy(&value, &wide, sizeof value);
        return value;
    }
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const float size = exponent == 0 ? std::ldexp(float(fraction), -24) : std::ldexp(float(1024 + fraction), exponent - 25);
    return bits >> 15 ? -size : size;
}

std::uint16_t encode(float value, int type) {
    std::uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    if (type == R_16BF) {
        return static_cast<std::uint16_t>((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
    }
    int exponent;
    int fraction = static_cast<int>(std::lrint(std::ldexp(std::frexp(std::fabs(value), &exponent), 11)));
    if (fraction == 2048) {
        fraction = 1024, exponent++;
    }
    const std::uint32_t sign = wide >> 16 & 0x8000;
    return static_cast<std::uint16_t>(value == 0 || exponent < -13 ? sign : sign | (exponent + 14) << 10 | (fraction - 1024));
}

// Element (row, column) of op(matrix).
float at(const void *matrix, const Layout &layout, bool transposed, std::uint64_t row, std::uint64_t column) {
    const std::uint64_t place = transposed ? row * layout.ld + column : column * layout.ld + row;
    return decode(static_cast<const std::uint16_t *>(matrix)[place], layout.type);
}

template <typename T> int set(T &field, const void *from, std::size_t bytes) {
    if (bytes != sizeof(T)) {
        return INVALID_VALUE;
    }
    std::memcpy(&field, from, bytes);
    return SUCCESS;
}

} // namespace

extern "C" {

const char *cublasLtGetStatusName(int status) {
    return status == INVALID_VALUE   ? "CUBLAS_STATUS_INVALID_VALUE"
           : status == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
                                     : "another status";
}

int cublasLtCreate(void **handle) {
    *handle = reinterpret_cast<void *>(0x1234567890ull);
    return answer("cublasLtCreate");
}

int cublasLtMatmulDescCreate(Desc **desc, int compute, int scale) {
    *desc = new Desc{compute, scale};
    // CUBLAS_COMPUTE_32F
    return answer("cublasLtMatmulDescCreate", compute == 68 && scale == R_32F);
}

int cublasLtMatmulDescSetAttribute(Desc *desc, int attribute, const void *value, std::size_t bytes) {
    switch (attribute) {
    case 3: return set(desc->transa, value, bytes);
    case 4: return set(desc->transb, value, bytes);
    case 7: return set(desc->epilogue, value, bytes);
    case 8: return set(desc->bias, value, bytes);
    default: return INVALID_VALUE;
    }
}

int cublasLtMatmulDescDestroy(Desc *desc) {
    delete desc;
    return SUCCESS;
}

int cublasLtMatrixLayoutCreate(Layout **layout, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t ld) {
    *layout = new Layout{type, rows, columns, ld};
    const bool valid = (type == R_16F || type == R_16BF) && ld >= static_cast<std::int64_t>(rows);
    return answer("cublasLtMatrixLayoutCreate", valid);
}

int cublasLtMatrixLayoutDestroy(Layout *layout) {
    delete layout;
    return SUCCESS;
}

int cublasLtMatmulPreferenceCreate(Preference **preference) {
    *preference = new Preference;
    return answer("cublasLtMatmulPreferenceCreate");
}

int cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute, const void *value, std::size_t bytes) {
    return attribute == 1 ? set(preference->workspace, value, bytes) : INVALID_VALUE;
}

int cublasLtMatmulPreferenceDestroy(Preference *preference) {
    delete preference;
    return SUCCESS;
}

int cublasLtMatmulAlgoGetHeuristic(void *handle, const Desc *desc, const Layout *a, const Layout *b, const Layout *c,
                                   const Layout *d, const Preference *preference, int asked, Heuristic *found, int *count) {
    const std::uint64_t inner = desc->transa ? a->rows : a->columns, m = desc->transa ? a->columns : a->rows;
    const bool fits = inner == (desc->transb ? b->columns : b->rows) && c == d && d->rows == m &&
                      d->columns == (desc->transb ? b->rows : b->columns);
    for (*count = 0; *count < 4 && *count < asked; ++*count) {
        found[*count] = {{{static_cast<std::uint64_t>(*count), 77}}, preference->workspace, *count == 0 ? NOT_SUPPORTED : SUCCESS};
    }
    return answer("cublasLtMatmulAlgoGetHeuristic", fits && handle == reinterpret_cast<void *>(0x1234567890ull));
}

int cublasLtMatmul(void *, const Desc *desc, const float *alpha, const void *a, const Layout *a_layout, const void *b,
                   const Layout *b_layout, const float *beta, const void *c, const Layout *, void *d, const Layout *layout,
                   const Algorithm *algorithm, void *workspace, std::size_t bytes, void *stream) {
    std::FILE *calls = std::fopen(std::getenv("CALLS"), "a");
    std::fprintf(calls, "%d: %lu x %lu, type %d, epilogue %u, workspace %zu, stream %p\n", static_cast<int>(algorithm->data[0]),
                 layout->rows, layout->columns, layout->type, desc->epilogue, bytes, stream);
    std::fclose(calls);
    const bool valid = *alpha == 1 && *beta == 0 && c == d && algorithm->data[1] == 77 && (desc->epilogue & ~32u) == 4;
    if (const Status status = answer("cublasLtMatmul", valid); status != SUCCESS) {
        return status;
    }
    // Tensors of a mock have no memory.
    if (a == nullptr) {
        return SUCCESS;
    }
    std::memset(workspace, 1, bytes);
    const std::uint64_t inner = desc->transa ? a_layout->rows : a_layout->columns;
    for (std::uint64_t column = 0; column < layout->columns; column++) {
        for (std::uint64_t row = 0; row < layout->rows; row++) {
            float sum = decode(desc->bias[row], layout->type) + (algorithm->data[0] == 1 ? 1.0f : 0.0f);
            for (std::uint64_t k = 0; k < inner; k++) {
                sum += at(a, *a_layout, desc->transa != 0, row, k) * at(b, *b_layout, desc->transb != 0, k, column);
            }
            if (desc->epilogue & 32) {
                sum = 0.5f * sum * (1 + std::tanh(0.79788456f * (sum + 0.044715f * sum * sum * sum)));
            }
            static_cast<std::uint16_t *>(d)[column * layout->ld + row] = encode(sum, layout->type);
        }
    }
    return SUCCESS;
}
}
