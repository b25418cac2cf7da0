"""Compare runs and sweeps, paired by seed within each dataset and model."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from dartcli import catalog
from dartcli.errors import RunError
from dartcli.experiments.configure import granted_labels, label_arm
from dartcli.experiments.run import MODEL, Run
from dartcli.experiments.run_index import find_run
from dartcli.experiments.sweep import Sweep, Tuned, check_same_data, find_sweep, is_sweep
from dartcli.experiments.verdict import Outcome, correct_p_values, decide_outcome
from dartcli.metrics.statistics import PairedDifference, compare_paired
from dartcli.training.results import SeedMetrics

LOWER_IS_BETTER: Final = frozenset({"test_log_loss", "test_calibration_error", "valid_log_loss"})
"""Metrics for which lower is better."""

PREDICTIONS: Final = ("test_auc", "test_log_loss", "valid_log_loss", "test_calibration_error")
"""Metrics that models with equal weights share, and different ones hardly ever do."""

Where = tuple[str, str]
"""A cell of the table: dataset and model."""


@dataclass(frozen=True)
class Contender:
    """One strategy with its options, under a label."""

    label: str
    """Label in tables."""
    strategy: str
    """Name of the strategy."""
    options: dict[str, Any] = field(hash=False)
    """All its options."""
    trusted: dict[str, int | str] = field(default_factory=dict, hash=False)
    """Trusted labels that it learns from, by setting; empty without any."""


@dataclass(frozen=True)
class Difference:
    """A contender against ``base`` on one dataset and model."""

    where: Where
    contender: Contender
    paired: PairedDifference
    """Contender minus base, seed by seed."""
    p_holm: float | None
    """p of the paired t-test after Holm's correction over the table; None for too few seeds."""
    gap_closed: float | None
    """Share of the gap between ``base`` and ``clean`` that is closed, over the seeds that all three
    share; None if there is no gap."""

    outcome: Outcome
    """The verdict."""

    @property
    def is_significant(self) -> bool:
        """Whether the difference is significant at 5% after correction."""
        return self.outcome in ("helps", "harms")


class Comparison:
    """Trainings of several contenders over datasets, models and seeds.

    Parameters
    ----------
    subjects
        Runs, sweeps, or both.
    metric
        Metric to compare, one of ``dartcli.training.results.METRIC_NAMES``. None = ``test_auc``, or
        ``test_auc_labeled`` if ground truth is known for some interactions only.

    Raises
    ------
    RunError
        If they use several protocols, saw different data, or contradict each other.
    """

    def __init__(self, subjects: Sequence[Run | Sweep], metric: str | None = None) -> None:
        self.contenders: dict[str, Contender] = {}
        self.cells: list[Where] = []
        self.metrics: dict[tuple[Where, str], dict[int, SeedMetrics]] = {}
        self.weights: dict[tuple[Where, str, int], str] = {}
        self.runs: list[Run] = []
        self.tuned: list[Tuned] = []
        self.missing = 0
        protocols = {get_protocol(one) for one in subjects}
        if len(protocols) > 1:
            raise RunError(
                f"cannot compare results of the protocols {' and '.join(sorted(protocols))}. "
                "Compare runs of one protocol."
            )
        self.protocol = next(iter(protocols), "")
        for one in subjects:
            if isinstance(one, Sweep):
                self._add_sweep(one)
            else:
                self._add_run(one)
        self.metric = metric or self._choose_metric()
        # with one partly labeled dataset of several, say, the default is not the labeled AUC
        self.lacks_labeled = not metric and self.metric == "test_auc" and bool(self.partly_labeled)
        self.better_sign = -1 if self.metric in LOWER_IS_BETTER else 1

    def _choose_metric(self) -> str:
        """Return ``test_auc``, unless it would count unknown false positives as wanted."""
        every = [seed for seeds in self.metrics.values() for seed in seeds.values()]
        labeled = every and all(seed.test_auc_labeled is not None for seed in every)
        return "test_auc_labeled" if labeled else "test_auc"

    @cached_property
    def partly_labeled(self) -> list[str]:
        """Datasets whose ground truth is known for some test interactions only, each once."""
        found = (
            where[0]
            for (where, _), seeds in self.metrics.items()
            if any(seed.test_auc_labeled is not None for seed in seeds.values())
        )
        return list(dict.fromkeys(found))

    def _add_sweep(self, sweep: Sweep) -> None:
        finished = sweep.finished()
        if not finished:
            raise RunError(
                f"sweep {sweep.name} has no finished training. Run its `dart sweep` again."
            )
        check_same_data(sweep, (row for _, row in finished))
        self.tuned += sweep.document.tuned
        self.missing += len(sweep.document.entries) - len(finished)
        for entry, row in finished:
            labels = granted_labels(row.settings)
            contender = Contender(entry.arm, entry.strategy, entry.options, labels)
            self._add((entry.dataset, entry.model), contender, entry.seed, row.metrics)

    def _add_run(self, run: Run) -> None:
        self.runs.append(run)
        settings, trusted = run.settings, granted_labels(run.settings)
        where = (settings.dataset.name, settings.model.name)
        strategy, label = settings.strategy, label_arm(settings)
        contender = Contender(label, strategy.name, strategy.options, trusted)
        for seed in run.metrics.seeds:
            self._add(where, contender, seed.seed, seed)
            self.weights[where, label, seed.seed] = run.seed_files(seed.seed)[MODEL]

    def _add(self, where: Where, contender: Contender, seed: int, metrics: SeedMetrics) -> None:
        if where not in self.cells:
            self.cells.append(where)
        self.contenders.setdefault(contender.label, contender)
        seeds = self.metrics.setdefault((where, contender.label), {})
        if seeds.setdefault(seed, metrics) != metrics:
            raise RunError(
                f"{contender.label} was trained twice on {where[0]} with {where[1]} and seed "
                f"{seed}, with different results. Compare only one of them."
            )

    @property
    def has_base(self) -> bool:
        """Whether ``base`` is among the contenders."""
        return any(one.strategy == "base" for one in self.contenders.values())

    @cached_property
    def base(self) -> Contender:
        """The contender that all others are compared with: plain ``base`` if it is among them.

        Raises
        ------
        RunError
            If ``base`` is not among them.
        """
        found = self._find_plain("base")
        if found is None:
            raise RunError(
                "no `base` result to compare with. Train it with `dart train --strategy base` or "
                "`dart sweep --strategies base,...`."
            )
        return found

    def _find_plain(self, strategy: str) -> Contender | None:
        """Return the contender of ``strategy`` without options or labels, else the first of it."""
        found = (one for one in self.contenders.values() if one.strategy == strategy)
        return min(found, key=lambda one: one.label != strategy, default=None)

    @cached_property
    def references(self) -> set[str]:
        """Labels of the contenders that use the ground truth: references, not competitors."""
        return {
            label
            for label, contender in self.contenders.items()
            if catalog.load("strategies", contender.strategy).reads_noisy
        }

    def values(self, where: Where, label: str, metric: str | None = None) -> dict[int, float]:
        """Return seed -> metric of one contender in one cell, without undefined ones.

        ``metric`` defaults to the metric that is compared, here and below.
        """
        seeds = self.metrics.get((where, label), {})
        found = {
            seed: getattr(metrics, metric or self.metric) for seed, metrics in sorted(seeds.items())
        }
        return {seed: value for seed, value in found.items() if value is not None}

    def mean(self, where: Where, label: str, metric: str | None = None) -> float | None:
        """Return the mean over seeds; None if there is no value."""
        values = self.values(where, label, metric)
        return statistics.fmean(values.values()) if values else None

    def differences(self) -> list[Difference]:
        """Return the paired difference of every contender to ``base``, cell by cell."""
        found = {
            (where, label): pair
            for where in self.cells
            for label in self.contenders
            if label != self.base.label and (pair := self.pair(where, label)) is not None
        }
        corrected = correct_p_values(found)
        return [
            Difference(
                where,
                self.contenders[label],
                pair,
                corrected.get((where, label)),
                self._closed(where, self.contenders[label]),
                decide_outcome(
                    pair,
                    corrected.get((where, label)),
                    self.better_sign,
                    same_model=self._is_same_model(where, label),
                ),
            )
            for (where, label), pair in found.items()
        ]

    def _is_same_model(self, where: Where, label: str) -> bool:
        """Return whether a contender and ``base`` have equal weights for every shared seed.

        A sweep keeps no weights. There, equal metrics in every digit stand for equal weights.
        """
        base = self.base.label
        mine, other = (self.metrics.get((where, one), {}) for one in (label, base))
        for seed in mine.keys() & other.keys():
            weights = [self.weights.get((where, one, seed)) for one in (label, base)]
            if None not in weights:
                if weights[0] != weights[1]:
                    return False
            elif any(
                getattr(mine[seed], name) != getattr(other[seed], name) for name in PREDICTIONS
            ):
                return False
        return True

    def pair(
        self, where: Where, label: str, metric: str | None = None, other: str | None = None
    ) -> PairedDifference | None:
        """Return a contender minus ``other`` over the seeds and splits that both have, if any.

        ``other`` defaults to ``base``.
        """
        found = self._subtract(where, label, metric, other)
        return compare_paired(list(found.values())) if found else None

    def _subtract(
        self, where: Where, label: str, metric: str | None = None, other: str | None = None
    ) -> dict[int, float]:
        """Return seed -> a contender minus ``other``, for the seeds and splits that both have."""
        both = (other or self.base.label, label)
        base, mine = (self.values(where, one, metric) for one in both)
        return {
            seed: mine[seed] - base[seed]
            for seed in sorted(base.keys() & mine.keys())
            if len({self.metrics[where, one][seed].split_seed for one in both}) == 1
        }

    def _closed(self, where: Where, contender: Contender) -> float | None:
        """Return the share of the gap to ``clean`` over the seeds that all three share."""
        clean = self._find_plain("clean")
        mine, best = (self._subtract(where, one.label) if one else {} for one in (contender, clean))
        shared = mine.keys() & best.keys()
        gap = sum(best[seed] for seed in shared)
        return sum(mine[seed] for seed in shared) / gap if gap * self.better_sign > 0 else None

    def delta_percent(self, label: str) -> float | None:
        """Return the mean change relative to ``base`` in percent; None if one is 0 or missing."""
        changes = []
        for where in self.cells:
            base, mine = (self.mean(where, one) for one in (self.base.label, label))
            if not base or mine is None:
                return None
            changes.append(100 * (mine - base) / base)
        return statistics.fmean(changes)


def get_protocol(one: Run | Sweep) -> str:
    """Return the protocol that a finished run, or a sweep, was trained under."""
    return one.document.protocol if isinstance(one, Sweep) else one.metrics.protocol


def find_subject(name: str) -> Run | Sweep:
    """Return the run or sweep ``name``; UsageError if there is neither."""
    return find_sweep(name) if is_sweep(name) else find_run(name)
