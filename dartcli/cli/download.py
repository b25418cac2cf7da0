"""``dart download``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import completion, console, options, progress, tables
from dartcli.errors import UsageError
from dartcli.reporting import formats


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DATASET",
            help="Datasets to download.",
            autocompletion=completion.complete_component("datasets"),
        ),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|FILE|URL",
            help="Get the files from this source instead of the publisher.",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="List the datasets with size, status, and license.")
    ] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Download datasets and verify their checksums.

    If DART_MIRROR is set to a directory, files are copied from there.

    For example:

      dart download movielens-100k
      dart download --list
    """
    from dartcli.data import prepare
    from dartcli.data.registry import find_dataset

    if list_:
        _list(quiet=quiet, json=json)
        return
    if not names:
        raise UsageError("no dataset given. Run `dart download --list` to see all datasets.")
    if source is not None and len(names) > 1:
        raise UsageError(
            f"--from applies to one dataset, but {len(names)} were given. Download one at a time."
        )
    fetched = []
    for name in names:
        with progress.download_bar() as bar:
            folder = prepare.download(name, source, progress=bar)
        about = find_dataset(name)
        complete = _check(name) if about.files else None
        fetched.append({"dataset": name, "folder": str(folder), "complete": complete})
        if not json:
            console.print_line(str(folder) if quiet else f"{name}: {folder}")
        console.note(f"license: {about.license}")
        console.note(f"please cite: {about.citation}")
    if json:
        console.document(fetched)
    console.next_command(f"dart preprocess {names[-1]}")


def _check(name: str) -> bool | None:
    """Print whether a downloaded dataset is complete, and return it; None if unknown."""
    from dartcli.data.prepare import check_complete

    complete, warnings, counts = check_complete(name)
    contents = f"{counts.users:,} users, {counts.items:,} items, {counts.interactions:,} rows"
    for warning in warnings:
        console.warning(warning)
    if complete:
        console.note(f"{name} is complete: {contents}, as published")
    elif complete is None:
        console.note(
            f"{name} has {contents}; whether that is complete cannot be checked, because the "
            "published counts are unknown"
        )
    return complete


def _list(*, quiet: bool, json: bool) -> None:
    from dartcli.data.registry import list_datasets

    known = list_datasets()
    if json:
        console.document(known)
        return
    if quiet:
        console.print_names(row["name"] for row in known)
        return
    completeness = {True: "yes", False: "partial", None: "unknown"}
    tables.table(
        "Datasets",
        ["name", "size", "here", "complete", "description and license"],
        [
            (
                row["name"],
                formats.format_size(row["bytes"]),
                row["here"],
                "yes" if row["here"] == "built in" else completeness[row["complete"]],
                f"{row['title']}; {row['license']}",
            )
            for row in known
        ],
    )
