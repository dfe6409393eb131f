"""LatteT2V, the diffusion transformer, with the checkpoint's tensor names.

Hidden states are (N, T, S, D) throughout: S patches of each of T latent frames.
"""

import json
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .golden import Result, cases, relative_error, weights
from .positions import SpatialRotary, TemporalRotary, grid_embedding, sine_cosine, timestep_features

TOLERANCE = 1e-6  # golden data is float64 rounded to float32
MASKED = -10000.0
Rotary = Callable[[Tensor], Tensor]


class Attention(nn.Module):
    """Multi-head attention; with `compression` (r, number of axes), keys and values come from a strided
    depth-wise convolution of the input."""

    def __init__(self, dim: int, heads: int, compression: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        if compression:
            r, axes = compression
            convolution = {1: nn.Conv1d, 2: nn.Conv2d}[axes]
            self.sr = convolution(dim, dim, kernel_size=r, stride=r, groups=dim)
            self.norm = nn.LayerNorm(dim, eps=1e-5)

    def compress(self, x: Tensor, grid: tuple[int, ...]) -> Tensor:
        """(N, L, D) on `grid` → (N, L', D); for an odd number of frames, the first is repeated at the front."""
        if not hasattr(self, "sr"):
            return x
        maps = x.transpose(1, 2).unflatten(2, grid)
        if len(grid) == 1 and grid[0] % 2:
            maps = torch.cat([maps[..., :1]] * (self.sr.stride[0] - 1) + [maps], dim=-1)
        return self.norm(self.sr(maps).flatten(2).transpose(1, 2))

    def forward(
        self, x: Tensor, context: Tensor, mask: Tensor | None = None, rotary: Rotary | None = None
    ) -> Tensor:
        """x (N, L, D), context (N, K, D), mask (N, 1, 1, K) added to the logits → (N, L, D)."""
        q, k, v = (
            proj(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for proj, y in ((self.to_q, x), (self.to_k, context), (self.to_v, context))
        )
        if rotary:
            q, k = rotary(q), rotary(k)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.to_out[0](mixed.transpose(1, 2).flatten(2))


class Gelu(nn.Module):
    """Linear–GELU(tanh)."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        # Index 1 is the original's dropout, which has no tensors; index 2 occurs in the checkpoint's names.
        self.net = nn.ModuleList([Gelu(dim, 4 * dim), nn.Identity(), nn.Linear(4 * dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class Block(nn.Module):
    """A spatial block, or a temporal block, which has no cross-attention."""

    def __init__(self, config: dict, spatial: bool, compressed: bool) -> None:
        super().__init__()
        heads = config["num_attention_heads"]
        dim = heads * config["attention_head_dim"]
        r = config.get("compress_kv_factor", 1)
        self.eps = config["norm_eps"]
        self.scale_shift_table = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.attn1 = Attention(dim, heads, (r, 2 if spatial else 1) if compressed else None)
        self.attn2 = Attention(dim, heads) if spatial else None
        self.ff = FeedForward(dim)

    def norm(self, h: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return F.layer_norm(h, h.shape[-1:], eps=self.eps) * (1 + scale) + shift

    def self_attention(self, x: Tensor, grid: tuple[int, ...], rotary: Rotary | None) -> Tensor:
        """Attention of x (N, T, S, D) within each frame or, for a one-dimensional grid, within each position."""
        temporal = len(grid) == 1
        x = x.transpose(1, 2) if temporal else x
        groups = x.flatten(0, 1)
        mixed = self.attn1(groups, self.attn1.compress(groups, grid), rotary=rotary).view_as(x)
        return mixed.transpose(1, 2) if temporal else mixed

    def forward(
        self,
        h: Tensor,
        time: Tensor,
        grid: tuple[int, ...],
        rotary: Rotary | None,
        caption: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """h (N, T, S, D), time (N, 6, D), caption (N, K, D), mask (N, 1, 1, K); grid (Hp, Wp) or (T,)."""
        modulation = (self.scale_shift_table + time)[:, :, None, None, :]
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(1)
        h = h + gate1 * self.self_attention(self.norm(h, scale1, shift1), grid, rotary)
        if self.attn2 is not None:
            h = h + self.attn2(h.flatten(1, 2), caption, mask).view_as(h)
        return h + gate2 * self.ff(self.norm(h, scale2, shift2))


class TimestepEmbedder(nn.Module):
    """Linear–SiLU–Linear on the sinusoidal features."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(256, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, timestep: Tensor) -> Tensor:
        features = timestep_features(timestep).to(self.linear_1.weight)
        return self.linear_2(F.silu(self.linear_1(features)))


class AdaLayerNormSingle(nn.Module):
    """The timestep's embedding e, and six modulations from it that all blocks share."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.emb = nn.ModuleDict({"timestep_embedder": TimestepEmbedder(dim)})
        self.linear = nn.Linear(dim, 6 * dim)

    def forward(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(N,) → e (N, D) and (N, 6, D)."""
        e = self.emb["timestep_embedder"](timestep)
        return e, self.linear(F.silu(e)).unflatten(1, (6, -1))


class CaptionProjection(nn.Module):
    """Linear–GELU(tanh)–Linear."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, dim)
        self.linear_2 = nn.Linear(dim, dim)

    def forward(self, caption: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(caption), approximate="tanh"))


class LatteT2V(nn.Module):
    """Noisy latent, timestep and caption to predicted noise and variance."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        pairs, dim = config["num_layers"], config["num_attention_heads"] * config["attention_head_dim"]
        compressed = config.get("compress_kv_factor", 1) > 1
        if compressed and config["use_rope"]:
            raise ValueError("use_rope together with compress_kv_factor is not specified")
        self.config, self.dim, self.patch = config, dim, config["patch_size"]
        self.pos_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(config["in_channels"], dim, kernel_size=self.patch, stride=self.patch)}
        )
        blocks = [
            nn.ModuleList(Block(config, spatial, compressed and i >= pairs // 2) for i in range(pairs))
            for spatial in (True, False)
        ]
        self.transformer_blocks, self.temporal_transformer_blocks = blocks
        self.adaln_single = AdaLayerNormSingle(dim)
        self.caption_projection = CaptionProjection(config["caption_channels"], dim)
        self.scale_shift_table = nn.Parameter(torch.randn(2, dim) / dim**0.5)
        self.proj_out = nn.Linear(dim, self.patch**2 * config["out_channels"])

    def spatial_scale(self) -> int:
        return max(self.config["sample_size"][0] // 64, 1)

    def temporal_scale(self) -> float:
        length, scale = self.config["video_length"], self.config.get("interpolation_scale_1d")
        return scale if scale is not None else max((length - length % 2) // 16, 1)

    def embed(self, latent: Tensor) -> Tensor:
        """Embeds patches and their places in the frame: (N, C, T, H, W) → (N, T, S, D)."""
        patches = self.pos_embed["proj"](latent.transpose(1, 2).flatten(0, 1))
        base = self.config["sample_size"][0] // self.patch
        place = grid_embedding(*patches.shape[2:], self.dim, base, self.spatial_scale())
        return (patches.flatten(2).transpose(1, 2) + place.to(patches)).unflatten(0, (len(latent), -1))

    def rotaries(self, frames: int, grid: tuple[int, int]) -> tuple[Rotary | None, Rotary | None]:
        if not self.config["use_rope"]:
            return None, None
        head_dim = self.config["attention_head_dim"]
        spatial = SpatialRotary(*grid, head_dim, self.spatial_scale())
        return spatial, TemporalRotary(frames, head_dim, self.temporal_scale())

    def unpatchify(self, h: Tensor, e: Tensor, grid: tuple[int, int]) -> Tensor:
        """(N, T, S, D) → (N, out_channels, T, H, W)."""
        shift, scale = (self.scale_shift_table + e[:, None])[:, :, None, None, :].unbind(1)
        h = F.layer_norm(h, h.shape[-1:], eps=self.config["norm_eps"]) * (1 + scale) + shift
        pixels = self.proj_out(h).unflatten(3, (self.patch, self.patch, -1)).unflatten(2, grid)
        # N T Hp Wp p q C → N C T (Hp p) (Wp q)
        return pixels.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)

    def forward(
        self,
        latent: Tensor,
        timestep: Tensor,
        caption: Tensor,
        caption_mask: Tensor | None = None,
        temporal: bool = True,
    ) -> Tensor:
        """latent (N, C, T, H, W), timestep (N,), caption (N, K, caption_channels), caption_mask (N, K), 0 where
        hidden → (N, out_channels, T, H, W). Images take temporal=False."""
        frames, grid = latent.shape[2], (latent.shape[3] // self.patch, latent.shape[4] // self.patch)
        h, (e, time) = self.embed(latent), self.adaln_single(timestep)
        caption = self.caption_projection(caption)
        mask = None if caption_mask is None else (MASKED * (1 - caption_mask.to(h)))[:, None, None, :]
        in_space, in_time = self.rotaries(frames, grid)
        order = sine_cosine(torch.arange(frames) / self.temporal_scale(), self.dim).to(h)
        for i, spatial in enumerate(self.transformer_blocks):
            h = spatial(h, time, grid, in_space, caption, mask)
            if temporal:
                h = h + order[:, None, :] if i == 0 else h
                h = self.temporal_transformer_blocks[i](h, time, (frames,), in_time)
        return self.unpatchify(h, e, grid)


@torch.inference_mode()
def check(folder: Path) -> list[Result]:
    """Golden checks."""
    model = LatteT2V(json.loads((folder / "config.json").read_text())).double()
    unused = "caption_projection.y_embedding"  # only for training
    model.load_state_dict({name: w for name, w in weights(folder).items() if name != unused})
    results = []
    for case, (description, tensors) in cases(folder).items():
        latent, caption = tensors["latent"].double(), tensors["caption"].double()
        timestep = torch.full((len(latent),), description["timestep"])
        output = model(latent, timestep, caption, tensors.get("caption_mask"), description["temporal"])
        results.append((case, "output", relative_error(output, tensors["output"]), TOLERANCE))
    return results
