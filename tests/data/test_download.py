"""Downloaded files are verified, complete or absent, and fetched once."""

import io
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from dartcli.data.dataset import DataOptions, Dataset, SourceFile
from dartcli.data.download import fetch_dataset, is_complete, is_readable, source_hashes
from dartcli.errors import DartError, DownloadError
from dartcli.storage import paths

CONTENT = b"user\titem\n1\t2\n"


def sha(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def dataset(*urls: str, sha256: str | None = sha(CONTENT), limit: int = 1000) -> Dataset:
    return Dataset(
        name="toy",
        title="toy",
        license="none",
        citation="none",
        homepage="none",
        files=(SourceFile("toy-1/data.tsv", urls, sha256=sha256, limit=limit),),
        options=DataOptions,
        read=lambda _folder, _options: pl.LazyFrame(),
    )


def archive(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


GOOD = archive({"toy-1/README": b"hello", "toy-1/data.tsv": CONTENT})


def nothing_kept() -> bool:
    folder = paths.raw_data("toy")
    return not folder.exists() or not [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("body", [GOOD, CONTENT, archive({"data.tsv": CONTENT})])
def test_a_file_is_downloaded_as_it_is_or_in_an_archive(
    home: Path, httpserver: HTTPServer, body: bytes
) -> None:
    httpserver.expect_request("/toy.bin").respond_with_data(body)
    toy = dataset(httpserver.url_for("/toy.bin"))
    assert not is_complete(toy)
    seen: list[tuple[str, int, int | None]] = []
    folder = fetch_dataset(toy, progress=lambda *step: seen.append(step))
    assert (folder / "toy-1/data.tsv").read_bytes() == CONTENT
    assert is_complete(toy)
    assert source_hashes(toy) == {"toy-1/data.tsv": sha(CONTENT)}
    assert seen[-1] == ("toy.bin", len(body), len(body))
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert names == ["download.json", "toy-1/data.tsv"]
    assert home.is_dir()


def test_an_existing_file_is_not_downloaded_again(home: Path, httpserver: HTTPServer) -> None:
    httpserver.expect_oneshot_request("/toy.zip").respond_with_data(GOOD)
    toy = dataset(httpserver.url_for("/toy.zip"))
    fetch_dataset(toy)
    fetch_dataset(toy)
    assert len(httpserver.log) == 1
    assert home.is_dir()


def test_a_touched_file_is_kept_and_a_changed_one_is_downloaded_again(
    home: Path, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/toy.zip").respond_with_data(GOOD)
    toy = dataset(httpserver.url_for("/toy.zip"))
    path = fetch_dataset(toy) / "toy-1/data.tsv"
    os.utime(path, (1, 1))
    fetch_dataset(toy)
    assert len(httpserver.log) == 1
    path.write_bytes(CONTENT.replace(b"1", b"7"))
    os.utime(path, (2, 2))
    assert not is_complete(toy)
    fetch_dataset(toy)
    assert path.read_bytes() == CONTENT
    assert len(httpserver.log) == 2
    assert home.is_dir()


def test_the_next_url_is_tried(home: Path, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/gone.zip").respond_with_data("no", status=404)
    httpserver.expect_request("/toy.zip").respond_with_data(GOOD)
    fetch_dataset(dataset(httpserver.url_for("/gone.zip"), httpserver.url_for("/toy.zip")))
    assert is_complete(dataset())
    assert home.is_dir()


@pytest.mark.parametrize(
    ("body", "status", "value"),
    [
        (GOOD[:-40], 200, rf"toy\.zip .*{len(GOOD) - 40} bytes"),
        (b"", 200, r"toy\.zip .*0 bytes"),
        (archive({"other.tsv": b"x"}), 200, r"toy-1/data\.tsv"),
        (archive({"data.tsv": b"other"}), 200, f"{sha(b'other')}, expected {sha(CONTENT)}"),
        (archive({"data.tsv": b"x" * 2000}), 200, r"1,000 bytes"),
        (b"no", 404, "404"),
        (b"no", 500, "500"),
    ],
)
def test_nothing_is_kept_of_an_invalid_download(
    home: Path, httpserver: HTTPServer, body: bytes, status: int, value: str
) -> None:
    httpserver.expect_request("/toy.zip").respond_with_data(body, status=status)
    with pytest.raises(DownloadError, match=value) as error:
        fetch_dataset(dataset(httpserver.url_for("/toy.zip")))
    assert "dart download toy --from FILE" in str(error.value)
    assert nothing_kept()
    assert home.is_dir()


def test_an_unreachable_server_is_a_download_error(home: Path) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1:9"):
        fetch_dataset(dataset("http://127.0.0.1:9/toy.zip"))
    assert nothing_kept()
    assert home.is_dir()


def test_from_takes_a_directory_an_archive_or_the_file(home: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "toy-1").mkdir(parents=True)
    (place / "toy-1/data.tsv").write_bytes(CONTENT)
    (place / "any.zip").write_bytes(GOOD)
    for source in (place, place / "any.zip", place / "toy-1/data.tsv", place / "toy-1"):
        folder = fetch_dataset(dataset(), str(source))
        assert (folder / "toy-1/data.tsv").read_bytes() == CONTENT
        (folder / "download.json").unlink()
    assert home.is_dir()


def test_if_a_given_source_fails_nothing_else_is_tried(
    home: Path, tmp_path: Path, httpserver: HTTPServer
) -> None:
    httpserver.expect_request("/toy.zip").respond_with_data(GOOD)
    toy = dataset(httpserver.url_for("/toy.zip"))
    with pytest.raises(DownloadError, match="nowhere"):
        fetch_dataset(toy, str(tmp_path / "nowhere"))
    with pytest.raises(DownloadError, match=r"toy-1/data\.tsv"):
        fetch_dataset(toy, str(tmp_path))
    assert not httpserver.log
    assert nothing_kept()
    assert home.is_dir()


def test_the_mirror_is_tried_before_the_urls(
    home: Path, tmp_path: Path, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror/toy-1").mkdir(parents=True)
    (tmp_path / "mirror/toy-1/data.tsv").write_bytes(CONTENT)
    monkeypatch.setenv("DART_MIRROR", str(tmp_path / "mirror"))
    fetch_dataset(dataset(httpserver.url_for("/toy.zip")))
    assert not httpserver.log
    assert home.is_dir()


def test_an_unknown_checksum_is_recorded_and_checked_from_then_on(
    home: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "a.tsv", tmp_path / "b.tsv"
    first.write_bytes(CONTENT)
    second.write_bytes(b"another version")
    toy = dataset(sha256=None)
    fetch_dataset(toy, str(first))
    with pytest.raises(DownloadError, match=f"{sha(b'another version')}, expected {sha(CONTENT)}"):
        fetch_dataset(toy, str(second))
    assert (paths.raw_data("toy") / "toy-1/data.tsv").read_bytes() == CONTENT
    assert home.is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_home_is_an_error_that_names_dart_home(home: Path, tmp_path: Path) -> None:
    home.mkdir()
    home.chmod(0o500)
    with pytest.raises(DartError, match="DART_HOME"):
        fetch_dataset(dataset(), str(tmp_path))


def test_a_home_that_cannot_be_created_is_an_error_that_names_dart_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("DART_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.delenv("DART_MIRROR", raising=False)
    with pytest.raises(DartError, match=r"home/raw.*DART_HOME"):
        fetch_dataset(dataset(), str(tmp_path))


def test_a_corrupt_archive_is_an_error_that_names_it(home: Path, tmp_path: Path) -> None:
    content = os.urandom(500) + b"a" * 400
    whole = bytearray(archive({"toy-1/data.tsv": content}))
    start = whole.index(b"toy-1/data.tsv") + len("toy-1/data.tsv")
    for position, name in ((start, "stream.zip"), (start + 300, "content.zip")):
        damaged = bytearray(whole)
        damaged[position : position + 8] = b"\xff" * 8
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DownloadError, match=name):
            fetch_dataset(dataset(sha256=None), str(tmp_path / name))
    assert nothing_kept()
    assert home.name == "home"


def files(*given: SourceFile) -> Dataset:
    return replace(dataset(), files=given)


def test_a_workbook_is_a_file_rather_than_an_archive(home: Path, tmp_path: Path) -> None:
    book = archive({"xl/workbook.xml": b"<x/>"})
    (tmp_path / "jokes.xlsx").write_bytes(book)
    (tmp_path / "jokes.zip").write_bytes(archive({"some/jokes.xlsx": book}))
    (tmp_path / "renamed.bin").write_bytes(book)
    for name in ("jokes.xlsx", "jokes.zip", "renamed.bin", "."):
        folder = fetch_dataset(files(SourceFile("jester/jokes.xlsx", ())), str(tmp_path / name))
        assert (folder / "jester/jokes.xlsx").read_bytes() == book
    assert home.is_dir()


def test_an_archive_can_be_the_file_itself(home: Path, tmp_path: Path) -> None:
    (tmp_path / "upstream_1.zip").write_bytes(GOOD)
    toy = files(SourceFile("toy/part-1.zip", ()))
    folder = fetch_dataset(toy, str(tmp_path / "upstream_1.zip"))
    assert (folder / "toy/part-1.zip").read_bytes() == GOOD
    assert home.is_dir()


def test_a_source_with_the_name_of_one_file_replaces_only_that_one(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.tsv").write_bytes(b"train")
    (tmp_path / "other.tsv").write_bytes(b"other")
    toy = files(SourceFile("t/train.tsv", ()), SourceFile("t/valid.tsv", ()))
    with pytest.raises(DownloadError, match=r"t/valid\.tsv of toy"):
        fetch_dataset(toy, str(tmp_path / "train.tsv"))
    assert list(source_hashes(toy)) == ["t/train.tsv"]
    (tmp_path / "valid.tsv").write_bytes(b"valid")
    folder = fetch_dataset(toy, str(tmp_path / "valid.tsv"))
    assert is_complete(toy)
    assert (folder / "t/train.tsv").read_bytes() == b"train"
    assert (folder / "t/valid.tsv").read_bytes() == b"valid"
    assert home.is_dir()


def test_a_missing_optional_file_is_a_warning(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/valid.tsv").write_bytes(b"valid")
    monkeypatch.setenv("DART_MIRROR", str(tmp_path))
    toy = files(SourceFile("t/train.tsv", (), required=False), SourceFile("t/valid.tsv", ()))
    fetch_dataset(toy)
    assert "t/train.tsv" in caplog.messages[0]
    assert is_readable(toy)
    assert not is_complete(toy)
    (tmp_path / "t/train.tsv").write_bytes(b"train")
    fetch_dataset(toy)
    assert is_complete(toy)
    assert home.is_dir()


def test_a_touched_file_is_hashed_once(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data.tsv").write_bytes(CONTENT)
    path = fetch_dataset(dataset(), str(tmp_path)) / "toy-1/data.tsv"
    os.utime(path, (1, 1))
    assert is_complete(dataset())
    monkeypatch.setattr("dartcli.data.download.hash_file", lambda _path: "not needed")
    assert is_complete(dataset())
    assert home.is_dir()


@pytest.mark.parametrize("record", ["[]", '{"toy-1/data.tsv": 3}', '{"toy-1/data.tsv": {}}'])
def test_an_invalid_record_is_ignored(home: Path, tmp_path: Path, record: str) -> None:
    (tmp_path / "data.tsv").write_bytes(CONTENT)
    folder = fetch_dataset(dataset(), str(tmp_path))
    (folder / "download.json").write_text(record)
    assert not is_complete(dataset())
    fetch_dataset(dataset(), str(tmp_path))
    assert is_complete(dataset())
    assert home.is_dir()


def test_another_version_of_a_file_is_accepted_once_its_record_is_removed(
    home: Path, tmp_path: Path
) -> None:
    (tmp_path / "data.tsv").write_bytes(CONTENT)
    toy = dataset(sha256=None)
    record = fetch_dataset(toy, str(tmp_path)) / "download.json"
    (tmp_path / "data.tsv").write_bytes(b"another version")
    with pytest.raises(DownloadError, match=str(record)):
        fetch_dataset(toy, str(tmp_path))
    record.unlink()
    fetch_dataset(toy, str(tmp_path))
    assert source_hashes(toy) == {"toy-1/data.tsv": sha(b"another version")}
    assert home.is_dir()


def test_an_interrupted_download_keeps_only_its_part(home: Path, httpserver: HTTPServer) -> None:
    cut = Response(GOOD[:100])
    cut.automatically_set_content_length = False
    cut.headers["Content-Length"] = str(len(GOOD))
    httpserver.expect_request("/toy.zip").respond_with_response(cut)
    with pytest.raises(DownloadError, match="5 attempts"):
        fetch_dataset(dataset(httpserver.url_for("/toy.zip")))
    folder = paths.raw_data("toy")
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert names == {"toy.zip.part", "toy.zip.part.json"}
    assert home.name == "home"
