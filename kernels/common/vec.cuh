// Access to global memory by values of up to sixteen bytes. Kernels access it only through these functions, so that the
// emulator can check place and alignment.
#pragma once

#include "numeric.cuh"

// N values that are loaded and stored together.
template <typename T, int N> struct alignas(sizeof(T) * N) Vec {
    T values[N];

    __device__ __forceinline__ T &operator[](int i) { return values[i]; }
    __device__ __forceinline__ const T &operator[](int i) const { return values[i]; }
};

// The number of values that one instruction moves.
template <typename T> constexpr int VEC_WIDTH = 16 / static_cast<int>(sizeof(T));
template <typename T> using WideVec = Vec<T, VEC_WIDTH<T>>;

// Reads a value, or a Vec, of this launch's inputs or outputs.
template <typename V> __device__ __forceinline__ V load_global(const V *from) {
    static_assert(sizeof(V) <= 16, "one access moves at most sixteen bytes");
#ifndef __CUDACC__
    emulator::check_access(from, sizeof(V), "load");
#endif
    return *from;
}

template <typename V> __device__ __forceinline__ void store_global(V *to, const V &value) {
    static_assert(sizeof(V) <= 16, "one access moves at most sixteen bytes");
#ifndef __CUDACC__
    emulator::check_access(to, sizeof(V), "store");
#endif
    *to = value;
}

// N loaded values, two in each register, until they are needed. In a Vec, the compiler may use one register for each
// value.
template <typename T, int N> struct Packed {
    Vec<std::uint32_t, N / 2> pairs;

    __device__ __forceinline__ float operator[](int i) const {
        return i % 2 == 0 ? unpack_low<T>(pairs[i / 2]) : unpack_high<T>(pairs[i / 2]);
    }
};
template <typename T> struct Packed<T, 1> {
    T value;

    __device__ __forceinline__ float operator[](int) const { return to_float(value); }
};

template <int N, typename T> __device__ __forceinline__ Packed<T, N> load_packed(const T *from) {
    return load_global(reinterpret_cast<const Packed<T, N> *>(from));
}

// Loads N values as f32 from `from`, which is aligned to N values.
template <int N, typename T> __device__ __forceinline__ Vec<float, N> load_floats(const T *from) {
    const auto values = load_global(reinterpret_cast<const Vec<T, N> *>(from));
    Vec<float, N> floats;
#pragma unroll
    for (int i = 0; i < N; i++) {
        floats[i] = to_float(values[i]);
    }
    return floats;
}

template <typename T, int N> __device__ __forceinline__ void store_floats(T *to, const Vec<float, N> &floats) {
    Vec<T, N> values;
#pragma unroll
    for (int i = 0; i < N; i++) {
        values[i] = from_float<T>(floats[i]);
    }
    store_global(reinterpret_cast<Vec<T, N> *>(to), values);
}
