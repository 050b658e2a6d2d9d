"""Memory of the process: how much it took, and how it is held on to."""

import ctypes
import re
import resource
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def peak_mib() -> float:
    """Largest memory of this process so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: getrusage would count what the process was forked from, too
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def keep_freed_memory() -> bool:
    """Let the process keep the memory that its tensors free, instead of handing it back to the system; True if it
    worked (Linux with glibc), else False and nothing changed.

    By default every tensor above some 32 MiB is mapped anew and its pages are cleared at first touch, which can take a
    third of a training step with several heatmaps. This holds for the whole process, until it ends: call it at the
    start of a training script.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc: macOS, Windows, musl
        return False
    return mallopt(M_MMAP_MAX, 0) == 1 and mallopt(M_TRIM_THRESHOLD, -1) == 1  # -1: never trim
