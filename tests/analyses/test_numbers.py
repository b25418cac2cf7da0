"""Numbers and files of analyses against independent computations from the run's files."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import dartcli
from dartcli import LogOptions
from dartcli.experiments.run import Run
from dartcli.reporting import figures
from dartcli.reporting.analyze import run_analysis

SMALL = {"users": 80, "items": 90, "interactions": 1500}


@pytest.fixture
def run(home: Path) -> Run:
    return dartcli.train(
        dataset={"name": "synthetic", "options": SMALL},
        strategy={"name": "dart", "options": {"tau_m": 0.3, "t_i": 3, "t_m": 5}},
        training={"epochs": 4, "batch_size": 256, "patience": 4},
        seeds=[0, 1],
    )


def numbers(run: Run, what: str) -> dict[str, object]:
    dartcli.analyze(what, [run])
    folder = run.folder / "analysis" / what
    assert {path.suffix for path in folder.iterdir()} == {
        ".png", ".svg", ".json", ".md", ".tex", ".csv",
    }  # fmt: skip
    assert (folder / f"{what}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert "<svg" in (folder / f"{what}.svg").read_text()[:600]
    found: dict[str, object] = json.loads((folder / "numbers.json").read_text())
    return found


def test_precision_and_recall_follow_from_the_recorded_counts(run: Run) -> None:
    found = numbers(run, "precision-recall")["runs"][0]  # type: ignore[index]
    hits = flagged = false = positives = rare = 0
    for entry in found["seeds"]:
        table = pl.read_parquet(run.seed_folder(entry["seed"]) / "iterations.parquet")
        assert entry["iteration"] == table["iteration"].to_list()
        for position, row in enumerate(table.iter_rows(named=True)):
            precision = row["flagged_false_positives"] / row["flagged"] if row["flagged"] else None
            recall = (
                row["flagged_false_positives"] / row["false_positives"]
                if row["false_positives"]
                else None
            )
            assert entry["precision"][position] == precision
            assert entry["recall"][position] == recall
            baselines = entry["baselines"]
            chance = row["false_positives"] / row["positives"]
            assert baselines["precision"]["random_among_positives"][position] == chance
            assert (
                baselines["precision"]["thesis_noise_share_of_batch"][position]
                == row["false_positives"] / row["rows"]
            )
            share = row["flagged"] / row["positives"]
            assert baselines["recall"]["random_among_positives"][position] == share
            if row["flagged"]:
                assert (
                    baselines["precision"]["item_popularity"][position]
                    == row["rarest_false_positives"] / row["flagged"]
                )
        last = table.filter(pl.col("epoch") == pl.col("epoch").max())
        hits += last["flagged_false_positives"].sum()
        rare += last["rarest_false_positives"].sum()
        flagged += last["flagged"].sum()
        false += last["false_positives"].sum()
        positives += last["positives"].sum()
    summary = found["last_epoch"]
    assert summary["precision"] == pytest.approx(hits / flagged)
    assert summary["recall"] == pytest.approx(hits / false)
    assert summary["precision_item_popularity"] == pytest.approx(rare / flagged)
    assert summary["lift"] == pytest.approx((hits / flagged) / (false / positives))


def test_precision_is_that_of_the_interactions_with_ground_truth(
    home: Path, tmp_path: Path
) -> None:
    """In the known third every positive is false, so precision is 1 and lift 1 by construction."""
    rows = [(i % 40, (i * 7) % 31, i % 3 or None) for i in range(1200)]
    log = pl.DataFrame(rows, schema=["user", "item", "dwell"], orient="row")
    log = log.unique(["user", "item"], keep="first", maintain_order=True)
    log.write_parquet(tmp_path / "log.parquet")
    options = LogOptions(
        inputs=(str(tmp_path / "log.parquet"),), user="user", item="item",
        noisy_if="CASE WHEN dwell = 1 THEN TRUE ELSE NULL END",
    )  # fmt: skip
    dartcli.preprocess_log("shop", options)
    run = dartcli.train(
        "shop", strategy={"name": "dart", "options": {"tau_m": 0.5, "t_i": 0, "t_m": 1}}, epochs=2
    )
    assert run.metrics.seeds[0].identification_precision == 1
    found = numbers(run, "precision-recall")["runs"][0]["last_epoch"]  # type: ignore[index]
    names = ("precision", "precision_random_among_positives", "precision_item_popularity", "lift")
    assert [found[name] for name in names] == [1, 1, 1, 1]
    (train,) = [run.scores(0).filter((pl.col("split") == "train") & (pl.col("label") > 0))]
    share = train["noisy"].count() / len(train)
    assert found["share_with_ground_truth"] == pytest.approx(share)
    (sentence, *_) = run_analysis("precision-recall", [run]).sentences
    assert "100.0% of the flagged interactions with ground truth are known false" in sentence
    assert "1.00 times the 100.0% among all positives with ground truth" in sentence


def test_a_seed_whose_training_split_has_no_ground_truth_is_left_out(
    home: Path, tmp_path: Path
) -> None:
    rows = [(i % 40, (i * 7) % 31) for i in range(600)]
    pl.DataFrame(rows, schema=["user", "item"], orient="row").unique(maintain_order=True).write_csv(
        tmp_path / "log.csv"
    )
    (tmp_path / "labels.csv").write_text("user,item,wanted\n0,0,0\n")
    options = LogOptions(
        inputs=(str(tmp_path / "log.csv"),), user="user", item="item",
        labels=(str(tmp_path / "labels.csv"),),
    )  # fmt: skip
    dartcli.preprocess_log("shop", options)
    run = dartcli.train("shop", strategy="dart", epochs=1, seeds=range(12))
    has = [
        seed
        for seed in run.seeds
        if run.scores(seed).filter(pl.col("split") == "train")["noisy"].any()
    ]
    assert 0 < len(has) < 12
    found = run_analysis("precision-recall", [run])
    assert [seed["seed"] for seed in found.numbers["runs"][0]["ranking"]["seeds"]] == has
    json.dumps(found.numbers, allow_nan=False)
    assert not any("nan" in sentence for sentence in found.sentences)
    for what in ("memorization", "dataset", "user-activity"):
        json.dumps(run_analysis(what, [run]).numbers, allow_nan=False)
    single = dartcli.train("shop", strategy="base", epochs=1, seeds=has[:1])
    (seed,) = run_analysis("identification", [single]).numbers["runs"][0]["seeds"]
    assert seed["positives"] == 1
    assert set(seed["ranked_by"]) == {"loss", "rarity", "relative_loss", "self_influence"}


def test_identification_belongs_to_the_reported_epoch(home: Path) -> None:
    run = dartcli.train(
        dataset={"name": "synthetic", "options": SMALL},
        strategy={"name": "dart", "options": {"tau_m": 0.3, "t_m": 12}},
        training={"epochs": 6, "batch_size": 256, "patience": 6, "learning_rate": 0.1},
        seeds=[0, 1],
    )
    found = numbers(run, "precision-recall")["runs"][0]  # type: ignore[index]
    assert any(seed.reported_epoch < seed.epochs for seed in run.metrics.seeds)
    hits = flagged = false = 0
    for seed in run.metrics.seeds:
        table = pl.read_parquet(run.seed_folder(seed.seed) / "iterations.parquet")
        rows = [row for row in table.to_dicts() if row["epoch"] == seed.reported_epoch]
        mine = [sum(row[name] for row in rows) for name in (
            "flagged_false_positives", "flagged", "false_positives", "positives",
        )]  # fmt: skip
        assert seed.flagged_share == mine[1] / mine[3]
        assert seed.identification_recall == mine[0] / mine[2]
        if mine[1]:
            assert seed.identification_precision == mine[0] / mine[1]
        hits, flagged, false = hits + mine[0], flagged + mine[1], false + mine[2]
    assert found["reported_epoch"]["recall"] == pytest.approx(hits / false)
    assert found["reported_epoch"]["precision"] == pytest.approx(hits / flagged)
    assert found["reported_epoch"]["epochs"] == {
        str(seed.seed): seed.reported_epoch for seed in run.metrics.seeds
    }
    sentences = dartcli.analyze("precision-recall", [run]).sentences
    assert "in the reported epoch" in sentences[0]
    assert "in the last epoch" in sentences[1]


def test_memorization_has_the_recorded_losses(run: Run) -> None:
    found = numbers(run, "memorization")["runs"][0]  # type: ignore[index]
    for entry in found["seeds"]:
        table = pl.read_parquet(run.seed_folder(entry["seed"]) / "iterations.parquet")
        for kind in ("true_positive", "false_positive", "negative"):
            assert entry[f"loss_{kind}"] == table[f"loss_{kind}"].to_list()
    tables = [run.iterations(seed).filter(pl.col("epoch") == 1) for seed in run.seeds]
    expected = pl.concat(tables)["loss_false_positive"].mean()
    assert found["first_epoch"]["false_positive"] == pytest.approx(expected)


def test_figures_drawn_again_have_the_same_bytes(run: Run) -> None:
    path = run.folder / "analysis/memorization/memorization.svg"
    dartcli.analyze("memorization", [run])
    first = path.read_bytes()
    dartcli.analyze("memorization", [run])
    assert path.read_bytes() == first


def test_two_runs_share_one_result_in_the_folder_of_the_first(run: Run) -> None:
    second = dartcli.train(run.settings, strategy="base", name="plain")
    result = dartcli.analyze("memorization", [second, run])
    assert [row[0] for row in result.tables[0].rows] == ["plain", "plain", "run_01", "run_01"]
    assert result.files[0].parent == second.folder / "analysis/memorization"


def test_smoothing_pools_counts_over_windows() -> None:
    above = np.array([1.0, 2.0, np.nan, 0.0, 4.0])
    below = np.array([2.0, 2.0, 1.0, 0.0, 8.0])
    found = figures.smooth(above, below, 3)
    expected = [3 / 4, 3 / 4, 2 / 2, 4 / 8, 4 / 8]
    assert found.tolist() == pytest.approx(expected)
    assert np.isnan(figures.smooth(np.zeros(2), np.zeros(2), 1)).all()


def test_identification_needs_known_false_positives(home: Path) -> None:
    clean = {**SMALL, "false_positive_rate": 0.0}
    run = dartcli.train(
        dataset={"name": "synthetic", "options": clean}, training={"epochs": 1, "batch_size": 256}
    )
    for what in ("memorization", "precision-recall"):
        with pytest.raises(dartcli.DartError, match=run.name):
            dartcli.analyze(what, [run])
