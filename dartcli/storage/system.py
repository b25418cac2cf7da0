"""Memory and cores of this machine, and the processes that ``torchrun`` started."""

from __future__ import annotations

import os
import re
from pathlib import Path


def total_memory() -> int:
    """Return the physical memory in bytes, or 0 if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def available_memory() -> int:
    """Return the bytes left of memory, of a control group, or of ``ulimit -d``; 0 if unknown."""
    group = "/sys/fs/cgroup/memory"
    machine = _read_number(r"MemAvailable:\s+(\d+) kB", "/proc/meminfo") * 1024
    used = _read_number(r"(\d+)", f"{group}/memory.usage_in_bytes", f"{group}.current")
    limit = _read_number(r"(\d+)", f"{group}/memory.limit_in_bytes", f"{group}.max")
    held = _read_number(r"VmData:\s+(\d+) kB", "/proc/self/status") * 1024
    data = _read_number(r"Max data size +(\d+)", "/proc/self/limits")
    found = [machine, max(limit - used, 0), max(data - held, 0)]
    return min(filter(None, found), default=0)


def _read_number(pattern: str, *paths: str) -> int:
    """Return the number that ``pattern`` captures in the first file that exists, or 0."""
    for path in filter(Path.is_file, map(Path, paths)):
        match = re.search(pattern, path.read_text(encoding="ascii", errors="replace"))
        return int(match[1]) if match else 0
    return 0


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_processes() -> int:
    """Return how many processes ``torchrun`` started on all machines; 1 without it."""
    is_launched = "RANK" in os.environ and "MASTER_ADDR" in os.environ
    return int(os.environ.get("WORLD_SIZE", "1")) if is_launched else 1


def find_rank() -> int:
    """Return the number of this process among them, from 0."""
    return int(os.environ["RANK"]) if count_processes() > 1 else 0
