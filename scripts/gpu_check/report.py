"""Writes the results: a table of limited length, a record to commit, and one archive of all other files."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

from .cases import CASES, LIBRARY, Case
from .commands import against_newest, hopper
from .session import Session
from .steps import FAIL, PASS, SKIP, Result

# The most characters of the table, and the most bytes of the archive and of one file in it.
TABLE, ARCHIVE, MEMBER = 9_000, 15 << 20, 8 << 20
# Kernels of a stage in the table.
KERNELS = 6
# The share of cuBLASLt's rate that a linear layer must reach.
GOAL = 0.95

Row = Sequence[str]


@dataclasses.dataclass
class Section:
    """A title, a header and rows. If there are too many rows, the last ones are omitted."""

    title: str
    header: Row
    rows: List[Row]
    note: str = ""
    left_out: int = 0

    def text(self) -> str:
        lines = [self.title] + aligned([self.header, *self.rows] if any(self.header) else self.rows)
        if self.left_out:
            lines.append(f"  … {self.left_out} more in record.md")
        return "\n".join(lines + ([f"  {self.note}"] if self.note else []))

    def markdown(self) -> str:
        cells = lambda row: "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |"
        lines = [f"## {self.title}", "", cells(self.header), "|" + "---|" * len(self.header), *map(cells, self.rows)]
        return "\n".join(lines + (["", self.note] if self.note else []))


def aligned(rows: List[Row]) -> List[str]:
    """Pads columns to their widest cell, except the last column."""
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(rows[0]))] if rows else []
    return ["  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row[:-1], widths)) + f"  {row[-1]}" for row in rows]


def number(value: Any, digits: int = 4) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


# The sections.


def outcomes(s: Session, verdict: str, title: str) -> Section:
    rows = [(result.name, result.text) for result in s.results if result.verdict == verdict]
    return Section(title, ("step", "what it says"), rows)


def checks(s: Session) -> Section:
    """Checks against a reference, one line for each kind."""
    kinds: Dict[str, List[Result]] = {}
    for result in s.results:
        found = re.match(r"(?:(\S+) )?(selftest|verify|memcheck|racecheck|equal)\b", result.name)
        if found:
            kind = " ".join(part for part in found.groups() if part)
            if found.group(2) == "verify":
                kind += " " + ("bf16" if "bf16" in result.name else "f16")
            kinds.setdefault(kind, []).append(result)
    rows = []
    for kind, results in kinds.items():
        count = {verdict: sum(result.verdict == verdict for result in results) for verdict in (PASS, FAIL, SKIP)}
        worst = max((tuple(result.data["worst"]) for result in results if result.data.get("worst")), default=None)
        rows.append((kind, str(count[PASS]), str(count[FAIL]), str(count[SKIP]),
                     f"{worst[0]:.2f} of allowed, {worst[1]}" if worst else "-"))
    return Section("Checks", ("kind", "passed", "failed", "skipped", "worst"), rows)


def profiles(s: Session, most: int) -> List[Section]:
    """Kernels of the newest profile of each length, stage by stage; `most` of each."""
    newest = {result.data["frames"]: result for result in s.results
              if result.data.get("stages") and result.name.startswith(("profile", "variant none"))}
    return [profiled(result, stage, most) for result in newest.values() for stage in result.data["stages"]]


def profiled(result: Result, stage: Dict[str, Any], most: int) -> Section:
    seen, rows = result.data.get("seen", {}), []
    for row in stage["kernels"][:most]:
        share = 100 * row["ms"] / stage["ms"] if row["ms"] is not None and stage["ms"] else None
        rates = ((row["flops_per_second"], 1e12), (row["bytes_per_second"], 1e9), (row["roof"], 0.01))
        rows.append((row["kernel"], str(row["calls"]), number(row["ms"]), number(share, 3),
                     *(number(rate / unit if rate else None, 3) for rate, unit in rates)))
    title = f"{stage['stage']}: {stage['what']}, {number(stage['ms'])} ms ({result.name}: {result.data['model']})"
    units = (("sm_mhz", "at {:.0f} MHz"), ("watts", "up to {:.0f} W"))
    note = " and ".join(text.format(seen[name]) for name, text in units if name in seen)
    header = ("kernel", "calls", "ms", "%", "TFLOP/s", "GB/s", "% of data sheet")
    return Section(title, header, rows, note, max(0, len(stage["kernels"]) - most))


def best(arms: Optional[Dict[str, List[float]]]) -> Optional[Tuple[float, str]]:
    """The least mean of an arm's milliseconds, and the arm."""
    return min(((mean(times), arm) for arm, times in (arms or {}).items()), default=None)


def of_torch(s: Session, case: Case) -> Dict[str, List[float]]:
    return {arm: times for arm, times in s.theirs.get(case.name, {}).items() if not arm.startswith(LIBRARY)}


def rounds(arms: Dict[str, List[float]]) -> str:
    return "; ".join(f"{arm} {' '.join(number(ms) for ms in times)}".strip() for arm, times in arms.items())


def linear_layers(s: Session) -> Section:
    """The rates of every linear layer: osp's variants, PyTorch, and cuBLASLt with bias and GELU in its epilogue."""
    timed = [case for case in CASES if case.kind == "linear" and LIBRARY in s.theirs.get(case.name, {})]
    every = [case.rate(mean(times)) for case in timed
             for times in (*s.own.get(case.name, {}).values(), *s.theirs[case.name].values())]
    rows, shares = [], []
    for case in timed:
        rate = lambda ms: number(case.rate(ms))
        own, torch, library = best(s.own.get(case.name)), best(of_torch(s, case)), mean(s.theirs[case.name][LIBRARY])
        variants = "; ".join(f"{variant} {rate(mean(times))}".strip() for variant, times in s.own.get(case.name, {}).items())
        shares += [library / own[0]] if own else []
        rows.append((case.name, variants or "-", rate(torch[0]) if torch else "-", rate(library),
                     f"{shares[-1]:.2f}" if own else "-",
                     f"{100 * case.rate(own[0]) / max(every):.0f}" if own else "-"))
    reached = sum(share >= GOAL for share in shares)
    note = (f"TFLOP/s in f16, with bias, and with GELU where the layer has one; the best: the highest rate of any arm here. "
            f"If benches are not packed, osp's layers to 1152 columns also add to the residual. "
            f"Goal: {GOAL} of cuBLASLt, reached in {reached} of {len(shares)} cases.")
    header = ("case", "osp", "PyTorch", "cuBLASLt", "osp / cuBLASLt", "% of the best")
    return Section("Linear layers", header, rows, note)


def comparison(s: Session) -> Section:
    """The time of osp in each case, beside PyTorch's best arm."""
    rows = []
    for case in CASES:
        own, arms, torch = best(s.own.get(case.name)), s.theirs.get(case.name, {}), best(of_torch(s, case))
        if not own and not arms:
            continue
        rows.append((case.name, f"{number(own[0])} {own[1]}".strip() if own else "-",
                     f"{case.rate(own[0]):.4g} {case.unit}" if own else "-",
                     number(torch and torch[0]), torch[1] if torch else "-",
                     f"{torch[0] / own[0]:.2f}×" if own and torch else "-", rounds(arms)))
    note = ("f16, means of medians; both sides take turns in rounds; PyTorch on random values with cold caches. If benches are not "
            "packed, osp's times are of launches in the model: products with their residual, group_norm without its statistics, "
            "which the convolution before computes.") if rows else ""
    header = ("case", "osp ms", "rate", "PyTorch ms", "its best arm", "PyTorch / osp", "every arm and round, ms")
    return Section("Beside PyTorch", header, rows, note)


def benches(s: Session) -> Section:
    rows = [row for result in s.results if result.verdict == PASS for row in result.data.get("benches", [])]
    return Section("Benches", ("bench", "time", "throughput", "share of what this run reached"), rows)


def notable(s: Session) -> Section:
    """Results of one line each: variants, whole runs, ncu."""
    kinds = ("variant", "whole", "step at", "ncu")
    rows = [(result.name, result.text) for result in s.results if result.verdict == PASS and result.name.startswith(kinds)]
    return Section("Single results", ("step", "what it says"), rows)


def sections(s: Session, most: int) -> List[Section]:
    found = [outcomes(s, FAIL, "Failed"), checks(s), linear_layers(s), comparison(s), *profiles(s, most), notable(s), benches(s),
             outcomes(s, SKIP, "Skipped")]
    return [section for section in found if section.rows]


# The files.


def headline(s: Session, stages: Sequence[str], machine: Dict[str, str], seconds: float) -> List[str]:
    count = {verdict: sum(result.verdict == verdict for result in s.results) for verdict in (PASS, FAIL, SKIP)}
    where = "the EMULATOR, no GPU" if s.emulated else card(s, machine)
    doctor = s.result("doctor")
    # It says which driver the program needs.
    problem = [f"NO GPU CAN BE OPENED: {doctor.text}"] if doctor and doctor.verdict == FAIL else []
    warnings = [machine[what] for what in ("tree", "earlier results") if what in machine]
    return [*problem, *warnings,
            f"gpu-check {', '.join(stages)} on {where}; program {machine.get('program')}; {kernels(s)}"
            f"{seconds:.0f} of {s.budget:.0f} s",
            f"{count[FAIL]} FAILED, {count[PASS]} passed, {count[SKIP]} skipped" + (f": {s.stopped}" if s.stopped else "")]


def kernels(s: Session) -> str:
    """Which kernels steps without a variant in their names have run, where there are several."""
    if s.emulated or not hopper(s):
        return ""
    against = against_newest(s)
    return f"kernels sm80, because {against}; " if against else "kernels sm90, whose self-tests passed; "


def card(s: Session, machine: Dict[str, str]) -> str:
    """The GPU's name, from nvidia-smi, else from the program."""
    return machine.get("GPU") or s.data("doctor").get("gpu") or "no GPU"


def table(s: Session, lines: List[str]) -> str:
    """The table, which is printed last. If it is too long, the longest section is shortened."""
    shown = sections(s, KERNELS)
    for section in shown:
        if section.title == "Beside PyTorch":
            # Only the record has single rounds.
            section.header, section.rows = section.header[:-1], [row[:-1] for row in section.rows]
    render = lambda: "\n".join(lines) + "\n\n" + "\n\n".join(section.text() for section in shown)
    while len(render()) > TABLE:
        longest = max(shown, key=lambda section: len(section.text()))
        if not longest.rows:
            break
        longest.rows.pop()
        longest.left_out += 1
    return render()


def record(s: Session, lines: List[str], machine: Dict[str, str]) -> str:
    """The record, to be committed as docs/benchmarks/CARD-DATE.md."""
    title = "the emulator" if s.emulated else card(s, machine).split(",")[0]
    about = getattr(s, "torch", None) and s.torch.about or {}
    facts = dict(machine)
    if "torch" in about:
        facts["PyTorch"] = f"{about['torch']}, CUDA {about['cuda']}, cuDNN {about['cudnn']}"
    parts = [f"# {title}, {machine.get('date', '').split(',')[0]}", "\n\n".join(lines),
             Section("MACHINE", ("what", "found"), list(facts.items())).markdown(),
             *(section.markdown() for section in sections(s, 1000))]
    return "\n\n".join(parts) + "\n"


def archive(path: Path, files: Iterable[Path], root: Path) -> List[str]:
    """Archives all files that fit, the smaller ones first; returns the names of the others."""
    left_out, buffer = [], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=6) as tar:
        for file in sorted(set(files), key=lambda file: file.stat().st_size):
            # Even without compression the file would fit.
            if file.stat().st_size > MEMBER or buffer.tell() + file.stat().st_size > ARCHIVE:
                left_out.append(file.name)
                continue
            tar.add(file, arcname=f"gpu-check/{file.relative_to(root)}")
    partial = path.with_name("partial")
    partial.write_bytes(buffer.getvalue())
    partial.replace(path)
    return left_out


def put(path: Path, content: str) -> None:
    """Replaces a file at once: a run that is killed leaves the file before or the file after."""
    partial = path.with_name("partial")
    partial.write_text(content)
    partial.replace(path)


class Output:
    """The files of a run, written anew after each group of steps, because the machine may end the run at any time."""

    def __init__(self, s: Session, stages: Sequence[str], machine: Dict[str, str], out: Path, results: Path) -> None:
        self.s, self.stages, self.machine, self.out, self.results = s, stages, machine, out, results
        self.text = ""
        """The table."""
        self.lines: List[str] = []
        """The first lines of the table."""
        self.left_out: List[str] = []
        self.due = 0.0
        """When the archive may be written again."""
        self.said: Set[str] = set()

    def after_group(self) -> None:
        # After a signal there are only seconds left, for the last files.
        if not self.s.stopped:
            self.write()
            self.store()

    def write(self, last: bool = False) -> None:
        """Writes the files to the folder for the output. What cannot be written costs only itself."""
        self.tried(lambda: self.out.mkdir(parents=True, exist_ok=True))
        if last or time.monotonic() >= self.due:
            self.tried(self.archive)
        self.tried(self.begin)
        self.tried(self.render)
        self.tried(lambda: put(self.out / "results.json", self.found()))
        self.tried(lambda: put(self.out / "table.txt", self.text + "\n"))
        self.tried(lambda: put(self.out / "record.md", record(self.s, self.lines, self.machine)))

    def begin(self) -> None:
        lines = headline(self.s, self.stages, self.machine, time.monotonic() - self.s.start)
        if self.left_out:
            names = ", ".join(self.left_out[:5]) + (" …" if self.left_out[5:] else "")
            lines.append(f"not in logs.tar.gz, because too large: {names}")
        self.lines, self.text = lines, "\n".join(lines)

    def render(self) -> None:
        self.text = table(self.s, self.lines)

    def archive(self) -> None:
        start = time.monotonic()
        files = [*(self.s.work / "logs").iterdir(), *(file for file in self.s.kept if file.exists())]
        self.left_out = archive(self.out / "logs.tar.gz", files, self.s.work)
        # It compresses megabytes, and gets a twentieth of the time.
        self.due = time.monotonic() + 20 * (time.monotonic() - start)

    def found(self) -> str:
        """All results, with those of earlier calls: the next one asks which kernels passed, whichever stage ran last."""
        results = [dataclasses.asdict(result) for result in self.s.newest()]
        return json.dumps({"stages": list(self.stages), "osp": self.s.program, "machine": self.machine, "results": results})

    def store(self) -> None:
        """Stores the results for the next call."""
        if self.results.resolve() == (self.out / "results.json").resolve():
            return
        self.tried(lambda: self.results.parent.mkdir(parents=True, exist_ok=True))
        self.tried(lambda: put(self.results, self.found()))

    def tried(self, action: Callable[[], None]) -> None:
        """A folder that cannot be written, or a fault of this program, must not lose the rest. It is said once."""
        try:
            action()
        except Exception as error:
            said = f"gpu-check: the output is not complete: {type(error).__name__}: {error}"
            if said not in self.said:
                self.said.add(said)
                print(said, file=sys.stderr, flush=True)
