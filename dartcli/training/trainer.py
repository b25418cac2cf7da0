"""Train one seed of a run: from prepared data to metrics and tables, without writing files."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import polars as pl
import torch
from torch import Tensor, nn

from dartcli import metrics
from dartcli.data.manifest import Prepared
from dartcli.data.tensors import FALSE_POSITIVE, Interactions
from dartcli.denoising.processes import Processes
from dartcli.training.checkpoint import CheckpointWriter
from dartcli.training.components import Components, build_components, build_model, restart
from dartcli.training.configuration import Configuration
from dartcli.training.device import (
    deterministic,
    explained,
    keeping_freed_memory,
    threads_for,
)
from dartcli.training.epochs import (
    EARLIER,
    HISTORY_COLUMNS,
    MEMORY,
    EpochRecord,
    Position,
    Stage,
    epoch_table,
)
from dartcli.training.loop import Outcome, TrainingLoop, copy_weights
from dartcli.training.program import strip_prefix
from dartcli.training.results import SeedMetrics, SeedRecord, finite_or_none
from dartcli.training.retrieval import measure_lists
from dartcli.training.scoring import compute_group_metrics, compute_metrics, score, score_table
from dartcli.training.sharing import FinishedStage, SharedStages, identify_stage
from dartcli.training.stages import (
    identify,
    measure_detection,
    measure_stages,
    report_detection,
    seed_of,
)

logger = logging.getLogger(__name__)

GROUPS = 5
"""Users, and items, are divided by activity into this many groups with equal positives."""
TOP_K = 20
"""Length of the lists whose recall and NDCG are measured."""


@dataclass(frozen=True)
class Trained:
    """One trained seed; the first network holds the reported weights."""

    metrics: SeedMetrics
    epochs: Sequence[EpochRecord]
    components: Components
    logits: Mapping[str, Tensor]
    """``valid`` and ``test`` -> Float[N], logits of the reported weights."""
    identified: Mapping[str, Tensor]
    """Weights of the model that the last stage's labels come from; empty with a single stage."""

    def measure_speed(self) -> dict[str, float]:
        """Return the median seconds of an epoch, validation included, and the rows per second."""
        seconds = statistics.median(epoch.seconds for epoch in self.epochs)
        rows = statistics.median(int(epoch.iterations["rows"].sum()) for epoch in self.epochs)
        return {"seconds_per_epoch": round(seconds, 4), "samples_per_second": round(rows / seconds)}

    def record(self) -> SeedRecord:
        """Return what the folder of a run keeps; scores the training positives."""
        model = self.components.models[0]
        positives = self._positives()
        with threads_for(model):
            train = score(model, positives)
        tables = {
            "train": (positives, train),
            "valid": (self.components.recorded_valid, self.logits["valid"]),
            "test": (self.components.test, self.logits["test"]),
        }
        return SeedRecord(
            metrics=self.metrics,
            history=epoch_table(self.epochs, HISTORY_COLUMNS),
            iterations=pl.concat([epoch.iterations for epoch in self.epochs]),
            weights=copy_weights(model),
            identified=self.identified,
            scores=pl.concat(
                self._scores(name, table, logit) for name, (table, logit) in tables.items()
            ),
            snapshots={
                iteration: self._scores("valid", self.components.recorded_valid, logit)
                for epoch in self.epochs
                for iteration, logit in epoch.snapshots.items()
            },
        )

    def _positives(self) -> Interactions:
        train = self.components.recorded_train
        positive = train.label > 0
        return Interactions(train.fields[positive], train.label[positive], train.kind[positive])

    def _scores(self, split: str, table: Interactions, logit: Tensor) -> pl.DataFrame:
        rating = self.components.ratings.get(split)
        if rating is not None and split == "train":
            positive = (self.components.recorded_train.label > 0).cpu().numpy()
            rating = rating.filter(pl.Series(positive))
        return score_table(split, table, logit, rating, self.components.counts)


class SeedTraining:
    """The training of one seed: iterate over its epochs, then read :attr:`outcome`.

    Parameters
    ----------
    configuration
        What to train.
    prepared
        The prepared data of the seed.
    seed
        Seed of the training.
    device
        Where to train.
    writer, position, processes
        As for :class:`dartcli.training.loop.TrainingLoop`.
    initial
        Gives the first network its initial weights; None = those of the seed.
    shared
        Stages of other trainings, used where they are equal; None = train all. An epoch of theirs
        is not yielded again, and may lack snapshots.

    Raises
    ------
    TrainingError
        If there is nothing to learn from, a loss is not a number, memory runs out, or the device
        fails (while iterating).
    """

    def __init__(  # noqa: PLR0913 - the parts of a training
        self,
        configuration: Configuration,
        prepared: Prepared,
        seed: int,
        device: torch.device,
        *,
        writer: CheckpointWriter | None = None,
        position: Position | None = None,
        initial: Callable[[nn.Module], None] | None = None,
        processes: Processes | None = None,
        shared: SharedStages | None = None,
    ) -> None:
        self.initial, self.processes, self.shared = initial, processes, shared
        self.configuration, self.prepared = configuration, prepared
        self.seed, self.device = seed, device
        self.writer, self.position = writer, position
        self.epochs: list[EpochRecord] = []
        """The finished epochs of the current stage."""
        self.detected: Mapping[str, float | None] = {}
        """How well false positives were detected before the current stage, as metrics."""
        self._outcome: Trained | None = None

    @property
    def outcome(self) -> Trained:
        """The trained seed.

        Raises
        ------
        RuntimeError
            If the training has not ended.
        """
        if self._outcome is None:
            raise RuntimeError("the training has not ended; iterate over it first")
        return self._outcome

    def __iter__(self) -> Iterator[EpochRecord]:
        """Train; yield the record of each epoch that is trained now."""
        wanted = self.configuration.settings.deterministic
        if self.shared is not None:
            self.shared.enter(self.configuration, self.prepared.digest)
        with explained(self.device), deterministic(self.device, wanted=wanted):
            components = build_components(self.configuration, self.prepared, self.seed, self.device)
            if seed_of(components.strategy, self.seed, 1) != self.seed:
                components = self._restart(components, 1)
            if self.position is None:
                self._initialize(components)
            with threads_for(components.models[0]), keeping_freed_memory():
                yield from self._train_stages(components)

    def _train_stages(self, components: Components) -> Iterator[EpochRecord]:
        """Train the stages of the strategy, each with what the one before handed on."""
        stage, position = Stage(), self.position
        if position is not None and position.stage > 1:
            earlier = [one for one in position.finished if one.stage < position.stage]
            handed = (strip_prefix(position.tensors, prefix) for prefix in (EARLIER, MEMORY))
            stage = Stage(position.stage, earlier, *handed)
            following = self._hand_on(components, stage)
            assert following is not None  # noqa: S101 - this stage has begun before
            components = following
        while True:
            outcome = yield from self._train_stage(components, stage, position)
            if stage.number == components.strategy.stages:
                break
            reports_best = self.configuration.protocol.report == "best"
            weights = outcome.best if reports_best else copy_weights(components.models[0])
            following_stage = Stage(
                stage.number + 1,
                [*stage.earlier, *self.epochs],
                weights,
                copy_weights(components.strategy),
            )
            following = self._hand_on(components, following_stage)
            if following is None:
                break
            components, stage, position = following, following_stage, None
        self._outcome = self._measure(components, outcome, stage)

    def _train_stage(
        self, components: Components, stage: Stage, position: Position | None
    ) -> Generator[EpochRecord, None, Outcome]:
        """Train a stage, or take it over from a training with an equal one."""
        key = None
        if self.shared is not None and self.configuration.settings.training.window is None:
            key = identify_stage(components, seed_of(components.strategy, self.seed, stage.number))
        if self.shared is not None and key is not None:
            known = self.shared.find(key)
            if known is not None:
                count = components.strategy.stages
                self.epochs = [
                    replace(record, stage=stage.number, stages=count) for record in known.epochs
                ]
                components.models[0].load_state_dict(known.weights)
                return known.outcome
        loop = self._build_loop(components, stage, position)
        self.epochs = list(loop.finished)
        for record in loop:
            self.epochs.append(record)
            yield record
        if self.shared is not None and key is not None:
            weights = copy_weights(components.models[0])
            self.shared.keep(key, FinishedStage(list(self.epochs), loop.outcome, weights))
        return loop.outcome

    def _initialize(self, components: Components) -> None:
        if self.initial is not None:
            self.initial(components.models[0])

    def _build_loop(
        self, components: Components, stage: Stage, position: Position | None
    ) -> TrainingLoop:
        valid, plan = components.valid, self.configuration.settings.training
        if stage.number < components.strategy.stages:
            # snapshots are of the last stage
            plan = plan.model_copy(update={"snapshots": ()})
        clean = self.configuration.protocol.clean_validation
        return TrainingLoop(
            components.models,
            components.strategy,
            components.training,
            valid,
            valid.clean_label if clean else valid.label,
            plan,
            seed_of(components.strategy, self.seed, stage.number),
            watched=components.recorded_valid,
            trusted=components.trusted_valid,
            stage=stage,
            writer=self.writer,
            position=position,
            processes=self.processes,
        )

    def _hand_on(self, components: Components, stage: Stage) -> Components | None:
        """Return what ``stage`` is trained with; None if it is not."""
        model = build_model(self.configuration, self.prepared, self.seed, self.device)
        model.load_state_dict(stage.weights)
        following = self._restart(components, stage.number)
        strategy = following.strategy
        found = identify(model, components, with_labels=strategy.reads_trusted)
        if strategy.reads_trusted and (self.position is None or self.position.stage < stage.number):
            report_detection(found)
        self._initialize(following)
        begins = strategy.begin_stage(stage.number, found.evidence, found.probability, stage.memory)
        if not begins and not strategy.reads_trusted:
            logger.warning(
                f"nothing was flagged with the model of training {stage.number - 1}, which is "
                "therefore the last one. Raise the rate, for example `--tau-m`."
            )
        self.detected = measure_detection(found, components)
        return following if begins else None

    def _restart(self, components: Components, stage: int) -> Components:
        """Return ``components`` as they are at the start of ``stage``."""
        seed = seed_of(components.strategy, self.seed, stage)
        return restart(components, self.configuration, self.prepared, seed)

    def finish(self) -> Trained:
        """Train to the end and return the outcome."""
        for _ in self:
            pass
        return self.outcome

    def _measure(self, components: Components, outcome: Outcome, stage: Stage) -> Trained:
        """Measure the last and the best epoch; leave the reported weights in the model."""
        model, test = components.models[0], components.test
        report = self.configuration.protocol.report
        logits = {"last": score(model, test)}
        if outcome.best_epoch == outcome.epochs:
            logits["best"] = logits["last"]
        else:
            last_weights = copy_weights(model)
            model.load_state_dict(outcome.best)
            logits["best"] = score(model, test)
            if report == "last":
                model.load_state_dict(last_weights)
        if components.valid is components.recorded_valid:
            valid = outcome.last_valid if report == "last" else outcome.best_valid
        else:
            valid = score(model, components.recorded_valid)
        epoch = self.epochs[outcome.best_epoch - 1] if report == "best" else self.epochs[-1]
        found = {
            **compute_metrics(logits[report], test),
            **compute_group_metrics(logits[report], test, components.counts, GROUPS),
        }
        if len(components.training.recorded) <= len(components.recorded_train):
            # of a streamed table, only some rows are here: what a user has seen is not known
            found |= measure_lists(
                model, components.recorded_train, test, self.prepared, TOP_K, limited=True
            )
        measured = SeedMetrics(
            seed=self.seed,
            split_seed=self.prepared.manifest.split_seed or 0,
            **{f"test_{name}": finite_or_none(value) for name, value in found.items()},
            test_auc_best_epoch=finite_or_none(metrics.auc(logits["best"], test.clean_label)),
            test_auc_last_epoch=finite_or_none(metrics.auc(logits["last"], test.clean_label)),
            valid_auc=finite_or_none(epoch.valid_auc),
            valid_auc_recorded=finite_or_none(metrics.auc(valid, components.recorded_valid.label)),
            valid_log_loss=finite_or_none(epoch.valid_log_loss),
            best_epoch=outcome.best_epoch,
            reported_epoch=epoch.epoch,
            epochs=outcome.epochs,
            iterations=self.epochs[-1].iteration,
            stopped=outcome.stopped,
            **_identification(epoch.iterations, components),
            **self.detected,
            stages=tuple(measure_stages(components, stage.earlier)),
        )
        return Trained(
            measured,
            self.epochs,
            components,
            {"valid": valid, "test": logits[report]},
            stage.weights,
        )


def _identification(iterations: pl.DataFrame, components: Components) -> dict[str, float | None]:
    """Return share, precision, and recall of what an epoch flagged; None if not defined."""
    flagged, unknown, correct, false, positives = (
        int(iterations[name].sum())
        for name in (
            "flagged",
            "flagged_unknown_positives",
            "flagged_false_positives",
            "false_positives",
            "positives",
        )
    )
    judged = flagged - unknown
    known = bool((components.training.recorded.kind == FALSE_POSITIVE).any())
    return {
        "flagged_share": flagged / positives if positives else None,
        "identification_precision": correct / judged if known and judged else None,
        "identification_recall": correct / false if known and false else None,
    }
