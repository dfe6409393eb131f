"""PyTorch's times for the operations that our benches time: f16, cold second-level cache, medians, by CUDA events.

Prints name, milliseconds, and TFLOP/s or GB/s. Run by scripts/gpu-check.
"""

import torch
import torch.nn.functional as F

HALF = {"device": "cuda", "dtype": torch.float16}
FLUSHED = 256 << 20


def milliseconds(work, runs: int = 20) -> float:
    """Median time of `work` with nothing of its operands in the caches."""
    flush, times = torch.empty(FLUSHED, dtype=torch.int8, device="cuda"), []
    for run in range(runs + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        if run >= 3:
            times.append(start.elapsed_time(end))
    return sorted(times)[len(times) // 2]


def show(name: str, time: float, amount: float, unit: str) -> None:
    print(f"{name:<56} {time:9.3f} ms {amount / time / (1e9 if unit == 'TFLOP/s' else 1e6):9.1f} {unit}", flush=True)


def linear(m: int, k: int, n: int) -> None:
    x, weight, bias = torch.randn(m, k, **HALF), torch.randn(n, k, **HALF) * k**-0.5, torch.randn(n, **HALF)
    gelu = n == 4 * k
    work = (lambda: F.gelu(F.linear(x, weight, bias), approximate="tanh")) if gelu else (lambda: F.linear(x, weight, bias))
    show(f"linear {m}x{k}x{n}{' gelu' if gelu else ''}", milliseconds(work), 2 * m * k * n, "TFLOP/s")


def attention(name: str, sequences: int, heads: int, head_dim: int, queries: int, keys: int) -> None:
    q, k, v = (torch.randn(sequences, heads, tokens, head_dim, **HALF) for tokens in (queries, keys, keys))
    work = lambda: F.scaled_dot_product_attention(q, k, v)
    show(f"attention {name}", milliseconds(work), 4 * sequences * heads * queries * keys * head_dim, "TFLOP/s")


def norm(rows: int, channels: int) -> None:
    x, y = (torch.randn(rows, channels, **HALF) for _ in range(2))
    scale, shift = (torch.randn(channels, **HALF) for _ in range(2))
    work = lambda: F.layer_norm(x, (channels,), eps=1e-6) * (1 + scale) + shift
    show(f"copy {rows}x{channels}", milliseconds(lambda: y.copy_(x)), 4 * rows * channels, "GB/s")
    show(f"layer norm, modulated {rows}x{channels}", milliseconds(work), 4 * rows * channels, "GB/s")


def conv3d(frames: int, height: int, width: int, cin: int, cout: int, kernel: tuple, stride: int = 1, up: bool = False) -> None:
    """A causal convolution as PyTorch has it: the first frame repeated in front, enlarged beforehand where that is asked.

    Once with the channels last in memory, once with whole planes; the copies are timed with it, as the model needs them.
    """
    kt, kh, kw = kernel
    # One row below and one column to the right where the stride is 2.
    padding = (0, kh // 2, kw // 2) if stride == 1 else 0
    for layout, name in ((torch.channels_last_3d, "channels last"), (torch.contiguous_format, "planes")):
        x = torch.randn(1, cin, frames, height, width, **HALF).to(memory_format=layout)
        weight = (torch.randn(cout, cin, kt, kh, kw, **HALF) * (kt * kh * kw * cin) ** -0.5).to(memory_format=layout)
        bias = torch.randn(cout, **HALF)

        def work(x=x, weight=weight):
            if up:
                x = F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest")
            if kt > 1:
                x = torch.cat((x[:, :, :1].expand(-1, -1, kt - 1, -1, -1), x), dim=2)
            if stride == 2:
                x = F.pad(x, (0, 1, 0, 1))
            return F.conv3d(x, weight, bias, stride=(1, stride, stride), padding=padding)

        try:
            amount = 2 * work().numel() * kt * kh * kw * cin
            time = milliseconds(work, runs=5)
        except torch.cuda.OutOfMemoryError:
            print(f"conv3d {cin}-{cout} {kt}x{kh}x{kw} {frames}x{height}x{width} {name}: out of memory", flush=True)
            torch.cuda.empty_cache()
            continue
        rest = " twice" if up else " half" if stride == 2 else ""
        show(f"conv3d {cin}-{cout} {kt}x{kh}x{kw} {frames}x{height}x{width}{rest}, {name}", time, amount, "TFLOP/s")


def group_norm(frames: int, side: int, channels: int) -> None:
    weight, bias = (torch.randn(channels, **HALF) for _ in range(2))
    for name, layout in (("contiguous", torch.contiguous_format), ("channels last", torch.channels_last_3d)):
        x = torch.randn(1, channels, frames, side, side, **HALF).to(memory_format=layout)
        work = lambda: F.silu(F.group_norm(x, 32, weight, bias, 1e-6))
        # Bytes of our passes: one to read, one to read and write.
        show(f"group norm, SiLU {frames}x{side}x{side}x{channels} {name}", milliseconds(work), 6 * x.numel(), "GB/s")


def main() -> None:
    print(torch.__version__, torch.cuda.get_device_name(), flush=True)
    for rows in (34_816, 114_688):
        for k, n in ((1152, 3456), (1152, 1152), (1152, 4608), (4608, 1152)):
            linear(rows, k, n)
    for m, k, n in ((300, 4096, 4096), (2, 1152, 6912), (8192, 8192, 8192)):
        linear(m, k, n)
    attention("spatial 1024, 34 frames", 34, 16, 72, 1024, 1024)
    attention("spatial 1024, 112 frames", 112, 16, 72, 1024, 1024)
    attention("cross 120", 112, 16, 72, 1024, 120)
    attention("temporal 17", 2048, 16, 72, 17, 17)
    attention("temporal 56", 2048, 16, 72, 56, 56)
    attention("vae 1024, 17 frames", 17, 1, 512, 1024, 1024)
    norm(114_688, 1152)
    for frames, side, channels in ((65, 256, 128), (65, 256, 256), (65, 128, 256), (33, 64, 512), (17, 32, 512)):
        group_norm(frames, side, channels)
    # As benches/conv3d.rs.
    torch.backends.cudnn.benchmark = True
    cube, square = (3, 3, 3), (1, 3, 3)
    for size in ((65, 256, 256, 128, 128), (65, 256, 256, 256, 128), (65, 128, 128, 256, 256), (33, 64, 64, 512, 512)):
        conv3d(*size, cube)
    conv3d(17, 32, 32, 512, 512, cube)
    for size in ((65, 128, 128, 256, 256), (33, 64, 64, 512, 512), (17, 32, 32, 512, 512)):
        conv3d(*size, square, up=True)
    conv3d(17, 32, 32, 4, 512, cube)
    conv3d(65, 256, 256, 128, 3, cube)
    conv3d(65, 256, 256, 128, 128, square, stride=2)
    conv3d(17, 32, 32, 512, 8, cube)
    for frames in (129, 257, 513):
        conv3d(frames, 256, 256, 3, 128, square)


if __name__ == "__main__":
    main()
