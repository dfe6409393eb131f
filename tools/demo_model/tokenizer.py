"""Makes the text encoder's SentencePiece model from the dataset's captions.

    python tokenizer.py spiece.model

The pieces of the Unigram model are the captions' words, scored by log frequency, and single characters for all other
words. (The usual training is meant for large vocabularies, and would split most of these few words into pieces.)
"""

import argparse
import io
import json
import math
import random
import string
from collections import Counter
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as protobuf

from captions import caption
from data import random_spec

CONFIG = Path(__file__).parent / "config.json"
EXTRA_IDS = 100  # <extra_id_n> of T5, above the pieces
CAPTIONS = 20_000
SPACE = "▁"
CHARACTERS = string.ascii_lowercase + string.digits + ".,!?'-"
CHARACTER_SCORE = -20.0  # lower than every word's score, so that known words are not split


def corpus(seed: int) -> list[str]:
    rng = random.Random(seed)
    return [caption(random_spec(rng), rng, video=i % 4 != 0) for i in range(CAPTIONS)]


def character_model() -> protobuf.ModelProto:
    """A model of single characters with T5's conventions: <pad> 0, </s> 1, <unk> 2, no <s>, nmt_nfkc."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(CHARACTERS)]),
        model_writer=model,
        model_type="char",
        vocab_size=len(CHARACTERS) + len(SPACE) + 3,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
    )
    return protobuf.ModelProto.FromString(model.getvalue())


def words(captions: list[str]) -> list[tuple[str, float]]:
    """(piece, score) of every word, the most frequent first."""
    counts = Counter(SPACE + word for text in captions for word in text.replace(",", "").split())
    total = sum(counts.values())
    return [(piece, math.log(count / total)) for piece, count in counts.most_common()]


def unigram_model(captions: list[str]) -> protobuf.ModelProto:
    model = character_model()
    model.trainer_spec.model_type = protobuf.TrainerSpec.UNIGRAM
    for piece in model.pieces:
        if piece.type == protobuf.ModelProto.SentencePiece.NORMAL:
            piece.score = CHARACTER_SCORE
    for piece, score in words(captions):
        model.pieces.add(piece=piece, score=score)
    model.trainer_spec.vocab_size = len(model.pieces)
    return model


def make(config: dict) -> bytes:
    """The model file for the text encoder's section of config.json."""
    model = unigram_model(corpus(config["tokenizer_seed"]))
    if len(model.pieces) + EXTRA_IDS != config["model"]["vocab_size"]:
        raise ValueError(f"config.json must have the vocab_size {len(model.pieces) + EXTRA_IDS}")
    return model.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    args.output.write_bytes(make(json.loads(CONFIG.read_text())["text_encoder"]))


if __name__ == "__main__":
    main()
