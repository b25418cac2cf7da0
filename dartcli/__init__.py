"""Find and handle false-positive interactions while training recommenders.

The five steps are functions (:func:`download`, :func:`preprocess`, :func:`train`,
:func:`evaluate`, :func:`analyze`), and so is :func:`sweep`; :func:`strategy` puts a denoising
strategy into any PyTorch loop. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dartcli.version import __version__

if TYPE_CHECKING:
    from dartcli.denoising import TrainingTable
    from dartcli.errors import DartError
    from dartcli.library import Denoiser, strategy
    from dartcli.settings import Settings
    from dartcli.steps import analyze, download, evaluate, preprocess, train
    from dartcli.sweeping import Plan, sweep

_HOME = {
    "TrainingTable": "dartcli.denoising",
    "DartError": "dartcli.errors",
    "Denoiser": "dartcli.library",
    "Plan": "dartcli.sweeping",
    "Settings": "dartcli.settings",
    "analyze": "dartcli.steps",
    "download": "dartcli.steps",
    "evaluate": "dartcli.steps",
    "preprocess": "dartcli.steps",
    "strategy": "dartcli.library",
    "sweep": "dartcli.sweeping",
    "train": "dartcli.steps",
}

__all__ = [
    "DartError",
    "Denoiser",
    "Plan",
    "Settings",
    "TrainingTable",
    "__version__",
    "analyze",
    "download",
    "evaluate",
    "preprocess",
    "strategy",
    "sweep",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'dartcli' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
