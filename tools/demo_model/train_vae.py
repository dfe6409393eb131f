"""Trains the demo VAE in the stages of config.json: images first, then short clips, then longer ones.

    python train_vae.py --out DIR [--resume] [--init-from CHECKPOINT_FOLDER] [--decoder-only]

With --decoder-only the encoder does not change, so that stored latents stay valid while the decoder improves.
DIR receives vae.pt (the state to resume from), vae.jsonl (the log) and vae_*.png (reconstructions).
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from torch import Tensor

import data
import vae_init
from images import save_grid
from optimizer import load_keeping_rates, optimizers, set_rate
from twin import vae as twin

HERE = Path(__file__).parent
SAVE_SECONDS = 60
GRID_STEPS = 100
FIT_IMAGES = 48


class Trainer:
    def __init__(self, config: dict, out: Path, decoder_only: bool):
        self.config, self.out = dict(config["vae"]["training"]), out
        if decoder_only:
            self.config.update(config["vae"]["decoder_training"])
        self.data = config["data"]
        torch.manual_seed(self.config["seed"])
        self.model = twin.CausalVAE(config["vae"]["model"])
        vae_init.start(self.model)
        vae_init.fit_outputs(self.model, images_to_fit(self.data["size"]))
        self.model.requires_grad_(not decoder_only).decoder.requires_grad_(True)
        self.optimizers = optimizers(self.model, self.config)
        self.ema = {name: w.clone() for name, w in self.model.state_dict().items()}
        self.step, self.seconds, self.from_export = 0, 0.0, False
        self.total_steps = sum(stage["steps"] for stage in self.config["stages"])

    def init_from(self, folder: Path) -> None:
        """Loads the weights of a checkpoint folder."""
        self.model.load_state_dict(twin.load(folder).state_dict())
        self.from_export = True
        self.ema = {name: w.clone() for name, w in self.model.state_dict().items()}

    def save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "ema": self.ema,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "from_export": self.from_export,
        }
        partial = self.out / "vae.pt.partial"
        torch.save(state, partial)
        partial.rename(self.out / "vae.pt")

    def resume(self) -> None:
        state = torch.load(self.out / "vae.pt", weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"]):
            load_keeping_rates(optimizer, saved)
        self.ema, self.step, self.seconds = state["ema"], state["step"], state["seconds"]
        self.from_export = state["from_export"]

    def stage(self) -> tuple[dict, bool]:
        """The stage of this step, and whether the step is its first."""
        first = 0
        for stage in self.config["stages"]:
            if self.step < first + stage["steps"]:
                break
            first += stage["steps"]
        return stage, self.step == first

    def rate(self) -> float:
        """The share of the full learning rates: linear warm-up, then a cosine to the final share."""
        final = self.config["final_rate"]
        warmup = min(1.0, (self.step + 1) / self.config["warmup_steps"])
        progress = self.step / self.total_steps
        return warmup * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))

    def update(self, loss: Tensor) -> float:
        """Makes one optimizer step; returns the gradient's norm."""
        self.model.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config["clip_norm"])
        set_rate(self.optimizers, self.rate())
        for optimizer in self.optimizers:
            optimizer.step()
        self.update_ema()
        return norm.item()

    def batch(self, stage: dict) -> tuple[Tensor, Tensor]:
        """Clips (N, 3, T, H, W) and masks. They depend only on seed and step, so that resuming changes nothing."""
        rng = random.Random(f"{self.config['seed']} {self.step}")
        torch.manual_seed(rng.getrandbits(62))  # seed of the posterior's noise
        kind = rng.choices(stage["batches"], [kind["share"] for kind in stage["batches"]])[0]
        pairs = [
            data.training_clip(rng, self.data["frames"], kind["frames"], kind["crop"], self.data["size"])
            for _ in range(kind["batch"])
        ]
        clips, masks = zip(*pairs)
        return torch.stack(clips), torch.stack(masks)

    def loss(self, clips: Tensor, masks: Tensor) -> tuple[Tensor, dict[str, float]]:
        mean, logvar = twin.posterior(self.model.encode(clips))
        decoded = self.model.decode(mean + (0.5 * logvar).exp() * torch.randn_like(mean))
        difference = decoded - clips
        weight = 1 + self.config["foreground_weight"] * masks
        reconstruction = (weight * (difference.abs() + difference.square())).mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        total = reconstruction + self.config["kl_weight"] * kl
        values = {"loss": total, "kl": kl, "psnr": psnr(decoded, clips), "logvar": logvar.mean()}
        return total, {name: value.item() for name, value in values.items()}

    def train_step(self) -> dict:
        started = time.time()
        stage, first = self.stage()
        if first and "reset_mix_factors" in stage:
            vae_init.reset_mix_factors(self.model, stage["reset_mix_factors"])
        clips, masks = self.batch(stage)
        loss, values = self.loss(clips, masks)
        gradient = self.update(loss)
        self.step += 1
        self.seconds += time.time() - started
        shape = list(clips.shape)
        return {"step": self.step, "seconds": self.seconds, "clips": shape, "gradient": gradient, **values}

    @torch.no_grad()
    def update_ema(self) -> None:
        decay = min(self.config["ema"], self.step / (self.step + 10))
        for name, weight in self.model.state_dict().items():
            self.ema[name].lerp_(weight, 1 - decay)

    def averaged(self) -> twin.CausalVAE:
        """A copy of the model with the averaged weights."""
        model = twin.CausalVAE(self.model.config)
        model.load_state_dict(self.ema)
        return model.eval()

    def report(self) -> dict:
        """PSNR of the averaged weights on held-out images and one clip, and a picture of both."""
        model = self.averaged()
        images = held_out(32, 1, self.data["size"])
        clip = held_out(1, self.data["frames"], self.data["size"])
        found_images, found_clip = reconstruct(model, images), reconstruct(model, clip)
        rows = [images[:16, :, 0], found_images[:16, :, 0], *(x[0].transpose(0, 1)[::2] for x in (clip, found_clip))]
        save_grid(self.out / f"vae_{self.step:05}.png", [row[:16] for row in rows])
        scores = {"images_psnr": psnr(found_images, images).item(), "clip_psnr": psnr(found_clip, clip).item()}
        return {"step": self.step, **scores}

    def run(self) -> None:
        saved = time.time()
        with (self.out / "vae.jsonl").open("a") as log:
            while self.step < self.total_steps:
                entries = [self.train_step()]
                last = self.step == self.total_steps
                if self.step % GRID_STEPS == 0 or last:
                    entries.append(self.report())
                for entry in entries:
                    log.write(json.dumps(entry) + "\n")
                log.flush()
                if time.time() - saved > SAVE_SECONDS or last:
                    self.save()
                    saved = time.time()


def psnr(found: Tensor, expected: Tensor) -> Tensor:
    """PSNR in dB, of pixels mapped to [0, 1]."""
    difference = (found.clamp(-1, 1) - expected) / 2
    return -10 * difference.square().mean().log10()


def images_to_fit(size: int) -> Tensor:
    """(N, 3, 1, H, W): images for the initial weights that are computed in closed form."""
    rng = random.Random("fit")
    return torch.stack([data.render(data.random_spec(rng), 1, size) for _ in range(FIT_IMAGES)])


def held_out(count: int, frames: int, size: int) -> Tensor:
    """(N, 3, T, H, W): clips from a seed that training does not use."""
    rng = random.Random(f"held out {frames}")
    return torch.stack([data.render(data.random_spec(rng), frames, size) for _ in range(count)])


@torch.inference_mode()
def reconstruct(model: twin.CausalVAE, clips: Tensor) -> Tensor:
    """Decoded posterior means."""
    return model.decode(twin.posterior(model.encode(clips))[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "config.json")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="continue from OUT/vae.pt")
    parser.add_argument("--init-from", type=Path, help="start from the weights of this folder")
    parser.add_argument("--decoder-only", action="store_true", help="do not change the encoder")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(json.loads(args.config.read_text()), args.out, args.decoder_only)
    if args.init_from:
        trainer.init_from(args.init_from)
    if args.resume:
        trainer.resume()
    trainer.run()


if __name__ == "__main__":
    main()
