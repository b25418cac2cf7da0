"""``dart label``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from dartcli.cli import completion, console, options
from dartcli.errors import UsageError

NUMBER = 200
"""Interactions to ask about if no number is given."""


def label(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="Dataset to label, such as your own log.",
            autocompletion=completion.complete_dataset,
        ),
    ],
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Finished run for --by uncertainty.",
            autocompletion=completion.complete_run,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="CSV or Parquet file to write questions to."
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Interactions to ask about." + options.default(str(NUMBER))
        ),
    ] = None,
    show: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column of the source that helps to answer, such as title. Repeatable.",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="random, or a third at random and the rest by coverage (new users and items) or "
            "uncertainty (logit of RUN near 0)." + options.default("random"),
            autocompletion=completion.complete_choice("random", "coverage", "uncertainty"),
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="SEED", help="Seed of the choice." + options.default("0")),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Read the answers from a file that was filled in."),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Use no labels of DATASET any more; keep the files.")
    ] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Ask which interactions were wanted, and read the answers.

    Writes training interactions to a file with an empty column `wanted`. Write 1
    (wanted) or 0 (not wanted) into it, and read it back with --answers. Empty
    cells stay unknown. The file never contains the ground truth.

    For example:

      dart label shop -o ask.csv --number 200
      dart label shop --answers ask.csv
    """
    if [output is not None, answers is not None, forget].count(True) != 1:
        raise UsageError(
            "name one of -o FILE (write questions), --answers FILE (read answers), and --forget."
        )
    if output is None and any(one is not None for one in (run, number, show or None, by, seed)):
        raise UsageError(
            "RUN, --number, --show, --by, and --seed choose questions. Add `-o FILE`, or drop them."
        )
    if output is not None:
        how = {"by": by or "random", "show": show or [], "seed": seed or 0}
        document, sentence = _ask(dataset, output, number or NUMBER, run, **how)
        following = ["dart", "label", dataset, "--answers", str(output)]
    elif answers is not None:
        document, sentence = _read_answers(dataset, answers)
        following = ["dart", "train", dataset]
    else:
        document, sentence = _forget(dataset)
        following = ["dart", "preprocess", dataset]
    if json:
        console.document(document)
    elif quiet:
        console.print_line(document.get("file", dataset))
    else:
        console.print_line(sentence)
        console.next_command(shlex.join(following))


def _ask(
    dataset: str, output: Path, number: int, run: str | None, **how: Any
) -> tuple[dict[str, Any], str]:
    from dartcli.experiments.labeling import check_output, choose_questions, write_questions
    from dartcli.experiments.run_index import find_run

    check_output(output)
    found = None if run is None else find_run(run)
    questions, candidates = choose_questions(dataset, number, run=found, **how)
    write_questions(questions, output)
    document = {"dataset": dataset, "file": str(output), "questions": len(questions)}
    return {**document, "candidates": candidates}, (
        f"{output}: {len(questions):,} of {candidates:,} training interactions. Write 1 (wanted) "
        "or 0 (not wanted) into the column `wanted`."
    )


def _read_answers(dataset: str, answers: Path) -> tuple[dict[str, Any], str]:
    from dartcli.data.prepare import preprocess

    manifest = preprocess(dataset, labels=[str(answers)]).manifest
    for warning in manifest.warnings:
        console.warning(warning)
    # the last file is the one that was added
    file = manifest.options["labels"][-1]
    counts = manifest.labels[file]
    return {"dataset": dataset, "file": file, **counts.model_dump()}, (
        f"{answers.name}: {counts.answered:,} interactions labeled; of {counts.rows:,} rows, "
        f"{counts.empty:,} have no answer, {counts.contradicting:,} contradict another, and "
        f"{counts.unknown:,} have no interaction in {dataset}."
    )


def _forget(dataset: str) -> tuple[dict[str, Any], str]:
    from dartcli.data.logs.labels import register_labels
    from dartcli.data.registry import find_dataset

    find_dataset(dataset)
    register_labels(dataset, ())
    return {"dataset": dataset}, f"the labels of {dataset} are no longer used."
