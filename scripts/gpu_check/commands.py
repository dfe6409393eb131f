"""The steps of several stages: single commands of the program, and what is known about its kernels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional, Sequence

from . import read
from .session import Session
from .steps import Step

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
# Rounds of each arm of a comparison.
ROUNDS = 2
# Variants of kernels, where both run, and the kinds of cases that have them.
SM80, SM90 = (["--kernels", variant] for variant in ("sm80", "sm90"))
KERNELS, WITH_VARIANTS = ("sm80", "sm90"), ("linear", "conv3d", "attention")


def doctor(s: Session) -> Step:
    # The first process on a machine may wait for the driver, which starts only then.
    return Step("doctor", 3, 20, [str(s.osp), "doctor"], read.doctor_without_gpu if s.emulated else read.doctor, again=60)


def selftest(s: Session, stem: str, quick: bool = False, env: Optional[Dict[str, str]] = None, name: str = "") -> Step:
    command = [str(s.osp), "selftest", stem, "--device", s.device, *(["--quick"] if quick else [])]
    return Step(name or f"selftest {stem}", 10, 40, command, read.selftest, {**BLOCKING, **(env or {})},
                after_failure=read.selftest_failed)


def verify(s: Session, folder: str, dtype: str, *more: str, env: Optional[Dict[str, str]] = None, name: str = "") -> Step:
    command = [str(s.osp), "verify", f"tests/golden/{folder}", "--device", s.device, "--dtype", dtype, *more]
    name = name or " ".join(["verify", folder, dtype, *more])
    return Step(name, 3, 40, command, read.verify, BLOCKING if env is None else env)


def hopper(s: Session) -> bool:
    """Whether the GPU has kernels for Hopper, which doctor names. In a dry run it has, because then there are most steps."""
    return s.dry or "sm90" in s.data("doctor").get("runs", "")


def hung(s: Session) -> List[str]:
    """Files of kernels whose self-tests a time limit has ended."""
    results = {stem: s.result(f"selftest {stem}") for stem in STEMS}
    return [stem for stem, result in results.items() if result and "hung" in result.data]


def tries_hopper(s: Session) -> bool:
    """Whether the kernels for Hopper run even if a self-test found wrong results. After a hang they would cost a step's whole
    time again and again."""
    return hopper(s) and not set(TWINS).intersection(hung(s))


def newest(s: Session) -> List[str]:
    """The option for the kernels for Hopper, if the GPU has them and their self-tests passed. Without it the program takes
    them only after a complete self-test, and here each file of kernels has a process of its own."""
    return SM90 if hopper(s) and all(s.ok(f"selftest {stem}") for stem in TWINS) else []


def golden(s: Session) -> List[str]:
    return sorted(path.name for path in (s.root / "tests/golden").iterdir() if path.is_dir())


def sample(s: Session, name: str, file: str, *more: str) -> Step:
    path = s.work / file
    command = [str(s.osp), "sample", PROMPT, "--device", s.device, "--no-cache", *newest(s), *more, "-o", str(path)]
    keep = [path] if path.suffix == ".mp4" else []
    return Step(name, 4, 30, command, read.hashed(path), keep=keep)


def full_size(s: Session) -> bool:
    """Whether this osp can profile a published model with synthetic weights, not only the demo model."""
    return "--repeat" in s.help("profile")


def profile(s: Session, name: str, frames: int, kernels: Sequence[str] = (), env: Optional[Dict[str, str]] = None) -> Step:
    trace = s.work / f"{re.sub('[ ,]+', '-', name)}.trace.json"
    command = [*profile_command(s, frames, 5), *kernels, "--json", "--trace", str(trace)]
    return Step(name, 3 if s.emulated else 25, 75, command, read.profile(trace), env or {}, watch=True, keep=[trace])


def profile_command(s: Session, frames: int, repeat: int) -> List[str]:
    command = [str(s.osp), "profile", "--device", "dry" if s.emulated else s.device]
    preset = ["--preset", f"v1.1.0-{frames}x512x512"]
    if s.emulated:
        # The emulator is slow and has no times: this only tests that the command works.
        return [*command, *preset, "--gpu", "h100"]
    return [*command, *preset, "--weights", "synthetic:1", "--repeat", str(repeat)] if full_size(s) else command
