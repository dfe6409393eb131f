"""As much of PyTorch as cublaslt.py needs, on the CPU: tensors of 16 bits in memory, and tensors of floats as lists."""

import ctypes
import math
import struct

float16, bfloat16, uint8 = "f16", "bf16", "u8"


class Name:
    pass


def encoded(value, dtype):
    if dtype == float16:
        return struct.unpack("<H", struct.pack("<e", value))[0]
    wide, = struct.unpack("<I", struct.pack("<f", value))
    return (wide + 0x7FFF + (wide >> 16 & 1)) >> 16


def decoded(bits, dtype):
    if dtype == float16:
        return struct.unpack("<e", struct.pack("<H", bits))[0]
    return struct.unpack("<f", struct.pack("<I", bits << 16))[0]


class Tensor:
    def __init__(self, shape, dtype):
        self.shape, self.dtype, self.device = shape, dtype, "cpu"
        self.bits = ((ctypes.c_uint8 if dtype == uint8 else ctypes.c_uint16) * math.prod(shape))()

    def data_ptr(self):
        return ctypes.addressof(self.bits)

    def zero_(self):
        ctypes.memset(self.bits, 0, ctypes.sizeof(self.bits))

    def float(self):
        return Floats(self.shape, [decoded(bits, self.dtype) for bits in self.bits])


class Floats:
    def __init__(self, shape, values):
        self.shape, self.values = shape, values

    def __sub__(self, other):
        return Floats(self.shape, [a - b for a, b in zip(self.values, other.values)])

    def norm(self):
        return math.sqrt(sum(value * value for value in self.values))


def tensor(shape, dtype, value):
    """A tensor whose element i is value(i)."""
    made = Tensor(shape, dtype)
    made.bits[:] = [encoded(value(i), dtype) for i in range(math.prod(shape))]
    return made


def empty(*shape, device, dtype):
    return Tensor(shape, dtype)


def linear(x, weight, bias):
    (m, k), n = x.shape, weight.shape[0]
    dot = lambda i, j: sum(x.values[i * k + t] * weight.values[j * k + t] for t in range(k))
    return Floats((m, n), [dot(i, j) + bias.values[j] for i in range(m) for j in range(n)])


def gelu(x, approximate):
    assert approximate == "tanh"
    return Floats(x.shape, [0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3))) for v in x.values])


version, cuda, nn, stream = Name(), Name(), Name(), Name()
version.cuda = "99.0"
stream.cuda_stream = 0x5EED
cuda.current_stream = lambda: stream
nn.functional = Name()
nn.functional.linear, nn.functional.gelu = linear, gelu
