"""A mock of PyTorch for scripts/gpu-check. Its tensors have no memory, attention crashes, and the clock advances a millisecond
with each reading. A test replaces the comment in `to` by what a convolution does first."""

import os
import time

__version__ = '2.9.0'
float16 = int8 = uint8 = None
bfloat16 = 'bf16'
class Tensor:
    device = dtype = None
    def __init__(self, *shape): self.shape = shape
    def __mul__(self, _): return self
    __sub__ = __truediv__ = __mul__
    def __float__(self): return 0.0
    def t(self): return self
    float = norm = t
    def data_ptr(self): return 0
    def to(self, **_):
        # HANGS
        return self
    def zero_(self): pass
class Event:
    now = 0
    def __init__(self, **_): pass
    def record(self): Event.now += 1; self.at = Event.now
    def elapsed_time(self, other): return float(other.at - self.at)
class Name: pass
class Mode:
    def __enter__(self): pass
    def __exit__(self, *_): pass
inference_mode = Mode
def randn(*shape, **_): return Tensor(*shape)
empty = randn
channels_last_3d = contiguous_format = None
_addmm_activation = lambda *_, **__: None
backends, version, cuda, nn = Name(), Name(), Name(), Name()
backends.cudnn, version.cuda = Name(), '99.0'
backends.cudnn.version = lambda: 91500
cuda.is_available, cuda.get_device_name, cuda.Event = lambda: True, lambda: 'Stand-in', Event
cuda.synchronize = cuda.empty_cache = lambda: None
cuda.current_stream = lambda: stream
stream = Name()
stream.cuda_stream = 0x5EED
nn.functional = Name()
nn.functional.linear = nn.functional.gelu = lambda *_, **__: Tensor()
