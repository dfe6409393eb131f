"""Describes the machine. Clocks and limits of the GPU are only read, never changed."""

from __future__ import annotations

import datetime
import os
import platform
import re
import shutil
import statistics
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional

from . import process

SMI = ("nvidia-smi", "usr/local/nvidia/bin/nvidia-smi")
# The time limit of a call of nvidia-smi, in seconds.
ASKED = 15.0
WATCHED = "clocks.sm,clocks.mem,power.draw,temperature.gpu,memory.used"
# Milliseconds between two samples.
INTERVAL = 200


def tool(name: str, *patterns: str) -> Optional[str]:
    """A tool's path: from the PATH, CUDA's usual folders, or patterns below the root."""
    found = shutil.which(name)
    if found:
        return found
    for pattern in (f"usr/local/cuda*/bin/{name}", *patterns):
        paths = sorted(Path("/").glob(pattern))
        if paths:
            return str(paths[-1])
    return None


def facts(root: Path, folder: Path, log: Path) -> Dict[str, str]:
    """The lines of the section MACHINE. `folder` is the program's."""
    smi, text = tool(*SMI), ""
    if smi:
        text = process.run([smi, "-q"], ASKED, log).out
    rows = smi_rows(text)
    row = lambda *ends: next((value for end in ends for key, value in rows if key.endswith(end)), "unknown")
    found = {}
    if rows:
        found = {
            "GPU": f"{row('/Product Name')}, {row('FB Memory Usage/Total')}",
            "driver": f"{row('Driver Version')} (CUDA {row('CUDA Version')})",
            "clocks": f"SM {row('/Clocks/SM')} as found, at most {row('/Max Clocks/SM')}; "
                      f"memory {row('/Clocks/Memory')}, at most {row('/Max Clocks/Memory')}",
            "power": f"limit {row('/Current Power Limit', '/Power Limit')}, "
                     f"drawing {row('/Average Power Draw', '/Instantaneous Power Draw', '/Power Draw')} as found",
            "temperature": row("/GPU Current Temp"),
            "compute mode": row("/Compute Mode"),
        }
    found["CPU"] = f"{cpu()}, {os.cpu_count()} threads, {platform.system()} {platform.release()}"
    found["memory"] = memory()
    found["date"] = datetime.datetime.now(datetime.timezone.utc).strftime("%d %B %Y, %H:%M UTC")
    found["program"] = commit(root, folder)
    return found


def smi_rows(text: str) -> List[Any]:
    """The output of `nvidia-smi -q` as pairs of path and value; the indentation gives the path."""
    rows, path = [], []
    for line in text.splitlines():
        match = re.match(r"( *)([^:]+?)\s*(?::\s(.*))?$", line)
        if not match or not line.strip():
            continue
        depth = len(match.group(1))
        path = [entry for entry in path if entry[0] < depth] + [(depth, match.group(2))]
        if match.group(3):
            rows.append(("/" + "/".join(name for _, name in path), match.group(3).strip()))
    return rows


def cpu() -> str:
    try:
        names = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def memory() -> str:
    """The host's memory: its caches hold weights, and tests beside each other need much of it."""
    try:
        kib = dict(re.findall(r"^(MemTotal|MemAvailable): +([0-9]+) kB$", Path("/proc/meminfo").read_text(), re.M))
    except OSError:
        kib = {}
    gib = lambda name: f"{int(kib[name]) / 2**20:.1f}" if name in kib else "unknown"
    return f"{gib('MemTotal')} GiB, {gib('MemAvailable')} GiB available"


def alone(found: Dict[str, str]) -> str:
    """Why only one process may use the GPU at a time; empty if several may."""
    mode = found.get("compute mode", "unknown")
    # An unknown mode is nearly always the default one.
    return "" if mode in ("Default", "unknown") else f"the GPU's compute mode is {mode}, so one process at a time may use it"


def commit(root: Path, folder: Path) -> str:
    """The program's commit: from scripts/gpu-pack, else the commit of the tree, if it is a git repository."""
    try:
        return (folder / "COMMIT").read_text().splitlines()[0]
    except (OSError, IndexError):
        pass
    git = process.run(["git", "-C", str(root), "log", "-1", "--format=%h of %cs"], 5)
    return f"not packed; the tree is at {git.out.strip()}" if git.code == 0 else "of an unknown commit"


class Watch:
    """Samples clocks, memory and power of the GPU while a step runs."""

    def __init__(self, log: Path) -> None:
        self.log, smi = log, tool(*SMI)
        self.process = None
        if smi:
            command = [smi, f"--query-gpu={WATCHED}", "--format=csv,noheader,nounits", "-lms", str(INTERVAL)]
            with log.open("wb") as out:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.DEVNULL,
                                                start_new_session=True)
            process.LIVE.add(self.process)

    def stop(self) -> Dict[str, float]:
        """The median clock of the samples with the highest power draw, and the peaks of power and memory."""
        if not self.process:
            return {}
        process.end(self.process)
        process.LIVE.discard(self.process)
        return seen(self.log.read_text(errors="replace"))


def cell(text: str) -> Optional[float]:
    """A cell of nvidia-smi: some cards do not know some of them."""
    try:
        return float(text)
    except ValueError:
        return None


def seen(samples: str) -> Dict[str, float]:
    """What the samples of nvidia-smi say, as far as its cells are numbers."""
    looks = [[cell(text) for text in line.split(",")] for line in samples.splitlines()]
    looks = [look for look in looks if len(look) == WATCHED.count(",") + 1]
    powered = sorted((look for look in looks if look[2] is not None), key=lambda look: look[2])
    busiest = powered[len(powered) * 3 // 4:] or looks
    columns = {"sm_mhz": (busiest, 0, statistics.median), "watts": (looks, 2, max), "peak_mib": (looks, 4, max)}
    found = {}
    for name, (rows, column, of) in columns.items():
        values = [row[column] for row in rows if row[column] is not None]
        if values:
            found[name] = of(values)
    return found
