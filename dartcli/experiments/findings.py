"""What a check found, and how to repair it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from dartcli.errors import DartError


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    part: Literal[
        "installation", "device", "directory", "data", "run", "sweep", "study", "leftover"
    ]
    """What was checked."""
    name: str
    """Which of them."""
    state: Literal["ok", "note", "corrupt", "error", "repaired"]
    """``corrupt``: a stored file is damaged or missing. ``error``: something else does not work.
    ``note``: works, but is worth knowing."""
    message: str
    """What was found, without a full stop."""
    remedy: str = ""
    """What to do about it, in sentences."""
    repair: Callable[[], str] | None = None
    """Repairs it and returns what was done, without a full stop; None if only the user can."""

    @property
    def has_failed(self) -> bool:
        """Whether this needs to be repaired."""
        return self.state in ("corrupt", "error")


def repair_finding(finding: Finding) -> Finding:
    """Repair what was found, if that is possible, and return the result."""
    if finding.repair is None:
        return finding
    try:
        done = finding.repair()
    except DartError as error:
        return replace(finding, message=f"{finding.message}; repair failed: {get_cause(error)}")
    return replace(finding, state="repaired", message=f"{finding.message}; {done}", remedy="")


def get_cause(error: DartError) -> str:
    """Return what failed, without the sentence that says what to do about it."""
    return str(error).partition(". ")[0].rstrip(".")
