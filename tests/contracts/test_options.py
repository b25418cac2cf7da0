"""Options of every strategy and model: documented, strict, and the same in JSON."""

import pytest

from dartcli import catalog
from dartcli.errors import UsageError
from dartcli.settings import Options, validate


@pytest.fixture(
    params=[(kind, name) for kind in ("models", "strategies") for name in catalog.names(kind)],
    ids=lambda param: param[1],
)
def options(request: pytest.FixtureRequest) -> type[Options]:
    component = catalog.load(*request.param)
    assert component.__doc__
    found: type[Options] = component.Options
    return found


def test_every_option_is_documented(options: type[Options]) -> None:
    assert options.__doc__
    for name, field in options.model_fields.items():
        assert field.description, name


def test_unknown_options_are_refused(options: type[Options]) -> None:
    with pytest.raises(UsageError, match=r"\bcomponent\.no_such_option\b"):
        validate(options, {"no_such_option": 1}, "component")


def test_default_options_are_valid_and_survive_json(options: type[Options]) -> None:
    defaults = options()
    assert options.model_validate_json(defaults.model_dump_json()) == defaults
    assert validate(options, defaults.model_dump(), "component") == defaults
