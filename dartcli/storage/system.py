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

    The least of what the machine has available, of a control group's limit, and of ``ulimit``.
    """
    found = [_read_number("/proc/meminfo", r"MemAvailable:\s+(\d+) kB") * 1024]
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        whole = _read_number(f"{folder}/{limit}", r"(\d+)")
        found.append(max(whole - _read_number(f"{folder}/{used}", r"(\d+)"), 1) if whole else 0)
    try:
        import resource

        page = os.sysconf("SC_PAGE_SIZE")
        for kind, pattern in (
            (resource.RLIMIT_AS, r"(\d+)"),
            (resource.RLIMIT_DATA, r"(?:\d+ ){5}(\d+)"),
        ):
            soft = resource.getrlimit(kind)[0]
            if soft != resource.RLIM_INFINITY:
                found.append(max(soft - page * _read_number("/proc/self/statm", pattern), 1))
    except (ImportError, AttributeError, ValueError, OSError):
        pass  # not on this system
    return min(filter(None, found), default=0)


def _read_number(path: str, pattern: str) -> int:
    """Return the number that ``pattern`` captures in a file, or 0."""
    try:
        match = re.search(pattern, Path(path).read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return 0
    return int(match[1]) if match else 0


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
