"""``dart score``: every training interaction, the most doubtful first."""

import json
import math
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import polars as pl
import pytest
import torch
from running import dart, succeed
from sklearn.metrics import roc_auc_score

from dartcli.data.tensors import to_interactions
from dartcli.experiments.configure import configure, load_prepared
from dartcli.experiments.run_index import find_run
from dartcli.reporting.analyze import run_analysis
from dartcli.training.grants import draw_trusted

TRAIN = [
    "train", "synthetic", "--set", "dataset.users=200", "--set", "dataset.items=120", "--set",
    "dataset.interactions=5000", "--set", "dataset.quality=3", "--epochs", "4", "--batch-size",
    "512", "--learning-rate", "0.01",
]  # fmt: skip
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["run", "seed", "output", "rows", "interactions", "trusted", "has_probabilities",
                 "auc", "log_loss", "prior_log_loss", "top"],
    "properties": {
        "run": {"type": "string"},
        "seed": {"type": "integer"},
        "output": {"type": ["string", "null"]},
        "rows": {"type": "integer"},
        "interactions": {"type": "integer"},
        "trusted": {"type": "integer"},
        "has_probabilities": {"type": "boolean"},
        "log_loss": {"type": ["number", "null"]},
        "auc": {"type": ["number", "null"]},
        "prior_log_loss": {"type": ["number", "null"]},
        "top": {"type": "array", "items": {"type": "object"}},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("scored") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(place))
        patch.delenv("DART_MIRROR", raising=False)
        patch.setenv("COLUMNS", "80")
        succeed(*TRAIN, "--name", "plain", "--strategy", "base")
        succeed(*TRAIN, "--name", "granted", "--strategy", "trusted", "--trusted", "800")
        succeed(*TRAIN, "--name", "perfect", "--strategy", "clean")
        yield place


def training_positives(run: str) -> pl.DataFrame:
    found = find_run(run)
    prepared = load_prepared(configure(found.settings), 0)
    rows = prepared.split("train").with_row_index("row").filter(pl.col("label") > 0)
    for name in ("user", "item"):
        ids = prepared.ids(name).rename({"code": name, "raw": f"raw_{name}"})
        rows = rows.join(ids, on=name)
    return rows


def read(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("run", ["plain", "granted"])
def test_every_training_interaction_is_listed_once_with_its_raw_ids(
    home: Path, tmp_path: Path, run: str, suffix: str
) -> None:
    path = tmp_path / f"doubtful.{suffix}"
    result = succeed("score", run, "-o", str(path))
    assert result.stdout == f"{path}\n"
    table, expected = read(path), training_positives(run)
    pairs = set(zip(expected["raw_user"], expected["raw_item"], strict=True))
    assert set(zip(table["user"], table["item"], strict=True)) == pairs
    assert len(table) == len(pairs) == len(expected)
    assert table["rank"].to_list() == list(range(1, len(table) + 1))
    seen: Counter[Any] = Counter()
    for user, rank in zip(table["user"], table["rank_in_user"], strict=True):
        seen[user] += 1
        assert rank == seen[user]
    users, items = (Counter(expected[f"raw_{name}"]) for name in ("user", "item"))
    for row in table.head(200).iter_rows(named=True):
        assert row["user_positives"] == users[row["user"]]
        assert row["item_positives"] == items[row["item"]] == -row["rarity"]


def test_without_labels_it_is_a_ranking_and_says_so(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    result = succeed("score", "plain", "-o", str(path))
    assert "this is a ranking" in result.stderr
    assert "--trusted 500" in result.stderr
    table = read(path)
    assert table["p_false_positive"].null_count() == table["action"].null_count() == len(table)
    assert table["relative_loss"].is_sorted(descending=True)
    assert not table["trusted"].any()


def test_probabilities_come_from_the_granted_labels_alone(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    result = succeed("score", "granted", "-o", str(path))
    assert "probabilities come from 800 trusted labels" in result.stderr
    truth = training_positives("granted").select(
        "row", "noisy", pl.col("raw_user").alias("user"), pl.col("raw_item").alias("item")
    )
    table = read(path).join(truth, on=["user", "item"], maintain_order="left")
    prepared = load_prepared(configure(find_run("granted").settings), 0)
    rows = to_interactions(prepared.split("train"), prepared.fields, torch.device("cpu"))
    granted = set(draw_trusted(rows, 800, 0, "trusted").tolist())
    assert {row["row"] for row in table.iter_rows(named=True) if row["trusted"]} == granted
    # a trusted row has its own label, and comes last
    assert not table["trusted"][: -len(granted)].any()
    settled, open_ = table.tail(len(granted)), table.head(-len(granted))
    assert (settled["p_false_positive"] == settled["noisy"].cast(pl.Float32)).all()
    assert open_["p_false_positive"].is_sorted(descending=True)
    prior = settled["noisy"].mean()
    for row in table.iter_rows(named=True):
        p = row["p_false_positive"]
        action = {True: "relabel" if p else "keep", False: "soft-label" if p > prior else "keep"}
        assert row["action"] == action[row["trusted"]]
    assert roc_auc_score(open_["noisy"], open_["p_false_positive"]) > 0.6


def test_a_run_of_another_strategy_uses_its_grants_too(home: Path, tmp_path: Path) -> None:
    succeed(*TRAIN, "--name", "base-granted", "--strategy", "base", "--trusted", "800")
    for run in ("base-granted", "granted"):
        succeed("score", run, "-o", str(tmp_path / f"{run}.parquet"))
    # the first stage of `trusted` is plain training
    one, other = (read(tmp_path / f"{run}.parquet") for run in ("base-granted", "granted"))
    assert one.equals(other)


def test_top_stdout_and_json_agree(home: Path) -> None:
    out = succeed("score", "granted", "--top", "7", "-o", "-").stdout
    table = pl.read_csv(StringIO(out))
    assert table["rank"].to_list() == list(range(1, 8))
    document = json.loads(succeed("score", "granted", "--top", "7", "--json").stdout)
    jsonschema.validate(document, SCHEMA)
    assert document["rows"] == len(document["top"]) == 7
    assert document["interactions"] == len(training_positives("granted"))
    for row, expected in zip(document["top"], table.iter_rows(named=True), strict=True):
        assert row.keys() == expected.keys()
        assert (row["user"], row["item"]) == (expected["user"], expected["item"])
    shown = succeed("score", "granted").stdout
    assert f"10 of {document['interactions']:,} training interactions" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["perfect"], 1, "strategy `clean` was trained on the known"),
        (["plain", "--seed", "5"], 2, "has no seed 5"),
        (["plain", "--top", "0"], 2, "--top is 0"),
        (["plain", "-o", "a.xlsx"], 2, "`.parquet` or `.csv`"),
        (["plain", "--json", "-o", "-"], 2, "--json and `-o -` both print on stdout"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    home: Path, words: list[str], code: int, sentence: str
) -> None:
    result = dart("score", *words)
    assert result.exit_code == code
    assert sentence in result.stderr.replace("\n", " ")


def test_the_name_of_the_output_is_checked_before_scoring(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed("score", "plain", "--top", "3", "-o", str(tmp_path / "A.CSV"))
    assert len(pl.read_csv(tmp_path / "A.CSV")) == 3
    succeed("score", "plain", "--top", "3", "-o", str(tmp_path / "A.Parquet"))
    assert len(pl.read_parquet(tmp_path / "A.Parquet")) == 3

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("scored before the name was checked")

    monkeypatch.setattr("dartcli.serving.score.identify_run", fail)
    result = dart("score", "plain", "-o", "a.xlsx")
    assert (result.exit_code, "`.parquet` or `.csv`" in result.stderr) == (2, True)


def test_identification_is_measured_on_rows_whose_label_was_not_granted(
    home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "a.parquet"
    succeed("score", "granted", "-o", str(path))
    truth = training_positives("granted").select(
        "noisy", pl.col("raw_user").alias("user"), pl.col("raw_item").alias("item")
    )
    table = read(path).join(truth, on=["user", "item"]).filter(~pl.col("trusted"))
    noisy = table["noisy"].to_numpy()
    result = run_analysis("identification", ["granted"], {})
    (seed,) = result.numbers["runs"][0]["seeds"]
    assert seed["positives"] == len(table)
    assert seed["false_positive_share"] == pytest.approx(noisy.mean())
    columns = {"detector": "p_false_positive"} | {
        name: name for name in ("loss", "rarity", "relative_loss", "self_influence")
    }
    assert set(seed["ranked_by"]) == {*columns, "oracle"}
    for name, column in columns.items():
        found = seed["ranked_by"][name]
        assert found["auc"] == pytest.approx(roc_auc_score(noisy, table[column]))
        assert found["precision"][-1] == pytest.approx(noisy.mean())
    # the rows that are doubted most: ties apart, plain counting
    p = table["p_false_positive"].to_numpy()
    most = np.argsort(-p, kind="stable")[: len(p) // 2]
    assert seed["ranked_by"]["detector"]["precision"][99] == pytest.approx(
        noisy[most].mean(), abs=0.01
    )
    gaps = []
    for low in range(10):
        inside = (p * 10).astype(int).clip(max=9) == low
        if inside.any():
            gaps.append(inside.mean() * abs(p[inside].mean() - noisy[inside].mean()))
            assert seed["calibration"]["observed"][low] == pytest.approx(noisy[inside].mean())
    assert seed["calibration"]["error"] == pytest.approx(sum(gaps), abs=1e-6)
    assert "expected calibration error" in result.sentences[0]


def test_the_oracle_ranks_by_the_rates_among_all_other_labels(home: Path, tmp_path: Path) -> None:
    succeed("score", "granted", "-o", str(tmp_path / "a.parquet"))
    granted = read(tmp_path / "a.parquet").filter("trusted").select("user", "item").rows()
    trusted, rows = set(granted), training_positives("granted").to_dicts()
    prior = sum(row["noisy"] for row in rows) / len(rows)
    by_code: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        for side in ("user", "item"):
            by_code.setdefault((side, row[side]), []).append(row)
    noisy, scores = [], []
    for row in rows:
        if (row["raw_user"], row["raw_item"]) in trusted:
            continue
        score = 0.0
        for side in ("user", "item"):
            others = [one["noisy"] for one in by_code[side, row[side]] if one is not row]
            rate = (sum(others) + 5 * prior) / (len(others) + 5)
            score += math.log(rate / (1 - rate))
        noisy.append(row["noisy"])
        scores.append(score)
    assert len(trusted) == 800
    result = run_analysis("identification", ["granted"], {})
    found = result.numbers["runs"][0]["seeds"][0]["ranked_by"]["oracle"]
    assert found["auc"] == pytest.approx(roc_auc_score(noisy, scores))
    top = np.argsort(scores)[::-1][: round(0.25 * len(scores))]
    assert found["precision"][49] == pytest.approx(np.array(noisy)[top].mean(), abs=0.01)
    # it is the best ranking, but no signal
    aucs = {name: one["auc"] for name, one in
            result.numbers["runs"][0]["seeds"][0]["ranked_by"].items()}  # fmt: skip
    assert max(aucs, key=lambda name: aucs[name]) == "oracle"
    assert "oracle" not in result.sentences[0]
    assert "oracle (all labels)" in {row[1] for row in result.tables[0].rows}
    labels = result.figures["precision"].axes[0].get_legend_handles_labels()[1]
    assert "oracle (all labels)" in labels


def test_identification_without_labels_says_what_is_missing(home: Path) -> None:
    result = run_analysis("identification", ["plain"], {})
    assert "No trusted labels were granted" in result.sentences[0]
    assert set(result.figures) == {"precision"}
