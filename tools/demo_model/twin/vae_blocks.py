"""The block classes of CausalVideoVAE, named as in its config.json; attribute names give the checkpoint's tensor names.

All activations are (N, C, T, H, W), also in the classes that work frame by frame.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32


class Conv2d(nn.Conv2d):
    """A 2-D convolution on every frame."""

    def forward(self, x: Tensor) -> Tensor:
        return per_frame(super().forward, x)


class CausalConv3d(nn.Module):
    """A convolution that sees only the past: copies of the first frame replace the frames before it."""

    def __init__(self, c_in: int, c_out: int, kernel: int | tuple[int, int, int], stride=1, padding=0):
        super().__init__()
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        self.time_padding = kernel[0] - 1
        self.conv = nn.Conv3d(c_in, c_out, kernel, stride, (0, padding, padding))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] == 1 and self.conv.stride[0] == 1:
            return self.single_frame(x[:, :, 0])[:, :, None]
        return self.conv(repeat_first(x, self.time_padding))

    def single_frame(self, x: Tensor) -> Tensor:
        """(N, C, H, W): all taps in time see the same frame, so their sum is applied once, at a third of the cost."""
        return F.conv2d(x, self.conv.weight.sum(2), self.conv.bias, self.conv.stride[1:], self.conv.padding[1:])


def per_frame(function, x: Tensor) -> Tensor:
    """Applies a function of (N, C, H, W) to every frame."""
    n, _, t, _, _ = x.shape
    y = function(x.transpose(1, 2).flatten(0, 1))
    return y.unflatten(0, (n, t)).transpose(1, 2)


def repeat_first(x: Tensor, times: int) -> Tensor:
    """Puts `times` copies of the first frame at the front."""
    return torch.cat([x[:, :, :1]] * times + [x], dim=2) if times else x


def group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(GROUPS, channels, eps=1e-6)


def conv(name: str, c_in: int, c_out: int, kernel: int = 3) -> nn.Module:
    """A convolution of the named class that keeps the size."""
    return {"Conv2d": Conv2d, "CausalConv3d": CausalConv3d}[name](c_in, c_out, kernel, padding=kernel // 2)


class ResnetBlock3D(nn.Module):
    conv_class = "CausalConv3d"

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.norm1 = group_norm(c_in)
        self.conv1 = conv(self.conv_class, c_in, c_out)
        self.norm2 = group_norm(c_out)
        self.conv2 = conv(self.conv_class, c_out, c_out)
        if c_in != c_out:
            self.nin_shortcut = conv(self.conv_class, c_in, c_out, 1)

    def normed(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        return norm(x)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.normed(self.norm1, x)))
        h = self.conv2(F.silu(self.normed(self.norm2, h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class ResnetBlock2D(ResnetBlock3D):
    conv_class = "Conv2d"

    def normed(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        return per_frame(norm, x)


class AttnBlock3DFix(nn.Module):
    """Single-head attention among the positions of each frame."""

    @staticmethod
    def projection(channels: int) -> nn.Module:
        return CausalConv3d(channels, channels, 1)

    def __init__(self, channels: int):
        super().__init__()
        self.norm = group_norm(channels)
        self.q, self.k, self.v, self.proj_out = (self.projection(channels) for _ in range(4))

    def normed(self, x: Tensor) -> Tensor:
        return self.norm(x)

    def to_sequences(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) → (N, T, H·W, C)."""
        return x.permute(0, 2, 3, 4, 1).flatten(2, 3)

    def from_sequences(self, y: Tensor, shape: torch.Size) -> Tensor:
        n, c, t, h, w = shape
        return y.reshape(n, t, h, w, c).permute(0, 4, 1, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.normed(x)
        q, k, v = (self.to_sequences(projection(h)) for projection in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(self.from_sequences(y, x.shape))


class AttnBlock3D(AttnBlock3DFix):
    """As the fixed block, but (C, T) is reinterpreted as (T, C) without a transpose: channels and frames mix."""

    def to_sequences(self, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        return x.reshape(n, t, c, h * w).transpose(2, 3)

    def from_sequences(self, y: Tensor, shape: torch.Size) -> Tensor:
        return y.transpose(2, 3).reshape(shape)


class AttnBlock(AttnBlock3DFix):
    """As the fixed block, with per-frame statistics and 2-D convolutions."""

    @staticmethod
    def projection(channels: int) -> nn.Module:
        return Conv2d(channels, channels, 1)

    def normed(self, x: Tensor) -> Tensor:
        return per_frame(self.norm, x)


class TemporalAttnBlock(AttnBlock3DFix):
    """Attention among the frames of each position."""

    @staticmethod
    def projection(channels: int) -> nn.Module:
        return nn.Conv3d(channels, channels, 1)

    def to_sequences(self, x: Tensor) -> Tensor:
        """(N, C, T, H, W) → (N, H·W, T, C)."""
        return x.permute(0, 3, 4, 2, 1).flatten(1, 2)

    def from_sequences(self, y: Tensor, shape: torch.Size) -> Tensor:
        n, c, t, h, w = shape
        return y.reshape(n, h, w, t, c).permute(0, 4, 3, 1, 2)


class Downsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class SpatialDownsample2x(Downsample):
    def __init__(self, channels: int):
        super().__init__(channels)
        self.conv = CausalConv3d(channels, channels, (1, 3, 3), stride=(1, 2, 2))


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=(1, 2, 2), mode="nearest"))


class SpatialUpsample2x(Upsample):
    def __init__(self, channels: int):
        super().__init__(channels)
        self.conv = CausalConv3d(channels, channels, (1, 3, 3), padding=1)


def average_time(padded: Tensor) -> Tensor:
    return F.avg_pool3d(padded, (3, 1, 1), stride=(2, 1, 1))


class TimeDownsample2x(nn.Module):
    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return average_time(repeat_first(x, 2))


class Mixed(nn.Module):
    """α·a + (1−α)·b with a learned α."""

    def __init__(self):
        super().__init__()
        self.mix_factor = nn.Parameter(torch.zeros(1))

    def mix(self, a: Tensor, b: Tensor) -> Tensor:
        alpha = torch.sigmoid(self.mix_factor)
        return alpha * a + (1 - alpha) * b


class TimeDownsampleRes2x(Mixed):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, 3, stride=(2, 1, 1), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        padded = repeat_first(x, 2)
        return self.mix(average_time(padded), self.conv(padded))


class TimeDownsampleResAdv2x(TimeDownsampleRes2x):
    def __init__(self, channels: int):
        super().__init__(channels)
        self.attn = TemporalAttnBlock(channels)
        self.res = ResnetBlock3D(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        padded = repeat_first(x, 2)
        return self.mix(average_time(padded), self.conv(self.attn(self.res(padded))))


def interpolate_time(x: Tensor) -> Tensor:
    """T frames → 2T−1: the first frame stays; the others are doubled by linear interpolation without the first."""
    if x.shape[2] == 1:
        return x
    first, rest = x[:, :, :1], x[:, :, 1:]
    before = torch.cat([rest[:, :, :1], rest[:, :, :-1]], dim=2)
    after = torch.cat([rest[:, :, 1:], rest[:, :, -1:]], dim=2)
    even, odd = 0.25 * before + 0.75 * rest, 0.75 * rest + 0.25 * after
    return torch.cat([first, torch.stack([even, odd], dim=3).flatten(2, 3)], dim=2)


class TimeUpsample2x(nn.Module):
    def __init__(self, channels: int):
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return interpolate_time(x)


class TimeUpsampleRes2x(Mixed):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = CausalConv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = interpolate_time(x)
        return self.mix(x, self.conv(x))


class TimeUpsampleResAdv2x(TimeUpsampleRes2x):
    def __init__(self, channels: int):
        super().__init__(channels)
        self.res = ResnetBlock3D(channels, channels)
        self.attn = TemporalAttnBlock(channels)
        self.norm = group_norm(channels)  # stored in checkpoints, never used

    def forward(self, x: Tensor) -> Tensor:
        x = interpolate_time(x)
        return self.mix(x, self.conv(self.attn(self.res(x))))
