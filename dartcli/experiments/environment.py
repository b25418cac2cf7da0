"""Versions and machine, for the record of a run."""

from __future__ import annotations

import platform
import sys
from typing import TYPE_CHECKING, Any

from dartcli._version import __version__
from dartcli.storage.system import count_processes

if TYPE_CHECKING:
    import torch


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Return versions, platform, device, processes, and command."""
    import numpy as np
    import polars as pl
    import torch

    from dartcli.training.device import describe

    return {
        "dartcli": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "polars": pl.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": describe(device or torch.device("cpu")),
        "processes": count_processes(),
        "command": sys.argv,
    }
