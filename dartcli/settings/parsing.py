"""Parse, merge, and validate settings."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from dartcli.errors import UsageError
from dartcli.settings.schema import COMPONENTS, Component, Options, Protocol
from dartcli.storage.atomic import os_reason
from dartcli.storage.checksums import CHECKSUM, has_valid_checksum

OptionsType = TypeVar("OptionsType", bound=Options)


def validate(kind: type[OptionsType], values: Mapping[str, Any], where: str) -> OptionsType:
    """Return ``kind(**values)``; errors name the setting, starting with ``where``.

    Raises
    ------
    UsageError
        If a key is unknown or a value is invalid.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(explain_error(error, kind, where)) from error


def explain_error(error: ValidationError, kind: type[BaseModel], where: str) -> str:
    """Turn the first error that pydantic found into one sentence."""
    fault = error.errors(include_url=False)[0]
    path = ".".join([where, *(str(part) for part in fault["loc"])])
    if fault["type"] == "extra_forbidden":
        owner = kind
        for part in fault["loc"][:-1]:
            inner = owner.model_fields[str(part)].annotation if part in owner.model_fields else None
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                owner = inner
        offered = ", ".join(sorted(owner.model_fields)) or "none"
        return f"unknown setting `{path}`. Available settings: {offered}."
    message = _rephrase(fault["msg"])
    if fault["type"] == "missing":
        return f"setting `{path}` is missing."
    return f"invalid value for `{path}`: {fault['input']!r}. {message[0].upper()}{message[1:]}."


PHRASES: Final = {
    r"Value error, ": "",
    r"Input should be less than or equal to ": "must be at most ",
    r"Input should be greater than or equal to ": "must be at least ",
    r"Input should be (less|greater) than ": r"must be \1 than ",
    r"Input should be a valid (integer|number).*": r"must be a valid \1",
    r"Input should be '": "choose '",
}
"""Beginning of a message of pydantic -> how we say it."""


def _rephrase(message: str) -> str:
    for pattern, phrase in PHRASES.items():
        message = re.sub(f"^{pattern}", phrase, message)
    return message


def resolve_options(
    kind: type[OptionsType],
    component: Component,
    where: str,
    protocol: Protocol,
    known: Mapping[str, Any] | None = None,
) -> OptionsType:
    """Return the options of ``component`` as a ``kind``.

    Options that are not given take the value of the same name in ``known``, else the kind's default
    under the protocol.
    """
    strict = kind.strict_defaults if protocol.name == "strict" else {}
    defaults = {**strict, **(known or {})}
    fitting = {key: value for key, value in defaults.items() if key in kind.model_fields}
    unknown = sorted(set(component.options) - set(kind.model_fields))
    if unknown:
        offered = ", ".join(sorted(kind.model_fields)) or "none"
        raise UsageError(
            f"{where} {component.name} has no setting `{where}.{unknown[0]}`. Its settings: "
            f"{offered}."
        )
    return validate(kind, {**fitting, **component.options}, where)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """Parse ``["strategy.r=0.5", "training.epochs=3"]`` into a nested mapping.

    A value is JSON if it can be (numbers, true, false, null, lists), else text. Under ``dataset``,
    ``model``, and ``strategy``, every key other than ``name`` is an option of that component.

    Raises
    ------
    UsageError
        If an assignment has no ``=`` or an empty key.
    """
    tree: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise UsageError(
                f"invalid value for `--set`: {assignment!r}. Use KEY=VALUE such as "
                "`strategy.r=0.5`."
            )
        if parts[0] in COMPONENTS and parts[1:] != ["name"]:
            # a bare `strategy=lcd` names the component
            parts = [parts[0], "options", *parts[1:]] if parts[1:] else [parts[0], "name"]
        branch = tree
        for part in parts[:-1]:
            branch = branch.setdefault(part, {})
            if not isinstance(branch, dict):
                raise UsageError(
                    f"invalid value for `--set`: {assignment!r}. `{key.strip()}` is below a "
                    "setting that already has a value."
                )
        branch[parts[-1]] = parse_value(text.strip())
    return tree


def parse_value(text: str) -> Any:
    """Parse ``text`` as JSON; return it unchanged if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def merge(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested mappings; later ones win, and None never overrides.

    A component's options are dropped if a later mapping names another component.
    """
    result: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            if value is None:
                continue
            old = result.get(key)
            if isinstance(value, Mapping) and isinstance(old, Mapping):
                renamed = None not in (old.get("name"), value.get("name")) and (
                    value["name"] != old["name"]
                )
                result[key] = merge({} if renamed else old, value)
            elif isinstance(value, Mapping):
                result[key] = merge(value)
            else:
                result[key] = value
    return result


def load_tree(path: Path) -> dict[str, Any]:
    """Read settings from ``path`` (TOML if the suffix is ``.toml``, else JSON).

    Raises
    ------
    UsageError
        If the file is missing, is not TOML or JSON, has no table, or its checksum does not match.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read settings file {path}: {os_reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"cannot read settings file {path}: not UTF-8 text ({error}).") from error
    try:
        tree = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"cannot read settings file {path}: {error}.") from error
    if not isinstance(tree, dict):
        raise UsageError(f"settings file {path} does not contain a table of settings.")
    if CHECKSUM in tree and not has_valid_checksum(tree):
        raise UsageError(
            f"settings file {path}: checksum mismatch. If you edited it, remove its line "
            f'"{CHECKSUM}".'
        )
    tree.pop(CHECKSUM, None)
    return tree


def parse_seeds(text: str, flag: str = "--seeds") -> tuple[int, ...]:
    """Parse ``"0-4,7"`` into ``(0, 1, 2, 3, 4, 7)``; errors name ``flag``.

    Raises
    ------
    UsageError
        If the text is not such a list, repeats a seed, or has more than 10,000 seeds.
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part)
        if match is None:
            raise UsageError(f"invalid value for `{flag}`: {text!r}. Use `0-9` or `0,1,5`.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first >= 10_000:
            raise UsageError(
                f"invalid value for `{flag}`: {text!r}. The range {part.strip()} is empty or has "
                "more than 10,000 seeds."
            )
        seeds.extend(range(first, last + 1))
    if len(set(seeds)) != len(seeds):
        raise UsageError(f"invalid value for `{flag}`: {text!r}. A seed is repeated.")
    if len(seeds) > 10_000:
        raise UsageError(
            f"invalid value for `{flag}`: {text!r}. It has {len(seeds):,} seeds; the maximum is "
            "10,000."
        )
    return tuple(seeds)


def seeds_text(seeds: Iterable[int]) -> str:
    """Format seeds as :func:`parse_seeds` reads them: ``0-2,5``."""
    groups: list[list[int]] = []
    for seed in seeds:
        if groups and seed == groups[-1][-1] + 1:
            groups[-1].append(seed)
        else:
            groups.append([seed])
    return ",".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else str(g[0]) for g in groups)
