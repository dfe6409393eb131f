"""The stage deep: reasons of failures, and equal bits of equal runs."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List

from . import process, read
from .commands import SHORT, SM80, SM90, STEMS, hopper, newest, profile, profile_command, sample
from .machine import tool
from .session import Group, Session
from .steps import SKIP, Reading, Step, skipped

NCU_KERNELS = 3


def deep(s: Session) -> Iterator[Group]:
    yield sample(s, "sample once", "once.y4m")
    yield sample(s, "sample twice", "twice.y4m")
    yield same(s, "sample twice")
    limit = least_memory(s)
    if limit:
        yield sample(s, f"sample in {limit}", "little.y4m", "--memory", limit)
        yield same(s, f"sample in {limit}")
    else:
        yield skipped("sample in little memory", "osp plan does not report the least memory")
    yield from sanitize(s)
    yield from inspect(s)


def same(s: Session, name: str) -> Step:
    """Compares the bytes of a sample with those of the first sample."""
    def call(_: float) -> Reading:
        first, second = (s.data(which).get("hash") for which in ("sample once", name))
        if not first or not second:
            return Reading("two samples are needed to compare", verdict=SKIP)
        return Reading("equal bytes") if first == second else read.failed(f"other bytes: {first[:16]} and {second[:16]}")
    return Step(f"equal: {name}", 0, 5, call=call)


def least_memory(s: Session) -> str:
    """The least memory for the demo model, from the error of `osp plan` for a limit that is too low."""
    if s.dry:
        return "64MiB"
    said = process.run([str(s.osp), "plan", "--memory", "1MiB"], 20)
    found = re.search(r"--memory ([0-9]+MiB)", said.complaint or said.last)
    return found.group(1) if found else ""


def sanitize(s: Session) -> Iterator[Group]:
    """memcheck and racecheck of the kernels that failed before, else of all kernels in few cases. One process each."""
    program = "compute-sanitizer" if s.dry else tool("compute-sanitizer")
    # In one process: the tool's messages about a child would go to the child's output.
    kernels = lambda stems: ["selftest", *stems, "--quick", "--here", "0"]
    stems, folders = s.failed("selftest"), s.failed("verify")
    targets = []
    if stems:
        targets.append(("of " + " ".join(stems), kernels(stems)))
    if folders:
        folder, dtype, *more = folders[0].split(" ")
        targets.append((f"of {folders[0]}", ["verify", f"tests/golden/{folder}", "--dtype", dtype, *more]))
    if not targets and s.help("selftest"):
        targets = [("of all", kernels(STEMS))]
    if not targets:
        targets = [("of latte_d64 f16", ["verify", "tests/golden/latte_d64", "--dtype", "f16"])]
    for name, arguments in targets:
        for check in ("memcheck", "racecheck"):
            if not program:
                yield skipped(f"{check} {name}", "compute-sanitizer is not installed")
                continue
            command = [program, "--tool", check, "--error-exitcode", "9", str(s.osp), *arguments, "--device", s.device]
            yield Step(f"{check} {name}", 40, 60, command, read.sanitizer, accepts=(0, 1, 9))


def inspect(s: Session) -> Iterator[Group]:
    """Nsight Compute on the most expensive kernels."""
    program = "ncu" if s.dry else tool("ncu", "opt/nvidia/nsight-compute/*/ncu")
    if not s.dry and not costliest(s):
        yield profile(s, f"profile {SHORT} frames, 1", SHORT, newest(s))
    kernels = [f"kernel {number}" for number in range(1, NCU_KERNELS + 1)] if s.dry else costliest(s)
    if not kernels:
        yield skipped("ncu", "there is no profile to find the most expensive kernels")
    for kernel in kernels:
        if not program:
            yield skipped(f"ncu {kernel}", "ncu is not installed")
            continue
        sections = ["--set", "detailed", "--section", "WarpStateStats", "--section", "SchedulerStats"]
        # Skips the first launches, which run with cold caches.
        launches = ["--kernel-name", kernel, "--launch-skip", "2", "--launch-count", "1"]
        command = [program, "--clock-control", "none", *sections, *launches, "--page", "details", *profile_command(s, SHORT, 1),
                   *variant_of(s, kernel)]
        yield Step(f"ncu {kernel}", 25, 60, command, read.ncu)


def variant_of(s: Session, kernel: str) -> List[str]:
    """The option with which the program launches this kernel: those for Hopper have it in their names."""
    if not hopper(s):
        return []
    return SM90 if "_sm90_" in kernel else SM80


def costliest(s: Session) -> List[str]:
    """The kernels with the highest time over all stages, from the newest profile."""
    for result in reversed(s.earlier + s.results):
        times: Dict[str, float] = {}
        for stage in result.data.get("stages", []) if result.name.startswith("profile") else []:
            for row in stage["kernels"]:
                times[row["kernel"]] = times.get(row["kernel"], 0) + (row["ms"] or 0)
        if any(times.values()):
            return sorted(times, key=lambda kernel: -times[kernel])[:NCU_KERNELS]
    return []
