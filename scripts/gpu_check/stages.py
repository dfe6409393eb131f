"""The stages: their steps, the order of the steps, and decisions between them. `deep.py` and `speed.py` hold two of them.

Each stage is a generator of steps, or of lists of steps that may run in parallel. The most important steps come first: when
the budget is used up, the others are skipped.
"""

from __future__ import annotations

import sys
from typing import Iterator, List

from . import driver, read
from .beside import beside_torch, torch_start
from .cases import CASES
from .commands import (EMULATED_FOLDERS, EMULATED_STEMS, HOST_ONLY, KERNELS, OF_VARIANTS, ROUNDS, SHORT, SM90, STEMS, doctor,
                       golden, newest, profile, sample, selftest, tries_hopper, verify)
from .deep import deep
from .session import Group, Session
from .speed import speed
from .steps import Step, skipped

# The budget of each stage in seconds.
BUDGETS = {"light": 240.0, "deep": 200.0, "speed": 300.0}


def opened(s: Session) -> Iterator[Group]:
    """Opens the GPU. If that fails, asks the driver for the reason, and stops the plan."""
    yield doctor(s)
    if s.ok("doctor"):
        return
    asked = [sys.executable, "-B", driver.__file__]
    yield Step("driver", 2, 20, asked)
    found = driver.images(s.osp) if s.ok("driver") else []
    result = s.result("doctor")
    if result and result.data.get("final"):
        yield skipped("images", f"the reason is known: {result.text}")
    elif found:
        yield Step("images", 5, 60, [*asked, *map(str, found)], read.images, accepts=(0, 1))
    else:
        yield skipped("images", f"there is no driver, or {s.osp.parent}/kernels holds no image of the program")
    s.stopped = "no GPU can be opened"


# Light: checks of all results, and the times of kernels.


def light(s: Session) -> Iterator[Group]:
    if "facts" in s.help("selftest"):
        yield selftest(s, "facts")
    else:
        yield skipped("selftest facts", "this osp has no such test")
    if s.help("selftest"):
        # PyTorch takes many seconds to start, most of them waiting for the disk.
        yield [*([] if s.emulated else [torch_start(s)]),
               *(selftest(s, stem, quick=s.emulated) for stem in (EMULATED_STEMS if s.emulated else STEMS))]
    else:
        yield skipped("selftest", "this osp has no such command")
    yield verifications(s)
    if s.emulated:
        yield profile(s, f"profile {SHORT} frames", SHORT)
        return
    yield sample(s, "sample", "sample.mp4")
    # There is time for one profile a round, and perhaps for one round: what runs by default comes first.
    rounds = [[variant] for variant in reversed(KERNELS)] if newest(s) else [[""]] * ROUNDS
    yield from beside_torch(s, [case for case in CASES if case.handful], SHORT, rounds)


def verifications(s: Session) -> List[Step]:
    if s.emulated:
        return [verify(s, folder, "f16") for folder in EMULATED_FOLDERS]
    folders = golden(s)
    of_gpu = [folder for folder in folders if folder not in HOST_ONLY]
    steps = [verify(s, folder, "f16") for folder in of_gpu] + [verify(s, folder, "bf16", *newest(s)) for folder in of_gpu]
    steps += [verify(s, folder, "f16") for folder in HOST_ONLY if folder in folders]
    if tries_hopper(s):
        steps += [verify(s, folder, "f16", *SM90) for folder in OF_VARIANTS if folder in folders]
    # Copies run beside kernels on a separate stream: their order matters only if launches do not block.
    return steps + [verify(s, "pipeline", "f16", "--least-memory", env={})]


STAGES = {"light": light, "deep": deep, "speed": speed}
