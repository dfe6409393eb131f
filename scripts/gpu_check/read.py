"""Parses the output of commands."""

from __future__ import annotations

import hashlib
import json
import re
import signal
import statistics
from pathlib import Path
from typing import Any, Callable, Dict, List

from .steps import FAIL, SKIP, Finished, Reading, Step, clean


# A check of a self-test that hung or was ended, and the variant of its kernels: in "gemm, parts: did not finish within 10 s,
# during f16, sm90: Case { m: 1 }" it is sm90.
UNFINISHED = re.compile(r"^FAIL  (\S+, \S+: (did not finish within|interrupted)(?:[^,]*, during \w+, (sm\d+):)?.*)$", re.M)


def judge(step: Step, finished: Finished) -> Reading:
    """The reading of a command, however it ended. In its data, "ended" says that it took all its time, as what hangs does, and
    "cut" that it had less."""
    reading = judged(step, finished)
    if reading.verdict == FAIL and step.after_failure:
        reading = step.after_failure(finished, reading)
        reading.text = clean(reading.text)
    if finished.cut:
        reading.data = {**reading.data, "cut": True}
    return reading


def judged(step: Step, finished: Finished) -> Reading:
    said = finished.complaint or finished.last or "printed nothing"
    if finished.ended_after is not None:
        stuck = ", and survives SIGKILL" if finished.code is None else ""
        reading = failed(f"ended after {finished.ended_after:.4g} s{stuck}: {said}")
        reading.data = {"ended": not finished.cut}
        return reading
    if finished.code is None or finished.code < 0:
        return failed(f"killed by {signal_name(finished.code)}: {said}")
    if finished.code not in step.accepts:
        return failed(f"exit code {finished.code}: {said}")
    if not finished.last:
        return failed("printed nothing")
    if finished.complaint and step.accepts == (0,):
        return failed(said)
    try:
        reading = step.read(finished)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        return failed(f"cannot be read ({type(error).__name__}: {error}): {said}")
    reading.text = clean(reading.text)
    return reading


def failed(text: str) -> Reading:
    return Reading(clean(text), verdict=FAIL)


def signal_name(code: Any) -> str:
    try:
        return signal.Signals(-code).name
    except (ValueError, TypeError):
        return f"signal {code}"


# Problems that another try does not solve, and that every image of kernels would have.
FINAL = re.compile(r"too old|not found|built without nvcc")


def doctor(finished: Finished) -> Reading:
    """Lines of a key and a value. Without a GPU that can be opened, the step fails."""
    pairs = [line.split(None, 1) for line in finished.out.splitlines()]
    data = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    if "problem" in data:
        return Reading(data["problem"], {**data, "final": bool(FINAL.search(data["problem"]))}, FAIL)
    if data.get("gpu", "none") == "none" or "runs" not in data:
        return Reading("names no GPU that runs the kernels", data, FAIL)
    return Reading(f"{data['gpu']}; driver {data.get('driver')}, runs {data['runs']}", data)


def images(finished: Finished) -> Reading:
    """The lines of driver.py, one for each image of kernels."""
    found = re.findall(r"^image (\S+): (pass|FAIL) (.*)$", finished.out, re.M)
    refused = [(name, why) for name, verdict, why in found if verdict == FAIL]
    if not refused:
        return Reading(f"{len(found)} images load")
    names = ", ".join(name for name, _ in refused)
    return failed(f"{len(refused)} of {len(found)} images do not load: {names}: {refused[0][1]}")


def doctor_without_gpu(finished: Finished) -> Reading:
    """For the emulator, which needs no GPU."""
    reading = doctor(finished)
    return Reading(f"cpu {reading.data.get('cpu')}", reading.data)


def selftest(finished: Finished) -> Reading:
    """Lines such as `pass  linear_small_f16   0.43 of allowed, 37 cases`, and a total."""
    found = re.findall(r"^\s*pass\s+(\S+)\s+([0-9.eE+-]+) of allowed", finished.out, re.M)
    worst = max(((float(ratio), name) for name, ratio in found), default=None)
    return Reading(finished.last if worst is None else f"worst {worst[0]:.2f} of allowed, {worst[1]}; {finished.last}",
                   {"worst": worst})


def selftest_failed(finished: Finished, reading: Reading) -> Reading:
    """Names the check that did not finish. If it hung, marks the variant of its kernels, because later steps avoid them; None
    is an unknown one. An interrupted check hung if it had the step's whole time."""
    unfinished = UNFINISHED.findall(finished.out)
    ended = bool(reading.data.get("ended"))
    hung = [variant or None for _, how, variant in unfinished if how != "interrupted" or ended]
    text = "; ".join([*(words for words, _, _ in unfinished[:1]), reading.text])
    if not hung and not ended:
        return Reading(text, reading.data, FAIL)
    wrong = len(re.findall(r"^FAIL  ", finished.out, re.M)) - len(unfinished)
    return Reading(text, {**reading.data, "hung": hung or [None], "wrong": wrong}, FAIL)


def verify(finished: Finished) -> Reading:
    """Lines such as `pass  latte  video.output   relative L2   6.6e-7 of 1.0e-5`, and a total. The bound of a PSNR is its least."""
    total = re.match(r"(\d+) checks, all passed", finished.last)
    if not total or total.group(1) == "0":
        return failed(f"no total of checks that passed: {finished.last}")
    worst = (0.0, "")
    for case, measure, error, allowed in re.findall(
            r"^pass  (\S+  \S+)\s+(.*?)  +([0-9.e+-]+) of ([0-9.e+-]+)$", finished.out, re.M):
        over, under = (allowed, error) if "PSNR" in measure else (error, allowed)
        ratio = float(over) / float(under) if float(under) else float(over)
        worst = max(worst, (ratio, case.replace("  ", " ")))
    return Reading(f"{total.group(1)} checks, worst {worst[0]:.2f} of allowed, {worst[1]}", {"worst": worst})


def profile(trace: Path) -> Callable[[Finished], Reading]:
    """`osp profile --json --trace`: kernels by stage, and every launch."""
    def read(finished: Finished) -> Reading:
        report = json.loads(finished.out.strip().splitlines()[-1])
        stages = [profiled_stage(stage) for stage in report["stages"]]
        data = {"model": report["model"], "frames": report["frames"], "size": [report["height"], report["width"]],
                "stages": stages, "launches": launches(trace) if trace.exists() else []}
        times = [f"{stage['stage']} {stage['ms']:.3g} ms" for stage in stages if stage["ms"] is not None]
        return Reading(f"{report['model']} at {report['frames']} frames: {', '.join(times) or 'counted, not timed'}", data)
    return read


def profiled_stage(stage: Dict[str, Any]) -> Dict[str, Any]:
    def times(row: Dict[str, Any]) -> Dict[str, Any]:
        seconds, bound = row.get("gpu_seconds"), row.get("bound_seconds")
        rate = lambda amount: amount / seconds if seconds else None
        return {"kernel": row["kernel"], "calls": row["calls"], "ms": None if seconds is None else 1e3 * seconds,
                "flops_per_second": rate(row["flops"]), "bytes_per_second": rate(row["bytes"]),
                "roof": bound / seconds if seconds and bound else None}
    return {"stage": stage["stage"], "what": stage["what"], "ms": times(stage["all"])["ms"],
            "kernels": [times(row) for row in stage["kernels"]]}


def launches(trace: Path) -> List[Any]:
    """Name, FLOPs, bytes and median milliseconds of each kind of launch, from a trace that was measured on the GPU."""
    content = json.loads(trace.read_text())
    if "GPU" not in content["otherData"]["durations"]:
        return []
    kinds: Dict[Any, List[float]] = {}
    for event in content["traceEvents"]:
        if event["ph"] == "X":
            key = (event["name"], event["args"]["flops"], event["args"]["bytes"])
            kinds.setdefault(key, []).append(event["dur"] / 1e3)
    return [[*key, statistics.median(times)] for key, times in kinds.items()]


def hashed(path: Path) -> Callable[[Finished], Reading]:
    """For a command that writes a file: its hash, for comparison with other runs."""
    def read(finished: Finished) -> Reading:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return Reading(f"{path.stat().st_size} bytes, SHA-256 {digest[:16]}", {"hash": digest})
    return read


# The first fault that compute-sanitizer names. That the program failed is no fault of a kernel, nor are warnings of the tool's
# own limits; a race may be a warning.
FAULT = re.compile(r"^=+ ((?!Error: process)(?:Invalid|Error|Potential|Race|Barrier|Program hit"
                   r"|Warning(?=.*\b(?:[Rr]ace|hazard))).*)$", re.M)


def sanitizer(finished: Finished) -> Reading:
    """compute-sanitizer: only its summary counts; other steps report the program's checks."""
    text = finished.out
    summary = re.search(r"^=+ (?:ERROR|RACECHECK) SUMMARY: (.*)$", text, re.M)
    if not summary:
        return failed(f"no summary: {finished.complaint or finished.last}")
    if not summary.group(1).startswith("0 "):
        first = FAULT.search(text)
        return failed(f"{summary.group(1)}: {first.group(1) if first else ''}")
    return Reading(summary.group(1) + ("" if finished.code == 0 else "; the program itself failed"))


def sanitizer_ended(finished: Finished, reading: Reading) -> Reading:
    """compute-sanitizer makes a program a hundred times slower. What it printed before its time was up counts, and that it printed
    nothing until then is no failure: it may know of more, because it prints some faults at the end."""
    if finished.ended_after is None:
        return reading
    fault = FAULT.search(finished.out)
    if fault:
        return failed(f"{fault.group(1)}; ended after {finished.ended_after:.4g} s")
    begun = re.findall(r'"Begin":\{"number":\d+,"check":"([^"]*)"', finished.out)
    where = f"no fault printed up to {begun[-1]}" if begun else "no fault printed"
    return Reading(f"{where}; ended after {finished.ended_after:.4g} s", verdict=SKIP)


def ncu(finished: Finished) -> Reading:
    """Nsight Compute's page of details, which shows what limits the kernel."""
    found = {}
    for name, key in (("Duration", "time"), ("Compute (SM) Throughput", "compute"), ("Memory Throughput", "memory"),
                      ("DRAM Throughput", "DRAM"), ("L2 Hit Rate", "L2 hits"), ("Registers Per Thread", "registers"),
                      ("Achieved Occupancy", "occupancy")):
        row = re.search(rf"^\s*{re.escape(name)}\s+(\S+)\s+([0-9.,]+)\s*$", finished.out, re.M)
        if row:
            unit = {"register/thread": "", "%": " %"}.get(row.group(1), f" {row.group(1)}")
            found[key] = row.group(2) + unit
    if "time" not in found:
        return failed(f"no duration: {finished.complaint or finished.last}")
    return Reading(", ".join(f"{key} {value}" for key, value in found.items()), found)


def bench(finished: Finished) -> Reading:
    """criterion's lines: a name (perhaps on a line before), time and throughput, each from the middle of its interval. Then our
    line: the shares of the best measured throughput of the device and of its data sheet."""
    middle = r"{}:\s+\[\S+ \S+ (\S+ \S+) "
    rows, before = [], ""
    for line in finished.out.splitlines():
        time, rate = (re.search(middle.format(key), line) for key in ("time", "thrpt"))
        share = re.search(r": (\d+ % of [\w ]+(?:, \d+ % of [\w ]+)*)$", line)
        if time:
            rows.append([line[: time.start()].strip() or before.strip(), time.group(1), "-", "-"])
        elif rate and rows:
            rows[-1][2] = rate.group(1)
        elif share and rows:
            rows[-1][3] = share.group(1)
        before = line
    if not rows or "on the CPU" in finished.out:
        return failed(f"no bench ran on the GPU: {finished.last}")
    return Reading(f"{len(rows)} benches", {"benches": rows})


def estimate(folder: Path) -> Callable[[Finished], Reading]:
    """The median of the only bench below `folder`, from criterion's files."""
    def read(finished: Finished) -> Reading:
        if "on the CPU" in finished.out:
            return failed("ran on the CPU")
        file, = folder.glob("**/new/estimates.json")
        median = json.loads(file.read_text())["median"]
        low, high = (median["confidence_interval"][side] / 1e6 for side in ("lower_bound", "upper_bound"))
        ms = median["point_estimate"] / 1e6
        return Reading(f"{ms:.4g} ms ({low:.4g} to {high:.4g})", {"ms": ms})
    return read


def sampled(record: Path) -> Callable[[Finished], Reading]:
    """A whole run, from the record beside its output."""
    def read(finished: Finished) -> Reading:
        facts = json.loads(record.read_text())
        seconds, memory = facts["seconds"], facts.get("memory") or []
        arenas = {stage["stage"]: stage["arena_bytes"] for stage in memory if stage.get("arena_bytes")}
        data = {"calls": facts["model_calls"], "seconds": seconds, "arenas": arenas}
        gib = ", ".join(f"{stage} {size / 2**30:.2f}" for stage, size in arenas.items())
        return Reading(f"text {seconds['text']:.2f} s, {facts['model_calls']} calls {seconds['denoise']:.2f} s, "
                       f"decode {seconds['decode']:.2f} s; GiB: {gib}", data)
    return read
