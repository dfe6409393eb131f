"""Initial weights of the VAE: close to a linear autoencoder.

GroupNorm removes mean and scale of each group, and so flat colour. It is nearly affine if different constants in the channels
of a group dominate the statistics. So the biases before norms start with different values.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twin import vae_blocks as blocks
from twin.vae import CausalVAE, posterior

BIAS_SPREAD = 1.0
SIGNAL_GAIN = 3.0  # gain of the convolutions that feed each half; smaller signals would need large output weights
FIRST_LOGVAR = -8.0
RANDOM_SHARE = 0.3
RIDGE = 1e-2  # relative to the mean diagonal


def inner(module: nn.Module) -> nn.Module:
    """The convolution inside a CausalConv3d, or the module itself."""
    return module.conv if isinstance(module, blocks.CausalConv3d) else module


def zero(module: nn.Module) -> None:
    nn.init.zeros_(inner(module).weight)
    nn.init.zeros_(inner(module).bias)


def spread_bias(module: nn.Module) -> None:
    """Evenly spaced values in each group of channels, in random order."""
    bias = inner(module).bias
    per_group = len(bias) // blocks.GROUPS
    values = torch.linspace(-BIAS_SPREAD, BIAS_SPREAD, per_group)
    groups = [values[torch.randperm(per_group)] for _ in range(blocks.GROUPS)]
    bias.copy_(torch.cat(groups))


def add_identity(module: nn.Module, taps: list[tuple[int, ...]]) -> None:
    """Adds the average over the kernel positions `taps` to reduced random weights, and removes the bias."""
    weight: Tensor = inner(module).weight
    weight *= RANDOM_SHARE
    channels = torch.arange(weight.shape[0])
    for tap in taps:
        weight[(channels, channels, *tap)] += 1 / len(taps)
    nn.init.zeros_(inner(module).bias)


def start_resampling(module: nn.Module) -> None:
    quad = [(0, 0), (0, 1), (1, 0), (1, 1)]
    if isinstance(module, blocks.SpatialDownsample2x):
        add_identity(module.conv, [(0, *tap) for tap in quad])
    elif isinstance(module, blocks.Downsample):
        add_identity(module.conv, quad)
    elif isinstance(module, blocks.SpatialUpsample2x):
        add_identity(module.conv, [(0, 1, 1)])
    elif isinstance(module, blocks.Upsample):
        add_identity(module.conv, [(1, 1)])
    elif isinstance(module, blocks.TimeDownsampleRes2x):
        add_identity(module.conv, [(1, 1, 1)])
    elif isinstance(module, blocks.TimeUpsampleRes2x):
        add_identity(module.conv, [(2, 1, 1)])


@torch.no_grad()
def start(model: CausalVAE) -> None:
    """Sets the starting weights in place."""
    for module in model.modules():
        if isinstance(module, blocks.ResnetBlock3D):
            spread_bias(module.conv1)
            zero(module.conv2)
        elif isinstance(module, blocks.AttnBlock3DFix):
            zero(module.proj_out)
        start_resampling(module)
    for half in (model.encoder, model.decoder):
        spread_bias(half.conv_in)
        inner(half.conv_in).weight.mul_(SIGNAL_GAIN)
    z = model.config["z_channels"]
    nn.init.dirac_(inner(model.quant_conv).weight)
    nn.init.dirac_(inner(model.post_quant_conv).weight)
    inner(model.quant_conv).weight[z:].zero_()
    inner(model.quant_conv).bias[z:] = FIRST_LOGVAR


@torch.no_grad()
def reset_mix_factors(model: CausalVAE, value: float) -> None:
    for module in model.modules():
        if isinstance(module, blocks.Mixed):
            module.mix_factor.fill_(value)


def fit_1x1(module: nn.Module, features: Tensor, targets: Tensor, outputs: slice) -> None:
    """Fits outputs of a convolution to the targets by ridge regression, with only the centre tap.
    
    features (N, C, T, H, W) are the convolution's input, targets (N, K, T, H, W) the wanted output.
    """
    x = features.transpose(0, 1).flatten(1).double()
    y = targets.transpose(0, 1).flatten(1).double()
    x = torch.cat([x, torch.ones_like(x[:1])])
    gram = x @ x.T
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    solution = torch.linalg.solve(gram + ridge, x @ y.T).T
    convolution = inner(module)
    convolution.weight[outputs].zero_()
    convolution.weight[outputs, :, -1, 1, 1] = solution[:, :-1].float()
    convolution.bias[outputs] = solution[:, -1].float()


@torch.no_grad()
def fit_outputs(model: CausalVAE, images: Tensor) -> None:
    """Makes the first three latents the mean colour of their 8×8 pixels, and makes the decoder draw this colour.
    
    Otherwise training learns the hue last.
    """
    colours = F.avg_pool3d(images, (1, 8, 8))
    fit_1x1(model.encoder.conv_out, input_of(model.encoder.conv_out, model.encode, images), colours, slice(0, 3))
    latents = posterior(model.encode(images))[0]
    fit_1x1(model.decoder.conv_out, input_of(model.decoder.conv_out, model.decode, latents), images, slice(0, 3))


def input_of(module: nn.Module, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The input of `module` during function(x)."""
    seen = []
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    function(x)
    hook.remove()
    return seen[0]
