"""Runs one command with a time limit and a limit on its output, and ends its whole process group."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Dict, List, Optional, Set

from .steps import Finished

# Seconds between SIGTERM and SIGKILL, as for `timeout -k 2`; then seconds until the process has ended and its pipes are
# closed.
GRACE, DEATH, DRAIN = 2.0, 5.0, 2.0
# Bytes of an output that are kept to parse; and bytes of its beginning and its end for the log.
READ, LOGGED = 8 << 20, 128 << 10
# The start of an error line; a panic's message is on the next line.
COMPLAINT = re.compile(rb"\s*(FAIL\b|error:|osp: error:|Error:|thread '[^']*'.* panicked)")

LIVE: Set[subprocess.Popen] = set()


class Stream(threading.Thread):
    """Empties a pipe, so that its writer never waits, and keeps the important part of the output."""

    def __init__(self, pipe) -> None:
        super().__init__(daemon=True)
        self.pipe = pipe
        self.head, self.tail, self.count = bytearray(), bytearray(), 0
        self.line, self.last, self.complaint, self.panicked = b"", b"", b"", False
        self.start()

    def run(self) -> None:
        while True:
            try:
                chunk = os.read(self.pipe.fileno(), 1 << 16)
            except (OSError, ValueError):
                break
            if not chunk:
                break
            self.keep(chunk)
            *lines, self.line = (self.line + chunk).split(b"\n")
            for line in lines:
                self.see(line)
            # A very long line is cut.
            self.line = self.line[: 1 << 16]
        self.see(self.line)

    def keep(self, chunk: bytes) -> None:
        self.count += len(chunk)
        self.head += chunk[: max(0, READ - len(self.head))]
        self.tail = (self.tail + chunk)[-LOGGED:]

    def see(self, line: bytes) -> None:
        if not line.strip():
            return
        self.last = line
        if self.panicked:
            self.complaint, self.panicked = self.complaint + b" " + line, False
        elif not self.complaint and COMPLAINT.match(line):
            self.complaint, self.panicked = line, b" panicked" in line

    def log(self) -> bytes:
        if self.count <= 2 * LOGGED:
            return bytes(self.head[: self.count])
        left_out = self.count - 2 * LOGGED
        return bytes(self.head[:LOGGED]) + b"\n[%d bytes omitted]\n" % left_out + bytes(self.tail)


def text(data: bytes) -> str:
    return bytes(data).decode(errors="replace")


def end(process: subprocess.Popen) -> None:
    """Sends SIGTERM, and two seconds later SIGKILL, to the process and all its children."""
    for number, wait in ((signal.SIGTERM, GRACE), (signal.SIGKILL, DEATH)):
        signal_group(process, number)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            continue
    signal_group(process, signal.SIGKILL)


def signal_group(process: subprocess.Popen, number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_all() -> None:
    """Ends all running processes, because this program must stop."""
    for process in list(LIVE):
        signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while any(process.poll() is None for process in list(LIVE)) and time.monotonic() < deadline:
        time.sleep(0.02)
    for process in list(LIVE):
        signal_group(process, signal.SIGKILL)


def run(command: List[str], limit: float, log: Optional[Path] = None, env: Optional[Dict[str, str]] = None,
        cwd: Optional[Path] = None) -> Finished:
    """Runs a command for at most `limit` seconds. Its output goes to `log`."""
    start = time.monotonic()
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True)
    except OSError as error:
        return Finished(127, 0.0, "", "", f"{command[0]}: {error.strerror}")
    LIVE.add(process)
    out, err = Stream(process.stdout), Stream(process.stderr)
    ended_after = None
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        ended_after = limit
    seconds = time.monotonic() - start
    if ended_after is not None:
        end(process)
    else:
        # Ends children that are still running.
        signal_group(process, signal.SIGKILL)
    for stream in (out, err):
        stream.join(DRAIN)
    LIVE.discard(process)
    if log:
        log.write_bytes(b"$ " + " ".join(command).encode() + b"\n" + out.log() + b"\n--- stderr\n" + err.log() +
                        b"\n--- exit code %s after %.1f s\n" % (str(process.returncode).encode(), seconds))
    complaint = out.complaint or err.complaint
    return Finished(process.returncode, seconds, text(out.head), text(out.last or err.last), text(complaint), ended_after)
