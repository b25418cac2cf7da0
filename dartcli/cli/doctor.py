"""``dart doctor``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import console, options, tables


def doctor(
    repair: Annotated[bool, typer.Option("--repair", help="Repair what can be repaired.")] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Check the installation and every stored file.

    Exits with code 1 if anything is corrupt or does not work.

    For example:

      dart doctor
      dart doctor --repair
    """
    from dartcli.experiments.checks import run_checks

    findings = list(run_checks(repair=repair))
    if json:
        columns = ("part", "name", "state", "message", "remedy")
        console.document([{key: getattr(one, key) for key in columns} for one in findings])
    elif quiet:
        console.print_names(one.name for one in findings if one.state != "ok")
    else:
        tables.table(
            "Checks",
            ["part", "name", "state", "details"],
            [
                (one.part, one.name, one.state, one.message if one.state == "ok" else "see below")
                for one in findings
            ],
        )
    for finding in findings:
        sentence = f"{finding.part} {finding.name}: {finding.message}. {finding.remedy}".rstrip()
        if finding.has_failed:
            console.error(sentence)
        elif finding.state != "ok":
            console.note(sentence)
    failed = [finding for finding in findings if finding.has_failed]
    if failed:
        if not repair and any(finding.repair for finding in failed):
            console.next_command("dart doctor --repair")
        raise typer.Exit(1)
