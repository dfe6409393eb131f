"""Compares the PyTorch twins, run in float64, with golden data.

    python check_golden.py GOLDEN_DIR [FOLDER...]
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

from twin.golden import Result


def twin_of(folder: Path) -> str | None:
    """The twin module that covers a golden folder, by the class its config names."""
    config_file = folder / "config.json"
    if not config_file.exists():
        return None
    class_name = json.loads(config_file.read_text()).get("_class_name", "")
    return {"CausalVAEModel": "twin.vae_check", "LatteT2V": "twin.latte"}.get(class_name)


def check(folder: Path) -> list[Result]:
    """All results of a folder; an empty list if no twin covers it."""
    if (folder / "text_encoder").is_dir():
        return importlib.import_module("twin.t5").check(folder)
    name = twin_of(folder)
    return importlib.import_module(name).check(folder) if name else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path)
    parser.add_argument("folder", nargs="*", help="only these folders")
    args = parser.parse_args()
    folders = [args.golden / name for name in args.folder] or sorted(args.golden.iterdir())
    failures = 0
    for folder in folders:
        for case, tensor, error, tolerance in check(folder):
            failures += not error <= tolerance
            verdict = "ok" if error <= tolerance else "FAILED"
            print(f"{folder.name:24} {case:20} {tensor:16} {error:.1e} of {tolerance:.0e}  {verdict}")
    sys.exit(f"{failures} failed" if failures else 0)


if __name__ == "__main__":
    main()
