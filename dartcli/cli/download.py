"""``dart download``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import options, show
from dartcli.errors import UsageError


def download(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="DATASET", help="Data sets to fetch.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DIR|FILE|URL",
            help="Take the files from here instead of from the data set's own addresses.",
        ),
    ] = None,
    list_: Annotated[
        bool, typer.Option("--list", help="Show the data sets, their licences, what is here.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Fetch, verify and unpack data sets; DART_MIRROR names a local copy of the sources."""
    from dartcli import steps

    if list_:
        _list(json=json)
        return
    if not names:
        raise UsageError("name a data set, such as dart download movielens-100k; --list shows all.")
    if source is not None and len(names) > 1:
        raise UsageError("--from fits one data set at a time.")
    fetched = []
    for name in names:
        with show.download_bar() as bar:
            folder = steps.download(name, source, note=show.note, progress=bar)
        fetched.append({"dataset": name, "folder": str(folder)})
        if not json:
            show.out().print(f"{name}: {folder}", markup=False, soft_wrap=True)
        about = steps.dataset(name)
        show.note(f"licence: {about.licence}")
        show.note(f"please cite: {about.citation}")
    if json:
        show.document(fetched)
    show.next_command(f"dart preprocess {names[-1]}")


def _list(*, json: bool) -> None:
    from dartcli import steps

    known = steps.datasets()
    if json:
        show.document(known)
        return
    words = {True: "yes", False: "partial", None: "not known"}
    show.table(
        "Data sets",
        ["name", "size", "here", "complete", "what, and under which licence"],
        [
            (
                row["name"],
                _size(row["bytes"]),
                row["here"],
                "yes" if row["here"] == "built in" else words[row["complete"]],
                f"{row['title']}; {row['licence']}",
            )
            for row in known
        ],
    )


def _size(count: int | None) -> str:
    if count is None:
        return "–"
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"
