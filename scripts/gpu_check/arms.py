"""The other side of the comparison, PyTorch and cuBLASLt: a worker times one arm of one case for each request. It is a process,
which is ended if it hangs."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Optional

from . import process
from .cases import Case
from .read import failed
from .steps import SKIP, Reading

WORKER = Path(__file__).with_name("torch_worker.py")
# The most failed starts in a row.
STARTS = 2


class Torch:
    """The worker. Whoever sends requests starts it first, and again after it was ended."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.worker: Optional[subprocess.Popen] = None
        self.answers: "queue.Queue[Optional[Dict[str, Any]]]" = queue.Queue()
        self.about: Dict[str, Any] = {}
        self.failures = 0
        """Failed starts since the last successful one."""

    @property
    def ready(self) -> bool:
        return self.worker is not None

    @property
    def wanted(self) -> bool:
        """Whether another start may help."""
        return not self.ready and self.failures < STARTS

    def start(self, limit: float) -> Reading:
        """Starts the worker; returns PyTorch's versions. A missing PyTorch is not a failure."""
        with self.log.open("ab") as log:
            self.worker = subprocess.Popen([sys.executable, "-B", str(WORKER)], stdin=subprocess.PIPE,
                                           stdout=subprocess.PIPE, stderr=log, start_new_session=True, env=dict(os.environ))
        process.LIVE.add(self.worker)
        # A new queue: late answers of an ended worker must not reach the next one.
        self.answers = queue.Queue()
        threading.Thread(target=listen, args=(self.worker.stdout, self.answers), daemon=True).start()
        heard = self.hear(limit)
        if "error" in heard:
            # An error that PyTorch itself reports would only repeat.
            self.failures = self.failures + 1 if heard.get("ended") else STARTS
            self.stop()
            return Reading(heard["error"], verdict=SKIP)
        self.about, self.failures = heard, 0
        return Reading("; ".join([f"torch {self.about['torch']}, CUDA {self.about['cuda']}, cuDNN {self.about['cudnn']}",
                                  *self.about["warnings"]]), self.about)

    def time(self, case: Case, arm: str, limit: float) -> Reading:
        """Times one arm of a case, in milliseconds."""
        if not self.worker:
            return Reading("no time to start a worker", verdict=SKIP)
        request = {"kind": case.kind, "shape": case.shape, "arm": arm}
        try:
            self.worker.stdin.write(json.dumps(request).encode() + b"\n")
            self.worker.stdin.flush()
        except OSError as error:
            self.stop()
            return failed(f"the worker has ended: {error}")
        answer = self.hear(limit)
        if answer.get("ended"):
            self.stop()
            return failed(answer["error"])
        if "error" in answer:
            # Neither side supports every shape in every arm, and cuBLASLt may be missing: not a failure of ours.
            return Reading(answer["error"], verdict=SKIP)
        rate = f"{case.rate(answer['ms']):.4g} {case.unit}"
        return Reading(f"{answer['ms']:.4g} ms ({answer['low']:.4g} to {answer['high']:.4g}), {rate}", answer)

    def hear(self, limit: float) -> Dict[str, Any]:
        try:
            answer = self.answers.get(timeout=limit)
        except queue.Empty:
            return {"error": f"no answer after {limit:.4g} s", "ended": True}
        return answer or {"error": "the worker died", "ended": True}

    def stop(self) -> None:
        if self.worker:
            process.end(self.worker)
            process.LIVE.discard(self.worker)
            self.worker = None


def listen(pipe: Any, answers: "queue.Queue[Optional[Dict[str, Any]]]") -> None:
    """Puts each answer into the queue, and None at the end."""
    for line in pipe:
        try:
            answers.put(json.loads(line))
        except ValueError:
            continue
    answers.put(None)
