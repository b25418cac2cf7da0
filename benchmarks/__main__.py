"""Run a benchmark and print its table: ``python -m benchmarks train --size book-crossing``."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.timing import Benchmark
from dartcli.cli import console, options, tables
from dartcli.cli.errors import guarded
from dartcli.errors import UsageError
from dartcli.experiments.environment import environment

OTHER_MODULES = ("timing", "results", "labels")


def benchmark_names() -> list[str]:
    """Return the names of the modules in this folder that define a ``BENCHMARK``."""
    found = (module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    return sorted(name for name in found if name[0] != "_" and name not in OTHER_MODULES)


def run_benchmark(name: str, **chosen: Any) -> dict[str, Any]:
    """Run one benchmark and return its document.

    Raises
    ------
    UsageError
        If the benchmark does not exist or an option is invalid.
    """
    if name not in benchmark_names():
        raise UsageError(f"no benchmark {name!r}. Choose from {', '.join(benchmark_names())}.")
    benchmark: Benchmark = importlib.import_module(f"benchmarks.{name}").BENCHMARK
    return {
        "benchmark": name,
        "title": benchmark.title,
        "environment": environment(),
        **benchmark.measure(chosen),
    }


def main(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help=f"One of {', '.join(benchmark_names())}.")
    ] = "train",
    size: Annotated[
        str,
        typer.Option(
            help="Size of the generated data: movielens-100k, book-crossing, or jester; for "
            "peers, movielens-100k (the dataset itself) or generated."
        ),
    ] = "movielens-100k",
    strategy: Annotated[str, typer.Option(help="Strategy to time against base.")] = "dart",
    rounds: Annotated[int, typer.Option(min=1, help="Measured rounds.")] = 5,
    rows: Annotated[
        str | None,
        typer.Option(help="Sizes for preprocess, scale, and eval, in millions of rows: 5,20."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=2, help="Epochs of every contender of peers.")
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="Interpreter with a peer. Repeatable."),
    ] = None,
    device: options.Device = "cpu",
    json: options.Json = False,
) -> None:
    """Measure speed on this machine; contenders take turns, and medians are reported."""
    found = run_benchmark(
        name,
        size=size,
        strategy=strategy,
        rounds=rounds,
        rows=rows,
        epochs=epochs,
        python=python,
        device=device,
    )
    if json:
        console.document(found)
        return
    measured = found["rows_measured"]
    about = ", ".join(str(found[key]) for key in ("size", "device") if key in found)
    tables.table(
        found["title"] + (f" ({about})" if about else ""),
        [column.replace("_", " ") for column in measured[0]],
        [tuple(row.values()) for row in measured],
    )
    for label, value in found.get("also", {}).items():
        console.note(f"{label}: {value:.4g}")
    for contender, cause in found.get("failed", {}).items():
        console.note(f"{contender} was left out: {cause}")


if __name__ == "__main__":
    typer.run(guarded(main))
