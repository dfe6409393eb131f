"""The diffusion process: adding noise, weighting the loss, and sampling with DPM-Solver++."""

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 1000
ALPHAS_BAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, STEPS, dtype=torch.float64), dim=0).float()

Predictor = Callable[[Tensor, int], Tensor]  # noisy latent, timestep → noise


def per_item(values: Tensor, like: Tensor) -> Tensor:
    """(N,) → (N, 1, …), to be multiplied with `like`."""
    return values.view(-1, *[1] * (like.dim() - 1))


def add_noise(clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
    """clean, noise (N, …), timestep (N,) → the noisy latent."""
    alpha_bar = per_item(ALPHAS_BAR[timestep], clean)
    return alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * noise


def random_timesteps(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """(count,) timesteps, stratified so that every batch covers all noise levels; shift > 1 prefers high noise,
    where colours and directions are decided."""
    u = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    shifted = shift * u / (1 + (shift - 1) * u)
    return (shifted * STEPS).long().clamp(max=STEPS - 1)[torch.randperm(count, generator=generator)]


def loss_weights(timestep: Tensor, greatest: float) -> Tensor:
    """Weights for noise prediction that weigh the clean latent's error by √ᾱ / (√ᾱ + √(1 − ᾱ)).

    Plain noise prediction nearly ignores this error at high noise, where the prompt matters most."""
    alpha_bar = ALPHAS_BAR[timestep]
    snr = alpha_bar / (1 - alpha_bar)
    return (1 / (snr + snr.sqrt())).clamp(max=greatest)


def sampling_timesteps(steps: int) -> list[int]:
    """Evenly spaced from 999 downwards, without 0."""
    return torch.linspace(0, STEPS - 1, steps + 1).round().long().flip(0)[:-1].tolist()


def sample(predict: Predictor, noise: Tensor, steps: int) -> Tensor:
    """DPM-Solver++ of order 2 (multistep, midpoint); the first and last steps are of order 1; it ends without noise."""
    timesteps = sampling_timesteps(steps)
    alpha_bar = torch.cat([ALPHAS_BAR[timesteps], torch.ones(1)]).double()
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    log_snr = alpha.log() - sigma.log()  # infinite at the end, where exp(−h) below is 0
    x, previous = noise, None
    for i, t in enumerate(timesteps):
        clean = (x - sigma[i].item() * predict(x, t)) / alpha[i].item()
        h = log_snr[i + 1] - log_snr[i]
        direction = clean
        if previous is not None and i + 1 < steps:
            ratio = ((log_snr[i] - log_snr[i - 1]) / h).item()
            direction = clean + (clean - previous) / (2 * ratio)
        keep = (sigma[i + 1] / sigma[i]).item()
        x = keep * x + (alpha[i + 1] * (1 - torch.exp(-h))).item() * direction
        previous = clean
    return x
