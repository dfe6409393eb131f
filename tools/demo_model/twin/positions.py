"""Fixed embeddings of positions and of the timestep, and rotary embeddings."""

import math

import torch
from torch import Tensor


def sine_cosine(position: Tensor, dim: int) -> Tensor:
    """[sin(p·ω), cos(p·ω)] with ω_k = 10000^(−2k/dim), in f64: (L,) → (L, dim)."""
    omega = 10000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim / 2))
    angle = position.double()[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def grid_embedding(rows: int, columns: int, dim: int, base: int, scale: int) -> Tensor:
    """Embedding of a grid of patches, rows outermost: (rows·columns, dim); the first half encodes the column.

    A side of any length spans base/scale, the side of the training grid."""
    row, column = (torch.arange(n).float() / (n / base) / scale for n in (rows, columns))
    of_row = sine_cosine(row, dim // 2)[:, None, :].expand(rows, columns, -1)
    of_column = sine_cosine(column, dim // 2)[None, :, :].expand(rows, columns, -1)
    return torch.cat([of_column, of_row], dim=2).flatten(0, 1)


def timestep_features(timestep: Tensor, dim: int = 256) -> Tensor:
    """[cos, sin] of the timestep, in f32 whatever the model's type: (N,) → (N, dim)."""
    frequency = torch.exp(-math.log(10000) * torch.arange(dim // 2, dtype=torch.float32) / (dim // 2))
    angle = timestep.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


def rotary_angles(position: Tensor, dim: int) -> Tensor:
    """(L,) → (L, dim): each of the dim/2 frequencies twice, as `rotate` expects."""
    frequency = 10000.0 ** -(torch.arange(0, dim, 2).double() / dim)
    return (position.double()[:, None] * frequency).repeat(1, 2)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Rotates each pair (x_i, x_{i+dim/2}) by its angle: x (…, L, dim), angles (L, dim)."""
    first, second = x.chunk(2, dim=-1)
    return x * angles.cos().to(x) + torch.cat([-second, first], dim=-1) * angles.sin().to(x)


class SpatialRotary:
    """The row rotates the first half of a head, the column the second half."""

    def __init__(self, rows: int, columns: int, head_dim: int, scale: int) -> None:
        row, column = ((torch.arange(n) / scale).long() for n in (rows, columns))
        self.of_row = rotary_angles(row.repeat_interleave(columns), head_dim // 2)
        self.of_column = rotary_angles(column.repeat(rows), head_dim // 2)

    def __call__(self, x: Tensor) -> Tensor:
        """x (N, heads, L, head_dim)."""
        by_row, by_column = x.chunk(2, dim=-1)
        return torch.cat([rotate(by_row, self.of_row), rotate(by_column, self.of_column)], dim=-1)


class TemporalRotary:
    """The frame rotates the whole head."""

    def __init__(self, frames: int, head_dim: int, scale: float) -> None:
        self.angles = rotary_angles((torch.arange(frames) / scale).long(), head_dim)

    def __call__(self, x: Tensor) -> Tensor:
        """x (N, heads, L, head_dim)."""
        return rotate(x, self.angles)
