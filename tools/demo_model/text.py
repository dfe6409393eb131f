"""Converts captions to the input of the transformer's cross-attention, with caption dropout as in inference."""

from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from twin.t5 import T5Encoder

PAD, EOS = 0, 1


class Tokenizer:
    def __init__(self, file: Path) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))

    def __call__(self, captions: list[str]) -> Tensor:
        """(N, K) ids, each caption ending in </s> and padded to the longest."""
        ids = [torch.tensor(self.pieces.encode(text) + [EOS]) for text in captions]
        return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)


def encode(encoder: T5Encoder, ids: Tensor, empty: Tensor) -> tuple[Tensor, Tensor]:
    """ids (N, K) → hidden states (N, K, d_model) and the mask (N, K) for cross-attention.

    Where `empty` (N,) is set, the caption is "": its hidden states are those of </s> and padding. The mask stays that of the
    real caption, because inference cuts the negative prompt to the prompt's length.
    """
    seen = ids != PAD
    nothing = torch.full_like(ids, PAD)
    nothing[:, 0] = EOS
    ids = torch.where(empty[:, None], nothing, ids)
    return encoder(ids, (ids != PAD).long()), seen.long()
