"""Golden checks of the VAE twin."""

import json
from pathlib import Path

import torch

from .golden import Result, cases, relative_error, weights
from .vae import CausalVAE
from .vae_tiling import Tiling

TOLERANCE = 1e-6  # golden data is float64 rounded to float32


def tiling_of(description: dict) -> Tiling | None:
    tile = description["tile"]
    if tile is None:
        return None
    return Tiling(tile["tile_sample_min_size"], tile["tile_sample_min_size_t"], tile["tile_overlap_factor"])


@torch.inference_mode()
def check(folder: Path) -> list[Result]:
    model = CausalVAE(json.loads((folder / "config.json").read_text())).double()
    model.load_state_dict(weights(folder))
    results = []
    for case, (description, tensors) in cases(folder).items():
        tiling = tiling_of(description)
        moments = model.encode(tensors["video"].double(), tiling)
        decoded = model.decode(tensors["latent"].double(), tiling)
        results += [
            (case, "moments", relative_error(moments, tensors["moments"]), TOLERANCE),
            (case, "decoded", relative_error(decoded, tensors["decoded"]), TOLERANCE),
        ]
    return results
