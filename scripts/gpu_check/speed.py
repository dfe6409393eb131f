"""The stage speed: variants of kernels, whole runs, and all operations that are timed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

from . import read
from .beside import beside_torch, torch_start
from .cases import CASES
from .commands import (BENCHES, BLOCKING, HOST_ONLY, KERNELS, LONG, ON_THE_GPU, PROMPT, ROUNDS, SM80, SM90, STEMS, TWINS,
                       golden, hopper, newest, of, profile, selftest, tries_hopper, verify)
from .session import Group, Session
from .steps import PASS, SKIP, Finished, Reading, Step, skipped


def speed(s: Session) -> Iterator[Group]:
    yield untested(s)
    if s.variants:
        yield from compare_variants(s)
    if not s.dry:
        # Its memory would count as that of a whole run.
        s.torch.stop()
    yield from whole_runs(s)
    if s.dry or s.torch.wanted:
        yield torch_start(s)
    variants = KERNELS if tries_hopper(s) else [""]
    yield from beside_torch(s, [case for case in CASES if not case.handful], LONG, [variants] * ROUNDS)
    yield from benches(s)


def untested(s: Session) -> List[Step]:
    """Quick self-tests of files with kernels for Hopper that no earlier step has tested. What is timed depends on them."""
    known = {step.name for group in s.planned for step in ([group] if isinstance(group, Step) else group)}
    if not hopper(s) or not s.help("selftest"):
        return []
    known.update(result.name for result in s.newest() if result.verdict != SKIP)
    return [selftest(s, stem, True) for stem in TWINS if f"selftest {stem}" not in known]


class Compared(NamedTuple):
    """Folders of kernels that run with the same option for kernels, and so are compared with the same baseline."""

    kernels: List[str]
    baseline: str
    folders: List[Path]


def compare_variants(s: Session) -> Iterator[Group]:
    """Profiles each folder of cubins that loads, between two profiles of the unchanged program with the same option for its
    kernels; then checks the fastest variant."""
    folders = sorted(path for path in s.variants.iterdir() if path.is_dir())
    if not folders:
        yield skipped("variants", f"{s.variants} has no subfolders")
    yield [loads(s, folder) for folder in folders]
    groups = grouped(s, [folder for folder in folders if s.ok(loads(s, folder).name)])
    for group in groups:
        yield from compare_folders(s, group)
    if not groups:
        return
    best = fastest(s, groups) if not s.dry else groups[0].folders[0]
    yield chosen(best)
    if best:
        kernels = next(group.kernels for group in groups if best in group.folders)
        yield [test for test in tests(s, best, stems(best) or STEMS) if not s.result(test.name)]
        env = {**BLOCKING, "OSP_KERNELS": str(best)}
        yield [verify(s, folder, "f16", *kernels, env=env, name=f"{best.name} verify {folder} f16")
               for folder in golden(s) if folder not in HOST_ONLY]


def grouped(s: Session, folders: List[Path]) -> List[Compared]:
    default, groups = newest(s), {}
    for folder in folders:
        kernels = kernels_of(s, folder)
        name = "variant none" if kernels == default else f"variant none {of(kernels)}"
        groups.setdefault(name, Compared(kernels, name, [])).folders.append(folder)
    return list(groups.values())


def compare_folders(s: Session, group: Compared) -> Iterator[Group]:
    """Times the folders between two runs of the baseline, of which the second is worth its time if the first succeeds. A folder
    with kernels that failed before is timed if they pass now."""
    first, last = (f"{group.baseline}, {when}" for when in ("first", "last"))
    yield profile(s, first, LONG, group.kernels)
    for folder in group.folders:
        mended = tests(s, folder, [stem for stem in stems(folder) if stem in s.failed("selftest")])
        yield mended
        name = f"variant {folder.name}"
        if all(s.ok(test.name) for test in mended):
            yield profile(s, name, LONG, group.kernels, {"OSP_KERNELS": str(folder)})
        else:
            yield skipped(name, "its kernels have not passed their self-tests")
    yield profile(s, last, LONG, group.kernels) if s.ok(first) else skipped(last, "the first one has no time")


def stems(folder: Path) -> List[str]:
    """The files of kernels whose self-tests run a folder's kernels."""
    return [stem for stem in STEMS if any(folder.glob(f"{stem}*"))]


def tests(s: Session, folder: Path, of_stems: List[str]) -> List[Step]:
    """Self-tests with a folder's kernels."""
    return [selftest(s, stem, True, {"OSP_KERNELS": str(folder)}, f"{folder.name} selftest {stem}") for stem in of_stems]


def kernels_of(s: Session, folder: Path) -> List[str]:
    """The option with which the program launches a folder's kernels: a file for Hopper hides the file for every GPU."""
    names = {path.stem for path in folder.iterdir()}
    if not hopper(s):
        return []
    if any(name.endswith("_sm90") for name in names):
        return SM90
    return SM80 if names.intersection(TWINS) else newest(s)


def loads(s: Session, folder: Path) -> Step:
    """Fails if the driver refuses a file, or if the program ignores the folder: it would time its own kernels under another
    name."""
    def reading(finished: Finished) -> Reading:
        found = read.doctor(finished)
        replaced = found.data.get("OSP_KERNELS", "")
        if found.verdict == PASS and str(folder) not in replaced:
            return read.failed(f"doctor names no file of {folder.name}: it holds no STEM.cubin, or this osp knows no OSP_KERNELS")
        names = " ".join(Path(path).name for path in replaced.split())
        return Reading(names, found.data) if found.verdict == PASS else found
    return Step(f"doctor of {folder.name}", 3, 20, [str(s.osp), "doctor"], reading, {"OSP_KERNELS": str(folder)})


def total(s: Session, name: str) -> Optional[float]:
    times = [stage["ms"] for stage in s.data(name).get("stages", [])]
    return sum(times) if times and None not in times else None


def fastest(s: Session, groups: List[Compared]) -> Optional[Path]:
    """The fastest variant, if it is faster than both baselines of its kernels by more than their difference. Where the baseline has
    no time, because its kernels hang, every folder that has one is faster."""
    ahead = []
    for group in groups:
        baselines = [ms for ms in (total(s, f"{group.baseline}, {when}") for when in ("first", "last")) if ms is not None]
        bar = min(baselines) - (max(baselines) - min(baselines)) if baselines else float("inf")
        times = [(total(s, f"variant {folder.name}"), folder) for folder in group.folders]
        ahead += [(ms, folder) for ms, folder in times if ms is not None and ms < bar]
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
                       *newest(s), "-o", str(video)]
            record = Path(f"{video}.json")
            # The other runs use the text embeddings of the first run.
            env = {"XDG_CACHE_HOME": str(s.work / "cache")}
            yield Step(f"whole {frames} frames, {steps} steps", expected, limit, command, read.sampled(record), env,
                       watch=True, keep=[record], kernels=of(newest(s)))
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
