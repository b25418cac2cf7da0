"""``dart score``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import completion, console, options, progress, tables
from dartcli.errors import UsageError

SHOWN = 10
"""Rows that are printed if no output is named."""


def score(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN",
            help="Finished run, by name or folder." + options.default("the last one"),
            autocompletion=completion.complete_run,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: .parquet, .csv, or - for CSV on stdout."
            + options.default(f"print {SHOWN} rows"),
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(metavar="N", help="Only the N most doubtful." + options.default("all")),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="SEED", help="Seed to score." + options.default("the first")),
    ] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """List the training interactions of a run, the most doubtful first.

    With trusted labels (--trusted), each has a probability of being a false
    positive; without, the order is a ranking by signals.

    For example:

      dart score run_01 -o doubtful.parquet
      dart score run_01 --top 100 -o -
    """
    from dartcli.experiments.run_index import last_run

    if json and output == "-":
        raise UsageError("--json and `-o -` both print on stdout. Drop one of them.")
    chosen = name or last_run().name
    with progress.loading_torch():
        from dartcli.serving import score as scoring
    if output is not None:
        scoring.check_output(output)
    found = scoring.score(chosen, seed=seed, top=top, device=device)
    if output is not None:
        scoring.write_scores(found.table, output)
    if json:
        detection = found.found.detection
        console.document(
            {
                "run": found.run,
                "seed": found.seed,
                "output": output,
                "rows": len(found.table),
                "interactions": len(found.found.table),
                "trusted": int(found.found.table["trusted"].sum()),
                "has_probabilities": found.found.has_probabilities,
                "auc": detection and detection.auc,
                "log_loss": detection and detection.log_loss,
                "prior_log_loss": detection and detection.prior_log_loss,
                "top": found.table.head(SHOWN).to_dicts(),
            }
        )
    elif output is None and not quiet:
        shown = found.table.head(top or SHOWN)
        # a terminal has no room for every column
        shown = shown.select(*scoring.IDS, found.ranked_by, "rank_in_user", *scoring.COUNTS)
        tables.table(
            f"{found.run}, seed {found.seed}: {len(shown):,} of {len(found.found.table):,} "
            "training interactions, the most doubtful first",
            [column.replace("_positives", "s rows").replace("_", " ") for column in shown.columns],
            [(str(user), str(item), *rest) for user, item, *rest in shown.iter_rows()],
        )
    elif output not in (None, "-"):
        console.print_line(str(output))
    console.note(found.describe())
