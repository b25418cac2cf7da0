"""``dart doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dartcli.cli import console, options, tables

if TYPE_CHECKING:
    from dartcli.experiments.checks import Finding


def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Make well what can be made well.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Look at installation, devices, directories, data and runs; say what is broken.

    Every file is hashed. The exit code is 1 where something is broken.
    """
    from dartcli.experiments.checks import run_checks

    found = list(run_checks(repair=repair))
    if json:
        console.document([_entry(finding) for finding in found])
    else:
        tables.table(
            "Examined",
            ["what", "name", "state", "found"],
            [
                (one.part, one.name, one.state, one.words if one.state == "well" else "see below")
                for one in found
            ],
        )
    wrong = [finding for finding in found if finding.state != "well"]
    for finding in wrong:
        console.note(" ".join(_sentences(finding)))
    broken = sum(finding.state == "broken" for finding in wrong)
    if broken:
        mendable = any(finding.mend for finding in wrong if finding.state == "broken")
        if mendable and not repair:
            console.next_command("dart doctor --repair")
        raise typer.Exit(1)


def _entry(finding: Finding) -> dict[str, Any]:
    names = ("part", "name", "state", "words", "remedy")
    return {name: getattr(finding, name) for name in names}


def _sentences(finding: Finding) -> list[str]:
    words = [f"{finding.name}: {finding.words}"]
    return [*words, f"What to do: {finding.remedy}."] if finding.remedy else words
