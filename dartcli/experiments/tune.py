"""Search the hyper-parameters of a training, then confirm the best setting on fresh seeds."""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from dartcli.errors import TrainingError, UsageError
from dartcli.experiments.configure import load_prepared, log_warnings, resolve
from dartcli.experiments.study import (
    SAMPLERS,
    Study,
    StudyDocument,
    Trial,
    claim_study,
    load_optuna,
    studies_directory,
)
from dartcli.experiments.sweep import Row
from dartcli.experiments.sweep_plan import PlannedTraining, build_tree, plan_training
from dartcli.experiments.sweep_runner import (
    DeadWorker,
    SweepProgress,
    default_jobs,
    run_trainings,
    train_each,
)
from dartcli.experiments.tune_space import Dimension
from dartcli.metrics.statistics import PairedDifference, compare_paired, expect_maximum
from dartcli.settings import Options
from dartcli.storage.checksums import write_document
from dartcli.storage.locks import lock

logger = logging.getLogger(__name__)

RESULT: Final = "result.json"
BEST: Final = "best.json"
TRIES: Final = 3
"""How often a training is started whose process dies."""


class Confirmed(Options):
    """The best setting against the defaults, paired over fresh seeds."""

    n: int
    """Number of seeds."""
    mean: float
    """Mean difference."""
    std: float | None
    """Standard deviation of the differences; null for one seed."""
    interval: tuple[float, float] | None
    """95% confidence interval of the mean; null for one seed."""


class StudyResult(Options):
    """``result.json``: what a search found."""

    study: str
    """Name of the study."""
    objective: str
    """The metric that was maximized."""
    trials: int
    """Trials with a score."""
    failed: int
    """Trials that failed."""
    best: int
    """Number of the best trial."""
    values: dict[str, Any]
    """Its setting; empty for the defaults."""
    score: float
    """Its objective."""
    default_score: float | None
    """Objective of the defaults; null if they failed."""
    confirm_seeds: tuple[int, ...] = ()
    """The fresh seeds."""
    confirmed: Mapping[str, Confirmed]
    """Objective and ``test_auc`` -> best minus defaults on the fresh seeds."""
    luck: float | None = None
    """By how much the best of so many trials would exceed the defaults if all were equally good."""


def run_study(  # noqa: PLR0913 - the parts of a search
    tree: Mapping[str, Any],
    space: Sequence[Dimension],
    *,
    name: str,
    sampler: str = "tpe",
    trials: int = 50,
    seconds: float | None = None,
    jobs: int | None = None,
    seeds: Sequence[int] = (0,),
    confirm: Sequence[int] = (),
    storage: str | None = None,
    progress: Callable[[SweepProgress], None] = lambda _progress: None,
) -> tuple[StudyResult, list[Trial]]:
    """Search ``space`` around the settings ``tree``; return the result and all trials.

    Finished trials are never repeated: the same call resumes a search.

    Parameters
    ----------
    tree
        Nested settings; what they leave out takes its default.
    space
        From :func:`dartcli.experiments.tune_space.parse_space`.
    name
        Name of the study.
    sampler
        Proposes the trials; the first one is the defaults.
    trials
        Trials in total, with those of earlier calls.
    seconds
        Start no trial after this time.
    jobs
        Trainings at a time; one reproduces a search exactly.
    seeds
        Seeds of each trial, whose mean objective counts.
    confirm
        Fresh seeds for the best setting and the defaults.
    storage
        URL of an Optuna storage; None = a journal in the folder of the study.
    progress
        Called after every trial.

    Raises
    ------
    UsageError
        If the sampler does not exist, the study has other settings, or seeds are used twice.
    TrainingError
        If every trial failed.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"no sampler {sampler!r}. Choose from {', '.join(SAMPLERS)}.")
    if set(seeds) & set(confirm):
        raise UsageError("`--confirm` has a seed of the trials. Confirm on fresh seeds.")
    settings = resolve(tree, {"seeds": list(seeds)}).settings
    document = StudyDocument(
        settings=settings.model_dump(mode="json"),
        space=tuple(space),
        seeds=tuple(seeds),
        sampler=sampler,
        arguments=dict(SAMPLERS[sampler]),
        optuna=load_optuna().__version__,
        storage=storage,
    )
    with lock(studies_directory() / f"{name}.lock", busy=f"study {name} is in use"):
        study = Study(claim_study(name, document), document)
        search = _Search(study, trials, seconds, progress)
        log_warnings(load_prepared(resolve(document.settings), seeds[0]))
        search.run(min(jobs or default_jobs(settings.device), max(trials, 1)))
        result = search.confirm(tuple(confirm), jobs or default_jobs(settings.device))
        best = search.plan(result.values, seeds[0], "best").configuration.settings
        write_document(study.folder / BEST, best.model_dump(mode="json"))
        write_document(study.folder / RESULT, result.model_dump(mode="json"))
        return result, study.trials()


class _Search:
    """The trainings of a study."""

    def __init__(
        self,
        study: Study,
        trials: int,
        seconds: float | None,
        progress: Callable[[SweepProgress], None],
    ) -> None:
        self.study, self.limit, self.progress = study, trials, progress
        self.until = float("inf") if seconds is None else time.monotonic() + seconds
        self.objective = choose_objective(study.document)
        self.waiting = [trial for trial in study.trials() if trial.is_running]
        if self.waiting:
            logger.info(f"enqueuing {len(self.waiting)} trials of a process that ended")
        self.open: dict[int, set[str]] = {}
        self.again: list[PlannedTraining] = []
        self.deaths: Counter[str] = Counter()

    def run(self, count: int) -> None:
        """Run trials until there are enough, or the time is over."""
        self._report()
        while self.again or self._has_next():
            with contextlib.closing(
                train_each(self._trainings(), self.study.trainings, count)
            ) as results:
                for training, result in results:
                    self._take(training, result)

    def _has_next(self) -> bool:
        if self.waiting:
            return True
        return len(self.study.trials()) < self.limit and time.monotonic() < self.until

    def _trainings(self) -> Iterator[PlannedTraining]:
        """Yield the trainings of further trials, as long as there are any."""
        while self.again or self._has_next():
            if self.again:
                yield self.again.pop()
                continue
            trial = self.waiting.pop(0) if self.waiting else self.study.ask()
            planned = [
                self.plan(trial.values, seed, f"trial {trial.number}")
                for seed in self.study.document.seeds
            ]
            missing = [one for one in planned if self.study.trainings.row(one.entry.key) is None]
            self.open[trial.number] = {one.entry.key for one in missing}
            if not missing:
                self._end(trial.number)
            yield from missing

    def _take(self, training: PlannedTraining, result: Row | str) -> None:
        key, number = training.entry.key, int(training.entry.arm.split()[1])
        if isinstance(result, DeadWorker):
            self.deaths[key] += 1
            if self.deaths[key] < TRIES:
                self.again.append(training)
                return
        if isinstance(result, str):
            logger.warning(f"trial {number} failed: {result}")
        self.open[number].discard(key)
        if not self.open[number]:
            self._end(number)

    def _end(self, number: int) -> None:
        trial = self.study.trials()[number]
        rows = [
            self.study.trainings.row(self.plan(trial.values, seed, "").entry.key)
            for seed in self.study.document.seeds
        ]
        scores = [_read(row, self.objective) for row in rows]
        known = [score for score in scores if score is not None]
        self.study.tell(number, statistics.fmean(known) if len(known) == len(scores) else None)
        self._report()

    def _report(self) -> None:
        ended = sum(not trial.is_running for trial in self.study.trials())
        self.progress(SweepProgress(ended, max(self.limit, ended), "trials"))

    def plan(self, values: Mapping[str, Any], seed: int, label: str) -> PlannedTraining:
        """Return the training of a setting with one seed."""
        trees = [build_tree(key, value) for key, value in values.items()]
        configuration = resolve(self.study.document.settings, *trees, {"seeds": [seed]})
        return plan_training(configuration, label)

    def confirm(self, seeds: tuple[int, ...], count: int) -> StudyResult:
        """Train the best setting and the defaults with ``seeds``; return the result."""
        trials = self.study.trials()
        scored = [trial for trial in trials if trial.score is not None]
        if not scored:
            raise TrainingError(
                f"every trial of study {self.study.folder.name} failed. The warnings say why."
            )
        best = max(scored, key=lambda trial: trial.score or 0.0)
        pairs: dict[str, PairedDifference] = {}
        if best.number and seeds:
            arms = {"defaults": {}, "best": best.values}
            planned = {
                (arm, seed): self.plan(values, seed, arm)
                for seed in seeds
                for arm, values in arms.items()
            }
            run_trainings(
                list(planned.values()), self.study.trainings, count, "confirmation", self.progress
            )
            pairs = {
                metric: self._pair(planned, seeds, metric)
                for metric in (self.objective, "test_auc")
            }
        std = pairs[self.objective].std if pairs else None
        luck = None
        if std is not None:
            luck = expect_maximum(len(scored)) * std / len(self.study.document.seeds) ** 0.5
        return StudyResult(
            study=self.study.folder.name,
            objective=self.objective,
            trials=len(scored),
            failed=len(trials) - len(scored),
            best=best.number,
            values=best.values,
            score=best.score or 0.0,
            default_score=trials[0].score,
            confirm_seeds=seeds if pairs else (),
            confirmed={
                metric: Confirmed(n=one.n, mean=one.mean, std=one.std, interval=one.t_interval)
                for metric, one in pairs.items()
            },
            luck=luck,
        )

    def _pair(
        self,
        planned: Mapping[tuple[str, int], PlannedTraining],
        seeds: Sequence[int],
        metric: str,
    ) -> PairedDifference:
        def read(arm: str, seed: int) -> float:
            value = _read(self.study.trainings.row(planned[arm, seed].entry.key), metric)
            if value is None:
                raise TrainingError(f"{metric} is not defined for seed {seed}. Confirm on others.")
            return value

        return compare_paired([read("best", seed) - read("defaults", seed) for seed in seeds])


def _read(row: Row | None, metric: str) -> float | None:
    value: float | None = None if row is None else getattr(row.metrics, metric)
    return value


def choose_objective(document: StudyDocument) -> str:
    """Return the metric to maximize: the trusted estimate with labels, else recorded validation."""
    trusted = document.settings["trusted_valid"] and document.settings["protocol"] == "strict"
    return "valid_auc" if trusted else "valid_auc_recorded"
