"""Initial weights of the transformer and the text encoder.

The transformer starts as the identity: at high noise, the noise is nearly equal to the input, and only the small difference
must be learnt. An error of this copy is multiplied by 1/√ᾱ, up to 160, in the clean latent.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from twin.latte import Block, LatteT2V
from twin.positions import sine_cosine
from twin.t5 import T5Encoder

BIAS = 3.0  # bias of the patch embedding; larger than inputs and positions of about 1, so that all tokens have similar norms
SAMPLES = 64


def start_block(block: Block, bias: Tensor) -> None:
    """Sets up a block that adds nothing yet, and whose norms remove the patch embedding's bias."""
    outputs = [block.attn1.to_out[0], block.ff.net[2]]
    outputs += [block.attn2.to_out[0]] if block.attn2 is not None else []
    for linear in outputs:
        nn.init.zeros_(linear.weight)
    with torch.no_grad():
        shift, scale, gate = -bias, BIAS - 1, 1.0
        for row, value in enumerate((shift, scale, gate, shift, scale, gate)):
            block.scale_shift_table[row] = value


@torch.no_grad()
def fit_copy(model: LatteT2V) -> None:
    """Sets the output layer so that the noise prediction is the input, by least squares on random noise."""
    config = model.config
    noise = torch.randn(SAMPLES, config["in_channels"], config["video_length"], *config["sample_size"])
    h = model.embed(noise)
    order = sine_cosine(torch.arange(config["video_length"]) / model.temporal_scale(), model.dim).to(h)
    tokens = torch.cat([h, h + order[:, None, :]])  # images, videos
    features = F.layer_norm(tokens, tokens.shape[-1:]).flatten(0, 2)
    # N C T (Hp p) (Wp q) → tokens × (p q C)
    sides = (-1, model.patch)
    patches = noise.unflatten(4, sides).unflatten(3, sides).permute(0, 2, 3, 5, 4, 6, 1).flatten(0, 3).flatten(1)
    weights = torch.linalg.lstsq(features, patches.repeat(2, 1), driver="gelsd").solution.T
    rows = model.proj_out.weight.zero_().unflatten(0, (-1, config["out_channels"]))
    rows[:, : config["in_channels"]] = weights.unflatten(0, (-1, config["in_channels"]))


def start_transformer(model: LatteT2V) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    patches = model.pos_embed["proj"]
    nn.init.orthogonal_(patches.weight.data.flatten(1), gain=0.5 * (model.dim / patches.weight[0].numel()) ** 0.5)
    nn.init.normal_(patches.bias)
    with torch.no_grad():
        patches.bias.sub_(patches.bias.mean()).mul_(BIAS / patches.bias.std())
    for block in (*model.transformer_blocks, *model.temporal_transformer_blocks):
        start_block(block, patches.bias)
    nn.init.zeros_(model.scale_shift_table)
    # The timestep's embedding goes directly into the last norm's scale and shift, so it must be small, or it disturbs
    # the copy.
    nn.init.normal_(model.adaln_single.emb["timestep_embedder"].linear_2.weight, std=0.002)
    fit_copy(model)


def start_text_encoder(model: T5Encoder) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for layers in model.encoder["block"]:
        # T5's attention has no 1/√d; its queries are smaller instead.
        layers["layer"][0]["SelfAttention"].q.weight.data *= model.config["d_kv"] ** -0.5
    nn.init.zeros_(model.encoder["block"][0]["layer"][0]["SelfAttention"].relative_attention_bias.weight)
