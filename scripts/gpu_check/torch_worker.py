"""Measures PyTorch's and cuBLASLt's times for the cases, in a separate process, so that gpu-check can end it if it hangs.

A request is one line, `{"kind": …, "shape": […], "arm": …}`; the answer has `ms`, `low` and `high`, or `error`, with `ended` if
the GPU takes no more work of this process. Operands are f16 (bf16 if the arm says so) with random values; the second-level
cache is cleared before each run; times are medians measured with CUDA events.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Callable, Dict, List

import cublaslt

# More bytes than any GPU's second-level cache.
FLUSHED = 256 << 20
# Runs of a case: those that fit into this time in milliseconds, but at least and at most these numbers.
BUDGET_MS, FEWEST, MOST = 400.0, 5, 20
DEVICE = "cuda"


def say(answer: Dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def about(torch: Any) -> Dict[str, Any]:
    """Versions, and their known problems."""
    cudnn, warnings = torch.backends.cudnn.version() or 0, []
    if torch.__version__.startswith("2.9.0"):
        warnings.append("torch 2.9.0 does not use cuDNN's conv3d: its times mean little")
    if cudnn == 91002:
        warnings.append("cuDNN 9.10.2 computes bf16 conv3d wrongly")
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "cudnn": cudnn, "warnings": warnings,
            "gpu": torch.cuda.get_device_name()}


def time(torch: Any, work: Callable[[], Any], budget: float = BUDGET_MS) -> Dict[str, float]:
    """Median, lowest and highest milliseconds of `work` with cold caches."""
    flush = torch.empty(FLUSHED, dtype=torch.int8, device=DEVICE)

    def once() -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)

    once()
    first = once()
    runs = sorted(once() for _ in range(max(FEWEST, min(MOST, int(budget / max(first, 1e-3))))))
    return {"ms": runs[len(runs) // 2], "low": runs[0], "high": runs[-1]}


def linear(torch: Any, shape: List[int], arm: str) -> Callable[[], Any]:
    m, k, n = shape
    half_of = lambda *size: half(torch, *size, dtype=torch.bfloat16 if arm.endswith(" bf16") else torch.float16)
    x, weight, bias = half_of(m, k), half_of(n, k) * k**-0.5, half_of(n)
    if arm.startswith("cuBLASLt"):
        # The first layer of a feed-forward has a GELU.
        return cublaslt.work(torch, x, weight, bias, n == 4 * k, lambda work: time(torch, work, 0.0)["ms"])
    functional = torch.nn.functional
    return {
        "bias": lambda: functional.linear(x, weight, bias),
        "bias+GELU": lambda: functional.gelu(functional.linear(x, weight, bias), approximate="tanh"),
        # GELU in the epilogue of cuBLASLt's product: the tanh form, on a GPU.
        "fused GELU": lambda: torch._addmm_activation(bias, x, weight.t(), use_gelu=True),
    }[arm]


def attention(torch: Any, shape: List[int], arm: str) -> Callable[[], Any]:
    from torch.nn.attention import SDPBackend, sdpa_kernel
    sequences, heads, dim, queries, keys = shape
    q, k, v = (half(torch, sequences, heads, tokens, dim) for tokens in (queries, keys, keys))
    backend = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION,
               "cuDNN": SDPBackend.CUDNN_ATTENTION}[arm]

    def work() -> Any:
        with sdpa_kernel(backend):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v)

    return work


def conv3d(torch: Any, shape: List[float], arm: str) -> Callable[[], Any]:
    """A causal convolution: the first frame is repeated at the front, and the input is enlarged first if requested. These
    copies are timed, too, because the model needs them."""
    *sizes, scale = shape
    frames, height, width, cin, cout, kt, kh, kw = (int(size) for size in sizes)
    functional, layout = torch.nn.functional, torch.channels_last_3d
    # Only for the cases of the handful: the search takes a second or more for each shape.
    torch.backends.cudnn.benchmark = arm.endswith("searched")
    x = half(torch, 1, cin, frames, height, width).to(memory_format=layout)
    weight = (half(torch, cout, cin, kt, kh, kw) * (kt * kh * kw * cin) ** -0.5).to(memory_format=layout)
    bias = half(torch, cout)
    # With a stride of 2, one row is added below and one column to the right.
    stride, padding = (2, 0) if scale == 0.5 else (1, (0, kh // 2, kw // 2))

    def work() -> Any:
        y = x
        if scale == 2:
            y = functional.interpolate(y, scale_factor=(1, 2, 2), mode="nearest")
        if kt > 1:
            y = torch.cat((y[:, :, :1].expand(-1, -1, kt - 1, -1, -1), y), dim=2)
        if stride == 2:
            y = functional.pad(y, (0, 1, 0, 1))
        return functional.conv3d(y, weight, bias, stride=(1, stride, stride), padding=padding)

    return work


def group_norm(torch: Any, shape: List[int], arm: str) -> Callable[[], Any]:
    frames, side, channels = shape
    layout = {"channels last": torch.channels_last_3d, "planes": torch.contiguous_format}[arm]
    weight, bias = half(torch, channels), half(torch, channels)
    x = half(torch, 1, channels, frames, side, side).to(memory_format=layout)
    return lambda: torch.nn.functional.silu(torch.nn.functional.group_norm(x, 32, weight, bias, 1e-6))


def layer_norm(torch: Any, shape: List[int], _: str) -> Callable[[], Any]:
    rows, channels = shape
    x, scale, shift = half(torch, rows, channels), half(torch, channels), half(torch, channels)
    return lambda: torch.nn.functional.layer_norm(x, (channels,), eps=1e-6) * (1 + scale) + shift


def half(torch: Any, *shape: int, dtype: Any = None) -> Any:
    return torch.randn(*shape, device=DEVICE, dtype=dtype or torch.float16)


KINDS = {"linear": linear, "attention": attention, "conv3d": conv3d, "group_norm": group_norm, "layer_norm": layer_norm}


def answer(torch: Any, request: Dict[str, Any]) -> Dict[str, Any]:
    try:
        with torch.inference_mode():
            return time(torch, KINDS[request["kind"]](torch, request["shape"], request["arm"]))
    except Exception as error:  # After any error of a case, the next case still runs.
        return {"error": f"{type(error).__name__}: {error}", "ended": broken(torch)}


def broken(torch: Any) -> bool:
    """Whether every later call would fail, too, because a kernel has: then another process must run the next case."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        return False
    except Exception:
        return True


def main() -> None:
    try:
        import torch
        if not torch.cuda.is_available():
            raise ImportError("PyTorch sees no GPU")
        say(about(torch))
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    for line in sys.stdin:
        say(answer(torch, json.loads(line)))


if __name__ == "__main__":
    main()
