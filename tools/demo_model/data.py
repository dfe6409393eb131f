"""The procedural dataset: one flat shape moving at constant speed over a flat background.

A clip is drawn analytically (signed distance → coverage), so motion is exact below the pixel and edges are smooth.
"""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = ("circle", "square", "triangle")
COLOURS = {
    "red": (230, 30, 30),
    "green": (30, 200, 50),
    "blue": (50, 90, 255),
    "yellow": (250, 220, 40),
    "cyan": (40, 220, 230),
    "magenta": (230, 50, 220),
}
BACKGROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255), "gray": (128, 128, 128), "navy": (16, 20, 90)}
SIZES = {"small": (6.8, 8.0), "large": (12.8, 14.0)}  # radius in pixels of a 64-pixel frame
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
EXTENT = 1.1  # half a shape's bounding box over its radius, at most


@dataclass(frozen=True)
class Spec:
    """The content of a clip. The last four fields describe the path; see `centres`."""

    shape: str
    colour: str
    size: str
    direction: str
    background: str
    radius: float  # pixels of a 64-pixel frame
    travel: float  # share of the possible path that is used
    start: float  # in [0, 1]: position of the used part on the possible path
    side: float  # in [−1, 1]: position across the path
    moment: float  # in [0, 1]: the point of the path that a clip of one frame shows


def random_spec(rng: random.Random) -> Spec:
    size = rng.choice(list(SIZES))
    return Spec(
        shape=rng.choice(SHAPES),
        colour=rng.choice(list(COLOURS)),
        size=size,
        direction=rng.choice(list(DIRECTIONS)),
        background=rng.choice(list(BACKGROUNDS)),
        radius=rng.uniform(*SIZES[size]),
        travel=rng.uniform(0.85, 1.0),
        start=rng.random(),
        side=rng.uniform(-0.8, 0.8),
        moment=rng.random(),
    )


def centres(spec: Spec, frames: int, size: int) -> Tensor:
    """(frames, 2): x and y of the shape's centre. The path lasts the whole clip, however long, and stays in view."""
    reach = size / 2 - EXTENT * spec.radius * size / 64 - 1
    progress = torch.linspace(0, 1, frames) if frames > 1 else torch.tensor([spec.moment])
    along = 2 * (spec.start * (1 - spec.travel) + spec.travel * progress) - 1
    step = torch.tensor(DIRECTIONS[spec.direction], dtype=torch.float32)
    across = step.flip(0).abs() * spec.side
    return size / 2 + reach * (along[:, None] * step + across)


def signed_distance(shape: str, x: Tensor, y: Tensor, radius: float) -> Tensor:
    """Distance in pixels to the shape's edge, negative inside. Shapes with the same radius look about equally large."""
    if shape == "circle":
        return torch.hypot(x, y) - radius
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.89 * radius
    inner = 0.625 * radius  # of the triangle's inscribed circle; its bounding box is centred on the path
    y = y - 0.5 * inner
    return torch.maximum(y, 0.75**0.5 * x.abs() - 0.5 * y) - inner


def coverage(spec: Spec, frames: int, size: int = 64) -> Tensor:
    """(T, H, W): the share of each pixel that the shape covers."""
    grid = torch.arange(size) + 0.5
    centre = centres(spec, frames, size)
    x = grid[None, None, :] - centre[:, 0, None, None]
    y = grid[None, :, None] - centre[:, 1, None, None]
    return (0.5 - signed_distance(spec.shape, x, y, spec.radius * size / 64)).clamp(0, 1)


def paint(spec: Spec, alpha: Tensor) -> Tensor:
    """(T, H, W) coverage → (3, T, H, W) pixels in [−1, 1]."""
    front, back = (
        torch.tensor(rgb).view(3, 1, 1, 1) / 127.5 - 1 for rgb in (COLOURS[spec.colour], BACKGROUNDS[spec.background])
    )
    return back + (front - back) * alpha


def render(spec: Spec, frames: int, size: int = 64) -> Tensor:
    """(3, T, H, W), float32 in [−1, 1]."""
    return paint(spec, coverage(spec, frames, size))


def training_clip(
    rng: random.Random, clip_frames: int, frames: int, crop: int, size: int = 64
) -> tuple[Tensor, Tensor]:
    """`frames` of the `clip_frames` frames of a random clip (1: an image), a square of `crop` pixels near the shape.

    Returns pixels (3, T, crop, crop) and a mask (1, T, crop, crop) of all pixels within two pixels of the shape.
    """
    spec = random_spec(rng)
    whole = 1 if frames == 1 else clip_frames
    first = rng.randint(0, whole - frames)
    alpha = coverage(spec, whole, size)[first : first + frames]
    middle = centres(spec, whole, size)[first + frames // 2]
    spread = spec.radius * size / 64 + crop / 4
    left, top = (
        round(min(max(c.item() + rng.uniform(-spread, spread) - crop / 2, 0), size - crop)) for c in middle
    )
    alpha = alpha[:, top : top + crop, left : left + crop]
    mask = F.max_pool2d(alpha[:, None], 5, stride=1, padding=2) > 0
    return paint(spec, alpha), mask.float().transpose(0, 1)
