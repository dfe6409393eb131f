"""The steps of several stages: single commands of the program, and what is known about its kernels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from . import read
from .session import Session
from .steps import FAIL, Step

# Files of kernels that have a self-test and a bench, the most important first.
LIST = Path(__file__).resolve().parents[2] / "kernels" / "stems.txt"
LINES = LIST.read_text().splitlines()
STEMS = [line for line in LINES if line and " " not in line]
# Those that test kernels for Hopper beside the kernels for every GPU.
TWINS = [line.split()[1] for line in LINES if line.endswith(" for 90a") and "on demand" not in line]
# The benches of benches/ that run on a GPU.
BENCHES = ["decode", *STEMS]
# Golden folders without 16-bit computation: one run is enough.
HOST_ONLY = ["captions", "manifests", "noise", "samplers"]
# Golden folders whose models run kernels of several variants.
OF_VARIANTS = ["latte", "pipeline", "vae_v110"]
# Checks that the emulator, which runs thread by thread, finishes in seconds.
EMULATED_STEMS, EMULATED_FOLDERS = ["sampler", "tile"], ["latte_d64"]
# Each launch ends before the next begins: so an error names the kernel that caused it.
BLOCKING = {"CUDA_LAUNCH_BLOCKING": "1"}
# Without this, benches would run on the CPU if they find no GPU.
ON_THE_GPU = {"OSP_BENCH_DEVICE": "cuda"}

PROMPT = "a large red circle moving right on a black background"
# Frames of 512×512 that light and speed profile. SHORT surely fits into the budget; the targets are for LONG.
SHORT, LONG = 65, 221
# Hangs of a variant after which it is not verified any more: each takes a step's whole time.
HANGS = 2
# Rounds of each arm of a comparison.
ROUNDS = 2
# Variants of kernels, where both run, and the kinds of cases that have them.
SM80, SM90 = (["--kernels", variant] for variant in ("sm80", "sm90"))
KERNELS, WITH_VARIANTS = ("sm80", "sm90"), ("linear", "conv3d", "attention")


def doctor(s: Session) -> Step:
    # The first process on a machine may wait for the driver, which starts only then.
    return Step("doctor", 3, 20, [str(s.osp), "doctor"], read.doctor_without_gpu if s.emulated else read.doctor, again=60)


def of(kernels: Sequence[str]) -> str:
    """The variant that an option for kernels names; empty without an option."""
    return kernels[-1] if kernels else ""


def selftest(s: Session, stem: str, quick: bool = False, env: Optional[Dict[str, str]] = None, name: str = "") -> Step:
    command = [str(s.osp), "selftest", stem, "--device", s.device, *(["--quick"] if quick else [])]
    return Step(name or f"selftest {stem}", 6 if quick else 10, 40, command, read.selftest, {**BLOCKING, **(env or {})},
                after_failure=read.selftest_failed)


def verify(s: Session, folder: str, dtype: str, *more: str, env: Optional[Dict[str, str]] = None, name: str = "") -> Step:
    command = [str(s.osp), "verify", f"tests/golden/{folder}", "--device", s.device, "--dtype", dtype, *more]
    own, kernels = not name, of(SM90) if set(SM90) <= set(more) else ""
    return Step(name or " ".join(["verify", folder, dtype, *more]), 3, 40, command, read.verify, BLOCKING if env is None else env,
                skip=lambda: hang_again(s, kernels) if own and folder not in HOST_ONLY else "", kernels=kernels if own else "")


def hang_again(s: Session, kernels: str) -> str:
    """Why another verify of a variant would only take time: several have hung."""
    hung = [result.name for result in s.results if result.name.startswith("verify ") and result.data.get("ended")
            and result.data.get("kernels", "") == kernels]
    return f"it would hang, as {hung[0]} and {hung[1]} did" if len(hung) >= HANGS else ""


def hopper(s: Session) -> bool:
    """Whether the GPU has kernels for Hopper, which doctor names. In a dry run it has, because then there are most steps."""
    return s.dry or "sm90" in s.data("doctor").get("runs", "")


def hung(s: Session) -> Dict[str, List[Optional[str]]]:
    """Files of kernels whose self-tests hung, and the variants that did; None is an unknown one."""
    results = {stem: s.result(f"selftest {stem}") for stem in STEMS}
    return {stem: result.data["hung"] for stem, result in results.items() if result and "hung" in result.data}


def hopper_hung(s: Session) -> str:
    """A step in which the kernels for Hopper hung; empty if there is none."""
    tests = [f"selftest {stem}" for stem, variants in hung(s).items() if of(SM90) in variants]
    ended = [result.name for result in s.newest() if result.data.get("kernels") == of(SM90) and result.data.get("ended")]
    return next(iter(tests + ended), "")


def tries_hopper(s: Session) -> bool:
    """Whether the kernels for Hopper run even if a self-test found wrong results. After a hang they would cost a step's whole
    time again and again."""
    return hopper(s) and not hopper_hung(s)


def right_on_hopper(s: Session, stem: str) -> bool:
    """Whether a self-test ran to its end, and found no fault in the kernels for Hopper: it passed, or only the others hung."""
    result = s.result(f"selftest {stem}")
    only_others = result is not None and set(result.data.get("hung", [])) == {of(SM80)} and not result.data.get("ended")
    return s.ok(f"selftest {stem}") or only_others and not result.data["wrong"]


def against_newest(s: Session) -> str:
    """What speaks against the kernels for Hopper where the GPU has them; empty if nothing does."""
    where = hopper_hung(s)
    if where:
        return f"sm90 hung in {where}"
    if not all(right_on_hopper(s, stem) for stem in TWINS):
        return "sm90 has not passed its self-tests"
    failed = [result.name for result in s.newest() if result.name.startswith("verify ") and result.verdict == FAIL
              and result.data.get("kernels") == of(SM90) and not result.data.get("cut")]
    return f"sm90 failed {failed[0]}" if failed else ""


def newest(s: Session) -> List[str]:
    """The option for the kernels for Hopper, if the GPU has them and nothing speaks against them. Without it the program takes
    them only after a complete self-test, and here each file of kernels has a process of its own."""
    return SM90 if hopper(s) and not against_newest(s) else []


def golden(s: Session) -> List[str]:
    return sorted(path.name for path in (s.root / "tests/golden").iterdir() if path.is_dir())


def sample(s: Session, name: str, file: str, *more: str) -> Step:
    path = s.work / file
    command = [str(s.osp), "sample", PROMPT, "--device", s.device, "--no-cache", *newest(s), *more, "-o", str(path)]
    keep = [path] if path.suffix == ".mp4" else []
    return Step(name, 4, 30, command, read.hashed(path), keep=keep, kernels=of(newest(s)))


def full_size(s: Session) -> bool:
    """Whether this osp can profile a published model with synthetic weights, not only the demo model."""
    return "--repeat" in s.help("profile")


def profile(s: Session, name: str, frames: int, kernels: Sequence[str] = (), env: Optional[Dict[str, str]] = None) -> Step:
    """A profile; `env` names kernels that replace the program's, which may be right where those hang."""
    trace = s.work / f"{re.sub('[ ,]+', '-', name)}.trace.json"
    command = [*profile_command(s, frames, 5), *kernels, "--json", "--trace", str(trace)]
    own = "" if env else of(kernels)
    return Step(name, 3 if s.emulated else 25, 75, command, read.profile(trace), env or {}, watch=True, keep=[trace],
                skip=lambda: hangs(s, own), kernels=own)


def hangs(s: Session, kernels: str) -> str:
    """Why a step with this variant of the program's kernels would only take time; empty if it has not hung."""
    where = hopper_hung(s) if kernels == of(SM90) else ""
    return f"{kernels} hung in {where}" if where else ""


def profile_command(s: Session, frames: int, repeat: int) -> List[str]:
    command = [str(s.osp), "profile", "--device", "dry" if s.emulated else s.device]
    preset = ["--preset", f"v1.1.0-{frames}x512x512"]
    if s.emulated:
        # The emulator is slow and has no times: this only tests that the command works.
        return [*command, *preset, "--gpu", "h100"]
    return [*command, *preset, "--weights", "synthetic:1", "--repeat", str(repeat)] if full_size(s) else command
