"""Cases that are timed beside PyTorch and cuBLASLt."""

from __future__ import annotations

from typing import Iterator, List, Sequence

from . import read
from .cases import LIBRARY, Case, own_time
from .commands import ON_THE_GPU, WITH_VARIANTS, hangs, profile
from .session import Group, Session
from .steps import Finished, Reading, Step


def beside_torch(s: Session, cases: List[Case], frames: int, rounds: Sequence[Sequence[str]]) -> Iterator[Group]:
    """Times osp, PyTorch and cuBLASLt in turn: case by case if benches are packed, else with whole profiles. Each round names
    the variants of osp's kernels that it times; "" is the default."""
    packed = {case.stem for case in cases if (s.osp.parent / f"bench-{case.stem}").exists()}
    yield from torch_again(s)
    torch = timed(s)
    for number, variants in enumerate(rounds, 1):
        if number == 1 or list(variants) != list(rounds[0]) or not packed and (torch or len(variants) > 1):
            for variant in variants:
                name = f"profile {frames} frames{variant and ' ' + variant}, {number}"
                yield profile(s, name, frames, ["--kernels", variant] if variant else ())
                remember(s, name, [case for case in cases if case.stem not in packed], variant)
        if not packed and torch:
            for case in cases:
                yield from torch_arms(s, case)
    if packed:
        for case in cases:
            for variants in rounds:
                if case.stem in packed:
                    yield from (own_bench(s, case, variant) for variant in (variants if case.kind in WITH_VARIANTS else ("",)))
                if torch:
                    yield from torch_arms(s, case)


def remember(s: Session, name: str, cases: List[Case], variant: str) -> None:
    """Stores the times of osp in the cases, from the launches of a profile."""
    found = s.data(name).get("launches", [])
    for case in cases:
        ms = own_time(case, found)
        if ms is not None:
            add_own(s, case, variant, ms)


def add_own(s: Session, case: Case, variant: str, ms: float) -> None:
    """Stores a time of osp. Only some kinds of cases have variants."""
    s.own.setdefault(case.name, {}).setdefault(variant if case.kind in WITH_VARIANTS else "", []).append(ms)


def torch_start(s: Session) -> Step:
    # Importing PyTorch and opening the GPU takes many seconds on a cold disk.
    return Step("torch", 12, 60, call=lambda limit: s.torch.start(limit), skip=s.alone)


def torch_again(s: Session) -> Iterator[Group]:
    """Starts a worker in place of one that was ended, if there is time."""
    start = torch_start(s)
    if not s.dry and s.torch.wanted and not s.alone and not s.stopped and s.left() >= start.expected:
        yield start


def timed(s: Session) -> bool:
    """Whether PyTorch is timed. Its worker holds the GPU between two cases, so both sides cannot take turns if only one process
    may."""
    return s.dry or not s.alone and (s.torch.ready or s.torch.wanted)


def torch_arms(s: Session, case: Case) -> Iterator[Group]:
    for arm in case.arms:
        yield from torch_again(s)
        # An arm without a worker says that there was no time.
        if timed(s):
            yield torch_arm(s, case, arm)


def torch_arm(s: Session, case: Case, arm: str) -> Step:
    def call(limit: float) -> Reading:
        reading = s.torch.time(case, arm, limit)
        if "ms" in reading.data:
            s.theirs.setdefault(case.name, {}).setdefault(arm, []).append(reading.data["ms"])
        return reading

    # cuBLASLt's algorithms are compared first.
    return Step(f"torch {case.name}: {arm}", 2 if arm.startswith(LIBRARY) else 1, 20, call=call)


def own_bench(s: Session, case: Case, variant: str) -> Step:
    folder = s.work / f"criterion-{len(s.results)}"
    estimate = read.estimate(folder)

    def remembered(finished: Finished) -> Reading:
        reading = estimate(finished)
        if "ms" in reading.data:
            add_own(s, case, variant, reading.data["ms"])
        return reading

    env = {**ON_THE_GPU, "CRITERION_HOME": str(folder), **({"OSP_BENCH_KERNELS": variant} if variant else {})}
    command = [str(s.osp.parent / f"bench-{case.stem}"), "--bench", "--noplot", "--exact", case.bench]
    return Step(f"own {case.name}{variant and ' ' + variant}", 4, 30, command, remembered, env,
                skip=lambda: hangs(s, variant), kernels=variant)
