"""Writes the trained transformer and text encoder in the checkpoint layout, in bf16: MODEL/transformer/, MODEL/text_encoder/.

    python export_transformer.py --run DIR --out MODEL [--check]
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from export import WEIGHTS, save
from twin.latte import LatteT2V
from twin.t5 import T5Encoder

HERE = Path(__file__).parent
COMPONENTS = {"transformer": WEIGHTS, "text_encoder": "model.safetensors"}


def load(folder: Path, model: nn.ModuleDict) -> None:
    """Loads the weights of both components from a model directory."""
    for component, file in COMPONENTS.items():
        model[component].load_state_dict({name: w.float() for name, w in load_file(folder / component / file).items()})


def split(state: dict[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """component → its tensors, from a joint state whose names start with the component's name."""
    return {
        component: {name.removeprefix(f"{component}."): w for name, w in state.items() if name.startswith(f"{component}.")}
        for component in COMPONENTS
    }


def export(config: dict, run: Path, out: Path) -> None:
    """Writes the averaged weights of a training run, and its tokenizer."""
    averaged = split(torch.load(run / "transformer.pt", weights_only=True)["ema"])
    for component, file in COMPONENTS.items():
        save(out / component, config[component]["model"], averaged[component], file)
    shutil.copyfile(run / "spiece.model", out / "text_encoder" / "spiece.model")


def check(config: dict, run: Path, out: Path) -> None:
    """Loads the written files and compares them with the run, within the rounding of bf16."""
    transformer, text_encoder = LatteT2V(config["transformer"]["model"]), T5Encoder(config["text_encoder"]["model"])
    model = nn.ModuleDict({"transformer": transformer, "text_encoder": text_encoder})
    load(out, model)
    averaged = torch.load(run / "transformer.pt", weights_only=True)["ema"]
    for name, w in model.state_dict().items():
        torch.testing.assert_close(w, averaged[name], rtol=2**-8, atol=1e-30, msg=lambda text: f"{name}: {text}")
    print(f"{sum(w.numel() for w in model.parameters()):,} parameters agree")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "config.json")
    parser.add_argument("--run", type=Path, required=True, help="the folder that train_transformer.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="the model directory")
    parser.add_argument("--check", action="store_true", help="load the result again and compare")
    args = parser.parse_args()
    config = json.loads(args.config.read_text())
    export(config, args.run, args.out)
    if args.check:
        check(config, args.run, args.out)


if __name__ == "__main__":
    main()
