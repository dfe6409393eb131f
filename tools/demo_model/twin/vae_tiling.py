"""Temporal-rollback tiling of the VAE: overlapping windows in time and cross-faded tiles in space."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

SPACE, TIME = 8, 4  # pixels per latent and frames per latent frame

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tiling:
    """Window sides in pixels and frames, and the share of a side that overlaps with the next tile."""

    size: int = 256
    frames: int = 65
    overlap: float = 0.25

    def encode(self, function: Transform, video: Tensor) -> Tensor:
        latent_size = self.size // SPACE
        return self.run(function, video, self.frames, self.size, latent_size)

    def decode(self, function: Transform, latent: Tensor) -> Tensor:
        latent_frames = (self.frames - 1) // TIME + 1
        return self.run(function, latent, latent_frames, self.size // SPACE, self.size)

    def run(self, function: Transform, x: Tensor, frames: int, size: int, size_out: int) -> Tensor:
        """Divides x into windows of `frames` × `size`² if a side is longer; the side of a result is `size_out`."""
        t, h, w = x.shape[2:]
        if t <= frames and h <= size and w <= size:
            return function(x)
        windows = []
        for start, stop in time_windows(t, frames):
            y = self.tile_space(function, x[:, :, start:stop], size, size_out)
            windows.append(y if start == 0 else y[:, :, 1:])  # a window treats its first frame as an image
        return torch.cat(windows, dim=2)

    def tile_space(self, function: Transform, x: Tensor, size: int, size_out: int) -> Tensor:
        stride, blend = round(size * (1 - self.overlap)), round(size_out * self.overlap)
        rows: list[list[Tensor]] = []
        for y in range(0, x.shape[3], stride):
            row: list[Tensor] = []
            for left in range(0, x.shape[4], stride):
                tile = function(x[..., y : y + size, left : left + size])
                if rows:
                    tile = cross_fade(rows[-1][len(row)], tile, blend, dim=3)
                if row:
                    tile = cross_fade(row[-1], tile, blend, dim=4)
                row.append(tile)
            rows.append(row)
        keep = size_out - blend
        strips = [torch.cat([tile[..., :keep, :keep] for tile in row], dim=4) for row in rows]
        return torch.cat(strips, dim=3)


def time_windows(length: int, window: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of windows; each shares one frame with the window before."""
    starts = list(range(0, length, window - 1))
    stop = 0
    for start in starts[:-1]:
        stop = min(start + window, length)
        yield start, stop
    if stop < length:
        yield starts[-1], length


def cross_fade(before: Tensor, after: Tensor, blend: int, dim: int) -> Tensor:
    """Cross-fades the last `blend` rows (columns) of `before` into the first of `after`."""
    blend = min(blend, before.shape[dim], after.shape[dim])
    shape = [1] * 5
    shape[dim] = blend
    weight = (torch.arange(blend, dtype=after.dtype) / blend).view(shape)
    end = before.narrow(dim, before.shape[dim] - blend, blend)
    faded = end * (1 - weight) + after.narrow(dim, 0, blend) * weight
    return torch.cat([faded, after.narrow(dim, blend, after.shape[dim] - blend)], dim=dim)
