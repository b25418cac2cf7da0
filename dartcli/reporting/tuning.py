"""The result of a hyper-parameter search in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dartcli.experiments.verdict import MIN_SEEDS
from dartcli.reporting.phrases import confidence_interval, count, name_metric, signed

if TYPE_CHECKING:
    from dartcli.experiments.tune import StudyResult
    from dartcli.metrics.statistics import PairedDifference

OBJECTIVES = {
    "valid_auc_recorded": "AUC on the validation split as recorded",
    "valid_auc": "AUC on the validation split, estimated with the trusted labels",
}


def phrase_study(found: StudyResult) -> Iterator[str]:
    """Yield what was maximized, what was found, whether it survives, and what luck would give."""
    yield f"Objective: {OBJECTIVES[found.objective]}."
    if not found.best:
        yield f"None of {count(found.trials, 'trial')} was better than the defaults."
        return
    chosen = ", ".join(f"{key} {format_setting(value)}" for key, value in found.values.items())
    gain = None if found.default_score is None else found.score - found.default_score
    above = "" if gain is None else f", {signed(gain)} above the defaults"
    trials = count(found.trials, "finished trial")
    yield f"Trial {found.best} is the best of {trials} ({chosen}): {found.score:.4f}{above}."
    for key, end in found.ends.items():
        yield f"The best value of {key} is at the {end} end of its range."
    if found.luck is not None and found.trials > 1:
        yield (
            f"If all {found.trials} settings were as good as the defaults, the best would look "
            f"about {signed(found.luck)} better by luck alone."
        )
    if "test_auc" in found.confirmed:
        yield _phrase_confirmation(found.confirmed, found.objective)


def format_setting(value: Any) -> str:
    """Return the value of a setting, a fraction with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _phrase_confirmation(confirmed: dict[str, PairedDifference], objective: str) -> str:
    test = confirmed["test_auc"]
    outcome = "the gain cannot be judged"
    if test.t_interval is not None and test.n >= MIN_SEEDS:
        low, high = test.t_interval
        outcome = (
            "the gain survives"
            if low > 0
            else "the defaults are better"
            if high < 0
            else "the gain does not survive"
        )
    seeds = count(test.n, "fresh seed")
    return (
        f"On {seeds}, {outcome}: {_phrase_difference('test_auc', test)}; "
        f"{_phrase_difference(objective, confirmed[objective])}."
    )


def _phrase_difference(metric: str, one: PairedDifference) -> str:
    interval = "" if one.t_interval is None else f" ({confidence_interval(one.t_interval)})"
    return f"{name_metric(metric)} {signed(one.mean)}{interval}"
