"""Choosing between base and a candidate by validation as it was recorded: how often it is right.

The rule keeps a candidate only if the 95% interval of its paired difference to ``base`` in the AUC
on the recorded validation labels is above zero. If false positives are as likely for every positive
(class-conditional noise), the recorded AUC is an increasing function of the clean one. Source:
Menon et al., "Learning from Corrupted Binary Labels via Class-Probability Estimation" (ICML 2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dartcli.errors import RunError
from dartcli.experiments.comparison import Comparison, Where
from dartcli.experiments.run import Run
from dartcli.experiments.sweep import Sweep
from dartcli.experiments.verdict import MIN_SEEDS
from dartcli.metrics.statistics import PairedDifference
from dartcli.reporting.analysis import Analysis, AnalysisResult
from dartcli.reporting.phrases import count, interval_cell, name_metric
from dartcli.reporting.table import Table, difference_cell

RECORDED: Final = "valid_auc_recorded"


@dataclass(frozen=True)
class Choice:
    """A candidate against ``base`` in one cell, by two metrics."""

    where: Where
    candidate: str
    recorded: PairedDifference
    clean: PairedDifference

    @property
    def keeps_candidate(self) -> bool:
        """Whether the rule keeps the candidate."""
        return _find_sign(self.recorded) > 0

    @property
    def is_right(self) -> bool:
        """Whether the arm that is kept has the higher mean clean AUC; a tie is right."""
        return self.clean.mean == 0 or self.keeps_candidate == (self.clean.mean > 0)

    @property
    def contradicts(self) -> bool:
        """Whether both metrics are sure of different signs: the assumption fails."""
        return _find_sign(self.recorded) * _find_sign(self.clean) < 0


def _find_sign(pair: PairedDifference) -> int:
    """Return 1 or -1 if the interval is on one side of zero, else 0."""
    low, high = pair.t_interval or (0.0, 0.0)
    return 1 if low > 0 else -1 if high < 0 else 0


def find_choices(comparison: Comparison) -> Iterator[Choice]:
    """Yield every candidate that can be judged; references are none."""
    for where in comparison.cells:
        for label in comparison.contenders:
            if label in comparison.references or label == comparison.base.label:
                continue
            recorded, clean = (comparison.pair(where, label, one) for one in (RECORDED, None))
            if recorded and clean and min(recorded.n, clean.n) >= MIN_SEEDS:
                yield Choice(where, label, recorded, clean)


def examine(subjects: Sequence[Run | Sweep]) -> AnalysisResult:
    """Return what the rule keeps in each cell, and how often that is the better arm."""
    comparison = Comparison(subjects)
    choices = list(find_choices(comparison))
    if not choices:
        raise RunError(
            f"no strategy was trained with base on {MIN_SEEDS} seeds or more. Train one with "
            "`dart sweep --strategies base,dart --seeds 0-4`."
        )
    truth = name_metric(comparison.metric)
    return AnalysisResult(
        name="auto",
        title="Choosing between base and a strategy by recorded validation",
        sentences=tuple(_sentences(choices, truth)),
        tables=tuple(
            _table(where, truth, [one for one in choices if one.where == where])
            for where in dict.fromkeys(one.where for one in choices)
        ),
        numbers={
            "protocol": comparison.protocol,
            **_count(choices),
            "choices": [_numbers(one) for one in choices],
        },
    )


def _count(choices: Sequence[Choice]) -> dict[str, int]:
    kept = [one for one in choices if one.keeps_candidate]
    clear = [one for one in choices if _find_sign(one.clean)]
    return {
        "cases": len(choices),
        "right": sum(one.is_right for one in choices),
        "kept": len(kept),
        "kept_and_right": sum(one.is_right for one in kept),
        "clear": len(clear),
        "clear_and_right": sum(one.is_right for one in clear),
        "contradictions": sum(one.contradicts for one in choices),
        "base_is_better": sum(one.clean.mean <= 0 for one in choices),
    }


def _sentences(choices: Sequence[Choice], truth: str) -> Iterator[str]:
    found = _count(choices)
    yield (
        f"Choosing by recorded validation AUC kept the arm with the higher {truth} in "
        f"{found['right']:,} of {count(found['cases'], 'case')}; always keeping base would have "
        f"been right in {found['base_is_better']:,}."
    )
    yield (
        f"It kept the candidate in {count(found['kept'], 'case')}, rightly in "
        f"{found['kept_and_right']:,}. The {truth} tells the arms apart in "
        f"{count(found['clear'], 'case')}; the choice was right in {found['clear_and_right']:,}."
    )
    for one in choices:
        if one.contradicts:
            direction = "raises" if one.recorded.mean > 0 else "lowers"
            yield (
                f"{' '.join(one.where)}: {one.candidate} {direction} the recorded validation AUC "
                f"and does the opposite to the {truth}, so false positives are not equally likely "
                "for every positive there."
            )


def _table(where: Where, truth: str, choices: Sequence[Choice]) -> Table:
    return Table(
        title=f"{' '.join(where)}: minus base in units of 1e-4, paired by seed; the recorded "
        f"validation AUC decides, the {truth} is the truth",
        columns=("candidate", "recorded", "recorded CI", "test", "test CI", "keeps", "right"),
        rows=tuple(
            (
                one.candidate,
                difference_cell(one.recorded.mean),
                interval_cell(one.recorded.t_interval),
                difference_cell(one.clean.mean),
                interval_cell(one.clean.t_interval),
                "candidate" if one.keeps_candidate else "base",
                "yes" if one.is_right else "no",
            )
            for one in choices
        ),
    )


def _numbers(one: Choice) -> dict[str, Any]:
    return {
        "dataset": one.where[0],
        "model": one.where[1],
        "candidate": one.candidate,
        "seeds": one.clean.n,
        "recorded": one.recorded.mean,
        "recorded_interval": one.recorded.t_interval,
        "test": one.clean.mean,
        "test_interval": one.clean.t_interval,
        "keeps": "candidate" if one.keeps_candidate else "base",
        "right": one.is_right,
        "contradicts": one.contradicts,
    }


ANALYSIS = Analysis(
    question="Does choosing by recorded validation keep the better of base and a strategy?",
    examine=examine,
    takes_sweeps=True,
    place=60,
)
