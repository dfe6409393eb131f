"""Recognises the content of a clip from its pixels, by classical vision without learned components."""

from dataclasses import dataclass

import numpy as np

from data import BACKGROUNDS, COLOURS

LEAST_CONTRAST = 60  # distance in RGB from which a pixel is not background
LEAST_AREA = 20  # pixels of a shape in a frame
LEAST_MOTION = 5  # pixels from the first to the last frames
SHAPES_BY_FILL = ((0.64, "triangle"), (0.89, "circle"), (np.inf, "square"))  # of the bounding box; ideal ½, π/4, 1
SMALL_EXTENT = 20.5  # longer side of the bounding box: small shapes are at most this large, large shapes are larger
NOTHING = "none"


@dataclass(frozen=True)
class Judgement:
    """The content of a clip; NOTHING for an attribute that is not found."""

    colour: str = NOTHING
    background: str = NOTHING
    shape: str = NOTHING
    size: str = NOTHING
    direction: str = NOTHING


ATTRIBUTES = tuple(Judgement.__dataclass_fields__)


def nearest(colour: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: np.linalg.norm(colour - np.array(palette[name])))


def border(frames: np.ndarray) -> np.ndarray:
    """The median colour of the outermost pixels of all frames."""
    edges = [frames[:, 0], frames[:, -1], frames[:, :, 0], frames[:, :, -1]]
    return np.median(np.concatenate(edges, axis=1).reshape(-1, 3), axis=0)


def shape_masks(frames: np.ndarray, background: np.ndarray) -> np.ndarray:
    """(T, H, W): the pixels whose colour is nearer to the shape's than to the background's, by contrast."""
    contrast = np.linalg.norm(frames - background, axis=-1)
    visible = contrast[contrast > LEAST_CONTRAST]
    if visible.size == 0:
        return np.zeros(contrast.shape, dtype=bool)
    return contrast > max(LEAST_CONTRAST, np.percentile(visible, 80) / 2)


def box_sides(mask: np.ndarray) -> tuple[int, int]:
    """Height and width of the bounding box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1


def direction(masks: np.ndarray) -> str:
    """The direction of the centre from the first to the last quarter of the frames."""
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in masks])
    quarter = max(1, len(masks) // 4)
    down, right = centres[-quarter:].mean(axis=0) - centres[:quarter].mean(axis=0)
    if max(abs(down), abs(right)) < LEAST_MOTION:
        return NOTHING
    if abs(right) > abs(down):
        return "right" if right > 0 else "left"
    return "down" if down > 0 else "up"


def judge(frames: np.ndarray) -> Judgement:
    """frames (T, H, W, 3) uint8, 64 pixels square."""
    frames = frames.astype(np.float64)
    back = border(frames)
    masks = shape_masks(frames, back)
    background = nearest(back, BACKGROUNDS)
    shown = masks.sum(axis=(1, 2)) >= LEAST_AREA
    if shown.mean() < 0.5:
        return Judgement(background=background)
    frames, masks = frames[shown], masks[shown]
    sides = np.array([box_sides(mask) for mask in masks])
    fill = np.median(masks.sum(axis=(1, 2)) / sides.prod(axis=1))
    return Judgement(
        colour=nearest(np.median(frames[masks], axis=0), COLOURS),
        background=background,
        shape=next(shape for limit, shape in SHAPES_BY_FILL if fill < limit),
        size="small" if np.median(sides.max(axis=1)) < SMALL_EXTENT else "large",
        direction=direction(masks),
    )
