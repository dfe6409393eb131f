"""Draws loss curves from the logs of training.

    python plots.py --out curves.png RUN/vae.jsonl RUN/transformer.jsonl
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)

SMOOTHING = 0.98
FIELDS = ("loss", "psnr", "images_psnr", "clip_psnr")


def read(log: Path) -> dict[str, list[tuple[int, float]]]:
    """field → (step, value) of every entry with this field. After a resume, the later entry of a step counts."""
    curves: dict[str, dict[int, float]] = {}
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        for field in FIELDS:
            if field in entry:
                curves.setdefault(field, {})[entry["step"]] = entry[field]
    return {field: sorted(points.items()) for field, points in curves.items()}


def smoothed(values: list[float]) -> list[float]:
    """Exponential average without the bias towards its start."""
    average, weight, result = 0.0, 0.0, []
    for value in values:
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        result.append(average / weight)
    return result


def draw(axes: plt.Axes, axes_psnr: plt.Axes, curves: dict[str, list[tuple[int, float]]]) -> None:
    """The loss on the first axes, PSNRs on the second."""
    for field, points in curves.items():
        steps, values = zip(*points)
        if field == "loss":
            axes.plot(steps, values, alpha=0.2)
            axes.plot(steps, smoothed(values), label=field)
        elif field == "psnr":
            axes_psnr.plot(steps, smoothed(values), label="training, smoothed")
        else:
            axes_psnr.plot(steps, values, marker=".", label=field.replace("_psnr", ", held out"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure, grid = plt.subplots(len(args.logs), 2, figsize=(10, 3.2 * len(args.logs)), squeeze=False)
    for log, (left, right) in zip(args.logs, grid):
        curves = read(log)
        draw(left, right, curves)
        left.set(title=f"{log.stem}: loss", xlabel="step", yscale="log")
        if any("psnr" in field for field in curves):
            right.set(title=f"{log.stem}: PSNR in dB", xlabel="step")
            right.legend()
        else:
            right.set_visible(False)
    figure.tight_layout()
    figure.savefig(args.out, dpi=100)


if __name__ == "__main__":
    main()
