"""Hyper-parameter search: spaces, samplers, what an interruption leaves, and the confirmation."""

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dartcli.cli import app
from dartcli.errors import TrainingError, UsageError
from dartcli.experiments.study import (
    SAMPLERS,
    Study,
    StudyDocument,
    claim_study,
    load_optuna,
    repair_journal,
)
from dartcli.experiments.sweep_plan import build_tree
from dartcli.experiments.train import train_run
from dartcli.experiments.tune import StudyPlan, StudyResult, run_study
from dartcli.experiments.tune_space import Dimension, parse_space
from dartcli.metrics.statistics import PairedDifference, compare_paired, expect_maximum
from dartcli.reporting.tuning import phrase_study
from dartcli.settings import merge

TREE: dict[str, Any] = {
    "dataset": {"name": "synthetic", "options": {"interactions": 1500}},
    "training": {"epochs": 2, "batch_size": 256},
    "device": "cpu",
}
SPACE = ("r=0:1", "tau_m=log:0.01:0.9", "strategy.t_m=1:50", "basis=positives,batch")


def document(sampler: str = "tpe", **changes: Any) -> StudyDocument:
    fields: dict[str, Any] = {
        "settings": {"protocol": "strict", "strategy": {"name": "dart", "options": {"r": 0.5}}},
        "space": parse_space(SPACE, TREE),
        "seeds": (0,),
        "sampler": sampler,
        "arguments": {},
        "optuna": load_optuna().__version__,
        "storage": None,
    }
    return StudyDocument(**{**fields, **changes})


def open_study(name: str, sampler: str = "tpe", **changes: Any) -> Study:
    made = document(sampler, **changes)
    return Study(claim_study(name, made), made)


def score(values: dict[str, Any]) -> float:
    r, tau = values.get("strategy.r", 0.5), values.get("strategy.tau_m", 0.02)
    return -((r - 0.7) ** 2) - (math.log(tau) + 2) ** 2 / 10


@pytest.mark.parametrize(
    ("text", "key", "kind"),
    [
        ("r=0:1", "strategy.r", "float"),
        ("t_i=log:1:10000", "strategy.t_i", "int"),
        ("strategy.tau_m=0.005,0.01,0.02", "strategy.tau_m", "choice"),
        ("basis=positives,batch", "strategy.basis", "choice"),
        ("batch_size=128:512", "training.batch_size", "int"),
        ("weight_decay=log:1e-6:1e-3", "training.weight_decay", "float"),
        ("factors=4:32", "model.factors", "int"),
        ("trusted=0,100,500", "trusted", "choice"),
    ],
)
def test_a_dimension_is_a_setting_and_its_values(text: str, key: str, kind: str) -> None:
    (found,) = parse_space([text], TREE)
    assert (found.key, found.kind, found.log) == (key, kind, "log:" in text)
    if kind == "choice":
        assert len(found.values) == text.count(",") + 1
    else:
        assert [found.low, found.high] == [float(end) for end in text.split("=")[1].split(":")[-2:]]


@pytest.mark.parametrize(
    ("texts", "named"),
    [
        ((), "--space r=0:1"),
        (("r",), "'r'"),
        (("r=",), "'r='"),
        (("r=1:0",), "'r=1:0'"),
        (("r=log:0:1",), "'r=log:0:1'"),
        (("r=0:1:2",), "'r=0:1:2'"),
        (("r=a:b",), "'r=a:b'"),
        (("r=0:2",), r"strategy\.r.*2"),
        (("r=0.5,7",), r"strategy\.r.*7"),
        (("q=0:1",), "'q'"),
        (("strategy.q=0:1",), r"strategy\.q"),
        (("r=0:1", "strategy.r=0:1"), r"strategy\.r"),
        (("r=0.5,1,0.50",), r"strategy\.r=0\.5 more than once"),
    ],
)
def test_an_invalid_space_is_refused(texts: tuple[str, ...], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        parse_space(texts, TREE)


def run_trials(name: str, sampler: str, count: int, **changes: Any) -> list[Any]:
    study = open_study(name, sampler, **changes)
    while len(study.trials()) < count:
        trial = study.ask()
        study.tell(trial.number, score(trial.values))
    return study.trials()


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_interrupted_search_continues_to_the_digit(sampler: str) -> None:
    if sampler == "cma-es":
        pytest.importorskip("cmaes")
    whole = run_trials("whole", sampler, 12)
    assert [trial.number for trial in whole] == list(range(12))
    assert whole[0].values == {}
    assert all(set(trial.values) == {one.key for one in document().space} for trial in whole[1:])
    assert len({json.dumps(trial.values) for trial in whole}) > 10
    # stop after a trial, and within one
    for stop in (1, 3, 5, 8):
        run_trials("cut", sampler, stop)
        study = open_study("cut", sampler)
        study.ask()
        left = open_study("cut", sampler)
        (running,) = (trial for trial in left.trials() if trial.is_running)
        assert running.values == whole[running.number].values
        left.tell(running.number, score(running.values))
    assert run_trials("cut", sampler, 12) == whole


@pytest.mark.usefixtures("home")
def test_a_better_sampler_than_chance_finds_a_better_setting() -> None:
    best = {
        sampler: max(trial.score or -9 for trial in run_trials(sampler, sampler, 40))
        for sampler in ("tpe", "random")
    }
    assert best["tpe"] > best["random"]
    assert best["tpe"] > score({})


@pytest.mark.usefixtures("home")
def test_the_defaults_come_first_even_outside_of_the_space() -> None:
    inside = open_study("inside", space=parse_space(["r=0:1"], TREE))
    inside.ask()
    inside.tell(0, 0.5)
    outside = open_study("outside", space=parse_space(["r=0.1,0.9", "t_m=1:9"], TREE))
    first = outside.ask()
    assert first.values == {}
    outside.tell(first.number, 0.5)
    second = outside.ask()
    assert set(second.values) == {"strategy.r", "strategy.t_m"}
    stored = [trial.params for trial in outside._stored.get_trials()]
    assert stored[0] == {}
    assert inside._stored.get_trials()[0].params == {"strategy.r": 0.5}


@pytest.mark.usefixtures("home")
def test_failed_trials_are_counted_and_have_no_score() -> None:
    study = open_study("failing")
    for number in range(3):
        study.ask()
        study.tell(number, None if number == 1 else 0.5)
    assert [trial.score for trial in open_study("failing").trials()] == [0.5, None, 0.5]
    assert not any(trial.is_running for trial in study.trials())


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("left", [b'{"op_code":6,"wor', b"\0" * 40 + b"\n", b"\n"])
def test_a_torn_last_line_is_cut_off(left: bytes) -> None:
    whole = run_trials("torn", "tpe", 4)
    path = open_study("torn").folder / "journal.log"
    text = path.read_bytes()
    path.write_bytes(text + left)
    assert run_trials("torn", "tpe", 4) == whole
    assert path.read_bytes().startswith(text)
    assert not repair_journal(path)


@pytest.mark.usefixtures("home")
def test_the_lock_of_a_killed_process_is_removed() -> None:
    run_trials("locked", "tpe", 2)
    path = open_study("locked").folder / "journal.log"
    path.with_name("journal.log.lock").symlink_to(path)
    assert len(run_trials("locked", "tpe", 3)) == 3


@pytest.mark.usefixtures("home")
def test_any_storage_of_optuna_works(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    pytest.importorskip("sqlalchemy")
    stored = run_trials("url", "tpe", 5, storage=url)
    assert [trial.values for trial in stored] == [
        trial.values for trial in run_trials("file", "tpe", 5)
    ]
    assert len(load_optuna().load_study(study_name="url", storage=url).trials) == 5
    with pytest.raises(Exception, match="cannot open the storage of study bad"):
        open_study("bad", storage="no-such-driver://x")


@pytest.mark.usefixtures("home")
def test_the_password_of_a_storage_is_not_written_down() -> None:
    for password in ("secret", "changed", "with/slash:es"):
        folder = claim_study("mine", document(storage=f"mysql://me:{password}@host:3306/trials"))
    stored = json.loads((folder / "study.json").read_text())
    assert stored["storage"] == "mysql://me:***@host:3306/trials"
    with pytest.raises(UsageError, match="other values of `storage`"):
        claim_study("mine", document(storage="mysql://me:secret@elsewhere/trials"))


@pytest.mark.usefixtures("home")
def test_another_search_of_the_same_name_is_refused() -> None:
    run_trials("mine", "tpe", 1)
    with pytest.raises(UsageError, match="other values of `sampler`"):
        run_trials("mine", "random", 1)
    with pytest.raises(UsageError, match="other values of `space`"):
        run_trials("mine", "tpe", 1, space=parse_space(["r=0:1"], TREE))
    settings = document().settings
    with pytest.raises(UsageError, match="other values of `settings`"):
        run_trials("mine", "tpe", 1, settings={**settings, "protocol": "reference"})
    # but the device may change
    assert len(run_trials("mine", "tpe", 2, settings={**settings, "device": "cuda"})) == 2


def test_the_expected_maximum_is_that_of_tables_and_of_drawing() -> None:
    # Harter (1961), Expected values of normal order statistics
    for count, expected in ((1, 0.0), (2, 0.56419), (5, 1.16296), (10, 1.53875), (50, 2.24907)):
        assert expect_maximum(count) == pytest.approx(expected, abs=1e-5)
    drawn = np.random.default_rng(0).normal(size=(20_000, 135)).max(axis=1).mean()
    assert expect_maximum(135) == pytest.approx(drawn, abs=0.02)


def test_the_best_setting_is_confirmed_against_the_defaults(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the default learns nothing
    tree = {**TREE, "training": {"epochs": 2, "batch_size": 64, "learning_rate": 1e-7}}
    space = parse_space(("r=0:1", "learning_rate=0.001,0.003"), tree)
    plan = StudyPlan("mine", tree, space, trials=4, confirm=(5, 6, 7))
    found, trials = run_study(plan, jobs=1)
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert found.objective == "valid_auc_recorded"
    assert found.score == max(trial.score or 0 for trial in trials)

    def train(values: dict[str, Any], seeds: tuple[int, ...]) -> Any:
        trees = [build_tree(key, value) for key, value in values.items()]
        return train_run(merge(tree, *trees), strategy="dart", seeds=seeds).metrics.seeds

    for trial in trials:
        assert trial.score == train(trial.values, (0,))[0].valid_auc_recorded
    assert found.best > 0
    base, best = train({}, (5, 6, 7)), train(found.values, (5, 6, 7))
    for metric in ("valid_auc_recorded", "test_auc"):
        pairs = zip(best, base, strict=True)
        expected = compare_paired([getattr(a, metric) - getattr(b, metric) for a, b in pairs])
        assert found.confirmed[metric] == expected
    recorded = zip(best, base, strict=True)
    std = statistics.stdev(
        (a.valid_auc_recorded or 0) - (b.valid_auc_recorded or 0) for a, b in recorded
    )
    assert found.luck == pytest.approx(expect_maximum(4) * std / math.sqrt(2))
    # the same call trains nothing
    before = {path: path.stat().st_mtime_ns for path in home.glob("studies/mine/rows/*")}
    assert run_study(plan, jobs=1) == (found, trials)
    assert {path: path.stat().st_mtime_ns for path in home.glob("studies/mine/rows/*")} == before
    with pytest.raises(UsageError, match="fresh seeds"):
        run_study(replace(plan, confirm=(0, 1)))
    # the best setting is kept if the confirmation fails
    file = home / "studies/mine/best.json"
    stored = file.read_bytes()
    file.unlink()

    def fail(*_: object) -> None:
        raise TrainingError("no confirmation")

    monkeypatch.setattr("dartcli.experiments.tune.run_trainings", fail)
    with pytest.raises(TrainingError, match="no confirmation"):
        run_study(replace(plan, confirm=(8, 9)), jobs=1)
    assert file.read_bytes() == stored
    with pytest.raises(UsageError, match="no sampler 'luck'"):
        run_study(replace(plan, sampler="luck"))


def test_trusted_validation_labels_are_the_objective_if_there_are_any(home: Path) -> None:
    tree = {**TREE, "trusted_valid": 40}
    space = parse_space(("tau_m=0.3,0.6",), tree)
    found, _ = run_study(StudyPlan("labels", tree, space, trials=2), jobs=1)
    assert found.objective == "valid_auc"
    assert "estimated with the trusted labels" in next(iter(phrase_study(found)))


def test_a_search_in_which_every_trial_fails_says_so(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = {**TREE, "training": {"epochs": 1, "learning_rate": 1e29}}
    space = parse_space(("r=0:1",), tree)
    with pytest.raises(TrainingError, match="every trial of study broken failed"):
        run_study(StudyPlan("broken", tree, space, trials=2), jobs=1)
    assert "trial 1 failed" in caplog.text


def test_a_trial_whose_values_do_not_fit_together_fails_alone(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # a ramp of 0 iterations is refused when the training starts
    space = parse_space(("t_m=0,5",), TREE)
    plan = StudyPlan("ramp", TREE, space, trials=6, seeds=(0, 1), sampler="random")
    found, trials = run_study(plan, jobs=1)
    failed = [one.number for one in trials if one.values == {"strategy.t_m": 0}]
    assert failed
    assert [one.number for one in trials if one.score is None] == failed
    assert (found.failed, found.trials) == (len(failed), 6 - len(failed))
    assert caplog.text.count("must rise over more than 0 iterations") == len(failed)


def test_no_trial_starts_after_the_time(home: Path) -> None:
    space = parse_space(("r=0:1",), TREE)
    found, trials = run_study(StudyPlan("short", TREE, space, trials=4, seconds=3600), jobs=1)
    assert len(trials) == 4
    with pytest.raises(TrainingError):
        run_study(StudyPlan("none", TREE, space, trials=4, seconds=0), jobs=1)
    assert found.trials == 4


def result(**changes: Any) -> StudyResult:
    fields: dict[str, Any] = {
        "study": "s", "objective": "valid_auc_recorded", "trials": 50, "failed": 0, "best": 7,
        "values": {"strategy.r": 0.123456}, "score": 0.71, "default_score": 0.7, "luck": 0.004,
    }  # fmt: skip
    one = PairedDifference(5, 0.001, 0.001, (-0.001, 0.003), None, None)
    confirmed = {"valid_auc_recorded": one, "test_auc": one}
    return StudyResult(**{**fields, "confirmed": confirmed, **changes})


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((0.001, 0.002), "the gain survives"),
        ((-0.001, 0.002), "the gain does not survive"),
        ((-0.002, -0.001), "the defaults are better"),
        (None, "On 5 fresh seeds, the gain cannot be judged: "),
    ],
)
def test_the_sentences_say_whether_the_gain_survives_and_what_luck_gives(
    interval: tuple[float, float] | None, words: str
) -> None:
    one = PairedDifference(5, 0.001, 0.001, interval, None, None)
    found = result(confirmed={"valid_auc_recorded": one, "test_auc": one})
    text = " ".join(phrase_study(found))
    assert words in text
    assert "Trial 7 is the best of 50 finished trials (strategy.r 0.1235): " in text
    assert " (strategy.r 0.1235): 0.7100, +0.0100 above" in text
    assert "recorded valid AUC +0.0010" in text
    assert "about +0.0040 better by luck alone" in text
    few = dict.fromkeys(("valid_auc_recorded", "test_auc"), replace(one, n=2))
    assert "On 2 fresh seeds, the gain cannot be judged" in " ".join(
        phrase_study(result(confirmed=few))
    )
    assert "by luck alone" not in " ".join(phrase_study(result(trials=1)))
    assert "None of 50 trials was better" in " ".join(phrase_study(result(best=0)))


@pytest.mark.parametrize(
    ("text", "value", "end"),
    [
        ("r=0:1", 0.04, "lower"),
        ("r=0:1", 0.06, None),
        ("r=0:1", 0.97, "upper"),
        ("tau_m=log:0.005:0.5", 0.00507, "lower"),
        ("tau_m=log:0.005:0.5", 0.02, None),
        ("tau_m=log:0.005:0.5", 0.45, "upper"),
        ("t_i=log:1:10000", 1, "lower"),
        ("tau_m=0.005,0.01,0.02", 0.005, None),
    ],
)
def test_a_best_value_at_the_end_of_its_range_is_named(
    text: str, value: float, end: str | None
) -> None:
    (dimension,) = parse_space((text,), TREE)
    assert dimension.find_end(value) == end
    said = " ".join(phrase_study(result(ends={"strategy.r": end} if end else {})))
    sentence = f"The best value of strategy.r is at the {end} end of its range."
    assert (sentence in said) == (end is not None)


def test_the_command_prints_trials_and_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "my home"
    monkeypatch.setenv("DART_HOME", str(home))
    words = ["tune", "synthetic", "--set", "dataset.interactions=1500", "--set"]
    words += ["training.epochs=1", "--space", "r=0:1", "--space", "tau_m=0.3,0.6"]
    words += ["--trials", "3", "--jobs", "1", "--confirm", "7,8", "--time", "1h"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    assert "Objective: AUC on the validation split as recorded." in done.stdout
    folder = home / "studies/synthetic-fm-dart-tpe"
    assert f"dart train --config '{folder / 'best.json'}'" in "".join(done.stderr.split("\n"))
    best = CliRunner().invoke(app, ["train", "--config", str(folder / "best.json"), "--json"])
    assert best.exit_code == 0, best.stderr
    again = CliRunner().invoke(app, [*words, "--json"])
    found = json.loads(again.stdout)
    assert found["trials"] == 3
    assert json.loads(best.stdout)["seeds"][0]["valid_auc_recorded"] == found["score"]
    assert CliRunner().invoke(app, [*words, "-q"]).stdout == "synthetic-fm-dart-tpe\n"
    refused = CliRunner().invoke(app, [*words, "--time", "soon"])
    assert refused.exit_code == 2
    assert "'soon'" in refused.stderr


def test_a_dimension_contains_what_it_can_propose() -> None:
    numbers = Dimension(key="a", kind="float", low=0, high=1)
    assert numbers.contains(0.5)
    assert not any(numbers.contains(value) for value in (1.5, "3ep", True, None))
    assert Dimension(key="a", kind="choice", values=("x", 2)).contains(2)
