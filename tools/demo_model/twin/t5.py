"""The T5 v1.1 encoder, with the checkpoint's tensor names."""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from .golden import Result, cases, relative_error

TOLERANCE = 1e-6  # golden data is float64 rounded to float32


class RMSNorm(nn.Module):
    """x / rms(x) · weight, without mean and bias."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def relative_buckets(length: int, buckets: int, max_distance: int) -> Tensor:
    """(query, key) → bucket. Half of the buckets are for keys after the query. In each half, the first half of the buckets is
    for exact distances, the rest is logarithmic up to `max_distance`."""
    position = torch.arange(length)
    offset = position[None, :] - position[:, None]
    half, exact = buckets // 2, buckets // 4
    distance = offset.abs()
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (half - exact)).long()).clamp(max=half - 1)
    return (offset > 0) * half + torch.where(distance < exact, distance, far)


class SelfAttention(nn.Module):
    """Attention without biases and without 1/√d; only the first block holds the position bias."""

    def __init__(self, config: dict, has_bias: bool) -> None:
        super().__init__()
        self.heads = config["num_heads"]
        dim, inner = config["d_model"], config["num_heads"] * config["d_kv"]
        self.q, self.k, self.v = (nn.Linear(dim, inner, bias=False) for _ in range(3))
        self.o = nn.Linear(inner, dim, bias=False)
        if has_bias:
            buckets = config["relative_attention_num_buckets"]
            self.relative_attention_bias = nn.Embedding(buckets, self.heads)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x (N, L, d_model), bias (N, heads, L, L) → (N, L, d_model)."""
        q, k, v = (proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return self.o(mixed.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """gelu(x·wi_0) · (x·wi_1), then wo."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(dim, inner, bias=False)
        self.wi_1 = nn.Linear(dim, inner, bias=False)
        self.wo = nn.Linear(inner, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.wo(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x))


def block(config: dict, has_bias: bool) -> nn.Module:
    """One encoder block: a tree of modules that gives the checkpoint's names."""
    norm = lambda: RMSNorm(config["d_model"], config["layer_norm_epsilon"])  # noqa: E731
    attention = nn.ModuleDict({"SelfAttention": SelfAttention(config, has_bias), "layer_norm": norm()})
    feed_forward = GatedFeedForward(config["d_model"], config["d_ff"])
    return nn.ModuleDict(
        {"layer": nn.ModuleList([attention, nn.ModuleDict({"DenseReluDense": feed_forward, "layer_norm": norm()})])}
    )


class T5Encoder(nn.Module):
    """Token ids to hidden states."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        self.shared = nn.Embedding(config["vocab_size"], config["d_model"])
        blocks = nn.ModuleList(block(config, has_bias=i == 0) for i in range(config["num_layers"]))
        final = RMSNorm(config["d_model"], config["layer_norm_epsilon"])
        self.encoder = nn.ModuleDict({"block": blocks, "final_layer_norm": final})

    def bias(self, mask: Tensor) -> Tensor:
        """The position bias of the first block plus the key mask: mask (N, L) → (N, heads, L, L)."""
        table = self.encoder["block"][0]["layer"][0]["SelfAttention"].relative_attention_bias.weight
        buckets = self.config["relative_attention_num_buckets"]
        max_distance = self.config["relative_attention_max_distance"]
        bias = table[relative_buckets(mask.shape[1], buckets, max_distance)].permute(2, 0, 1)
        keys = mask[:, None, None, :].bool()
        return bias.masked_fill(~keys, torch.finfo(table.dtype).min)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids, mask (N, L) → hidden states (N, L, d_model), also at masked positions."""
        x, bias = self.shared(ids), self.bias(mask)
        for layers in self.encoder["block"]:
            attention, feed_forward = layers["layer"]
            x = x + attention["SelfAttention"](attention["layer_norm"](x), bias)
            x = x + feed_forward["DenseReluDense"](feed_forward["layer_norm"](x))
        return self.encoder["final_layer_norm"](x)


@torch.inference_mode()
def check(folder: Path) -> list[Result]:
    """Golden checks: `folder` holds text_encoder/."""
    folder = folder / "text_encoder"
    model = T5Encoder(json.loads((folder / "config.json").read_text()))
    model.load_state_dict(load_file(folder / "model.safetensors"))
    model.double()
    results = []
    for case, (_, tensors) in cases(folder).items():
        hidden = model(tensors["ids"], tensors["mask"])
        results.append((case, "hidden", relative_error(hidden, tensors["hidden"]), TOLERANCE))
    return results
