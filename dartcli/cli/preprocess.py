"""``dart preprocess``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dartcli.cli import completion, console, options, tables
from dartcli.errors import UsageError

if TYPE_CHECKING:
    from dartcli.data.logs.schema import LogOptions
    from dartcli.data.manifest import Manifest, Prepared

OWN = "Your own log"


def preprocess(
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="Dataset to prepare; see `dart list datasets`.",
            autocompletion=completion.complete_dataset,
        ),
    ] = None,
    protocol: options.Protocol = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="random, temporal, or leave-last-out. The last two need timestamps."
            + options.default("random"),
            autocompletion=completion.complete_choice("random", "temporal", "leave-last-out"),
        ),
    ] = None,
    split_seed: Annotated[int, typer.Option(metavar="SEED", help="Seed for the split.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Option of the dataset, such as dataset.tp_threshold=3. Repeatable.",
        ),
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Parquet or CSV file with the columns user, item, and wanted (1 or 0), which says "
            "for some interactions whether they were wanted. Remembered. Repeatable.",
        ),
    ] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            metavar="FILES",
            help="Parquet, CSV, TSV, text, or JSON Lines file, a directory of such files, or a "
            "pattern such as 'logs/*.parquet'. Text may be compressed (gzip, zstd). Repeatable.",
            rich_help_panel=OWN,
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="parquet, csv, tsv, txt, or jsonl." + options.default("by the suffix"),
            autocompletion=completion.complete_choice("parquet", "csv", "tsv", "txt", "jsonl"),
            rich_help_panel=OWN,
        ),
    ] = None,
    separator: Annotated[
        str | None,
        typer.Option(
            metavar="CHARACTER",
            help="Separates the columns of text files."
            + options.default("by the suffix; .txt: guessed"),
            rich_help_panel=OWN,
        ),
    ] = None,
    no_header: Annotated[
        bool,
        typer.Option(
            "--no-header",
            help="The first line of text files is a row; columns are called column_1, "
            "column_2, ...",
            rich_help_panel=OWN,
        ),
    ] = False,
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Encoding of text files, such as utf-16 or latin-1." + options.default("utf-8"),
            rich_help_panel=OWN,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Dataset name under which to save the log.", rich_help_panel=OWN
        ),
    ] = None,
    user: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="User ids.", rich_help_panel=OWN)
    ] = None,
    item: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Item ids.", rich_help_panel=OWN)
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="1 if the user interacted with the item, 0 if it was only shown. Without it, "
            "every row is an interaction and negatives are sampled.",
            rich_help_panel=OWN,
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Time of the interaction.", rich_help_panel=OWN),
    ] = None,
    rating: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Explicit feedback. Used only to measure results.",
            rich_help_panel=OWN,
        ),
    ] = None,
    noisy_if: Annotated[
        str | None,
        typer.Option(
            metavar="SQL",
            help="Condition that marks known false positives, such as 'dwell_seconds < 10'. Used "
            "to measure results; only strategies such as clean train on it.",
            rich_help_panel=OWN,
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Categorical feature for the model. Repeatable.",
            rich_help_panel=OWN,
        ),
    ] = None,
    numeric_field: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Numeric feature for the model, split into quantile bins. Repeatable.",
            rich_help_panel=OWN,
        ),
    ] = None,
    test_clean: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Log with clean labels that replaces the test split. Repeatable.",
            rich_help_panel=OWN,
        ),
    ] = None,
    describe: Annotated[
        bool,
        typer.Option(
            "--describe",
            help="Preview how the log is read; write nothing.",
            rich_help_panel=OWN,
        ),
    ] = False,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    r"""Prepare a dataset or your own interaction log for training.

    Encodes ids and features as integers, and splits the rows into train, valid,
    and test. A missing dataset is downloaded first.

    For example:

      dart preprocess movielens-100k
      dart preprocess --input 'logs/*.parquet' --user user_id --item item_id \
        --name shop
    """
    from dartcli import settings
    from dartcli.data import prepare

    tree = settings.parse_assignments(set_ or [])
    other = sorted(set(tree) - {"dataset"})
    if other:
        raise UsageError(
            f"--set {other[0]} does not apply to preprocessing. Use `--set dataset.KEY=VALUE`."
        )
    protocol = protocol or "strict"
    chosen: dict[str, Any] = dict(tree.get("dataset", {}).get("options", {}))
    if split is not None:
        chosen["split"] = split
    columns: dict[str, Any] = {
        "format": form,
        "separator": separator,
        "header": False if no_header else None,
        "encoding": encoding,
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
    if inputs and describe and (user is None or item is None):
        _print_proposal(inputs, user, item, json=json)
        return
    if inputs:
        given = {**columns, "labels": labels, **chosen}
        log = _build_log_options(dataset, inputs, given, named=bool(name) or describe)
        if describe:
            _print_preview(name, log, protocol, split_seed, json=json)
            return
        assert name is not None  # noqa: S101 - _build_log_options checked it
        data = prepare.preprocess_log(name, log, protocol=protocol, split_seed=split_seed)
    else:
        _refuse_log_flags({**columns, "name": name, "describe": describe})
        if dataset is None:
            raise UsageError("no dataset given. Name one, or pass your own log with `--input`.")
        data = prepare.preprocess(
            dataset, protocol=protocol, split_seed=split_seed, options=chosen, labels=labels or ()
        )
    _print_prepared(data, quiet=quiet, json=json)
    console.next_command(f"dart train {data.manifest.dataset}")


def _refuse_log_flags(given: dict[str, Any]) -> None:
    """Raise UsageError if a flag that needs ``--input`` was given."""
    for key, value in given.items():
        if value not in (None, False, []) or (key == "header" and value is False):
            flag = {"header": "no-header"}.get(key, key.replace("_", "-").removesuffix("s"))
            raise UsageError(
                f"--{flag} applies only to your own log. Add its files with `--input`."
            )


def _build_log_options(
    dataset: str | None, inputs: list[str], given: dict[str, Any], *, named: bool
) -> LogOptions:
    from dartcli.data.logs.schema import LogOptions
    from dartcli.settings import validate

    if dataset is not None:
        raise UsageError(
            f"dataset {dataset!r} and --input cannot be combined. To name the log, use "
            f"`--name {dataset}`."
        )
    if not named:
        raise UsageError("--input needs a name for the log. Add one, such as `--name shop`.")
    for flag in ("user", "item"):
        if given[flag] is None:
            raise UsageError(f"--input needs --{flag}, the column with the {flag} ids.")
    given = {key: value for key, value in given.items() if value is not None}
    return validate(LogOptions, {"inputs": inputs, **given}, "dataset").make_absolute()


def _print_proposal(inputs: list[str], user: str | None, item: str | None, *, json: bool) -> None:
    import shlex

    from dartcli.data.logs.propose import propose_columns

    found = propose_columns(inputs, user, item)
    if json:
        console.document(found)
        return
    first = found["rows"][0] if found["rows"] else {}
    tables.table(
        f"Columns of {found['counts']['rows']:,} rows",
        ["column", "type", "distinct values", "first"],
        [
            (name, kind, found["distinct"].get(name), str(first.get(name, "")))
            for name, kind in found["columns"].items()
        ],
    )
    proposed = found["proposed"]
    for role, name in proposed.items():
        if name is None:
            console.note(
                f"no column name says that it holds the {role} ids. Name it with `--{role}`"
            )
    flags = [part for role, name in proposed.items() for part in (f"--{role}", name or "COLUMN")]
    given = [part for path in inputs for part in ("--input", path)]
    console.next_command(shlex.join(["dart", "preprocess", *given, *flags, "--describe"]))


def _print_preview(
    name: str | None, log: LogOptions, protocol: str, split_seed: int, *, json: bool
) -> None:
    from dartcli.data.logs.labels import add_labels
    from dartcli.data.logs.preview import preview_log
    from dartcli.settings import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise UsageError(f"no protocol named {protocol!r}. Choose {' or '.join(PROTOCOLS)}.")
    if name is not None:
        log = log.model_copy(update={"labels": add_labels(name, log.labels)})
    found = preview_log(log, PROTOCOLS[protocol], split_seed)
    if json:
        console.document(found)
        return
    tables.table("Columns", ["column", "type"], list(found["columns"].items()))
    if found["rows"]:
        tables.table(
            "First rows, as read",
            list(found["rows"][0]),
            [tuple(row.values()) for row in found["rows"]],
        )
    tables.table("Counts", list(found["counts"]), [tuple(found["counts"].values())])
    for sentence in found["plan"]:
        console.stdout().print(f"- {sentence}", markup=False)
    console.note("nothing was written. Drop --describe to prepare the log")


def _print_prepared(data: Prepared, *, quiet: bool, json: bool) -> None:
    manifest = data.manifest
    if not data.fresh:
        console.note(f"{manifest.dataset} is already prepared and nothing has changed")
    for warning in manifest.warnings:
        console.warning(warning)
    if json:
        console.document({"folder": str(data.folder), **manifest.model_dump(mode="json")})
        return
    if quiet:
        console.print_line(str(data.folder))
        return
    _print_summary(manifest)
    console.note(f"folder: {data.folder}")


def _print_summary(manifest: Manifest) -> None:
    counts = manifest.counts
    labeled = counts.true_positives + counts.false_positives
    partial = " (partial)" if manifest.complete is False else ""
    # between all and nothing known, the other positives are counted, too
    unknown = [("unknown", counts.unknown)] if labeled and counts.unknown else []
    tables.table(
        f"{manifest.dataset}{partial}, protocol {manifest.protocol}, "
        f"split seed {manifest.split_seed}",
        [
            "users", "items", "true positives", "false positives",
            *(head for head, _ in unknown), "FP share",
        ],
        [
            (
                counts.users,
                counts.items,
                counts.true_positives if labeled else None,
                counts.false_positives if labeled else None,
                *(count for _, count in unknown),
                counts.false_positives / labeled if labeled else None,
            )
        ],
    )  # fmt: skip
    rows = ", ".join(f"{name} {count:,}" for name, count in manifest.rows.items())
    console.stdout().print(f"rows: {rows}", markup=False)
    features = [f"{field.name} ({field.size:,})" for field in manifest.fields[2:]]
    if features:
        console.stdout().print(f"other features: {', '.join(features)}", markup=False)
    if manifest.duplicates_dropped:
        console.note(
            f"dropped {manifest.duplicates_dropped:,} rows for which a later row has the same user "
            "and item"
        )
