"""Sweeps: what they consist of, what is kept, going on, comparing."""

import itertools
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scipy import stats
from typer.testing import CliRunner

from dartcli.cli import app
from dartcli.errors import RunError, TrainingError, UsageError
from dartcli.experiments import sweep_plan
from dartcli.experiments.comparison import Comparison
from dartcli.experiments.run_index import find_run
from dartcli.experiments.sweep import Sweep, claim_sweep, find_sweep, settings_key
from dartcli.experiments.sweep_merge import merge_sweeps
from dartcli.experiments.sweep_plan import PRESETS, Plan, plan_trainings
from dartcli.experiments.sweep_runner import SweepProgress, run_sweep
from dartcli.experiments.train import train_run
from dartcli.reporting.analyze import run_analysis
from dartcli.reporting.build import write_report

SMALL = {"dataset.interactions": [1500], "training.epochs": [2]}
FLAGS = ["--set", "dataset.interactions=1500", "--set", "training.epochs=2"]


def plan(**changes: Any) -> Plan:
    return Plan(
        **{
            "datasets": ("synthetic",),
            "models": ("fm",),
            "arms": ("base", "dart"),
            "seeds": (0, 1),
            "grid": SMALL,
            "tune_base": False,
            **changes,
        }
    )


def dart(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_a_sweep_is_every_combination_and_seeds_come_first(home: Path) -> None:
    wide = plan(models=("fm", "lr"), arms=("base", "dart tau_m=0.1", "clean"), seeds=(3, 5))
    found = [(one.entry.seed, one.entry.model, one.entry.arm) for one in plan_trainings(wide)]
    shown = [f"{model} (training.epochs=2)" for model in ("fm", "lr")]
    arms = ("base", "dart (tau_m=0.1)", "clean")
    assert found == list(itertools.product((3, 5), shown, arms))
    settings = plan_trainings(wide)[1].configuration.settings
    assert settings.strategy.options["tau_m"] == 0.1
    assert settings.dataset.options["interactions"] == 1500
    assert settings.seeds == (3,)
    assert not home.exists()


def test_a_grid_over_a_strategy_varies_only_the_strategies_that_have_the_setting(
    home: Path,
) -> None:
    grid = {**SMALL, "strategy.tau_m": [0.02, 0.1], "strategy.r": [0.5, 0.0]}
    arms = [
        one.entry.arm for one in plan_trainings(plan(seeds=(0,), grid=grid, arms=("base", "dart")))
    ]
    assert arms == ["base", "dart", "dart (r=0.0)", "dart (tau_m=0.1)", "dart (tau_m=0.1, r=0.0)"]
    fixed = plan_trainings(plan(seeds=(0,), grid=grid, arms=("dart r=1",)))
    assert {one.configuration.settings.strategy.options["r"] for one in fixed} == {1}
    with pytest.raises(UsageError, match="tau_m"):
        plan_trainings(plan(grid=grid, arms=("base",)))


def test_an_arm_states_its_trusted_labels(home: Path) -> None:
    grid = {**SMALL, "trusted": [100, 200]}
    arms = ("base", "trusted", "trusted trusted=50", "trusted trusted=all trusted_valid=9")
    found = plan_trainings(plan(seeds=(0,), grid=grid, arms=arms))
    numbers = {
        one.entry.arm: (
            one.configuration.settings.trusted,
            one.configuration.settings.trusted_valid,
        )
        for one in found
    }
    assert numbers == {
        "base": (0, 0),
        "trusted (100)": (100, 0),
        "trusted (200)": (200, 0),
        "trusted (50)": (50, 0),
        "trusted (all, trusted_valid=9)": ("all", 9),
    }
    with pytest.raises(UsageError, match="trusted"):
        plan_trainings(plan(grid=grid, arms=("base", "dart")))


def test_labels_of_a_run_are_in_the_name_of_its_arm(home: Path) -> None:
    tree = {"dataset": {"name": "synthetic"}, "training": {"epochs": 2}}
    runs = [
        train_run(tree, name=f"run-{number}", strategy=strategy, trusted=number)
        for number, strategy in ((0, "base"), (50, "trusted"), (100, "trusted"), (101, "dart"))
    ]
    assert list(Comparison(runs).contenders) == ["base", "trusted (50)", "trusted (100)", "dart"]
    # labels that a strategy ignores do not put it on the label curve
    option = {"name": "dart", "options": {"tau_m": 0.1}}
    other = train_run(tree, name="ignores-labels", strategy=option, trusted=50)
    with pytest.raises(RunError, match="trusted labels"):
        run_analysis("label-curve", [runs[0], other])


def test_a_grid_over_other_settings_makes_columns(home: Path) -> None:
    grid = {"training.weight_decay": [1e-6, 1e-3], "dataset.interactions": [1500, 1600]}
    found = plan_trainings(plan(grid=grid, arms=("base",), seeds=(0,)))
    assert [(one.entry.dataset, one.entry.model) for one in found] == [
        (f"synthetic (interactions={rows})", f"fm (training.weight_decay={decay})")
        for decay in (1e-6, 1e-3)
        for rows in (1500, 1600)
    ]
    assert len({one.entry.key for one in found}) == 4


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arms": ("dart tau_m=2",)}, r"strategy\.tau_m"),
        ({"arms": ("dort",)}, "Did you mean"),
        ({"arms": ("",)}, "--arm"),
        ({"arms": ("base", "dart 'r=0")}, "`--arm`: .* no closing quotation"),
        ({"arms": ("base", "dart r=0\\")}, "`--arm`: .* no escaped character"),
        ({"grid": {"protocol": ["strict"]}}, "protocol"),
        ({"grid": {"training.epoch": [1]}}, "training.epoch"),
        ({"datasets": ("synthetics",)}, "Did you mean"),
    ],
)
def test_an_invalid_plan_is_refused(home: Path, changes: Any, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        plan_trainings(plan(**changes))
    assert not home.exists()


@pytest.mark.parametrize("text", ["training.epochs", "=3", "a.b=", "a.b=1,,2"])
def test_an_invalid_grid_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text))):
        sweep_plan.parse_grid([text])


def test_values_of_a_grid_are_read_as_settings_are() -> None:
    assert sweep_plan.parse_grid(["a.b=1,0.5,3ep,true", "c.d=[1,2]"]) == {
        "a.b": [1, 0.5, "3ep", True],
        "c.d": [1, 2],
    }


def test_a_row_has_the_metrics_of_dart_train(home: Path) -> None:
    found = run_sweep(plan(seeds=(1,)), "trial", jobs=1)
    for entry, row in found.finished():
        run = train_run(row.settings, name=entry.arm)
        assert run.metrics.seeds == (row.metrics,)
        assert entry.key == settings_key(row.settings)


def test_only_what_is_missing_is_trained(home: Path) -> None:
    said: list[tuple[int, int]] = []

    def progress(state: SweepProgress) -> None:
        said.append((state.done, state.total))

    run_sweep(plan(seeds=(0,)), "trial", jobs=1, progress=progress)
    assert said == [(0, 2), (1, 2), (2, 2)]
    said.clear()
    found = run_sweep(plan(seeds=(0, 1)), "trial", jobs=1, progress=progress)
    assert said == [(2, 4), (3, 4), (4, 4)]
    assert [entry.seed for entry, _ in found.finished()] == [0, 0, 1, 1]
    broken = next((found.folder / "rows").glob("*.json"))
    broken.write_text("{")
    assert len(found.finished()) == 3
    run_sweep(plan(), "trial", jobs=1)
    assert len(found.finished()) == 4


def test_processes_give_the_same_rows(home: Path) -> None:
    one = run_sweep(plan(), "one", jobs=1)
    two = run_sweep(plan(), "two", jobs=2)
    assert [row.metrics for _, row in one.finished()] == [row.metrics for _, row in two.finished()]


def test_one_name_holds_one_protocol(home: Path) -> None:
    claim_sweep("trial", "strict")
    with pytest.raises(UsageError, match=r"trial.*strict"):
        run_sweep(plan(protocol="reference"), "trial", jobs=1)


def test_failures_are_reported_and_finished_trainings_are_kept(home: Path) -> None:
    bad = plan(arms=("base", "dart"), grid={**SMALL, "training.learning_rate": [1e-3, 1e30]})
    with pytest.raises(TrainingError, match=r"4 of 8"):
        run_sweep(bad, "trial", jobs=2)
    assert len(find_sweep("trial").finished()) == 4


@pytest.mark.long
@pytest.mark.faults
def test_a_process_that_dies_costs_one_training(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    # each takes more than a second
    longer = {**SMALL, "training.epochs": [400], "training.patience": [400]}

    def progress(state: SweepProgress) -> None:
        if state.latest is not None and not killed:
            import multiprocessing

            victim = multiprocessing.active_children()[0].pid or 0
            killed.append(victim)
            # one of the two waits for its next training until this function returns
            threading.Timer(0.3, os.kill, (victim, signal.SIGKILL)).start()

    with pytest.raises(TrainingError, match=r"1 of 6 .*-9"):
        run_sweep(plan(seeds=(0, 1, 2), grid=longer), "trial", jobs=2, progress=progress)
    assert len(killed) == 1
    assert len(find_sweep("trial").finished()) == 5
    run_sweep(plan(seeds=(0, 1, 2), grid=longer), "trial", jobs=1)
    assert len(find_sweep("trial").finished()) == 6


@pytest.mark.faults
def test_a_sweep_whose_processes_all_die_ends_in_a_sentence(home: Path) -> None:
    import multiprocessing

    def progress(state: SweepProgress) -> None:
        for victim in multiprocessing.active_children() if state.latest is not None else ():
            os.kill(victim.pid or 0, signal.SIGKILL)

    with pytest.raises(TrainingError, match=r"ended unexpectedly|of 12 trainings failed"):
        run_sweep(plan(seeds=range(6)), "trial", jobs=2, progress=progress)


def test_under_strict_the_base_is_tuned_on_validation_and_all_have_its_setting(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dartcli.experiments.sweep_runner.WEIGHT_DECAYS", (1e-6, 1e-1))
    monkeypatch.setattr("dartcli.experiments.sweep_runner.TUNING_SEEDS", (0, 1))
    found = run_sweep(plan(seeds=(0, 4), tune_base=None), "trial", jobs=1)
    (tuned,) = found.document.tuned
    means = {}
    for decay in (1e-6, 1e-1):
        values = [
            train_run(
                dataset={"name": "synthetic", "options": {"interactions": 1500}},
                strategy="base",
                training={"epochs": 2, "weight_decay": decay},
                seeds=(seed,),
            )
            .metrics.seeds[0]
            .valid_auc_recorded
            for seed in (0, 1)
        ]
        means[f"{decay:g}"] = statistics.fmean(values)
    assert tuned.valid_auc == pytest.approx(means)
    assert tuned.weight_decay == float(max(means, key=lambda decay: means[decay]))
    decays = {row.settings.training.weight_decay for _, row in found.finished()}
    assert decays == {tuned.weight_decay}
    assert [entry.seed for entry, _ in found.finished()] == [0, 0, 4, 4]
    counted = dart("sweep", "--seeds", "0,4", "--name", "trial", *FLAGS, "--dry-run", "--json")
    assert json.loads(counted.stdout)["missing"] == 0
    counted = dart("sweep", "--seeds", "0,4", "--name", "trial", *FLAGS, "--dry-run")
    assert counted.stdout == "trial: 4 trainings, 0 of them missing\n"
    part = ("--seeds", "0,4,5", "--name", "trial", *FLAGS, "--dry-run", "--shard")
    assert dart("sweep", *part, "5/6").stdout == "trial: 1 training, 1 of them missing\n"
    assert dart("sweep", *part, "7/6").exit_code == 2
    # what is not tuned must not stand beside what is
    with pytest.raises(UsageError, match="made with `--tune-base`"):
        run_sweep(plan(arms=("lcd",)), "trial", jobs=1)
    run_sweep(plan(arms=("base",), seeds=(0,)), "plain", jobs=1)
    with pytest.raises(UsageError, match="made with `--no-tune-base`"):
        run_sweep(plan(tune_base=None), "plain", jobs=1)
    with pytest.raises(UsageError, match=r"sweep plain on synthetic .* `--no-tune-base`"):
        merge_sweeps("plain", [find_sweep("trial").folder])
    assert len(find_sweep("plain").finished()) == 1


@pytest.mark.long
@pytest.mark.faults
def test_the_table_is_the_same_after_ten_kills(home: Path) -> None:
    command = [
        sys.executable, "-m", "dartcli", "sweep", "--datasets", "synthetic", "--strategies",
        "base,dart,lcd", "--seeds", "0-2", "--protocol", "reference", "--name", "trial", "--jobs",
        "2", *FLAGS,
    ]  # fmt: skip
    chance = random.Random(0)
    killed = 0
    for _ in range(10):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        try:
            process.communicate(timeout=chance.uniform(0.5, 6))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
    assert killed > 0
    subprocess.run(command, check=True, capture_output=True)
    undisturbed = [word if word != "trial" else "whole" for word in command]
    subprocess.run(undisturbed, check=True, capture_output=True)
    tables = []
    for name in ("trial", "whole"):
        folder = run_analysis("compare", [name]).files[0].parent
        tables.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert tables[0] == tables[1]
    left = [path.name for path in (home / "sweeps/trial/rows").iterdir()]
    finished = [name for name in left if name.endswith(".json") and not name.startswith(".")]
    assert len(finished) == 9


@pytest.mark.faults
def test_a_worker_ends_with_its_parent(home: Path) -> None:
    command = [
        sys.executable, "-m", "dartcli", "sweep", "--datasets", "synthetic", "--seeds", "0-9",
        "--protocol", "reference", "--jobs", "2", "--set", "training.epochs=90",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("this system does not list the children of a process")
    deadline = time.monotonic() + 60
    while len(pids := children.read_text().split()) < 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    while time.monotonic() < deadline and any(_alive(pid) for pid in pids):
        time.sleep(0.1)
    assert pids
    assert not any(_alive(pid) for pid in pids)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


@pytest.fixture
def made_up(home: Path) -> Sweep:
    """A sweep of three strategies with made-up metrics."""
    found = run_sweep(plan(arms=("base", "dart", "clean"), seeds=(0,)), "made-up", jobs=1)
    every = plan_trainings(plan(arms=("base", "dart", "clean"), seeds=tuple(range(6))))
    found.extend([one.entry for one in every], [])
    row = found.finished()[0][1]
    chance = random.Random(1)
    for one in every:
        seed = one.entry.seed
        auc = 0.8 + seed / 100
        auc += {"base": 0, "dart": 0.002, "clean": 0.01}[one.entry.strategy] + chance.gauss(0, 1e-3)
        metrics = row.metrics.model_copy(update={"test_auc": auc, "seed": seed, "split_seed": seed})
        found.write(
            row.model_copy(update={"settings": one.configuration.settings, "metrics": metrics})
        )
    return find_sweep("made-up")


def test_compare_is_the_paired_t_test_of_scipy_with_holms_correction(
    made_up: Sweep,
) -> None:
    report = run_analysis("compare", [made_up])
    values: dict[str, list[float]] = {}
    for entry, row in made_up.finished():
        values.setdefault(entry.strategy, []).append(row.metrics.test_auc or 0)
    cells = {cell["method"]: cell for cell in report.numbers["cells"]}
    raw = {}
    for name in ("dart", "clean"):
        expected = stats.ttest_rel(values[name], values["base"])
        found = cells[name]["against_base"]
        interval = expected.confidence_interval()
        raw[name] = expected.pvalue
        assert cells[name]["mean"] == pytest.approx(statistics.fmean(values[name]))
        assert found["seeds"] == 6
        assert found["p"] == pytest.approx(expected.pvalue)
        assert found["t_interval"] == pytest.approx((interval.low, interval.high))
        gap = statistics.fmean(values["clean"]) - statistics.fmean(values["base"])
        gain = statistics.fmean(values[name]) - statistics.fmean(values["base"])
        assert found["gap_to_clean_closed"] == pytest.approx(gain / gap)
        delta = next(d for d in report.numbers["delta"] if d["method"] == name)
        true = 100 * gain / statistics.fmean(values["base"])
        assert delta["delta_percent"] == pytest.approx(true)
        assert delta["delta_percent_tenfold_as_printed_in_the_thesis"] == pytest.approx(10 * true)
    smaller, larger = sorted(raw, key=lambda name: raw[name])
    assert cells[smaller]["against_base"]["p_holm"] == pytest.approx(2 * raw[smaller])
    assert cells[larger]["against_base"]["p_holm"] == pytest.approx(
        max(raw[larger], 2 * raw[smaller])
    )
    assert cells["base"]["against_base"] is None
    for name, cell in cells.items():
        mine = [row.metrics for entry, row in made_up.finished() if entry.strategy == name]
        for metric, mean in cell["other_metrics"].items():
            each = [getattr(metrics, metric) for metrics in mine]
            expected = None if None in each else statistics.fmean(each)
            assert mean == (None if expected is None else pytest.approx(expected)), metric


def test_compare_shows_every_format_and_figure(made_up: Sweep) -> None:
    result = dart("analyze", "compare", "made-up")
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 80
    words = " ".join(result.stdout.split())
    assert words.startswith("dart helps: test AUC is 0.0")
    names = {path.name for path in (made_up.folder / "analysis/compare").iterdir()}
    assert names == {
        "forest.png", "forest.svg", "numbers.json", "tables.csv", "tables.md", "tables.tex",
    }  # fmt: skip
    written = (made_up.folder / "analysis/compare/tables.tex").read_text()
    assert dart("analyze", "compare", "made-up", "--format", "latex").stdout == written
    refused = dart("analyze", "compare", "made-up", "--format", "word")
    assert refused.exit_code == 2
    assert "Choose from markdown, latex, csv" in refused.stderr


def test_compare_takes_runs_and_pairs_them_by_seed(home: Path) -> None:
    small = {"name": "synthetic", "options": {"interactions": 1500}}
    for strategy, seeds in (("base", (0, 1, 2)), ("dart", (1, 2, 3))):
        train_run(
            dataset=small, strategy=strategy, training={"epochs": 2}, seeds=seeds, name=strategy
        )
    report = run_analysis("compare", ["base", "dart"])
    base, other = (find_run(name).metrics.seeds for name in ("base", "dart"))
    shared = [(other[i].test_auc or 0) - (base[i + 1].test_auc or 0) for i in range(2)]
    found = next(cell for cell in report.numbers["cells"] if cell["method"] == "dart")
    assert found["against_base"]["seeds"] == 2
    assert found["against_base"]["mean"] == pytest.approx(statistics.fmean(shared))


def test_what_cannot_be_compared_is_refused(home: Path) -> None:
    run_sweep(plan(arms=("dart",), seeds=(0,)), "no-base", jobs=1)
    with pytest.raises(RunError, match="--strategy base"):
        run_analysis("compare", ["no-base"])
    with pytest.raises(UsageError, match="no-base"):
        run_analysis("memorization", ["no-base"])
    claim_sweep("empty", "strict")
    with pytest.raises(RunError, match=r"empty"):
        run_analysis("compare", ["empty"])
    run_sweep(plan(seeds=(0,), protocol="reference"), "other", jobs=1)
    with pytest.raises(RunError, match=r"reference.*strict"):
        Comparison([find_sweep("no-base"), find_sweep("other")])
    run = train_run(
        dataset={"name": "synthetic", "options": {"interactions": 1500}},
        strategy="base",
        training={"epochs": 1},
    )
    again = train_run(
        dataset={"name": "synthetic", "options": {"interactions": 1500}},
        strategy="base",
        training={"epochs": 2},
    )
    with pytest.raises(RunError, match="twice"):
        Comparison([run, again])


def test_data_that_changed_meanwhile_are_noticed(made_up: Sweep) -> None:
    entry, row = made_up.finished()[0]
    made_up.write(row.model_copy(update={"data": "0" * 16}))
    assert made_up.row(entry.key) is not None
    with pytest.raises(RunError, match=r"synthetic.*made-up"):
        run_analysis("compare", ["made-up"])


def test_the_command_counts_runs_and_resumes(home: Path) -> None:
    # a schedule so long that dart flags nothing
    idle = ["--set", "strategy.t_m=10000000"]
    words = ["sweep", "--datasets", "synthetic", "--seeds", "0", "--no-tune-base", *FLAGS, *idle]
    rehearsed = dart(*words, "--dry-run")
    assert rehearsed.stdout == "sweep-strict: 2 trainings, 2 of them missing\n"
    words_to_tune = [word for word in words if word != "--no-tune-base"]
    assert "not counting the tuning" in " ".join(dart(*words_to_tune, "--dry-run").stdout.split())
    assert not home.exists()
    done = dart(*words, "--jobs", "1", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert [row["strategy"] for row in document["rows"]] == ["base", "dart"]
    assert document["sweep"] == "sweep-strict"
    (verdict,) = document["verdicts"]
    assert (verdict["verdict"], verdict["seeds"]) == ("same model", 1)
    assert verdict["sentence"] == (
        "dart (t_m=10000000) is the same model as base (equal weights, 1 seed)."
    )
    rehearsed = dart(*words, "--dry-run", "--json")
    counts = {"trainings": 2, "missing": 0, "stages": 2}
    assert json.loads(rehearsed.stdout) == {"sweep": "sweep-strict", **counts}
    assert "next: dart report sweep-strict" in done.stderr
    # a sweep ends with its comparison
    assert "minus base" in dart(*words, "--jobs", "1").stdout
    assert dart("sweep", "--preset", "table3").exit_code == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_plan(home: Path, preset: str) -> None:
    chosen = PRESETS[preset]
    found = plan_trainings(
        Plan(datasets=chosen.datasets, models=chosen.models, arms=chosen.arms, seeds=(0,))
    )
    expected = {
        "table2": 4 * 2 * 12,
        "sensitivity": 1 + 4 + 4 + 4 + 5 - 3,
        "label-curve": 3 * 2 * (6 + 4),
        "teaching": 3 * 2 * (2 + 2 * 7),
        "adaptive": 3 * (2 + 3 + 9),
        "table2-search": 4 * 2 * 136,
    }
    assert len(found) == expected[preset]


def test_a_report_of_a_sweep_has_the_table_and_its_figures(made_up: Sweep) -> None:
    page = write_report(["made-up"])
    text = page.path.read_text("utf-8")
    assert page.analyses == ("compare", "auto")
    assert text.count("<img") == 1
    assert "dart helps: test AUC is 0.0" in text
    assert 'class="number best"' in text
    assert "6 trainings" not in text
    assert "18 trainings" in text
    run = train_run(
        dataset={"name": "synthetic", "options": {"interactions": 1500}},
        strategy="base",
        training={"epochs": 1},
    )
    with pytest.raises(UsageError, match="not both"):
        write_report([made_up, run])


def test_the_label_curve_has_gain_and_detection_by_number_of_labels(home: Path) -> None:
    grid = {
        "dataset.interactions": [3000],
        "dataset.quality": [3.0],
        "training.epochs": [3],
        "training.learning_rate": [0.01],
    }
    arms = ("base", "clean", "trusted trusted=20", "trusted trusted=400", "trusted trusted=all")
    found = run_sweep(plan(arms=arms, seeds=(0, 1, 2), grid=grid), "trial", jobs=1)
    result = run_analysis("label-curve", found)
    (cell,) = result.numbers["cells"]
    auc = {(entry.arm, entry.seed): row.metrics.test_auc for entry, row in found.finished()}
    assert [point["labels"] for point in cell["points"]] == [20, 400]
    assert [one["method"] for one in cell["others"]] == ["clean", "trusted (all)"]
    for point in cell["points"]:
        differences = [
            (auc[point["method"], seed] or 0) - (auc["base", seed] or 0) for seed in range(3)
        ]
        assert point["minus_base"] == pytest.approx(statistics.fmean(differences), abs=1e-12)
    detected = [
        row.metrics.detector_auc for entry, row in found.finished() if entry.arm == "trusted (400)"
    ]
    assert None not in detected
    assert cell["points"][1]["detector_auc"] == pytest.approx(
        statistics.fmean(one for one in detected if one is not None)
    )
    assert len(result.sentences) == 2
    assert "trusted (400): test AUC" in result.sentences[1]
    gains, groups, detector = result.tables
    rows = {(entry.arm, entry.seed): row.metrics for entry, row in found.finished()}
    for label, _, inactive, lists in groups.rows:
        for shown, metric in ((inactive, "test_auc_inactive_users"), (lists, "test_ndcg_at_20")):
            differences = [
                1e4 * (getattr(rows[label, seed], metric) - getattr(rows["base", seed], metric))
                for seed in range(3)
            ]
            low, high = stats.t.interval(
                0.95, 2, statistics.fmean(differences), stats.sem(differences)
            )
            assert shown == f"{(low + high) / 2:+.1f} ± {(high - low) / 2:.1f}"
    assert [row[2] for row in detector.rows] == [20, 400]
    assert [row[0] for row in gains.rows] == [
        *("clean", "trusted (all)", "trusted (20)", "trusted (400)")
    ]
    with pytest.raises(RunError, match="trusted labels"):
        run_analysis("label-curve", run_sweep(plan(seeds=(0,)), "plain", jobs=1))


def test_sensitivity_follows_one_option_with_the_others_fixed(home: Path) -> None:
    grid = {**SMALL, "strategy.tau_m": [0.3, 0.1]}
    found = run_sweep(
        plan(grid=grid, arms=("base", "dart t_m=1", "dart t_m=50 tau_m=0.1")), "trial", jobs=1
    )
    report = run_analysis("sensitivity", [found])
    curves = {curve["option"]: curve for curve in report.numbers["curves"]}
    assert set(curves) == {"tau_m", "t_m"}
    assert [point["value"] for point in curves["tau_m"]["points"]] == [0.1, 0.3]
    assert [point["value"] for point in curves["t_m"]["points"]] == [1, 50]
    assert curves["tau_m"]["fixed"]["t_m"] == 1
    rows = {(entry.arm, entry.seed): row.metrics for entry, row in found.finished()}
    for curve in curves.values():
        for point in curve["points"]:
            mine = [rows[point["method"], seed] for seed in (0, 1)]
            base = [rows["base", seed] for seed in (0, 1)]
            assert point["test_auc"] == [one.test_auc for one in mine]
            assert point["precision"] == statistics.fmean(
                one.identification_precision or 0 for one in mine
            )
            assert point["minus_base"] == pytest.approx(
                statistics.fmean(
                    (a.test_auc or 0) - (b.test_auc or 0) for a, b in zip(mine, base, strict=True)
                )
            )
    assert {path.name for path in report.files} >= {"sensitivity.png", "sensitivity.svg"}
    assert not any("different seeds" in sentence for sentence in report.sentences)
    point = curves["tau_m"]["points"][0]
    gone = next(one for one in found.document.entries if one.arm == point["method"])
    (found.folder / "rows" / f"{gone.key}.json").unlink()
    again = run_analysis("sensitivity", [found])
    (sentence,) = (one for one in again.sentences if "tau_m of" in one)
    assert sentence.endswith("These means are over different seeds.")


def test_sensitivity_says_what_it_needs(home: Path) -> None:
    run_sweep(plan(seeds=(0,)), "trial", jobs=1)
    with pytest.raises(RunError, match="dart sweep --preset sensitivity"):
        run_analysis("sensitivity", ["trial"])
    run = train_run(
        dataset={"name": "synthetic", "options": {"interactions": 1500}}, training={"epochs": 1}
    )
    with pytest.raises(UsageError, match="sensitivity"):
        run_analysis("sensitivity", [run])


def test_long_names_leave_room_for_the_figure(home: Path) -> None:
    arms = (
        "base",
        "dart tau_m=0.04 t_m=20000 t_i=100 basis=batch r=0.25",
        "lcd",
        "lcd-re",
        "clean",
    )
    grid = {**SMALL, "training.patience": [1], "training.learning_rate": [0.001]}
    found = run_sweep(plan(arms=arms, seeds=(0,), grid=grid), "trial", jobs=1)
    # a warning of the drawing library would be an error here
    assert len(run_analysis("compare", [found]).figures) == 2
    assert dart("analyze", "compare", "trial").exit_code == 0


def test_shards_of_two_machines_merge_to_the_whole_sweep(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("sweep", *FLAGS, "--no-tune-base", "--seeds", "0-1", "--name", "s", "--jobs", "1")
    whole = dart(*words, "--json")
    parts = []
    for number in (1, 2):
        monkeypatch.setenv("DART_HOME", str(tmp_path / f"machine{number}"))
        assert dart(*words, "--shard", f"{number}/2", "-q").stdout == "s\n"
        parts.append(tmp_path / f"machine{number}" / "sweeps" / "s")
        assert len(find_sweep("s").finished()) == 2
    monkeypatch.setenv("DART_HOME", str(tmp_path / "merged"))
    merge = ("sweep", "--name", "s", "--merge", str(parts[0]), "--merge", str(parts[1]), "--json")
    merged, again = dart(*merge), dart(*merge)
    assert merged.exit_code == 0, merged.stderr
    assert merged.stdout == again.stdout
    assert dart(*merge, "--dry-run").exit_code == 2
    one, other = json.loads(whole.stdout), json.loads(merged.stdout)
    for row in (*one["rows"], *other["rows"]):
        del row["seconds"]
    assert one == other
    # the same row with another result
    _, row = Sweep(parts[0]).finished()[0]
    other_metrics = row.metrics.model_copy(update={"test_auc": 0.1})
    Sweep(parts[0]).write(row.model_copy(update={"metrics": other_metrics}))
    refused = dart(*merge)
    assert refused.exit_code == 1
    assert "another test AUC (0.1)" in refused.stderr


@pytest.mark.parametrize("text", ["0/2", "3/2", "1/0", "half", "1"])
def test_an_invalid_shard_is_refused(home: Path, text: str) -> None:
    result = dart("sweep", *FLAGS, "--shard", text)
    assert result.exit_code == 2
    assert f"invalid value for `--shard`: '{text}'" in result.stderr


def test_only_sweeps_are_merged(home: Path, tmp_path: Path) -> None:
    result = dart("sweep", "--merge", str(tmp_path))
    assert result.exit_code == 2
    assert "no sweep" in result.stderr
