"""Helpers of the golden checks of all twins: reading cases and measuring errors."""

import json
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from . import synthetic

Result = tuple[str, str, float, float]  # case, tensor, relative error, tolerance


def cases(folder: Path) -> dict[str, tuple[dict, dict[str, Tensor]]]:
    """case name → (its description, its tensors)."""
    tensors: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(folder / "cases.safetensors").items():
        case, name = key.rsplit(".", 1)
        tensors.setdefault(case, {})[name] = value
    descriptions = json.loads((folder / "cases.json").read_text())
    return {case: (description, tensors[case]) for case, description in descriptions.items()}


def weights(folder: Path) -> dict[str, Tensor]:
    """The folder's weights in float64, from the file or from the synthetic recipe."""
    recipe = folder / "synthetic.json"
    if recipe.exists():
        found = synthetic.load(recipe)
    else:
        found = load_file(folder / "diffusion_pytorch_model.safetensors")
    return {name: w.double() for name, w in found.items()}


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Relative L2 error."""
    expected = expected.double()
    return ((found.double() - expected).norm() / expected.norm()).item()
