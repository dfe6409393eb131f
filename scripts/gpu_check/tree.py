"""Whether the tree beside a pack is the one that it was made from: the program would be compared with other golden data, and
faults would be looked for in other sources. A machine with a GPU often has no git, so the pack lists the files."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import List

# What the program is made from and compared with.
COMPARED = ("src", "kernels", "tests/golden", "assets")
# The list's name in a pack.
LIST = "TREE"


def files(root: Path, *chosen: str) -> List[str]:
    """Paths of the files that git chooses, as they are in the working tree."""
    said = subprocess.run(["git", "ls-files", "-z", *chosen], cwd=root, stdout=subprocess.PIPE, check=True).stdout
    return sorted(path for path in set(said.decode().split("\0")) if path and (root / path).is_file())


def line(root: Path, path: str) -> str:
    """A file's hash and path. Half a hash is enough: nobody attacks it."""
    return f"{hashlib.sha256((root / path).read_bytes()).hexdigest()[:32]}  {path}"


def listing(root: Path) -> str:
    """The list of a pack: every tracked file that counts, with its hash."""
    return "".join(line(root, path) + "\n" for path in files(root, "--", *COMPARED))


def size(root: Path) -> int:
    """Bytes of the files that travel to such a machine: all that git does not ignore."""
    return sum((root / path).stat().st_size for path in files(root, "--cached", "--others", "--exclude-standard"))


def digest(program: Path) -> str:
    """A hash of the program, which the results of a run belong to."""
    return hashlib.sha256(program.read_bytes()).hexdigest()


def difference(root: Path, folder: Path) -> str:
    """In which files the tree differs from the list in a pack's folder; empty if in none, or if there is no list."""
    try:
        wanted = (folder / LIST).read_text().splitlines()
    except OSError:
        return ""
    paths = [entry.split("  ", 1)[1] for entry in wanted]
    others = [path for path, entry in zip(paths, wanted) if not (root / path).is_file() or line(root, path) != entry]
    if not others:
        return ""
    shown = ", ".join(others[:3]) + (" …" if others[3:] else "")
    return f"the tree is not the program's: {len(others)} of {len(paths)} files differ: {shown}"
