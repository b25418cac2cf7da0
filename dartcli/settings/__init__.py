"""Settings: frozen, strict, and the same as Python objects, JSON, and TOML."""

from __future__ import annotations

from dartcli.settings.parsing import (
    explain_error,
    load_tree,
    merge,
    parse_assignments,
    parse_seeds,
    parse_value,
    resolve_options,
    seeds_text,
    validate,
)
from dartcli.settings.schema import (
    COMPONENTS,
    LONGEST,
    PROTOCOLS,
    Component,
    Duration,
    Number,
    Options,
    Protocol,
    Settings,
    Share,
    Teaching,
    Training,
    check_duration,
    find_protocol,
    iterations,
)

__all__ = [
    "COMPONENTS",
    "LONGEST",
    "PROTOCOLS",
    "Component",
    "Duration",
    "Number",
    "Options",
    "Protocol",
    "Settings",
    "Share",
    "Teaching",
    "Training",
    "check_duration",
    "explain_error",
    "find_protocol",
    "iterations",
    "load_tree",
    "merge",
    "parse_assignments",
    "parse_seeds",
    "parse_value",
    "resolve_options",
    "seeds_text",
    "validate",
]
