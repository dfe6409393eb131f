"""Scores a model: samples unseen prompts with the engine and judges the frames by classical vision.

    python evaluate.py --osp target/release/osp --model MODEL --out DIR

DIR receives evaluation.json, evaluation.md and evaluation.png (the first samples, one row each).
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from captions import caption
from data import Spec, random_spec, render
from judge import ATTRIBUTES, judge

HERE = Path(__file__).parent
SEED = "evaluation"
FIRST_SEED = 10_000
STRIP_SAMPLES, STRIP_FRAMES, ZOOM, LABEL = 12, 6, 2, 18


def cases(count: int) -> list[tuple[Spec, str, int]]:
    """(requested content, prompt, seed of the noise)."""
    rng = random.Random(SEED)
    asked = []
    for i in range(count):
        spec = random_spec(rng)
        asked.append((spec, caption(spec, rng, video=True), FIRST_SEED + i))
    return asked


def sample(osp: Path, model: Path, asked: list[tuple[Spec, str, int]], options: list[str]) -> list[np.ndarray]:
    """Frames (T, H, W, 3) of each case, from one run of the engine."""
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.txt"
        prompts.write_text("".join(f"{prompt}\n" for _, prompt, _ in asked))
        seeds = ",".join(str(seed) for _, _, seed in asked)
        command = [osp, "sample", "--prompts", prompts, "--seed", seeds, "--model", model, "-o", Path(folder) / "clip"]
        subprocess.run([*command, "--quiet", *options], check=True, stdout=subprocess.DEVNULL)
        clips = sorted(path for path in Path(folder).glob("clip-*/") if path.name != "clip-grid")
        return [np.stack([np.asarray(Image.open(png)) for png in sorted(clip.glob("*.png"))]) for clip in clips]


def true_frames(spec: Spec, config: dict) -> np.ndarray:
    """The frames of a perfect model, (T, H, W, 3) uint8."""
    pixels = (render(spec, config["frames"], config["size"]) / 2 + 0.5).clamp(0, 1) * 255
    return pixels.byte().permute(1, 2, 3, 0).numpy()


def verdicts(specs: list[Spec], clips: list[np.ndarray]) -> list[dict[str, dict]]:
    """The requested and the detected value of each clip and attribute."""
    seen = [judge(clip) for clip in clips]
    return [
        {name: {"asked": getattr(spec, name), "seen": getattr(found, name)} for name in ATTRIBUTES}
        for spec, found in zip(specs, seen, strict=True)
    ]


def shares(results: list[dict[str, dict]]) -> dict[str, float]:
    """The share of clips that are right, by attribute and in all of them."""
    right = [{name: pair["asked"] == pair["seen"] for name, pair in result.items()} for result in results]
    by_attribute = {name: float(np.mean([r[name] for r in right])) for name in ATTRIBUTES}
    return {**by_attribute, "all five": float(np.mean([all(r.values()) for r in right]))}


def table(model: dict[str, float], judge_itself: dict[str, float]) -> str:
    lines = ["| | samples | the judge on true clips |", "| --- | --- | --- |"]
    lines += [f"| {name} | {share:.1%} | {judge_itself[name]:.1%} |" for name, share in model.items()]
    return "\n".join(lines) + "\n"


def strip(asked: list[tuple[Spec, str, int]], clips: list[np.ndarray], file: Path) -> None:
    """Saves a picture of the first samples: a row of frames for each, under its prompt."""
    chosen = list(zip(asked, clips))[:STRIP_SAMPLES]
    side = clips[0].shape[1] * ZOOM
    picture = Image.new("RGB", (side * STRIP_FRAMES, (side + LABEL) * len(chosen)), "white")
    draw = ImageDraw.Draw(picture)
    for row, ((_, prompt, _), clip) in enumerate(chosen):
        top = row * (side + LABEL)
        draw.text((4, top + 3), prompt, fill="black")
        for column, frame in enumerate(np.linspace(0, len(clip) - 1, STRIP_FRAMES).round().astype(int)):
            tile = Image.fromarray(clip[frame]).resize((side, side), Image.Resampling.NEAREST)
            picture.paste(tile, (column * side, top + LABEL))
    picture.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osp", type=Path, required=True, help="the engine's program")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=HERE / "config.json")
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("options", nargs="*", help="further options of `osp sample`, after --")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    config = json.loads(args.config.read_text())["data"]
    asked = cases(args.count)
    specs = [spec for spec, _, _ in asked]
    judge_itself = shares(verdicts(specs, [true_frames(spec, config) for spec in specs]))
    clips = sample(args.osp, args.model, asked, args.options)
    results = verdicts(specs, clips)
    score = shares(results)
    samples = [
        {"prompt": prompt, "seed": seed, **result} for (_, prompt, seed), result in zip(asked, results, strict=True)
    ]
    document = {"options": args.options, "score": score, "judge_on_true_clips": judge_itself, "samples": samples}
    (args.out / "evaluation.json").write_text(json.dumps(document, indent=1) + "\n")
    (args.out / "evaluation.md").write_text(table(score, judge_itself))
    strip(asked, clips, args.out / "evaluation.png")
    print(table(score, judge_itself))


if __name__ == "__main__":
    main()
