"""``dart preprocess``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dartcli.cli import console, options, tables
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.data.logs.schema import LogOptions
    from dartcli.data.manifest import Manifest

OWN = "Your own log"


def preprocess(
    dataset: Annotated[
        str | None,
        typer.Argument(metavar="DATASET", help="Dataset to encode and split.", show_default=False),
    ] = None,
    protocol: options.Protocol = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    set_: options.Set = None,
    json: options.Json = False,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="Parquet, CSV or TSV, also packed with gzip or zstd; a pattern such as "
            "'logs/*.parquet' names several. May be repeated.",
            rich_help_panel=OWN,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the log from then on.", rich_help_panel=OWN)
    ] = None,
    user: Annotated[str | None, typer.Option(help="Column: user.", rich_help_panel=OWN)] = None,
    item: Annotated[str | None, typer.Option(help="Column: item.", rich_help_panel=OWN)] = None,
    label: Annotated[
        str | None,
        typer.Option(
            help="Column: 1 = interaction, 0 = shown without one. Without it every row is an "
            "interaction and negatives are sampled.",
            rich_help_panel=OWN,
        ),
    ] = None,
    rating: Annotated[
        str | None,
        typer.Option(help="Column: explicit feedback, for measurement.", rich_help_panel=OWN),
    ] = None,
    noisy_if: Annotated[
        str | None,
        typer.Option(
            help="SQL over the columns that marks known false positives, for measurement: "
            "'dwell_seconds < 10'.",
            rich_help_panel=OWN,
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="Further categorical column for the model. May be repeated.",
            rich_help_panel=OWN,
        ),
    ] = None,
    numeric_field: Annotated[
        list[str] | None,
        typer.Option(
            help="Further numeric column, in quantile bins. May be repeated.",
            rich_help_panel=OWN,
        ),
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="Column: when it happened.", rich_help_panel=OWN)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="random (default), temporal or leave-last-out. Datasets with a time take it, too.",
        ),
    ] = None,
    test_clean: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of the same columns with clean labels: replaces the test split.",
            rich_help_panel=OWN,
        ),
    ] = None,
    describe: Annotated[
        bool,
        typer.Option(
            "--describe",
            help="Only show how the log would be understood; write nothing.",
            rich_help_panel=OWN,
        ),
    ] = False,
) -> None:
    """Encode and split a dataset, or your own log, into Parquet.

    A dataset is downloaded first if need be. Example of a log:
    dart preprocess --input 'logs/*.parquet' --user user_id --item item_id --name shop.
    """
    from dartcli import settings
    from dartcli.data import prepare
    from dartcli.data.registry import register_log

    tree = settings.parse_assignments(set_ or [])
    if set(tree) - {"dataset"}:
        raise UsageError("dart preprocess takes only --set dataset.KEY=VALUE.")
    chosen: dict[str, Any] = dict(tree.get("dataset", {}).get("options", {}))
    if split is not None:
        chosen["split"] = split
    columns: dict[str, Any] = {
        "user": user,
        "item": item,
        "label": label,
        "rating": rating,
        "noisy_if": noisy_if,
        "fields": field,
        "numeric_fields": numeric_field,
        "time": time,
        "test_clean": [str(path) for path in test_clean] if test_clean else None,
    }
    if inputs:
        log = _log(dataset, inputs, columns | chosen, name=name, needs_name=not describe)
        if describe:
            _describe(log, json=json)
            return
        assert name is not None  # noqa: S101 - _log looked
        register_log(name, log)
        dataset, chosen = name, {}
    else:
        given = [key for key, value in columns.items() if value] + ["name"] * bool(name)
        if given or describe:
            flag = given[0].replace("_", "-").removesuffix("s") if given else "describe"
            raise UsageError(f"--{flag} belongs to your own log: give its files with --input.")
    if dataset is None:
        raise UsageError("name a dataset, or give your own log with --input; see --help.")
    data = prepare.preprocess(
        dataset,
        protocol=protocol or "strict",
        split_seed=split_seed,
        options=chosen,
    )
    manifest = data.manifest
    if not data.fresh:
        console.note(f"{dataset} was prepared before, and nothing has changed: nothing to do.")
    for warning in manifest.warnings:
        console.note(warning)
    if json:
        console.document({"folder": str(data.folder), **manifest.model_dump(mode="json")})
    else:
        _show(manifest)
        console.note(f"folder: {data.folder}")
    console.next_command(f"dart train {dataset}")


def _log(
    dataset: str | None,
    inputs: list[str],
    given: dict[str, Any],
    *,
    name: str | None,
    needs_name: bool,
) -> LogOptions:
    """Return the description of a log from the flags."""
    from dartcli.data.logs.schema import LogOptions
    from dartcli.settings import validate

    if dataset is not None:
        raise UsageError(f"give a dataset ({dataset}) or --input, not both; --name names a log.")
    if name is None and needs_name:
        raise UsageError("--input needs --name: what the log shall be called, such as --name shop.")
    for flag in ("user", "item"):
        if given[flag] is None:
            raise UsageError(f"--input needs --{flag}: the column that holds the {flag}.")
    files = [path if path.startswith(("/", "~")) else str(Path.cwd() / path) for path in inputs]
    given = {key: value for key, value in given.items() if value is not None}
    return validate(LogOptions, {"inputs": files, **given}, "dataset")


def _describe(log: LogOptions, *, json: bool) -> None:
    from dartcli.data.registry import preview_log

    found = preview_log(log)
    if json:
        console.document(found)
        return
    tables.table("Columns found", ["column", "type"], list(found["columns"].items()))
    if found["rows"]:
        tables.table(
            "First rows, as understood",
            list(found["rows"][0]),
            [tuple(row.values()) for row in found["rows"]],
        )
    tables.table("Counts", list(found["counts"]), [tuple(found["counts"].values())])
    for sentence in found["plan"]:
        console.out().print(f"- {sentence}", markup=False)
    console.note("nothing was written; leave --describe out to prepare the log.")


def _show(manifest: Manifest) -> None:
    counts = manifest.counts
    known = counts.true_positives + counts.false_positives
    partial = " (partial)" if manifest.complete is False else ""
    tables.table(
        f"{manifest.dataset}{partial}, protocol {manifest.protocol}, "
        f"split seed {manifest.split_seed}",
        ["users", "items", "true positives", "false positives", "FP share"],
        [
            (
                counts.users,
                counts.items,
                counts.true_positives if known else None,
                counts.false_positives if known else None,
                counts.false_positives / known if known else None,
            )
        ],
    )
    rows = ", ".join(f"{name} {count:,}" for name, count in manifest.rows.items())
    console.out().print(f"rows: {rows}", markup=False)
    further = [f"{field.name} ({field.size:,})" for field in manifest.fields[2:]]
    if further:
        console.out().print(f"further fields: {', '.join(further)}", markup=False)
    if manifest.duplicates_dropped:
        console.note(
            f"{manifest.duplicates_dropped:,} rows were dropped: a later one has the same user and "
            "item."
        )
