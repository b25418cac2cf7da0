"""Find and handle false-positive interactions while training recommenders.

The five steps are functions (:func:`download`, :func:`preprocess`, :func:`train`,
:func:`evaluate`, :func:`analyze`), and so are :func:`sweep`, :func:`predict`, :func:`recommend`,
and :func:`export`; :func:`strategy` puts a denoising strategy into any PyTorch loop. Names are
imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dartcli._version import __version__

if TYPE_CHECKING:
    from dartcli.data.prepare import download, preprocess
    from dartcli.denoising import TrainingTable
    from dartcli.denoising.denoiser import Denoiser, strategy
    from dartcli.errors import DartError
    from dartcli.experiments.evaluate import evaluate_run as evaluate
    from dartcli.experiments.sweep_plan import Plan
    from dartcli.experiments.sweep_runner import run_sweep as sweep
    from dartcli.experiments.train import train_run as train
    from dartcli.reporting.analyze import run_analysis as analyze
    from dartcli.reporting.build import write_report as report
    from dartcli.serving.export import export
    from dartcli.serving.predict import predict
    from dartcli.serving.recommend import recommend
    from dartcli.settings import Settings

_HOME = {
    "TrainingTable": "dartcli.denoising:TrainingTable",
    "DartError": "dartcli.errors:DartError",
    "Denoiser": "dartcli.denoising.denoiser:Denoiser",
    "Plan": "dartcli.experiments.sweep_plan:Plan",
    "Settings": "dartcli.settings:Settings",
    "analyze": "dartcli.reporting.analyze:run_analysis",
    "download": "dartcli.data.prepare:download",
    "evaluate": "dartcli.experiments.evaluate:evaluate_run",
    "export": "dartcli.serving.export:export",
    "predict": "dartcli.serving.predict:predict",
    "preprocess": "dartcli.data.prepare:preprocess",
    "recommend": "dartcli.serving.recommend:recommend",
    "report": "dartcli.reporting.build:write_report",
    "strategy": "dartcli.denoising.denoiser:strategy",
    "sweep": "dartcli.experiments.sweep_runner:run_sweep",
    "train": "dartcli.experiments.train:train_run",
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
    "export",
    "predict",
    "preprocess",
    "recommend",
    "report",
    "strategy",
    "sweep",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'dartcli' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
