"""The verdict of a comparison in words: the same in every table, sentence, and document."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from dartcli.experiments.comparison import Comparison, Difference
from dartcli.experiments.run import SETTINGS, Run
from dartcli.experiments.run_index import find_differences
from dartcli.experiments.verdict import MIN_SEEDS, Outcome
from dartcli.metrics.statistics import PairedDifference
from dartcli.reporting.phrases import (
    confidence_interval,
    count,
    join_words,
    name_metric,
    p_value,
    signed,
)
from dartcli.settings import parse_seeds

ENOUGH_SEEDS: Final = "0-4"
"""Seeds that commands suggest."""
MAX_LISTED: Final = 8
"""More verdicts than this are counted, and only the significant ones are listed."""


def phrase_verdict(
    label: str,
    reference: str,
    outcome: Outcome,
    paired: PairedDifference,
    metric: str,
    p: float | None,
    tests: int = 1,
) -> str:
    """Return the verdict on ``label`` against ``reference`` as a sentence.

    ``p`` is corrected for ``tests`` tests. A method helps or harms against ``base``; against
    another run it is better or worse.
    """
    what, seeds = name_metric(metric), count(paired.n, "seed")
    amount = f"{what} {signed(paired.mean)}"
    if outcome == "same model":
        return f"{label} is the same model as {reference} (equal weights, {seeds})."
    if outcome == "undecided":
        return (
            f"{label} against {reference}: no verdict is possible with {seeds} ({amount}); at "
            f"least {MIN_SEEDS} are needed."
        )
    certainty = [seeds]
    if paired.t_interval is not None:
        certainty.insert(0, confidence_interval(paired.t_interval))
    if p is not None:
        correction = f" after correction for {tests} tests" if tests > 1 else ""
        certainty.append(p_value(p) + correction)
    details = ", ".join(certainty)
    if outcome == "no difference":
        return f"{label}: no difference from {reference} can be shown ({amount}, {details})."
    change = f"{signed(abs(paired.mean)).lstrip('+')} {'higher' if paired.mean > 0 else 'lower'}"
    if reference == "base":
        return f"{label} {outcome}: {what} is {change} than with base ({details})."
    verb = "better" if outcome == "helps" else "worse"
    return f"{label} is {verb} than {reference}: {what} is {change} ({details})."


def phrase_difference(
    comparison: Comparison, one: Difference, differences: Sequence[Difference]
) -> str:
    """Return the verdict on one contender; it names dataset and model if there are several."""
    place = f"{' '.join(one.where)}: " if len(comparison.cells) > 1 else ""
    tests = sum(other.p_holm is not None for other in differences)
    sentence = phrase_verdict(
        one.contender.label,
        comparison.base.label,
        one.outcome,
        one.paired,
        comparison.metric,
        one.p_holm,
        tests,
    )
    return place + sentence


def list_verdicts(comparison: Comparison, differences: Sequence[Difference]) -> list[str]:
    """Return the verdicts on all strategies that do not use the ground truth, then what is missing.

    Many verdicts are counted instead, and only the significant ones are listed.
    """
    judged = [one for one in differences if one.contender.label not in comparison.references]
    if not judged:
        labels = join_words(one.contender.label for one in differences)
        return [f"Only references that use the ground truth were compared with base: {labels}."]
    listed = judged
    sentences = []
    if len(judged) > MAX_LISTED:
        outcomes = [one.outcome for one in judged]
        counts = {name: outcomes.count(name) for name in dict.fromkeys(outcomes)}
        parts = ", ".join(f"{name} {number}" for name, number in counts.items())
        sentences.append(f"{len(judged)} comparisons with base, paired by seed: {parts}.")
        listed = [one for one in judged if one.is_significant]
    sentences += [phrase_difference(comparison, one, differences) for one in listed]
    if any(one.outcome == "undecided" for one in judged):
        sentences.append(suggest_seeds(comparison.runs))
    return sentences


def list_caveats(comparison: Comparison) -> Iterator[str]:
    """Yield what limits a comparison: ground truth, tuning, other differences, what is missing."""
    if comparison.partly_labeled:
        data = join_words(comparison.partly_labeled)
        yield (
            f"Some interactions of {data} have no ground truth: every metric on the test split but "
            "the labeled AUC counts them as wanted, and the precision and recall of what was "
            "flagged leave them out. `dart analyze set-aside` says how certain the labeled AUC is."
        )
    if comparison.lacks_labeled:
        yield (
            "Test AUC is compared, because the labeled AUC is not defined for every training here. "
            "For the others, use `dart analyze compare --set metric=test_auc_labeled`."
        )
    for one in comparison.tuned:
        if (one.dataset, one.model) in comparison.cells:
            yield (
                f"{one.dataset} {one.model}: weight decay {one.weight_decay:g} was selected for "
                "base on validation and used for every strategy."
            )
    differing: list[str] = []
    for where in comparison.cells:
        settings = ((run, run.settings) for run in comparison.runs)
        here = [run for run, one in settings if (one.dataset.name, one.model.name) == where]
        differing += list_other_differences(here)
    if differing:
        yield (
            f"The runs also differ in {join_words(differing)}, which may explain a difference "
            "between them."
        )
    yield from list_interrupted(comparison.runs)
    yield from list_missing(comparison.missing)


def list_missing(number: int) -> Iterator[str]:
    """Yield that ``number`` trainings of a sweep are missing, if there are any."""
    if number:
        yield (
            f"Missing from the sweep: {count(number, 'training')}. Run the same `dart sweep` "
            "command again."
        )


def list_interrupted(runs: Sequence[Run]) -> Iterator[str]:
    """Yield which runs ended before all their seeds were trained."""
    for run in runs:
        if run.metrics.interrupted:
            yield (
                f"{run.name} was interrupted: it has {len(run.seeds)} of "
                f"{len(run.settings.seeds)} seeds."
            )


def list_other_differences(runs: Sequence[Run]) -> list[str]:
    """Return the settings, besides those of the strategy and the seeds, in which runs differ."""
    ignored = ("strategy", "seeds", "device", "trusted")
    return [key for key in find_differences(runs) if not key.startswith(ignored)]


def suggest_seeds(runs: Sequence[Run]) -> str:
    """Return which commands train enough seeds for a verdict."""
    if not runs:
        return (
            f"For a verdict, run the same `dart sweep` command again with `--seeds {ENOUGH_SEEDS}`."
        )
    commands = [
        f"`dart train --config {_shorten(run.folder / SETTINGS)} --seeds {ENOUGH_SEEDS}`"
        for run in runs
        if not set(parse_seeds(ENOUGH_SEEDS)) <= set(run.seeds)
    ]
    if not commands:
        return (
            "For a verdict, compare runs that share at least "
            f"{MIN_SEEDS} seeds, splits, and defined metrics."
        )
    return f"For a verdict, train more seeds: {join_words(commands)}. Then compare the new runs."


def _shorten(path: Path) -> str:
    """Return ``path`` as a shell reads it, with ~ for the home directory."""
    if path.is_relative_to(Path.home()):
        return f"~/{shlex.quote(str(path.relative_to(Path.home())))}"
    return shlex.quote(str(path))


def iterate_documents(
    comparison: Comparison, differences: Sequence[Difference]
) -> Iterator[dict[str, object]]:
    """Yield the verdicts as JSON documents."""
    for one in differences:
        yield {
            "dataset": one.where[0],
            "model": one.where[1],
            "method": one.contender.label,
            "verdict": one.outcome,
            "seeds": one.paired.n,
            "mean": one.paired.mean,
            "t_interval": one.paired.t_interval,
            "p_holm": one.p_holm,
            "sentence": phrase_difference(comparison, one, differences),
        }
