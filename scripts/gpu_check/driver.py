"""Loads each image of kernels with the driver, for a program that cannot open the GPU and so cannot find the reason.

usage: driver.py [IMAGE…]    without an image it only opens the GPU
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import List

# Files of kernels for one architecture only. Another GPU has no code in them, and the program does not load them there.
LIST = Path(__file__).resolve().parents[2] / "kernels" / "stems.txt"
SPECIAL = {line.split()[0] for line in LIST.read_text().splitlines() if " for " in line and not line.startswith("#")}
NO_CODE = "CUDA_ERROR_NO_BINARY_FOR_GPU"
# Values of CUjit_option: buffers for the messages of compiler and loader, and their sizes in bytes.
INFO_LOG, INFO_SIZE, ERROR_LOG, ERROR_SIZE, LOG_VERBOSE = 3, 4, 5, 6, 12
LOG_BYTES = 1 << 16


class Refused(Exception):
    """A failed call, with the driver's message."""


class Driver:
    """The driver's library, with the first GPU open."""

    def __init__(self) -> None:
        try:
            self.library = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise Refused(str(error))
        self.call("cuInit", 0)
        version, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
        self.call("cuDriverGetVersion", ctypes.byref(version))
        self.version = f"CUDA {version.value // 1000}.{version.value % 1000 // 10}"
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        name = ctypes.create_string_buffer(256)
        self.call("cuDeviceGetName", name, len(name), device)
        self.name = name.value.decode(errors="replace")
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)

    def call(self, function: str, *arguments) -> None:
        code = getattr(self.library, function)(*arguments)
        if code:
            raise Refused(f"{function}: {self.name_of(code)}")

    def name_of(self, code: int) -> str:
        parts = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            if getattr(self.library, function)(code, ctypes.byref(text)) == 0 and text.value:
                parts.append(text.value.decode(errors="replace"))
        return ", ".join(parts) or f"error {code}"

    def load(self, image: bytes) -> str:
        """Loads an image as the program does, and returns the log."""
        logs = [ctypes.create_string_buffer(LOG_BYTES) for _ in range(2)]
        options = (ctypes.c_int * 5)(INFO_LOG, INFO_SIZE, ERROR_LOG, ERROR_SIZE, LOG_VERBOSE)
        values = (ctypes.c_void_p * 5)(ctypes.addressof(logs[0]), LOG_BYTES, ctypes.addressof(logs[1]), LOG_BYTES, 1)
        module = ctypes.c_void_p()
        said = lambda: " ".join(log.value.decode(errors="replace").strip() for log in logs).strip()
        try:
            self.call("cuModuleLoadDataEx", ctypes.byref(module), image, len(options), options, values)
        except Refused as refused:
            raise Refused(f"{refused}; {said()}" if said() else str(refused))
        return said()


def images(osp: Path) -> List[Path]:
    """The files in `kernels` beside the program whose bytes the program contains, one for each file of kernels. (An edit that
    changes no code makes a file with the same bytes under another name.)"""
    program = osp.read_bytes()
    held = [path for path in sorted((osp.parent / "kernels").glob("*.fatbin")) if path.read_bytes() in program]
    return list({path.stem.rsplit("-", 1)[0]: path for path in held}.values())


def tried(driver: Driver, path: Path) -> int:
    """Loads an image, and prints its line; returns 1 if the driver refuses it."""
    stem, image = path.stem.rsplit("-", 1)[0], path.read_bytes()
    # If the driver crashes, the last line has this name.
    print(f"image {stem}: ", end="", flush=True)
    try:
        print(f"pass {len(image)} bytes load {one_line(driver.load(image))}".rstrip(), flush=True)
    except Refused as refused:
        if NO_CODE not in str(refused) or stem not in SPECIAL:
            print(f"FAIL {one_line(str(refused))}", flush=True)
            return 1
        print(f"pass {len(image)} bytes without code for this GPU, as kernels/stems.txt says", flush=True)
    return 0


def one_line(text: str) -> str:
    return " ".join(text.split())


def main() -> int:
    names = sys.argv[1:]
    try:
        driver = Driver()
        if not names:
            print(f"pass {driver.name}, {driver.version}")
            return 0
        return max([tried(driver, Path(name)) for name in names])
    except (Refused, AttributeError, OSError) as error:
        print(f"FAIL {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
