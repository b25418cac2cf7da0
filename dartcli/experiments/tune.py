"""Search the hyper-parameters of a training, then confirm the best setting on fresh seeds."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field

from dartcli.errors import TrainingError, UsageError
from dartcli.experiments.configure import load_prepared, log_warnings, resolve
from dartcli.experiments.run_index import check_name
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
from dartcli.training.results import compute_spread

logger = logging.getLogger(__name__)

RESULT: Final = "result.json"
BEST: Final = "best.json"
TRIES: Final = 3
"""How often a training is started whose process dies."""


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
    confirmed: dict[str, PairedDifference]
    """Objective and ``test_auc`` -> best minus defaults on the fresh seeds; empty without any."""
    luck: float | None = None
    """By how much the best of so many trials would exceed the defaults if all were equally good."""
    ends: dict[str, str] = Field(default_factory=dict)
    """Setting -> ``lower`` or ``upper``, if the best value is at that end of its range."""


@dataclass(frozen=True)
class StudyPlan:
    """What to search, and for how long."""

    name: str
    """Name of the study."""
    tree: Mapping[str, Any]
    """Nested settings; what they leave out takes its default."""
    space: Sequence[Dimension]
    """From :func:`dartcli.experiments.tune_space.parse_space`."""
    sampler: str = "tpe"
    """Proposes the trials; the first one is the defaults."""
    trials: int = 50
    """Trials in total, with those of earlier calls."""
    seconds: float | None = None
    """Start no trial after this time."""
    seeds: Sequence[int] = (0,)
    """Seeds of each trial, whose mean objective counts."""
    confirm: Sequence[int] = ()
    """Fresh seeds for the best setting and the defaults."""
    storage: str | None = None
    """URL of an Optuna storage; None = a journal in the folder of the study."""

    def document(self) -> StudyDocument:
        """Return what is stored of it.

        Raises
        ------
        UsageError
            If the name, a setting, or the sampler is invalid, or seeds are used twice.
        """
        if self.sampler not in SAMPLERS:
            raise UsageError(f"no sampler {self.sampler!r}. Choose from {', '.join(SAMPLERS)}.")
        check_name(self.name)
        if set(self.seeds) & set(self.confirm):
            raise UsageError("`--confirm` has a seed of the trials. Confirm on fresh seeds.")
        settings = resolve(self.tree, {"seeds": list(self.seeds)}).settings
        return StudyDocument(
            settings=settings.model_dump(mode="json"),
            space=tuple(self.space),
            seeds=tuple(self.seeds),
            sampler=self.sampler,
            arguments=dict(SAMPLERS[self.sampler]),
            optuna=load_optuna().__version__,
            storage=self.storage,
        )


def run_study(
    plan: StudyPlan,
    *,
    jobs: int | None = None,
    progress: Callable[[SweepProgress], None] = lambda _progress: None,
) -> tuple[StudyResult, list[Trial]]:
    """Search, confirm, and return the result and all trials.

    Finished trials are never repeated: the same plan resumes a search. ``jobs`` trainings run at a
    time (None = one per core, or one on a GPU); one reproduces a search exactly. ``progress`` is
    called after every trial.

    Raises
    ------
    UsageError
        If the plan is invalid, or the study exists with other settings.
    TrainingError
        If every trial failed.
    """
    document = plan.document()
    with lock(studies_directory() / f".{plan.name}.lock", busy=f"study {plan.name} is in use"):
        study = Study(claim_study(plan.name, document), document)
        log_warnings(load_prepared(resolve(document.settings), plan.seeds[0]))
        workers = jobs or default_jobs(document.settings["device"])
        search = _Search(study, plan, progress)
        search.run(workers)
        best = search.find_best()
        planned = search.plan_training(best.values, plan.seeds[0], "best")
        write_document(study.folder / BEST, planned.configuration.settings.model_dump(mode="json"))
        result = search.confirm(best, workers)
        write_document(study.folder / RESULT, result.model_dump(mode="json"))
        return result, study.trials()


class _Search:
    """The trainings of a study."""

    def __init__(
        self,
        study: Study,
        plan: StudyPlan,
        progress: Callable[[SweepProgress], None],
    ) -> None:
        self.study, self.plan, self.progress = study, plan, progress
        self.until = float("inf") if plan.seconds is None else time.monotonic() + plan.seconds
        settings = study.document.settings
        # the estimate with trusted labels if it is known, else validation as it was recorded
        is_trusted = settings["trusted_valid"] and settings["protocol"] == "strict"
        self.objective = "valid_auc" if is_trusted else "valid_auc_recorded"
        self.waiting = [trial for trial in study.trials() if trial.is_running]
        if self.waiting:
            logger.info(f"enqueuing {len(self.waiting)} trials of a process that ended")
        self.open: dict[int, list[PlannedTraining]] = {}
        """Trial in progress -> its trainings."""
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
        return len(self.study.trials()) < self.plan.trials and time.monotonic() < self.until

    def _trainings(self) -> Iterator[PlannedTraining]:
        """Yield the trainings of further trials, as long as there are any."""
        while self.again or self._has_next():
            if self.again:
                yield self.again.pop()
                continue
            trial = self.waiting.pop(0) if self.waiting else self.study.ask()
            try:
                planned = [
                    self.plan_training(trial.values, seed, f"trial {trial.number}")
                    for seed in self.plan.seeds
                ]
            except UsageError as error:
                # each value is valid, but not all together
                self._fail(trial.number, str(error))
                continue
            missing = self._list_missing(planned)
            self.open[trial.number] = planned
            if not missing:
                self._end(trial.number)
            for one in missing:
                # the seeds before may have failed
                if trial.number in self.open:
                    yield one

    def _take(self, training: PlannedTraining, result: Row | str) -> None:
        key, number = training.entry.key, int(training.entry.arm.split()[1])
        if isinstance(result, DeadWorker):
            self.deaths[key] += 1
            if self.deaths[key] < TRIES:
                self.again.append(training)
                return
        if number not in self.open:
            return
        if isinstance(result, str):
            self._fail(number, result)
        else:
            self._end(number)

    def _fail(self, number: int, error: str) -> None:
        logger.warning(f"trial {number} failed: {error}")
        self._tell(number, None)

    def _end(self, number: int) -> None:
        """End a trial if it is trained with every seed."""
        planned = self.open[number]
        if not self._list_missing(planned):
            scores = [self._read(one, self.objective) for one in planned]
            self._tell(number, compute_spread(scores).mean)

    def _list_missing(self, planned: Iterable[PlannedTraining]) -> list[PlannedTraining]:
        return [one for one in planned if self.study.trainings.row(one.entry.key) is None]

    def _read(self, training: PlannedTraining, metric: str) -> Any:
        """Return a metric of a finished training; None if it is not defined."""
        row = self.study.trainings.row(training.entry.key)
        return row and getattr(row.metrics, metric)

    def _tell(self, number: int, score: float | None) -> None:
        self.open.pop(number, None)
        self.study.tell(number, score)
        self._report()

    def _report(self) -> None:
        ended = sum(not trial.is_running for trial in self.study.trials())
        self.progress(SweepProgress(ended, max(self.plan.trials, ended), "trials"))

    def plan_training(self, values: Mapping[str, Any], seed: int, label: str) -> PlannedTraining:
        """Return the training of a setting with one seed."""
        trees = [build_tree(key, value) for key, value in values.items()]
        configuration = resolve(self.study.document.settings, *trees, {"seeds": [seed]})
        return plan_training(configuration, label)

    def find_best(self) -> Trial:
        """Return the first trial with the highest score."""
        scored = [trial for trial in self.study.trials() if trial.score is not None]
        if not scored:
            raise TrainingError(
                f"every trial of study {self.study.folder.name} failed. The warnings say why."
            )
        return max(scored, key=lambda trial: trial.score or 0.0)

    def confirm(self, best: Trial, count: int) -> StudyResult:
        """Train the best setting and the defaults with fresh seeds; return the result."""
        trials = self.study.trials()
        scored = [trial for trial in trials if trial.score is not None]
        pairs, luck = {}, None
        if best.number and self.plan.confirm:
            pairs = self._compare_with_defaults(best, count)
        if pairs and (std := pairs[self.objective].std) is not None:
            # of a difference, whose variance is that of two settings
            noise = std / (2 * len(self.plan.seeds)) ** 0.5
            luck = expect_maximum(len(scored)) * noise
        return StudyResult(
            study=self.study.folder.name,
            objective=self.objective,
            trials=len(scored),
            failed=len(trials) - len(scored),
            best=best.number,
            values=best.values,
            score=best.score or 0.0,
            default_score=trials[0].score,
            confirmed=pairs,
            luck=luck,
            ends={
                key: end
                for key, value in best.values.items()
                if (end := self.study.space[key].find_end(value))
            },
        )

    def _compare_with_defaults(self, best: Trial, count: int) -> dict[str, PairedDifference]:
        """Train both with fresh seeds; return ``best`` minus the defaults by two metrics."""
        arms = {"defaults": {}, "best": best.values}
        planned = [
            self.plan_training(values, seed, arm)
            for seed in self.plan.confirm
            for arm, values in arms.items()
        ]
        run_trainings(planned, self.study.trainings, count, "confirmation", self.progress)
        pairs = {}
        for metric in (self.objective, "test_auc"):
            values = [self._read(one, metric) for one in planned]
            if None in values:
                seed = planned[values.index(None)].entry.seed
                raise TrainingError(f"{metric} is not defined for seed {seed}. Confirm on others.")
            both = zip(values[::2], values[1::2], strict=True)
            pairs[metric] = compare_paired([chosen - default for default, chosen in both])
        return pairs
