"""``dart cache``: what is stored, and what is removed."""

import json
from pathlib import Path

import pytest
from running import DATA, dart, succeed

from dartcli.experiments import cache
from dartcli.experiments.run_index import lock_run
from dartcli.experiments.sweep import list_sweeps


def list_sizes() -> dict[tuple[str, str], int]:
    document = json.loads(succeed("cache", "--json").stdout)
    found = {(one["part"], one["name"]): one["size"] for one in document["stored"]}
    assert document["size"] == sum(found.values())
    return found


def prepare_log(folder: Path) -> Path:
    path = folder / "log.csv"
    path.write_text("user,item\n" + "".join(f"u{n % 40},i{n % 31}\n" for n in range(600)))
    columns = ["--user", "user", "--item", "item", "--name", "shop"]
    succeed("preprocess", "--input", str(path), *columns)
    return path


def run_sweep() -> None:
    succeed(
        "sweep", "--datasets", "synthetic", "--strategies", "base", "--seeds", "0", "--jobs", "1",
        "--no-tune-base", "--set", "training.epochs=1", *DATA,
    )  # fmt: skip


def test_sizes_are_those_of_the_files(trained: Path, tmp_path: Path) -> None:
    prepare_log(tmp_path)
    succeed("report", "one")
    found = list_sizes()
    for part, folder in (("run", "runs"), ("report", "reports"), ("prepared data", "processed")):
        files = [path for path in (trained / folder).rglob("*") if path.is_file()]
        # files next to the folders of runs and datasets belong to none of them
        inner = [file for file in files if part == "report" or file.parent != trained / folder]
        sizes = [size for (kind, _), size in found.items() if kind == part]
        assert sum(sizes) == sum(file.stat().st_size for file in inner), part
    assert ("prepared data", "shop") in found
    assert ("run", "left") in found
    assert max(map(len, succeed("cache").stdout.splitlines())) <= 80


def test_pruning_removes_only_what_is_created_again(trained: Path) -> None:
    before = list_sizes()
    freed = json.loads(succeed("cache", "prune", "--json").stdout)["freed"]
    after = list_sizes()
    prepared = {key: size for key, size in before.items() if key[0] == "prepared data"}
    assert prepared
    assert not set(prepared) & set(after)
    assert freed >= sum(prepared.values())
    assert {key for key in before if key[0] == "run"} <= set(after)
    # what was pruned is prepared again
    succeed("eval", "one")
    assert (trained / "processed" / "synthetic").is_dir()


def test_data_in_use_are_not_pruned(trained: Path) -> None:
    with lock_run(trained / "runs" / "left"):
        result = dart("cache", "prune")
    assert result.exit_code == 1
    assert "run left is being trained" in result.stderr
    assert (trained / "processed" / "synthetic").is_dir()


def test_a_log_is_removed_but_its_files_are_not(home: Path, tmp_path: Path) -> None:
    path = prepare_log(tmp_path)
    assert "shop" in succeed("list", "datasets", "-q").stdout.split()
    refused = dart("cache", "remove", "shop")
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    succeed("cache", "remove", "shop", "--yes")
    assert path.is_file()
    assert not (home / "processed" / "shop").exists()
    assert "shop" not in succeed("list", "datasets", "-q").stdout.split()
    assert "no dataset named 'shop'" in dart("train", "shop").stderr
    # a command without a dataset falls back to the default
    assert json.loads(succeed("sweep", "--dry-run", "--json").stdout)["trainings"] == 10


@pytest.mark.parametrize("name", ["nothing", "../runs", ".", "one"])
def test_other_folders_cannot_be_removed_as_datasets(trained: Path, name: str) -> None:
    result = dart("cache", "remove", name, "--yes")
    assert result.exit_code == 2
    assert name in result.stderr
    assert (trained / "runs" / "one").is_dir()


def test_sweeps_are_listed_and_removed_with_the_runs(trained: Path) -> None:
    run_sweep()
    document = json.loads(succeed("runs", "--json").stdout)
    (sweep,) = document["sweeps"]
    assert (sweep["name"], sweep["state"]) == ("sweep-strict", "finished")
    assert (sweep["finished"], sweep["total"]) == (1, 1)
    assert sweep["seconds"] > 0
    shown = succeed("runs").stdout
    assert "1 of 1" in shown
    assert sweep["ended"][:4] in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert succeed("runs", "-q").stdout.split() == ["one", "two", "left", "sweep-strict"]
    assert succeed("runs", "remove", "sweep-strict", "two", "--yes", "-q").stdout.split() == [
        "two", "sweep-strict",
    ]  # fmt: skip
    assert list_sweeps() == []
    assert not (trained / "runs" / "two").exists()


def test_what_was_written_is_opened_on_request(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", lambda path: opened.append(Path(path).suffix))
    succeed("report", "one", "--open")
    succeed("analyze", "memorization", "one", "--open")
    assert opened == [".html", ".png"]
    succeed("analyze", "memorization", "one")
    assert len(opened) == 2
    assert cache.measure_size(trained / "reports") > 0
