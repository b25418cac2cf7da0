"""The folder of a hyper-parameter search, its trials, and the sampler that proposes them.

::

    studies/<name>/
      study.json         settings, space, sampler, and versions
      journal.log        the trials, in Optuna's journal format, unless another storage was chosen
      sweep.json, rows/  the trainings, as in a sweep
      result.json        the confirmation
      best.json          the settings of the best trial, for `dart train --config`

One process owns a study at a time. The storage keeps finished and running trials, each written at
once. The sampler's own state is never stored: it is rebuilt by proposing and answering the stored
trials again, with a seed for each trial. So a search that was interrupted continues to the digit,
and no pickle is ever read, as Optuna's CMA-ES would from a storage.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dartcli.data.seeds import derived_seed
from dartcli.errors import RunError, UsageError
from dartcli.experiments.run_index import check_name, flatten_settings
from dartcli.experiments.sweep import Sweep, claim_trainings
from dartcli.experiments.tune_space import Dimension
from dartcli.settings import Options, Settings, validate
from dartcli.storage import paths
from dartcli.storage.checksums import read_document, write_document

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

DOCUMENT: Final = "study.json"
JOURNAL: Final = "journal.log"
STREAM: Final = 8
"""Stream of randomness of the samplers."""

SAMPLERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "tpe": {
        "n_startup_trials": 10, "n_ei_candidates": 24, "multivariate": True, "constant_liar": True,
        "warn_independent_sampling": False,
    },
    "cma-es": {"n_startup_trials": 1, "warn_independent_sampling": False},
    "nsga": {"population_size": 10, "crossover_prob": 0.9, "swapping_prob": 0.5},
    "qmc": {"qmc_type": "sobol", "scramble": True, "warn_independent_sampling": False},
    "random": {},
}  # fmt: skip
"""Name -> arguments, stated because their defaults change between versions of Optuna."""


class StudyDocument(Options):
    """``study.json``: what a search is over."""

    format: int = 1
    """Version of this document."""
    settings: dict[str, Any]
    """Complete settings, of which a trial changes those in ``space``."""
    space: tuple[Dimension, ...]
    """What is searched over."""
    seeds: tuple[int, ...]
    """Seeds of each trial."""
    sampler: str
    """Sampler of Optuna."""
    arguments: dict[str, Any]
    """Its arguments."""
    optuna: str
    """Version of Optuna."""
    storage: str | None
    """URL of the storage, on disk without its password; None = the journal in the folder."""


@dataclass(frozen=True)
class Trial:
    """A setting that was tried."""

    number: int
    """From 0; the first is the defaults."""
    values: dict[str, Any]
    """Setting -> value; of the first, those that differ from the defaults: none."""
    score: float | None = None
    """The objective; None if it failed, or is not known yet."""
    is_running: bool = False
    """Whether it has no result yet."""


def load_optuna() -> Any:
    """Return the module ``optuna``, without its messages.

    Raises
    ------
    UsageError
        If it is not installed, or what its samplers need is not.
    """
    try:
        import cmaes  # noqa: F401 - one of its samplers needs it
        import optuna
    except ImportError as error:
        raise UsageError(
            "Optuna is not installed. Install it with `pip install 'dartcli[tune]'`."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def studies_directory() -> Path:
    """Return the directory with one folder per study."""
    return paths.home() / "studies"


def claim_study(name: str, document: StudyDocument) -> Path:
    """Create the folder of a study, or open it if it exists; return it.

    Raises
    ------
    UsageError
        If the name is invalid, or the study exists with other settings.
    """
    url = document.storage and re.sub(r"(://[^:/]*):[^@]*@", r"\1:***@", document.storage)
    document = document.model_copy(update={"storage": url})
    folder = studies_directory() / check_name(name)
    if not (folder / DOCUMENT).is_file():
        claim_trainings(folder, document.settings["protocol"])
        write_document(folder / DOCUMENT, document.model_dump(mode="json"))
    path = folder / DOCUMENT
    stored = validate(StudyDocument, read_document(path), str(path))
    if stored.optuna != document.optuna:
        logger.warning(
            f"study {name} was started with Optuna {stored.optuna}, and {document.optuna} is "
            "installed. The next trials may differ from those of an uninterrupted search."
        )
    # the device may change
    old, new = (
        {**vars(one), "settings": {**one.settings, "device": None}} for one in (stored, document)
    )
    for key in ("settings", "space", "seeds", "sampler", "storage"):
        if old[key] != new[key]:
            raise UsageError(
                f"study {name} in {folder.parent} has other values of `{key}`. Choose another "
                "`--name`."
            )
    return folder


class Study:
    """The trials of a search: ask for one, train it, tell its score."""

    def __init__(self, folder: Path, document: StudyDocument) -> None:
        self.folder, self.document = folder, document
        self.trainings = Sweep(folder)
        self.space = {one.key: one for one in document.space}
        self._optuna = load_optuna()
        self._stored: OptunaStudy = self._open()
        # in memory
        self._engine: OptunaStudy = self._optuna.create_study(direction="maximize")
        with warnings.catch_warnings(action="ignore"):
            for trial in self._list():
                self._propose(trial.params)
                if trial.state.is_finished():
                    self._answer(trial.number, trial.value)

    def _open(self) -> OptunaStudy:
        storage: Any = self.document.storage
        if storage is None:
            path = self.folder / JOURNAL
            repair_journal(path)
            # the lock of a process that was killed; ours is held by the operating system
            for left in path.parent.glob(f"{path.name}.lock*"):
                left.unlink(missing_ok=True)
            journal = self._optuna.storages.journal
            storage = self._optuna.storages.JournalStorage(journal.JournalFileBackend(str(path)))
        try:
            study: OptunaStudy = self._optuna.create_study(
                storage=storage,
                study_name=self.folder.name,
                direction="maximize",
                load_if_exists=True,
            )
        except Exception as error:
            raise RunError(
                f"cannot open the storage of study {self.folder.name}: {type(error).__name__}: "
                f"{error}."
            ) from error
        return study

    def _list(self) -> list[FrozenTrial]:
        return self._stored.get_trials(deepcopy=False)

    def trials(self) -> list[Trial]:
        """Return all trials, in order."""
        return [
            Trial(
                one.number,
                dict(one.params) if one.number else {},
                one.value,
                is_running=not one.state.is_finished(),
            )
            for one in self._list()
        ]

    def ask(self) -> Trial:
        """Start another trial; the first one is the defaults."""
        optuna = self._optuna
        with warnings.catch_warnings(action="ignore"):
            known = self._find_defaults() if not self._list() else None
            params = self._propose(known)
            self._stored.add_trial(
                optuna.trial.create_trial(
                    state=optuna.trial.TrialState.RUNNING,
                    params=params,
                    distributions={key: self.space[key].distribution() for key in params},
                )
            )
        return self.trials()[-1]

    def tell(self, number: int, score: float | None) -> None:
        """End a trial; a score of None means that it failed."""
        with warnings.catch_warnings(action="ignore"):
            # Optuna warns that a trial without a score fails
            self._stored.tell(number, score)
            self._answer(number, score)

    def _find_defaults(self) -> dict[str, Any]:
        """Return the default of each dimension that contains it."""
        settings = flatten_settings(validate(Settings, self.document.settings, "settings"))
        values = {key: settings.get(key) for key in self.space}
        return {key: value for key, value in values.items() if self.space[key].contains(value)}

    def _propose(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Start a trial in the engine, with ``params`` instead of its own if they are given."""
        number = len(self._engine.get_trials(deepcopy=False))
        if number == 0 or self.document.sampler != "qmc":
            self._engine.sampler = self._make_sampler(number)
        keys = self.space if params is None else params
        trial = self._engine.ask({key: self.space[key].distribution() for key in keys})
        if params is None:
            return trial.params
        # the defaults, and what was proposed while other trials ran, are no proposals of now
        for key, value in params.items():
            kind = self.space[key].distribution()
            internal = kind.to_internal_repr(value)
            trial.storage.set_trial_param(trial._trial_id, key, internal, kind)
        return dict(params)

    def _answer(self, number: int, score: float | None) -> None:
        """End a trial in the engine.

        Defaults outside of the space have fewer parameters, which no sampler must see.
        """
        trial = self._engine.get_trials(deepcopy=False)[number]
        self._engine.tell(number, score if len(trial.params) == len(self.space) else None)

    def _make_sampler(self, number: int) -> BaseSampler:
        """Return the sampler of one trial, or of all trials if it is a sequence."""
        samplers, name = self._optuna.samplers, self.document.sampler
        kinds = {
            "tpe": samplers.TPESampler,
            "cma-es": samplers.CmaEsSampler,
            "nsga": samplers.NSGAIISampler,
            "qmc": samplers.QMCSampler,
            "random": samplers.RandomSampler,
        }
        purpose = (STREAM,) if name == "qmc" else (STREAM, number)
        seed = derived_seed(self.document.seeds[0], *purpose) % 2**32
        sampler: BaseSampler = kinds[name](seed=seed, **SAMPLERS[name])
        return sampler


def repair_journal(path: Path) -> bool:
    """Cut off a last line that was not written to its end; return whether there was one."""
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    count = len(lines)
    while lines and not _is_whole(lines[-1]):
        lines.pop()
    if len(lines) == count:
        return False
    logger.warning(f"removing an incomplete last line of {path}")
    with path.open("r+b") as file:
        file.truncate(sum(map(len, lines)))
        os.fsync(file.fileno())
    return True


def _is_whole(line: bytes) -> bool:
    """Return whether a line was written to its end; after a power failure, it may be of zeros."""
    with contextlib.suppress(ValueError):
        json.loads(line)
        return line.endswith(b"\n")
    return False
