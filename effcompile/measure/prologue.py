"""Shortens the opening of the CUDA source that TVM generates.

TVM opens every kernel with C++ standard-library headers for a handful of integer
names. They cost most of a second per compilation; the same names as typedefs cost
nothing. Sources that need more than the names keep the headers. nvcc has the names from
headers of its own, and would refuse to see them a second time.
"""

from __future__ import annotations

_OPEN = "#ifdef __CUDACC_RTC__"
_CLOSE = "#include <cuda.h>\n#endif"

_NAMES = f"""\
{_OPEN}
typedef signed char int8_t;
typedef unsigned char uint8_t;
typedef short int16_t;
typedef unsigned short uint16_t;
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
#endif
"""
_MACROS = """\
#define __asm__ asm
#define __volatile__ volatile
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif
"""
# TMA kernels take this struct by value; the header that defines it is for hosts only.
_TENSOR_MAP = """\
struct alignas(64) CUtensorMap_st { unsigned long long opaque[16]; };
typedef struct CUtensorMap_st CUtensorMap;
"""
# TVM prints eight int32 lanes as a type of four, and makes it from eight values; likewise eight
# 16-bit elements that are read at such places.
_EIGHT_LANES = """\
template <class Whole, class Lane>
__device__ __forceinline__ Whole effcompile_eight(Lane a, Lane b, Lane c, Lane d, Lane e, Lane f,
                                                  Lane g, Lane h) {
  static_assert(sizeof(Whole) == 8 * sizeof(Lane), "eight lanes");
  alignas(Whole) Lane lanes[8] = {a, b, c, d, e, f, g, h};
  return *(Whole*)lanes;
}
#define EFFCOMPILE_EIGHT(whole)                                                               \\
  template <class T>                                                                          \\
  __device__ __forceinline__ whole make_##whole(T a, T b, T c, T d, T e, T f, T g, T h) {     \\
    return effcompile_eight<whole, T>(a, b, c, d, e, f, g, h);                                \\
  }
EFFCOMPILE_EIGHT(longlong4)
EFFCOMPILE_EIGHT(uint4)
"""


def slim(source: str) -> str | None:
    """The source with typedefs in place of headers; ``None`` if it does not open as expected."""
    start = source.find(_OPEN)
    end = source.find(_CLOSE, start)
    if start < 0 or end < 0:
        return None
    rest = source[end + len(_CLOSE) :]
    if "std::" in rest or "#include <cuda/" in rest:
        return None
    return _tensor_map(rest) + _eight_lanes(rest) + _NAMES + _MACROS + source[:start] + rest


def full(source: str) -> str:
    """The source as generated, with what run-time compilation does not provide."""
    own = _guarded(_tensor_map(source)) + _eight_lanes(source)
    return own + "#include <cuda/std/limits>\n" + _MACROS + source


def _guarded(text: str) -> str:
    """For run-time compilation only: nvcc reads the header of hosts, and with it the struct."""
    return f"{_OPEN}\n{text}#endif\n" if text else ""


def _tensor_map(source: str) -> str:
    return _TENSOR_MAP if "CUtensorMap" in source else ""


def _eight_lanes(source: str) -> str:
    return _EIGHT_LANES if "make_longlong4(" in source else ""
