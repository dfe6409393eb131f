"""CausalVideoVAE in plain PyTorch with the checkpoint's tensor names, written from its specification.

Shapes: videos (N, 3, T, H, W) in [−1, 1], latents (N, z, (T−1)/4+1, H/8, W/8), moments with 2·z channels.
The factor 0.18215 does not belong to the model.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from . import vae_blocks as blocks
from .vae_tiling import Tiling

LATENT_SCALE = 0.18215


class Level(nn.Module):
    """Residual blocks, each followed by attention if configured, then the configured spatial and temporal resampling."""

    def __init__(self, c_in: int, c_out: int, depth: int, resnet: str, attention: str | None):
        super().__init__()
        resnet_class = getattr(blocks, resnet)
        self.block = nn.ModuleList(resnet_class(c_in if i == 0 else c_out, c_out) for i in range(depth))
        if attention:
            self.attn = nn.ModuleList(getattr(blocks, attention)(c_out) for _ in range(depth))

    def add_resampling(self, direction: str, channels: int, spatial: str, temporal: str) -> None:
        """Adds the modules `downsample` and `time_downsample` (or up) of the named classes; "" adds no module."""
        self.resampling = []
        for name, class_name in ((f"{direction}sample", spatial), (f"time_{direction}sample", temporal)):
            if class_name:
                self.add_module(name, getattr(blocks, class_name)(channels))
                self.resampling.append(name)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            x = block(x)
            if hasattr(self, "attn"):
                x = self.attn[i](x)
        for name in self.resampling:
            x = getattr(self, name)(x)
        return x


class Mid(nn.Module):
    def __init__(self, channels: int, resnet: str, attention: str):
        super().__init__()
        self.block_1 = getattr(blocks, resnet)(channels, channels)
        self.attn_1 = getattr(blocks, attention)(channels)
        self.block_2 = getattr(blocks, resnet)(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


def level_attention(config: dict, side: str, level: int) -> str | None:
    """The attention class of a level, chosen by the resolution in the config, not by the input's."""
    wanted = config["resolution"] // 2**level in config["attn_resolutions"]
    return config[f"{side}_attention"] if wanted else None


class Encoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        widths = [config["hidden_size"] * m for m in config["hidden_size_mult"]]
        self.conv_in = blocks.conv(config["encoder_conv_in"], 3, config["hidden_size"])
        self.down = nn.ModuleList()
        for i, (c_in, c_out) in enumerate(zip([config["hidden_size"]] + widths, widths)):
            resnet = config["encoder_resnet_blocks"][i]
            level = Level(c_in, c_out, config["num_res_blocks"], resnet, level_attention(config, "encoder", i))
            names = config["encoder_spatial_downsample"][i], config["encoder_temporal_downsample"][i]
            level.add_resampling("down", c_out, *names)
            self.down.append(level)
        self.mid = Mid(widths[-1], config["encoder_mid_resnet"], config["encoder_attention"])
        self.norm_out = blocks.group_norm(widths[-1])
        self.conv_out = blocks.conv(config["encoder_conv_out"], widths[-1], 2 * config["z_channels"])

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        widths = [config["hidden_size"] * m for m in config["hidden_size_mult"]]
        self.conv_in = blocks.conv(config["decoder_conv_in"], config["z_channels"], widths[-1])
        self.mid = Mid(widths[-1], config["decoder_mid_resnet"], config["decoder_attention"])
        self.up = nn.ModuleList()
        for i, (c_in, c_out) in enumerate(zip(widths[1:] + widths[-1:], widths)):
            resnet = config["decoder_resnet_blocks"][i]
            level = Level(c_in, c_out, config["num_res_blocks"] + 1, resnet, level_attention(config, "decoder", i))
            level.add_resampling(
                "up", c_out, config["decoder_spatial_upsample"][i], config["decoder_temporal_upsample"][i]
            )
            self.up.append(level)
        self.norm_out = blocks.group_norm(widths[0])
        self.conv_out = blocks.conv(config["decoder_conv_out"], widths[0], 3)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class CausalVAE(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        z, e = config["z_channels"], config["embed_dim"]
        self.quant_conv = blocks.conv(config["q_conv"], 2 * z, 2 * e, 1)
        self.post_quant_conv = blocks.conv(config["q_conv"], e, z, 1)

    def encode(self, video: Tensor, tiling: Tiling | None = None) -> Tensor:
        """video → moments, the mean's channels first."""
        return self.encode_window(video) if tiling is None else tiling.encode(self.encode_window, video)

    def decode(self, latent: Tensor, tiling: Tiling | None = None) -> Tensor:
        return self.decode_window(latent) if tiling is None else tiling.decode(self.decode_window, latent)

    def encode_window(self, video: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(video))

    def decode_window(self, latent: Tensor) -> Tensor:
        return self.decoder(self.post_quant_conv(latent))


def posterior(moments: Tensor) -> tuple[Tensor, Tensor]:
    """moments → mean, logvar."""
    mean, logvar = moments.chunk(2, dim=1)
    return mean, logvar.clamp(-30, 20)


def load(folder: Path) -> CausalVAE:
    """The model of a checkpoint folder, in float32."""
    model = CausalVAE(json.loads((folder / "config.json").read_text()))
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    model.load_state_dict({name: w.float() for name, w in weights.items()})
    return model.eval()
