"""CUDA kernels that count what is not as expected, in device memory.

Each adds to a counter the elements for which it cannot vouch; NaN is never vouched for.
Blocks and threads of any number share the work.

    outside_bounds_T   values[i] against lowest[i] and highest[i]
    outside_rows_T     the same for some rows of values; bounds are stored for these alone
    outside_limits_T   values[i] against one pair of bounds
    rows_differ        some rows of an array against rows that are stored alone (counts bytes)
    bytes_differ       two arrays on 16-byte boundaries (counts 16 bytes as one)
    bytes_unlike       bytes against one value
"""

from __future__ import annotations

# Floats whose values are exact in float32, and the suffix of their kernels.
FLOAT_KERNELS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
# Integers, likewise: they have limits, and are compared by their bytes.
INTEGER_KERNELS = {"int8": "i8", "uint8": "u8", "uint16": "u16"}

SOURCE = r"""
typedef unsigned long long u64;

struct F32 {
    typedef float stored;
    static __device__ float wide(float value) { return value; }
};
struct F16 {
    typedef unsigned short stored;
    static __device__ float wide(unsigned short bits) {
        float value;
        asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
        return value;
    }
};
struct BF16 {
    typedef unsigned short stored;
    static __device__ float wide(unsigned short bits) {
        return __uint_as_float((unsigned int)bits << 16);
    }
};

template <typename T>
struct Integer {
    typedef T stored;
    static __device__ float wide(T value) { return (float)value; }
};

static __device__ u64 first() { return (u64)blockIdx.x * blockDim.x + threadIdx.x; }
static __device__ u64 step() { return (u64)gridDim.x * blockDim.x; }
static __device__ void add(u64* count, u64 found) { if (found) atomicAdd(count, found); }

// False for NaN.
static __device__ bool inside(float value, float lowest, float highest) {
    return value >= lowest && value <= highest;
}

template <typename T>
static __device__ void outside_bounds(
    const typename T::stored* values, const float* lowest, const float* highest, u64 n, u64* count
) {
    u64 found = 0;
    #pragma unroll 4
    for (u64 i = first(); i < n; i += step())
        found += !inside(T::wide(values[i]), lowest[i], highest[i]);
    add(count, found);
}

template <typename T>
static __device__ void outside_rows(
    const typename T::stored* values, const long long* rows, const float* lowest,
    const float* highest, u64 width, u64 n_rows, u64* count
) {
    u64 found = 0;
    for (u64 r = blockIdx.x; r < n_rows; r += gridDim.x)
        for (u64 c = threadIdx.x; c < width; c += blockDim.x)
            found += !inside(
                T::wide(values[(u64)rows[r] * width + c]),
                lowest[r * width + c], highest[r * width + c]
            );
    add(count, found);
}

template <typename T>
static __device__ void outside_limits(
    const typename T::stored* values, float lowest, float highest, u64 n, u64* count
) {
    u64 found = 0;
    #pragma unroll 4
    for (u64 i = first(); i < n; i += step())
        found += !inside(T::wide(values[i]), lowest, highest);
    add(count, found);
}

#define LIMITS(suffix, T) \
extern "C" __global__ void outside_limits_##suffix( \
    const T::stored* values, float lowest, float highest, u64 n, u64* count \
) { outside_limits<T>(values, lowest, highest, n, count); }

#define KERNELS(suffix, T) \
LIMITS(suffix, T) \
extern "C" __global__ void outside_bounds_##suffix( \
    const T::stored* values, const float* lowest, const float* highest, u64 n, u64* count \
) { outside_bounds<T>(values, lowest, highest, n, count); } \
extern "C" __global__ void outside_rows_##suffix( \
    const T::stored* values, const long long* rows, const float* lowest, const float* highest, \
    u64 width, u64 n_rows, u64* count \
) { outside_rows<T>(values, rows, lowest, highest, width, n_rows, count); }

KERNELS(f32, F32)
KERNELS(f16, F16)
KERNELS(bf16, BF16)
LIMITS(i8, Integer<signed char>)
LIMITS(u8, Integer<unsigned char>)
LIMITS(u16, Integer<unsigned short>)

extern "C" __global__ void bytes_differ(
    const unsigned char* left, const unsigned char* right, u64 n, u64* count
) {
    const uint4* a = (const uint4*)left;
    const uint4* b = (const uint4*)right;
    u64 found = 0, n_whole = n / 16;
    #pragma unroll 4
    for (u64 i = first(); i < n_whole; i += step()) {
        uint4 x = a[i], y = b[i];
        found += ((x.x ^ y.x) | (x.y ^ y.y) | (x.z ^ y.z) | (x.w ^ y.w)) != 0;
    }
    for (u64 i = n_whole * 16 + first(); i < n; i += step())
        found += left[i] != right[i];
    add(count, found);
}

extern "C" __global__ void rows_differ(
    const unsigned char* values, const long long* rows, const unsigned char* expected,
    u64 width, u64 n_rows, u64* count
) {
    u64 found = 0;
    for (u64 r = blockIdx.x; r < n_rows; r += gridDim.x)
        for (u64 c = threadIdx.x; c < width; c += blockDim.x)
            found += values[(u64)rows[r] * width + c] != expected[r * width + c];
    add(count, found);
}

extern "C" __global__ void bytes_unlike(
    const unsigned char* bytes, unsigned int value, u64 n, u64* count
) {
    u64 found = 0;
    for (u64 i = first(); i < n; i += step())
        found += bytes[i] != value;
    add(count, found);
}
"""
