"""Memory and cores of this machine, and the processes that ``torchrun`` started."""

from __future__ import annotations

import os


def total_memory() -> int:
    """Return the physical memory in bytes, or 0 if it is unknown."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
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
