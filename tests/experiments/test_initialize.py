"""A training that starts from the weights of a run, with new users and items."""

from pathlib import Path

import polars as pl
import pytest
import torch
from cli.running import DATA, dart, succeed

from dartcli.experiments.configure import configure, load_prepared
from dartcli.experiments.initialize import load_trained_data
from dartcli.experiments.run_index import find_run
from dartcli.serving.predict import predict
from dartcli.training.components import build_model

STILL = ["--learning-rate", "1e-30", "--weight-decay", "0", "--epochs", "1"]
"""Train without moving any weight."""


def write_log(path: Path, users: range, items: range) -> None:
    pairs = [(f"u{u:02}", i) for u in users for i in items if (u * 7 + i * 3) % 5 < 3]
    table = pl.DataFrame(pairs, schema=["user", "item"], orient="row")
    table.with_columns(kind=pl.lit("k") + (pl.col("item") % 3).cast(pl.String)).write_csv(path)


def prepare(path: Path) -> None:
    words = ["--input", str(path), "--user", "user", "--item", "item", "--field", "kind"]
    succeed("preprocess", *words, "--name", "shop")


@pytest.fixture
def grown(home: Path) -> Path:
    """A log of which `old` was trained, and that has got new users and items since."""
    home.mkdir()
    log = home / "log.csv"
    write_log(log, range(2, 30), range(5, 40))
    prepare(log)
    succeed("train", "shop", "--strategy", "base", "--epochs", "2", "--name", "old")
    pl.read_csv(log).head(50).write_csv(home / "rows.csv")
    predict("old", home / "rows.csv", home / "before.parquet")
    write_log(log, range(35), range(50))
    prepare(log)
    return home


@pytest.mark.usefixtures("grown")
def test_known_rows_keep_their_weights_and_new_ones_are_fresh() -> None:
    result = succeed(
        "train", "shop", "--strategy", "base", "--init", "old", "--name", "new", *STILL
    )
    said = " ".join(result.stderr.split())
    # codes, with one for unknown values
    assert "seed 0 starts from run old (user: 29 kept, 7 new; item: 36 kept, 15 new;" in said
    assert "kind: 4 kept, 0 new); the optimizer is reset" in said
    old, new = find_run("old"), find_run("new")
    configuration = configure(new.settings)
    prepared = load_prepared(configuration, 0)
    before = load_trained_data(old, configure(old.settings), 0)
    fresh = build_model(configuration, prepared, 0, torch.device("cpu")).state_dict()
    trained, weights = old.weights(0), new.weights(0)
    assert torch.equal(weights["bias"], trained["bias"])
    start = old_start = 0
    for name, size, old_size in zip(
        prepared.fields, prepared.field_sizes, before.field_sizes, strict=True
    ):
        former = dict(before.ids(name).select("raw", "code").iter_rows())
        for code, raw in prepared.ids(name).select("code", "raw").iter_rows():
            row = weights["embedding.table"][start + code]
            if raw in former:
                assert torch.equal(row, trained["embedding.table"][old_start + former[raw]])
            else:
                expected = fresh["embedding.table"][start + code]
                torch.testing.assert_close(row, expected, rtol=0, atol=1e-20)
        start, old_start = start + size, old_start + old_size


def test_an_old_run_is_used_with_its_own_data_after_the_log_has_changed(grown: Path) -> None:
    predict("old", grown / "rows.csv", grown / "after.parquet")
    assert pl.read_parquet(grown / "after.parquet").equals(
        pl.read_parquet(grown / "before.parquet")
    )
    run = find_run("old")
    kept = load_trained_data(run, configure(run.settings), 0).folder
    (kept / "train.parquet").unlink()
    result = dart(
        "predict", "old", "--input", str(grown / "rows.csv"), "-o", str(grown / "x.parquet")
    )
    assert result.exit_code == 1
    assert "the data of run old have changed" in " ".join(result.stderr.split())


@pytest.mark.usefixtures("grown")
def test_a_run_of_another_model_or_of_other_fields_is_refused() -> None:
    other = dart("train", "shop", "--init", "old", "--model", "lr")
    assert other.exit_code == 2
    assert "`--model fm`" in " ".join(other.stderr.split())
    fields = dart("train", "synthetic", *DATA, "--init", "old")
    assert fields.exit_code == 2
    assert "its fields are user, item, kind, not user, item" in " ".join(fields.stderr.split())
    assert dart("train", "shop", "--init", "none").exit_code == 2
