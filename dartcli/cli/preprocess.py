"""``dart preprocess``."""

from __future__ import annotations

from typing import Annotated

import typer

from dartcli.cli import options, show
from dartcli.errors import UsageError


def preprocess(
    name: Annotated[str, typer.Argument(metavar="DATASET", help="Data set to encode and split.")],
    protocol: options.Protocol = None,
    split_seed: Annotated[int, typer.Option(min=0, help="Seed of the split.")] = 0,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Encode and split a data set into Parquet; downloads it first if need be."""
    from dartcli import settings, steps

    tree = settings.parse_assignments(set_ or [])
    if set(tree) - {"dataset"}:
        raise UsageError("dart preprocess takes only --set dataset.KEY=VALUE.")
    chosen = tree.get("dataset", {}).get("options", {})
    data = steps.preprocess(
        name,
        protocol=protocol or "strict",
        split_seed=split_seed,
        options=chosen,
        note=show.note,
    )
    manifest = data.manifest
    if not data.fresh:
        show.note(f"{name} was prepared before, and nothing has changed: nothing to do.")
    for warning in manifest.warnings:
        show.note(warning)
    if json:
        show.document({"folder": str(data.folder), **manifest.model_dump(mode="json")})
    else:
        _show(manifest)
        show.note(f"folder: {data.folder}")
    show.next_command(f"dart train {name}")


def _show(manifest: object) -> None:
    from dartcli.data.store import Manifest

    assert isinstance(manifest, Manifest)  # noqa: S101 - keeps polars out of this module's top
    counts = manifest.counts
    known = counts.true_positives + counts.false_positives
    partial = " (partial)" if manifest.complete is False else ""
    show.table(
        f"{manifest.dataset}{partial}, protocol {manifest.protocol}, "
        f"split seed {manifest.split_seed}",
        ["users", "items", "true pos.", "false pos.", "FP share", "train", "valid", "test"],
        [
            (
                counts.users,
                counts.items,
                counts.true_positives if known else None,
                counts.false_positives if known else None,
                counts.false_positives / known if known else None,
                *(manifest.rows[split] for split in ("train", "valid", "test")),
            )
        ],
    )
