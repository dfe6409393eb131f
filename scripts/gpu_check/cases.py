"""The cases that are timed beside PyTorch and cuBLASLt: the shapes of benches/*.rs, and the model's launches of these shapes.

A test compares the shapes with the sources of the benches, and the launches with the model's: it reads the output of
`python3 cases.py TRACE…`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, List, NamedTuple, Optional, Tuple

# The arms of linear layers that are NVIDIA's library alone.
LIBRARY, LIBRARY_BF16 = "cuBLASLt", "cuBLASLt bf16"
# The most elements of a tensor that PyTorch's kernels address safely.
MOST_ELEMENTS = 2**31 - 1


class Launch(NamedTuple):
    """A launch of the model at 65 or 221 frames of 512×512, as in a trace; bytes are those that the operation counts."""

    part: str
    """The start of the kernel's name."""
    flops: Optional[int]
    bytes: int


class Case(NamedTuple):
    """One operation at one size."""

    stem: str
    bench: str
    kind: str
    shape: Tuple[int, ...]
    work: float
    """FLOPs; bytes for operations that are bound by memory."""
    arms: Tuple[str, ...]
    launch: Optional[Launch] = None
    handful: bool = False

    @property
    def name(self) -> str:
        return self.bench.replace("/osp", "").replace("/", " ", 1)

    @property
    def unit(self) -> str:
        return "GB/s" if self.kind in ("copy", "layer_norm", "group_norm") or "temporal" in self.bench else "TFLOP/s"

    def rate(self, ms: float) -> float:
        return self.work / ms / (1e6 if self.unit == "GB/s" else 1e9)


def linear(m: int, k: int, n: int, residual: bool = False, handful: bool = False) -> Case:
    arms = ("bias+GELU", "fused GELU") if n == 4 * k else ("bias",)
    arms += (LIBRARY, LIBRARY_BF16) if handful else (LIBRARY,)
    # A layer that adds also leaves the moments of its result: eight bytes for 32 columns.
    moved = 2 * (m * k + k * n + m * n) + (2 * m * n + m * n // 4 if residual else 0) + 2 * n
    launch = Launch("linear", 2 * m * k * n, moved) if m in (34_816, 114_688) else None
    return Case("gemm", f"linear/{m}x{k}x{n}/osp", "linear", (m, k, n), 2 * m * k * n, arms, launch, handful)


def attention(name: str, sequences: int, heads: int, dim: int, queries: int, keys: int, handful: bool = False) -> Case:
    flops = 4 * sequences * heads * queries * keys * dim
    moved = 2 * 2 * sequences * heads * dim * (queries + keys)
    # cuDNN's and Flash's kernels support at most 256 columns a head.
    arms = ("efficient",) if dim > 256 else ("flash", "efficient", "cuDNN")
    if name.startswith("masked"):
        # Flash takes no mask, and the others would read one for each query.
        arms = ()
    # In the model, all frames share the caption's keys and values, so its launches move fewer bytes.
    launch = None if name.startswith(("cross", "masked")) else Launch("attention", flops, moved)
    return Case("attention", f"attention/{name}", "attention", (sequences, heads, dim, queries, keys),
                moved if name.startswith("temporal") else flops, arms, launch, handful)


def conv3d(frames: int, height: int, width: int, cin: int, cout: int, kernel: Tuple[int, int, int], rest: str = "",
           shown: bool = False, handful: bool = False) -> Case:
    """`rest`: "twice" if the input is enlarged first, "half" for a stride of 2. Behind an enlargement, ours makes four products
    of nine; all rates count nine."""
    kt, kh, kw = kernel
    scale = {"twice": 2.0, "half": 0.5, "": 1.0}[rest]
    inside, outside = frames * height * width * cin, int(frames * height * width * scale * scale) * cout
    flops = 2 * outside * kt * kh * kw * cin
    phases, taps = (4, kt * 4) if rest == "twice" else (1, kt * kh * kw)
    moved = 2 * (inside + outside + phases * cout * taps * cin)
    launch = Launch("conv3d", 2 * outside * taps * cin, moved) if shown else None
    name = f"{cin}-{cout} {kt}x{kh}x{kw} {frames}x{height}x{width}{' ' + rest if rest else ''}"
    arms = ("channels last", "channels last, searched") if handful else ("channels last",)
    if max(inside, outside, int(inside * scale * scale)) > MOST_ELEMENTS:
        arms = ()
    return Case("conv3d", f"conv3d/{name}/osp", "conv3d", (frames, height, width, cin, cout, kt, kh, kw, scale), flops,
                arms, launch, handful)


def group_norm(frames: int, side: int, channels: int, handful: bool = False) -> Case:
    elements = frames * side * side * channels
    # Two passes of ours: one reads, one reads and writes. In the model, convolutions write the moments that the first
    # would compute.
    return Case("groupnorm", f"group_norm/{frames}x{side}x{side}x{channels} silu", "group_norm", (frames, side, channels),
                6 * elements, ("channels last", "planes"), Launch("group_apply", None, 4 * elements), handful)


def layer_norm(rows: int, channels: int, handful: bool = False) -> Case:
    launch = Launch("ada_layer_norm", None, 4 * rows * channels)
    return Case("norm", f"norm/ada_layer_norm {rows}x{channels}", "layer_norm", (rows, channels), 4 * rows * channels,
                ("modulated",), launch, handful)


CUBE, SQUARE = (3, 3, 3), (1, 3, 3)

# The handful comes first, the most important case first.
CASES: List[Case] = [
    linear(34_816, 1152, 4608, handful=True),
    linear(34_816, 1152, 3456, handful=True),
    attention("spatial 1024, 34 frames", 34, 16, 72, 1024, 1024, handful=True),
    conv3d(65, 256, 256, 128, 128, CUBE, shown=True, handful=True),
    group_norm(65, 256, 128, handful=True),
    linear(34_816, 4608, 1152, residual=True, handful=True),
    attention("temporal 17", 2048, 16, 72, 17, 17, handful=True),
    layer_norm(34_816, 1152, handful=True),
    linear(34_816, 1152, 1152, residual=True, handful=True),
    linear(114_688, 1152, 4608),
    linear(114_688, 1152, 3456),
    linear(114_688, 4608, 1152, residual=True),
    linear(114_688, 1152, 1152, residual=True),
    linear(300, 4096, 4096),
    linear(2, 1152, 6912),
    linear(8192, 8192, 8192),
    attention("spatial 1024, 112 frames", 112, 16, 72, 1024, 1024),
    attention("cross 120", 112, 16, 72, 1024, 120),
    attention("masked 300", 112, 16, 72, 1024, 300),
    attention("temporal 56", 2048, 16, 72, 56, 56),
    attention("vae 1024, 17 frames", 17, 1, 512, 1024, 1024),
    conv3d(65, 256, 256, 256, 128, CUBE, shown=True),
    conv3d(65, 128, 128, 256, 256, CUBE, shown=True),
    conv3d(33, 64, 64, 512, 512, CUBE, shown=True),
    conv3d(17, 32, 32, 512, 512, CUBE, shown=True),
    conv3d(65, 128, 128, 256, 256, SQUARE, "twice", shown=True),
    conv3d(33, 64, 64, 512, 512, SQUARE, "twice", shown=True),
    conv3d(17, 32, 32, 512, 512, SQUARE, "twice", shown=True),
    conv3d(17, 32, 32, 4, 512, CUBE, shown=True),
    conv3d(65, 256, 256, 128, 3, CUBE, shown=True),
    conv3d(65, 256, 256, 128, 128, SQUARE, "half"),
    conv3d(17, 32, 32, 512, 8, CUBE),
    *(conv3d(frames, 256, 256, 3, 128, SQUARE) for frames in (129, 257, 513)),
    *(group_norm(*level) for level in ((65, 256, 256), (65, 128, 256), (33, 64, 512), (17, 32, 512))),
    layer_norm(114_688, 1152),
]

# The allowed relative difference of bytes between launch and case: biases, statistics and tables are small.
BYTES_OFF = 0.02


def own_time(case: Case, launches: List[Any]) -> Optional[float]:
    """Milliseconds of the case's launches in the model, from the list of `read.launches`."""
    if not case.launch:
        return None
    part, flops, moved = case.launch
    times = [ms for name, of_flops, of_bytes, ms in launches
             if part in name and flops in (None, of_flops) and abs(of_bytes - moved) <= BYTES_OFF * moved]
    return min(times, default=None)


if __name__ == "__main__":
    events = [event for path in sys.argv[1:] for event in json.loads(Path(path).read_text())["traceEvents"]]
    shown = [(event["name"], event["args"]["flops"], event["args"]["bytes"], 1.0) for event in events if event["ph"] == "X"]
    for case in CASES:
        found = "within" if own_time(case, shown) else "not found" if case.launch else "alone"
        print(case.stem, case.bench, found, *case.shape, sep="\t")
