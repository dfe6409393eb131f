"""Weights computed from a seed and each tensor's name, as defined in golden/README.md, "Synthetic weights"."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def fnv1a(name: str) -> int:
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = (h ^ byte) * 0x100000001B3 % 2**64
    return h


def uniform(name: str, count: int, seed: int) -> np.ndarray:
    """`count` values in [−1, 1), float64."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z += np.uint64(fnv1a(name) ^ seed)
    z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1


def tensor(name: str, shape: list[int], seed: int) -> Tensor:
    """One tensor of the recipe, in bf16."""
    count = int(np.prod(shape))
    u = uniform(name, count, seed)
    last = name.rsplit(".", 1)[-1]
    if last == "mix_factor":
        values = 1.5 * u
    elif len(shape) == 1 and "norm" in name and name.endswith("weight"):
        values = 1 + 0.3 * u
    elif len(shape) == 1:
        values = 0.15 * u
    elif last == "scale_shift_table":
        values = 0.8 * u
    else:
        values = u * np.sqrt(3 / (count / shape[0]))
    return torch.from_numpy(values.astype(np.float32)).reshape(shape).to(torch.bfloat16)


def load(file: Path) -> dict[str, Tensor]:
    """All tensors that a synthetic.json describes."""
    description = json.loads(file.read_text())
    return {name: tensor(name, shape, description["seed"]) for name, shape in description["tensors"].items()}
