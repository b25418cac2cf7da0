"""Questions about interactions: which are asked, what the file contains, and the way back."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner, Result

import dartcli
from dartcli.cli import app
from dartcli.data import prepare
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import DataError, UsageError
from dartcli.experiments.labeling import choose_questions
from dartcli.experiments.run import Run

Pairs = set[tuple[str, str]]
DRAWS = 120


def dart(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def log() -> pl.DataFrame:
    """Distinct pairs; text ids for users, and numbers for items; a third has no dwell time."""
    random = np.random.default_rng(0)
    pairs = sorted({(int(u), int(i)) for u, i in random.integers(0, (30, 40), (400, 2))})
    return pl.DataFrame(
        {
            "user_id": [f"{user:03}" for user, _ in pairs],
            "item_id": [item for _, item in pairs],
            "dwell": [None if place % 3 == 0 else float(place % 20) for place in range(len(pairs))],
            "title": [f"{user}, {item}" for user, item in pairs],
        }
    )


@pytest.fixture
def shop(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogOptions:
    monkeypatch.chdir(tmp_path)
    log().write_parquet("log.parquet")
    options = LogOptions(
        inputs=("log.parquet",), user="user_id", item="item_id", noisy_if="dwell < 5"
    )
    prepare.preprocess_log("shop", options)
    return options


def pairs_of(table: pl.DataFrame) -> Pairs:
    return set(table.select(pl.col("user", "item").cast(pl.String)).rows())


def training_pairs(dataset: str = "shop", *, unknown_only: bool = True) -> Pairs:
    """Return the raw pairs of the training positives, by plain loops."""
    prepared = prepare.preprocess(dataset)
    raw = {name: prepared.ids(name)["raw"].cast(pl.String).to_list() for name in ("user", "item")}
    return {
        (raw["user"][row["user"]], raw["item"][row["item"]])
        for row in prepared.split("train").iter_rows(named=True)
        if row["label"] > 0 and (row["noisy"] is None or not unknown_only)
    }


def test_only_training_positives_of_unknown_truth_are_asked_about(shop: LogOptions) -> None:
    expected = training_pairs()
    asked, candidates = choose_questions("shop", 10_000)
    assert (pairs_of(asked), candidates) == (expected, len(expected))
    assert len(asked) == len(expected) > 50
    unlabeled = set(log().filter(pl.col("dwell").is_null()).select("user_id", "item_id").rows())
    assert {(user, int(item)) for user, item in pairs_of(asked)} <= unlabeled


def test_every_candidate_is_equally_likely(shop: LogOptions) -> None:
    drawn = Counter[tuple[str, str]]()
    candidates = 0
    for seed in range(DRAWS):
        asked, candidates = choose_questions("shop", 20, seed=seed)
        assert len(asked) == 20
        drawn.update(pairs_of(asked))
    expected = DRAWS * 20 / candidates
    assert set(drawn) == training_pairs()
    # counts are binomial: none is 5 standard deviations away
    assert max(abs(count - expected) for count in drawn.values()) < 5 * expected**0.5


def test_the_same_seed_asks_the_same_questions(shop: LogOptions) -> None:
    first, _ = choose_questions("shop", 20, seed=1)
    assert choose_questions("shop", 20, seed=1)[0].equals(first)
    assert not choose_questions("shop", 20, seed=2)[0].equals(first)


def test_coverage_asks_about_more_users_and_items(shop: LogOptions) -> None:
    asked, _ = choose_questions("shop", 30, by="coverage")
    assert len(pairs_of(asked)) == 30
    # at least two thirds bring a new user and a new item, as long as there are any
    assert asked["user"].n_unique() >= 20
    assert asked["item"].n_unique() >= 20
    random = [choose_questions("shop", 30, seed=seed)[0] for seed in range(20)]
    for name in ("user", "item"):
        assert asked[name].n_unique() > np.mean([one[name].n_unique() for one in random])
    every, candidates = choose_questions("shop", 10_000, by="coverage")
    assert len(pairs_of(every)) == candidates


@pytest.fixture
def run(shop: LogOptions) -> Run:
    return dartcli.train("shop", epochs=2, seeds=[3, 4], batch_size=64)


def test_uncertainty_asks_about_logits_near_zero(run: Run) -> None:
    asked, _ = choose_questions("shop", 30, by="uncertainty", run=run)
    scores = run.scores(3).filter(pl.col("split") == "train")
    prepared = prepare.preprocess("shop", split_seed=3)
    raw = {name: prepared.ids(name)["raw"].cast(pl.String).to_list() for name in ("user", "item")}
    logit = {
        (raw["user"][row["user"]], raw["item"][row["item"]]): abs(row["logit"])
        for row in scores.iter_rows(named=True)
        if row["noisy"] is None
    }
    found = pairs_of(asked)
    assert len(found) == 30
    assert found <= set(logit)
    # all of the 20 nearest are asked about, whatever the random third is
    assert set(sorted(logit, key=lambda pair: logit[pair])[:20]) <= found


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_answers_come_back(shop: LogOptions, suffix: str) -> None:
    path = Path(f"ask.{suffix}")
    result = dart("label", "shop", "-o", path, "--number", 12, "--show", "title")
    assert result.exit_code == 0, result.stderr
    read = pl.read_csv(path, infer_schema=False) if suffix == "csv" else pl.read_parquet(path)
    assert read.columns == ["user", "item", "title", "wanted"]
    assert read["wanted"].null_count() == 12
    for user, item, title in read.select("user", "item", "title").iter_rows():
        assert title == f"{int(user)}, {item}"
    filled = read.with_columns(wanted=pl.Series([1, 0, None] * 4))
    if suffix == "csv":
        filled.write_csv(path)
    else:
        filled.write_parquet(path)
    back = dart("label", "shop", "--answers", path, "--json")
    assert back.exit_code == 0, back.stderr
    assert json.loads(back.stdout) == {
        "dataset": "shop", "file": str(path.absolute()), "rows": 12, "answered": 8, "empty": 4,
        "contradicting": 0, "unknown": 0,
    }  # fmt: skip
    train = prepare.preprocess("shop").split("train")
    before = log().filter(pl.col("dwell").is_not_null() & (pl.col("dwell") < 5))
    counts = prepare.preprocess("shop").manifest.counts
    assert counts.false_positives == len(before) + 4
    assert train.filter(pl.col("label") > 0)["noisy"].null_count() == len(training_pairs())
    # what was answered is not asked again; what was left empty may be
    again, candidates = choose_questions("shop", 10_000)
    answered = pairs_of(filled.drop_nulls("wanted"))
    assert not answered & pairs_of(again)
    assert pairs_of(filled) - answered <= pairs_of(again)
    assert candidates == len(training_pairs())


def test_of_known_truth_everything_may_be_asked_and_nothing_is_revealed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare.preprocess("synthetic", options={"users": 60, "items": 60, "interactions": 900})
    asked, candidates = choose_questions("synthetic", 40)
    assert candidates == 80_000  # the default options: those of the small copy are not remembered
    assert asked.columns == ["user", "item", "wanted"]
    asked.with_columns(wanted=pl.lit(1)).write_csv("a.csv")
    prepare.preprocess("synthetic", labels=["a.csv"])
    assert choose_questions("synthetic", 1)[1] == candidates - 40


def test_an_existing_file_is_never_replaced(shop: LogOptions) -> None:
    Path("ask.csv").write_text("user,item,wanted\n000,1,1\n")
    result = dart("label", "shop", "-o", "ask.csv")
    assert result.exit_code == 2
    assert "ask.csv already exists and may contain answers" in result.stderr
    assert Path("ask.csv").read_text() == "user,item,wanted\n000,1,1\n"


def test_forgotten_labels_are_not_used(shop: LogOptions) -> None:
    choose_questions("shop", 5)[0].with_columns(wanted=pl.lit(1)).write_csv("a.csv")
    unknown = prepare.preprocess("shop").manifest.counts.unknown
    prepare.preprocess("shop", labels=["a.csv"])
    assert prepare.preprocess("shop").manifest.counts.unknown == unknown - 5
    assert dart("label", "shop", "--forget").exit_code == 0
    assert prepare.preprocess("shop").manifest.counts.unknown == unknown
    assert Path("a.csv").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--show", "dwell"], "--noisy-if uses it, so it would reveal the ground truth"),
        (["--show", "titel"], "no column `titel` to show. Did you mean `title`?"),
        (["--show", "user"], "cannot show `user`"),
        (["--show", "title", "--show", "title"], "cannot show `title`"),
        (["--by", "chance"], "no rule 'chance' for --by"),
        (["--by", "uncertainty"], "--by uncertainty needs a finished run"),
    ],
)
def test_requests_that_do_not_fit_are_refused(
    shop: LogOptions, words: list[str], sentence: str
) -> None:
    result = dart("label", "shop", "-o", "ask.csv", *words)
    assert result.exit_code in (1, 2)
    assert sentence in " ".join(result.stderr.split())
    assert not Path("ask.csv").exists()


def test_one_of_the_three_actions_is_named(shop: LogOptions) -> None:
    for words in ([], ["-o", "a.csv", "--forget"], ["--answers", "a.csv", "--show", "title"]):
        assert dart("label", "shop", *words).exit_code == 2


def test_a_run_on_other_data_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="was trained on shop"):
        choose_questions("synthetic", 5, by="uncertainty", run=run)
    with pytest.raises(UsageError, match="is used only by --by uncertainty"):
        choose_questions("shop", 5, run=run)


def test_a_fully_labeled_dataset_has_no_questions(shop: LogOptions) -> None:
    pairs = pl.DataFrame(sorted(training_pairs(unknown_only=False)), ["user", "item"], orient="row")
    pairs.with_columns(wanted=pl.lit(1)).write_csv("a.csv")
    prepare.preprocess("shop", labels=["a.csv"])
    with pytest.raises(DataError, match="every training positive of shop is labeled"):
        choose_questions("shop", 5)


@pytest.mark.realdata
def test_movielens_has_titles(mirrored_home: Path) -> None:
    asked, _ = choose_questions("movielens-100k", 50, show=["title"])
    assert asked.columns == ["user", "item", "title", "wanted"]
    assert asked["title"].null_count() == 0
    with pytest.raises(DataError, match="Use `--show title`"):
        choose_questions("movielens-100k", 50, show=["rating"])


@pytest.mark.realdata
def test_without_titles_a_sentence_says_how_to_get_them(mirrored_home: Path) -> None:
    prepare.preprocess("movielens-100k")
    path = mirrored_home / "raw/movielens-100k/ml-100k/u.item"
    path.unlink()
    with pytest.raises(DataError, match=r"u\.item is missing\. Run `dart download movielens"):
        choose_questions("movielens-100k", 5, show=["title"])
    assert len(choose_questions("movielens-100k", 5)[0]) == 5


def test_a_dataset_without_details_has_nothing_to_show(home: Path) -> None:
    with pytest.raises(UsageError, match="synthetic has no columns to show"):
        choose_questions("synthetic", 5, show=["title"])


def test_training_on_partly_known_truth_says_so(shop: LogOptions) -> None:
    flags = ["--epochs", 2, "--batch-size", 64, "--tau-m", 0.5, "--t-i", 0, "--t-m", 1]
    done = dart("train", "shop", "--strategy", "dart", *flags)
    assert done.exit_code == 0, done.stderr
    assert "% of those with ground truth are known false positives" in done.stderr
    refused = dart("train", "shop", "--strategy", "clean", "--epochs", 1)
    assert refused.exit_code == 1
    assert "positives have no ground truth" in refused.stderr


def test_settings_state_the_labels_so_a_run_is_repeated_with_them(shop: LogOptions) -> None:
    before = dartcli.train("shop", epochs=1)
    asked, _ = choose_questions("shop", 20)
    asked.with_columns(wanted=pl.lit(0)).write_csv("a.csv")
    prepare.preprocess("shop", labels=["a.csv"])
    after = dartcli.train("shop", epochs=1)
    assert after.settings.dataset.options["labels"] == [str(Path("a.csv").absolute())]
    for run in (before, after):
        assert dartcli.train(run.settings).identity(0) == run.identity(0)
    counts = [
        one.scores(0).filter(pl.col("split") == "train")["noisy"].null_count()
        for one in (before, after)
    ]
    assert counts[0] - counts[1] == 20
