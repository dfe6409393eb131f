"""Executes the steps of a plan within a budget of seconds, and stores the results."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Union

from . import process
from .arms import Torch
from .machine import Watch
from .read import failed, judge
from .steps import FAIL, PASS, SKIP, Reading, Result, Step, clean

Group = Union[Step, List[Step]]
# Processes that check values in parallel: the GPU alternates between them while the host computes the references.
BESIDE = 4


class Session:
    """One run of gpu-check. A dry run (`dry`) starts no processes and only adds up seconds."""

    def __init__(self, root: Path, device: str, budget: float, dry: bool = False) -> None:
        self.root, self.device, self.budget, self.dry = root, device, budget, dry
        self.osp = Path("osp")
        self.work = Path("work")
        self.program = ""
        """The hash of the program."""
        self.step_limit = float("inf")
        self.variants: Optional[Path] = None
        self.results: List[Result] = []
        self.earlier: List[Result] = []
        self.own: Dict[str, Dict[str, List[float]]] = {}
        """Milliseconds of osp, by the case's name and the variant of its kernels; "" is the default."""
        self.theirs: Dict[str, Dict[str, List[float]]] = {}
        """Milliseconds of PyTorch and cuBLASLt, by the case's name and the arm."""
        self.kept: List[Path] = []
        self.planned: List[Group] = []
        self.stopped = ""
        self.alone = ""
        """Why only one process may use the GPU at a time."""
        self.start = time.monotonic()
        self.helps: Dict[str, str] = {}
        self.after_group: Callable[[], None] = lambda: None
        """Is called when a step, or steps in parallel, have ended."""
        self.lock = threading.Lock()

    def begin(self, osp: Path, work: Path) -> None:
        """Sets the program's path and the working folder."""
        self.osp, self.work = osp, work
        (work / "logs").mkdir(parents=True)
        self.torch = Torch(self.log("torch"))

    # Questions of a plan.

    @property
    def emulated(self) -> bool:
        return self.device == "emulated"

    @property
    def beside(self) -> int:
        """Processes in parallel: one on the emulator, because it uses all processors."""
        return 1 if self.emulated or self.alone else BESIDE

    def help(self, command: str) -> str:
        """The output of `osp COMMAND --help`; empty if there is no such command. In a dry run, every option exists."""
        if self.dry:
            return "facts --repeat --quick"
        if command not in self.helps:
            finished = process.run([str(self.osp), command, "--help"], 10)
            self.helps[command] = finished.out if finished.code == 0 else ""
        return self.helps[command]

    def result(self, name: str) -> Optional[Result]:
        """The last result of this name, from this run or from the earlier run that it continues."""
        return next((result for result in reversed(self.earlier + self.results) if result.name == name), None)

    def ok(self, name: str) -> bool:
        result = self.result(name)
        return self.dry or (result is not None and result.verdict == PASS)

    def newest(self) -> List[Result]:
        """The last result of each name. A skipped step says nothing against what it said before."""
        found: Dict[str, Result] = {}
        for result in self.earlier + self.results:
            if result.verdict != SKIP or result.name not in found:
                found[result.name] = result
        return list(found.values())

    def failed(self, prefix: str) -> List[str]:
        """Names of failed steps that begin with `prefix`, without it, in alphabetical order."""
        return sorted(result.name[len(prefix) + 1:] for result in self.newest()
                      if result.name.startswith(prefix + " ") and result.verdict == FAIL)

    def data(self, name: str) -> Dict[str, Any]:
        result = self.result(name)
        return result.data if result and result.verdict == PASS else {}

    # Execution.

    def left(self) -> float:
        return self.budget - (time.monotonic() - self.start)

    def play(self, plan: Iterable[Group]) -> None:
        """Executes the steps of a plan. A plan can read earlier results before it gives the next step."""
        try:
            for group in plan:
                if self.dry:
                    self.planned.append(group)
                elif isinstance(group, Step):
                    self.one(group)
                else:
                    with ThreadPoolExecutor(self.beside) as pool:
                        list(pool.map(self.one, group))
                self.after_group()
        except Exception as error:  # The plan ends here, but the results up to now still get a table.
            self.add(Result("plan", FAIL, 0.0, clean(f"{type(error).__name__}: {error}"), {}))

    def one(self, step: Step) -> None:
        start = time.monotonic()
        reading = self.why_not(step) or self.act(step)
        if step.kernels:
            reading.data = {**reading.data, "kernels": step.kernels}
        self.add(Result(step.name, reading.verdict, time.monotonic() - start, reading.text, reading.data))
        self.kept += [path for path in step.keep if path.exists()]

    def add(self, result: Result) -> None:
        """Stores a result, and prints its line."""
        seconds = "" if result.verdict == SKIP else f"{result.seconds:.1f} s"
        with self.lock:
            self.results.append(result)
            print(f"{result.verdict:<4}  {result.name:<44} {seconds:>7}  {result.text}", flush=True)

    def why_not(self, step: Step) -> Optional[Reading]:
        why = self.stopped or step.why_not()
        if not why and self.left() < step.expected:
            why = f"no time: {max(0.0, self.left()):.0f} s are left, the step needs about {step.expected:.0f} s"
        return Reading(clean(why), verdict=SKIP) if why else None

    def act(self, step: Step) -> Reading:
        limit = max(0.1, min(step.limit, self.step_limit, self.left()))
        watch = Watch(self.log(f"{step.name} watch")) if step.watch else None
        try:
            if step.call:
                reading = step.call(limit)
                reading.text = clean(reading.text)
            else:
                reading = self.command(step, limit)
        except Exception as error:  # A bug of gpu-check loses one line of the table, not the whole table.
            reading = failed(f"gpu-check itself: {type(error).__name__}: {error}")
        finally:
            seen = watch.stop() if watch else {}
        if seen:
            reading.data = {**reading.data, "seen": seen}
        return reading

    def command(self, step: Step, limit: float) -> Reading:
        """Runs a step's command, and once more if it fails and the step says so."""
        def run(limit: float) -> Reading:
            finished = process.run(step.command, limit, self.log(step.name), step.env, self.root)
            finished.cut = bool(self.stopped) or finished.ended_after is not None and limit < step.limit
            return judge(step, finished)

        reading = run(limit)
        again = min(step.again, self.step_limit, self.left())
        if reading.verdict != FAIL or again <= 0 or self.stopped or reading.data.get("final"):
            return reading
        second = run(again)
        second.text = clean(f"{second.text}; before: {reading.text}")
        return second

    def log(self, name: str) -> Path:
        """A file for a step's output; each step has another name."""
        plain = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")[:80]
        path = self.work / "logs" / f"{plain}.txt"
        for number in range(2, 1000):
            if not path.exists():
                break
            path = path.with_name(f"{plain}-{number}.txt")
        path.touch()
        return path

    def stop(self, why: str) -> None:
        """Ends the running processes, and skips the remaining steps."""
        self.stopped = self.stopped or why
        process.end_all()

    def close(self) -> None:
        if hasattr(self, "torch"):
            self.torch.stop()
