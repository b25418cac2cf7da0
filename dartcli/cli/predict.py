"""``dart predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartcli.cli import console, options

CONSEQUENCE = {"null": "no score", "mean": "the mean of all known ones in its place"}


def predict(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Finished run, by name or folder.")],
    path: Annotated[
        Path,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Parquet, CSV, or TSV file with the columns of the training data.",
        ),
    ],
    output: options.Output,
    unknown: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="Rows with an id that the model does not know: null (no score), mean (score with "
            "the mean of all known ids), or error.",
        ),
    ] = "null",
    seed: options.RunSeed = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Score the rows of a file with a trained model.

    The output has all columns of the input, and logit and probability.

    For example:

      dart predict run_01 --input new.parquet -o scored.parquet
    """
    from dartcli.serving.predict import predict as score

    found = score(name, path, output, unknown=unknown, seed=seed, device=device)
    for field, count in found["unknown"].items():
        if count:
            rows = f"{count:,} of {found['rows']:,} rows have an unknown {field}"
            console.warning(f"{rows} and {CONSEQUENCE[unknown]}")
    if json:
        console.document(found)
    elif quiet:
        console.print_line(found["output"])
    else:
        console.print_line(f"Wrote {found['rows']:,} rows to {found['output']}.")
