"""Seals, atomic writes and what is left of those that were cut off."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dartcli import files
from dartcli.errors import DataError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
documents = st.dictionaries(st.text().filter(lambda key: key != files.SEAL), values)


@given(documents)
def test_a_sealed_document_comes_back(document: dict[str, Any]) -> None:
    parsed = json.loads(json.dumps({**document, files.SEAL: files._seal(document)}))
    assert files.fits(parsed)
    assert {key: value for key, value in parsed.items() if key != files.SEAL} == document


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    document = {"auc": 0.7312345, "seeds": [0, 1], "name": "Ä \\ <b>", "none": None, "on": True}
    files.write_sealed(path, document)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=r"it\.json"):
                files.read_sealed(path)


@pytest.mark.parametrize("text", ["", "[1]", "3", '{"a": 1}', "{" * 100_000, "1" * 5000, "\xff"])
def test_what_is_no_sealed_document_is_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / "it.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"it\.json"):
        files.read_sealed(path)


def test_a_document_without_a_seal_is_taken_only_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    path.write_text('{"a": 1}')
    assert files.read_sealed(path, required=False) == {"a": 1}
    path.write_text('{"a": 1, "seal": null}')
    with pytest.raises(DataError, match="its seal does not fit"):
        files.read_sealed(path, required=False)


def test_a_folder_that_must_be_new_replaces_none(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "kept").touch()
    with (
        pytest.raises(files.DartError, match="cannot write"),
        files.building(place, replace=False),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (place / "kept").exists()


def test_what_dead_processes_left_is_cleared_by_the_next_writer(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead, alive, host = process.pid, os.getppid(), files._host()
    for name in (f".one.{host}-{dead}.tmp", f".one.{host}-{alive}.tmp", f".one.other-{dead}.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / f".two.{host}-{dead}.tmp").touch()
    files.write_json(tmp_path / "one", {})
    assert {path.name for path in tmp_path.iterdir()} == {
        "one", f".one.{host}-{alive}.tmp", f".one.other-{dead}.tmp", f".two.{host}-{dead}.tmp",
    }  # fmt: skip
    (left,) = files.leftovers(tmp_path)
    assert left.name.startswith(".two")
    files.remove(left)
    assert not list(files.leftovers(tmp_path))
