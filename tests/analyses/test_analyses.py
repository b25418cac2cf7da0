"""The numbers of each analysis against plain computations from the files of the runs."""

import math
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from checksums import update_checksums
from scipy import stats
from sklearn.metrics import roc_auc_score

from dartcli.analyses import dataset, user_activity
from dartcli.data.logs.registry import register_log
from dartcli.data.logs.schema import LogOptions
from dartcli.errors import RunError, UsageError
from dartcli.experiments.run_index import find_run
from dartcli.experiments.train import train_run
from dartcli.reporting.analyze import run_analysis

SMALL = {"name": "synthetic", "options": {"interactions": 4000}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = tmp_path_factory.mktemp("figures") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DART_HOME", str(home))
        patch.setenv("COLUMNS", "80")
        for name in ("base", "dart"):
            options = {"name": name, "options": {"t_m": 1, "tau_m": 0.2} if name == "dart" else {}}
            train_run(
                dataset=SMALL,
                strategy=options,
                seeds=(0, 1),
                name=name,
                training={"epochs": 6, "batch_size": 256, "snapshots": [10, 30]},
            )
        yield home


def numbers(what: str, *names: str, **options: Any) -> Any:
    return run_analysis(what, list(names), options).numbers


def rows(run: str, seed: int, split: str | None = None, snapshot: int | None = None) -> Any:
    found = find_run(run)
    table = found.scores(seed) if snapshot is None else found.snapshot(seed, snapshot)
    return [row for row in table.to_dicts() if split is None or row["split"] == split]


def loss(row: dict[str, Any]) -> float:
    return math.log1p(math.exp(-row["logit"]))


@pytest.mark.parametrize("iteration", [10, 30])
def test_loss_distribution_matches_scipy_on_the_snapshot(trained: Path, iteration: int) -> None:
    found = numbers("loss-distribution", "base", iteration=iteration)["runs"][0]
    assert found["iteration"] == iteration
    for entry in found["seeds"]:
        positive = [row for row in rows("base", entry["seed"], snapshot=iteration) if row["label"]]
        false = [loss(row) for row in positive if row["noisy"]]
        true = [loss(row) for row in positive if not row["noisy"]]
        welch = stats.ttest_ind(false, true, equal_var=False)
        assert entry["mean_loss_false_positive"] == pytest.approx(statistics.fmean(false))
        assert entry["mean_loss_true_positive"] == pytest.approx(statistics.fmean(true))
        assert entry["welch_t"] == pytest.approx(welch.statistic)
        assert entry["welch_p"] == pytest.approx(welch.pvalue)
        n, m = len(false), len(true)
        pooled = ((n - 1) * statistics.variance(false) + (m - 1) * statistics.variance(true)) / (
            n + m - 2
        )
        d = (statistics.fmean(false) - statistics.fmean(true)) / math.sqrt(pooled)
        assert entry["cohens_d"] == pytest.approx(d)
        label = [1] * n + [0] * m
        assert entry["auc_of_loss"] == pytest.approx(roc_auc_score(label, false + true))
    for share in found["pooled"]["share_per_bin"].values():
        assert sum(share) == pytest.approx(1)


def test_loss_distribution_defaults_to_the_last_snapshot_and_lists_them(trained: Path) -> None:
    assert numbers("loss-distribution", "base")["runs"][0]["iteration"] == 30
    with pytest.raises(RunError, match=r"base.*iteration 7.*10, 30"):
        numbers("loss-distribution", "base", iteration=7)
    with pytest.raises(UsageError, match=r"option\.iterations"):
        numbers("loss-distribution", "base", iterations=7)
    with pytest.raises(UsageError, match=r"option\.iteration"):
        numbers("memorization", "base", iteration=7)


def test_a_snapshot_scores_the_model_after_that_iteration(trained: Path) -> None:
    # the run before its first snapshot is the run that ends there
    steps_an_epoch = find_run("base").metrics.seeds[0].iterations // 6
    train_run(
        dataset=SMALL,
        strategy="base",
        name="short",
        training={"epochs": 1, "batch_size": 256, "snapshots": [steps_an_epoch]},
    )
    kept = find_run("short").snapshot(0, steps_an_epoch)
    assert kept.equals(find_run("short").scores(0).filter(pl.col("split") == "valid"))


def test_loss_distribution_of_a_million_validation_rows(trained: Path) -> None:
    folder = find_run("base").folder
    copy = folder.parent / "large"
    shutil.copytree(folder, copy)
    random = np.random.default_rng(0)
    size = 1_000_000
    for seed in (0, 1):
        pl.DataFrame(
            {
                "label": random.integers(0, 2, size).astype(np.uint8),
                "noisy": random.integers(0, 2, size).astype(bool),
                "logit": random.normal(0, 2, size).astype(np.float32),
            }
        ).write_parquet(copy / f"seed_{seed}/snapshots/50.parquet")
    update_checksums(copy)
    found = numbers("loss-distribution", "large", iteration=50)["runs"][0]
    assert sum(entry["true_positives"] for entry in found["seeds"]) > 400_000


def test_equal_losses_have_no_test(trained: Path) -> None:
    folder = find_run("base").folder
    copy = shutil.copytree(folder, folder.parent / "equal")
    table = pl.DataFrame({"label": [1, 1, 1, 1], "noisy": [False, True] * 2})
    for seed in (0, 1):
        # all are equal with seed 0 only
        logit = pl.Series("logit", [0.3, 0.3 - seed, 0.3 + seed, 0.3 + 2 * seed], pl.Float32)
        table.with_columns(logit).write_parquet(copy / f"seed_{seed}/snapshots/50.parquet")
    update_checksums(copy)
    result = run_analysis("loss-distribution", ["equal"], {"iteration": 50})
    first, second = result.numbers["runs"][0]["seeds"]
    assert (first["welch_t"], first["welch_p"], first["cohens_d"]) == (None, None, None)
    assert first["auc_of_loss"] == 0.5
    assert second["welch_p"] > 0
    assert "no test, because the losses of each kind are all equal" in result.sentences[0]
    assert "Cohen" not in result.sentences[0]
    assert result.tables[0].rows[0][5:8] == (None, None, None)


def test_loss_by_rating_matches_plain_grouping_and_scipy(trained: Path) -> None:
    found = numbers("loss-by-rating", "base", "dart")
    means = {}
    for entry in found["runs"]:
        grouped: dict[float, list[float]] = defaultdict(list)
        false: dict[float, list[bool]] = defaultdict(list)
        for seed in (0, 1):
            for row in rows(entry["run"], seed, "valid"):
                if row["label"]:
                    grouped[row["rating"]].append(loss(row))
                    false[row["rating"]].append(row["noisy"])
        ratings = sorted(grouped)
        assert entry["ratings"] == ratings
        assert entry["rows"] == [len(grouped[rating]) for rating in ratings]
        means[entry["run"]] = [statistics.fmean(grouped[rating]) for rating in ratings]
        assert entry["mean_loss"] == pytest.approx(means[entry["run"]])
        assert entry["share_known_false"] == pytest.approx(
            [statistics.fmean(false[rating]) for rating in ratings]
        )
        pearson = stats.pearsonr(ratings, means[entry["run"]])
        spearman = stats.spearmanr(ratings, means[entry["run"]])
        assert (entry["pearson"], entry["pearson_p"]) == pytest.approx(tuple(pearson))
        assert (entry["spearman"], entry["spearman_p"]) == pytest.approx(tuple(spearman))
    (increase,) = found["increases"]
    more = [b - a for a, b in zip(means["base"], means["dart"], strict=True)]
    assert increase["all_ratings"] == pytest.approx(statistics.fmean(more))
    share = found["runs"][0]["share_known_false"]
    of_false = [change for change, part in zip(more, share, strict=True) if part > 0.5]
    assert increase["false_positive_ratings"] == pytest.approx(statistics.fmean(of_false))


def least_active(counts: dict[int, int]) -> set[int]:
    total, found = 0, set()
    for code, count in sorted(counts.items(), key=lambda pair: (pair[1], pair[0])):
        if (total + count / 2) * 5 / sum(counts.values()) < 1:
            found.add(code)
        total += count
    return found


def test_user_activity_matches_scikit_learn_in_equal_groups(trained: Path) -> None:
    found = numbers("user-activity", "base", "dart")
    auc: dict[Any, float] = {}
    for entry in found["runs"]:
        for seed in entry["seeds"]:
            train = rows(entry["run"], seed["seed"], "train")
            test = rows(entry["run"], seed["seed"], "test")
            for side, column in (("users", "user"), ("items", "item")):
                counts: dict[int, int] = defaultdict(int)
                for row in train:
                    counts[row[column]] += 1
                share = len(train) / 5
                held = [group["training_positives"] for group in seed[side]]
                assert max(abs(number - share) for number in held) <= max(counts.values())
                assert sum(group["training_positives"] for group in seed[side]) == len(train)
                assert sum(group["test_rows"] for group in seed[side]) == len(test)
                least = least_active(counts)
                first = [row for row in test if row[column] in least or row[column] not in counts]
                clean = [row["label"] and not row["noisy"] for row in first]
                expected = roc_auc_score(clean, [row["logit"] for row in first])
                assert seed[side][0]["auc"] == pytest.approx(expected, abs=1e-12)
                for group in seed[side]:
                    auc[entry["run"], seed["seed"], side, group["group"]] = group["auc"]
    (difference,) = found["differences"]
    for side in ("users", "items"):
        for group in difference[side]:
            place = (side, group["group"])
            pairs = [auc["dart", s, *place] - auc["base", s, *place] for s in (0, 1)]
            interval = stats.ttest_1samp(pairs, 0).confidence_interval()
            assert group["mean"] == pytest.approx(statistics.fmean(pairs))
            assert group["t_interval"] == pytest.approx((interval.low, interval.high))


def test_user_activity_says_what_the_groups_hold(home: Path, tmp_path: Path) -> None:
    # the first user has more than a quarter of all interactions, so its group does
    pairs = [(0, item) for item in range(240)]
    pairs += [(user, (37 * user + 11 * i) % 500) for user in range(1, 16) for i in range(40)]
    pl.DataFrame(pairs, schema=["user", "item"], orient="row").write_csv(tmp_path / "a.csv")
    register_log("shop", LogOptions(inputs=(str(tmp_path / "a.csv"),), user="user", item="item"))
    run = train_run(dataset="shop", strategy="base", training={"epochs": 1}, seeds=(0, 1))
    shares = []
    for seed in run.seeds:
        train = rows(run.name, seed, "train")
        mine = Counter(row["user"] for row in train).most_common(1)[0][1]
        shares.append(mine / len(train))
    (sentence, *_) = run_analysis("user-activity", [run]).sentences
    assert max(shares) > 0.25
    assert f"to {max(shares):.1%} of the training positives" in sentence


def test_user_activity_compares_only_what_shares_protocol_and_split(trained: Path) -> None:
    settings = find_run("base").settings
    train_run(settings, strategy="popularity", split_seed=1, name="one-split")
    train_run(settings, strategy="popularity", split_seed=9, name="other-split")
    (difference,) = numbers("user-activity", "base", "one-split")["differences"]
    assert difference["seeds"] == [1], "seed 0 of base has another split"
    result = run_analysis("user-activity", ["base", "other-split"])
    assert result.numbers["differences"][0]["users"][0]["mean"] is None
    assert "no shared seed and split" in result.sentences[-1]
    train_run(dataset=SMALL, protocol="reference", training={"epochs": 1}, name="reference")
    with pytest.raises(RunError, match=r"^base .* and reference .* options, or protocols"):
        run_analysis("user-activity", ["base", "reference"])


def test_the_least_active_group_has_the_auc_of_the_run_metrics(trained: Path) -> None:
    found = numbers("user-activity", "dart")["runs"][0]
    for metrics, seed in zip(find_run("dart").metrics.seeds, found["seeds"], strict=True):
        assert metrics.test_auc_inactive_users == pytest.approx(seed["users"][0]["auc"])
        assert metrics.test_auc_tail_items == pytest.approx(seed["items"][0]["auc"])


def test_ranking_is_precision_at_every_share(trained: Path) -> None:
    found = numbers("precision-recall", "base", "dart")
    for entry in found["runs"]:
        assert (entry["last_epoch"] is None) == (entry["run"] == "base")
        for seed in entry["ranking"]["seeds"]:
            train = rows(entry["run"], seed["seed"], "train")
            noisy = [row["noisy"] for row in train]
            assert seed["false_positive_share"] == pytest.approx(statistics.fmean(noisy))
            ordered = sorted(train, key=lambda row: row["logit"])
            detector = seed["detectors"]["loss"]
            assert detector["auc"] == pytest.approx(
                roc_auc_score(noisy, [-row["logit"] for row in train])
            )
            for share, precision in zip(
                entry["ranking"]["shares"], detector["precision"], strict=True
            ):
                taken = share * len(train)
                hits = sum(row["noisy"] for row in ordered[: int(taken)])
                rest = taken - int(taken)
                if rest > 1e-9:
                    hits += rest * ordered[int(taken)]["noisy"]
                assert precision == pytest.approx(hits / taken)
            rare = seed["detectors"]["rarest_items"]
            assert rare["auc"] == pytest.approx(
                roc_auc_score(noisy, [-row["item_positives"] for row in train])
            )
            assert rare["precision"][-1] == pytest.approx(statistics.fmean(noisy))


def test_dataset_matches_plain_counts(trained: Path) -> None:
    (found,) = numbers("dataset", "base", "dart")["datasets"]
    every = [row for row in rows("base", 0) if row["label"]]
    assert found["positives"] == len(every)
    assert found["false_positives"] == sum(row["noisy"] for row in every)
    for side in ("user", "item"):
        counts: dict[int, int] = defaultdict(int)
        for row in every:
            counts[row[side]] += 1
        ordered = sorted(counts.values())
        one = found[side]
        assert one["number"] == len(counts)
        assert one["median"] == statistics.median(ordered)
        assert one["most"] == ordered[-1]
        top = max(1, round(len(ordered) / 100))
        assert one["share_of_top_1_percent"] == pytest.approx(sum(ordered[-top:]) / len(every))
        gaps = sum(abs(a - b) for a in ordered for b in ordered)
        gini = gaps / (2 * len(ordered) ** 2 * statistics.fmean(ordered))
        assert one["gini"] == pytest.approx(gini)
        for degree, share in zip(one["interactions"], one["at_least_as_many"], strict=True):
            assert share == pytest.approx(sum(n >= degree for n in ordered) / len(ordered))
        assert sum(group["positives"] or 0 for group in one["groups"]) == len(every)
        hits = sum((g["positives"] or 0) * (g["false_positive_share"] or 0) for g in one["groups"])
        assert hits == pytest.approx(found["false_positives"])


def test_errors_name_the_run_that_lacks_ratings_or_ground_truth(home: Path, tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"user": [i % 40 for i in range(1200)], "item": [(i * 7) % 31 for i in range(1200)]}
    ).unique()
    log.write_parquet(tmp_path / "log.parquet")
    register_log(
        "shop", LogOptions(inputs=(str(tmp_path / "log.parquet"),), user="user", item="item")
    )
    run = train_run(dataset="shop", strategy="base", training={"epochs": 1})
    for what in ("loss-by-rating", "loss-distribution", "precision-recall", "memorization"):
        with pytest.raises(RunError, match=f"^{run.name}"):
            run_analysis(what, [run])
    (found,) = run_analysis("dataset", [run]).numbers["datasets"]
    assert found["unknown"] == found["positives"]
    with pytest.raises(RunError, match=r"on shop.*on synthetic"):
        other = train_run(dataset=SMALL, strategy="base", training={"epochs": 1})
        run_analysis("user-activity", [run, other])


def test_one_sided_ground_truth_is_analyzed_without_nan(home: Path, tmp_path: Path) -> None:
    rows = [(i % 40, (i * 7) % 31, 0 if i % 3 else None) for i in range(1200)]
    log = pl.DataFrame(rows, schema=["user", "item", "dwell"], orient="row")
    log.unique(["user", "item"], keep="first").write_parquet(tmp_path / "log.parquet")
    options = LogOptions(
        inputs=(str(tmp_path / "log.parquet"),), user="user", item="item", noisy_if="dwell < 10"
    )
    register_log("shop", options)
    run = train_run(
        dataset="shop",
        strategy={"name": "dart", "options": {"tau_m": 0.3, "t_m": 1}},
        training={"epochs": 2},
    )
    for what in ("dataset", "memorization", "precision-recall", "user-activity"):
        result = run_analysis(what, [run])
        assert not any("nan" in sentence for sentence in result.sentences)
    detectors = run_analysis("precision-recall", [run]).numbers["runs"][0]["ranking"]["seeds"][0]
    assert detectors["detectors"]["loss"]["auc"] is None


def test_dataset_counts_the_users_and_items_that_training_lacks(home: Path, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = {
        (int(user), int(item))
        for user, item in zip(draw.zipf(1.4, 3000) % 700, draw.zipf(1.3, 3000) % 500, strict=True)
    }
    pl.DataFrame(sorted(rows), schema=["user", "item"], orient="row").write_csv(tmp_path / "a.csv")
    register_log("shop", LogOptions(inputs=(str(tmp_path / "a.csv"),), user="user", item="item"))
    run = train_run(dataset="shop", strategy="base", training={"epochs": 1})
    (found,) = run_analysis("dataset", [run]).numbers["datasets"]
    unseen = len({row["user"] for row in find_run(run.name).scores(0).to_dicts() if row["label"]})
    for position, side in enumerate(("user", "item")):
        counts: dict[int, int] = defaultdict(int)
        for row in rows:
            counts[row[position]] += 1
        ordered = sorted(counts.values())
        assert found[side]["number"] == len(counts)
        assert found[side]["most"] == ordered[-1]
        top = max(1, round(len(ordered) / 100))
        share = sum(ordered[-top:]) / len(rows)
        assert found[side]["share_of_top_1_percent"] == pytest.approx(share)
    assert unseen < found["user"]["number"], "every user is in training, so nothing was tested"


def test_dataset_refuses_a_log_that_has_changed(home: Path, tmp_path: Path) -> None:
    table = pl.DataFrame([(i % 40, (i * 7) % 31) for i in range(600)], schema=["user", "item"],
                         orient="row").unique(maintain_order=True)  # fmt: skip
    table.write_csv(tmp_path / "a.csv")
    register_log("shop", LogOptions(inputs=(str(tmp_path / "a.csv"),), user="user", item="item"))
    run = train_run(dataset="shop", strategy="base", training={"epochs": 1})
    table[:-1].write_csv(tmp_path / "a.csv")
    with pytest.raises(RunError, match="has changed since the run was trained"):
        run_analysis("dataset", [run])


def test_a_u_shape_is_not_described_by_its_ends() -> None:
    def group(number: int, share: float) -> dict[str, Any]:
        return {"least": number, "most": number, "false_positive_share": share}

    shares = [0.3, 0.2, 0.1, 0.2, 0.3]
    one = {
        "positives": 100, "true_positives": 78, "false_positives": 22, "unknown": 0,
        "item": {
            "share_of_top_1_percent": 0.1,
            "groups": [group(number, share) for number, share in enumerate(shares, start=1)],
        },
        "user": {"share_of_top_1_percent": 0.1},
    }  # fmt: skip
    words = dataset._sentence("shop", one)
    assert "lowest for items with 3 to 3 positives (10.0%)" in words
    assert "highest for items with 1 to 1 (30.0%)" in words
    for number in one["item"]["groups"]:  # type: ignore[index]
        number["false_positive_share"] = 0.22  # type: ignore[index]
    assert "at every item popularity alike" in dataset._sentence("shop", one)
    assert user_activity._middle([0.8, 0.7, None, 0.9, 0.8]) == (
        ", lowest in group 2 of 5 (0.7000) and highest in group 4 of 5 (0.9000)"
    )
    assert user_activity._middle([0.7, 0.8, 0.9]) == ""


def test_datasets_of_one_name_with_other_options_are_told_apart(trained: Path) -> None:
    other = {"name": "synthetic", "options": {"interactions": 3000}}
    train_run(dataset=other, strategy="base", training={"epochs": 1}, name="smaller")
    result = run_analysis("dataset", ["base", "smaller", "dart"])
    assert len(result.numbers["datasets"]) == 2
    assert result.tables[0].columns == ("quantity", "synthetic (dart)", "synthetic (smaller)")


@pytest.mark.parametrize("protocol", ["strict", "reference"])
def test_the_thesis_is_cited_under_the_reference_protocol_only(
    trained: Path, protocol: str
) -> None:
    for strategy in ("base", "dart"):
        train_run(
            dataset=SMALL,
            strategy=strategy,
            protocol=protocol,
            training={"epochs": 1},
            name=f"{strategy}-{protocol}",
        )
    names = [f"base-{protocol}", f"dart-{protocol}"]
    cited = {
        "memorization": run_analysis("memorization", names).title.count("Fig. 2"),
        "compare": run_analysis("compare", names)
        .tables[0]
        .columns.count("tenfold, as in Tang (2023)"),
    }
    assert set(cited.values()) == {int(protocol == "reference")}


def test_a_tie_is_not_reported_as_a_difference(trained: Path) -> None:
    # the schedule starts after training ends, so dart is base
    train_run(
        dataset=SMALL,
        strategy={"name": "dart", "options": {"t_i": 10_000}},
        seeds=(0, 1),
        name="idle",
        training={"epochs": 6, "batch_size": 256, "snapshots": [10, 30]},
    )
    compared = run_analysis("compare", ["base", "idle"])
    (difference,) = (c["against_base"] for c in compared.numbers["cells"] if c["against_base"])
    assert difference["mean"] == 0
    assert difference["verdict"] == "same model"
    assert "is the same model as base" in compared.sentences[0]
