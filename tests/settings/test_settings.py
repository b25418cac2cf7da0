"""Settings: what is read, merged and refused, and the sentences that say so."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from dartcli import settings
from dartcli.errors import UsageError
from dartcli.settings import (
    PROTOCOLS,
    Component,
    Options,
    Settings,
    Training,
    find_protocol,
    load_tree,
    merge,
    parse_assignments,
    parse_seeds,
    resolve_options,
    validate,
)

STRICT = PROTOCOLS["strict"]


class Recipe(Options):
    """Options of an imagined component."""

    rate: float = Field(0.5, ge=0, le=1)
    """A share."""
    pace: settings.Duration = 10
    """A duration."""
    first_order_std: float = 0.0
    """Something a protocol may set."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0,)),
        ("7", (7,)),
        ("0-4", (0, 1, 2, 3, 4)),
        ("0-4,7", (0, 1, 2, 3, 4, 7)),
        ("7,0-2", (7, 0, 1, 2)),
        ("5-5", (5,)),
        (" 1 - 3 , 9 ", (1, 2, 3, 9)),
        ("999999999999999999", (999999999999999999,)),
    ],
)
def test_seeds_are_numbers_and_ranges_in_the_order_given(
    text: str, expected: tuple[int, ...]
) -> None:
    assert parse_seeds(text) == expected


@given(st.lists(st.integers(0, 10**18 - 1), min_size=1, max_size=20, unique=True))
def test_a_list_of_seeds_is_read_as_it_was_written(seeds: list[int]) -> None:
    assert parse_seeds(",".join(map(str, seeds))) == tuple(seeds)


@pytest.mark.parametrize("text", ["", ",", "1,,2", "a", "-1", "1-", "1-2-3", "0x1", "1.5", "1;2"])
def test_an_invalid_list_of_seeds_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"`--seeds`: "):
        parse_seeds(text)
    with pytest.raises(UsageError, match=r"`--confirm`: "):
        parse_seeds(text, "--confirm")


def test_a_seed_of_nineteen_digits_is_refused() -> None:
    with pytest.raises(UsageError, match="--seeds"):
        parse_seeds("1" * 19)


@pytest.mark.parametrize("text", ["4-0", "0-10000", "3,9-8", "0-999999999999999999"])
def test_an_empty_or_endless_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"range \S+ is empty"):
        parse_seeds(text)


@pytest.mark.parametrize("text", ["1,1", "0-4,3", "0-2,2-3"])
def test_a_seed_named_twice_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="repeated"):
        parse_seeds(text)


def test_ten_thousand_seeds_are_the_most() -> None:
    assert parse_seeds("0-9999") == tuple(range(10_000))


def test_ten_thousand_seeds_are_the_most_over_several_ranges() -> None:
    with pytest.raises(UsageError, match="seeds"):
        parse_seeds("0-9999,20000")


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ([], {}),
        (["training.epochs=3"], {"training": {"epochs": 3}}),
        (["strategy.r=0.5"], {"strategy": {"options": {"r": 0.5}}}),
        (["strategy.name=lcd"], {"strategy": {"name": "lcd"}}),
        (["model.factors=8"], {"model": {"options": {"factors": 8}}}),
        (["dataset.tp_threshold=3"], {"dataset": {"options": {"tp_threshold": 3}}}),
        (["strategy.t_m=3ep"], {"strategy": {"options": {"t_m": "3ep"}}}),
        (["protocol=strict"], {"protocol": "strict"}),
        (["split_seed=null"], {"split_seed": None}),
        (["seeds=[1, 2]"], {"seeds": [1, 2]}),
        (["strategy.double_sigmoid=true"], {"strategy": {"options": {"double_sigmoid": True}}}),
        (['device="1"'], {"device": "1"}),
        (["device=a=b"], {"device": "a=b"}),
        (["device="], {"device": ""}),
        ([" training.epochs = 3 "], {"training": {"epochs": 3}}),
        (
            ["strategy.r=0.1", "strategy.tau_m=0.2", "training.epochs=1", "strategy.r=0.3"],
            {"strategy": {"options": {"r": 0.3, "tau_m": 0.2}}, "training": {"epochs": 1}},
        ),
    ],
)
def test_assignments_become_a_tree(assignments: list[str], expected: dict[str, Any]) -> None:
    assert parse_assignments(assignments) == expected


@pytest.mark.parametrize("text", ["", "=", "=1", "r", "training.", ".epochs=1", "a..b=1", " =1"])
def test_an_assignment_without_key_or_equals_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_assignments([text] if text else ["no equals sign"])


def test_a_value_cannot_have_settings_of_its_own() -> None:
    with pytest.raises(UsageError, match=r"strategy\.r"):
        parse_assignments(["strategy.r=0.5", "strategy.r.x=1"])


def test_a_value_cannot_have_settings_far_below_it() -> None:
    with pytest.raises(UsageError, match=r"training\.epochs"):
        parse_assignments(["training.epochs=1", "training.epochs.of.all=2"])


@pytest.mark.parametrize("component", ["dataset", "model", "strategy"])
def test_a_component_assigned_as_a_whole_is_its_name_or_refused(component: str) -> None:
    flags = {component: {"name": None, "options": {"r": None}}}
    try:
        tree = merge(parse_assignments([f"{component}=chosen"]), flags)
    except UsageError as refusal:
        tree = {component: {"name": "chosen"}} if component in str(refusal) else {}
    if tree.get(component, {}).get("name") != "chosen":
        pytest.fail("what was asked for is lost")


def test_an_endless_number_is_text_or_refused() -> None:
    with pytest.raises(UsageError, match=r"training\.epochs"):
        validate(Settings, parse_assignments(["training.epochs=" + "9" * 5000]), "settings")


@pytest.mark.parametrize(
    ("trees", "expected"),
    [
        ((), {}),
        (({"a": 1}, {}), {"a": 1}),
        (({"a": 1}, {"a": 2}), {"a": 2}),
        (({"a": 1}, {"a": None}), {"a": 1}),
        (({"a": None},), {}),
        (({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}), {"a": {"b": 3, "c": 2}}),
        (({"a": {"b": 1}}, {"a": {"b": None}}), {"a": {"b": 1}}),
        (({"a": 1}, {"a": {"b": 2}}), {"a": {"b": 2}}),
        (({"a": {"b": 2}}, {"a": 1}), {"a": 1}),
        (({"a": [1, 2]}, {"a": [3]}), {"a": [3]}),
        (({"a": 0}, {"a": False}, {"a": ""}), {"a": ""}),
        (({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}), {"a": {"b": {"c": 1, "d": 2}}}),
    ],
)
def test_later_trees_win_and_none_never_does(
    trees: tuple[dict[str, Any], ...], expected: dict[str, Any]
) -> None:
    assert merge(*trees) == expected


def component(name: str | None, **options: Any) -> dict[str, Any]:
    return {"strategy": {"name": name, "options": options}}


def test_options_of_another_component_are_dropped() -> None:
    found = merge(component("dart", r=0.5), component("lcd", beta=1))
    assert found == component("lcd", beta=1)


def test_options_stay_where_the_component_stays() -> None:
    assert merge(component("dart", r=0.5), component("dart", tau_m=1)) == component(
        "dart", r=0.5, tau_m=1
    )
    assert merge(component("dart", r=0.5), component(None, tau_m=1)) == component(
        "dart", r=0.5, tau_m=1
    )


def test_merging_changes_none_of_its_arguments() -> None:
    first, second = component("dart", r=0.5), component("dart", tau_m=1)
    result = merge(first, second)
    result["strategy"]["options"]["r"] = 9
    assert first == component("dart", r=0.5)
    assert second == component("dart", tau_m=1)


TREE = {
    "protocol": "reference",
    "strategy": {"name": "dart", "options": {"r": 0.5, "t_m": "3ep"}},
    "training": {"batch_size": 64},
    "seeds": [0, 1],
}
TOML = """
protocol = "reference"
seeds = [0, 1]
[strategy]
name = "dart"
options = { r = 0.5, t_m = "3ep" }
[training]
batch_size = 64
"""


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", TOML), ("a.json", json.dumps(TREE)), ("a", json.dumps(TREE))]
)
def test_toml_and_json_hold_the_same_settings(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert load_tree(path) == TREE
    assert validate(Settings, load_tree(path), "settings").training == Training(batch_size=64)


def test_settings_that_are_saved_as_json_come_back_equal(tmp_path: Path) -> None:
    before = validate(Settings, TREE, "settings")
    path = tmp_path / "settings.json"
    path.write_text(before.model_dump_json(), encoding="utf-8")
    after = validate(Settings, load_tree(path), "settings")
    assert after == before
    assert after.seeds == (0, 1)
    assert validate(Settings, {}, "settings") == Settings()


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.toml", b"a =", r"a\.toml: "),
        ("a.toml", b'{"a": 1}', r"a\.toml: "),
        ("a.json", b"", r"a\.json: "),
        ("a.json", b"a = 1", r"a\.json: "),
        ("a.json", b'{"a": 1', r"a\.json: "),
        ("a.json", b"[1]", r"a\.json"),
        ("a.json", b"null", r"a\.json"),
        ("a.json", b"\xff\xfe{}", r"a\.json.*UTF-8"),
        ("a.toml", b"\xff", r"a\.toml.*UTF-8"),
    ],
)
def test_a_broken_settings_file_is_named(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        load_tree(path)


def test_a_settings_file_that_is_not_there_or_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_tree(tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"is a directory"):
        load_tree(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.json", "9" * 5000),
        pytest.param("a.toml", "a = " + "9" * 5000),
        pytest.param("b.json", "[" * 100_000),
        pytest.param("b.toml", "a = " + "[" * 100_000),
    ],
)
def test_an_absurd_settings_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=r"settings file"):
        load_tree(path)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"speed": 1},
            r"`strategy\.speed`.*first_order_std, pace, rate\.$",
        ),
        ({"rate": 2}, r"`strategy\.rate`: 2\."),
        ({"rate": "x"}, r"`strategy\.rate`: 'x'\."),
        ({"rate": float("nan")}, r"`strategy\.rate`: nan\."),
        ({"first_order_std": float("inf")}, r"`strategy\.first_order_std`: inf\."),
        ({"pace": "soon"}, r"`strategy\.pace`: 'soon'\."),
        ({"pace": "3 ep"}, r"`strategy\.pace`: '3 ep'\."),
        ({"pace": "-3ep"}, r"`strategy\.pace`: '-3ep'\."),
        ({"pace": -1}, r"`strategy\.pace`: -1\."),
    ],
)
def test_a_mistake_in_options_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        validate(Recipe, values, "strategy")


def test_a_component_without_options_lists_none() -> None:
    with pytest.raises(UsageError, match=r"`model\.x`.*none\.$"):
        validate(Options, {"x": 1}, "model")


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"strategy": {}}, r"`settings\.strategy\.name`"),
        ({"strategy": {"name": ""}}, r"`settings\.strategy\.name`: ''\."),
        ({"protocol": "fair"}, r"`settings\.protocol`: 'fair'\."),
        ({"training": {"epochs": 0}}, r"`settings\.training\.epochs`: 0\."),
        ({"training": {"batch_size": 0}}, r"`settings\.training\.batch_size`: 0\."),
        ({"training": {"learning_rate": 0}}, r"`settings\.training\.learning_rate`: 0\."),
        ({"training": {"weight_decay": -1}}, r"`settings\.training\.weight_decay`: -1\."),
        ({"version": 2}, r"`settings\.version`: 2\."),
        ({"seeds": ["a"]}, r"`settings\.seeds\.0`: 'a'\."),
        ({"split_seed": -1}, r"`settings\.split_seed`: -1\."),
        ({"strateggy": {}}, r"`settings\.strateggy`.* seeds, split_seed, "),
    ],
)
def test_a_mistake_in_settings_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        validate(Settings, values, "settings")


def test_an_unknown_setting_further_down_is_answered_with_the_settings_there() -> None:
    with pytest.raises(
        UsageError,
        match=r"`settings\.training\.foo`.*"
        r"batch_size, cuda_graph, epochs, learning_rate, optimizer, patience, ranking, "
        r"snapshots, weight_decay, window\.$",
    ):
        validate(Settings, {"training": {"foo": 1}}, "settings")


@pytest.mark.parametrize("value", [2.5, None, [1]])
def test_a_duration_of_the_wrong_type_is_named_as_the_user_knows_it(value: Any) -> None:
    with pytest.raises(UsageError, match=r"`strategy\.pace`: (2\.5|None|\[1\])\."):
        validate(Recipe, {"pace": value}, "strategy")


def test_a_duration_is_not_true_or_false() -> None:
    with pytest.raises(UsageError, match=r"strategy\.pace"):
        validate(Recipe, {"pace": True}, "strategy")


def test_a_duration_beyond_all_floats_is_refused() -> None:
    with pytest.raises(UsageError, match=r"strategy\.pace"):
        settings.iterations(validate(Recipe, {"pace": 10**400}, "strategy").pace, None)


@pytest.mark.parametrize(
    ("text", "kept"),
    [(0, 0), (5000, 5000), ("5000", 5000), (" 12 ", 12), ("3ep", "3ep"), (" 0.5ep ", "0.5ep")],
)
def test_durations_are_kept_as_they_were_meant(text: int | str, kept: int | str) -> None:
    recipe = validate(Recipe, {"pace": text}, "strategy")
    assert recipe.pace == kept
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


def test_defaults_fill_only_what_the_component_knows() -> None:
    defaults = {"first_order_std": 1.0, "unheard_of": 3}
    plain = Component(name="fm")
    assert resolve_options(Recipe, plain, "model", STRICT, defaults) == Recipe(first_order_std=1.0)
    assert resolve_options(Options, plain, "model", STRICT, defaults) == Options()


def test_defaults_of_the_protocol_strict_apply_only_there() -> None:
    class Paced(Recipe):
        strict_defaults = {"pace": "2ep"}  # noqa: RUF012

    plain, given_pace = Component(name="x"), Component(name="x", options={"pace": 7})
    found = {
        (name, given.options.get("pace")): resolve_options(
            Paced, given, "strategy", find_protocol(name)
        ).pace
        for name in PROTOCOLS
        for given in (plain, given_pace)
    }
    assert found == {
        ("reference", None): Recipe().pace,
        ("strict", None): "2ep",
        ("reference", 7): 7,
        ("strict", 7): 7,
    }


def test_options_that_were_given_beat_the_defaults() -> None:
    given_options = Component(name="fm", options={"first_order_std": 0.25, "rate": 1})
    found = resolve_options(Recipe, given_options, "model", STRICT, {"first_order_std": 1.0})
    assert found == Recipe(first_order_std=0.25, rate=1)


def test_options_of_a_component_that_it_does_not_know_are_refused() -> None:
    wrong = Component(name="fm", options={"unheard_of": 3})
    with pytest.raises(UsageError, match=r"`model\.unheard_of`"):
        resolve_options(Recipe, wrong, "model", STRICT, {"unheard_of": 3})


def test_settings_do_not_change_after_they_are_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().device = "cpu"
    with pytest.raises(ValidationError, match="frozen"):
        Recipe().rate = 1.0


@pytest.mark.parametrize("kind", [Settings, Component, Training, settings.Protocol])
def test_every_setting_is_documented(kind: type[Options]) -> None:
    assert kind.__doc__
    for name, field in kind.model_fields.items():
        assert field.description, name


def test_the_protocols_are_those_of_the_thesis_and_the_sound_one() -> None:
    reference, strict = PROTOCOLS["reference"], PROTOCOLS["strict"]
    assert (reference.name, strict.name) == ("reference", "strict")
    assert (reference.resample_negatives, strict.resample_negatives) == (False, True)
    assert (reference.reshuffle, strict.reshuffle) == (False, True)
    assert (reference.clean_validation, strict.clean_validation) == (True, False)
    assert (reference.report, strict.report) == ("last", "best")
    assert (reference.first_order_std, strict.first_order_std) == (1.0, 0.0)
    assert (reference.patience, strict.patience) == (2, 20)
    assert (reference.weight_decay, strict.weight_decay) == (1e-6, None)
    assert (reference.epochs, strict.epochs) == (100, 200)


def test_training_starts_from_the_settings_both_protocols_share() -> None:
    plan = Training()
    assert (plan.batch_size, plan.learning_rate, plan.weight_decay) == (2048, 1e-3, None)
