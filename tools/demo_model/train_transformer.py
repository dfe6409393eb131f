"""Trains the transformer and the text encoder together on encoded clips and images.

    python train_transformer.py --latents latents.pt --out DIR [--vae MODEL/vae] [--resume | --init-from MODEL]

DIR receives spiece.model, transformer.pt (the state to resume from), transformer.jsonl (the log) and, with --vae,
samples_*.png.
"""

import argparse
import copy
import json
import math
import random
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import diffusion
import export_transformer
import text
import tokenizer
import transformer_init
from captions import caption
from data import Spec
from optimizer import Muon
from samples import SampleGrid
from twin.latte import LatteT2V
from twin.t5 import T5Encoder

HERE = Path(__file__).parent
SAVE_SECONDS = 120


def new_model(config: dict) -> nn.ModuleDict:
    """The transformer and the text encoder, initialised for training."""
    transformer, encoder = LatteT2V(config["transformer"]["model"]), T5Encoder(config["text_encoder"]["model"])
    transformer_init.start_transformer(transformer)
    transformer_init.start_text_encoder(encoder)
    return nn.ModuleDict({"transformer": transformer, "text_encoder": encoder})


def optimizers(model: nn.ModuleDict, config: dict) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the transformer's blocks, AdamW for everything else, with a low rate for the weights that copy
    the input to the output. Each group's "full_rate" is its learning rate before the schedule."""
    blocks = ("transformer.transformer_blocks", "transformer.temporal_transformer_blocks")
    carriers = ("transformer.pos_embed", "transformer.proj_out", "transformer.scale_shift_table")
    hidden, slow, rest = [], [], []
    for name, p in model.named_parameters():
        if name.startswith(blocks) and name.endswith("weight"):
            hidden.append(p)
        else:
            (slow if name.startswith(carriers) else rest).append(p)
    rate = config["learning_rate"]
    adam = torch.optim.AdamW(
        [{"params": rest, "full_rate": rate}, {"params": slow, "full_rate": rate * config["slow_rate"]}],
        betas=tuple(config["betas"]),
        weight_decay=0.0,
    )
    muon = Muon(hidden, lr=config["muon_learning_rate"], momentum=config["muon_momentum"])
    muon.param_groups[0]["full_rate"] = config["muon_learning_rate"]
    return [muon, adam]


class Batches:
    """Random items of the encoded dataset with new captions; they depend only on seed and step."""

    def __init__(self, files: list[Path], config: dict, tokens: text.Tokenizer) -> None:
        stored = [torch.load(file, weights_only=True) for file in files]
        self.parts = {}
        for kind in ("clips", "images"):
            latents = torch.cat([file[kind]["latents"] for file in stored])
            self.parts[kind] = latents, [Spec(**spec) for file in stored for spec in file[kind]["specs"]]
        self.config, self.tokens = config, tokens

    def __call__(self, step: int) -> tuple[Tensor, Tensor, bool]:
        """Latents (N, C, T, H, W), token ids (N, K), and whether they are videos."""
        rng = random.Random(f"{self.config['seed']} {step}")
        video = step >= self.config["image_steps"] and rng.random() >= self.config["image_share"]
        latents, specs = self.parts["clips" if video else "images"]
        count = self.config["batch" if video else "image_batch"]
        chosen = [rng.randrange(len(specs)) for _ in range(count)]
        captions = [caption(specs[i], rng, video) for i in chosen]
        return latents[chosen], self.tokens(captions), video


class Trainer:
    def __init__(self, config: dict, out: Path, latents: list[Path]) -> None:
        self.config, self.out = config["transformer"]["training"], out
        torch.manual_seed(self.config["seed"])
        self.model = new_model(config)
        self.ema = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizers = optimizers(self.model, self.config)
        pieces = out / "spiece.model"
        if not pieces.exists():
            pieces.write_bytes(tokenizer.make(config["text_encoder"]))
        self.tokens = text.Tokenizer(pieces)
        self.batches = Batches(latents, self.config, self.tokens)
        self.step, self.seconds = 0, 0.0

    def init_from(self, folder: Path) -> None:
        """Loads the weights of a model directory; the schedule starts from the beginning."""
        for model in (self.model, self.ema):
            export_transformer.load(folder, model)

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.out / "transformer.pt.partial"
        torch.save(state, partial)
        partial.rename(self.out / "transformer.pt")

    def resume(self) -> None:
        state = torch.load(self.out / "transformer.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def rate(self) -> float:
        """The share of the full learning rates: linear warm-up, then a cosine to the final share."""
        final = self.config["final_rate"]
        warmup = min(1.0, (self.step + 1) / self.config["warmup_steps"])
        return warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * self.step / self.config["steps"])))

    def loss(self) -> tuple[Tensor, bool]:
        """The weighted error of the predicted noise."""
        clean, ids, video = self.batches(self.step)
        generator = torch.Generator().manual_seed(self.config["seed"] * 1_000_003 + self.step)
        timestep = diffusion.random_timesteps(len(clean), self.config["timestep_shift"], generator)
        noise = torch.randn(clean.shape, generator=generator)
        empty = torch.rand(len(clean), generator=generator) < self.config["caption_dropout"]
        hidden, mask = text.encode(self.model["text_encoder"], ids, empty)
        noisy = diffusion.add_noise(clean, noise, timestep)
        predicted = self.model["transformer"](noisy, timestep, hidden, mask, temporal=video)[:, : clean.shape[1]]
        error = (predicted - noise).square().flatten(1).mean(1)
        return (diffusion.loss_weights(timestep, self.config["greatest_weight"]) * error).mean(), video

    def train_step(self) -> dict:
        started = time.time()
        loss, video = self.loss()
        self.model.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config["clip_norm"])
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_rate"] * self.rate()
            optimizer.step()
        self.step += 1
        self.update_ema()
        self.seconds += time.time() - started
        kind = "video" if video else "image"
        return {"step": self.step, "seconds": self.seconds, "kind": kind, "loss": loss.item(), "gradient": norm.item()}

    @torch.no_grad()
    def update_ema(self) -> None:
        decay = min(self.config["ema"], self.step / (self.step + 10))
        torch._foreach_lerp_(list(self.ema.parameters()), list(self.model.parameters()), 1 - decay)

    def run(self, grid: SampleGrid | None) -> None:
        saved = drawn = time.time()
        with (self.out / "transformer.jsonl").open("a") as log:
            while self.step < self.config["steps"]:
                log.write(json.dumps(self.train_step()) + "\n")
                log.flush()
                if time.time() - saved > SAVE_SECONDS:
                    self.save()
                    saved = time.time()
                if grid and time.time() - drawn > 60 * self.config["grid_minutes"]:
                    grid.draw(self.ema, self.tokens, self.out / f"samples_{self.step:05}.png")
                    drawn = time.time()
        self.save()
        if grid:
            grid.draw(self.ema, self.tokens, self.out / f"samples_{self.step:05}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "config.json")
    parser.add_argument("--latents", type=Path, nargs="+", required=True, help="files of encode_dataset.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vae", type=Path, help="draw sample grids with this VAE")
    parser.add_argument("--threads", type=int, default=2)
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue from OUT/transformer.pt")
    start.add_argument("--init-from", type=Path, help="start from the weights of this model directory")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    config = json.loads(args.config.read_text())
    trainer = Trainer(config, args.out, args.latents)
    if args.init_from:
        trainer.init_from(args.init_from)
    if args.resume:
        trainer.resume()
    trainer.run(SampleGrid(args.vae, config) if args.vae else None)


if __name__ == "__main__":
    main()
