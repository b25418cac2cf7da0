"""``dart download``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import console, options, progress, tables
from dartcli.errors import UsageError


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATASET", help="Datasets to fetch.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|FILE|URL",
            help="Take the files from here instead of from the dataset's own addresses.",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the datasets, their licenses, what is here.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Fetch, verify and unpack datasets; DART_MIRROR names a local copy of the sources."""
    from dartcli.data import prepare
    from dartcli.data.registry import find_dataset

    if list_:
        _list(json=json)
        return
    if not names:
        raise UsageError("name a dataset, such as dart download movielens-100k; --list shows all.")
    if source is not None and len(names) > 1:
        raise UsageError("--from fits one dataset at a time.")
    fetched = []
    for name in names:
        with progress.download_bar() as bar:
            folder = prepare.download(name, source, progress=bar)
        fetched.append({"dataset": name, "folder": str(folder)})
        if not json:
            console.out().print(f"{name}: {folder}", markup=False, soft_wrap=True)
        about = find_dataset(name)
        console.note(f"license: {about.license}")
        console.note(f"please cite: {about.citation}")
    if json:
        console.document(fetched)
    console.next_command(f"dart preprocess {names[-1]}")


def _list(*, json: bool) -> None:
    from dartcli.data.registry import list_datasets

    known = list_datasets()
    if json:
        console.document(known)
        return
    words = {True: "yes", False: "partial", None: "not known"}
    tables.table(
        "Datasets",
        ["name", "size", "here", "complete", "what, and under which license"],
        [
            (
                row["name"],
                _size(row["bytes"]),
                row["here"],
                "yes" if row["here"] == "built in" else words[row["complete"]],
                f"{row['title']}; {row['license']}",
            )
            for row in known
        ],
    )


def _size(count: int | None) -> str:
    if count is None:
        return "–"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
