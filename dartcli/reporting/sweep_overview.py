"""Describe sweeps for a page: methods, tuning, and environment."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from dartcli.experiments.sweep import Sweep, Tuned
from dartcli.reporting.analysis import AnalysisResult
from dartcli.reporting.overview import describe_protocols
from dartcli.reporting.page import PageContent
from dartcli.reporting.phrases import join_words, list_options
from dartcli.reporting.table import Table
from dartcli.settings import seeds_text

MAX_SENTENCES: Final = 9
"""Sentences of the comparison in the summary."""


def describe_sweeps(sweeps: Sequence[Sweep], comparison: AnalysisResult) -> PageContent:
    """Return the content of a page about ``sweeps``, besides the analyses.

    The first table and sentences of ``comparison``, a result of the analysis ``compare``, lead it.
    """
    entries = [entry for sweep in sweeps for entry in sweep.document.entries]
    rows = [row for sweep in sweeps for _, row in sweep.finished()]
    tuned = [one for sweep in sweeps for one in sweep.document.tuned]
    protocols = [sweep.document.protocol for sweep in sweeps]
    methods = {
        entry.arm: (entry.arm, entry.strategy, list_options(entry.options) or None)
        for entry in entries
    }
    return PageContent(
        title=f"Strategies on {join_words(entry.dataset for entry in entries)}",
        subtitle=(
            join_words(sweep.name for sweep in sweeps),
            f"protocol {join_words(protocols)}",
            f"model {join_words(entry.model for entry in entries)}",
            f"seeds {seeds_text(tuple(sorted({entry.seed for entry in entries})))}",
            f"{len(rows):,} trainings",
        ),
        summary=comparison.sentences[:MAX_SENTENCES],
        metrics=comparison.tables[0],
        setup=(
            Table("Methods", ("method", "strategy", "options"), tuple(methods.values())),
            *([_weight_decays(tuned)] if tuned else []),
        ),
        facts={
            "dartcli": join_words(row.program for row in rows),
            "Device": join_words(row.device for row in rows),
            **describe_protocols(protocols),
        },
        commands=(shlex.join(["dart", "report", *(sweep.name for sweep in sweeps)]),),
    )


def _weight_decays(tuned: Sequence[Tuned]) -> Table:
    return Table(
        title="Weight decay, selected for base on validation and used for every method",
        columns=("dataset", "model", "weight decay", "mean validation AUC of each candidate"),
        rows=tuple(
            (
                one.dataset,
                one.model,
                f"{one.weight_decay:g}",
                ", ".join(f"{key}: {value:.4f}" for key, value in one.valid_auc.items()),
            )
            for one in tuned
        ),
    )
