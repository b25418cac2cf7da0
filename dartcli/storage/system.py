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
    """Return the bytes that this process may still use, or 0 if unknown.

    The least of what the machine has available, of a control group's limit, and of ``ulimit -d``.
    """
    group, unlimited = "/sys/fs/cgroup/memory", 1 << 60
    current = _read_number(f"{group}/memory.usage_in_bytes", f"{group}.current")
    limits = [
        _read_number("/proc/meminfo", pattern=r"MemAvailable:\s+(\d+) kB") * 1024,
        _read_number(f"{group}/memory.limit_in_bytes", f"{group}.max") - current,
        _read_number("/proc/self/limits", pattern=r"Max data size +(\d+)")
        - _read_number("/proc/self/status", pattern=r"VmData:\s+(\d+) kB") * 1024,
    ]
    return min((limit for limit in limits if 0 < limit < unlimited), default=0)


def _read_number(*paths: str, pattern: str = r"(\d+)") -> int:
    """Return the number that ``pattern`` captures in the first file that has it, or 0."""
    for path in paths:
        try:
            match = re.search(pattern, Path(path).read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError):
            continue
        if match:
            return int(match[1])
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
