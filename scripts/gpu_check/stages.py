"""The three stages: their steps, the order of the steps, and decisions between them.

Each stage is a generator of steps, or of lists of steps that may run in parallel. The most important steps come first: when
the budget is used up, the others are skipped.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Sequence

from . import driver, process, read
from .cases import CASES, LIBRARY, Case, own_time
from .machine import tool
from .session import Group, Session
from .steps import SKIP, Finished, Reading, Step, skipped

# The budget of each stage in seconds.
BUDGETS = {"light": 240.0, "deep": 200.0, "speed": 300.0}

# Files of kernels that have a self-test and a bench, the most important first.
LIST = Path(__file__).resolve().parents[2] / "kernels" / "stems.txt"
STEMS = [line for line in LIST.read_text().splitlines() if line and " " not in line]
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
KERNELS, WITH_VARIANTS = ("sm80", "sm90"), ("linear", "conv3d", "attention")
NCU_KERNELS = 3


def doctor(s: Session) -> Step:
    return Step("doctor", 3, 20, [str(s.osp), "doctor"], read.doctor_without_gpu if s.emulated else read.doctor)


def opened(s: Session) -> Iterator[Group]:
    """Opens the GPU. If that fails, asks the driver for the reason, and stops the plan."""
    yield doctor(s)
    if s.ok("doctor"):
        return
    asked = lambda name, *image: Step(name, 2, 20, [sys.executable, "-B", driver.__file__, *map(str, image)])
    yield asked("driver")
    if s.ok("driver"):
        found = driver.images(s.osp)
        for image in found:
            yield asked(f"image {image.stem.split('-')[0]}", image)
        if not found:
            yield skipped("images", f"{s.osp.parent}/kernels holds no image of the program")
    s.stopped = "no GPU can be opened"


# Light: checks of all results, and the times of kernels.


def light(s: Session) -> Iterator[Group]:
    if "facts" in s.help("selftest"):
        yield selftest(s, "facts")
    else:
        yield skipped("selftest facts", "this osp has no such test")
    if s.help("selftest"):
        yield [selftest(s, stem, quick=s.emulated) for stem in (EMULATED_STEMS if s.emulated else STEMS)]
    else:
        yield skipped("selftest", "this osp has no such command")
    yield verifications(s)
    if s.emulated:
        yield profile(s, f"profile {SHORT} frames", SHORT)
        return
    yield sample(s, "sample", "sample.mp4")
    yield from beside_torch(s, [case for case in CASES if case.handful], SHORT)


def selftest(s: Session, stem: str, quick: bool = False, env: Optional[Dict[str, str]] = None, name: str = "") -> Step:
    command = [str(s.osp), "selftest", stem, "--device", s.device, *(["--quick"] if quick else [])]
    return Step(name or f"selftest {stem}", 10, 40, command, read.selftest, {**BLOCKING, **(env or {})})


def verify(s: Session, folder: str, dtype: str, *more: str, env: Optional[Dict[str, str]] = None, name: str = "") -> Step:
    command = [str(s.osp), "verify", f"tests/golden/{folder}", "--device", s.device, "--dtype", dtype, *more]
    name = name or " ".join(["verify", folder, dtype, *more])
    return Step(name, 3, 40, command, read.verify, BLOCKING if env is None else env)


def verifications(s: Session) -> List[Step]:
    if s.emulated:
        return [verify(s, folder, "f16") for folder in EMULATED_FOLDERS]
    folders = golden(s)
    steps = [verify(s, folder, dtype) for dtype in ("f16", "bf16") for folder in folders if folder not in HOST_ONLY]
    steps += [verify(s, folder, "f16") for folder in HOST_ONLY if folder in folders]
    if hopper(s):
        steps += [verify(s, folder, "f16", "--kernels", "sm90") for folder in OF_VARIANTS if folder in folders]
    # Copies run beside kernels on a separate stream: their order matters only if launches do not block.
    return steps + [verify(s, "pipeline", "f16", "--least-memory", env={})]


def hopper(s: Session) -> bool:
    """Whether the GPU has kernels for Hopper, which doctor names. In a dry run it has, because then there are most steps."""
    return s.dry or "sm90" in s.data("doctor").get("runs", "")


def golden(s: Session) -> List[str]:
    return sorted(path.name for path in (s.root / "tests/golden").iterdir() if path.is_dir())


def sample(s: Session, name: str, file: str, *more: str) -> Step:
    path = s.work / file
    command = [str(s.osp), "sample", PROMPT, "--device", s.device, "--no-cache", *more, "-o", str(path)]
    keep = [path] if path.suffix == ".mp4" else []
    return Step(name, 4, 30, command, read.hashed(path), keep=keep)


def full_size(s: Session) -> bool:
    """Whether this osp can profile a published model with synthetic weights, not only the demo model."""
    return "--repeat" in s.help("profile")


def profile(s: Session, name: str, frames: int, env: Optional[Dict[str, str]] = None, more: Iterable[str] = ()) -> Step:
    trace = s.work / f"{re.sub('[ ,]+', '-', name)}.trace.json"
    command = [*profile_command(s, frames, 5), *more, "--json", "--trace", str(trace)]
    return Step(name, 3 if s.emulated else 25, 75, command, read.profile(trace), env or {}, watch=True, keep=[trace])


def profile_command(s: Session, frames: int, repeat: int) -> List[str]:
    command = [str(s.osp), "profile", "--device", "dry" if s.emulated else s.device]
    preset = ["--preset", f"v1.1.0-{frames}x512x512"]
    if s.emulated:
        # The emulator is slow and has no times: this only tests that the command works.
        return [*command, *preset, "--gpu", "h100"]
    return [*command, *preset, "--weights", "synthetic:1", "--repeat", str(repeat)] if full_size(s) else command


# The cases that are timed beside PyTorch.


def beside_torch(s: Session, cases: List[Case], frames: int, variants: Sequence[str] = ("",)) -> Iterator[Group]:
    """Times osp's variants, PyTorch and cuBLASLt in turn: case by case if benches are packed, else with whole profiles."""
    packed = {case.stem for case in cases if (s.osp.parent / f"bench-{case.stem}").exists()}
    if s.dry or not s.torch.about:
        yield torch_start(s)
    torch = s.dry or not s.torch.problem
    for number in range(1, ROUNDS + 1):
        if number == 1 or not packed and (torch or len(variants) > 1):
            for variant in variants:
                name = f"profile {frames} frames{variant and ' ' + variant}, {number}"
                yield profile(s, name, frames, more=("--kernels", variant) if variant else ())
                remember(s, name, [case for case in cases if case.stem not in packed], variant)
        if not packed and torch:
            yield from (torch_arm(s, case, arm) for case in cases for arm in case.arms)
    if packed:
        for case in cases:
            for _ in range(ROUNDS):
                if case.stem in packed:
                    yield from (own_bench(s, case, variant) for variant in (variants if case.kind in WITH_VARIANTS else ("",)))
                if torch:
                    yield from (torch_arm(s, case, arm) for arm in case.arms)


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
    return Step("torch", 12, 60, call=lambda limit: s.torch.start(limit))


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
    return Step(f"own {case.name}{variant and ' ' + variant}", 4, 30, command, remembered, env)


# Deep: reasons of failures, and equal bits of equal runs.


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
        yield profile(s, f"profile {SHORT} frames, 1", SHORT)
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
        command = [program, "--clock-control", "none", *sections, *launches, "--page", "details", *profile_command(s, SHORT, 1)]
        yield Step(f"ncu {kernel}", 25, 60, command, read.ncu)


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


# Speed: variants, whole runs, and all operations that are timed.


def speed(s: Session) -> Iterator[Group]:
    if s.variants:
        yield from compare_variants(s)
    yield from whole_runs(s)
    yield from beside_torch(s, [case for case in CASES if not case.handful], LONG, KERNELS if hopper(s) else ("",))
    yield from benches(s)


def compare_variants(s: Session) -> Iterator[Group]:
    """Profiles each folder of cubins, between two profiles of the unchanged program; then checks the fastest variant."""
    yield knows_variants(s)
    if not s.ok("variants"):
        return
    yield profile(s, "variant none, first", LONG)
    folders = sorted(path for path in s.variants.iterdir() if path.is_dir())
    for folder in folders:
        yield profile(s, f"variant {folder.name}", LONG, {"OSP_KERNELS": str(folder)})
    yield profile(s, "variant none, last", LONG)
    best = fastest(s, folders) if not s.dry else next(iter(folders), None)
    yield chosen(best)
    if best:
        env = {"OSP_KERNELS": str(best)}
        stems = [stem for stem in STEMS if any(best.glob(f"{stem}*"))] or STEMS
        yield [selftest(s, stem, True, env, f"{best.name} selftest {stem}") for stem in stems]
        yield [verify(s, folder, "f16", env={**BLOCKING, **env}, name=f"{best.name} verify {folder} f16")
               for folder in golden(s) if folder not in HOST_ONLY]


def knows_variants(s: Session) -> Step:
    """Fails if the program ignores OSP_KERNELS: it would time its own kernels under other names."""
    def reading(finished: Finished) -> Reading:
        if str(s.variants) not in finished.out and "OSP_KERNELS" not in finished.out:
            return read.failed("this osp does not know OSP_KERNELS: its doctor does not mention it")
        count = sum(path.is_dir() for path in s.variants.iterdir())
        return Reading(f"{count} variants")
    return Step("variants", 3, 20, [str(s.osp), "doctor"], reading, {"OSP_KERNELS": str(s.variants)})


def total(s: Session, name: str) -> Optional[float]:
    times = [stage["ms"] for stage in s.data(name).get("stages", [])]
    return sum(times) if times and None not in times else None


def fastest(s: Session, folders: List[Path]) -> Optional[Path]:
    """The fastest variant, if it is faster than both baselines by more than their difference."""
    baselines = [ms for ms in (total(s, "variant none, first"), total(s, "variant none, last")) if ms is not None]
    if not baselines:
        return None
    bar = min(baselines) - (max(baselines) - min(baselines))
    times = [(total(s, f"variant {folder.name}"), folder) for folder in folders]
    ahead = [(ms, folder) for ms, folder in times if ms is not None and ms < bar]
    return min(ahead)[1] if ahead else None


def chosen(best: Optional[Path]) -> Step:
    text = f"{best.name} is the fastest" if best else "no variant is faster than the unchanged program"
    return Step("variant chosen", 0, 5, call=lambda _: Reading(text, {"best": best.name if best else None}))


# Frames, and the numbers of steps of a short and a longer run: their difference gives the cost of a step.
WHOLE = [(65, (2, 12), 15, 60), (221, (2, 6), 20, 75)]


def whole_runs(s: Session) -> Iterator[Group]:
    """The published model at full size with synthetic weights, from prompt to frames."""
    for frames, counts, expected, limit in WHOLE:
        model = s.work / f"model-{frames}"
        if not s.dry:
            publish(s, model, frames)
        for steps in counts:
            video = s.work / f"whole-{frames}-{steps}.y4m"
            command = [str(s.osp), "sample", PROMPT, "--device", s.device, "--model", str(model), "--weights", "synthetic:1",
                       "--frames", str(frames), "--size", "512x512", "--sampler", "DDIM", "--steps", str(steps),
                       "-o", str(video)]
            record = Path(f"{video}.json")
            # The other runs use the text embeddings of the first run.
            env = {"XDG_CACHE_HOME": str(s.work / "cache")}
            yield Step(f"whole {frames} frames, {steps} steps", expected, limit, command, read.sampled(record), env,
                       watch=True, keep=[record])
            if not s.dry:
                video.unlink(missing_ok=True)
        yield steps_cost(s, frames, counts)


def publish(s: Session, model: Path, frames: int) -> None:
    """Makes a folder with the published configs and a tokenizer; synthetic weights need no more."""
    manifests, tokenizer = s.root / "tests/golden/manifests", s.root / "tests/golden/pipeline/text_encoder/spiece.model"
    for part, name in (("transformer", f"latte_{frames}x512x512"), ("vae", "vae_v1.1.0"), ("text_encoder", "t5_v1_1_xxl")):
        (model / part).mkdir(parents=True, exist_ok=True)
        config = json.loads((manifests / f"{name}.json").read_text())["config"]
        (model / part / "config.json").write_text(json.dumps(config))
    shutil.copy(tokenizer, model / "text_encoder")


def steps_cost(s: Session, frames: int, counts) -> Step:
    """Seconds of a step from the difference of two runs, and the measured memory beside the planned."""
    def call(_: float) -> Reading:
        short, long = (s.data(f"whole {frames} frames, {steps} steps") for steps in counts)
        if not short or not long:
            return Reading("one of the two runs is missing", verdict=SKIP)
        more = long["calls"] - short["calls"]
        a_call = (long["seconds"]["denoise"] - short["seconds"]["denoise"]) / more
        planned = max(long["arenas"].values(), default=0) / 2**30
        seen = long.get("seen", {}).get("peak_mib", 0) / 2**10
        data = {"seconds_a_step": a_call, "decode": long["seconds"]["decode"], "planned_gib": planned, "seen_gib": seen}
        return Reading(f"{a_call:.4f} s a step with guidance, decode {long['seconds']['decode']:.2f} s; "
                       f"planned {planned:.2f} GiB, seen {seen:.2f} GiB in use", data)
    return Step(f"step at {frames} frames", 0, 5, call=call)


def benches(s: Session) -> Iterator[Group]:
    """All packed criterion benches."""
    packed = [stem for stem in BENCHES if (s.osp.parent / f"bench-{stem}").exists()]
    for stem in packed:
        yield Step(f"bench {stem}", 20, 60, [str(s.osp.parent / f"bench-{stem}"), "--bench", "--noplot"], read.bench,
                   {**ON_THE_GPU, "CRITERION_HOME": str(s.work / "criterion")})
    if not packed:
        yield skipped("benches", "not packed: gpu-pack --benches")


STAGES = {"light": light, "deep": deep, "speed": speed}
