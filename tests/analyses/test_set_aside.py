"""The verdict from labeled interactions that no training has seen."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import dartcli
from dartcli.data import prepare
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import RunError
from dartcli.experiments.run import Run
from dartcli.reporting.analyze import run_analysis

TRAINING = {"epochs": 6, "batch_size": 256, "learning_rate": 0.02}


def prepare_log(path: Path, *, labeled: int, wanted: bool = True) -> None:
    """Prepare a log in which half of the items are clicked, but not wanted; or all of them."""
    random = np.random.default_rng(0)
    pairs = sorted({(int(u), int(i)) for u, i in random.integers(0, (120, 60), (3600, 2))})
    user, item = (np.array(column) for column in zip(*pairs, strict=True))
    chosen = random.permutation(len(pairs)) < labeled
    pl.DataFrame(
        {
            "user": [f"u{number}" for number in user],
            "item": [f"i{number}" for number in item],
            "wanted": [
                bool(wanted and item[n] % 2) if chosen[n] else None for n in range(len(pairs))
            ],
        }
    ).write_parquet(path)
    log = LogOptions(inputs=(str(path),), user="user", item="item", noisy_if="NOT wanted")
    prepare.preprocess_log("shop", log)


def train(name: str, **keys: object) -> Run:
    return dartcli.train("shop", name=name, training=TRAINING, seeds=(0, 1), **keys)


@pytest.fixture
def shop(home: Path, tmp_path: Path) -> None:
    prepare_log(tmp_path / "log.parquet", labeled=600)


@pytest.mark.usefixtures("shop")
def test_labels_that_tell_help_and_the_test_labels_are_a_third() -> None:
    runs = [train("base", strategy="base"), train("taught", strategy="trusted", trusted="all")]
    result = run_analysis("set-aside", runs)
    (one,) = result.numbers["runs"]
    assert one["labels"] == 600
    for run in runs:
        for seed in run.seeds:
            noisy = run.scores(seed).filter((pl.col("split") == "test") & (pl.col("label") > 0))
            assert len(noisy) - noisy["noisy"].null_count() == 200
    assert one["verdict"] == "helps"
    assert result.sentences[0].startswith("taught helps: AUC against clean labels minus that of")
    labeled = [seed.test_auc_labeled for seed in runs[1].metrics.seeds]
    assert one["auc"] == pytest.approx(labeled, abs=1e-6)
    assert not any("also differ" in sentence for sentence in result.sentences)
    other = train("deep", strategy="trusted", trusted="all", model="deepfm")
    sentences = run_analysis("set-aside", [runs[0], other]).sentences
    assert any(words.startswith("deep and base also differ in model.name") for words in sentences)
    same = run_analysis("set-aside", [runs[0], train("copy", strategy="base")])
    assert same.sentences[0] == "copy is the same model as base (equal weights)."
    chosen = train("chosen", strategy="base", trusted_valid=20)
    assert run_analysis("set-aside", [chosen, runs[0]]).numbers["base"]["run"] == "base"


@pytest.mark.usefixtures("shop")
def test_user_activity_says_that_unknown_interactions_count_as_wanted() -> None:
    run = train("base", strategy="base")
    result = run_analysis("user-activity", [run])
    # by construction, 600 of the interactions are labeled, and the others are not
    sentence = "Some interactions of shop have no ground truth and count as wanted here."
    assert result.sentences[-1] == sentence
    test = run.scores(0).filter((pl.col("split") == "test") & (pl.col("label") > 0))
    wanted = (~test["noisy"].fill_null(value=False)).sum()
    groups = result.numbers["runs"][0]["seeds"][0]["users"]
    assert sum(group["test_positives"] for group in groups) == wanted
    small = {"name": "synthetic", "options": {"interactions": 2000}}
    full = dartcli.train(small, name="full", strategy="base", training={"epochs": 1})
    sentences = run_analysis("user-activity", [full]).sentences
    assert not any("ground truth" in words for words in sentences)


def test_without_a_wanted_label_there_is_no_verdict(home: Path, tmp_path: Path) -> None:
    prepare_log(tmp_path / "log.parquet", labeled=300, wanted=False)
    result = run_analysis(
        "set-aside", [train("base", strategy="base"), train("other", strategy="popularity")]
    )
    (one,) = result.numbers["runs"]
    assert (one["auc"], one["minus_base"], one["verdict"]) == ([None, None], None, "undecided")
    assert "wanted ones among them" in result.sentences[0]


@pytest.mark.usefixtures("home")
def test_without_labels_or_base_it_says_what_to_do() -> None:
    quick = {"training": {"epochs": 1}}
    run = dartcli.train("synthetic", name="plain", strategy="dart", **quick)
    with pytest.raises(RunError, match="`base`"):
        run_analysis("set-aside", [run])
    small = {"name": "synthetic", "options": {"interactions": 4000}}
    base = dartcli.train(small, name="other", strategy="base", **quick)
    with pytest.raises(RunError, match=r"plain .* and other .* dataset options"):
        run_analysis("set-aside", [run, base])
