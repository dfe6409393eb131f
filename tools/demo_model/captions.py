"""Captions of a clip or image, in several phrasings."""

import random
from collections.abc import Callable

from data import Spec

SIZES = {"small": ("small", "small", "tiny", "little"), "large": ("large", "large", "big", "huge")}
BACKGROUNDS = {"gray": ("gray", "grey"), "navy": ("navy", "navy", "dark blue")}
DIRECTIONS = {
    "left": ("left", "to the left"),
    "right": ("right", "to the right"),
    "up": ("up", "upwards"),
    "down": ("down", "downwards"),
}

Words = dict[str, str]
Phrasing = Callable[[Words], str]

VIDEO_PHRASINGS: tuple[Phrasing, ...] = (
    lambda w: f"a {w['size']} {w['colour']} {w['shape']} moving {w['direction']} on a {w['background']} background",
    lambda w: f"{w['size']} {w['colour']} {w['shape']}, moving {w['direction']}, {w['background']} background",
    lambda w: f"a {w['size']} {w['colour']} {w['shape']} moves {w['direction']} over {w['background']}",
    lambda w: f"the {w['colour']} {w['shape']} is {w['size']} and moves {w['direction']}, {w['background']} background",
    lambda w: f"on a {w['background']} background, a {w['size']} {w['colour']} {w['shape']} goes {w['direction']}",
    lambda w: f"a video of a {w['size']} {w['colour']} {w['shape']} moving {w['direction']} on {w['background']}",
)
IMAGE_PHRASINGS: tuple[Phrasing, ...] = (
    lambda w: f"a {w['size']} {w['colour']} {w['shape']} on a {w['background']} background",
    lambda w: f"{w['size']} {w['colour']} {w['shape']}, {w['background']} background",
    lambda w: f"an image of a {w['size']} {w['colour']} {w['shape']} on {w['background']}",
    lambda w: f"on a {w['background']} background, a {w['size']} {w['colour']} {w['shape']}",
)


def caption(spec: Spec, rng: random.Random, video: bool) -> str:
    """A caption with a random phrasing."""
    words = {
        "shape": spec.shape,
        "colour": spec.colour,
        "size": rng.choice(SIZES[spec.size]),
        "direction": rng.choice(DIRECTIONS[spec.direction]),
        "background": rng.choice(BACKGROUNDS.get(spec.background, (spec.background,))),
    }
    return rng.choice(VIDEO_PHRASINGS if video else IMAGE_PHRASINGS)(words)


def plain_caption(spec: Spec, video: bool = True) -> str:
    """The first phrasing, in the plainest words."""
    phrasing = (VIDEO_PHRASINGS if video else IMAGE_PHRASINGS)[0]
    return phrasing(vars(spec))
