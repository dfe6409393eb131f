"""Muon for the weights of hidden convolutions, AdamW for everything else.

Muon replaces the momentum of a weight, seen as a matrix (out, in·taps), by the nearest matrix with equal singular
values. Then the relative effect of a step on the layer's output does not depend on the number of taps; with Adam it
grows with the fan-in.
"""

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.775, 2.0315)  # coefficients of the usual quintic: singular values converge to about 1
ITERATIONS = 5
FULL_RATE_FAN_IN = 100


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix with the singular vectors of `matrix` and singular values near 1."""
    if matrix.shape[0] > matrix.shape[1]:  # the smaller Gram matrix is much cheaper
        return orthogonalised(matrix.T).T
    a, b, c = NEWTON_SCHULZ
    x = matrix / (matrix.norm() + 1e-12)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon(torch.optim.Optimizer):
    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in (p for p in group["params"] if p.grad is not None):
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                direction = p.grad.lerp(momentum, group["momentum"])  # Nesterov
                p.add_(orthogonalised(direction.flatten(1)).view_as(p), alpha=-group["lr"])


def is_hidden(weight: Tensor) -> bool:
    """Whether Muon takes a parameter: convolutions from many channels to many."""
    return weight.ndim >= 3 and min(weight.shape[:2]) >= 32


def adam_group(weight: Tensor, learning_rate: float) -> dict:
    """An AdamW group. Its rate falls with the fan-in, because the effect of a step on the output grows with the fan-in."""
    fan_in = weight[0].numel()
    return {"params": [weight], "lr": learning_rate * min(1, FULL_RATE_FAN_IN / fan_in)}


def optimizers(model: nn.Module, config: dict) -> list[torch.optim.Optimizer]:
    trained = [p for p in model.parameters() if p.requires_grad]
    hidden = [p for p in trained if is_hidden(p)]
    rest = [adam_group(p, config["learning_rate"]) for p in trained if not is_hidden(p)]
    return [
        Muon(hidden, lr=config["muon_learning_rate"], momentum=config["muon_momentum"]),
        torch.optim.AdamW(rest, betas=tuple(config["betas"]), weight_decay=0.0),
    ]


def set_rate(optimizers: list[torch.optim.Optimizer], share: float) -> None:
    """Sets every learning rate to a share of its initial value."""
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] = share * group.setdefault("full_lr", group["lr"])


def load_keeping_rates(optimizer: torch.optim.Optimizer, state: dict) -> None:
    """Loads a saved state, with the learning rates that the optimizer was made with."""
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, rate in zip(optimizer.param_groups, rates):
        group["full_lr"] = rate
