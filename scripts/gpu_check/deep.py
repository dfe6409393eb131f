"""The stage deep: reasons of failures, and equal bits of equal runs."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, NamedTuple, Sequence

from . import process, read
from .commands import SHORT, SM80, SM90, STEMS, hopper, hung, newest, of, profile, profile_command, sample
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
    found = suspects(s)
    yield from sanitize(s, found or remaining(s))
    yield from inspect(s)
    if found:
        yield from sanitize(s, remaining(s))


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


class Target(NamedTuple):
    """What compute-sanitizer examines, in one process."""

    name: str
    arguments: List[str]
    checks: Sequence[str] = ("memcheck", "racecheck")


def tests_of(stems: List[str]) -> List[str]:
    """The command that tests files of kernels in its own process: the tool's messages about a child would go to the child's
    output."""
    return ["selftest", *stems, "--quick", "--here", "0"]


def failed_kernels(s: Session) -> List[str]:
    """Files of kernels that failed before. The facts are not among them: they may fail where all kernels are right."""
    return [stem for stem in s.failed("selftest") if stem in STEMS]


def suspects(s: Session) -> List[Target]:
    """What failed before. A kernel that hangs gets one check, because each would take its whole time."""
    stuck = hung(s)
    wrong, folders = [stem for stem in failed_kernels(s) if stem not in stuck], s.failed("verify")
    targets = [Target("of " + " ".join(wrong), tests_of(wrong))] if wrong else []
    targets += [Target(f"of {stem}", tests_of([stem]), ("memcheck",)) for stem in stuck]
    if folders:
        folder, dtype, *more = folders[0].split(" ")
        checks = ("memcheck",) if s.result(f"verify {folders[0]}").data.get("ended") else Target._field_defaults["checks"]
        targets.append(Target(f"of {folders[0]}", ["verify", f"tests/golden/{folder}", "--dtype", dtype, *more], checks))
    return targets


def remaining(s: Session) -> List[Target]:
    """All kernels that have not failed, in few cases."""
    if not s.help("selftest"):
        return [Target("of latte_d64 f16", ["verify", "tests/golden/latte_d64", "--dtype", "f16"])]
    failed = failed_kernels(s)
    others = [stem for stem in STEMS if stem not in failed]
    return [Target("of all others" if failed else "of all", tests_of(others))] if others else []


def sanitize(s: Session, targets: List[Target]) -> Iterator[Group]:
    """Runs compute-sanitizer, with a process for each target and check."""
    program = "compute-sanitizer" if s.dry else tool("compute-sanitizer")
    for name, arguments, checks in targets:
        for check in checks:
            if not program:
                yield skipped(f"{check} {name}", "compute-sanitizer is not installed")
                continue
            command = [program, "--tool", check, "--error-exitcode", "9", str(s.osp), *arguments, "--device", s.device]
            yield Step(f"{check} {name}", 40, 60, command, read.sanitizer, accepts=(0, 1, 9),
                       after_failure=read.sanitizer_ended)


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
        # Skips the first launches, which run with cold caches. After the launch that counts, the rest of the profile would only
        # take time.
        launches = ["--kernel-name", kernel, "--launch-skip", "2", "--launch-count", "1", "--kill", "yes"]
        command = [program, "--clock-control", "none", *sections, *launches, "--page", "details", *profile_command(s, SHORT, 1),
                   *variant_of(s, kernel)]
        # The exit code is that of a killed program; the page of details says whether there was a launch.
        yield Step(f"ncu {kernel}", 25, 60, command, read.ncu, accepts=tuple(range(256)))


def variant_of(s: Session, kernel: str) -> List[str]:
    """The option with which the program launches this kernel: those for Hopper have it in their names."""
    if not hopper(s):
        return []
    return SM90 if "_sm90_" in kernel else SM80


def costliest(s: Session) -> List[str]:
    """The kernels with the highest time over all stages, from the newest profile with the kernels that run by default; from the
    newest at all if there is none with these."""
    profiles = [result for result in reversed(s.earlier + s.results) if result.name.startswith("profile")]
    default = [result for result in profiles if result.data.get("kernels", "") == of(newest(s))]
    for result in default + profiles:
        times: Dict[str, float] = {}
        for stage in result.data.get("stages", []):
            for row in stage["kernels"]:
                times[row["kernel"]] = times.get(row["kernel"], 0) + (row["ms"] or 0)
        if any(times.values()):
            return sorted(times, key=lambda kernel: -times[kernel])[:NCU_KERNELS]
    return []
