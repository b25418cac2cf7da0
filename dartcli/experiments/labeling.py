"""Choose the interactions worth asking about, and write them to a file of questions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
import polars as pl

from dartcli.data import prepare
from dartcli.data.columns import ITEM, LABEL, NOISY, USER, WANTED
from dartcli.data.logs.labels import load_labels, match_labels
from dartcli.data.manifest import Prepared
from dartcli.data.registry import find_dataset
from dartcli.errors import DataError, UsageError, first_line
from dartcli.experiments.configure import load_run_data, read_interactions
from dartcli.experiments.run import Run
from dartcli.settings import validate
from dartcli.storage import paths
from dartcli.storage.atomic import atomic_write
from dartcli.storage.tables import READ_ERRORS, write_table

Rule = Literal["random", "coverage", "uncertainty"]
RULES: Final = ("random", "coverage", "uncertainty")
SUFFIXES: Final = (".csv", ".parquet")


def choose_questions(
    dataset: str,
    number: int,
    *,
    by: Rule = "random",
    run: Run | None = None,
    show: Sequence[str] = (),
    seed: int = 0,
) -> tuple[pl.DataFrame, int]:
    """Choose training positives to ask about.

    Parameters
    ----------
    dataset
        Its split of seed 0 under ``strict`` is asked about, or that of the first seed of ``run``.
    number
        How many; fewer if there are not as many candidates.
    by
        ``random``: every candidate is equally likely. Otherwise, a third is drawn like that, and
        the others are those that cover new users and items (``coverage``), or whose logit under
        ``run`` is closest to zero (``uncertainty``).
    run
        A finished run on the same dataset; for ``uncertainty``, and only for it.
    show
        Further columns of the source that help to answer.
    seed
        Seed of the random choice.

    Returns
    -------
    questions : DataFrame
        ``user``, ``item`` (raw ids), the shown columns, and ``wanted`` (null), in random order.
    candidates : int
        Training positives without ground truth, or, if all have it, without a label.

    Raises
    ------
    DartError
        If there are no candidates, a column cannot be shown, or the run does not fit.
    """
    _check_request(dataset, by, run, show)
    prepared = prepare.preprocess(dataset) if run is None else load_run_data(run, run.seeds[0])[1]
    random = np.random.default_rng(seed)
    candidates = _find_candidates(dataset, prepared)
    candidates = candidates[random.permutation(len(candidates))]
    drawn = min(number if by == "random" else -(-number // 3), len(candidates))
    chosen = list(range(drawn))
    if by == "coverage":
        chosen += _cover(candidates, drawn, number)
    elif run is not None:
        chosen += _find_uncertain(candidates, run, drawn)[: number - drawn]
    asked = candidates[random.permutation(chosen)]
    asked = pl.DataFrame([prepared.decode(name, asked[name]) for name in (USER, ITEM)])
    if show:
        asked = _add_details(asked, dataset, prepared, show)
    return asked.with_columns(pl.lit(None, pl.Int8).alias(WANTED)), len(candidates)


def _check_request(dataset: str, by: Rule, run: Run | None, show: Sequence[str]) -> None:
    if by not in RULES:
        raise UsageError(f"no rule {by!r} for --by. Choose {', '.join(RULES)}.")
    if by == "uncertainty" and run is None:
        raise UsageError(
            f"--by uncertainty needs a finished run. Name one, as in `dart label {dataset} RUN "
            "--by uncertainty`."
        )
    if by != "uncertainty" and run is not None:
        raise UsageError(
            f"run {run.name} is used only by --by uncertainty. Add the rule, or drop the run."
        )
    if run is not None and run.metrics.dataset != dataset:
        raise UsageError(
            f"{run.name} was trained on {run.metrics.dataset}. Name a run on {dataset}."
        )
    for name in show:
        if name in (USER, ITEM, WANTED) or show.count(name) > 1:
            raise UsageError(f"cannot show `{name}`: the file already has a column of that name.")


def _find_candidates(dataset: str, prepared: Prepared) -> pl.DataFrame:
    """Return the codes of the training positives worth asking about."""
    positives = prepared.split("train").filter(pl.col(LABEL) > 0).select(USER, ITEM, NOISY)
    unknown = positives.filter(pl.col(NOISY).is_null())
    candidates = (positives if unknown.is_empty() else unknown).drop(NOISY)
    interactions = read_interactions(prepared)
    ids = {name: prepared.ids(name) for name in (USER, ITEM)}
    for file in load_labels(dataset):
        labeled, _, _ = match_labels(Path(file), interactions, ids)
        candidates = candidates.join(labeled, on=[USER, ITEM], how="anti", maintain_order="left")
    if candidates.is_empty():
        raise DataError(f"every training positive of {dataset} is labeled. Train with them.")
    return candidates


def _cover(candidates: pl.DataFrame, drawn: int, number: int) -> list[int]:
    """Return positions after the first ``drawn``: both ids new, then one, then the others."""
    users, items = (set(candidates[name][:drawn]) for name in (USER, ITEM))
    chosen: dict[int, None] = {}
    for needed in (2, 1, 0):
        # read row by row, because the first rows are mostly enough
        for position, (user, item) in enumerate(candidates[drawn:].iter_rows(), drawn):
            if drawn + len(chosen) == number:
                return list(chosen)
            new = (user not in users) + (item not in items)
            if new >= needed and position not in chosen:
                chosen[position] = None
                users.add(user)
                items.add(item)
    return list(chosen)


def _find_uncertain(candidates: pl.DataFrame, run: Run, drawn: int) -> list[int]:
    """Return positions after the first ``drawn``, by the distance of the logit from zero."""
    scores = run.scores(run.seeds[0]).filter((pl.col("split") == "train") & (pl.col(LABEL) > 0))
    logit = candidates.join(
        scores.select(USER, ITEM, "logit"), on=[USER, ITEM], how="left", maintain_order="left"
    )["logit"]
    order = np.argsort(logit.abs().to_numpy(), kind="stable")
    return [int(position) for position in order if position >= drawn]


def _add_details(
    asked: pl.DataFrame, dataset: str, prepared: Prepared, show: Sequence[str]
) -> pl.DataFrame:
    """Return ``asked`` with further columns of the source."""
    known = find_dataset(dataset)
    if known.read_details is None:
        raise UsageError(f"{dataset} has no columns to show. Drop `--show`.")
    options = validate(known.options, prepared.manifest.options, "dataset")
    try:
        details = known.read_details(paths.raw_data(dataset), options, show)
        keys = [name for name in (USER, ITEM) if name in details.collect_schema()]
        # ids may have another type in the source, such as an enumeration
        text = [pl.col(name).cast(pl.String).alias(f"\0{name}") for name in keys]
        join = [f"\0{name}" for name in keys]
        asked = asked.with_columns(text)
        found = (
            details.select(*text, *show)
            .join(asked.lazy().select(join), on=join, how="semi")
            .collect()
            .unique(join, keep="last", maintain_order=True)
        )
    except READ_ERRORS as error:
        raise DataError(f"cannot read the columns to show: {first_line(error)}.") from error
    return asked.join(found, on=join, how="left", maintain_order="left").drop(join)


def check_output(path: Path) -> None:
    """Raise UsageError if questions cannot be written to ``path``.

    An existing file may contain answers, so it is never replaced.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"cannot write {path}: its name must end in {' or '.join(SUFFIXES)}.")
    if path.exists():
        raise UsageError(
            f"{path} already exists and may contain answers. Choose another `-o`, or remove it."
        )


def write_questions(questions: pl.DataFrame, path: Path) -> None:
    """Write ``questions`` as CSV or Parquet, by the suffix of ``path``."""
    check_output(path)
    with atomic_write(path) as temporary:
        if path.suffix.lower() == ".parquet":
            write_table(questions, temporary)
        else:
            temporary.write_text(questions.write_csv(), encoding="utf-8")
