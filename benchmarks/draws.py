"""Draw many sets of trusted labels, and ask the detector which of them tell false positives.

::

    python -m benchmarks.draws movielens-100k --model fm --seeds 0-2 --draws 5

Plain training is run once for each seed; only the labels differ. Their answers are true, a fifth of
them wrong, or shuffled, so that they tell nothing. Labels are drawn at random, or from the most
active quarter of the users or the most popular quarter of the items, weighted by interactions. The
last lines are a Markdown table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import numpy as np
import torch
import typer

from benchmarks.labels import POOLS, choose_pool
from benchmarks.signals import train_base
from dartcli import metrics, settings
from dartcli.cli import console
from dartcli.cli.errors import guarded
from dartcli.data.tensors import FALSE_POSITIVE
from dartcli.denoising import Evidence
from dartcli.reporting.formats import format_markdown
from dartcli.reporting.table import Table
from dartcli.signals import _detector
from dartcli.training.stages import collect_evidence

Random = np.random.Generator
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
ANSWERS: Final[dict[str, Callable[[Flags, Random], Flags]]] = {
    "true": lambda false, _: false,
    "a fifth wrong": lambda false, random: false ^ (random.random(len(false)) < 0.2),
    "shuffled": lambda false, random: random.permutation(false),
}


def examine(
    evidence: Evidence, false: torch.Tensor, rows: torch.Tensor, answer: Flags
) -> tuple[float, ...]:
    """Return what the detector decides for these labels, and its AUC on all other rows."""
    found = _detector.detect(evidence, rows, torch.from_numpy(answer))
    if found is None:
        return (0.0, 0.0, 0.0, 0.0, float("nan"))
    hidden = torch.ones(len(false), dtype=torch.bool)
    hidden[rows] = False
    return (
        found.is_informative,
        found.gain > found.error,
        found.looks_random,
        found.strength > _detector.STRENGTHS[0],
        metrics.auc(found.probability[hidden].double(), false[hidden]),
    )


def main(
    dataset: Annotated[str, typer.Argument(help="Dataset with ground truth.")],
    model: Annotated[str, typer.Option(help="Model.")] = "fm",
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0-2.")] = "0-2",
    numbers: Annotated[str, typer.Option(help="Trusted labels.")] = "200,500",
    draws: Annotated[int, typer.Option(help="Draws for each seed.")] = 5,
) -> None:
    """Print how often labels are accepted, by whether they tell something."""
    sizes = [int(number) for number in numbers.split(",")]
    found: dict[tuple[str, int, str], list[tuple[float, ...]]] = {}
    for seed in settings.parse_seeds(seeds):
        components = train_base(dataset, model, seed).components
        evidence = collect_evidence(components.models[0], components)
        false = components.recorded_train.kind[evidence.row] == FALSE_POSITIVE
        for pool in POOLS[:3]:
            allowed = choose_pool(components, pool, np.random.default_rng(seed))
            positions = torch.searchsorted(evidence.row, allowed)
            for number in sizes:
                for draw in range(draws):
                    random = np.random.default_rng([seed, number, draw])
                    chosen = random.choice(len(positions), number, replace=False)
                    rows = positions[torch.from_numpy(np.sort(chosen))]
                    for answers, change in ANSWERS.items():
                        answer = change(false[rows].numpy(), random)
                        one = examine(evidence, false, rows, answer)
                        found.setdefault((pool, number, answers), []).append(one)
        console.note(f"{dataset} {model}, seed {seed}")
    rows_of_table: list[tuple[str | int | float, ...]] = []
    for key, all_of in found.items():
        *shares, auc = np.nanmean(np.array(all_of, dtype=np.float64), axis=0)
        counts = (f"{share * len(all_of):.0f} of {len(all_of)}" for share in shares)
        rows_of_table.append((*key, *counts, float(auc)))
    console.print_line(
        format_markdown(
            Table(
                title=f"{dataset}, {model}: draws of labels",
                columns=(
                    *("labels from", "labels", "answers", "accepted", "by log loss alone"),
                    *("look random", "weaker penalty", "AUC on other rows"),
                ),
                rows=tuple(rows_of_table),
            )
        )
    )


if __name__ == "__main__":
    typer.run(guarded(main))
