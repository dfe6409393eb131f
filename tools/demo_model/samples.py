"""Samples with the model in training, and saves pictures."""

from pathlib import Path

import torch
from torch import Tensor, nn

import diffusion
import text
from images import save_grid
from twin import vae

PROMPTS = (
    "a large red circle moving right on a black background",
    "a small blue square moving left on a white background",
    "a large green triangle moving up on a gray background",
    "a small yellow circle moving down on a navy background",
    "a large cyan square moving up on a white background",
    "a large magenta triangle moving left on a black background",
)
COLUMNS = 9
SEED = 7


@torch.inference_mode()
def sample_latents(
    model: nn.ModuleDict, ids: Tensor, noise: Tensor, steps: int, guidance: float, temporal: bool
) -> Tensor:
    """Latents (N, C, T, H, W) for token ids (N, K), with classifier-free guidance."""
    count, channels = noise.shape[:2]
    empty = torch.arange(2 * count) >= count
    hidden, mask = text.encode(model["text_encoder"], ids.repeat(2, 1), empty)

    def predict(x: Tensor, timestep: int) -> Tensor:
        at = torch.full((2 * count,), timestep)
        output = model["transformer"](x.repeat(2, 1, 1, 1, 1), at, hidden, mask, temporal)[:, :channels]
        with_caption, without = output.chunk(2)
        return without + guidance * (with_caption - without)

    return diffusion.sample(predict, noise, steps)


class SampleGrid:
    """Decoded samples for fixed prompts and noise: one row of frames for each prompt."""

    def __init__(self, vae_folder: Path, config: dict) -> None:
        self.vae = vae.load(vae_folder)
        self.training = config["transformer"]["training"]
        model = config["transformer"]["model"]
        shape = (len(PROMPTS), model["in_channels"], model["video_length"], *model["sample_size"])
        self.noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))

    @torch.inference_mode()
    def draw(self, model: nn.ModuleDict, tokens: text.Tokenizer, file: Path) -> None:
        steps, guidance = self.training["grid_steps"], self.training["grid_guidance"]
        latents = sample_latents(model, tokens(list(PROMPTS)), self.noise, steps, guidance, temporal=True)
        rows = []
        for latent in latents:
            frames = self.vae.decode(latent[None] / vae.LATENT_SCALE)[0].transpose(0, 1)
            rows.append(frames[torch.linspace(0, len(frames) - 1, COLUMNS).round().long()])
        save_grid(file, rows)
