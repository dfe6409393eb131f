"""What a step is, and what becomes of it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

PASS, FAIL, SKIP = "pass", "FAIL", "skip"

# Characters of a message; the whole of it is in the step's log.
MESSAGE = 160


def clean(text: str) -> str:
    """The text on one line, without what moves a terminal's cursor, as long as a message may be."""
    text = re.sub(r"(\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x20\x7f])+", " ", text).strip()
    return text if len(text) <= MESSAGE else text[: MESSAGE - 1] + "…"


@dataclasses.dataclass
class Finished:
    """A command that has ended, or was ended."""

    code: Optional[int]
    """Its exit code, negative for a signal; None if it outlived even SIGKILL."""
    seconds: float
    out: str
    """The standard output, from its beginning."""
    last: str
    """The last line that is not blank, of the standard output if it has one."""
    complaint: str
    """The first line that reads like a failure."""
    ended_after: Optional[float] = None
    """The limit that it exceeded."""


@dataclasses.dataclass
class Reading:
    """What a step said."""

    text: str
    data: Dict[str, Any] = dataclasses.field(default_factory=dict)
    verdict: str = PASS


@dataclasses.dataclass
class Result:
    """A step that is over."""

    name: str
    verdict: str
    seconds: float
    text: str
    data: Dict[str, Any]


def last_line(finished: Finished) -> Reading:
    """The reading of a command that tells its result last."""
    return Reading(finished.last)


@dataclasses.dataclass
class Step:
    """One thing to do within a time limit."""

    name: str
    expected: float
    """Seconds that it should take: it is skipped where fewer are left."""
    limit: float
    """Seconds after which it is ended."""
    command: List[str] = dataclasses.field(default_factory=list)
    read: Callable[[Finished], Reading] = last_line
    env: Dict[str, str] = dataclasses.field(default_factory=dict)
    accepts: tuple = (0,)
    """Exit codes with which `read` is asked; any other is a failure."""
    call: Optional[Callable[[float], Reading]] = None
    """What is done in place of a command, within so many seconds."""
    watch: bool = False
    """Whether clocks and memory of the GPU are written down meanwhile."""
    skip: str = ""
    """Why it cannot be done."""
    keep: List[Path] = dataclasses.field(default_factory=list)
    """Files that it writes and that are worth keeping."""


def skipped(name: str, why: str) -> Step:
    """A step that cannot be done, so that the table says so."""
    return Step(name, 0, 0, skip=why)
