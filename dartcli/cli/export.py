"""``dart export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dartcli.cli import console, options


def export(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Finished run, by name or folder.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Directory to create.")
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="safetensors (weights), onnx (a graph that needs no PyTorch), or embeddings "
            "(a vector for each user and item).",
        ),
    ] = "safetensors",
    seed: options.RunSeed = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Write a trained model for use in other programs.

    The directory also gets the id maps and schema.json.

    For example:

      dart export run_01 --format onnx -o model
    """
    from dartcli.serving.export import export as write

    found = write(name, output, form, seed=seed)
    difference = found["largest_difference"]
    if json:
        console.document(found)
        return
    if difference is not None and not quiet:
        console.note(f"largest difference to the run on 10,000 random rows: {difference:.1e}")
    size = sum(found["files"].values())
    text = f"Wrote {len(found['files'])} files, {size:,} bytes, to {found['output']}."
    console.print_line(found["output"] if quiet else text)
