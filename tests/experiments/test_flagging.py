"""Whether a run says that nothing was flagged before its weights were reported."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dartcli.cli import app
from dartcli.experiments.flagging import examine_flagging, explain_unflagged
from dartcli.experiments.run import Run
from dartcli.experiments.train import train_run
from dartcli.reporting.build import write_report


def train(strategy: str = "dart", learning_rate: float = 0.001, **options: Any) -> Run:
    return train_run(
        dataset={"name": "synthetic", "options": {"interactions": 1500}},
        strategy={"name": strategy, "options": options},
        training={"epochs": 3, "batch_size": 256, "learning_rate": learning_rate},
        seeds=(0, 1),
    )


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"t_i": 100_000}, "`--t-i 0 --t-m 1ep`"),
        ({"t_i": 100_000, "t_m": 1}, "`--t-i 0`"),
        ({"t_m": 1_000_000}, "`--t-m 1ep`"),
        # even the highest rate is less than one row of a batch
        ({"t_m": 1, "tau_m": 0.001}, "Raise `--tau-m` or `--batch-size`"),
        ({"t_m": 1, "tau_m": 0.0}, "Raise `--tau-m`"),
    ],
)
def test_a_schedule_that_flags_nothing_names_the_remedy(
    home: Path, options: dict[str, Any], advice: str
) -> None:
    run = train(**options)
    assert not examine_flagging(run).has_flagged
    found = explain_unflagged(run)
    assert found is not None
    assert found.startswith("dart flagged no interactions up to the reported epoch of seeds 0-1")
    assert advice in found


@pytest.mark.parametrize("strategy", ["dart", "dart-rel"])
def test_flagging_after_the_reported_epoch_does_not_count(home: Path, strategy: str) -> None:
    # everything is flagged from the second epoch on, when the model overfits already
    run = train(strategy, 0.1, t_i="1ep", t_m=1, tau_m=1.0)
    late = {seed.seed for seed in run.metrics.seeds if seed.reported_epoch == 1}
    assert late
    assert examine_flagging(run).has_flagged
    found = explain_unflagged(run)
    assert (found is not None) == bool(late)
    for seed in late:
        assert run.history(seed)["flagged"].to_list()[0] == 0
        assert found is not None
        assert found.startswith(f"{strategy} flagged no interactions up to the reported epoch")


@pytest.mark.parametrize(
    ("strategy", "options"), [("base", {}), ("adt-ce-r", {}), ("dart", {"t_m": 1, "tau_m": 0.3})]
)
def test_other_runs_say_nothing(home: Path, strategy: str, options: dict[str, Any]) -> None:
    assert explain_unflagged(train(strategy, **options)) is None


def test_every_place_that_shows_a_run_says_it(home: Path) -> None:
    run = train(t_i=100_000)
    found = explain_unflagged(run)
    shown = CliRunner().invoke(app, ["runs", "show", run.name])
    assert f"warning: {found}" in shown.stderr
    page = write_report([run])
    assert f"{run.name}: {found}" in page.summary
    assert "dart flagged no interactions" in page.path.read_text("utf-8")
