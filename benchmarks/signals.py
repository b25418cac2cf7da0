"""Compare signals of false positives, with labels and without, on data with ground truth.

::

    python -m benchmarks.signals movielens-100k --model fm --seeds 0-2

The signals of the catalog are computed from the reported weights of plain training under
``strict``. Three need more trainings than the tool does, or other evidence: the loss averaged over
all epochs; the out-of-fold loss, by a model that was trained without the interaction; and what
cleanlab's ``find_label_issues`` makes of out-of-fold probabilities, if it is installed. The
detector is fitted with each kind of loss, and, as learning from positive and unlabeled examples
would, only to tell the granted true positives from all other rows. Results are kept by seed under
``DART_HOME``. The last lines are a Markdown table.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final
from unittest import mock

import numpy as np
import torch
import typer
from torch import Tensor

from dartcli import catalog, metrics, settings
from dartcli.cli import console
from dartcli.cli.errors import guarded
from dartcli.data.negatives import sample_pairs
from dartcli.data.tensors import FALSE_POSITIVE, Interactions, known_pairs
from dartcli.denoising import Evidence
from dartcli.experiments.configure import load_prepared, resolve
from dartcli.reporting.formats import format_markdown
from dartcli.reporting.table import Table
from dartcli.signals import _detector
from dartcli.storage import paths
from dartcli.storage.atomic import write_json
from dartcli.training import device as devices
from dartcli.training import trainer
from dartcli.training.components import Components, build_components
from dartcli.training.grants import draw_trusted
from dartcli.training.scoring import score, score_positives
from dartcli.training.stages import TOP_SHARE, collect_evidence
from dartcli.training.trainer import SeedTraining

FOLDS: Final = 5
Found = dict[str, tuple[float | None, float]]
"""Signal -> AUC, and precision at the top."""


@dataclass(frozen=True)
class Base:
    """One plain training."""

    components: Components
    """With the reported weights in the first model."""
    mean_logit: Tensor
    """Float[P], the mean over the epochs of each positive's logit."""


@contextlib.contextmanager
def building(kept: Tensor | None, built: list[Components]) -> Iterator[None]:
    """Train on the positives ``kept`` (Bool[N]) only, and remember what was built."""

    def build(*args: Any) -> Components:
        components = build_components(*args)
        if kept is not None:
            table = components.recorded_train
            part = Interactions(table.fields[kept], table.label[kept], table.kind[kept])
            training = components.training.replace_recorded(part)
            components = replace(components, training=training)
        built.append(components)
        return components

    with mock.patch.object(trainer, "build_components", build):
        yield


def train_base(dataset: str, model: str, seed: int, kept: Tensor | None = None) -> Base:
    """Train base; what is left out of ``kept`` is not drawn as a negative either."""
    configuration = resolve(
        {
            "dataset": {"name": dataset},
            "model": {"name": model},
            "strategy": {"name": "base"},
            "seeds": [seed],
        }
    )
    prepared, built = load_prepared(configuration, seed), list[Components]()
    training = SeedTraining(configuration, prepared, seed, devices.resolve("cpu"))
    total, epochs = torch.zeros(1), 0
    with building(kept, built):
        for _ in training:
            [components] = built
            total = total + score_positives(components.models[0], components.recorded_train)[1]
            epochs += 1
    return Base(components, total / epochs)


def predict_out_of_fold(dataset: str, model: str, seed: int, table: Interactions) -> Tensor:
    """Return the logits of the P positives of ``table`` and of as many sampled pairs, [2, P]."""
    row = torch.nonzero(table.label > 0)[:, 0]
    random = torch.Generator().manual_seed(seed)
    fold = torch.randperm(len(row), generator=random) % FOLDS
    users, items = (int(size) + 1 for size in table.fields.max(0).values[:2])
    known = known_pairs(table, items)
    drawn = torch.stack(sample_pairs(len(row), users, items, known, random), dim=1)
    logit = torch.empty(2, len(row))
    for number in range(FOLDS):
        kept, mine = torch.ones(len(table), dtype=torch.bool), fold == number
        kept[row[mine]] = False
        fitted = train_base(dataset, model, seed, kept).components.models[0]
        for kind, fields in enumerate((table.fields[row], drawn)):
            part = fields[mine]
            nothing = torch.zeros(len(part))
            logit[kind, mine] = score(fitted, Interactions(part, nothing, nothing))
    return logit


def measure_seed(dataset: str, model: str, seed: int, number: int) -> Found:
    """Return how well each signal ranks the positives whose label is not granted."""
    base = train_base(dataset, model, seed)
    components = base.components
    table = components.recorded_train
    left_out = predict_out_of_fold(dataset, model, seed, table)
    evidence = collect_evidence(components.models[0], components)
    variants = {
        "loss": evidence,
        "mean loss": replace(evidence, logit=base.mean_logit),
        "out-of-fold loss": replace(evidence, logit=left_out[0]),
    }
    scores = {name: found.loss for name, found in variants.items()}
    for name in catalog.names("signals"):
        scores[name] = catalog.load("signals", name).compute(evidence)
    granted = draw_trusted(table, number, seed, "trusted")
    rows = torch.searchsorted(evidence.row, granted)
    false = table.kind[evidence.row] == FALSE_POSITIVE
    for name, found in variants.items():
        detection = _detector.detect(found, rows, false[rows])
        if detection is not None and detection.is_informative:
            scores[f"detector with {name}"] = detection.probability
    scores["PU learning"] = learn_from_unlabeled(evidence, rows, false[rows])
    hidden = torch.ones(len(evidence.row), dtype=torch.bool)
    hidden[rows] = False
    result: Found = {name: measure(value[hidden], false[hidden]) for name, value in scores.items()}
    if importlib.util.find_spec("cleanlab"):
        result["cleanlab"] = run_cleanlab(left_out.flatten(), evidence, hidden, false)
    return result


def learn_from_unlabeled(evidence: Evidence, rows: Tensor, false: Tensor) -> Tensor:
    """Return 1 - P(row is one of the granted true positives), with the detector's features.

    Elkan and Noto, "Learning Classifiers from Only Positive and Unlabeled Data" (KDD 2008): P is
    proportional to the probability of a true positive, if the granted ones are a random sample.
    """
    table = _detector._Table(evidence, rows.numpy(), false.double().numpy())
    everything = np.arange(len(evidence.row))
    features = table.describe(everything, np.arange(len(rows)))
    chosen = np.zeros(len(everything))
    chosen[rows[~false].numpy()] = 1
    model = _detector._Guarded(features, chosen, _detector.STRENGTHS[0])
    return torch.from_numpy(1 - model.predict(features))


def measure(value: Tensor, false: Tensor) -> tuple[float, float]:
    """Return AUC and precision at the top of a ranking."""
    return metrics.auc(value.double(), false), metrics.precision_at(value, false, [TOP_SHARE])[0]


def run_cleanlab(
    logit: Tensor, evidence: Evidence, hidden: Tensor, false: Tensor
) -> tuple[None, float]:
    """Return no AUC, and the precision of what ``find_label_issues`` flags among the positives."""
    from cleanlab.filter import find_label_issues

    positives = len(evidence.row)
    label = np.repeat([1, 0], positives)
    probability = logit.double().sigmoid().numpy()
    flagged = find_label_issues(label, np.stack([1 - probability, probability], axis=1))
    chosen = torch.from_numpy(np.asarray(flagged[:positives])) & hidden
    console.note(f"cleanlab flags {int(chosen.sum()):,} of {positives:,} positives")
    return None, float(false[chosen].double().mean())


def main(
    dataset: Annotated[str, typer.Argument(help="Dataset with ground truth.")],
    model: Annotated[str, typer.Option(help="Model.")] = "fm",
    seeds: Annotated[str, typer.Option(help="Seeds, such as 0-2.")] = "0-2",
    number: Annotated[int, typer.Option(help="Trusted labels of the detectors.")] = 500,
) -> None:
    """Train base and its folds for each seed, and print how well each signal detects."""
    folder = paths.home() / "experiments" / f"signals-{dataset}-{model}-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    found: list[Found] = []
    for seed in settings.parse_seeds(seeds):
        file = folder / f"{seed}.json"
        if not file.is_file():
            write_json(file, measure_seed(dataset, model, seed, number))
        found.append(json.loads(file.read_text()))
        console.note(f"{dataset} {model}, seed {seed}: done")
    names = [name for name in max(found, key=len) if any(name in one for one in found)]
    rows = []
    for name in names:
        pairs = [one[name] for one in found if name in one]
        aucs = [auc for auc, _ in pairs if auc is not None]
        top = float(np.mean([top for _, top in pairs]))
        shown = f"{len(pairs)} of {len(found)}"
        rows.append((name, float(np.mean(aucs)) if aucs else None, top, shown))
    console.print_line(
        format_markdown(
            Table(
                title=f"{dataset}, {model}: known false positives among the training positives",
                columns=("ranked by", "AUC", f"precision at {TOP_SHARE:.0%}", "seeds"),
                rows=tuple(rows),
            )
        )
    )


if __name__ == "__main__":
    typer.run(guarded(main))
