"""Writes trained components in the checkpoint layout: config.json and diffusion_pytorch_model.safetensors in bf16.

    python export.py vae --state RUN/vae.pt --out MODEL
"""

import argparse
import json
import random
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

import data
from twin import vae as twin

HERE = Path(__file__).parent
STATISTICS_CLIPS = 64
WEIGHTS = "diffusion_pytorch_model.safetensors"


def save(folder: Path, config: dict, weights: dict[str, Tensor], file: str = WEIGHTS) -> None:
    """Writes a component of a model directory."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: w.to(torch.bfloat16).contiguous() for name, w in weights.items()}, folder / file)


@torch.inference_mode()
def latent_statistics(model: twin.CausalVAE, config: dict) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent channel over random clips."""
    rng = random.Random("latent statistics")
    latents = []
    for _ in range(STATISTICS_CLIPS):
        clip = data.render(data.random_spec(rng), config["frames"], config["size"])
        latents.append(twin.posterior(model.encode(clip[None]))[0])
    channels = torch.cat(latents).double().transpose(0, 1).flatten(1)
    return channels.mean(1), channels.std(1)


def fold_scale(weights: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """Moves (z − mean) / (std · 0.18215) into quant_conv and its inverse into post_quant_conv.

    The engine multiplies latents by 0.18215, which then have mean 0 and variance 1 in every channel.
    """
    folded = {name: w.double() for name, w in weights.items()}
    scale, channels = std * twin.LATENT_SCALE, len(mean)
    weight, bias = folded["quant_conv.conv.weight"], folded["quant_conv.conv.bias"]
    weight[:channels] /= scale.view(-1, 1, 1, 1, 1)
    bias[:channels] = (bias[:channels] - mean) / scale
    bias[channels:] -= 2 * scale.log()
    weight, bias = folded["post_quant_conv.conv.weight"], folded["post_quant_conv.conv.bias"]
    bias += weight[:, :, 0, 0, 0] @ mean
    weight *= scale.view(1, -1, 1, 1, 1)
    return folded


def export_vae(config: dict, state: Path, out: Path) -> None:
    """Scales the latents to unit variance. A model that was trained from an export (--init-from) already has them scaled."""
    saved = torch.load(state, weights_only=True)
    weights = saved["ema"]
    if not saved["from_export"]:
        model = twin.CausalVAE(config["vae"]["model"]).eval()
        model.load_state_dict(weights)
        weights = fold_scale(weights, *latent_statistics(model, config["data"]))
    save(out / "vae", config["vae"]["model"], weights)


EXPORTERS = {"vae": export_vae}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=EXPORTERS)
    parser.add_argument("--config", type=Path, default=HERE / "config.json")
    parser.add_argument("--state", type=Path, required=True, help="the state that training saved")
    parser.add_argument("--out", type=Path, required=True, help="the model directory")
    args = parser.parse_args()
    EXPORTERS[args.part](json.loads(args.config.read_text()), args.state, args.out)


if __name__ == "__main__":
    main()
