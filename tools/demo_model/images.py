"""Pictures of training samples."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def save_grid(path: Path, rows: list[Tensor]) -> None:
    """Writes rows of images (N, 3, H, W) in [−1, 1] to one PNG; all rows have the same N."""
    picture = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = ((picture / 2 + 0.5).clamp(0, 1) * 255).round().byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
