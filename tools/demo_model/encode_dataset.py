"""Encodes random clips and images with an exported VAE, so that the transformer trains on stored latents.

    python encode_dataset.py --vae MODEL/vae --out latents.pt

The file holds {"clips": {"specs", "latents"}, "images": {"specs", "latents"}}: specs as dicts, and posterior means
(N, 4, T', H/8, W/8) times 0.18215, in float32.
"""

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

import data
from twin import vae as twin

HERE = Path(__file__).parent


@torch.inference_mode()
def encode(model: twin.CausalVAE, specs: list[data.Spec], frames: int, size: int, batch: int) -> Tensor:
    latents = []
    for start in range(0, len(specs), batch):
        clips = torch.stack([data.render(spec, frames, size) for spec in specs[start : start + batch]])
        latents.append(twin.posterior(model.encode(clips))[0] * twin.LATENT_SCALE)
    return torch.cat(latents)


def encoded_part(model: twin.CausalVAE, rng: random.Random, count: int, frames: int, size: int) -> dict:
    specs = [data.random_spec(rng) for _ in range(count)]
    batch = max(1, 32 // frames)
    return {"specs": [asdict(spec) for spec in specs], "latents": encode(model, specs, frames, size, batch)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "config.json")
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=3000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config = json.loads(args.config.read_text())["data"]
    model, rng = twin.load(args.vae), random.Random(args.seed)
    encoded = {
        "clips": encoded_part(model, rng, args.clips, config["frames"], config["size"]),
        "images": encoded_part(model, rng, args.images, 1, config["size"]),
    }
    torch.save(encoded, args.out)


if __name__ == "__main__":
    main()
