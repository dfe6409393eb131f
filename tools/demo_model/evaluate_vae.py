"""PSNR of an exported VAE on held-out clips and images, decoded from posterior means.

    python evaluate_vae.py --vae MODEL/vae
"""

import argparse
import json
from pathlib import Path

import torch

from train_vae import held_out, psnr, reconstruct
from twin import vae as twin

HERE = Path(__file__).parent


def scores(model: twin.CausalVAE, count: int, frames: int, size: int) -> list[float]:
    """PSNR in dB of each held-out clip."""
    return [psnr(reconstruct(model, clip[None]), clip[None]).item() for clip in held_out(count, frames, size)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "config.json")
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    config, model = json.loads(args.config.read_text())["data"], twin.load(args.vae)
    for name, count, frames in (("clips", args.clips, config["frames"]), ("images", args.images, 1)):
        found = scores(model, count, frames, config["size"])
        pooled = -10 * torch.tensor([10 ** (-x / 10) for x in found]).mean().log10().item()
        mean, worst = sum(found) / count, min(found)
        print(f"{count} {name}: mean of PSNRs {mean:.2f} dB, PSNR of all {pooled:.2f} dB, worst {worst:.2f} dB")


if __name__ == "__main__":
    main()
