"""Steps and their results."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Union

PASS, FAIL, SKIP = "pass", "FAIL", "skip"

# The most characters of a message; the step's log has the whole message.
MESSAGE = 160


def clean(text: str) -> str:
    """The text on one line, without control characters, cut to the length of a message."""
    text = re.sub(r"(\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x20\x7f])+", " ", text).strip()
    return text if len(text) <= MESSAGE else text[: MESSAGE - 1] + "…"


@dataclasses.dataclass
class Finished:
    """A command that has ended or was ended."""

    code: Optional[int]
    """The exit code, negative for a signal; None if the process survived SIGKILL."""
    seconds: float
    out: str
    """The standard output, from its beginning."""
    last: str
    """The last line that is not blank, of standard output, else of standard error."""
    complaint: str
    """The first line that looks like an error."""
    ended_after: Optional[float] = None
    """The time limit that it exceeded."""
    cut: bool = False
    """Whether the budget or the user has ended it before its step's time was up."""


@dataclasses.dataclass
class Reading:
    """The result of a step's output."""

    text: str
    data: Dict[str, Any] = dataclasses.field(default_factory=dict)
    verdict: str = PASS


@dataclasses.dataclass
class Result:
    """A finished step."""

    name: str
    verdict: str
    seconds: float
    text: str
    data: Dict[str, Any]


def last_line(finished: Finished) -> Reading:
    """The reading of a command that prints its result last."""
    return Reading(finished.last)


@dataclasses.dataclass
class Step:
    """One thing to do within a time limit."""

    name: str
    expected: float
    """Expected seconds: the step is skipped if fewer are left."""
    limit: float
    """Seconds after which the step is ended."""
    command: List[str] = dataclasses.field(default_factory=list)
    read: Callable[[Finished], Reading] = last_line
    env: Dict[str, str] = dataclasses.field(default_factory=dict)
    again: float = 0.0
    """Seconds for a second try after a failure; 0 if there is none."""
    accepts: tuple = (0,)
    """Exit codes for which `read` parses the output; every other code is a failure."""
    after_failure: Optional[Callable[[Finished, Reading], Reading]] = None
    """Parses the output of a command that failed or was ended: it may say more than that."""
    call: Optional[Callable[[float], Reading]] = None
    """A function that runs instead of a command, with a limit in seconds."""
    watch: bool = False
    """Whether clocks and memory of the GPU are sampled during the step."""
    skip: Union[str, Callable[[], str]] = ""
    """Why the step cannot run; empty if it can. A function decides when the step's turn comes: steps in parallel with it may
    have ended by then."""
    kernels: str = ""
    """The variant of the program's own kernels that the command asks for."""
    keep: List[Path] = dataclasses.field(default_factory=list)
    """Files that the step writes and that are kept."""

    def why_not(self) -> str:
        """Why it cannot run now; empty if it can."""
        return self.skip() if callable(self.skip) else self.skip


def skipped(name: str, why: str) -> Step:
    """A step that cannot run, so that the table shows the reason."""
    return Step(name, 0, 0, skip=why)
