"""Documents with checksums, atomic writes, and leftovers of killed processes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as checking
from hypothesis import strategies as st

from dartcli.errors import DartError, DataError
from dartcli.storage import atomic
from dartcli.storage.atomic import _host, atomic_directory, find_leftovers
from dartcli.storage.checksums import (
    CHECKSUM,
    _checksum,
    has_valid_checksum,
    read_document,
    write_document,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
documents = st.dictionaries(st.text().filter(lambda key: key != CHECKSUM), values)


@checking(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(documents)
def test_a_document_is_read_back_as_written(document: dict[str, Any]) -> None:
    parsed = json.loads(json.dumps({**document, CHECKSUM: _checksum(document)}))
    assert has_valid_checksum(parsed)
    assert {key: value for key, value in parsed.items() if key != CHECKSUM} == document


def test_every_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "it.json"
    document = {"auc": 0.73, "name": "Ä \\ <b>", "none": None}
    write_document(path, document)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(DataError, match=r"it\.json"):
                read_document(path)


@pytest.mark.parametrize(
    "text", ["", "[1]", "3", '{"a": 1}', '{"checksum": null}', "{" * 100_000, "1" * 5000, "\xff"]
)
def test_a_file_that_is_not_a_document_is_a_data_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "it.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"it\.json"):
        read_document(path)


def test_a_directory_that_must_be_new_replaces_nothing(tmp_path: Path) -> None:
    place = tmp_path / "run"
    place.mkdir()
    (place / "kept").touch()
    with (
        pytest.raises(DartError, match=str(place)),
        atomic_directory(place, replace=False),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (place / "kept").exists()


def test_leftovers_of_dead_processes_are_removed_by_the_next_writer(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    dead, alive, host = process.pid, os.getppid(), _host()
    for name in (f".one.{host}-{dead}.tmp", f".one.{host}-{alive}.tmp", f".one.other-{dead}.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
    (tmp_path / f".two.{host}-{dead}.tmp").touch()
    atomic.write_json(tmp_path / "one", {})
    assert {path.name for path in tmp_path.iterdir()} == {
        "one", f".one.{host}-{alive}.tmp", f".one.other-{dead}.tmp", f".two.{host}-{dead}.tmp",
    }  # fmt: skip
    (left,) = find_leftovers(tmp_path)
    assert left.name.startswith(".two")
    atomic.remove(left)
    assert not list(find_leftovers(tmp_path))
