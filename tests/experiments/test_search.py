"""A search on one split, its null and its confirmation; and choosing by recorded validation."""

import random
import statistics
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from typer.testing import CliRunner

from dartcli.cli import app
from dartcli.errors import RunError
from dartcli.experiments import sweep_plan
from dartcli.experiments.search import read_searches, run_search
from dartcli.experiments.sweep import Sweep, find_sweep
from dartcli.experiments.sweep_plan import PRESETS, Plan, plan_trainings
from dartcli.experiments.sweep_runner import run_sweep
from dartcli.reporting.analyze import run_analysis

SMALL = {"dataset.interactions": [1500], "training.epochs": [2]}
ARMS = ("base", "dart tau_m=0.3 t_m=1", "dart tau_m=0.6 t_m=1", "dart tau_m=0.9 t_m=1")


def plan(**changes: Any) -> Plan:
    parts = {
        "datasets": ("synthetic",),
        "models": ("fm",),
        "arms": ARMS,
        "seeds": (3, 4, 5),
        "protocol": "reference",
        "grid": SMALL,
        "tune_base": False,
    }
    return Plan(**{**parts, **changes})


def test_the_grid_is_the_one_of_the_thesis() -> None:
    preset = PRESETS["table2-search"]
    assert preset.arms[0] == "base"
    assert len(set(preset.arms[1:])) == 135
    options = [one.entry.options for one in plan_trainings(plan(arms=preset.arms, seeds=(0,)))][1:]
    expected = {"t_i": 3, "t_m": 3, "tau_m": 3, "r": 5}
    assert {key: len({one[key] for one in options}) for key in expected} == expected


def test_a_search_is_confirmed_on_other_seeds(home: Path) -> None:
    found = run_search(plan(), "trial", jobs=1)
    (search,) = read_searches(found)
    rows = [(entry, row) for entry, row in found.finished()]
    # the grid and base on the first seed, the null on its split, the choice on the others
    assert search.seed == 3
    assert len(search.settings) == 3
    assert sorted(search.null) == [0, 1, 2]
    null = {entry.seed: row for entry, row in rows if entry.arm == "base, split 3"}
    assert {row.metrics.split_seed for row in null.values()} == {3}
    valid = {label: one.valid_auc or 0 for label, one in search.settings.items()}
    chosen = max(valid, key=lambda label: valid[label])
    assert search.choose() == chosen
    assert {key: sorted(seeds) for key, seeds in search.fresh.items()} == {
        "base": [4, 5],
        chosen: [4, 5],
    }
    auc = {(entry.arm, entry.seed): row.metrics.test_auc or 0 for entry, row in rows}
    result = run_analysis("search", found)
    (cell,) = result.numbers["cells"]
    base = auc["base", 3]
    assert cell["best_by_test_gain"] == max(auc[label, 3] for label in valid) - base
    assert cell["median_gain"] == statistics.median(auc[label, 3] for label in valid) - base
    assert cell["chosen_gain"] == auc[chosen, 3] - base
    gains = [auc[chosen, seed] - auc["base", seed] for seed in (4, 5)]
    assert cell["fresh_gain"] == pytest.approx(statistics.fmean(gains), abs=1e-12)
    trained = [row.metrics.test_auc or 0 for row in null.values()]
    assert cell["null_best_minus_median"] == max(trained) - statistics.median(trained)
    (sentence,) = result.sentences
    shown = [f"{round(1e4 * value, 1) + 0.0:+.1f}" for value in (
        cell["best_by_test_gain"], cell["chosen_gain"], cell["fresh_gain"],
        cell["null_best_minus_median"],
    )]  # fmt: skip
    assert f"the best of 3 settings is {shown[0]} on one split" in sentence
    assert f"validation is {shown[1]} there and {shown[2]} on 2 other seeds (95% CI [" in sentence
    assert sentence.endswith(f"best of 3 trainings of base alone is {shown[3]} above their median.")
    # what is missing is said
    gone = found.folder / "rows" / f"{rows[-1][0].key}.json"
    kept = gone.read_bytes()
    gone.unlink()
    assert "Missing from the sweep: 1 training." in run_analysis("search", found).sentences[-1]
    gone.write_bytes(kept)
    # nothing is trained twice
    before = {path: path.stat().st_mtime_ns for path in found.folder.glob("rows/*")}
    again = run_search(plan(), "trial", jobs=1)
    assert {path: path.stat().st_mtime_ns for path in again.folder.glob("rows/*")} == before
    # it can be compared as any sweep, seed by seed and split by split
    pairs = {
        cell["method"]: cell["against_base"]["seeds"]
        for cell in run_analysis("compare", again).numbers["cells"]
        if cell["against_base"]
    }
    assert pairs == {**dict.fromkeys(valid, 1), chosen: 3}
    # a search on another split leaves the null of the first one alone
    run_search(plan(seeds=(4,)), "trial", jobs=1)
    (same,) = read_searches(find_sweep("trial"))
    assert (same.seed, same.null) == (search.seed, search.null)


def test_the_command_searches_and_counts_beforehand(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = PRESETS["table2-search"].model_copy(update={"arms": ARMS})
    monkeypatch.setitem(PRESETS, "table2-search", fewer)
    words = ["sweep", "--preset", "table2-search", "--datasets", "synthetic", "--models", "fm"]
    words += ["--seeds", "0-2", "--jobs", "1"]
    for key, (value,) in SMALL.items():
        words += ["--set", f"{key}={value}"]
    planned = CliRunner().invoke(app, [*words, "--dry-run"])
    assert "table2-search-reference: 7 trainings, 7 of them missing" in planned.stdout
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert "fresh" in done.stdout
    assert len(find_sweep("table2-search-reference").finished()) == 7 + 4


def test_a_sweep_without_a_search_is_refused(home: Path) -> None:
    found = run_sweep(plan(seeds=(0,), arms=("base", "dart")), "plain", jobs=1)
    with pytest.raises(RunError, match="--preset table2-search"):
        run_analysis("search", found)


def test_a_sweep_over_what_counts_as_false_positive_has_a_column_for_each(home: Path) -> None:
    grid = sweep_plan.parse_grid(["dataset.tp_threshold=3,4,5"])
    found = plan_trainings(
        plan(datasets=("movielens-100k",), arms=("base", "dart"), seeds=(0,), grid=grid)
    )
    assert list(dict.fromkeys(one.entry.dataset for one in found)) == [
        f"movielens-100k (tp_threshold={value})" for value in (3, 4, 5)
    ]
    assert len({one.entry.key for one in found}) == 6


def write_made_up(gains: dict[str, tuple[float, float]]) -> Sweep:
    """Write a sweep in which arm -> (recorded, clean) mean gain over base."""
    arms = ("base", *gains)
    first = plan(arms=("base",), seeds=(0,))
    row = run_sweep(first, "made-up", jobs=1).finished()[0][1]
    found = find_sweep("made-up")
    every = plan_trainings(plan(arms=arms, seeds=tuple(range(8))))
    found.extend([one.entry for one in every], [])
    chance = random.Random(0)
    for one in every:
        arm = one.entry.arm if one.entry.strategy != "base" else "base"
        recorded, clean = gains.get(arm, (0.0, 0.0))
        metrics = row.metrics.model_copy(
            update={
                "seed": one.entry.seed,
                "split_seed": one.entry.seed,
                "valid_auc_recorded": 0.7 + recorded + chance.gauss(0, 1e-3),
                "test_auc": 0.8 + clean + chance.gauss(0, 1e-3),
            }
        )
        found.write(
            row.model_copy(update={"settings": one.configuration.settings, "metrics": metrics})
        )
    return find_sweep("made-up")


def test_auto_keeps_what_recorded_validation_is_sure_of(home: Path) -> None:
    gains = {
        "lcd": (0.01, 0.02),  # kept, rightly
        "lcd-re": (0.01, -0.02),  # kept, wrongly: the assumption fails
        "mentornet": (-0.01, -0.01),  # base is kept, rightly
        "adt-ce-r": (-0.01, 0.01),  # base is kept, wrongly: the assumption fails
        "clean": (0.01, 0.05),  # a reference, no candidate
    }
    made_up = write_made_up(gains)
    found = run_analysis("auto", made_up).numbers
    values: dict[tuple[str, str], list[float]] = {}
    for entry, row in made_up.finished():
        for metric in ("valid_auc_recorded", "test_auc"):
            values.setdefault((entry.arm, metric), []).append(getattr(row.metrics, metric))
    choices = {one["candidate"]: one for one in found["choices"]}
    assert choices.keys() == gains.keys() - {"clean"}
    for name, choice in choices.items():
        for metric, key in (("valid_auc_recorded", "recorded"), ("test_auc", "test")):
            mine, base = values[name, metric], values["base", metric]
            interval = stats.ttest_rel(mine, base).confidence_interval()
            assert choice[f"{key}_interval"] == pytest.approx((interval.low, interval.high))
            if key == "recorded":
                assert (choice["keeps"] == "candidate") == (interval.low > 0)
    assert {name: one["right"] for name, one in choices.items()} == {
        "lcd": True,
        "lcd-re": False,
        "mentornet": True,
        "adt-ce-r": False,
    }
    assert (found["cases"], found["right"], found["kept"], found["kept_and_right"]) == (4, 2, 2, 1)
    assert found["contradictions"] == 2
    sentences = run_analysis("auto", made_up).sentences
    assert sum("not equally likely" in sentence for sentence in sentences) == 2


def test_auto_needs_several_seeds(home: Path) -> None:
    found = run_sweep(plan(arms=("base", "dart"), seeds=(0,)), "one", jobs=1)
    with pytest.raises(RunError, match="3 seeds or more"):
        run_analysis("auto", found)


def test_compare_shows_what_each_stage_flagged_and_took(home: Path) -> None:
    arms = ("base", "dart tau_m=0.2 teaching.mode=serial teaching.order=2")
    found = run_sweep(plan(arms=arms, seeds=(0, 1), protocol="strict"), "taught", jobs=1)
    result = run_analysis("compare", found)
    cells = {cell["method"]: cell["stages"] for cell in result.numbers["cells"]}
    assert cells["base"] == []
    stages = cells["dart (tau_m=0.2), serial teaching 2"]
    assert [one["stage"] for one in stages] == [1, 2, "all"]
    rows = [row.metrics for entry, row in found.finished() if entry.strategy == "dart"]
    for place, one in enumerate(stages[:2]):
        mine = [row.stages[place] for row in rows]
        for key in ("flagged_share", "precision", "recall"):
            assert one[key] == statistics.fmean(getattr(stage, key) for stage in mine)
    # every training has as many epochs
    assert [one["cost"] for one in stages] == [1, 1, 3]
    assert stages[2]["flagged_share"] == pytest.approx(0.2 + 0.8 * 0.2, abs=0.002)
    table = result.tables[-1]
    assert [row[1] for row in table.rows] == ["1", "2", "all"]
