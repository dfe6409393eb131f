"""A linear layer by NVIDIA's cuBLASLt, with bias and GELU in its own epilogue. Its memory and its stream are PyTorch's.

    y = f(x·Wᵀ + bias)    x [m, k], W [n, k], bias [n], y [m, n]: f16 or bf16; sums: f32; f: none, or GELU's tanh form

cuBLASLt stores matrices by columns, so each of ours is its transpose there. It computes yᵀ = f(W·xᵀ + bias) from a matrix
[k, n], which it transposes, and a matrix [k, m]. The bias then has an element for each row, as the epilogue wants.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any, Callable, Iterator, List

# Values of cublasLt.h, cublas_api.h and library_types.h, read in the headers of cuBLAS 13.1. cudarc's bindings have the same for
# CUDA 11.4 to 13.4.
SUCCESS, TRANSPOSED = 0, 1
COMPUTE_F32, REAL_F32, REAL_F16, REAL_BF16 = 68, 0, 2, 14
DESC_TRANSA, DESC_EPILOGUE, DESC_BIAS_POINTER = 3, 7, 8
EPILOGUE_BIAS, EPILOGUE_GELU_BIAS = 4, 36
PREFERENCE_WORKSPACE = 1

# Bytes that an algorithm may use, and the number of algorithms that are tried.
WORKSPACE, ALGORITHMS = 32 << 20, 8
# The allowed relative difference (L2) to a product in f32. Rounding the result makes 1e-4 of f16, 1e-3 of bf16.
ALLOWED = {"f16": 2e-3, "bf16": 1e-2}


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: an algorithm, and whether it can be used."""

    _fields_ = [("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("state", c_int), ("waves", c_float),
                ("reserved", c_int * 4)]


# The parameters of each function; all of them return a status.
HANDLE, BUFFER = POINTER(c_void_p), c_void_p
FUNCTIONS = {
    "cublasLtCreate": [HANDLE],
    "cublasLtMatmulDescCreate": [HANDLE, c_int, c_int],
    "cublasLtMatmulDescSetAttribute": [c_void_p, c_int, BUFFER, c_size_t],
    "cublasLtMatmulDescDestroy": [c_void_p],
    "cublasLtMatrixLayoutCreate": [HANDLE, c_int, c_uint64, c_uint64, c_int64],
    "cublasLtMatrixLayoutDestroy": [c_void_p],
    "cublasLtMatmulPreferenceCreate": [HANDLE],
    "cublasLtMatmulPreferenceSetAttribute": [c_void_p, c_int, BUFFER, c_size_t],
    "cublasLtMatmulPreferenceDestroy": [c_void_p],
    "cublasLtMatmulAlgoGetHeuristic": [c_void_p] * 7 + [c_int, POINTER(Heuristic), POINTER(c_int)],
    # Handle and descriptor; alpha; A, B with their layouts; beta; C, D with their layouts; algorithm; workspace; stream.
    "cublasLtMatmul": [c_void_p] * 14 + [c_size_t, c_void_p],
}


class Refused(Exception):
    """A failed call, with the name of its status; or a library that is missing."""


def places(torch: Any) -> Iterator[str]:
    """Where the library of PyTorch's CUDA may be: as the loader finds it, in PyTorch's packages, in CUDA's folder."""
    name = f"libcublasLt.so.{torch.version.cuda.split('.')[0]}"
    yield name
    packages = Path(torch.__file__).resolve().parents[1] / "nvidia"
    for folder in (packages, Path("/usr/local/cuda")):
        yield from (str(path) for pattern in (f"*/lib/{name}", f"lib64/{name}") for path in sorted(folder.glob(pattern)))


class Library:
    """The library with a handle. PyTorch has opened the GPU before."""

    def __init__(self, torch: Any) -> None:
        tried: List[str] = []
        for place in places(torch):
            try:
                self.library = ctypes.CDLL(place)
                break
            except OSError:
                tried.append(place)
        else:
            raise Refused(f"cuBLASLt cannot be loaded: tried {', '.join(tried)}")
        for name, parameters in FUNCTIONS.items():
            getattr(self.library, name).argtypes = parameters
        self.library.cublasLtGetStatusName.restype = c_char_p
        self.handle = c_void_p()
        self.call("cublasLtCreate", ctypes.byref(self.handle))

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status != SUCCESS:
            raise Refused(f"{name}: {self.library.cublasLtGetStatusName(status).decode()}")

    def make(self, kind: str, *arguments: Any) -> "Owned":
        return Owned(self, kind, arguments)


class Owned:
    """A descriptor, which is destroyed with its owner."""

    def __init__(self, library: Library, kind: str, arguments: tuple) -> None:
        self.library, self.kind, self.handle = library, kind, c_void_p()
        library.call(f"cublasLt{kind}Create", ctypes.byref(self.handle), *arguments)

    def set(self, attribute: int, value: Any) -> None:
        self.library.call(f"cublasLt{self.kind}SetAttribute", self.handle, attribute, ctypes.byref(value), ctypes.sizeof(value))

    def __del__(self) -> None:
        if self.handle:
            getattr(self.library.library, f"cublasLt{self.kind}Destroy")(self.handle)


class Product:
    """One linear layer. `x`, `weight` and `bias` are tensors, contiguous by rows."""

    def __init__(self, library: Library, torch: Any, x: Any, weight: Any, bias: Any, gelu: bool) -> None:
        (m, k), n = x.shape, weight.shape[0]
        self.library, self.torch, self.x, self.weight, self.bias, self.gelu = library, torch, x, weight, bias, gelu
        self.out = torch.empty(m, n, device=x.device, dtype=x.dtype)
        self.workspace = torch.empty(WORKSPACE, device=x.device, dtype=torch.uint8)
        half = REAL_BF16 if x.dtype == torch.bfloat16 else REAL_F16
        self.work = library.make("MatmulDesc", COMPUTE_F32, REAL_F32)
        self.work.set(DESC_TRANSA, c_int32(TRANSPOSED))
        self.work.set(DESC_EPILOGUE, c_uint32(EPILOGUE_GELU_BIAS if gelu else EPILOGUE_BIAS))
        self.work.set(DESC_BIAS_POINTER, c_void_p(bias.data_ptr()))
        self.layouts = [library.make("MatrixLayout", half, k, columns, k) for columns in (n, m)]
        self.result = library.make("MatrixLayout", half, n, m, n)

    def algorithms(self) -> List[Heuristic]:
        """The algorithms that the library proposes, the most promising first."""
        preference = self.library.make("MatmulPreference")
        preference.set(PREFERENCE_WORKSPACE, c_size_t(WORKSPACE))
        found, count = (Heuristic * ALGORITHMS)(), c_int()
        layouts = [layout.handle for layout in (*self.layouts, self.result, self.result)]
        self.library.call("cublasLtMatmulAlgoGetHeuristic", self.library.handle, self.work.handle, *layouts, preference.handle,
                          ALGORITHMS, found, ctypes.byref(count))
        usable = [each for each in found[: count.value] if each.state == SUCCESS]
        if not usable:
            raise Refused(f"cublasLtMatmulAlgoGetHeuristic: no algorithm of {count.value} can be used")
        return usable

    def run(self, algorithm: Heuristic) -> None:
        """Starts the product on PyTorch's stream."""
        one, zero, (weight, x), result = c_float(1), c_float(0), self.layouts, self.result.handle
        out, stream = self.out.data_ptr(), self.torch.cuda.current_stream().cuda_stream
        self.library.call("cublasLtMatmul", self.library.handle, self.work.handle, ctypes.addressof(one),
                          self.weight.data_ptr(), weight.handle, self.x.data_ptr(), x.handle, ctypes.addressof(zero),
                          out, result, out, result, ctypes.addressof(algorithm.algorithm), self.workspace.data_ptr(),
                          WORKSPACE, stream)

    def expected(self) -> Any:
        """PyTorch's result in f32."""
        functional = self.torch.nn.functional
        sums = functional.linear(self.x.float(), self.weight.float(), self.bias.float())
        return functional.gelu(sums, approximate="tanh") if self.gelu else sums

    def check(self, algorithm: Heuristic, expected: Any) -> None:
        """Refuses an algorithm whose result differs too much (L2)."""
        self.out.zero_()
        self.run(algorithm)
        off = float((self.out.float() - expected).norm() / expected.norm())
        allowed = ALLOWED["bf16" if self.x.dtype == self.torch.bfloat16 else "f16"]
        # A NaN is wrong, too.
        if not off <= allowed:
            raise Refused(f"cublasLtMatmul: the result is off by {off:.2g}, {allowed:.2g} is allowed")

    def fastest(self, time: Callable[[Callable[[], None]], float]) -> Heuristic:
        """The fastest of the proposed algorithms, by a few runs of each; those that fail or are wrong are left out."""
        expected, times, problems = self.expected(), [], []
        for number, algorithm in enumerate(self.algorithms()):
            try:
                self.check(algorithm, expected)
                times.append((time(lambda: self.run(algorithm)), number, algorithm))
            except Refused as refused:
                problems.append(refused)
        if not times:
            raise problems[0]
        return min(times, key=lambda tried: tried[0])[2]


OPENED: List[Library] = []


def work(torch: Any, x: Any, weight: Any, bias: Any, gelu: bool, time: Callable) -> Callable[[], None]:
    """The layer by the library's fastest algorithm, as a function to time. `time` gives milliseconds of such a function."""
    if not OPENED:
        OPENED.append(Library(torch))
    product = Product(OPENED[0], torch, x, weight, bias, gelu)
    algorithm = product.fastest(time)
    return lambda: product.run(algorithm)
