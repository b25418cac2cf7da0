"""Find and handle false-positive interactions while training recommenders.

The commands are functions: :func:`download`, :func:`preprocess` (:func:`preprocess_log` for your
own log), :func:`train`, :func:`resume`, :func:`evaluate`, :func:`analyze`, :func:`compare`,
:func:`sweep`, :func:`report`, :func:`predict`, :func:`recommend`, and :func:`export`.
:func:`find_run` opens a finished run, and :func:`strategy` puts a denoising strategy into any
PyTorch loop. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from dartcli._version import __version__

if TYPE_CHECKING:
    from dartcli.data.logs.schema import LogOptions
    from dartcli.data.prepare import download, preprocess, preprocess_log
    from dartcli.denoising import TrainingTable
    from dartcli.denoising.denoiser import Denoiser, strategy
    from dartcli.errors import DartError
    from dartcli.experiments.api import train
    from dartcli.experiments.evaluate import evaluate_run as evaluate
    from dartcli.experiments.run import Run
    from dartcli.experiments.run_index import find_run
    from dartcli.experiments.sweep_plan import Plan
    from dartcli.experiments.sweep_runner import run_sweep as sweep
    from dartcli.experiments.train import resume_run as resume
    from dartcli.reporting.analyze import compare_runs as compare
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
    "LogOptions": "dartcli.data.logs.schema:LogOptions",
    "Plan": "dartcli.experiments.sweep_plan:Plan",
    "Run": "dartcli.experiments.run:Run",
    "Settings": "dartcli.settings:Settings",
    "analyze": "dartcli.reporting.analyze:run_analysis",
    "compare": "dartcli.reporting.analyze:compare_runs",
    "download": "dartcli.data.prepare:download",
    "evaluate": "dartcli.experiments.evaluate:evaluate_run",
    "export": "dartcli.serving.export:export",
    "find_run": "dartcli.experiments.run_index:find_run",
    "predict": "dartcli.serving.predict:predict",
    "preprocess": "dartcli.data.prepare:preprocess",
    "preprocess_log": "dartcli.data.prepare:preprocess_log",
    "recommend": "dartcli.serving.recommend:recommend",
    "report": "dartcli.reporting.build:write_report",
    "resume": "dartcli.experiments.train:resume_run",
    "strategy": "dartcli.denoising.denoiser:strategy",
    "sweep": "dartcli.experiments.sweep_runner:run_sweep",
    "train": "dartcli.experiments.api:train",
}

__all__ = [
    "DartError",
    "Denoiser",
    "LogOptions",
    "Plan",
    "Run",
    "Settings",
    "TrainingTable",
    "__version__",
    "analyze",
    "compare",
    "download",
    "evaluate",
    "export",
    "find_run",
    "predict",
    "preprocess",
    "preprocess_log",
    "recommend",
    "report",
    "resume",
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
