"""The command line: the stages, the program and the output folder."""

from __future__ import annotations

import argparse
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import List, Tuple

from . import machine, report, tree
from .session import Session
from .stages import BUDGETS, STAGES, opened
from .steps import FAIL, PASS, Result, Step, skipped

ROOT = Path(__file__).resolve().parents[2]
PACK = ROOT / "target/gpu-pack.tar.xz"
# The next call finds the results of this one here, whatever --out is.
RESULTS = ROOT / "target/gpu-check/results.json"

ABOUT = """\
Runs all checks that need a GPU within a budget of seconds, on a machine without cargo and network.
  light   240 s: checks all results, and measures the times of kernels
  deep    200 s: memcheck and racecheck of kernels that failed in light, Nsight Compute, equal bytes of two runs
  speed   300 s: variants of kernels, whole runs, and all operations timed beside PyTorch and cuBLASLt
Several stages can run in one call: --stage light,deep. Prints a line for each step, then a table,
at most ten seconds or so after the budget. Never changes the settings of a card."""
AFTER = """\
Exit codes: 0 all steps that ran passed, 1 a step failed, 2 wrong usage, 3 no GPU can be opened."""


def arguments(given: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("gpu-check", description=ABOUT, epilog=AFTER,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", required=True, metavar="STAGE[,STAGE]", help="light, deep or speed")
    parser.add_argument("--budget", type=float, metavar="SECONDS",
                        help="for all stages together [default: the sum of the stages' budgets]")
    parser.add_argument("--step-limit", type=float, default=float("inf"), metavar="SECONDS", help="time limit of every step")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pack", type=Path, default=PACK, metavar="FILE", help="output of gpu-pack [default: %(default)s]")
    source.add_argument("--bin", type=Path, metavar="DIR", help="folder with an unpacked program, such as target/release")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="folder for the output files [default: $OUT, else target/gpu-check]")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE",
                        help="results of earlier stages, for deep; read and written [default: %(default)s]")
    parser.add_argument("--variants", type=Path, metavar="DIR",
                        help="for speed: folder whose subfolders hold cubins for OSP_KERNELS")
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda",
                        help="emulated runs a small form of light on the CPU, as a rehearsal")
    parser.add_argument("--dry-run", action="store_true",
                        help="print the steps and their seconds; needs neither program nor GPU")
    args = parser.parse_args(given)
    args.stage = args.stage.split(",")
    if set(args.stage) - set(STAGES):
        parser.error(f"the stages are {', '.join(STAGES)}")
    if args.device == "emulated" and args.stage != ["light"]:
        parser.error("the emulator can rehearse only light")
    if args.variants and not args.variants.is_dir():
        parser.error(f"{args.variants} is not a folder")
    if args.budget is None:
        args.budget = sum(BUDGETS[stage] for stage in args.stage)
    args.out = args.out or Path(os.environ.get("OUT") or ROOT / "target/gpu-check")
    return args


def plan(s: Session, stages: List[str]):
    """All steps: opening the GPU first, then stage after stage."""
    yield from opened(s)
    if s.stopped:
        yield skipped(", ".join(stages), s.stopped)
        return
    for stage in stages:
        yield from STAGES[stage](s)


def dry_run(args: argparse.Namespace) -> int:
    s = Session(ROOT, args.device, args.budget, dry=True)
    s.variants = args.variants
    s.play(plan(s, args.stage))
    total = 0.0
    print(f"{'step':<52} {'expected':>8} {'at most':>8}")
    for group in s.planned:
        steps = [group] if isinstance(group, Step) else group
        for step in steps:
            why = step.why_not()
            print(f"{step.name:<52} {step.expected:>6.0f} s {min(step.limit, args.step_limit):>6.0f} s" if not why
                  else f"{step.name:<52} {'skipped':>8}: {why}")
        total += together(steps, s)
    print(f"\n{total:.0f} s expected of {args.budget:.0f} s; steps at the end that do not fit are skipped")
    return 0


def together(steps: List[Step], s: Session) -> float:
    """Seconds of a group, whose steps run in parallel."""
    seconds = [step.expected for step in steps]
    return max(max(seconds), sum(seconds) / s.beside) if seconds else 0.0


def unpack(pack: Path, into: Path) -> Path:
    """Unpacks with tar, or with Python if xz is missing; returns the folder in the pack."""
    into.mkdir(parents=True)
    if not (shutil.which("tar") and shutil.which("xz") and
            subprocess.run(["tar", "-xJf", str(pack), "-C", str(into)], stderr=subprocess.DEVNULL).returncode == 0):
        with lzma.open(pack) as content, tarfile.open(fileobj=content) as tar:
            tar.extractall(into)
    folder, = into.iterdir()
    return folder


def load(path: Path, program: str) -> Tuple[List[Result], str]:
    """The results of earlier calls with the program of this hash, and what is wrong with the others."""
    try:
        found = json.loads(path.read_text())
        results = [Result(**result) for result in found["results"] if isinstance(result["data"], dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return [], ""
    if found.get("osp") != program:
        return [], f"WARNING: {len(results)} earlier results are of another program, and count for nothing"
    return results, ""


def check(args: argparse.Namespace, work: Path) -> int:
    s = Session(ROOT, args.device, args.budget)
    try:
        folder = args.bin.resolve() if args.bin else unpack(args.pack, work / "pack")
    except (lzma.LZMAError, tarfile.TarError, EOFError, ValueError, OSError) as error:
        print(f"gpu-check: {args.pack} cannot be unpacked: {error}", file=sys.stderr)
        return 2
    s.begin(folder / "osp", work)
    s.program = tree.digest(s.osp)
    # The program looks for its demo model beside itself, but it may be unpacked anywhere.
    os.environ["OSP_MODEL"] = str(ROOT / "assets/demo")
    # The program's test of a new GPU would only repeat the steps here.
    os.environ["OSP_SELFTEST"] = "0"
    s.step_limit, s.variants = args.step_limit, args.variants.resolve() if args.variants else None
    s.earlier, outdated = ([], "") if "light" in args.stage else load(args.results, s.program)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: s.stop(f"ended by {signal.Signals(number).name}"))
    found = machine.facts(ROOT, folder, s.log("nvidia-smi"))
    s.alone = machine.alone(found)
    other = tree.difference(ROOT, folder)
    if other:
        found["tree"] = f"WARNING: {other}"
        print(f"gpu-check: {found['tree']}", flush=True)
    if outdated:
        found["earlier results"] = outdated
    print("; ".join(f"{what} {value}" for what, value in found.items()), flush=True)
    if "light" not in args.stage:
        print(f"{len(s.earlier) or 'no'} earlier results in {args.results}", flush=True)
    output = report.Output(s, args.stage, found, args.out, args.results)
    s.after_group = output.after_group
    try:
        s.play(plan(s, args.stage))
    finally:
        finish(s, output)
    return verdict(s)


def finish(s: Session, output: report.Output) -> None:
    """Stores the results before anything is printed, because the reader may be gone, and prints the table whatever fails."""
    try:
        s.close()
    finally:
        try:
            output.store()
            output.write(last=True)
        finally:
            print("\n" + output.text, flush=True)


def verdict(s: Session) -> int:
    doctor = s.result("doctor")
    if doctor is None or doctor.verdict != PASS:
        return 3
    checked = [result for result in s.results if result.verdict == PASS and result.name != "doctor"]
    return 1 if not checked or any(result.verdict == FAIL for result in s.results) else 0


def main(given: List[str]) -> int:
    args = arguments(given)
    if args.dry_run:
        return dry_run(args)
    program = args.bin / "osp" if args.bin else args.pack
    if not program.is_file():
        print(f"gpu-check: {program} does not exist: run scripts/gpu-pack, or name a folder with --bin", file=sys.stderr)
        return 2
    work = Path(tempfile.mkdtemp(prefix="gpu-check-"))
    try:
        return check(args, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
